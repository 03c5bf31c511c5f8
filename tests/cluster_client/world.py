"""Runs a scenario against a fresh mock cluster with one connected client, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from kvstore.client.cluster.cluster import Cluster
from kvstore.client.cluster.parts import Options
from kvstore.rpc.memory import Kind, MemoryTransport
from tests.cluster_client.mock import MockCluster
from tests.sim.loop import run_simulated

Scenario = Callable[[MockCluster, Cluster], Awaitable[None]]

TWO_PHASES = Options(one_pc=False, async_commit=False)
ASYNC = Options(one_pc=False, async_commit=True)


def with_cluster(scenario: Scenario, *, options: Options | None = None, seed: int = 1, **mock: Any) -> None:
    async def main() -> None:
        cluster = MockCluster(**mock)
        await cluster.start()
        client = await connect(cluster, options, seed)
        try:
            await scenario(cluster, client)
        finally:
            await client.close()

    run_simulated(main())


async def connect(
    cluster: MockCluster, options: Options | None = None, seed: int = 1, transport: MemoryTransport | None = None
) -> Cluster:
    """One more client."""
    transport = transport or cluster.network.transport("client")
    return await Cluster.connect(cluster.pd.addresses, transport=transport, rng=random.Random(seed), options=options)


async def put_all(client: Cluster, pairs: dict[bytes, bytes]) -> int:
    txn = await client.begin(pessimistic=False)
    for key, value in pairs.items():
        txn.put(key, value)
    commit_ts = await txn.commit()
    await client.drain()
    return commit_ts


async def read(client: Cluster, key: bytes) -> bytes | None:
    return await client.snapshot(await client.now_ts()).get(key)


async def read_all(client: Cluster) -> dict[bytes, bytes]:
    return {key: value async for key, value in client.snapshot(await client.now_ts()).scan(b"", b"")}


class CutOff:
    """Links that take a millisecond; while it is `on`, one machine sends and hears nothing."""

    def __init__(self, machine: str) -> None:
        self.machine = machine
        self.on = True

    def delays(self, source: str, target: str, kind: Kind) -> tuple[float, ...]:
        return (0.001,) if self.reachable(source, target) else ()

    def reachable(self, source: str, target: str) -> bool:
        return not (self.on and self.machine in {source.partition(":")[0], target.partition(":")[0]})
