"""One placement driver put together: replica, service and the loops of its leadership, over injected surroundings."""

from __future__ import annotations

import asyncio
import hashlib
import random
import zlib
from collections.abc import Callable, Coroutine
from typing import Any

from kvstore.engine.api import Engine
from kvstore.failpoint import fail_point_async
from kvstore.rpc.api import Handlers, Server, Transport
from pd import state as keys
from pd.config import PdConfig
from pd.errors import NotLeader, Undetermined
from pd.leadership import Leadership
from pd.replica import Replica, Sync, Timing
from pd.server import Membership, PdServer
from pd.state import Change, number

ServerFactory = Callable[[str, Handlers], Server]
"""Makes a server for host:port; it is started and stopped here."""
SAVE_REGIONS_S = 1.0
PUSH_AGAIN_S = 5.0
STOP_GRACE_S = 1.0
BURY_S = 10.0
PAUSE_S_MIN = 0.01
"""Between two rounds of checkers or schedulers, whatever is configured."""
PAUSE_LOOK_S = 1.0
"""Within this time a shorter interval is noticed."""
RETRY_S = 0.1
"""Pause after a write that was refused while leading."""


def member_id(name: str) -> int:
    """A member's id, from its name: the same on every member without being agreed upon."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") | 1


class PdNode:
    """A placement driver; `start` returns when it answers calls, which may be before anybody leads."""

    def __init__(
        self,
        config: PdConfig,
        engine: Engine,
        transport: Transport,
        server_factory: ServerFactory,
        *,
        wall_ms: Callable[[], int],
        sync: Sync,
        rng: random.Random,
    ) -> None:
        self.config = config
        self._wall_ms = wall_ms
        self._rng = rng
        me = config.me()
        members = [(member_id(member.name), member) for member in config.all_members()]
        self.replica = Replica(
            engine,
            sync,
            transport,
            member_id(me.name),
            {number: member.address for number, member in members},
            group_key=zlib.crc32(",".join(sorted(member.name for _, member in members)).encode()),
            timing=Timing(config.tick_ms / 1000, config.election_ticks, config.heartbeat_ticks),
            rng=random.Random(rng.getrandbits(64)),
        )
        self._cluster_id = 0
        self.pd_server = PdServer(Membership(members, lambda: self.replica.leader_id, self.cluster_id))
        self._server = server_factory(config.listen_address(), self._handlers())
        self._tasks: list[asyncio.Task[None]] = []

    def _handlers(self) -> Handlers:
        service, raft = self.pd_server.handlers(), self.replica.handlers()
        return Handlers({**service.unary, **raft.unary}, {**service.streams, **raft.streams})

    async def failure(self) -> None:
        """Waits for ever, or raises what makes it impossible to go on: then the process must end."""
        assert self.replica.failure is not None
        await asyncio.shield(self.replica.failure)

    def cluster_id(self) -> int:
        """0 until the first leader has chosen one and this member knows it."""
        if not self._cluster_id:
            self._cluster_id = self.replica.state.get_number(keys.CLUSTER_ID)
        return self._cluster_id

    @property
    def leadership(self) -> Leadership | None:
        return self.pd_server.leadership

    async def start(self) -> None:
        self.replica.watch(self._turn)
        await self._server.start()
        await self.replica.start()

    async def stop(self) -> None:
        await self.replica.stop()
        self._step_down()
        await self._server.stop(STOP_GRACE_S)

    def _turn(self) -> None:
        """The replica began or ceased to lead, or leads in another term."""
        self._step_down()
        if self.replica.term:
            self._spawn(self._lead(self.replica.term))

    def _step_down(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        if self.pd_server.leadership is not None:
            self.pd_server.leadership.close()
            self.pd_server.leadership = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A loop that ends by an error is a bug or a damaged state: the process must not go on without it."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.replica.fail(error)

    async def _lead(self, term: int) -> None:
        """Chooses the cluster id if there is none yet, then serves."""
        while not self.cluster_id():
            chosen = (self._wall_ms() // 1000 & 0x7FFFFFFF) << 32 | self._rng.getrandbits(32) | 1
            try:
                await self.replica.write([Change(keys.CLUSTER_ID, number(chosen))])
            except (NotLeader, Undetermined):
                await asyncio.sleep(RETRY_S)
        await fail_point_async("pd::before_lead")
        if self.replica.term != term:
            return
        lead = Leadership(self.replica, self.config.schedule, self._wall_ms, self._rng)
        self.pd_server.leadership = lead
        self._spawn(self._repeat(lead.timestamps.keep_ahead, 0))
        self._spawn(self._repeat(lead.save_regions, SAVE_REGIONS_S))
        self._spawn(self._repeat(lead.patrol, lambda: lead.config.patrol_interval_ms / 1000))
        self._spawn(self._repeat(lead.schedule, lambda: lead.config.schedule_interval_ms / 1000))
        self._spawn(self._repeat(lead.push_again, PUSH_AGAIN_S))
        self._spawn(self._repeat(lambda: lead.alone(lead.bury_emptied), BURY_S))

    async def _repeat(
        self, work: Callable[[], Coroutine[Any, Any, None]], pause_s: float | Callable[[], float]
    ) -> None:
        """Runs the work again and again while this member leads; a write that is refused is tried later."""
        while True:
            try:
                await work()
            except (NotLeader, Undetermined):
                await asyncio.sleep(RETRY_S)
            if callable(pause_s):
                await _pause(pause_s)
            else:
                await asyncio.sleep(pause_s)


async def _pause(seconds: Callable[[], float]) -> None:
    """Waits as long as is wanted now, which may change meanwhile."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while True:
        left = begun + max(PAUSE_S_MIN, seconds()) - loop.time()
        if left <= 0:
            return
        await asyncio.sleep(min(left, PAUSE_LOOK_S))
