"""Heartbeats of a running transaction: they prolong its primary lock, so that others do not take it for dead."""

from __future__ import annotations

import asyncio

from kvstore.client.cluster import commands
from kvstore.client.cluster.backoff import Backoff
from kvstore.client.cluster.parts import Parts
from kvstore.errors import KvError
from kvstore.proto import kvrpcpb_pb2 as kvrpcpb

MANAGED_TTL_MS = 20_000
"""What a heartbeat gives the lock, counted from now."""
INTERVAL_S = MANAGED_TTL_MS / 2000
LIFETIME_MAX_S = 3600.0
"""A transaction that runs longer is left to expire."""
HEARTBEAT_BUDGET_MS = 5_000


class KeepAlive:
    """Heartbeats from `start` until `stop`, or until the transaction turns out to be gone (`lost`)."""

    def __init__(self, parts: Parts, start_ts: int) -> None:
        self._parts = parts
        self._start_ts = start_ts
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.lost = False

    @property
    def elapsed_ms(self) -> int:
        """Since the transaction began."""
        return int((self._loop.time() - self._began) * 1000)

    def start(self, primary: bytes, ttl_ms: int) -> None:
        """The first heartbeat comes in time for a lock that was taken now with `ttl_ms`; harmless when started."""
        if self._timer is None:
            self._timer = self._loop.call_later(min(INTERVAL_S, ttl_ms / 2000), self._begin, primary)
            self._parts.background.hold(self)

    def _begin(self, primary: bytes) -> None:
        self._task = self._loop.create_task(self._run(primary))

    def stop(self) -> None:
        """Harmless when it is not running."""
        self._parts.background.release(self)
        if self._loop.is_closed():
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self, primary: bytes) -> None:
        while self.elapsed_ms < LIFETIME_MAX_S * 1000:
            request = kvrpcpb.TxnHeartBeatRequest(
                primary_lock=primary,
                start_version=self._start_ts,
                advise_lock_ttl=self.elapsed_ms + MANAGED_TTL_MS,
            )
            backoff = Backoff(HEARTBEAT_BUDGET_MS, self._parts.rng)
            try:
                answer = await self._parts.sender.send_to_key(backoff, commands.HEARTBEAT, request, primary)
            except KvError:
                # the next one may get through before the lock expires
                await asyncio.sleep(INTERVAL_S / 4)
                continue
            if answer.HasField("error"):
                self.lost = True
                return
            await asyncio.sleep(INTERVAL_S)
