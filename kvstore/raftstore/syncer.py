"""How `engine.sync` is awaited: on a thread in production, at once where nothing is to be waited for."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from kvstore.engine.api import Engine


class ThreadSyncer:
    """Syncs on one thread of its own, while the loop goes on."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, "engine-sync")

    async def sync(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.sync)

    def close(self) -> None:
        self._thread.shutdown()


class InlineSyncer:
    """Syncs in the loop: for engines in memory."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def sync(self) -> None:
        self._engine.sync()
        await asyncio.sleep(0)
