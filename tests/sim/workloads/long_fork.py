"""Long fork: keys in groups, each written once; readers read a group at one snapshot."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from tests.sim.checkers import Anomaly
from tests.sim.checkers.long_fork import ReadGroup, WriteOne, check_long_fork
from tests.sim.history import History
from tests.sim.workloads.api import Client, Txn, transact

GROUP_KEYS = 3


class LongFork:
    """Groups are opened one after another; a client writes or reads in one of the newest."""

    def __init__(self) -> None:
        self.name = "long fork"
        self._unwritten: list[bytes] = []
        self._groups = 0
        self.history: History[WriteOne | ReadGroup, Mapping[bytes, bool]] = History()

    @property
    def splits(self) -> Sequence[bytes]:
        return [b"fork1", b"fork2"]

    async def setup(self, client: Client) -> None:
        """Keys begin absent."""

    @staticmethod
    def _keys(group: int) -> tuple[bytes, ...]:
        """The keys of a group lie far apart, in different regions."""
        return tuple(b"fork%d%08d" % (place, group) for place in range(GROUP_KEYS))

    async def step(self, client: Client, rng: random.Random) -> None:
        if rng.random() < 0.3:
            if not self._unwritten:
                self._unwritten = list(self._keys(self._groups))
                self._groups += 1
            key = self._unwritten.pop(rng.randrange(len(self._unwritten)))
            await self.history.record(client.name, WriteOne(key), lambda: self._write(client, key))
        elif self._groups:
            keys = self._keys(max(0, self._groups - 1 - rng.randrange(2)))
            await self.history.record(client.name, ReadGroup(keys), lambda: self._read(client, keys, rng))

    async def _write(self, client: Client, key: bytes) -> Mapping[bytes, bool]:
        async def body(txn: Txn) -> Mapping[bytes, bool]:
            txn.put(key, b"1")
            return {}

        return await transact(client, body)

    async def _read(self, client: Client, keys: Sequence[bytes], rng: random.Random) -> Mapping[bytes, bool]:
        async def body(txn: Txn) -> Mapping[bytes, bool]:
            return {key: await txn.get(key) is not None for key in rng.sample(keys, len(keys))}

        return await transact(client, body, read_only=True)

    async def finish(self, client: Client) -> None:
        """Nothing more to read."""

    def check(self) -> list[Anomaly]:
        return check_long_fork(self.history.events)
