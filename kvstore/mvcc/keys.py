"""Where MVCC records lie: TiKV's keys (`components/keys`, `txn_types/src/types.rs`).

Data keys start with `z`. A user key K is stored as `z` EncodeBytes(K) in the lock family, and with a descending
timestamp after it in write (commit_ts; a rollback sits at start_ts) and default (start_ts). So a seek to (K, ts)
lands on the newest record at or below ts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from kvstore.codec import GROUP, MARKER, SHAPED_BYTES_MAX, SHAPES, decode_bytes, encode_bytes

DATA_PREFIX = b"z"
DATA_END = b"{"
TS_BYTES = 8
TS_MAX = (1 << 64) - 1
NEWEST = bytes(TS_BYTES)
"""The suffix of ts = TS_MAX: sorts before every version of a key."""
AFTER_OLDEST = b"\xff" * TS_BYTES + b"\x00"
"""Appended to a data key, this sorts after every version of it and before the next user key."""

_pack_ts: Callable[[int], bytes] = struct.Struct(">Q").pack
_unpack_ts = struct.Struct(">Q").unpack_from


_SHAPES = tuple((cut, DATA_PREFIX + shape) for cut, shape in SHAPES)


def data_key(key: bytes) -> bytes:
    """`z` EncodeBytes(key), put together in one step because every read and write starts here."""
    size = len(key)
    if size < SHAPED_BYTES_MAX:
        cut, shape = _SHAPES[size]
        return shape % cut(key)
    return DATA_PREFIX + encode_bytes(key)


def _cut_out(size: int) -> tuple[int, Callable[[bytes], tuple[bytes, ...]]]:
    """The length of the data key of a user key of this size, and what cuts it into the pieces of that."""
    groups, rest = divmod(size, GROUP)
    pieces = struct.Struct(f"x{f'{GROUP}sx' * groups}{rest}s{GROUP - rest + 1}x")
    return pieces.size, pieces.unpack


_CUTS = {
    (length, bytes((MARKER - (GROUP - size % GROUP),))): cut
    for size, (length, cut) in enumerate(map(_cut_out, range(SHAPED_BYTES_MAX)))
}
"""By the length of a data key and its last byte."""


def user_key(key: bytes) -> bytes:
    """The user key of a data key (with or without a timestamp behind it)."""
    cut = _CUTS.get((len(key), key[-1:]))
    if cut is not None:
        user = b"".join(cut(key))
        if data_key(user) == key:
            return user
    return decode_bytes(key, 1)[0]


def ts_suffix(ts: int) -> bytes:
    return _pack_ts(ts ^ TS_MAX)


def versioned(key: bytes, ts: int) -> bytes:
    """The record key of data key `key` at `ts`."""
    return key + _pack_ts(ts ^ TS_MAX)


def version_ts(record_key: bytes) -> int:
    """The timestamp at the end of a record key."""
    ts: int = _unpack_ts(record_key, len(record_key) - TS_BYTES)[0]
    return ts ^ TS_MAX


def data_range(start: bytes, end: bytes) -> tuple[bytes, bytes]:
    """Bounds in a family for user keys in [start, end); an empty `end` means no bound."""
    return data_key(start), data_key(end) if end else DATA_END
