"""One row by its primary key: by SQL, and by the client below it, one call after another."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Sequence

from benchmarks import measure, oltp
from benchmarks.cluster.work import Operation, fill, get, key_of, rate
from benchmarks.cluster_sql.bench import Bench
from benchmarks.oltp import FIRST_NEW_ID, SEED
from kvstore.client.cluster.cluster import Cluster
from kvstore.rpc.grpc import GrpcTransport

KEYS = 1000
TIMES_WANTED = 1.5


def run(bench: Bench) -> None:
    """Measures both, taking turns, and compares their latencies."""
    settings = bench.settings
    oltp.load(bench.engine, oltp.sysbench_file(bench.files, settings.rows))
    by_sql = bench.measurement("point_select", bench.engine.name, "ms")
    bare = bench.measurement("get, timestamp at hand", bench.engine.name, "ms")
    fresh = bench.measurement("timestamp and get", bench.engine.name, "ms")
    with contextlib.ExitStack() as stack:
        client = oltp.client(bench.engine, stack, 0, settings.rows, itertools.count(FIRST_NEW_ID))
        select = oltp.point_select(client)
        measure.rate([select], min(0.5, settings.seconds))
        for _ in range(settings.rounds):
            bench.say("point select, get")
            by_sql.values.append(1000 / measure.rate([select], settings.seconds))
            one, both = asyncio.run(_gets(bench.addresses, settings.seconds))
            bare.values.append(1000 / one)
            fresh.values.append(1000 / both)
    for other, wanted in ((bare, f"≤ {TIMES_WANTED:g}"), (fresh, "")):
        times = by_sql.value / other.value
        bench.outcome.verdict(
            f"point select by SQL, one client ÷ {other.work}",
            wanted or "–",
            f"{times:.2f} ({by_sql.value:.2f} ms, {other.value:.2f} ms)",
            times <= TIMES_WANTED if wanted else None,
        )


async def _gets(addresses: Sequence[str], seconds: float) -> tuple[float, float]:
    """Gets a second with a timestamp at hand, and with one drawn for each."""
    transport = GrpcTransport()
    cluster = await Cluster.connect(list(addresses), transport=transport, rng=random.Random(SEED))
    try:
        ts = await fill(cluster, KEYS)
        return await rate(get(cluster, ts, KEYS), 1, seconds), await rate(_fresh(cluster), 1, seconds)
    finally:
        await cluster.close()
        await transport.close()


def _fresh(cluster: Cluster) -> Operation:
    async def operation(number: int) -> object:
        return await cluster.snapshot(await cluster.now_ts()).get(key_of(number, KEYS))

    return operation
