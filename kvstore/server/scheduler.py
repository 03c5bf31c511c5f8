"""Runs transaction commands over a region store: latches, leave to read, the command, one replicated write.

The latches of a command are held until the outcome of its write is known, so that the next command on a key reads what
this one wrote. A caller that goes away must not end that: the service runs commands in tasks of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from kvstore.failpoint import fail_point_async
from kvstore.histogram import Durations, Row
from kvstore.mvcc.reader import MvccReader
from kvstore.ops.metrics import type_name
from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.raftstore.api import RegionStore
from kvstore.server.access import check_count, check_keys, grant
from kvstore.server.errors import deadline_exceeded
from kvstore.server.latches import Latches
from kvstore.txn.changes import Changes
from kvstore.txn.commands import Command

R = TypeVar("R")
_NAMES = {
    "GuardedPrewrite": "prewrite",
    "LockOrQueue": "acquire_pessimistic_lock",
    "HeartBeat": "txn_heart_beat",
}
"""TiKV's label where it isn't the command's name."""
Released = Callable[[Sequence[tuple[bytes, int]]], None]


class Scheduler:
    """Executes commands of one store on one loop."""

    def __init__(self, store: RegionStore) -> None:
        self._store = store
        self._latches = Latches()
        self._reader = MvccReader(store.engine)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.running = self.latch_waits = 0
        self.durations = Durations(
            "tikv_scheduler_command_duration_seconds", "Commands of transactions, from the latch to the applied write."
        )
        self._rows: dict[type, Row] = {}
        self.on_released: Released = lambda released: None
        """Told of the locks that went, as (key, start_ts), once that is applied."""

    async def run(self, context: Context, command: Command[R], deadline: float) -> R:
        """Runs a command to its end: applied when it returns.

        Raises Refused for too many keys, RegionError, and what the command raises; then nothing was written, but for an
        undetermined RegionError.
        """
        wanted = command.keys()
        check_count(wanted)
        now = asyncio.get_running_loop().time
        begun = now()
        keys = sorted(set(wanted))
        changes = Changes()
        await fail_point_async("scheduler::before_latch")
        await self._acquire(keys, deadline)
        self.running += 1
        try:
            granted = await grant(self._store, context, deadline)
            check_keys(self._store, granted.region, keys)
            result = command.run(self._reader.refresh(), changes)
            if changes.entries:
                await fail_point_async("scheduler::before_write")
                await self._store.write(context, changes.entries, term=granted.term)
                await fail_point_async("scheduler::after_write")
        finally:
            self.running -= 1
            self._latches.release(keys)
            self.durations.observe(self._row(type(command)), now() - begun)
        if changes.released:
            self.on_released(changes.released)
        return result

    def _row(self, command: type) -> Row:
        row = self._rows.get(command)
        if row is None:
            name = command.__name__
            row = self._rows[command] = self.durations.row(_NAMES.get(name) or type_name(name))
        return row

    async def _acquire(self, keys: Sequence[bytes], deadline: float) -> None:
        """Takes the latches of distinct, sorted keys before the deadline. Raises RegionError."""
        if not self._latches.try_acquire(keys):
            self.latch_waits += 1
            try:
                async with asyncio.timeout_at(deadline):
                    await self._latches.acquire(keys)
            except TimeoutError:
                raise deadline_exceeded() from None

    async def in_turn(self, keys: Sequence[bytes], deadline: float, work: Callable[[], Awaitable[R]]) -> R:
        """Runs work with the keys latched, to its end even if the caller goes away."""
        task = asyncio.ensure_future(self._in_turn(sorted(set(keys)), deadline, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _in_turn(self, keys: Sequence[bytes], deadline: float, work: Callable[[], Awaitable[R]]) -> R:
        await self._acquire(keys, deadline)
        try:
            return await work()
        finally:
            self._latches.release(keys)

    def release_idle(self) -> None:
        """Drops iterators, which pin files and memory."""
        self._reader.close()


async def breathe() -> None:
    """Lets others have the loop in the middle of long work."""
    await asyncio.sleep(0)
