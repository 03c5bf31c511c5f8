"""List-append: optimistic transactions of a few appends and reads over a few lists; snapshot isolation."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tests.sim.checkers import Anomaly
from tests.sim.checkers.append import Append, Lists, ReadList, Txn, check_append
from tests.sim.history import Aborted, History
from tests.sim.workloads import api
from tests.sim.workloads.api import Client, insist, transact

STEPS_MAX = 4


def decode(value: bytes | None) -> tuple[int, ...]:
    return tuple(int(part) for part in (value or b"").split(b",") if part)


def encode(elements: Sequence[int]) -> bytes:
    return b",".join(b"%d" % element for element in elements)


class ListAppend:
    def __init__(self, keys: int = 6) -> None:
        self.name = "list-append"
        self._keys = [b"list%02d" % number for number in range(keys)]
        self._next = 0
        self.history: History[Txn, Lists] = History()

    @property
    def splits(self) -> Sequence[bytes]:
        return self._keys[1::2]

    async def setup(self, client: Client) -> None:
        """Lists begin empty."""

    async def step(self, client: Client, rng: random.Random) -> None:
        await self._record(client, tuple(self._draw(rng) for _ in range(rng.randint(1, STEPS_MAX))))

    def _draw(self, rng: random.Random) -> Append | ReadList:
        key = rng.choice(self._keys)
        if rng.random() < 0.5:
            return ReadList(key)
        self._next += 1
        return Append(key, self._next)

    async def _record(self, client: Client, steps: Txn) -> Lists | None:
        async def body(txn: api.Txn) -> Lists:
            lists: list[tuple[int, ...] | None] = []
            for step in steps:
                elements = decode(await txn.get(step.key))
                if isinstance(step, ReadList):
                    lists.append(elements)
                else:
                    txn.put(step.key, encode((*elements, step.element)))
                    lists.append(None)
            return lists

        read_only = all(isinstance(step, ReadList) for step in steps)
        return await self.history.record(client.name, steps, lambda: transact(client, body, read_only=read_only))

    async def finish(self, client: Client) -> None:
        async def read_all() -> None:
            if await self._record(client, tuple(ReadList(key) for key in self._keys)) is None:
                raise Aborted("not read")

        await insist(read_all)

    def check(self) -> list[Anomaly]:
        return check_append(self.history.events)
