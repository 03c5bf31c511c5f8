"""Errors of a cluster's client, beside those of `kvstore.errors`.

                              deterministic?  who may retry?             outcome known?
KvError
├── ClusterError
│   ├── PdUnavailable         no              the caller, later          a lookup: nothing done; else unknown
│   ├── ClusterMismatch       yes             nobody: wrong addresses    nothing done
│   ├── RegionUnavailable     no              the caller, later          nothing done unless `maybe_executed`
│   ├── LocksUnresolved       no              the caller, later          nothing done
│   ├── RaftEntryTooLarge     yes             with smaller values        nothing done
│   ├── RefusedRequest        yes             nobody: a bug or a limit   nothing done
│   │   └── PdRefused         (the same of the placement driver)
│   └── UndeterminedResult    no              who can look what is there UNKNOWN: committed or not
├── PdError                   (kvstore.errors) the placement driver refused
└── TxnError                  nothing of the transaction was applied
    ├── WriteConflict, KeyExists, LockWaitTimeout, LockNowait, Deadlock, TxnTooLarge, … (kvstore.errors)
    └── TxnAborted            no              the transaction from its start
"""

from __future__ import annotations

from kvstore.errors import KvError, TxnError
from kvstore.rpc.api import Code, RpcError


class ClusterError(KvError):
    """The cluster could not answer; `maybe_executed` when what was lost may have been only an answer."""

    maybe_executed = False


class PdUnavailable(ClusterError, RpcError):
    """No placement driver answered within the budget."""

    def __init__(self, message: str) -> None:
        RpcError.__init__(self, Code.UNAVAILABLE, message)


class ClusterMismatch(ClusterError):
    """The addresses belong to another cluster than the one asked for."""


class RegionUnavailable(ClusterError):
    """A region did not answer within the budget."""


class LocksUnresolved(ClusterError):
    """A lock of another transaction stayed in the way for as long as the budget allows."""


class RaftEntryTooLarge(ClusterError):
    """The store refuses a write as too large for one entry of its log (`size` in bytes)."""

    def __init__(self, region_id: int, size: int) -> None:
        self.region_id = region_id
        self.size = size
        super().__init__(f"a write of {size} bytes is too large for region {region_id}")


class RefusedRequest(ClusterError):
    """The store answered with an error that no retry helps."""


class PdRefused(RefusedRequest, RpcError):
    """The placement driver answered with a code that no retry helps: no such call, not allowed."""

    def __init__(self, code: Code, message: str) -> None:
        RpcError.__init__(self, code, message)


class UndeterminedResult(ClusterError):
    """The answer of a commit was lost and nobody could say since what became of it."""


class TxnAborted(TxnError):
    """The transaction was rolled back by others, or the store asks for it to be started again."""
