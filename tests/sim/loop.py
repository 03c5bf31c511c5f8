"""An event loop in virtual time: what is ready runs in order, then the clock jumps to the next timer.

Nothing sleeps and nothing is read from outside, so a program that draws its randomness from a seed runs the same way
every time. When nothing is ready and no timer is left, whoever still waits would wait for ever: `Stuck`.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import selectors
import traceback
import weakref
from asyncio import events
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

STEPS_MAX_WITHOUT_TIME = 1_000_000
"""So many rounds of ready callbacks at one and the same time are a loop that never waits."""


class Stuck(Exception):
    """The simulated program cannot go on: a deadlock, or a loop that never lets time pass."""


class _NoSelector(selectors.BaseSelector):
    """Takes registrations (asyncio makes one for waking itself up) and never reports anything."""

    def __init__(self) -> None:
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, 0, events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class _Task(asyncio.Task[Any]):
    """A task that tells its context."""

    def __init__(self, coroutine: Any, *, context: contextvars.Context, **options: Any) -> None:
        self.context = context
        super().__init__(coroutine, context=context, **options)


class SimLoop(asyncio.SelectorEventLoop):
    """See the module. `dead` tells of a timer's context whether the machine that set it is no more."""

    def __init__(self, dead: Callable[[contextvars.Context], bool] | None = None) -> None:
        self._now = 0.0
        super().__init__(_NoSelector())
        self._orders = itertools.count()
        self._dead = dead
        self._rounds = 0
        self.failures: list[str] = []
        """What ended with an exception that nobody took, in machines that live."""
        self.set_exception_handler(self._note)
        self._tasks: weakref.WeakKeyDictionary[asyncio.Task[Any], contextvars.Context]
        self._tasks = weakref.WeakKeyDictionary()
        self.set_task_factory(self._make_task)
        self._ready: Any
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        """A heap; of those for the same time the first made comes first."""
        self._stopping: bool
        self._timer_cancelled_count: int

    def _make_task(self, loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        context = options.pop("context", None)
        if context is None:
            context = contextvars.copy_context()
        task: asyncio.Task[Any] = _Task(coroutine, loop=loop, context=context, **options)
        self._tasks[task] = context
        return task

    def _note(self, loop: Any, report: dict[str, Any]) -> None:
        task = report.get("task") or report.get("future")
        if isinstance(task, _Task) and self._dead is not None and self._dead(task.context):
            return
        error = report.get("exception")
        trace = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
        self.failures.append(f"at {self._now:.3f} s: {report.get('message')} {task}\n{trace}")

    def tasks(self, belongs: Callable[[contextvars.Context], bool] | None = None) -> list[asyncio.Task[Any]]:
        """The tasks that are not done, in the order in which they were made; those whose context `belongs`."""
        pairs = list(self._tasks.items())
        return [task for task, context in pairs if not task.done() and (belongs is None or belongs(context))]

    def time(self) -> float:
        return self._now

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._orders), timer))
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        raise AssertionError(f"{func!r} would run in a thread: threads do not belong in a simulation")

    def _run_once(self) -> None:
        """One round: the callbacks that are ready now, or else those of the next timers. (asyncio's own hook.)"""
        if self._ready or self._stopping:
            self._rounds += 1
            if self._rounds > STEPS_MAX_WITHOUT_TIME:
                raise Stuck(f"{self._rounds} rounds at {self._now} s: something never waits")
        else:
            self._rounds = 0
            self._jump()
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()

    def _jump(self) -> None:
        """Moves the clock to the next timer and makes all timers of that time ready."""
        timers, dead = self._timers, self._dead
        due: float | None = None
        while timers and (due is None or timers[0][0] <= due):
            when, _, timer = heapq.heappop(timers)
            timer._scheduled = False  # type: ignore[attr-defined]
            if timer.cancelled():
                self._timer_cancelled_count -= 1
            elif dead is None or not dead(timer._context):  # type: ignore[attr-defined]
                self._ready.append(timer)
                due = max(when, self._now)
        if due is None:
            raise Stuck(f"at {self._now} s nothing is ready and no timer is left")
        self._now = due


def run_simulated(main: Coroutine[Any, Any, T], loop: SimLoop | None = None) -> T:
    """Runs `main` in a virtual-time loop and returns its result; what else still runs is cancelled."""
    loop = loop or SimLoop()
    previous = events._get_running_loop()
    assert previous is None, "a simulation runs in no other loop"
    try:
        return loop.run_until_complete(main)
    finally:
        try:
            _cancel_all(loop)
        finally:
            loop.close()


def _cancel_all(loop: SimLoop) -> None:
    tasks = loop.tasks()
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
