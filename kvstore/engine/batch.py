"""The changes of one batch, and their bytes in the write-ahead log.

A change is a tag (kind and column family, one byte), the lengths of its two operands (u32 each) and the operands: key
and value, key and nothing, or begin and end of a range.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from kvstore.engine.api import Batch
from kvstore.errors import Corruption

PUT, DELETE, DELETE_RANGE = 0, 1, 2
_KINDS = 3
_HEAD = struct.Struct("<BII")


class Family:
    """What `Engine.handle` returns for a column family: the library's handle, and the tags of its changes.

    A batch refers to the library's handle through it, so that an unwritten one does not keep a closed store open.
    """

    __slots__ = ("delete_range_tag", "delete_tag", "put_tag", "raw")

    def __init__(self, number: int, raw: Any) -> None:
        self.raw = raw
        self.put_tag = number * _KINDS + PUT
        self.delete_tag = number * _KINDS + DELETE
        self.delete_range_tag = number * _KINDS + DELETE_RANGE


class LoggedBatch:
    """Changes in the order in which they were made."""

    __slots__ = ("changes",)

    def __init__(self) -> None:
        self.changes: list[tuple[int, bytes, bytes, Family]] = []

    def put(self, key: bytes, value: bytes, column_family: Family) -> None:
        self.changes.append((column_family.put_tag, key, value, column_family))

    def delete(self, key: bytes, column_family: Family) -> None:
        self.changes.append((column_family.delete_tag, key, b"", column_family))

    def delete_range(self, begin: bytes, end: bytes, column_family: Family) -> None:
        self.changes.append((column_family.delete_range_tag, begin, end, column_family))

    def write_to(self, target: Batch) -> bytes:
        """Puts the changes into the library's batch and returns their bytes for the log."""
        pack = _HEAD.pack
        parts: list[bytes] = []
        for tag, key, operand, family in self.changes:
            parts += (pack(tag, len(key), len(operand)), key, operand)
            kind = tag % _KINDS
            if kind == PUT:
                target.put(key, operand, family.raw)
            elif kind == DELETE:
                target.delete(key, family.raw)
            else:
                target.delete_range(key, operand, family.raw)
        return b"".join(parts)


def replay(record: bytes, target: Batch, handles: Sequence[Any]) -> None:
    """Puts the changes of a batch from the log into the library's batch; `handles` are in the order of the families."""
    at, end = 0, len(record)
    while at < end:
        tag, key_bytes, operand_bytes = _HEAD.unpack_from(record, at)
        middle = at + _HEAD.size + key_bytes
        key, operand = record[middle - key_bytes : middle], record[middle : middle + operand_bytes]
        at = middle + operand_bytes
        family, kind = divmod(tag, _KINDS)
        if at > end or family >= len(handles):
            raise Corruption("a batch in the log has changes that cannot be read")
        if kind == PUT:
            target.put(key, operand, handles[family])
        elif kind == DELETE:
            target.delete(key, handles[family])
        else:
            target.delete_range(key, operand, handles[family])
