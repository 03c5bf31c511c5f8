"""KvCheckTxnStatus: ask a transaction's primary what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.mvcc.reader import MvccReader
from kvstore.txn.actions.check_txn_status import StatusQuery, TxnStatus, check_txn_status
from kvstore.txn.changes import Changes


@dataclass(frozen=True, slots=True)
class CheckTxnStatus:
    query: StatusQuery

    def keys(self) -> Sequence[bytes]:
        return (self.query.primary,)

    def run(self, reader: MvccReader, changes: Changes) -> TxnStatus:
        return check_txn_status(changes, reader, self.query)
