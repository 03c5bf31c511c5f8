"""A simulated machine: one process with its disk, its clock and its ends of the network, that can crash and restart."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from kvstore.rpc.api import Handlers
from kvstore.rpc.memory import MemoryNetwork, MemoryServer, MemoryTransport
from tests.sim.disk import SimDisk, SimEngine, SimSyncer
from tests.sim.loop import SimLoop

EPOCH_MS = 1_700_000_000_000
"""The wall clock at virtual time 0."""

_life: contextvars.ContextVar[Life | None] = contextvars.ContextVar("life", default=None)


def is_dead(context: contextvars.Context) -> bool:
    """For `SimLoop`: whether the life that runs in the context has ended."""
    life = context.get(_life)
    return life is not None and life.ended


class WallClock:
    """A machine's wall clock in milliseconds; `offset_ms` is how far it is off, and faults move it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.offset_ms = 0

    def __call__(self) -> int:
        return EPOCH_MS + int(self._loop.time() * 1000) + self.offset_ms


class Life:
    """A process from its start to its crash: whatever it is given works only until then."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.name = machine.name
        self.ended = False
        self.rng = random.Random(machine.rng.random())
        self.clock = machine.clock
        self.engine: SimEngine = machine.disk.open()
        self.sync = SimSyncer(self.engine)
        self._servers: list[MemoryServer] = []
        self._transports: list[MemoryTransport] = []
        self.context = contextvars.copy_context()
        self.context.run(_life.set, self)

    def transport(self) -> MemoryTransport:
        transport = self.machine.network.transport(self.name)
        self._transports.append(transport)
        return transport

    def server(self, address: str, handlers: Handlers) -> MemoryServer:
        server = self.machine.network.server(address, handlers, self.name)
        self._servers.append(server)
        return server

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs `work` as part of this process."""
        return self.machine.loop.create_task(work, context=self.context)

    def end(self, *, power: bool) -> None:
        self.ended = True
        for server in self._servers:
            server.crash()
        for transport in self._transports:
            transport.crash()
        self.machine.disk.crash(power=power)
        for task in self.machine.loop.tasks(lambda context: context.get(_life) is self):
            task.cancel()


class Machine:
    """See the module. `main` is what the process does: it builds its objects from `life` and returns when it serves."""

    def __init__(
        self,
        name: str,
        loop: SimLoop,
        network: MemoryNetwork,
        rng: random.Random,
        main: Callable[[Life], Awaitable[Any]],
    ) -> None:
        self.name = name
        self.loop = loop
        self.network = network
        self.rng = rng
        self.disk = SimDisk(random.Random(rng.random()))
        self.clock = WallClock(loop)
        self.life: Life | None = None
        self.crashes = 0
        self._main = main

    @property
    def running(self) -> bool:
        return self.life is not None

    async def start(self) -> Any:
        """Starts the process and returns what `main` returns; None when it crashed meanwhile."""
        assert self.life is None, f"{self.name} runs"
        life = self.life = Life(self)

        async def boot() -> Any:
            return await self._main(life)

        task = life.spawn(boot())
        try:
            return await task
        except asyncio.CancelledError:
            if life.ended and (current := asyncio.current_task()) is not None and not current.cancelling():
                return None
            raise

    def crash(self, *, power: bool = True) -> None:
        """Ends the process at once: nothing of it writes or sends any more. Harmless when it does not run."""
        life, self.life = self.life, None
        if life is not None:
            self.crashes += 1
            life.end(power=power)
