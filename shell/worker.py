"""One thread that makes all calls of one connection, so that the main thread stays free to hear Ctrl-C.

Python runs signal handlers in the main thread only, and not while it is inside a native call. With the statement in
another thread the handler runs at once and can ask the connection to stop it. The thread is a daemon: a statement that
cannot be stopped does not keep the process alive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_Reply = SimpleQueue[tuple[Any, BaseException | None]]


class ThreadClosed(Exception):
    """The connection behind the thread has been closed."""


class StatementThread:
    """Runs calls one after another, in the order they came."""

    def __init__(self) -> None:
        self._closed = False
        self._closing = threading.Lock()  # nothing is queued behind the end: its caller would wait for ever
        self._calls: SimpleQueue[tuple[Callable[[], Any], _Reply] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="sqlfront-shell-statement", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], T]) -> T:
        """Runs the function in the thread and returns, or raises, what it does."""
        reply: _Reply = SimpleQueue()
        with self._closing:
            if self._closed:
                raise ThreadClosed
            self._calls.put((function, reply))
        value, error = reply.get()
        if error is not None:
            raise error
        result: T = value
        return result

    def close(self) -> None:
        """Ends the thread after what it still has to do."""
        with self._closing:
            self._closed = True
            self._calls.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (item := self._calls.get()) is not None:
            function, reply = item
            try:
                reply.put((function(), None))
            except BaseException as error:  # noqa: BLE001 - handed to the caller, who raises it
                reply.put((None, error))
            del item, function, reply
