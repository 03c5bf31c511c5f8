"""Threads, locks and time, as the SQL layer of a server uses them where it may wait for the store.

`OS_THREADS` are the machine's. A simulation has its own, in virtual time and one thread at a time, so that a run is the
same every time (`tests/sim/threads.py`). A lock that is never held across a call of the store may be a plain one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol


class Mutex(Protocol):
    """`threading.Lock`, or an RLock."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
    def release(self) -> None: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Condition(Protocol):
    """`threading.Condition` over a mutex of its own."""

    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def notify_all(self) -> None: ...


class Event(Protocol):
    """`threading.Event`."""

    def set(self) -> None: ...
    def clear(self) -> None: ...
    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class Joinable(Protocol):
    def join(self) -> None: ...


class Threads(Protocol):
    """Where threads, their locks and their time come from. Times are seconds."""

    def monotonic(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...
    def mutex(self) -> Mutex: ...
    def reentrant_mutex(self) -> Mutex: ...
    def condition(self) -> Condition: ...
    def event(self) -> Event: ...
    def start(self, name: str, main: Callable[[], None]) -> Joinable:
        """Starts a daemon thread."""


class _OsThreads:
    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def mutex(self) -> Mutex:
        return threading.Lock()

    def reentrant_mutex(self) -> Mutex:
        return threading.RLock()

    def condition(self) -> Condition:
        return threading.Condition()

    def event(self) -> Event:
        return threading.Event()

    def start(self, name: str, main: Callable[[], None]) -> Joinable:
        thread = threading.Thread(target=main, name=name, daemon=True)
        thread.start()
        return thread


OS_THREADS: Threads = _OsThreads()
