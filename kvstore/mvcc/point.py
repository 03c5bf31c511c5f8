"""Point reads: the newest visible version of one key, by one seek in the write family.

`read_version` is the whole of an embedded point read below the lock check, so it is written flat: the record of a row
up to 255 bytes written by a present-day timestamp (nine varint bytes) is recognised by its fixed layout and sliced;
everything else goes through the full decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from kvstore.codec import CodecError
from kvstore.engine.api import RawIterator
from kvstore.engine.failure import check_status
from kvstore.errors import Corruption
from kvstore.mvcc.record import Write, WriteType

u64_le: Callable[[bytes, int], tuple[int]] = struct.Struct("<Q").unpack_from
CONTINUES = 0x8080808080808080
PUT = ord("P")
DELETE = ord("D")
SHORT = ord("v")

NEXTS_BEFORE_SEEK = 8


class NeedsDefault(Exception):
    """The value lies in the default family under the data key at `start_ts`."""

    __slots__ = ("start_ts",)

    def __init__(self, start_ts: int) -> None:
        self.start_ts = start_ts


def decode_write(record: bytes, what: bytes) -> Write:
    """Decodes a write record; a damaged one is Corruption of the store."""
    try:
        return Write.decode(record)
    except CodecError as error:
        raise Corruption(f"write record of {what.hex()} is damaged: {error}") from error


def short_or_default(record: bytes, read_ts: int, what: bytes) -> bytes | None:
    """The value of a put record; None when its gc fence says that it is gone; NeedsDefault when it lies elsewhere."""
    if (
        len(record) > 11
        and record[10] == SHORT
        and record[9] < 0x80
        and u64_le(record, 1)[0] & CONTINUES == CONTINUES
        and len(record) == 12 + record[11]
    ):
        return record[12:]
    write = decode_write(record, what)
    if write.gc_fence and write.gc_fence <= read_ts:
        return None
    if write.short_value is not None:
        return write.short_value
    raise NeedsDefault(write.start_ts)


def read_version(raw: RawIterator, data_key: bytes, seek_key: bytes, read_ts: int) -> bytes | None:
    """The value of `data_key` at `read_ts`; `seek_key` is the data key with the suffix of that timestamp.

    Raises NeedsDefault when the value is a long one, Corruption on a damaged record.
    """
    raw.seek(seek_key)
    key = raw.key()
    if key is None:
        check_status(raw)
        return None
    if key[:-8] != data_key:
        return None
    record = raw.value()
    assert record is not None
    kind = record[0]
    if kind == PUT:
        return short_or_default(record, read_ts, data_key)
    if kind == DELETE:
        return None
    return _read_below(raw, data_key, read_ts)


def _read_below(raw: RawIterator, data_key: bytes, read_ts: int) -> bytes | None:
    """Goes on below a lock or rollback record; follows last_change over long runs of them."""
    while True:
        record = raw.value()
        assert record is not None
        if record[0] == PUT:
            return short_or_default(record, read_ts, data_key)
        if record[0] == DELETE:
            return None
        write = decode_write(record, data_key)
        change = write.last_change
        if change is not None and change.ts == 0 and change.versions > 0:
            return None
        if change is not None and change.ts and change.versions > NEXTS_BEFORE_SEEK:
            raw.seek(data_key + (change.ts ^ 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big"))
        else:
            raw.next()
        key = raw.key()
        if key is None:
            check_status(raw)
            return None
        if key[:-8] != data_key:
            return None


def newest_change(raw: RawIterator, data_key: bytes) -> tuple[int, Write] | None:
    """The newest put or delete of `data_key` and its commit_ts."""
    raw.seek(data_key + bytes(8))
    while True:
        key = raw.key()
        if key is None:
            check_status(raw)
            return None
        if key[:-8] != data_key:
            return None
        record = raw.value()
        assert record is not None
        write = decode_write(record, data_key)
        if write.type in (WriteType.PUT, WriteType.DELETE):
            return int.from_bytes(key[-8:], "big") ^ 0xFFFFFFFFFFFFFFFF, write
        raw.next()


def newest_record(raw: RawIterator, data_key: bytes) -> tuple[int, bytes] | None:
    """The newest record of any kind of `data_key`: its commit_ts and bytes."""
    raw.seek(data_key + bytes(8))
    key = raw.key()
    if key is None:
        check_status(raw)
        return None
    if key[:-8] != data_key:
        return None
    record = raw.value()
    assert record is not None
    return int.from_bytes(key[-8:], "big") ^ 0xFFFFFFFFFFFFFFFF, record
