"""Runs transaction commands over a region store: latches, leave to read, the command, one replicated write.

Pessimistic locks stay in memory where they can (memory_locks.py): a command that only puts such locks writes nothing.

The latches of a command are held until the outcome of its write is known, so that the next command on a key reads what
this one wrote. A caller that goes away must not end that: the service runs commands in tasks of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar

from kvstore.engine.api import CF_LOCK
from kvstore.failpoint import fail_point_async
from kvstore.histogram import Durations, Row
from kvstore.mvcc.keys import data_key
from kvstore.mvcc.reader import MvccReader
from kvstore.ops.metrics import type_name
from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.proto.metapb_pb2 import Peer, Region
from kvstore.raftstore.api import Entry, Grant, RegionError, RegionStore
from kvstore.server.access import check_count, check_keys, grant
from kvstore.server.errors import deadline_exceeded
from kvstore.server.latches import Latches
from kvstore.server.memory_locks import MemoryLocks, all_pessimistic
from kvstore.txn.changes import Changes
from kvstore.txn.commands import Command

R = TypeVar("R")
HAND_OVER_S = 5.0
"""How long a region that is going to change waits for its locks to be written."""
_log = logging.getLogger(__name__)
_NAMES = {
    "GuardedPrewrite": "prewrite",
    "LockOrQueue": "acquire_pessimistic_lock",
    "HeartBeat": "txn_heart_beat",
}
"""TiKV's label where it isn't the command's name."""
Released = Callable[[Sequence[tuple[bytes, int]]], None]


class Scheduler:
    """Executes commands of one store on one loop."""

    def __init__(self, store: RegionStore, memory: MemoryLocks) -> None:
        self._store = store
        self._memory = memory
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
            reader = self._reader.refresh()
            reader.in_memory = self._memory.of(granted.region.id, granted.term)
            result = command.run(reader, changes)
            if changes.entries and not self._stays_in_memory(granted, changes):
                await self._write(context, granted, changes)
        finally:
            self.running -= 1
            self._latches.release(keys)
            self.durations.observe(self._row(type(command)), now() - begun)
        if changes.released:
            self.on_released(changes.released)
        return result

    def _stays_in_memory(self, granted: Grant, changes: Changes) -> bool:
        """Takes the locks of a command that does nothing else, unless it changes one that is in the engine."""
        locks = changes.locked
        if len(locks) != len(changes.entries) or not all_pessimistic(locks):
            return False
        known, engine = self._reader.in_memory, self._store.engine
        if any(key not in known and engine.get(CF_LOCK, data_key(key)) is not None for key in locks):
            return False
        return self._memory.take(granted.region.id, granted.term, locks, asyncio.get_running_loop().time())

    async def _write(self, context: Context, granted: Grant, changes: Changes) -> None:
        """Replicates and applies the changes; what they do to locks in memory is done then. Raises RegionError."""
        entries: Sequence[Entry] = changes.entries
        touched: Collection[bytes] = ()
        if known := self._reader.in_memory:
            gone = {key for key, _ in changes.released if key in known}
            touched = [*gone, *(key for key in changes.locked if key in known)]
            deletes = {data_key(key) for key in gone}
            entries = [entry for entry in entries if not _deletes_lock(entry, deletes)]
        await fail_point_async("scheduler::before_write")
        await self._replace(context, granted, entries, touched)
        await fail_point_async("scheduler::after_write")

    async def _replace(
        self, context: Context, granted: Grant, entries: Sequence[Entry], in_memory: Collection[bytes]
    ) -> None:
        """Writes what takes the place of locks in memory; they stay if nothing was written. Raises RegionError."""
        try:
            if entries:
                await self._store.write(context, entries, term=granted.term)
        except RegionError as error:
            if not error.undetermined:
                in_memory = ()
            raise
        finally:
            self._memory.forget(granted.region.id, in_memory)

    async def hand_over(self, region: Region, peer: Peer) -> None:
        """Writes the region's locks in memory to the log, and takes no more there for a while: the region is going to
        have another leader or other bounds. What cannot be written in time is left to be lost."""
        now = asyncio.get_running_loop().time()
        keys = self._memory.pause(region.id, now)
        if not keys:
            return
        context = Context(region_id=region.id, region_epoch=region.region_epoch, peer=peer)

        async def write() -> None:
            granted = await grant(self._store, context, now + HAND_OVER_S)
            known = self._memory.of(region.id, granted.term)
            changes = Changes()
            for key in keys:
                if key in known:
                    changes.put_lock(key, known[key])
            await self._replace(context, granted, changes.entries, changes.locked)

        try:
            await self.in_turn(keys, now + HAND_OVER_S, write)
        except RegionError as error:
            _log.info("%d locks of region %d are not handed over: %s", len(keys), region.id, error)

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
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # who waited for it may be gone

    async def _in_turn(self, keys: Sequence[bytes], deadline: float, work: Callable[[], Awaitable[R]]) -> R:
        await self._acquire(keys, deadline)
        try:
            return await work()
        finally:
            self._latches.release(keys)

    def release_idle(self) -> None:
        """Drops iterators, which pin files and memory."""
        self._reader.close()


def _deletes_lock(entry: Entry, keys: Collection[bytes]) -> bool:
    cf, key, value = entry
    return cf == CF_LOCK and value is None and key in keys


async def breathe() -> None:
    """Lets others have the loop in the middle of long work."""
    await asyncio.sleep(0)
