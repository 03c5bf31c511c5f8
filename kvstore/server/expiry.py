"""Removing raw values whose time is over, in the files of this store (TiKV does it in a compaction filter).

Nobody sees them any more, so each replica may drop them when it likes. That is done beside the log, between two steps
of the loop: through the log, a delete could come behind a newer value that is on its way.
"""

from __future__ import annotations

import asyncio

from kvstore.engine.api import CF_DEFAULT, Engine
from kvstore.errors import DiskFull
from kvstore.mvcc.keys import DATA_END, DATA_PREFIX
from kvstore.server.errors import Refused
from kvstore.server.raw import Values
from kvstore.server.scheduler import breathe

POLL_S = 3600.0
STEP_PAIRS = 1024


class ExpiryWorker:
    """Runs until it is cancelled; only for stores whose raw values expire."""

    def __init__(self, engine: Engine, values: Values, poll_s: float = POLL_S) -> None:
        self._engine = engine
        self._values = values
        self._poll_s = poll_s

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self.sweep()
            except DiskFull:
                continue

    async def sweep(self) -> int:
        """Goes over all raw values once; returns how many went."""
        low, removed = DATA_PREFIX, 0
        while True:
            scanner = self._engine.scanner(CF_DEFAULT, low, DATA_END)
            try:
                flat = scanner.take(STEP_PAIRS)
            finally:
                scanner.release()
            removed += self._drop(flat)
            if len(flat) < 2 * STEP_PAIRS:
                return removed
            low = flat[-2] + b"\0"
            await breathe()

    def _drop(self, flat: list[bytes]) -> int:
        expired = [key for key, stored in zip(flat[::2], flat[1::2], strict=True) if self._has_expired(stored)]
        if expired:
            batch, handle = self._engine.batch(), self._engine.handle(CF_DEFAULT)
            for key in expired:
                batch.delete(key, handle)
            self._engine.write(batch)
        return len(expired)

    def _has_expired(self, stored: bytes) -> bool:
        try:
            return self._values.decode(stored) is None
        except Refused:  # a value of another mode: nobody can tell
            return False
