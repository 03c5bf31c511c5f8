"""Registers: reads, writes and compare-and-swaps of single keys, raw or as transactions of one key; linearizable."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from tests.sim.checkers import Anomaly
from tests.sim.checkers.linearizable import Action, Cas, Read, Result, Write, check_linearizable
from tests.sim.history import History, Outcome
from tests.sim.workloads.api import Client, Txn, insist, transact


class Registers:
    """Values are unique but for deletes, so that a read tells whose write it saw."""

    def __init__(self, keys: int = 5, *, raw: bool = True) -> None:
        self.name = "raw registers" if raw else "transactional registers"
        self._raw = raw
        self._keys = [b"reg%02d" % number for number in range(keys)]
        self._next = 0
        self._seen: dict[bytes, bytes | None] = {}
        self.history: History[Action, Result] = History()

    @property
    def splits(self) -> Sequence[bytes]:
        return self._keys[1::2]

    async def setup(self, client: Client) -> None:
        """Registers begin empty."""

    async def step(self, client: Client, rng: random.Random) -> None:
        action = self._draw(rng)
        pessimistic = not self._raw and not isinstance(action, Read) and rng.random() < 0.4
        result = await self.history.record(client.name, action, lambda: self._do(client, action, pessimistic))
        if isinstance(action, Read) and not isinstance(result, bool):
            self._seen[action.key] = result  # what a swap then expects, so that many succeed

    def _draw(self, rng: random.Random) -> Action:
        key = rng.choice(self._keys)
        self._next += 1
        value = b"%d" % self._next
        kind = rng.random()
        if kind < 0.5:
            return Read(key)
        if kind < 0.75:
            return Write(key, value if rng.random() < 0.9 else None)
        stale = b"%d" % rng.randint(1, self._next)
        return Cas(key, self._seen.get(key) if rng.random() < 0.8 else stale, value)

    async def _do(self, client: Client, action: Action, pessimistic: bool = False) -> Result:
        if not self._raw:
            read_only = isinstance(action, Read)
            body = partial(_in_transaction, action=action, locking=pessimistic)
            return await transact(client, body, pessimistic=pessimistic, read_only=read_only)
        if isinstance(action, Read):
            return await client.raw_get(action.key)
        if isinstance(action, Cas):
            return await client.raw_cas(action.key, action.expected, action.value)
        if action.value is None:
            await client.raw_delete(action.key)
        else:
            await client.raw_put(action.key, action.value)
        return None

    async def finish(self, client: Client) -> None:
        for key in self._keys:
            read = Read(key)
            result = await insist(lambda read=read: self._do(client, read))  # type: ignore[misc]
            self.history.done(self.history.call(client.name, read), Outcome.OK, result)

    def check(self) -> list[Anomaly]:
        return check_linearizable(self.history.events)


async def _in_transaction(txn: Txn, action: Action, locking: bool) -> Result:
    """An empty value stands for a deleted one. A write is blind, with a lock or without."""
    if isinstance(action, Read):
        return await txn.get(action.key) or None
    if isinstance(action, Write):
        txn.put(action.key, action.value or b"")
        return None
    held = await (txn.get_for_update if locking else txn.get)(action.key) or None
    if held != action.expected:
        return False
    txn.put(action.key, action.value)
    return True
