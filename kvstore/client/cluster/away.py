"""Stores that do not answer: while one is away, whoever can be asked instead is.

A call to a store that hangs costs its whole timeout, so a store is not tried again by the calls themselves. In the
background it is asked how it is (grpc.health.v1) until it answers anything.
"""

from __future__ import annotations

import asyncio

from grpc_health.v1.health_pb2 import HealthCheckRequest

from kvstore.client.cluster.errors import ClusterError
from kvstore.client.cluster.regions import RegionCache
from kvstore.errors import PdError
from kvstore.rpc.api import Code, RpcError, Transport
from kvstore.rpc.health import METHODS

AWAY_S_MIN = 2.0
"""For so long after a failed call a store is away in any case: it may answer questions of its health, and no calls."""
PROBE_S = 0.5
"""Between two questions."""
PROBE_TIMEOUT_S = 1.0
SILENT = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED})
"""With any other code it is the store that answers."""


class AwayStores:
    """The stores that are away, by id; used in one event loop."""

    def __init__(self, regions: RegionCache, transport: Transport) -> None:
        self._regions = regions
        self._transport = transport
        self._probes: dict[int, asyncio.Task[None]] = {}

    def __contains__(self, store_id: int) -> bool:
        return store_id in self._probes

    def __len__(self) -> int:
        return len(self._probes)

    def failed(self, store_id: int) -> None:
        """A call to the store failed below the protocol."""
        if store_id not in self._probes:
            self._probes[store_id] = asyncio.get_running_loop().create_task(self._probe(store_id))

    def answered(self, store_id: int) -> None:
        """A call to the store was answered."""
        probe = self._probes.pop(store_id, None)
        if probe is not None:
            probe.cancel()

    async def close(self) -> None:
        probes = list(self._probes.values())
        self._probes.clear()
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)

    async def _probe(self, store_id: int) -> None:
        await asyncio.sleep(AWAY_S_MIN)
        while not await self._is_back(store_id):
            await asyncio.sleep(PROBE_S)
        if self._probes.get(store_id) is asyncio.current_task():
            del self._probes[store_id]

    async def _is_back(self, store_id: int) -> bool:
        """Whether the store answers, or is gone for good and nothing is to be waited for."""
        address = self._regions.forget_store(store_id)
        try:
            address = await self._regions.store_address(store_id)
        except (ClusterError, PdError):  # the placement driver is away too: the last address has to do
            if address is None:
                return False
        if address is None:
            return True
        try:
            await self._transport.channel(address).unary(METHODS["Check"], HealthCheckRequest(), PROBE_TIMEOUT_S)
        except RpcError as error:
            return error.code not in SILENT
        return True
