"""The shape of a command: which keys it latches, and what it does with a reader and a change buffer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from kvstore.mvcc.reader import MvccReader
from kvstore.txn.changes import Changes

R_co = TypeVar("R_co", covariant=True)


class Command(Protocol[R_co]):
    """One request, run under latches on its keys; what it raises leaves nothing behind."""

    def keys(self) -> Sequence[bytes]: ...
    def run(self, reader: MvccReader, changes: Changes) -> R_co: ...
