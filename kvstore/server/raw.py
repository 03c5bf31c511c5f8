"""RawGet, RawPut and their kin: plain keys without versions, in family `default`.

A server in V1TTL mode puts the time of expiry behind each value (eight bytes, seconds since 1970, 0 for never), as TiKV
does; a value past it is not there. Plain writes take no latches: the last in the log wins.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kvstore.engine.api import CF_DEFAULT
from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.proto.metapb_pb2 import Region
from kvstore.raftstore.api import Entry, Grant, RegionStore
from kvstore.raftstore.keys import DATA_PREFIX, data_end, data_start
from kvstore.server.access import ResponseSize, check_count, check_sizes, clamp, deadline_of, grant, grant_now
from kvstore.server.errors import Refused
from kvstore.server.limits import ServiceLimits
from kvstore.server.regions import Regions
from kvstore.server.scheduler import Scheduler

EXPIRY_BYTES = 8
_FIRST_PAIRS, _PAIRS_MAX = 64, 4096
_pack_expiry = struct.Struct(">Q").pack
_unpack_expiry = struct.Struct(">Q").unpack_from
_FAMILIES = ("", CF_DEFAULT)


class PlainValues:
    """API V1: what is stored is the value."""

    api_versions = (pb.APIVersion.V1,)

    def encode(self, value: bytes, ttl_s: int) -> bytes:
        if ttl_s:
            raise Refused("this store keeps no time to live")
        return value

    def decode(self, stored: bytes) -> bytes | None:
        return stored

    def ttl_s(self, stored: bytes) -> int:
        raise Refused("this store keeps no time to live")


class ExpiringValues:
    """API V1TTL: the time of expiry stands behind the value."""

    api_versions = (pb.APIVersion.V1, pb.APIVersion.V1TTL)

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms

    def encode(self, value: bytes, ttl_s: int) -> bytes:
        expiry = self._now_ms() // 1000 + ttl_s if ttl_s else 0
        if expiry >= 1 << 64:
            raise Refused(f"a time to live of {ttl_s} s is too long")
        return value + _pack_expiry(expiry)

    def _expiry(self, stored: bytes) -> int:
        if len(stored) < EXPIRY_BYTES:
            raise Refused("a value was written without a time of expiry, by a store in another mode")
        expiry: int = _unpack_expiry(stored, len(stored) - EXPIRY_BYTES)[0]
        return expiry

    def decode(self, stored: bytes) -> bytes | None:
        expiry = self._expiry(stored)
        return None if expiry and expiry <= self._now_ms() // 1000 else stored[:-EXPIRY_BYTES]

    def ttl_s(self, stored: bytes) -> int:
        """Seconds left, 0 for ever; the value has not expired."""
        expiry = self._expiry(stored)
        return expiry - self._now_ms() // 1000 if expiry else 0


Values = PlainValues | ExpiringValues


@dataclass(frozen=True, slots=True)
class _Range:
    low: bytes
    high: bytes
    limit: int
    key_only: bool
    reverse: bool


class Raw:
    """The raw calls. A `_now` method answers at once, or returns None: then the other one has to."""

    def __init__(
        self, store: RegionStore, regions: Regions, scheduler: Scheduler, values: Values, limits: ServiceLimits
    ) -> None:
        self._store = store
        self._engine = store.engine
        self._regions = regions
        self._scheduler = scheduler
        self._values = values
        self._limits = limits
        self._api_versions = values.api_versions

    def _check(self, context: pb.Context, cf: str) -> None:
        if context.api_version not in self._api_versions:
            raise Refused(f"API version {context.api_version} is not this store's")
        if cf not in _FAMILIES:
            raise Refused(f"invalid cf name: {cf}")

    # -- reads

    def get_now(self, request: pb.RawGetRequest) -> pb.RawGetResponse | None:
        granted = grant_now(self._store, request.context)
        return None if granted is None else self._get(request, granted)

    async def get(self, request: pb.RawGetRequest) -> pb.RawGetResponse:
        deadline = deadline_of(request.context, self._limits)
        return self._get(request, await grant(self._store, request.context, deadline))

    def _get(self, request: pb.RawGetRequest, granted: Grant) -> pb.RawGetResponse:
        self._check(request.context, request.cf)
        key = request.key
        self._store.check_key(granted.region, key)
        stored = self._engine.get(CF_DEFAULT, DATA_PREFIX + key)
        if stored is None:
            return pb.RawGetResponse(not_found=True)
        value = self._values.decode(stored)
        if value is None:
            return pb.RawGetResponse(not_found=True)
        self._store.note_read(granted.region.id, 1, len(key) + len(value))
        return pb.RawGetResponse(value=value)

    async def batch_get(self, request: pb.RawBatchGetRequest) -> pb.RawBatchGetResponse:
        granted = await grant(self._store, request.context, deadline_of(request.context, self._limits))
        self._check(request.context, request.cf)
        check_count(request.keys)
        for key in request.keys:
            self._store.check_key(granted.region, key)
        response, size = pb.RawBatchGetResponse(), ResponseSize()
        for key in request.keys:
            value = self._load(key)
            if value is not None:
                size.add(len(key) + len(value))
                response.pairs.add(key=key, value=value)
        self._store.note_read(granted.region.id, len(request.keys), size.bytes)
        return response

    def _load(self, key: bytes) -> bytes | None:
        stored = self._engine.get(CF_DEFAULT, DATA_PREFIX + key)
        return None if stored is None else self._values.decode(stored)

    async def ttl(self, request: pb.RawGetKeyTTLRequest) -> pb.RawGetKeyTTLResponse:
        granted = await grant(self._store, request.context, deadline_of(request.context, self._limits))
        self._check(request.context, request.cf)
        self._store.check_key(granted.region, request.key)
        stored = self._engine.get(CF_DEFAULT, DATA_PREFIX + request.key)
        if stored is None or self._values.decode(stored) is None:
            return pb.RawGetKeyTTLResponse(not_found=True)
        return pb.RawGetKeyTTLResponse(ttl=self._values.ttl_s(stored))

    async def scan(self, request: pb.RawScanRequest) -> pb.RawScanResponse:
        """In reverse, `start_key` is the upper bound (not included) and `end_key` the lower."""
        granted = await grant(self._store, request.context, deadline_of(request.context, self._limits))
        self._check(request.context, request.cf)
        low, high = request.start_key, request.end_key
        if request.reverse:
            low, high = high, low
        wanted = _Range(low, high, request.limit, request.key_only, request.reverse)
        response, size = pb.RawScanResponse(), ResponseSize()
        response.kvs.extend(self._scan(granted.region, wanted, size))
        self._store.note_read(granted.region.id, len(response.kvs), size.bytes)
        return response

    async def batch_scan(self, request: pb.RawBatchScanRequest) -> pb.RawBatchScanResponse:
        """Up to `each_limit` pairs of every range; without an end a range goes on to the start of the next."""
        granted = await grant(self._store, request.context, deadline_of(request.context, self._limits))
        self._check(request.context, request.cf)
        response, size = pb.RawBatchScanResponse(), ResponseSize()
        for at, wanted in enumerate(request.ranges):
            low, high = wanted.start_key, wanted.end_key
            if not high and at + 1 < len(request.ranges):
                high = request.ranges[at + 1].start_key
            if request.reverse:
                low, high = high, low
            each = _Range(low, high, request.each_limit, request.key_only, request.reverse)
            response.kvs.extend(self._scan(granted.region, each, size))
        return response

    def _scan(self, region: Region, wanted: _Range, size: ResponseSize) -> Iterator[pb.KvPair]:
        if wanted.high and wanted.low > wanted.high:
            raise Refused(f"the range is inverted: {wanted.low.hex()} is above {wanted.high.hex()}")
        low, high = clamp(region, wanted.low, wanted.high, reverse=wanted.reverse)
        left = wanted.limit
        scanner = self._engine.scanner(CF_DEFAULT, data_start(low), data_end(high), reverse=wanted.reverse)
        try:
            pairs = min(_FIRST_PAIRS, max(left, 1))
            while left:
                flat = scanner.take(pairs)
                for data, stored in zip(flat[::2], flat[1::2], strict=True):
                    value = self._values.decode(stored)
                    if value is None:
                        continue
                    key = data[1:]
                    size.add(len(key) if wanted.key_only else len(key) + len(value))
                    yield pb.KvPair(key=key) if wanted.key_only else pb.KvPair(key=key, value=value)
                    left -= 1
                    if not left:
                        return
                if len(flat) < 2 * pairs:
                    return
                pairs = min(pairs * 4, _PAIRS_MAX)
        finally:
            scanner.release()

    # -- writes

    def put_entry(self, request: pb.RawPutRequest) -> Entry:
        """What a put writes. Raises Refused, RegionError for a key outside the region."""
        self._check(request.context, request.cf)
        key = request.key
        check_sizes((key,))
        self._regions.check(request.context, key)
        return CF_DEFAULT, DATA_PREFIX + key, self._values.encode(request.value, request.ttl)

    def delete_entry(self, request: pb.RawDeleteRequest) -> Entry:
        """What a delete writes. Raises as `put_entry`."""
        self._check(request.context, request.cf)
        key = request.key
        check_sizes((key,))
        self._regions.check(request.context, key)
        return CF_DEFAULT, DATA_PREFIX + key, None

    async def put(self, request: pb.RawPutRequest) -> pb.RawPutResponse:
        await self._write(request.context, [self.put_entry(request)], for_cas=request.for_cas)
        return pb.RawPutResponse()

    async def delete(self, request: pb.RawDeleteRequest) -> pb.RawDeleteResponse:
        await self._write(request.context, [self.delete_entry(request)], for_cas=request.for_cas)
        return pb.RawDeleteResponse()

    async def batch_put(self, request: pb.RawBatchPutRequest) -> pb.RawBatchPutResponse:
        self._check(request.context, request.cf)
        ttls = list(request.ttls) or [request.ttl]
        if len(ttls) not in (1, len(request.pairs)):
            raise Refused(f"{len(ttls)} times to live for {len(request.pairs)} pairs")
        if len(ttls) == 1:
            ttls *= len(request.pairs)
        check_count(request.pairs)
        check_sizes(pair.key for pair in request.pairs)
        entries: list[Entry] = []
        for pair, ttl in zip(request.pairs, ttls, strict=True):
            self._regions.check(request.context, pair.key)
            entries.append((CF_DEFAULT, DATA_PREFIX + pair.key, self._values.encode(pair.value, ttl)))
        await self._write(request.context, entries, for_cas=request.for_cas)
        return pb.RawBatchPutResponse()

    async def batch_delete(self, request: pb.RawBatchDeleteRequest) -> pb.RawBatchDeleteResponse:
        self._check(request.context, request.cf)
        check_count(request.keys)
        check_sizes(request.keys)
        for key in request.keys:
            self._regions.check(request.context, key)
        entries: list[Entry] = [(CF_DEFAULT, DATA_PREFIX + key, None) for key in request.keys]
        await self._write(request.context, entries, for_cas=request.for_cas)
        return pb.RawBatchDeleteResponse()

    async def _write(self, context: pb.Context, entries: Sequence[Entry], *, for_cas: bool) -> None:
        """With `for_cas` in turn with compare-and-swaps of the same keys, which read before they write."""
        if not for_cas:
            if entries:
                await self._store.write(context, entries)
            return
        if entries:
            keys = [_latch(key) for _, key, _ in entries]
            deadline = deadline_of(context, self._limits)
            await self._scheduler.in_turn(keys, deadline, lambda: self._store.write(context, entries))

    async def compare_and_swap(self, request: pb.RawCASRequest) -> pb.RawCASResponse:
        """Writes the value, or deletes, if the key holds what the client thinks; answers with what it held."""
        context, key = request.context, request.key
        self._check(context, request.cf)
        check_sizes((key,))
        deadline = deadline_of(context, self._limits)
        return await self._scheduler.in_turn(
            [_latch(DATA_PREFIX + key)], deadline, lambda: self._swap(request, deadline)
        )

    async def _swap(self, request: pb.RawCASRequest, deadline: float) -> pb.RawCASResponse:
        context, key = request.context, request.key
        new = None if request.delete else self._values.encode(request.value, request.ttl)
        granted = await grant(self._store, context, deadline)
        self._store.check_key(granted.region, key)
        old = self._load(key)
        expected = None if request.previous_not_exist else request.previous_value
        if old == expected:
            await self._store.write(context, [(CF_DEFAULT, DATA_PREFIX + key, new)], term=granted.term)
        return pb.RawCASResponse(succeed=old == expected, previous_not_exist=old is None, previous_value=old or b"")

    async def delete_range(self, request: pb.RawDeleteRangeRequest) -> pb.RawDeleteRangeResponse:
        context = request.context
        self._check(context, request.cf)
        low, high = request.start_key, request.end_key
        if high and low > high:
            raise Refused(f"the range is inverted: {low.hex()} is above {high.hex()}")
        granted = await grant(self._store, context, deadline_of(context, self._limits))
        low, high = clamp(granted.region, low, high, reverse=False)
        await self._store.delete_range(context, CF_DEFAULT, data_start(low), data_end(high))
        return pb.RawDeleteRangeResponse()


def _latch(stored_key: bytes) -> bytes:
    """Raw keys are latched apart from transactional ones."""
    return b"\0raw" + stored_key
