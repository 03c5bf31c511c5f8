"""What can go wrong in a placement driver.

PdError
├── NotLeader      another one leads, or nobody: nothing was done, ask the leader
├── Undetermined   leadership was lost while a write was under way: it may come to be or not
└── Refused        the request makes no sense here; `kind` goes into the reply's header (pdpb.Error)
"""

from __future__ import annotations

from kvstore.proto.pdpb_pb2 import ErrorType


class PdError(Exception):
    """Any of the below."""


class NotLeader(PdError):
    """This placement driver does not lead: nothing was done."""

    def __init__(self) -> None:
        super().__init__("not leader")


class Undetermined(PdError):
    """Whether the write will come to be is not known."""


class Refused(PdError):
    """Refused by what the cluster is; deterministic, nothing was done."""

    def __init__(self, message: str, kind: ErrorType = ErrorType.UNKNOWN) -> None:
        self.kind = kind
        super().__init__(message)
