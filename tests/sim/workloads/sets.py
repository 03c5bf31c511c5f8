"""Set: every add is a key of its own, and scans read them all; no acknowledged add may be lost."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tests.sim.checkers import Anomaly
from tests.sim.checkers.sets import Add, ReadSet, check_set
from tests.sim.history import Aborted, History
from tests.sim.workloads.api import Client, Txn, insist, transact

PREFIX = b"set"
END = b"seu"
SPREAD = 1000
"""Elements are spread over this many places of the key space, so that adds go to all its regions."""


class Set:
    def __init__(self) -> None:
        self.name = "set"
        self._next = 0
        self.history: History[Add | ReadSet, Sequence[int]] = History()

    @property
    def splits(self) -> Sequence[bytes]:
        return [PREFIX + b"%03d" % place for place in (250, 500, 750)]

    async def setup(self, client: Client) -> None:
        """The set begins empty."""

    async def step(self, client: Client, rng: random.Random) -> None:
        if rng.random() < 0.1:
            await self._read(client)
            return
        self._next += 1
        element = self._next
        place = rng.randrange(SPREAD)

        async def body(txn: Txn) -> Sequence[int]:
            txn.put(PREFIX + b"%03d%010d" % (place, element), b"%d" % element)
            return ()

        await self.history.record(client.name, Add(element), lambda: transact(client, body))

    async def _read(self, client: Client) -> Sequence[int] | None:
        async def body(txn: Txn) -> Sequence[int]:
            return [int(value) for _, value in await txn.scan(PREFIX, END)]

        return await self.history.record(client.name, ReadSet(), lambda: transact(client, body, read_only=True))

    async def finish(self, client: Client) -> None:
        async def read() -> None:
            if await self._read(client) is None:
                raise Aborted("not read")

        await insist(read)

    def check(self) -> list[Anomaly]:
        return check_set(self.history.events)
