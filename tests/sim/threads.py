"""Threads of simulated processes: at any time exactly one of them runs, or the loop, and time is the loop's.

A thread that waits (for a coroutine, a lock, some seconds) says so and hands over to the loop, which goes on with
whatever is next in virtual time and hands back when the wait is over. So synchronous code runs over simulated machines,
the same way every time. When its process ends, a thread's wait raises `Killed`, and so does every further one: what
unwinds does nothing that anybody could see.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from kvstore.client.api import CancelToken
from kvstore.client.cluster.loop_thread import LoopThread
from kvstore.errors import Cancelled
from tests.sim.machine import Life
from tests.sim.world import World

T = TypeVar("T")
Wake = Callable[[], None]
Request = Callable[[Wake], None]
"""What a waiting thread asks of the loop; it calls `Wake` when the thread may go on."""


class Killed(BaseException):
    """The process of this thread has ended."""


class SimThread:
    """One thread of a life."""

    def __init__(self, crew: Crew, name: str, main: Callable[[], None]) -> None:
        self.name = name
        self.over = asyncio.Event()
        self._crew = crew
        self._main = main
        self._turn = threading.Semaphore(0)
        self._request: Request | None = None
        self._waits = 0
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Called by whoever has the turn; the thread gets its own when the loop comes to it."""
        self._thread.start()
        self._crew.loop.call_soon(self.give_turn, context=self._crew.context)

    def _run(self) -> None:
        self._turn.acquire()
        try:
            if not self._crew.has_ended:
                self._main()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 whatever it is, the run reports it
            self._crew.world.fail(error, f"thread {self.name}")
        finally:
            self._is_over = True
            self._crew.loop_turn.release()

    def give_turn(self) -> None:
        """On the loop: lets the thread run until it waits or ends."""
        if self._is_over:
            return
        crew = self._crew
        crew.running = self
        self._turn.release()
        crew.loop_turn.acquire()
        crew.running = None
        if self._is_over:
            self.over.set()
            return
        request, self._request = self._request, None
        assert request is not None
        number = self._waits
        request(lambda: self._wake(number))

    def _wake(self, number: int) -> None:
        """The wait of that number is over; further calls are of no effect."""
        if number == self._waits and not self._is_over:
            self._waits += 1
            self._crew.give_turn_soon(self)

    def wait(self, request: Request) -> None:
        """On the thread: waits until what `request` asks for wakes it. Raises Killed."""
        if self._crew.has_ended:
            raise Killed
        self._request = request
        self._crew.loop_turn.release()
        self._turn.acquire()
        if self._crew.has_ended:
            raise Killed

    def kill(self) -> None:
        """On the loop, when the process has ended: whatever it waits for, it goes on now, to its end."""
        self._wake(self._waits)


class Crew:
    """The threads of one life: see `sqlfront.threads.Threads`."""

    def __init__(self, world: World, life: Life, rng: random.Random, jitter_s: float = 0.0) -> None:
        """A thread that may go on does so after about `jitter_s`."""
        self.world = world
        self.life = life
        self.loop = world.loop
        self.context = world.network.context  # of no life: the last turns come after its end
        self.loop_turn = threading.Semaphore(0)
        self.running: SimThread | None = None
        self.stalled_until = 0.0
        """No thread goes on before."""
        self._rng = rng
        self._jitter_s = jitter_s
        self._threads: list[SimThread] = []
        self._is_closed = False
        life.spawn(self._watch())

    @property
    def has_ended(self) -> bool:
        return self._is_closed or self.life.ended

    async def _watch(self) -> None:
        """Ends the threads with the life, whose tasks are all cancelled then."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._is_closed = True
            for thread in self._threads:
                thread.kill()

    def give_turn_soon(self, thread: SimThread) -> None:
        delay = self._rng.expovariate(1 / self._jitter_s) if self._jitter_s else 0.0
        delay += max(self.stalled_until - self.loop.time(), 0.0)
        if self.has_ended or not delay:
            self.loop.call_soon(thread.give_turn, context=self.context)
        else:
            self.loop.call_later(delay, self._after_stall, thread, context=self.context)

    def _after_stall(self, thread: SimThread) -> None:
        left = self.stalled_until - self.loop.time()
        if left > 0 and not self.has_ended:
            self.loop.call_later(left, self._after_stall, thread, context=self.context)
        else:
            thread.give_turn()

    def current(self) -> SimThread:
        assert self.running is not None, "only a thread of this process can wait"
        return self.running

    # `Threads`

    def start(self, name: str, main: Callable[[], None]) -> SimJoin:
        thread = SimThread(self, f"{self.life.name}/{name}", main)
        self._threads.append(thread)
        thread.start()
        return SimJoin(self, thread)

    def monotonic(self) -> float:
        return self.loop.time()

    def sleep(self, seconds: float) -> None:
        self.current().wait(lambda wake: self.after(seconds, wake))

    def after(self, seconds: float, wake: Wake) -> None:
        self.loop.call_later(max(seconds, 0.0), wake, context=self.context)

    def mutex(self) -> SimMutex:
        return SimMutex(self, is_reentrant=False)

    def reentrant_mutex(self) -> SimMutex:
        return SimMutex(self, is_reentrant=True)

    def condition(self) -> SimCondition:
        return SimCondition(self)

    def event(self) -> SimEvent:
        return SimEvent(self)


class SimJoin:
    """Waits for the end of a thread."""

    def __init__(self, crew: Crew, thread: SimThread) -> None:
        self._crew = crew
        self.thread = thread

    def join(self) -> None:
        async def joined() -> None:
            await self.thread.over.wait()

        SimLoopThread(self._crew).run(joined())


class _Waiters:
    """Threads that wait for the same thing."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._waiting: deque[Wake] = deque()

    def wait(self, timeout: float | None) -> None:
        """Until woken, or `timeout` seconds."""
        mine: list[Wake] = []

        def request(wake: Wake) -> None:
            mine.append(wake)
            self._waiting.append(wake)
            if timeout is not None:
                self._crew.after(timeout, wake)

        try:
            self._crew.current().wait(request)
        finally:
            for wake in mine:
                if wake in self._waiting:
                    self._waiting.remove(wake)

    def wake_one(self) -> None:
        if self._waiting:
            self._waiting.popleft()()

    def wake_all(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for wake in waiting:
            wake()


class SimMutex:
    """A lock of simulated threads."""

    def __init__(self, crew: Crew, *, is_reentrant: bool) -> None:
        self._crew = crew
        self._is_reentrant = is_reentrant
        self._owner: SimThread | None = None
        self._depth = 0
        self._waiters = _Waiters(crew)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = self._crew.current()
        until = None if timeout < 0 else self._crew.monotonic() + timeout
        while self._owner is not None and not (self._is_reentrant and self._owner is me):
            left = None if until is None else until - self._crew.monotonic()
            if not blocking or (left is not None and left <= 0):
                return False
            self._waiters.wait(left)
        self._owner = me
        self._depth += 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
            self._waiters.wake_one()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class SimCondition:
    """A condition over a mutex of its own."""

    def __init__(self, crew: Crew) -> None:
        self._mutex = crew.mutex()
        self._waiters = _Waiters(crew)
        self._woken = 0

    def __enter__(self) -> bool:
        return self._mutex.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mutex.release()

    def wait(self, timeout: float | None = None) -> bool:
        before = self._woken
        self._mutex.release()
        try:
            self._waiters.wait(timeout)
        finally:
            self._mutex.acquire()
        return self._woken != before

    def notify_all(self) -> None:
        self._woken += 1
        self._waiters.wake_all()


class SimEvent:
    """An event of simulated threads; it may also be set from the loop."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._waiters = _Waiters(crew)
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        self._waiters.wake_all()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            self._waiters.wait(timeout)
        return self._is_set


class SimLoopThread(LoopThread):
    """`LoopThread` for the threads of a crew: the loop is the simulation's, and what runs on it is the life's."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def time(self) -> float:
        return self._crew.loop.time()

    def run(self, work: Awaitable[T], cancel: CancelToken | None = None, *, to_its_end: bool = False) -> T:
        tasks: list[asyncio.Task[T]] = []

        async def result() -> T:
            return await work

        def request(wake: Wake) -> None:
            task = self._crew.life.spawn(result())
            tasks.append(task)
            task.add_done_callback(lambda _: wake(), context=self._crew.context)

        try:
            self._crew.current().wait(request)
        except Killed:
            if not tasks and asyncio.iscoroutine(work):
                work.close()
            raise
        try:
            return tasks[0].result()
        except asyncio.CancelledError:
            raise Cancelled from None

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        if self._crew.has_ended:
            work.close()
            return
        task = self._crew.life.spawn(work)
        task.add_done_callback(lambda done: done.cancelled() or done.exception(), context=self._crew.context)

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        self.run(last, to_its_end=True)
