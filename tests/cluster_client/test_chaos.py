"""Many clients appending to lists while messages get lost, regions split, leaders move and clients die.

What commit said must be true: a token whose commit was acknowledged is in all of its lists, one that failed is in none,
one that is undetermined is in all or in none; and what a snapshot has read it reads again.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from kvstore.client.cluster.cluster import Cluster
from kvstore.client.cluster.errors import ClusterError, UndeterminedResult
from kvstore.client.cluster.parts import Options
from kvstore.client.cluster.transaction import ClusterTransaction
from kvstore.errors import KvError, TxnError
from kvstore.proto import errorpb_pb2 as errorpb
from kvstore.rpc.memory import MemoryTransport
from tests.cluster_client.mock import Fault, MockCluster
from tests.cluster_client.world import ASYNC, TWO_PHASES, connect, read_all, with_cluster

KEYS = [b"a", b"f", b"k", b"p", b"u"]
TOKENS_EACH = 12
CLIENTS = 5


@dataclass
class History:
    committed: dict[bytes, list[bytes]] = field(default_factory=dict)
    failed: dict[bytes, list[bytes]] = field(default_factory=dict)
    unknown: dict[bytes, list[bytes]] = field(default_factory=dict)
    seen: list[tuple[int, dict[bytes, bytes]]] = field(default_factory=list)


class Chaos:
    """Decides from a seed what happens to each call."""

    def __init__(self, cluster: MockCluster, seed: int) -> None:
        self.cluster = cluster
        self.rng = random.Random(f"chaos {seed}")

    def __call__(self, request: Any) -> Fault | None:
        rng = self.rng
        dice = rng.random()
        if dice < 0.03:
            return Fault("", lose_request=True)
        if dice < 0.08:
            return Fault("", lose_answer=True)
        if dice < 0.14:
            return Fault("", delay_s=rng.random() * 3)
        if dice < 0.17:
            busy = errorpb.Error(server_is_busy=errorpb.ServerIsBusy(), message="chaos")
            unknown = errorpb.Error(undetermined_result=errorpb.UndeterminedResult(), message="chaos")
            return Fault("", error=rng.choice([busy, unknown, errorpb.Error(message="chaos")]))
        if dice < 0.18:
            self.cluster.split(bytes([rng.randrange(ord("a"), ord("z"))]), tell=rng.random() < 0.5)
        elif dice < 0.20:
            self.cluster.move_leader(rng.choice(KEYS), rng.choice([1, 2, 3]), tell=rng.random() < 0.5)
        return None


async def append(txn: ClusterTransaction, client: Cluster, keys: list[bytes], token: bytes) -> None:
    values: dict[bytes, bytes | None] = {}
    if txn.pessimistic:
        await txn.lock_keys(keys, for_update_ts=await client.now_ts(), wait_ms=2000, values=values)
    else:
        values.update(await txn.batch_get(keys))
    for key in keys:
        txn.put(key, (values.get(key) or b"") + token)


async def worker(
    client: Cluster, transport: MemoryTransport, number: int, rng: random.Random, history: History
) -> None:
    """Appends tokens in transactions of both kinds; the last worker dies half way."""
    for count in range(TOKENS_EACH):
        token = b"%d.%d;" % (number, count)
        keys = rng.sample(KEYS, rng.randrange(1, 4))
        txn = await client.begin(pessimistic=rng.random() < 0.5)
        if number == CLIENTS and count == TOKENS_EACH // 2:
            # dies in the middle of a commit
            asyncio.get_running_loop().call_later(rng.random() * 2, transport.crash)
        try:
            await append(txn, client, keys, token)
            await txn.commit()
            history.committed[token] = keys
        except UndeterminedResult:
            history.unknown[token] = keys
        except (TxnError, ClusterError):
            history.failed[token] = keys
        except KvError:
            history.unknown[token] = keys
        await asyncio.gather(txn.rollback(), return_exceptions=True)
        await asyncio.sleep(rng.random() * 0.2)
        if number == CLIENTS and count == TOKENS_EACH // 2:
            break
    await client.close()


async def reader(client: Cluster, history: History) -> None:
    rng = random.Random("reader")
    while True:
        try:
            ts = await client.now_ts()
            snapshot = client.snapshot(ts)
            if rng.random() < 0.5:
                found = {key: value async for key, value in snapshot.scan(b"", b"")}
            else:
                found = await snapshot.batch_get(KEYS)
            history.seen.append((ts, found))
        except ClusterError:
            pass
        await asyncio.sleep(0.1)


MODES = pytest.mark.parametrize("options", [Options(), ASYNC, TWO_PHASES], ids=["1pc", "async", "2pc"])


@MODES
@pytest.mark.parametrize("seed", range(4))
def test_what_commit_said_is_true(options: Options, seed: int) -> None:
    run_chaos(options, seed)


@pytest.mark.slow
@MODES
@pytest.mark.parametrize("seed", range(4, 60))
def test_what_commit_said_is_true_for_long(options: Options, seed: int) -> None:
    run_chaos(options, seed)


def run_chaos(options: Options, seed: int) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.pd.follows_clock = True
        cluster.chaos = Chaos(cluster, seed)
        history = History()
        reading = asyncio.ensure_future(reader(client, history))

        async def work(number: int) -> None:
            transport = cluster.network.transport(f"client{number}")
            mine = await connect(cluster, options, seed * 100 + number, transport)
            await worker(mine, transport, number, random.Random(f"{seed}/{number}"), history)

        await asyncio.gather(*(work(number) for number in range(1, CLIENTS + 1)))
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        cluster.chaos = None
        await asyncio.sleep(60)
        final = await read_all(client)
        check(history, final)
        for ts, found in history.seen:
            assert await client.snapshot(ts).batch_get(KEYS) == found, f"snapshot {ts}"
        assert len(history.committed) > 10
        assert len(history.seen) >= 2

    with_cluster(scenario, options=options, seed=seed)


def check(history: History, final: dict[bytes, bytes]) -> None:
    def where(token: bytes) -> list[bytes]:
        return [key for key in KEYS if (b";" + final.get(key, b"")).count(b";" + token)]

    for token, keys in history.committed.items():
        assert where(token) == sorted(keys), f"{token!r} was acknowledged"
    for token in history.failed:
        assert where(token) == [], f"{token!r} failed"
    for token, keys in history.unknown.items():
        assert where(token) in ([], sorted(keys)), f"{token!r} is undetermined"
    for value in final.values():
        tokens = value.split(b";")
        assert len(set(tokens)) == len(tokens)
