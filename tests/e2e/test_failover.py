"""How long writes stand still after kill -9 of the store that leads: printed, and bounded only generously."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path

import pytest

from kvstore.client.cluster.cluster import Cluster as Client
from kvstore.codec import encode_bytes
from kvstore.errors import KvError
from kvstore.rpc.api import RpcError
from tests.e2e.harness import Cluster, run, until
from tests.e2e.test_stores import BACK_S, DRIVERS, MOVE_S, STORES, busiest, client_of

KILLS = 5
REGIONS = 6


def key(region: int) -> bytes:
    return b"failover/%d" % region


class Writer:
    """Writes to one region without a pause, and notes when it was answered."""

    def __init__(self, client: Client, region: int) -> None:
        self._client = client
        self._region = region
        self.answered: list[float] = []
        self.errors: list[str] = []

    async def work(self) -> None:
        while True:
            try:
                transaction = await self._client.begin(pessimistic=False)
                transaction.put(key(self._region), b"%d" % len(self.answered))
                await transaction.commit()
            except (KvError, RpcError) as error:
                self.errors.append(str(error))
            else:
                self.answered.append(time.monotonic())

    def longest_gap(self, since: float) -> float:
        """The longest time without an answer since then, in seconds."""
        times = [since, *(at for at in self.answered if at > since), time.monotonic()]
        return max(b - a for a, b in pairwise(times))


@pytest.mark.slow
def test_writes_go_on_after_the_leader_is_killed(tmp_path: Path) -> None:
    async def main() -> None:
        async with Cluster(tmp_path, 1, 4, STORES, DRIVERS) as cluster, client_of(cluster) as client:
            await cluster.replicated(3, MOVE_S)
            await client.split([key(region) for region in range(REGIONS)])
            await cluster.replicated(3, MOVE_S)
            writers = [Writer(client, region) for region in range(REGIONS)]
            tasks = [asyncio.create_task(writer.work()) for writer in writers]
            for _ in range(KILLS):
                await all_answer(writers, BACK_S)
                await kill_one(cluster, writers)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    run(main)


async def kill_one(cluster: Cluster, writers: list[Writer]) -> None:
    """Kills the store that leads most, prints how long each of its regions stood still, and starts it again."""
    lost = await busiest(cluster)
    number = (await cluster.store_ids())[lost]
    led = [region for region in range(REGIONS) if await leader_of(cluster, region) == number]
    began = time.monotonic()
    await cluster.kill(lost)
    elected = {region: asyncio.create_task(new_leader(cluster, region, number)) for region in led}
    await asyncio.gather(*elected.values())
    await all_answer(writers, BACK_S)
    for region in led:
        gap, known = writers[region].longest_gap(began), elected[region].result() - began
        print(f"{lost} killed, region {region}: a leader after {known:.2f} s, the longest pause was {gap:.2f} s")
        assert gap < BACK_S, writers[region].errors
    await cluster.start(lost)


async def leader_of(cluster: Cluster, region: int) -> int:
    """The store that leads, as the placement driver knows it; 0 for none."""
    located = await cluster.pd.get_region(encode_bytes(key(region)))
    return located[1].store_id if located is not None and located[1] is not None else 0


async def new_leader(cluster: Cluster, region: int, lost: int) -> float:
    """When another store was known to lead."""

    async def known() -> bool:
        return await leader_of(cluster, region) not in (0, lost)

    await until(known, BACK_S, f"another leader of region {region}")
    return time.monotonic()


async def all_answer(writers: list[Writer], within_s: float) -> None:
    """Waits until all regions have taken a write that was sent after now."""
    seen = [len(writer.answered) for writer in writers]

    async def answered() -> bool:
        return all(len(writer.answered) > count + 1 for writer, count in zip(writers, seen, strict=True))

    await until(answered, within_s, "writes in all regions")
