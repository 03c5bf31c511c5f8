"""Insert asks for a key that does not exist."""

from __future__ import annotations

from kvstore.errors import KeyExists
from kvstore.mvcc.reader import MvccReader
from kvstore.mvcc.record import Write, WriteType


def check_data_constraint(reader: MvccReader, key: bytes, newest: tuple[int, Write] | None) -> None:
    """Raises KeyExists when `key` has a live value; `newest` is its newest write record."""
    if newest is None or newest[1].type is WriteType.DELETE:
        return
    commit_ts, write = newest
    if write.type is WriteType.PUT:
        raise KeyExists(key, reader.load_value(key, write))
    below = reader.newest_data(key, commit_ts - 1) if commit_ts else None
    if below is not None and below[1].type is WriteType.PUT:
        raise KeyExists(key, reader.load_value(key, below[1]))
