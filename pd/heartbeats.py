"""Orders on their way to the stores: one outbox a heartbeat stream, in which a region's newest order wins."""

from __future__ import annotations

import asyncio

from kvstore.proto.pdpb_pb2 import RegionHeartbeatResponse

ORDERS_MAX = 10_000
"""Orders that wait for one slow store; more are dropped, the next heartbeats bring them again."""


class Outbox:
    """Orders for one store, by region."""

    def __init__(self) -> None:
        self._orders: dict[int, RegionHeartbeatResponse] = {}
        self._closed = False
        self._changed = asyncio.Event()

    def put(self, order: RegionHeartbeatResponse) -> None:
        if order.region_id not in self._orders and len(self._orders) >= ORDERS_MAX:
            return
        self._orders[order.region_id] = order
        self._changed.set()

    def drop_region(self, region_id: int) -> None:
        self._orders.pop(region_id, None)

    def close(self) -> None:
        self._closed = True
        self._changed.set()

    async def next(self) -> RegionHeartbeatResponse | None:
        """The next order, None when the outbox is closed."""
        while not self._orders and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        if self._closed:
            return None
        return self._orders.pop(next(iter(self._orders)))


class Outboxes:
    """The outboxes of the stores that have a heartbeat stream open; a store's newest stream takes the orders."""

    def __init__(self) -> None:
        self._open: list[Outbox] = []
        self._by_store: dict[int, Outbox] = {}
        self._closed = False

    def open(self) -> Outbox:
        outbox = Outbox()
        if self._closed:
            outbox.close()
        self._open.append(outbox)
        return outbox

    def bind(self, store_id: int, outbox: Outbox) -> None:
        self._by_store[store_id] = outbox

    def release(self, outbox: Outbox) -> None:
        """The stream is over."""
        outbox.close()
        self._open.remove(outbox)
        for store_id in [store_id for store_id, bound in self._by_store.items() if bound is outbox]:
            del self._by_store[store_id]

    def send(self, store_id: int, order: RegionHeartbeatResponse) -> bool:
        """Whether the store listens."""
        outbox = self._by_store.get(store_id)
        if outbox is not None:
            outbox.put(order)
        return outbox is not None

    def drop_region(self, region_id: int) -> None:
        for outbox in self._open:
            outbox.drop_region(region_id)

    def close(self) -> None:
        self._closed = True
        for outbox in self._open:
            outbox.close()
