"""Runs transaction commands over a region store: latches, leave to read, the command, one replicated write.

The latches of a command are held until the outcome of its write is known, so that the next command on a key reads what
this one wrote. A caller that goes away must not end that: the service runs commands in tasks of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from kvstore.mvcc.reader import MvccReader
from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.raftstore.api import RegionStore
from kvstore.server.access import check_deadline, check_keys, grant
from kvstore.server.latches import Latches
from kvstore.txn.changes import Changes
from kvstore.txn.commands import Command

R = TypeVar("R")
Released = Callable[[Sequence[tuple[bytes, int]]], None]


class Scheduler:
    """Executes commands of one store on one loop."""

    def __init__(self, store: RegionStore) -> None:
        self._store = store
        self._latches = Latches()
        self._reader = MvccReader(store.engine)
        self.on_released: Released = lambda released: None
        """Told of the locks that went, as (key, start_ts), once that is applied."""

    async def run(self, context: Context, command: Command[R], deadline: float) -> R:
        """Runs a command to its end: applied when it returns.

        Raises RegionError and what the command raises; then nothing was written, but for an undetermined RegionError.
        """
        keys = sorted(set(command.keys()))
        if not self._latches.try_acquire(keys):
            await self._latches.acquire(keys)
        changes = Changes()
        try:
            check_deadline(deadline)
            granted = await grant(self._store, context, deadline)
            check_keys(self._store, granted.region, keys)
            result = command.run(self._reader.refresh(), changes)
            if changes.entries:
                await self._store.write(context, changes.entries, term=granted.term)
        finally:
            self._latches.release(keys)
        if changes.released:
            self.on_released(changes.released)
        return result

    async def exclusively(self, keys: Sequence[bytes], deadline: float) -> Exclusive:
        """Latches keys that are no transaction's, for a compare-and-swap."""
        ordered = sorted(set(keys))
        if not self._latches.try_acquire(ordered):
            await self._latches.acquire(ordered)
        held = Exclusive(self._latches, ordered)
        try:
            check_deadline(deadline)
        except BaseException:
            held.release()
            raise
        return held

    def release_idle(self) -> None:
        """Drops iterators, which pin files and memory."""
        self._reader.close()


class Exclusive:
    """Latches held until `release`."""

    def __init__(self, latches: Latches, keys: list[bytes]) -> None:
        self._latches = latches
        self._keys = keys

    def __enter__(self) -> Exclusive:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        self._latches.release(self._keys)


async def breathe() -> None:
    """Lets others have the loop in the middle of long work."""
    await asyncio.sleep(0)
