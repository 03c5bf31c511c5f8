"""The changes of one batch, and their bytes in the write-ahead log and in entries of a Raft log.

A change is a tag (kind and column family, one byte), the lengths of its two operands (u32 each) and the operands: key
and value, key and nothing, or begin and end of a range.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from kvstore.engine.api import COLUMN_FAMILIES, Batch
from kvstore.errors import Corruption

PUT, DELETE, DELETE_RANGE = 0, 1, 2
_KINDS = 3
_HEAD = struct.Struct("<BII")
_pack: Callable[[int, int, int], bytes] = _HEAD.pack


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
    """Changes on their way into the library's batch, and their bytes for the log."""

    __slots__ = ("_families", "_parts", "_raw_put", "raw", "size")

    def __init__(self, raw: Any, families: Sequence[Family]) -> None:
        """`raw` is the library's batch, `families` are all of the engine, in their order."""
        self.raw = raw
        self._raw_put = raw.put
        self._families = families
        self._parts: list[bytes] = []
        self.size = 0

    def put(self, key: bytes, value: bytes, column_family: Family) -> None:
        self.size += len(key) + len(value)
        self._parts += (_pack(column_family.put_tag, len(key), len(value)), key, value)
        self._raw_put(key, value, column_family.raw)

    def put_all(self, pairs: Iterable[tuple[bytes, bytes]], column_family: Family) -> None:
        tag, raw = column_family.put_tag, column_family.raw
        parts, put, size = self._parts, self._raw_put, self.size
        for key, value in pairs:
            key_bytes, value_bytes = len(key), len(value)
            size += key_bytes + value_bytes
            parts += (_pack(tag, key_bytes, value_bytes), key, value)
            put(key, value, raw)
        self.size = size

    def delete(self, key: bytes, column_family: Family) -> None:
        self._parts += (_pack(column_family.delete_tag, len(key), 0), key)
        self.raw.delete(key, column_family.raw)

    def delete_range(self, begin: bytes, end: bytes, column_family: Family) -> None:
        self._parts += (_pack(column_family.delete_range_tag, len(begin), len(end)), begin, end)
        self.raw.delete_range(begin, end, column_family.raw)

    def add_record(self, record: bytes) -> int:
        count = replay(record, self.raw, [family.raw for family in self._families])
        self._parts.append(record)
        return count

    def record(self) -> bytes:
        """The bytes of all changes, in the order in which they were made."""
        return b"".join(self._parts)


_TAGS = {cf: (number * _KINDS + PUT, number * _KINDS + DELETE) for number, cf in enumerate(COLUMN_FAMILIES)}
_RANGE_TAGS = {cf: number * _KINDS + DELETE_RANGE for number, cf in enumerate(COLUMN_FAMILIES)}


def encode_changes(changes: Iterable[tuple[str, bytes, bytes | None]]) -> list[bytes]:
    """The record of changes (family, key, value; None deletes), in pieces to be joined; KeyError for no such family."""
    parts: list[bytes] = []
    for cf, key, value in changes:
        put_tag, delete_tag = _TAGS[cf]
        if value is None:
            parts += (_pack(delete_tag, len(key), 0), key)
        else:
            parts += (_pack(put_tag, len(key), len(value)), key, value)
    return parts


def encode_pairs(cf: str, flat: Sequence[bytes]) -> bytes:
    """The record of puts into one family; `flat` is key, value, key, value ..."""
    tag = _TAGS[cf][0]
    parts: list[bytes] = []
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        parts += (_pack(tag, len(key), len(value)), key, value)
    return b"".join(parts)


def encode_delete_range(cf: str, begin: bytes, end: bytes) -> bytes:
    """The record that deletes the keys in [begin, end) of one family."""
    return _pack(_RANGE_TAGS[cf], len(begin), len(end)) + begin + end


def replay(record: bytes, target: Batch, handles: Sequence[Any]) -> int:
    """Puts the changes of a record into the library's batch; `handles` are in the order of the families.

    Returns their number. Raises Corruption.
    """
    put, unpack, head = target.put, _HEAD.unpack_from, _HEAD.size
    at, end, count = 0, len(record), 0
    tags = len(handles) * _KINDS
    while at < end:
        if at + head > end:
            raise Corruption("a record of changes is cut off")
        tag, key_bytes, operand_bytes = unpack(record, at)
        start = at + head
        middle = start + key_bytes
        at = middle + operand_bytes
        if at > end or tag >= tags:
            raise Corruption("a batch in the log has changes that cannot be read")
        kind = tag % _KINDS
        if kind == PUT:
            put(record[start:middle], record[middle:at], handles[tag // _KINDS])
        elif kind == DELETE:
            target.delete(record[start:middle], handles[tag // _KINDS])
        else:
            target.delete_range(record[start:middle], record[middle:at], handles[tag // _KINDS])
        count += 1
    return count


def puts_of(record: bytes, cf: str) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values that a record puts into one family, in its order; the record was replayed before."""
    wanted, unpack, head = _TAGS[cf][0], _HEAD.unpack_from, _HEAD.size
    at, end = 0, len(record)
    while at < end:
        tag, key_bytes, operand_bytes = unpack(record, at)
        start = at + head
        middle = start + key_bytes
        at = middle + operand_bytes
        if tag == wanted:
            yield record[start:middle], record[middle:at]
