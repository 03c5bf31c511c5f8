"""What a workload asks of a store's client, and how workloads are run.

Every call raises `Aborted` when it had no effect for certain and `Undetermined` when nobody knows; reads are only ever
aborted. A client must not repeat by itself a raw write that may have been applied: applied twice, it is two writes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from tests.sim.checkers import Anomaly
from tests.sim.history import Aborted, History, Undetermined

T = TypeVar("T")

PAUSE_S = 0.05
"""The mean pause of a client between two calls."""
SETUP_ATTEMPTS = 200
SETUP_PAUSE_S = 0.5


class Txn(Protocol):
    """One transaction; reads see one snapshot and its own writes."""

    async def get(self, key: bytes) -> bytes | None: ...

    async def scan(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes]]: ...

    async def get_for_update(self, key: bytes) -> bytes | None:
        """Locks the key and returns its newest value; for pessimistic transactions."""

    def put(self, key: bytes, value: bytes) -> None: ...

    async def commit(self) -> None: ...

    async def rollback(self) -> None:
        """Does not raise."""


class Client(Protocol):
    """One client of the store, with an own connection, used by one coroutine."""

    @property
    def name(self) -> str: ...

    async def begin(self, *, pessimistic: bool = False) -> Txn: ...

    async def raw_get(self, key: bytes) -> bytes | None: ...

    async def raw_put(self, key: bytes, value: bytes) -> None: ...

    async def raw_delete(self, key: bytes) -> None: ...

    async def raw_cas(self, key: bytes, expected: bytes | None, value: bytes) -> bool: ...

    async def timestamps(self, count: int) -> int:
        """Draws `count` timestamps in a row and returns the last of them."""

    async def alloc_id(self) -> int: ...


class Workload(Protocol):
    """See the module. One object is one run."""

    @property
    def name(self) -> str: ...

    @property
    def history(self) -> History[Any, Any]: ...

    @property
    def splits(self) -> Sequence[bytes]:
        """Plain keys at which regions may well be split, so that the workload spans several."""

    async def setup(self, client: Client) -> None:
        """Before the faults; may be repeated."""

    async def step(self, client: Client, rng: random.Random) -> None:
        """One call or transaction of a client, recorded."""

    async def finish(self, client: Client) -> None:
        """Last reads, after the faults; must succeed, so it may be repeated."""

    def check(self) -> list[Anomaly]: ...


async def transact(
    client: Client, body: Callable[[Txn], Awaitable[T]], *, pessimistic: bool = False, read_only: bool = False
) -> T:
    """Runs `body` in one transaction and commits it; rolls it back when that fails."""
    txn = await client.begin(pessimistic=pessimistic)
    try:
        result = await body(txn)
    except (Aborted, Undetermined) as error:
        await txn.rollback()
        raise Aborted(str(error)) from error  # nothing is committed before commit is called
    if read_only:
        await txn.rollback()
    else:
        try:
            await txn.commit()
        except Aborted:
            await txn.rollback()
            raise
    return result


async def insist(work: Callable[[], Awaitable[T]]) -> T:
    """Repeats what may be repeated until it succeeds."""
    for _ in range(SETUP_ATTEMPTS):
        try:
            return await work()
        except (Aborted, Undetermined) as error:
            last = error
            await asyncio.sleep(SETUP_PAUSE_S)
    raise AssertionError(f"no success in {SETUP_ATTEMPTS} attempts: {last}")


async def drive(workload: Workload, clients: Sequence[Client], rng: random.Random, seconds: float) -> None:
    """All clients at once, until the time is over and their last calls have returned."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds

    async def one(client: Client, own: random.Random) -> None:
        while loop.time() < until:
            await workload.step(client, own)
            await asyncio.sleep(own.expovariate(1 / PAUSE_S))

    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(one(client, random.Random(rng.random())))


async def run(workload: Workload, clients: Sequence[Client], rng: random.Random, seconds: float) -> list[Anomaly]:
    """Setup, work, last reads, check; faults are the caller's."""
    await workload.setup(clients[0])
    await drive(workload, clients, rng, seconds)
    await workload.finish(clients[0])
    return workload.check()
