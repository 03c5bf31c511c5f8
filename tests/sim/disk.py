"""Simulated disks: an engine in memory whose unsynced writes a crash may lose.

What survives the loss of power is what was synced, and of the batches written since a random prefix; what survives a
killed process is a prefix that holds at least what was handed over. That is what `kvstore.engine.api.Engine.write`
promises, at its worst.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kvstore.engine.api import COLUMN_FAMILIES, Batch
from kvstore.engine.memory import MemoryBatch, MemoryEngine, MemoryFamily, MemoryFileWriter
from kvstore.engine.staged import MemoryFiles
from kvstore.errors import DiskFull, StoreClosed

_Change = tuple[str, bytes, bytes | None, bytes | None]


@dataclass(frozen=True, slots=True)
class _Image:
    """The families at one moment; `writes` is how many writes of this life it holds."""

    roots: dict[str, Any]
    writes: int


class SimDisk:
    """What a machine keeps over a crash, and how its disk behaves now."""

    def __init__(self, rng: random.Random, sync_s: Callable[[], float] | None = None) -> None:
        self._rng = rng
        self._durable = _Image({cf: MemoryFamily().share() for cf in COLUMN_FAMILIES}, 0)
        self._pending: list[list[_Change]] = []
        self._handed_over = 0
        self._engine: SimEngine | None = None
        self.sync_s: Callable[[], float] = sync_s or (lambda: 0.0)
        """How long the next sync takes, in virtual seconds."""
        self.full = False
        self.lost_writes = 0
        self.files: dict[str, MemoryFileWriter] = {}
        """Sorted files that wait to be taken over."""

    def open(self) -> SimEngine:
        """The engine on this disk; the one before must have crashed or been closed."""
        assert self._engine is None, "the disk has an owner"
        self._engine = SimEngine(self, self._durable.roots)
        return self._engine

    def image(self) -> _Image:
        assert self._engine is not None
        return _Image(self._engine.roots(), self._durable.writes + len(self._pending))

    def keep(self, image: _Image) -> None:
        """A sync that began when `image` was taken has ended."""
        if image.writes > self._durable.writes:
            del self._pending[: image.writes - self._durable.writes]
            self._durable = image

    def wrote(self, changes: list[_Change]) -> None:
        self._pending.append(changes)

    def hand_over(self) -> None:
        self._handed_over = self._durable.writes + len(self._pending)

    def close(self) -> None:
        """An orderly close loses nothing."""
        if self._engine is not None:
            self.keep(self.image())
            self._end_life()

    def crash(self, *, power: bool = True) -> None:
        """Takes the engine away; of what was not synced (`power`) or not handed over a random prefix stays."""
        if self._engine is None:
            return
        least = 0 if power else max(0, self._handed_over - self._durable.writes)
        survive = self._rng.randint(least, len(self._pending))
        self.lost_writes += len(self._pending) - survive
        families = _families_of(self._durable.roots)
        for changes in self._pending[:survive]:
            for cf, key, value, end in changes:
                if value is not None:
                    families[cf].put(key, value)
                elif end is None:
                    families[cf].delete(key)
                else:
                    families[cf].delete_range(key, end)
        self._durable = _Image({cf: family.share() for cf, family in families.items()}, 0)
        self._engine.crash()
        self._end_life()

    def _end_life(self) -> None:
        self._durable = _Image(self._durable.roots, 0)
        self._pending = []
        self._handed_over = 0
        self._engine = None


def _families_of(roots: dict[str, Any]) -> dict[str, MemoryFamily]:
    """Families that begin as `roots` and leave those as they are."""
    families = {cf: MemoryFamily() for cf in COLUMN_FAMILIES}
    for cf, family in families.items():
        family.root = roots[cf]
        family.generation = roots[cf].generation + 1
    return families


class SimEngine(MemoryEngine):
    """See the module. After a crash every call raises StoreClosed and changes nothing."""

    def __init__(self, disk: SimDisk, roots: dict[str, Any]) -> None:
        super().__init__()
        self._disk: SimDisk | None = disk
        self._families = _families_of(roots)
        self._names = {id(family): cf for cf, family in self._families.items()}
        self._staged = SimFiles(self, disk.files)

    def owned(self) -> SimDisk:
        """The disk; raises StoreClosed after a crash."""
        if self._disk is None:
            raise StoreClosed("the store is closed")
        return self._disk

    def roots(self) -> dict[str, Any]:
        return {cf: family.share() for cf, family in self._families.items()}

    def write(self, batch: Batch) -> None:
        disk = self.owned()
        assert isinstance(batch, MemoryBatch)
        if disk.full:
            raise DiskFull("no space left on the simulated disk")
        names = self._names
        disk.wrote([(names[id(family)], key, value, end) for family, key, value, end in batch.changes])
        super().write(batch)

    def hand_over(self) -> None:
        self.owned().hand_over()

    def sync(self) -> None:
        """Takes no time; production code awaits a Syncer, see `SimSyncer`."""
        disk = self.owned()
        if disk.full:
            raise DiskFull("no space left on the simulated disk")
        disk.keep(disk.image())

    def ingest(self, cf: str, files: Sequence[Any]) -> None:
        if self.owned().full:
            raise DiskFull("no space left on the simulated disk")
        batch = self.batch()
        for file in files:
            batch.put_all(zip(file.keys, file.values, strict=True), self.handle(cf))
        self.write(batch)
        self.sync()  # the real one empties its log first and is then durable itself

    def crash(self) -> None:
        self._disk = None
        super().close()

    def close(self) -> None:
        disk, self._disk = self._disk, None
        if disk is not None:
            disk.close()
        super().close()


class SimFiles(MemoryFiles):
    """Sorted files on a simulated disk."""

    def __init__(self, engine: SimEngine, kept: dict[str, MemoryFileWriter]) -> None:
        super().__init__(engine, kept)
        self._disk_of = engine.owned

    def keep(self, names: Sequence[str]) -> None:
        if self._disk_of().full:
            raise DiskFull("no space left on the simulated disk")
        super().keep(names)


class SimSyncer:
    """Awaits a sync that takes its time: what is written meanwhile is not in it."""

    def __init__(self, engine: SimEngine) -> None:
        self._engine = engine

    async def __call__(self) -> None:
        """Raises DiskFull, and StoreClosed when the machine crashed meanwhile."""
        disk = self._engine.owned()
        if disk.full:
            raise DiskFull("no space left on the simulated disk")
        image = disk.image()
        await asyncio.sleep(disk.sync_s())
        self._engine.owned().keep(image)
