"""The calls that are streams: timestamps, region heartbeats with the orders that go back, region queries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from kvstore.proto import pdpb_pb2 as pb
from kvstore.rpc.api import Call
from pd.cluster import region_from_heartbeat
from pd.errors import Refused
from pd.heartbeats import Outbox
from pd.leadership import Leadership
from pd.regions import StaleRegion
from pd.service.regions import query_regions
from pd.tso import LOGICAL_BITS, LOGICAL_MAX

Admit = Callable[[pb.RequestHeader], Leadership]
"""The leadership for a request with this header; raises RpcError."""


class Streams:
    """The stream handlers; each message is admitted anew, so a stream ends when the leadership does."""

    def __init__(self, admit: Admit) -> None:
        self._admit = admit

    async def tso(self, requests: AsyncIterator[pb.TsoRequest], call: Call) -> AsyncIterator[pb.TsoResponse]:
        now = asyncio.get_running_loop().time
        async for request in requests:
            begun = now()
            header, count = request.header, request.count
            timestamps = self._admit(header).timestamps
            ts = await timestamps.get(count)
            reply = pb.TsoResponse(count=count)
            reply.header.cluster_id = header.cluster_id
            stamp = reply.timestamp
            stamp.physical, stamp.logical = ts >> LOGICAL_BITS, ts & LOGICAL_MAX
            timestamps.durations.add(now() - begun)
            yield reply

    async def query_region(
        self, requests: AsyncIterator[pb.QueryRegionRequest], call: Call
    ) -> AsyncIterator[pb.QueryRegionResponse]:
        async for request in requests:
            lead = self._admit(request.header)
            reply = pb.QueryRegionResponse(header=pb.ResponseHeader(cluster_id=request.header.cluster_id))
            if lead.bootstrapped:
                query_regions(lead, request, reply)
            else:
                reply.header.error.type = pb.ErrorType.NOT_BOOTSTRAPPED
                reply.header.error.message = "cluster is not bootstrapped"
            yield reply

    async def region_heartbeat(
        self, requests: AsyncIterator[pb.RegionHeartbeatRequest], call: Call
    ) -> AsyncIterator[pb.RegionHeartbeatResponse]:
        first = await anext(requests, None)
        if first is None:
            return
        lead = self._admit(first.header)
        outbox = lead.outboxes.open()
        reader = asyncio.ensure_future(self._read(lead, first, requests, outbox))
        try:
            while (order := await outbox.next()) is not None:
                order.header.cluster_id = first.header.cluster_id
                yield order
            self._admit(first.header)
        finally:
            lead.outboxes.release(outbox)
            reader.cancel()
            (outcome,) = await asyncio.gather(reader, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome

    async def _read(
        self,
        lead: Leadership,
        first: pb.RegionHeartbeatRequest,
        requests: AsyncIterator[pb.RegionHeartbeatRequest],
        outbox: Outbox,
    ) -> None:
        try:
            self._take(lead, first, outbox)
            async for request in requests:
                if self._admit(request.header) is not lead:
                    return
                self._take(lead, request, outbox)
        finally:
            outbox.close()

    def _take(self, lead: Leadership, request: pb.RegionHeartbeatRequest, outbox: Outbox) -> None:
        """One heartbeat; what is wrong with it is told on the stream, a stale one is only counted."""
        now = asyncio.get_running_loop().time
        begun, store_id, status = now(), request.leader.store_id, "ok"
        order: pb.RegionHeartbeatResponse | None = None
        try:
            order = self._heartbeat(lead, request, outbox)
        except Refused as error:
            status = "err"
            order = pb.RegionHeartbeatResponse(region_id=request.region.id)
            order.header.error.type = error.kind
            order.header.error.message = str(error)
        except StaleRegion:
            status = "stale"
        lead.heartbeat_durations.add(now() - begun)
        lead.heartbeats[store_id, "report", status] += 1
        if order is not None:
            outbox.put(order)
            lead.heartbeats[store_id, "push", status] += 1

    def _heartbeat(
        self, lead: Leadership, request: pb.RegionHeartbeatRequest, outbox: Outbox
    ) -> pb.RegionHeartbeatResponse | None:
        if not lead.bootstrapped:
            raise Refused("cluster is not bootstrapped", pb.ErrorType.NOT_BOOTSTRAPPED)
        lead.known_store(request.leader.store_id)
        if not request.region.id or not request.region.peers:
            raise Refused(f"invalid request region {request.region.id}: no id or no peers")
        lead.outboxes.bind(request.leader.store_id, outbox)
        return lead.region_heartbeat(region_from_heartbeat(request))
