"""Packed range reads: versions resolved a chunk at a time with numpy, for readers that decode columns in bulk.

A chunk of (key, write record) pairs is joined into one buffer. Keys of one length make a two-dimensional array, so
that version runs, timestamps and user keys are array expressions; a chunk of mixed lengths is resolved length by
length. What is seldom (a value in the default family, a record with extra fields, a gc fence) is done row by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from kvstore.codec import GROUP, MARKER
from kvstore.engine.api import CF_WRITE, Engine
from kvstore.mvcc.batch import PackedBatch
from kvstore.mvcc.keys import AFTER_OLDEST, TS_BYTES, TS_MAX, data_range, user_key
from kvstore.mvcc.point import NeedsDefault, short_or_default
from kvstore.mvcc.scan import Check, LoadDefault

Pairs = list[tuple[bytes, bytes]]
U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CHUNK_PAIRS_MAX = 65536
FIRST_CHUNK_PAIRS = 1024
CHUNK_BYTES_TARGET = 32 << 20
STALE_SHARE = 8
"""A chunk that shows less than one row in so many pairs, and ends inside a decided key, makes the scan seek past that
key."""

_PUT, _DELETE, _SHORT = ord("P"), ord("D"), ord("v")
_VARINT_TS = 9
_SHORT_AT = 1 + _VARINT_TS
_VALUE_AT = _SHORT_AT + 2
"""Offset of the value in a record whose start_ts takes nine varint bytes, as every present-day timestamp does."""


def _bounds(parts: Sequence[bytes]) -> tuple[U8, I64, I64]:
    """One buffer of all parts and their starts and ends in it."""
    lengths = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
    ends = np.cumsum(lengths)
    return np.frombuffer(b"".join(parts), dtype=np.uint8), ends - lengths, ends


def pack_pairs(pairs: Pairs, newest_ts: int) -> PackedBatch:
    """A batch of ready pairs."""
    keys, key_starts, key_ends = _bounds([key for key, _ in pairs])
    values, value_starts, value_ends = _bounds([value for _, value in pairs])
    return PackedBatch(len(pairs), keys, key_starts, key_ends, values, value_starts, value_ends, newest_ts)


def unpack(batch: PackedBatch) -> Iterator[tuple[bytes, bytes]]:
    """The pairs of a batch, one by one."""
    keys, values = batch.keys.tobytes(), batch.values.tobytes()
    for i in range(batch.count):
        yield (
            keys[batch.key_starts[i] : batch.key_ends[i]],
            values[batch.value_starts[i] : batch.value_ends[i]],
        )


def scan_packed(
    engine: Engine, start: bytes, end: bytes, ts: int, load: LoadDefault, check: Check, batch_rows: int
) -> Iterator[PackedBatch]:
    """Yields the visible pairs of [start, end) in key order; an empty `end` means no bound."""
    low, high = data_range(start, end)
    if low >= high:
        return
    carry = _Carry()
    pairs_max = max(1, min(batch_rows, CHUNK_PAIRS_MAX))
    pairs = min(FIRST_CHUNK_PAIRS, pairs_max)
    scanner = engine.scanner(CF_WRITE, low, high)
    try:
        check()
        while True:
            flat = scanner.take(pairs)
            if not flat:
                return
            keys, records = flat[::2], flat[1::2]
            del flat
            batch = _resolve(keys, records, ts, carry, load)
            if batch.count or batch.newest_ts or batch.has_newer:
                yield batch
            if len(keys) < pairs:
                return
            if batch.count * STALE_SHARE < len(keys) and carry.decided:
                scanner.release()
                scanner = engine.scanner(CF_WRITE, carry.prefix + AFTER_OLDEST, high)
                check()
            pairs = _next_chunk(pairs, pairs_max, records)
    finally:
        scanner.release()


def _next_chunk(pairs: int, pairs_max: int, records: list[bytes]) -> int:
    """Grows the chunk while its bytes stay near the target."""
    sample = records[:: max(1, len(records) // 64)]
    average = max(1, sum(map(len, sample)) // len(sample))
    return max(1, min(pairs * 8, pairs_max, max(256, CHUNK_BYTES_TARGET // average)))


class _Carry:
    """What a chunk leaves for the next: the key its last pair belongs to, and whether that key is decided."""

    __slots__ = ("decided", "prefix")

    def __init__(self) -> None:
        self.prefix = b""
        self.decided = False


def _resolve(keys: list[bytes], records: list[bytes], ts: int, carry: _Carry, load: LoadDefault) -> PackedBatch:
    count = len(keys)
    joined = b"".join(keys)
    width = len(keys[0])
    buffer = np.frombuffer(joined, dtype=np.uint8)
    lengths = np.fromiter(map(len, keys), dtype=np.int64, count=count)
    uniform = len(joined) == width * count and bool((lengths == width).all())
    if uniform:
        table = buffer.reshape(count, width)
        new_key = np.empty(count, dtype=np.bool_)
        new_key[1:] = _rows_differ(table, width - TS_BYTES)
        versions = np.ascontiguousarray(table[:, width - TS_BYTES :]).view(">u8").ravel()
    else:
        ends = np.cumsum(lengths)
        new_key = _new_keys_mixed(keys)
        tails = (ends - TS_BYTES)[:, None] + np.arange(TS_BYTES)
        versions = np.ascontiguousarray(buffer[tails]).view(">u8").ravel()
    commit_ts = versions.astype(np.uint64) ^ np.uint64(TS_MAX)
    same_as_carry = keys[0][:-TS_BYTES] == carry.prefix
    new_key[0] = not same_as_carry
    values, value_starts, value_ends = _bounds(records)
    kinds = values[value_starts]
    in_time = commit_ts <= np.uint64(ts)
    candidate = in_time & ((kinds == _PUT) | (kinds == _DELETE))
    run: I64 = np.cumsum(new_key, dtype=np.int64)
    if same_as_carry and carry.decided:
        candidate &= run > 0
    first = np.flatnonzero(candidate)
    if len(first):
        of_run = run[first]
        keep = np.empty(len(first), dtype=np.bool_)
        keep[0] = True
        np.not_equal(of_run[1:], of_run[:-1], out=keep[1:])
        first = first[keep]
    _set_carry(carry, keys[-1], run, first, same_as_carry)
    newest = int(commit_ts[in_time].max()) if in_time.any() else 0
    has_newer = not bool(in_time.all())
    visible = first[kinds[first] == _PUT]
    starts, ends_, replaced = _value_bounds(values, value_starts, value_ends, visible, records, keys, ts, load)
    if replaced is not None:
        gone = [i for i, value in replaced.items() if value is None]
        if gone:
            mask = np.ones(len(visible), dtype=np.bool_)
            mask[gone] = False
            visible, starts, ends_, replaced = _drop(mask, visible, starts, ends_, replaced)
        values, starts, ends_ = _splice(values, starts, ends_, replaced)
    if uniform:
        key_buffer, key_starts, key_ends = _user_keys(table, visible, width)
    else:
        key_buffer, key_starts, key_ends = _bounds([user_key(keys[i]) for i in visible.tolist()])
    return PackedBatch(len(visible), key_buffer, key_starts, key_ends, values, starts, ends_, newest, has_newer)


def _set_carry(carry: _Carry, last_key: bytes, run: I64, first: I64, continues: bool) -> None:
    prefix = last_key[:-TS_BYTES]
    decided_here = bool(len(first)) and bool(run[first[-1]] == run[-1])
    if continues and run[-1] == 0:
        carry.decided = carry.decided or decided_here
    else:
        carry.decided = decided_here
    carry.prefix = prefix


def _rows_differ(table: U8, width: int) -> Bools:
    """For each row but the first: whether its first `width` bytes differ from the row before."""
    # compare from the end in eights: neighbouring keys differ there, and most of the work is one comparison
    differ: Bools = table[1:, width - 1] != table[:-1, width - 1]
    body = table[:, :width]
    differ |= (body[1:] != body[:-1]).any(axis=1)
    return differ


def _new_keys_mixed(keys: list[bytes]) -> Bools:
    prefixes = [key[:-TS_BYTES] for key in keys]
    new_key = np.empty(len(keys), dtype=np.bool_)
    new_key[1:] = np.fromiter(map(bytes.__ne__, prefixes[1:], prefixes), dtype=np.bool_, count=len(keys) - 1)
    return new_key


def _value_bounds(
    values: U8,
    starts: I64,
    ends: I64,
    visible: I64,
    records: list[bytes],
    keys: list[bytes],
    ts: int,
    load: LoadDefault,
) -> tuple[I64, I64, dict[int, bytes | None] | None]:
    """Where the visible rows' values lie in the joined records; the odd ones come apart, by row number."""
    row_starts, row_ends = starts[visible], ends[visible]
    # every flag byte has to be inside its record before it may be looked at
    long_enough = row_ends - row_starts >= _VALUE_AT
    at = np.where(long_enough, row_starts, 0)
    plain = long_enough.copy()
    if len(values) >= _VALUE_AT:
        for offset in range(1, _VARINT_TS):
            plain &= values[at + offset] >= 0x80
        plain &= values[at + _VARINT_TS] < 0x80
        plain &= values[at + _SHORT_AT] == _SHORT
        plain &= values[at + _SHORT_AT + 1] == row_ends - row_starts - _VALUE_AT
    if plain.all():
        return row_starts + _VALUE_AT, row_ends, None
    replaced: dict[int, bytes | None] = {}
    for i in np.flatnonzero(~plain).tolist():
        row = int(visible[i])
        prefix = keys[row][:-TS_BYTES]
        try:
            replaced[i] = short_or_default(records[row], ts, prefix)
        except NeedsDefault as need:
            replaced[i] = load(prefix, need.start_ts)
    return row_starts + _VALUE_AT, row_ends, replaced


def _drop(
    mask: Bools, visible: I64, starts: I64, ends: I64, replaced: dict[int, bytes | None]
) -> tuple[I64, I64, I64, dict[int, bytes | None]]:
    """Takes the rows whose mask is false out."""
    place = np.cumsum(mask) - 1
    kept: dict[int, bytes | None] = {int(place[i]): value for i, value in replaced.items() if mask[i]}
    return visible[mask], starts[mask], ends[mask], kept


def _splice(values: U8, starts: I64, ends: I64, replaced: dict[int, bytes | None]) -> tuple[U8, I64, I64]:
    """Appends the odd values behind the joined records and points their rows there."""
    extra = [value for value in replaced.values() if value is not None]
    rows = np.fromiter(replaced.keys(), dtype=np.int64, count=len(replaced))
    more, more_starts, more_ends = _bounds(extra)
    base = len(values)
    starts, ends = starts.copy(), ends.copy()
    starts[rows] = more_starts + base
    ends[rows] = more_ends + base
    return np.concatenate([values, more]), starts, ends


def _user_keys(table: U8, visible: I64, width: int) -> tuple[U8, I64, I64]:
    """User keys of the visible rows out of `z` EncodeBytes(key) ts."""
    count = len(visible)
    groups = (width - 1 - TS_BYTES) // (GROUP + 1)
    marker_at = 1 + groups * (GROUP + 1) - 1
    rows = table if count == len(table) else table[visible]
    padding = MARKER - rows[:, marker_at].astype(np.int64)
    body = rows[:, 1 : 1 + groups * (GROUP + 1)].reshape(count, groups, GROUP + 1)[:, :, :GROUP]
    body = body.reshape(count, groups * GROUP)
    if count and bool((padding == padding[0]).all()):
        size = groups * GROUP - int(padding[0])
        packed = np.ascontiguousarray(body[:, :size]).ravel()
        starts = np.arange(count, dtype=np.int64) * size
        return packed, starts, starts + size
    starts = np.arange(count, dtype=np.int64) * (groups * GROUP)
    return body.ravel(), starts, starts + groups * GROUP - padding
