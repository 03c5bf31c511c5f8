"""Runs commands: latches, one reader, one atomic write, and waits for pessimistic locks.

A command that meets another transaction's lock and may wait queues on the key, without latches, and tries again when
the lock goes. What a command raises leaves no trace.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import TypeVar

from kvstore.engine.api import Engine
from kvstore.errors import KeyIsLocked, LockWaitTimeout
from kvstore.mvcc.reader import MvccReader
from kvstore.txn.actions.acquire_pessimistic_lock import LockedKey
from kvstore.txn.changes import Changes
from kvstore.txn.commands import AcquirePessimisticLock, Command
from kvstore.txn.deadlock import WaitForGraph
from kvstore.txn.latch import Latches

R = TypeVar("R")


class Scheduler:
    """Executes transaction commands on one engine; safe to call from any thread."""

    def __init__(self, engine: Engine, *, synchronous: bool = True) -> None:
        self._engine = engine
        self._synchronous = synchronous
        self._latches = Latches()
        self._changed = threading.Condition()
        self._graph = WaitForGraph()
        self._releases = 0

    def run(self, command: Command[R]) -> R:
        """Runs a command to its end; durable when it returns. Raises what its actions raise."""
        changes = Changes()
        with self._latches.held(command.keys()):
            with MvccReader(self._engine) as reader:
                result = command.run(reader, changes)
            if changes.entries:
                self._engine.write(changes.batch(self._engine))
        if changes.entries:
            self._engine.sync() if self._synchronous else self._engine.hand_over()
        self._wake(start_ts for _, start_ts in changes.released)
        return result

    def lock(self, command: AcquirePessimisticLock, wait_ms: int) -> list[LockedKey]:
        """Runs a pessimistic lock request, waiting up to `wait_ms` for locks of others (0: KeyIsLocked at once).

        Raises Deadlock for the requester that closes a cycle, LockWaitTimeout, and what the command raises.
        """
        deadline = time.monotonic() + wait_ms / 1000
        while True:
            seen = self._releases
            try:
                return self.run(command)
            except KeyIsLocked as locked:
                if wait_ms <= 0:
                    raise
                self._wait(command.props.start_ts, locked, seen, deadline, wait_ms)

    def _wait(self, waiter: int, locked: KeyIsLocked, seen: int, deadline: float, wait_ms: int) -> None:
        with self._changed:
            self._graph.wait(waiter, locked.lock_start_ts, locked.key)
            try:
                while self._releases == seen:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise LockWaitTimeout(locked.key, wait_ms)
                    self._changed.wait(left)
            finally:
                self._graph.stop_waiting(waiter, locked.lock_start_ts)

    def _wake(self, released: Iterable[int]) -> None:
        if any(True for _ in released):
            with self._changed:
                self._releases += 1
                self._changed.notify_all()
