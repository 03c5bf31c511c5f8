"""Everything a simulated run shares: one seed, one loop, one network, the invariants, and what went wrong."""

from __future__ import annotations

import asyncio
import contextvars
import random
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from kvstore.rpc.memory import MemoryNetwork
from tests.sim.faults import Links
from tests.sim.invariants import Invariants
from tests.sim.loop import SimLoop
from tests.sim.machine import Life, Machine, is_dead

RESTART_S = 1.0
"""A process that ended itself is started again after so long."""


class World:
    """Made before the loop runs; every part takes its own stream of randomness from `fork`."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._rng = random.Random(seed)
        self.loop = SimLoop(is_dead)
        self.links = Links(self.fork())
        self.network = MemoryNetwork(self.links, on_bug=self._handler_failed)
        self.invariants = Invariants()
        self.failures: list[str] = self.loop.failures
        """Whatever must fail the run; the watcher ends it soon after the first."""
        self.machines: list[Machine] = []
        self._starting: set[asyncio.Task[None]] = set()

    def fork(self) -> random.Random:
        return random.Random(self._rng.getrandbits(64))

    def machine(self, name: str, main: Callable[[Life], Awaitable[Any]]) -> Machine:
        machine = Machine(name, self.loop, self.network, self.fork(), main)
        self.machines.append(machine)
        return machine

    def fail(self, error: BaseException, what: str) -> None:
        trace = "".join(traceback.format_exception(error))
        self.failures.append(f"at {self.loop.time():.3f} s: {what}: {type(error).__name__}: {error}\n{trace}")

    def _handler_failed(self, path: str, error: Exception) -> None:
        if not is_dead(contextvars.copy_context()):
            self.fail(error, f"the handler of {path}")

    def restart(self, machine: Machine) -> None:
        """Starts a machine in the background, unless somebody else does; that it does not come up is a failure."""

        async def start() -> None:
            if machine.running:
                return
            try:
                await machine.start()
            except Exception as error:  # noqa: BLE001 whatever it is, the run reports it
                self.fail(error, f"{machine.name} did not start")

        task = self.loop.create_task(start())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    def stopped(self, life: Life) -> None:
        """A process ended itself, as it must when its disk fails; whoever watches over it starts it again."""
        machine, context = life.machine, self.network.context  # the machine's own timers die with it

        def end() -> None:
            if machine.life is life:
                machine.crash(power=False)
                self.loop.call_later(RESTART_S, again, context=context)

        def again() -> None:
            if not machine.running:
                self.restart(machine)

        self.loop.call_soon(end, context=context)
