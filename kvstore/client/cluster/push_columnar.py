"""Push-down requests to columnar replicas: one request a store, over all regions of which it is to answer.

Every region with a peer on a columnar store is asked there, each store for as many regions as the others. A store's
answer counts as a whole or not at all: a region that it does not answer for is located anew and asked again, a lock in
the way is settled, and what no replica answers is left to the row path (`Parts.left`). (TiDB's batchCop.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from google.protobuf.message import DecodeError

from kvstore.client.api import PushAnswer, PushRequest
from kvstore.client.cluster import commands
from kvstore.client.cluster.backoff import REGION_MISS, SCAN_BUDGET_MS, Backoff
from kvstore.client.cluster.columnar import ColumnarStores
from kvstore.client.cluster.errors import RefusedRequest
from kvstore.client.cluster.key_ranges import KeyRange, below, from_key
from kvstore.client.cluster.parts import Parts
from kvstore.client.cluster.regions import CachedRegion
from kvstore.client.cluster.snapshot import Snapshot
from kvstore.errors import PushFailed
from kvstore.proto import coprocessor_pb2 as pb
from kvstore.proto import kvrpcpb_pb2 as kvrpcpb
from kvstore.proto import tipb_pb2
from kvstore.rpc.api import RpcError

ROUNDS_MAX = 3
"""So often is asked again what moved or was locked, before the rows are read."""
CALL_TIMEOUT_S = 300.0
"""A store may build what it lacks before it answers."""
TP_DAG = 103
TP_WHOLE = 10_101
"""A request of our own, for columnar stores of ours: a whole query over several tables."""


class ColumnarPush:
    """One request; `left` is what the rows are to be read of, once `run` has ended."""

    def __init__(
        self, parts: Parts, stores: ColumnarStores, request: PushRequest, snapshot: Snapshot, *, tp: int = TP_DAG
    ) -> None:
        self._parts = parts
        self._stores = stores
        self._request = request
        self._snapshot = snapshot
        self._tp = tp
        self.failed: set[int] = set()
        """Stores that could not be reached."""
        self.left: list[KeyRange] = []

    async def run(self) -> AsyncGenerator[PushAnswer, None]:
        """Yields what replicas answer. Raises what settling locks and locating regions does."""
        backoff = self._parts.backoff(SCAN_BUDGET_MS)
        waiting = list(self._request.ranges)
        for round_ in range(ROUNDS_MAX):
            batches = await self._divided(backoff, waiting)
            waiting = []
            tasks = [asyncio.ensure_future(self.ask(backoff, *batch)) for batch in batches.items()]
            try:
                for task in asyncio.as_completed(tasks):
                    answers, again = await task
                    waiting += again
                    for answer in answers:
                        yield answer
            finally:
                for one in tasks:
                    one.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            if not waiting:
                break
            if round_ + 1 < ROUNDS_MAX:
                await backoff.wait(REGION_MISS, "regions of columnar replicas have changed")
        self.left = sorted([*self.left, *waiting])

    async def _divided(
        self, backoff: Backoff, ranges: Sequence[KeyRange]
    ) -> dict[int, list[tuple[CachedRegion, list[KeyRange]]]]:
        """The regions by the store that is to answer; those without one are `left`."""
        stores = {store for store in await self._stores.addresses() if store not in self.failed}
        batches: dict[int, list[tuple[CachedRegion, list[KeyRange]]]] = {}
        ordered = sorted(ranges)
        regions = self._parts.regions
        looked_up = False
        while ordered and stores:
            region = await regions.front(backoff, ordered[0][0], ordered[-1][1])
            having = [peer.store_id for peer in region.meta.peers if peer.store_id in stores]
            if not having and not looked_up:
                self.forget_without(stores, ordered)
                looked_up = True
                continue
            here = below(ordered, region.end)
            ordered = from_key(ordered, region.end) if region.end else []
            if having:
                store = min(having, key=lambda one: (len(batches.get(one, ())), one))
                batches.setdefault(store, []).append((region, here))
            else:
                self.left += here
        self.left += ordered
        return batches

    def forget_without(self, stores: set[int], ranges: Sequence[KeyRange]) -> None:
        """Drops from the cache the regions of ranges that had no replica when they were cached."""
        regions = self._parts.regions
        left = list(ranges)
        while left and (region := regions.find(left[0][0])) is not None:
            if all(peer.store_id not in stores for peer in region.meta.peers):
                regions.drop(region)
            left = from_key(left, region.end) if region.end else []

    async def ask(
        self, backoff: Backoff, store: int, batch: Sequence[tuple[CachedRegion, list[KeyRange]]]
    ) -> tuple[list[PushAnswer], list[KeyRange]]:
        """A store's answers, and the ranges that are to be asked again."""
        begun = asyncio.get_running_loop().time()
        address = (await self._stores.addresses()).get(store, "")
        ranges = [one for _, here in batch for one in here]
        try:
            responses = await self._responses(address, self._message(batch))
        except RpcError:
            self.failed.add(store)
            return [], ranges
        locked = next((response.locked for response in responses if response.HasField("locked")), None)
        if locked is not None:
            await self._snapshot.go_past(backoff, [kvrpcpb.KeyError(locked=locked)])
            return [], ranges
        if any(response.other_error for response in responses) or not responses:
            self.left += ranges
            return [], []
        await self._snapshot.check_age()
        moved = {region.id for response in responses for region in response.retry_regions}
        again: list[KeyRange] = []
        for region, here in batch:
            if region.id in moved:
                self._parts.regions.drop(region)
                again += here
        seconds = asyncio.get_running_loop().time() - begun
        given = [response for response in responses if response.data]
        for response in given:
            check_answer(response.data)
        return [PushAnswer(r.data, 0, address, r.ByteSize(), seconds, columnar=True) for r in given], again

    async def _responses(self, address: str, message: pb.BatchRequest) -> list[pb.BatchResponse]:
        """All of a store's answer. Raises RpcError."""
        stream = self._parts.sender.stream_to_store(commands.BATCH_COPROCESSOR, address)
        responses: list[pb.BatchResponse] = []
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await stream.send(message)
                await stream.done_sending()
                while (response := await stream.receive()) is not None:
                    responses.append(response)
        except TimeoutError:
            return []
        finally:
            stream.cancel()
        return responses

    def _message(self, batch: Sequence[tuple[CachedRegion, list[KeyRange]]]) -> pb.BatchRequest:
        message = pb.BatchRequest(tp=self._tp, data=self._request.columnar, start_ts=self._request.ts)
        message.context.max_execution_duration_ms = int(CALL_TIMEOUT_S * 1000)
        self._snapshot.tell_known(message.context)
        for region, ranges in batch:
            wanted = message.regions.add(region_id=region.id, region_epoch=region.epoch)
            for start, end in ranges:
                wanted.ranges.add(start=start, end=end)
        return message


class WholePush:
    """A whole query for one columnar store, which has to have a peer of every region of its ranges."""

    def __init__(self, parts: Parts, stores: ColumnarStores, request: PushRequest, snapshot: Snapshot) -> None:
        self._parts = parts
        self._stores = stores
        self._request = request
        self._asking = ColumnarPush(parts, stores, request, snapshot, tp=TP_WHOLE)

    async def run(self) -> list[PushAnswer] | None:
        """The answer's parts; None where no store has all of it, or the one that has it does not answer."""
        backoff = self._parts.backoff(SCAN_BUDGET_MS)
        for round_ in range(ROUNDS_MAX):
            found = await self._store_of_all(backoff)
            if found is None:
                return None
            answers, again = await self._asking.ask(backoff, *found)
            if self._asking.left:
                return None
            if not again:
                return answers
            if round_ + 1 < ROUNDS_MAX:
                await backoff.wait(REGION_MISS, "regions of columnar replicas have changed")
        return None

    async def _store_of_all(self, backoff: Backoff) -> tuple[int, list[tuple[CachedRegion, list[KeyRange]]]] | None:
        """A store with a peer of every region, and the regions with what is wanted of each."""
        left = sorted(self._request.ranges)
        stores = await self._stores.ours() - self._asking.failed
        regions = self._parts.regions
        batch: list[tuple[CachedRegion, list[KeyRange]]] = []
        looked_up = False
        while left and stores:
            region = await regions.front(backoff, left[0][0], left[-1][1])
            having = stores & {peer.store_id for peer in region.meta.peers}
            if not having and not looked_up:
                self._asking.forget_without(stores, left)
                looked_up = True
                continue
            stores = having
            batch.append((region, below(left, region.end)))
            left = from_key(left, region.end) if region.end else []
        return (self._stores.favourite(stores), batch) if stores and batch else None


def check_answer(data: bytes) -> None:
    """Raises PushFailed when the answer is that the evaluation failed."""
    select = tipb_pb2.SelectResponse()
    try:
        select.ParseFromString(data)
    except DecodeError as error:
        raise RefusedRequest(f"the store answered with what is no SelectResponse: {error}") from None
    if select.HasField("error"):
        raise PushFailed(select.error.code, select.error.msg)
