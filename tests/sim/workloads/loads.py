"""Bulk loads, each of a range of its own: of those that were acknowledged every row is there, of others some may be."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from tests.sim.checkers import Anomaly
from tests.sim.history import Aborted, History, Outcome
from tests.sim.workloads.api import Client, Txn, insist, transact

PREFIX = b"load"
END = b"loae"
ROWS = 60
Rows = dict[bytes, bytes]


class LoadingClient(Protocol):
    """A client of whole stores."""

    async def load(self, start: bytes, end: bytes, rows: Rows) -> int:
        """Loads rows in bulk and returns how many. Raises Aborted, Undetermined."""


@dataclass(frozen=True, slots=True)
class Load:
    number: int


@dataclass(frozen=True, slots=True)
class ReadAll:
    pass


def rows_of(number: int) -> Rows:
    """Some values are too long for a record."""
    rng = random.Random(number)
    return {b"%s%04d/%03d" % (PREFIX, number, n): b"%d/%d" % (number, n) * rng.choice((1, 100)) for n in range(ROWS)}


class Loads:
    def __init__(self) -> None:
        self.name = "loads"
        self._next = 0
        self.history: History[Load | ReadAll, int] = History()
        self._found: list[Rows] = []

    @property
    def splits(self) -> Sequence[bytes]:
        return [b"%s%04d/%03d" % (PREFIX, number, row) for number in range(1, 40, 3) for row in (0, 20, 40)]

    async def setup(self, client: Client) -> None:
        """Nothing is there."""

    async def step(self, client: Client, rng: random.Random) -> None:
        self._next += 1
        number = self._next
        start = b"%s%04d" % (PREFIX, number)
        loading = cast("LoadingClient", client)
        await self.history.record(client.name, Load(number), lambda: loading.load(start, start + b"~", rows_of(number)))

    async def _read(self, client: Client) -> int | None:
        async def body(txn: Txn) -> int:
            self._found.append(dict(await txn.scan(PREFIX, END)))
            return len(self._found[-1])

        return await self.history.record(client.name, ReadAll(), lambda: transact(client, body, read_only=True))

    async def finish(self, client: Client) -> None:
        async def read() -> None:
            if await self._read(client) is None:
                raise Aborted("not read")

        await insist(read)

    def check(self) -> list[Anomaly]:
        if not self._found:
            return []  # the run did not come to its end, and says why
        found = self._found[-1]
        anomalies: list[Anomaly] = []
        known: Rows = {}
        for event in self.history.events:
            if isinstance(event.action, Load):
                rows = rows_of(event.action.number)
                known |= rows
                missing = rows.keys() - found.keys()
                if event.outcome is Outcome.OK and missing:
                    anomalies.append(Anomaly("lost rows", f"{event}: {len(missing)} from {min(missing)!r} on"))
        wrong = [key for key, value in found.items() if known.get(key) != value]
        if wrong:
            anomalies.append(Anomaly("wrong rows", f"{len(wrong)} from {min(wrong)!r} on"))
        return anomalies
