"""A deployment of placement drivers alone: three replicate their state by Raft, clients draw timestamps and ids."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from kvstore.errors import StoreError
from kvstore.proto import pdpb_pb2 as pb
from kvstore.rpc.api import Code, RpcError, Stream
from pd.config import Member, PdConfig
from pd.node import PdNode
from pd.server import PD_METHODS
from tests.sim.history import Aborted
from tests.sim.machine import Life, Machine
from tests.sim.world import World

CALL_TIMEOUT_S = 3.0
LOGICAL_BITS = 18
WANDER = 0.05
"""The chance that a client tries another member though its own serves: so two that both lead are both asked."""
AWAY = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED)


class PdClient:
    """See `workloads.api.Client`; timestamps and ids are there. It goes to the next member when one does not serve."""

    def __init__(self, group: PdGroup, name: str) -> None:
        self.name = name
        self._transport = group.world.network.transport(name)
        self._addresses = [member.address for member in group.members]
        self._at = 0
        self._rng = group.world.fork()
        self._stream: Stream | None = None
        self._cluster_id = 0

    async def begin(self, *, pessimistic: bool = False) -> Any:
        raise NotImplementedError("placement drivers have no transactions")

    async def raw_get(self, key: bytes) -> bytes | None:
        raise NotImplementedError

    async def raw_put(self, key: bytes, value: bytes) -> None:
        raise NotImplementedError

    async def raw_delete(self, key: bytes) -> None:
        raise NotImplementedError

    async def raw_cas(self, key: bytes, expected: bytes | None, value: bytes) -> bool:
        raise NotImplementedError

    def _next(self) -> None:
        self._at = (self._at + 1) % len(self._addresses)
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None

    async def _unary(self, name: str, request: Any) -> Any:
        channel = self._transport.channel(self._addresses[self._at])
        return await channel.unary(PD_METHODS[name], request, CALL_TIMEOUT_S)

    async def _header(self) -> pb.RequestHeader:
        while not self._cluster_id:
            answer = await self._unary("GetMembers", pb.GetMembersRequest())
            self._cluster_id = answer.header.cluster_id
            if not self._cluster_id:
                raise RpcError(Code.UNAVAILABLE, "no cluster id yet")
        return pb.RequestHeader(cluster_id=self._cluster_id)

    async def timestamps(self, count: int) -> int:
        """A draw whose answer is lost costs timestamps and nothing else: it is aborted, never undetermined."""
        if self._rng.random() < WANDER:
            self._next()
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                header = await self._header()
                if self._stream is None:
                    channel = self._transport.channel(self._addresses[self._at])
                    self._stream = channel.stream(PD_METHODS["Tso"])
                await self._stream.send(pb.TsoRequest(header=header, count=count))
                answer = await self._stream.receive()
        except (RpcError, TimeoutError) as error:
            self._next()
            raise _aborted(error) from error
        if answer is None:
            self._next()
            raise Aborted("the stream ended")
        assert answer.count == count
        return int(answer.timestamp.physical << LOGICAL_BITS) + int(answer.timestamp.logical)

    async def alloc_id(self) -> int:
        try:
            answer = await self._unary("AllocID", pb.AllocIDRequest(header=await self._header()))
        except RpcError as error:
            self._next()
            raise _aborted(error) from error
        if answer.header.error.type:
            raise Aborted(answer.header.error.message)
        return int(answer.id)


def _aborted(error: RpcError | TimeoutError) -> Aborted:
    """What a failed call came to; a status that only a bug gives is passed on."""
    if isinstance(error, RpcError) and error.code not in AWAY:
        raise error
    return Aborted(str(error))


class PdGroup:
    """See `run.Deployment`."""

    def __init__(self, world: World, count: int = 3) -> None:
        self.world = world
        self.links = world.links
        self.members = [Member(f"pd{number}", f"http://pd{number}:2379") for number in range(1, count + 1)]
        self.others: list[str] = []
        self.nodes: dict[str, PdNode] = {}
        self.machines = [world.machine(member.name, self._main) for member in self.members]
        for machine in self.machines:
            machine.disk.sync_s = lambda rng=machine.rng: rng.expovariate(500)  # type: ignore[misc]

    async def _main(self, life: Life) -> None:
        url = next(member.client_url for member in self.members if member.name == life.name)
        node = PdNode(
            PdConfig(name=life.name, client_url=url, members=tuple(self.members)),
            life.engine,
            life.transport(),
            life.server,
            wall_ms=life.clock,
            sync=life.sync,
            rng=life.rng,
        )
        self.nodes[life.name] = node
        await node.start()
        life.spawn(self._watch(life, node))

    async def _watch(self, life: Life, node: PdNode) -> None:
        """A disk that fails ends the process; anything else is a bug."""
        try:
            await node.failure()
        except StoreError:
            if not life.ended:
                self.world.stopped(life)

    def restart(self, machine: Machine) -> None:
        self.world.restart(machine)

    async def boot(self) -> None:
        for machine in self.machines:
            await machine.start()
        await self.settle()

    async def settle(self) -> None:
        probe = PdClient(self, "probe")
        while True:
            try:
                await probe.timestamps(1)
                return
            except Aborted:
                await asyncio.sleep(0.1)

    def clients(self, count: int) -> list[PdClient]:
        self.others = [f"c{number}" for number in range(count)]
        return [PdClient(self, name) for name in self.others]

    def observe(self) -> None:
        """One member leads a term."""
        for machine in self.machines:
            if machine.running and machine.name in self.nodes:
                replica = self.nodes[machine.name].replica
                if replica.term:
                    self.world.invariants.leader(0, replica.term, int(machine.name.removeprefix("pd")))

    def observe_at_rest(self) -> None:
        """Nothing more to see."""

    async def transfer_leader(self, rng: random.Random) -> str | None:
        return None

    async def split(self, rng: random.Random) -> str | None:
        return None

    async def merge(self, rng: random.Random) -> str | None:
        return None

    async def change_peers(self, rng: random.Random) -> str | None:
        return None
