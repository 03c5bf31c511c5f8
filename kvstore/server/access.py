"""What every request goes through: deadlines, leave to read, keys inside the region, sizes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sized

from kvstore.codec import GROUP, MARKER
from kvstore.mvcc.keys import data_key
from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.proto.metapb_pb2 import Region
from kvstore.raftstore.api import Grant, RegionStore
from kvstore.server.errors import Refused, data_is_not_ready, deadline_exceeded, key_not_in_region
from kvstore.server.limits import (
    COMMAND_KEYS_MAX,
    KEY_BYTES_MAX,
    RESPONSE_BYTES_MAX,
    SCAN_ROWS_MAX,
    ServiceLimits,
)


def deadline_of(context: Context, limits: ServiceLimits) -> float:
    """When, in the loop's time, the request is not worth beginning any more."""
    allowed_ms = context.max_execution_duration_ms
    return asyncio.get_running_loop().time() + (allowed_ms / 1000 if allowed_ms else limits.deadline_default_s)


def check_deadline(deadline: float) -> None:
    if asyncio.get_running_loop().time() > deadline:
        raise deadline_exceeded()


def grant_now(store: RegionStore, context: Context) -> Grant | None:
    """Leave to read at once, None when it has to be waited for. Raises RegionError."""
    if context.stale_read:
        raise data_is_not_ready(context.region_id, context.peer.id)
    return store.try_read(context)


async def grant(store: RegionStore, context: Context, deadline: float) -> Grant:
    """Leave to read; what is read has to be read before the next await. Raises RegionError."""
    check_deadline(deadline)
    now = grant_now(store, context)
    if now is None:
        now = await store.read(context, deadline)
        check_deadline(deadline)
    return now


def check_keys(store: RegionStore, region: Region, keys: Iterable[bytes]) -> None:
    """Raises RegionError for a user key of transactions outside the region."""
    for key in keys:
        store.check_key(region, data_key(key)[1:])


def check_sizes(keys: Iterable[bytes]) -> None:
    """Raises Refused for a key that cannot be stored."""
    for key in keys:
        if not key:
            raise Refused("a key is empty")
        if len(key) > KEY_BYTES_MAX:
            raise Refused(f"a key has {len(key)} bytes; {KEY_BYTES_MAX} is the limit")


def clamp(region: Region, low: bytes, high: bytes, *, reverse: bool) -> tuple[bytes, bytes]:
    """The part of the encoded range [low, high) that is in the region; an empty `high` is no bound.

    Where the scan starts (`low`, in reverse `high`) must not be outside: raises RegionError.
    """
    start, end = region.start_key, region.end_key
    outside = (end and high > end) if reverse else (low < start and low)
    if outside or (not reverse and end and low >= end) or (reverse and high and high < start):
        raise key_not_in_region(high if reverse else low, region.id, start, end)
    return max(low, start), (min(high, end) if high else end) if end else high


def first_user_key(bound: bytes) -> bytes:
    """The first user key whose encoding is at or above `bound`; region bounds may be any bytes."""
    key = b""
    for at in range(0, len(bound), GROUP + 1):
        group = bound[at : at + GROUP]
        if len(bound) < at + GROUP + 1:
            return key + group.rstrip(b"\0")
        marker = bound[at + GROUP]
        if marker == MARKER:
            key += group
            continue
        size = max(len(group.rstrip(b"\0")), marker - (MARKER - GROUP))
        more = size == marker - (MARKER - GROUP) and len(bound) > at + GROUP + 1
        return key + group[:size] + (b"\0" if more else b"")
    return key


def check_count(keys: Sized) -> None:
    """Raises Refused for more keys than one request may have."""
    if len(keys) > COMMAND_KEYS_MAX:
        raise Refused(f"{len(keys)} keys in one request; {COMMAND_KEYS_MAX} is the limit")


class ResponseSize:
    """Counts an answer's rows and bytes."""

    __slots__ = ("bytes", "rows")

    def __init__(self) -> None:
        self.bytes = 0
        self.rows = 0

    def add(self, size: int) -> None:
        """One more row of so many bytes. Raises Refused when the answer gets too large."""
        self.bytes += size
        self.rows += 1
        if self.bytes > RESPONSE_BYTES_MAX:
            raise Refused(f"the answer is over {RESPONSE_BYTES_MAX} bytes; ask for less")
        if self.rows > SCAN_ROWS_MAX:
            raise Refused(f"the answer is over {SCAN_ROWS_MAX} rows; ask for less")
