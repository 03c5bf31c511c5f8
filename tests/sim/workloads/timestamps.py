"""Timestamps and ids drawn from the placement driver by many at once."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tests.sim.checkers import Anomaly
from tests.sim.checkers.timestamps import AllocId, Draw, check_timestamps
from tests.sim.history import Aborted, History
from tests.sim.workloads.api import Client, insist


class Timestamps:
    def __init__(self) -> None:
        self.name = "timestamps"
        self.history: History[Draw | AllocId, int] = History()

    @property
    def splits(self) -> Sequence[bytes]:
        return []

    async def setup(self, client: Client) -> None:
        """Nothing is needed."""

    async def step(self, client: Client, rng: random.Random) -> None:
        if rng.random() < 0.2:
            await self.history.record(client.name, AllocId(), client.alloc_id)
            return
        count = rng.choice([1, 1, 1, 7, 64])
        await self.history.record(client.name, Draw(count), lambda: client.timestamps(count))

    async def finish(self, client: Client) -> None:
        async def draw() -> None:
            if await self.history.record(client.name, Draw(1), lambda: client.timestamps(1)) is None:
                raise Aborted("not drawn")

        await insist(draw)

    def check(self) -> list[Anomaly]:
        return check_timestamps(self.history.events)
