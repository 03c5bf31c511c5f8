"""Latches: commands that touch the same keys run one after another, first come, first served."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Latches:
    """Exclusive per-key latches, taken all together in key order, so they cannot deadlock."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._queues: dict[bytes, deque[threading.Lock]] = {}

    @contextmanager
    def held(self, keys: Sequence[bytes]) -> Iterator[None]:
        """Holds the latches of `keys` inside the block."""
        ordered = sorted(set(keys))
        taken: list[bytes] = []
        try:
            for key in ordered:
                self._take(key)
                taken.append(key)
            yield
        finally:
            for key in taken:
                self._give(key)

    def _take(self, key: bytes) -> None:
        turn = threading.Lock()
        with self._mutex:
            queue = self._queues.setdefault(key, deque())
            queue.append(turn)
            if len(queue) > 1:
                turn.acquire()
        if turn.locked():
            turn.acquire()

    def _give(self, key: bytes) -> None:
        with self._mutex:
            queue = self._queues[key]
            queue.popleft()
            if queue:
                queue[0].release()
            else:
                del self._queues[key]
