"""The Lock and Write records, to the byte as TiKV stores them (`txn_types/src/{lock,write}.rs`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from kvstore.codec import (
    CodecError,
    decode_compact_bytes,
    decode_uint,
    decode_uvarint,
    encode_compact_bytes,
    encode_uint,
    encode_uvarint,
)

SHORT_VALUE_MAX = 255
"""Values up to this many bytes travel in the lock and write records, longer ones in the default family."""
PROTECTED_ROLLBACK = b"p"


class LockType(IntEnum):
    PUT = ord("P")
    DELETE = ord("D")
    LOCK = ord("L")
    PESSIMISTIC = ord("S")
    SHARED = ord("H")


class WriteType(IntEnum):
    PUT = ord("P")
    DELETE = ord("D")
    LOCK = ord("L")
    ROLLBACK = ord("R")


@dataclass(frozen=True, slots=True)
class LastChange:
    """Where the last put or delete of the key is: at `ts` (0: unknown or none), `versions` records down."""

    ts: int
    versions: int


@dataclass(frozen=True, slots=True)
class Lock:
    """What the lock family holds for a key: an intent, or a pessimistic lock."""

    type: LockType
    primary: bytes
    start_ts: int
    ttl: int
    short_value: bytes | None = None
    for_update_ts: int = 0
    txn_size: int = 0
    min_commit_ts: int = 0
    secondaries: tuple[bytes, ...] | None = None
    rollback_ts: tuple[int, ...] = ()
    last_change: LastChange | None = None
    txn_source: int = 0
    locked_with_conflict: bool = False
    generation: int = 0

    @property
    def use_async_commit(self) -> bool:
        return self.secondaries is not None

    def blocks_read(self, key: bytes, ts: int) -> bool:
        """Whether a snapshot read of user key `key` at `ts` has to have this lock resolved first
        (check_ts_conflict_si)."""
        if self.type in (LockType.LOCK, LockType.PESSIMISTIC, LockType.SHARED):
            return False
        if self.start_ts > ts or self.min_commit_ts > ts:
            return False
        return not (ts == (1 << 64) - 1 and self.primary == key and not self.use_async_commit)

    def encode(self) -> bytes:
        parts = [
            bytes((self.type,)),
            encode_compact_bytes(self.primary),
            encode_uvarint(self.start_ts),
            encode_uvarint(self.ttl),
        ]
        if self.short_value is not None:
            parts.append(b"v" + bytes((len(self.short_value),)) + self.short_value)
        if self.for_update_ts:
            parts.append(b"f" + encode_uint(self.for_update_ts))
        if self.txn_size:
            parts.append(b"t" + encode_uint(self.txn_size))
        if self.min_commit_ts:
            parts.append(b"c" + encode_uint(self.min_commit_ts))
        if self.secondaries is not None:
            parts.append(b"a" + encode_uvarint(len(self.secondaries)))
            parts.extend(map(encode_compact_bytes, self.secondaries))
        if self.rollback_ts:
            parts.append(b"r" + encode_uvarint(len(self.rollback_ts)))
            parts.extend(map(encode_uint, self.rollback_ts))
        if self.last_change is not None:
            parts.append(b"l" + encode_uint(self.last_change.ts) + encode_uvarint(self.last_change.versions))
        if self.txn_source:
            parts.append(b"s" + encode_uvarint(self.txn_source))
        if self.locked_with_conflict:
            parts.append(b"F")
        if self.generation:
            parts.append(b"g" + encode_uint(self.generation))
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> Lock:
        """Raises CodecError on damaged input."""
        if not data:
            raise CodecError("empty lock record")
        try:
            kind = LockType(data[0])
        except ValueError as error:
            raise CodecError(f"lock type {data[0]:#04x}") from error
        primary, at = decode_compact_bytes(data, 1)
        start_ts, at = decode_uvarint(data, at)
        ttl, at = decode_uvarint(data, at) if at < len(data) else (0, at)
        lock = cls(kind, primary, start_ts, ttl)
        fields: dict[str, object] = {}
        while at < len(data):
            at = _decode_lock_field(data, at, fields)
        return replace(lock, **fields) if fields else lock  # type: ignore[arg-type]


def _decode_lock_field(data: bytes, at: int, fields: dict[str, object]) -> int:
    """Reads one optional field into `fields`; an unknown flag ends the record."""
    flag, at = data[at : at + 1], at + 1
    match flag:
        case b"v":
            fields["short_value"], at = _decode_short_value(data, at)
        case b"f":
            fields["for_update_ts"], at = decode_uint(data, at)
        case b"t":
            fields["txn_size"], at = decode_uint(data, at)
        case b"c":
            fields["min_commit_ts"], at = decode_uint(data, at)
        case b"a":
            count, at = decode_uvarint(data, at)
            secondaries = []
            for _ in range(count):
                secondary, at = decode_compact_bytes(data, at)
                secondaries.append(secondary)
            fields["secondaries"] = tuple(secondaries)
        case b"r":
            count, at = decode_uvarint(data, at)
            rollbacks = []
            for _ in range(count):
                ts, at = decode_uint(data, at)
                rollbacks.append(ts)
            fields["rollback_ts"] = tuple(rollbacks)
        case b"l":
            ts, at = decode_uint(data, at)
            versions, at = decode_uvarint(data, at)
            fields["last_change"] = LastChange(ts, versions)
        case b"s":
            fields["txn_source"], at = decode_uvarint(data, at)
        case b"F":
            fields["locked_with_conflict"] = True
        case b"g":
            fields["generation"], at = decode_uint(data, at)
        case _:
            return len(data)
    return at


def _decode_short_value(data: bytes, at: int) -> tuple[bytes, int]:
    if at >= len(data) or at + 1 + data[at] > len(data):
        raise CodecError("short value is cut off")
    end = at + 1 + data[at]
    return data[at + 1 : end], end


@dataclass(frozen=True, slots=True)
class Write:
    """What the write family holds for a key at a commit_ts: what the transaction at `start_ts` did."""

    type: WriteType
    start_ts: int
    short_value: bytes | None = None
    overlapped_rollback: bool = False
    gc_fence: int | None = None
    last_change: LastChange | None = None
    txn_source: int = 0

    @property
    def is_protected(self) -> bool:
        """Whether this is a rollback record that must not be collapsed."""
        return self.type is WriteType.ROLLBACK and self.short_value == PROTECTED_ROLLBACK

    @classmethod
    def rollback(cls, start_ts: int, *, protected: bool) -> Write:
        return cls(WriteType.ROLLBACK, start_ts, PROTECTED_ROLLBACK if protected else None)

    def encode(self) -> bytes:
        parts = [bytes((self.type,)), encode_uvarint(self.start_ts)]
        if self.short_value is not None:
            parts.append(b"v" + bytes((len(self.short_value),)) + self.short_value)
        if self.overlapped_rollback:
            parts.append(b"R")
        if self.gc_fence is not None:
            parts.append(b"F" + encode_uint(self.gc_fence))
        if self.last_change is not None:
            parts.append(b"l" + encode_uint(self.last_change.ts) + encode_uvarint(self.last_change.versions))
        if self.txn_source:
            parts.append(b"S" + encode_uvarint(self.txn_source))
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> Write:
        """Raises CodecError on damaged input."""
        if not data:
            raise CodecError("empty write record")
        try:
            kind = WriteType(data[0])
        except ValueError as error:
            raise CodecError(f"write type {data[0]:#04x}") from error
        start_ts, at = decode_uvarint(data, 1)
        short_value: bytes | None = None
        overlapped = False
        gc_fence: int | None = None
        last_change: LastChange | None = None
        txn_source = 0
        while at < len(data):
            flag, at = data[at : at + 1], at + 1
            match flag:
                case b"v":
                    short_value, at = _decode_short_value(data, at)
                case b"R":
                    overlapped = True
                case b"F":
                    gc_fence, at = decode_uint(data, at)
                case b"l":
                    ts, at = decode_uint(data, at)
                    versions, at = decode_uvarint(data, at)
                    last_change = LastChange(ts, versions)
                case b"S":
                    txn_source, at = decode_uvarint(data, at)
                case _:
                    break
        return cls(kind, start_ts, short_value, overlapped, gc_fence, last_change, txn_source)
