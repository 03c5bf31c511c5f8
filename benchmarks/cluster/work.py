"""The pieces of work, and how a rate is taken: so many calls in flight, each followed by the next, for some time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc.aio

from benchmarks.cluster.echo import METHOD, SERVICE
from kvstore.client.cluster.cluster import Cluster

Operation = Callable[[int], Awaitable[object]]
"""Called with the number of the call."""
VALUE = b"v" * 100
KEYS = 100_000
"""How many different ones raw puts write."""
TRANSACTION_KEYS = 200


async def rate(operation: Operation, in_flight: int, seconds: float) -> float:
    """Operations a second with that many in flight; a tenth of the time before is not counted."""
    loop = asyncio.get_running_loop()
    start = loop.time() + seconds / 10
    end = start + seconds
    done = 0
    number = 0

    async def repeat() -> None:
        nonlocal done, number
        while (now := loop.time()) < end:
            number += 1
            await operation(number)
            if now >= start:
                done += 1

    await asyncio.gather(*(repeat() for _ in range(in_flight)))
    return done / (loop.time() - start)


class Echo:
    """Calls to the echo server, as large as a raw put."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._call = self._channel.unary_unary(f"/{SERVICE}/{METHOD}", None, None)
        self._request = b"e" * (len(VALUE) + 40)

    async def unary(self, number: int) -> object:
        return await self._call(self._request)

    async def close(self) -> None:
        await self._channel.close(None)


def key_of(number: int, keys: int = KEYS) -> bytes:
    """One of so many keys: numbers that follow each other are far apart."""
    return b"k%08d" % (number * 7919 % keys)


def raw_put(cluster: Cluster) -> Operation:
    return lambda number: cluster.raw.put(key_of(number), VALUE)


def get(cluster: Cluster, ts: int, keys: int) -> Operation:
    """A transactional read of one of the first keys at one timestamp."""
    snapshot = cluster.snapshot(ts)
    return lambda number: snapshot.get(key_of(number, keys))


def timestamp(cluster: Cluster) -> Operation:
    return lambda number: cluster.pd.get_ts()


async def fill(cluster: Cluster, keys: int) -> int:
    """Commits so many keys; returns a timestamp that sees them."""
    for start in range(0, keys, TRANSACTION_KEYS):
        transaction = await cluster.begin(pessimistic=False)
        for number in range(start, min(start + TRANSACTION_KEYS, keys)):
            transaction.put(key_of(number, keys), VALUE)
        await transaction.commit()
    return await cluster.now_ts()
