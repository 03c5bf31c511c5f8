"""Work that nobody waits for: commits of secondaries, settling of locks. Drained when the client closes.

Whatever is left undone when such work fails is made good by the next one who meets the lock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from kvstore.errors import KvError
from kvstore.rpc.api import RpcError

T = TypeVar("T")
TASKS_MAX = 256
"""From so many tasks on callers wait for their own."""

_log = logging.getLogger(__name__)


class Stoppable(Protocol):
    """Something that runs on."""

    def stop(self) -> None: ...


class Background:
    """The tasks of one client."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._held: dict[Stoppable, None] = {}

    @property
    def has_room(self) -> bool:
        return len(self._tasks) < TASKS_MAX

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts `work`; waits for it when too much goes on already."""
        task = self.spawn(work)
        if len(self._tasks) > TASKS_MAX:
            await asyncio.gather(task, return_exceptions=True)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts `work`; its errors are logged."""
        task = asyncio.get_running_loop().create_task(_quietly(work))
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    def hold(self, one: Stoppable) -> None:
        """Notes something that runs until it is stopped, at the latest when the client closes."""
        self._held[one] = None

    def release(self, one: Stoppable) -> None:
        self._held.pop(one, None)

    async def close(self) -> None:
        """Stops what is held and waits for the rest."""
        for one in list(self._held):
            one.stop()
        await self.drain()

    async def drain(self) -> None:
        """Waits until nothing is left to do."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except (KvError, RpcError) as error:
        _log.info("left for whoever meets the locks: %s", error)


def shared(question: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task for several to wait for under `asyncio.shield`; it may fail when all of them have given up."""
    task = asyncio.get_running_loop().create_task(question)
    task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    return task
