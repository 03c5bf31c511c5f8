"""The stream of region heartbeats to the placement driver, and the orders that come back on it.

A heartbeat is a report that is soon outdated: while the stream is slow or down only a region's newest is kept, and what
was sent on a stream that broke is not sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque

from kvstore.client.cluster.backoff import PD, PD_BUDGET_MS, Backoff
from kvstore.client.cluster.errors import ClusterMismatch, PdUnavailable
from kvstore.client.cluster.tso import LeaderLost, OpenStream
from kvstore.proto.pdpb_pb2 import RegionHeartbeatRequest, RegionHeartbeatResponse, RequestHeader
from kvstore.rpc.api import Code, RpcError, Stream

ORDERS_MAX = 4096
"""Orders kept for a store that does not take them; the oldest go first, as the driver repeats what was not done."""


class RegionHeartbeats:
    """Sends heartbeats and collects orders, reconnecting for as long as it lives."""

    def __init__(self, open_stream: OpenStream, leader_lost: LeaderLost, rng: random.Random) -> None:
        self._open_stream = open_stream
        self._leader_lost = leader_lost
        self._rng = rng
        self._queued: dict[int, RegionHeartbeatRequest] = {}
        self._queued_event = asyncio.Event()
        self._orders: deque[RegionHeartbeatResponse] = deque(maxlen=ORDERS_MAX)
        self._orders_event = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def send(self, request: RegionHeartbeatRequest) -> None:
        """Queues a heartbeat; an older one of the same region that still waits is replaced."""
        self._queued[request.region.id] = request
        self._queued_event.set()
        self._start()

    async def next_order(self) -> RegionHeartbeatResponse:
        """Waits for the next order."""
        self._start()
        while not self._orders:
            self._orders_event.clear()
            await self._orders_event.wait()
        return self._orders.popleft()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        backoff = Backoff(PD_BUDGET_MS, self._rng)
        while True:
            await self._queued_event.wait()
            cause = "the heartbeat stream ended"
            try:
                stream, header = await self._open_stream()
                if await self._use(stream, header):
                    backoff = Backoff(PD_BUDGET_MS, self._rng)
            except (RpcError, ClusterMismatch) as error:
                cause = str(error)
            try:
                await backoff.wait(PD, cause)
            except PdUnavailable:
                # heartbeats never give up: pauses start anew
                backoff = Backoff(PD_BUDGET_MS, self._rng)
            with contextlib.suppress(ClusterMismatch):
                await self._leader_lost()

    async def _use(self, stream: Stream, header: RequestHeader) -> bool:
        """Sends and receives until the stream breaks; returns whether an order ever came."""
        loop = asyncio.get_running_loop()
        sender = loop.create_task(self._send_all(stream, header))
        heard = False
        try:
            while True:
                order = await stream.receive()
                if order is None:
                    return heard
                if not isinstance(order, RegionHeartbeatResponse):
                    raise RpcError(Code.INTERNAL, "an answer of another type on the heartbeat stream")
                if order.header.error.type:
                    raise RpcError(Code.UNAVAILABLE, order.header.error.message)
                heard = True
                if order.region_id:
                    self._orders.append(order)
                    self._orders_event.set()
        finally:
            stream.cancel()
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _send_all(self, stream: Stream, header: RequestHeader) -> None:
        while True:
            await self._queued_event.wait()
            self._queued_event.clear()
            queued, self._queued = self._queued, {}
            for request in queued.values():
                request.header.CopyFrom(header)
                try:
                    await stream.send(request)
                except RpcError:
                    # the receiver sees the same break and reconnects
                    stream.cancel()
                    return
