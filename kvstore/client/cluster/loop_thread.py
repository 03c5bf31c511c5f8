"""An event loop on a thread of its own, and the way of other threads into it.

The cluster's client lives on one loop; SQL sessions are ordinary threads. A call hands a coroutine over and waits for
its end: one wake-up of the loop and one of the caller, some fifty microseconds.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack
from typing import Any, Generic, TypeVar

from kvstore.client.api import CancelToken
from kvstore.errors import Cancelled, StoreClosed, StoreError

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for any number of threads until it is closed."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._closed = False
        self._pid = os.getpid()
        self._spawned: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()  # whoever waits for it is told that the store is closed
            if left:
                self._loop.run_until_complete(asyncio.wait(left))
            self._loop.close()

    def time(self) -> float:
        """The loop's clock, in seconds."""
        return self._loop.time()

    def run(self, work: Awaitable[T], cancel: CancelToken | None = None, *, to_its_end: bool = False) -> T:
        """Returns what `work` returns, or raises what it raises.

        When `cancel` is set the work is cancelled and Cancelled raised. An interrupt of the waiting thread
        (KeyboardInterrupt) cancels the work too, or is raised after it has come `to_its_end`. Raises StoreClosed.
        """
        if self._closed or self._pid != os.getpid():
            _drop(work)
            why = "the store is closed" if self._closed else "a connection to a cluster cannot be used after a fork"
            raise StoreClosed(why) if self._closed else StoreError(why)
        if threading.current_thread() is self._thread:
            _drop(work)
            raise AssertionError("the loop cannot wait for itself")
        call = _Call(work)
        with ExitStack() as stack:
            self._post(call.start, work)
            if cancel is not None:
                stack.callback(cancel.on_set(lambda: self._post(call.cancel)))
            try:
                call.done.acquire()
            except BaseException:
                if not to_its_end:
                    self._post(call.cancel)
                call.done.acquire()
                raise
        return call.outcome()

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Starts `work` without waiting for it; any thread, garbage collection included, may call this."""
        if self._closed or self._pid != os.getpid():
            work.close()
            return
        self._post(lambda: self._keep(work), work)

    def _keep(self, work: Coroutine[Any, Any, object]) -> None:
        task = self._loop.create_task(work)
        self._spawned.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._spawned.discard(task)
        if not task.cancelled():
            task.exception()  # whose work it was is gone: there is nobody to tell

    def _post(self, call: Callable[[], None], work: Awaitable[Any] | None = None) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            if work is None:
                return
            _drop(work)
            raise StoreClosed("the store is closed") from None

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Runs `last`, then ends the loop; harmless when it is closed."""
        if self._closed or self._pid != os.getpid():
            last.close()
            return
        try:
            self.run(last, to_its_end=True)
        finally:
            self._closed = True
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()


def _drop(work: Awaitable[Any]) -> None:
    """Ends work that never began, so that nobody warns of it."""
    if asyncio.iscoroutine(work):
        work.close()


class _Call(Generic[T]):
    """One coroutine on its way through the loop; `done` is free when it is over."""

    __slots__ = ("_cancelled", "_error", "_result", "_task", "_work", "done")

    def __init__(self, work: Awaitable[T]) -> None:
        self.done = threading.Lock()
        self.done.acquire()
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._result: T | None = None
        self._error: BaseException | None = None
        self._cancelled = False

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._go())
        self._task.add_done_callback(self._never_began)

    def _never_began(self, task: asyncio.Task[None]) -> None:
        """A task that is cancelled before its first step runs nothing of `_go`, whose end is never cancelled."""
        if task.cancelled():
            _drop(self._work)
            self._error = asyncio.CancelledError()
            self.done.release()

    async def _go(self) -> None:
        try:
            self._result = await self._work
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits
            self._error = error
        finally:
            self.done.release()

    def cancel(self) -> None:
        if self._task is not None and not self._task.done():
            self._cancelled = True
            self._task.cancel()

    def outcome(self) -> T:
        error = self._error
        if error is None:
            return self._result  # type: ignore[return-value]
        self._error = None
        if isinstance(error, asyncio.CancelledError):
            raise (Cancelled() if self._cancelled else StoreClosed("the store is closed")) from None
        try:
            raise error
        finally:
            del error  # the traceback holds this frame
