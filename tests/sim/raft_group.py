"""A deployment of one Raft group over `kvstore.raft`: registers replicated among a few machines, nothing else of ours.

It is the smallest whole that the simulator can try: it shows that faults, workloads and invariants do their work, and
with a bug planted that they catch it.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import pickle
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

from kvstore.engine.api import CF_RAFT
from kvstore.errors import StoreError
from kvstore.proto import tikvpb_pb2
from kvstore.proto.kvrpcpb_pb2 import RawCASResponse, RawDeleteResponse, RawGetResponse, RawPutResponse
from kvstore.proto.raft_serverpb_pb2 import Done, RaftMessage
from kvstore.raft import Config, MemoryStorage, RawNode, Ready
from kvstore.raft.errors import ProposalDropped
from kvstore.raft.types import ConfState, Entry, HardState, Message, Role, Snapshot
from kvstore.rpc.api import Call, Code, Handlers, RpcError, Stream, methods_of
from tests.sim.history import Aborted, Undetermined
from tests.sim.machine import Life, Machine
from tests.sim.world import World

TIKV = methods_of(tikvpb_pb2.DESCRIPTOR, "Tikv")
RAFT, GET, PUT = TIKV["Raft"], TIKV["RawGet"], TIKV["RawPut"]
DELETE, CAS = TIKV["RawDelete"], TIKV["RawCompareAndSwap"]
TICK_S = 0.1
CALL_TIMEOUT_S = 1.0
LOG_ENTRIES_MAX = 40
"""With more applied ones the log is cut, so that who lags needs a snapshot."""
SEND_QUEUE_MAX = 1000

Pairs = dict[bytes, bytes]
Command = tuple[str, bytes, bytes | None, bytes | None]
"""put, delete or cas; key, value, expected."""


class Bug(enum.Enum):
    REPLY_BEFORE_SYNC = "votes and acknowledgements leave before what they promise is durable"
    VOTE_NOT_PERSISTED = "a restarted node has forgotten whom it voted for"
    READ_WITHOUT_QUORUM = "whoever thinks to lead answers reads"
    ACK_BEFORE_COMMIT = "a write is acknowledged when the leader has it in its log"


class GroupStorage(MemoryStorage):
    """The log in memory, and on the machine's engine what survives a crash."""

    def __init__(self, life: Life, voters: Sequence[int], bug: Bug | None) -> None:
        super().__init__(ConfState(tuple(voters)))
        self._engine = life.engine
        self._bug = bug
        self.pairs: Pairs = {}
        self.applied = 0
        state = self._engine.get(CF_RAFT, b"state")
        if state is not None:
            snapshot, self.hard_state, self.applied, self.pairs = pickle.loads(state)
            self.apply_snapshot(snapshot)
        flat = self._engine.scanner(CF_RAFT, b"log", b"loh").take(1 << 20)
        entries: list[Entry] = [pickle.loads(value) for value in flat[1::2]]
        self.append([entry for entry in entries if entry.index >= self.first_index()])

    def snapshot(self, request_index: int, to: int) -> Snapshot:
        self.create_snapshot(self.applied, self.conf_state, pickle.dumps(self.pairs))
        return super().snapshot(request_index, to)

    def persist(self, ready: Ready) -> None:
        """Writes everything in one batch."""
        batch, family = self._engine.batch(), self._engine.handle(CF_RAFT)
        if ready.snapshot is not None:
            self.apply_snapshot(ready.snapshot)
            self.pairs, self.applied = pickle.loads(ready.snapshot.data), ready.snapshot.index
            batch.delete_range(b"log", b"loh", family)
        if ready.entries:
            batch.delete_range(_log_key(ready.entries[0].index), b"loh", family)
            self.append(ready.entries)
        for entry in ready.entries:
            batch.put(_log_key(entry.index), pickle.dumps(entry), family)
        if ready.hard_state is not None:
            self.set_hard_state(ready.hard_state)
        if self.applied - self.first_index() > LOG_ENTRIES_MAX:
            batch.delete_range(b"log", _log_key(self.applied + 1), family)
            self.create_snapshot(self.applied, self.conf_state)
            self.compact(self.applied)
        batch.put(b"state", self._state(), family)
        self._engine.write(batch)

    def _state(self) -> bytes:
        # what is applied is committed: the core refuses a state that says otherwise
        hard = HardState(self.hard_state.term, self.hard_state.vote, max(self.hard_state.commit, self.applied))
        if self._bug is Bug.VOTE_NOT_PERSISTED:
            hard = HardState(hard.term, 0, hard.commit)
        base = Snapshot(self.first_index() - 1, self.term(self.first_index() - 1), self.conf_state)
        return pickle.dumps((base, hard, self.applied, self.pairs))

    def apply(self, entry: Entry) -> bool:
        """Applies a command; returns what a swap returns."""
        self.applied = entry.index
        if not entry.data:
            return False
        kind, key, value, expected = pickle.loads(entry.data)
        if kind == "cas" and self.pairs.get(key) != expected:
            return False
        if value is None:
            self.pairs.pop(key, None)
        else:
            self.pairs[key] = value
        return True


def _log_key(index: int) -> bytes:
    return b"log%08d" % index


class Member:
    """One node: its Raft, its loop, its answers."""

    def __init__(self, group: RaftGroup, life: Life, number: int) -> None:
        self._group = group
        self._life = life
        self._bug = group.bug
        self.storage = GroupStorage(life, group.numbers, group.bug)
        config = Config(id=number, election_tick=10, heartbeat_tick=2, applied=self.storage.applied)
        self.raw = RawNode(config, self.storage, life.rng)
        self._wake = asyncio.Event()
        self._writes: dict[bytes, asyncio.Future[bool | None]] = {}
        self._reads: dict[bytes, asyncio.Future[int]] = {}
        self._applied = asyncio.Condition()
        self._contexts = 0
        transport = life.transport()
        self._queues = {other: asyncio.Queue[Message](SEND_QUEUE_MAX) for other in group.numbers if other != number}
        for other, queue in self._queues.items():
            life.spawn(self._send_to(transport.channel(group.address(other)), queue))

    def handlers(self) -> Handlers:
        unary = {GET: self._get, PUT: self._put, DELETE: self._delete, CAS: self._cas}
        return Handlers(
            {method.path: (method, handler) for method, handler in unary.items()}, {RAFT.path: (RAFT, self._receive)}
        )

    async def _receive(self, messages: AsyncIterator[RaftMessage], call: Call) -> AsyncIterator[Done]:
        async for message in messages:
            self.raw.step(pickle.loads(message.extra_ctx))
            self._wake.set()
        yield Done()

    async def _send_to(self, channel: Any, queue: asyncio.Queue[Message]) -> None:
        stream: Stream = channel.stream(RAFT)
        while True:
            message = await queue.get()
            try:
                await stream.send(RaftMessage(extra_ctx=pickle.dumps(message)))
            except RpcError:
                stream.cancel()
                await asyncio.sleep(TICK_S)
                stream = channel.stream(RAFT)

    def _send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            queue = self._queues[message.to]
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(message)

    async def run(self) -> None:
        """Ticks and works off every Ready until the machine dies; a disk that fails ends the process."""
        self._life.spawn(self._tick())
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self.raw.has_ready():
                    await self._work()
        except StoreError:
            if not self._life.ended:
                self._group.world.stopped(self._life)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            if self.raw.tick():
                self._wake.set()

    async def _work(self) -> None:
        ready = self.raw.ready()
        self._send(ready.messages)
        if self._bug is Bug.REPLY_BEFORE_SYNC:
            self._send(ready.persisted_messages)
        self.storage.persist(ready)
        if ready.snapshot is not None:
            self.raw.advance_apply_to(ready.snapshot.index)
        if ready.must_sync:
            await self._life.sync()
        if self._bug is not Bug.REPLY_BEFORE_SYNC:
            self._send(ready.persisted_messages)
        if ready.soft_state is not None and ready.soft_state.role is Role.LEADER:
            self._group.world.invariants.leader(1, self.raw.term, self.raw.id)
            self._group.world.invariants.leader_log(1, self.raw.term, self.raw.id, self.raw.last_index)
        light = self.raw.advance(ready)
        self._send(light.messages)
        for state in ready.read_states:
            waiter = self._reads.get(state.request_ctx)
            if waiter is not None and not waiter.done():
                waiter.set_result(state.index)
        await self._apply([*ready.committed_entries, *light.committed_entries])

    async def _apply(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            digest = hashlib.sha256(entry.context + entry.data).digest()[:8]
            self._group.world.invariants.committed(self._life.name, 1, entry.index, entry.term, digest)
            result = self.storage.apply(entry)
            self.raw.advance_apply_to(entry.index)
            waiter = self._writes.get(entry.context)
            if waiter is not None and not waiter.done():
                waiter.set_result(result)
        if entries:
            async with self._applied:
                self._applied.notify_all()

    def _context(self) -> bytes:
        self._contexts += 1
        return b"%s/%d/%d" % (self._life.name.encode(), self._life.machine.crashes, self._contexts)

    async def _write(self, command: Command) -> bool:
        if self.raw.role is not Role.LEADER:
            raise RpcError(Code.FAILED_PRECONDITION, "not leader")
        context = self._context()
        waiter = self._writes[context] = asyncio.get_running_loop().create_future()
        try:
            self.raw.propose(context, pickle.dumps(command))
            self._wake.set()
            if self._bug is Bug.ACK_BEFORE_COMMIT and command[0] == "put":
                return True
            return bool(await waiter)
        except ProposalDropped as error:
            raise RpcError(Code.FAILED_PRECONDITION, str(error)) from error
        finally:
            del self._writes[context]

    async def _get(self, request: Any, call: Call) -> RawGetResponse:
        if self.raw.role is not Role.LEADER:
            raise RpcError(Code.FAILED_PRECONDITION, "not leader")
        if self._bug is not Bug.READ_WITHOUT_QUORUM:
            context = self._context()
            waiter = self._reads[context] = asyncio.get_running_loop().create_future()
            try:
                if not self.raw.read_index(context):
                    raise RpcError(Code.FAILED_PRECONDITION, "no leader")
                self._wake.set()
                index = await waiter
            finally:
                del self._reads[context]
            async with self._applied:
                await self._applied.wait_for(lambda: self.storage.applied >= index)
        value = self.storage.pairs.get(request.key)
        return RawGetResponse(value=value or b"", not_found=value is None)

    async def _put(self, request: Any, call: Call) -> RawPutResponse:
        await self._write(("put", request.key, request.value, None))
        return RawPutResponse()

    async def _delete(self, request: Any, call: Call) -> RawDeleteResponse:
        await self._write(("delete", request.key, None, None))
        return RawDeleteResponse()

    async def _cas(self, request: Any, call: Call) -> RawCASResponse:
        expected = None if request.previous_not_exist else request.previous_value
        return RawCASResponse(succeed=await self._write(("cas", request.key, request.value, expected)))


class GroupClient:
    """See `workloads.api.Client`; only the raw calls are there. It tries the members in turn until one leads."""

    def __init__(self, group: RaftGroup, name: str) -> None:
        self.name = name
        self._group = group
        self._transport = group.world.network.transport(name)
        self._leader = group.numbers[0]

    async def begin(self, *, pessimistic: bool = False) -> Any:
        raise NotImplementedError("a Raft group has no transactions")

    async def timestamps(self, count: int) -> int:
        raise NotImplementedError("a Raft group has no timestamps")

    async def alloc_id(self) -> int:
        raise NotImplementedError("a Raft group has no ids")

    async def _call(self, method: Any, request: Any) -> Any:
        numbers = self._group.numbers
        for _ in numbers:
            channel = self._transport.channel(self._group.address(self._leader))
            try:
                return await channel.unary(method, request, CALL_TIMEOUT_S)
            except RpcError as error:
                asked = self._leader
                self._leader = numbers[(numbers.index(asked) + 1) % len(numbers)]
                if error.code is not Code.FAILED_PRECONDITION:
                    if method is GET:
                        continue
                    raise Undetermined(str(error)) from error
        raise Aborted("nobody leads")

    async def raw_get(self, key: bytes) -> bytes | None:
        answer = await self._call(GET, GET.request(key=key))
        return None if answer.not_found else bytes(answer.value)

    async def raw_put(self, key: bytes, value: bytes) -> None:
        await self._call(PUT, PUT.request(key=key, value=value))

    async def raw_delete(self, key: bytes) -> None:
        await self._call(DELETE, DELETE.request(key=key))

    async def raw_cas(self, key: bytes, expected: bytes | None, value: bytes) -> bool:
        request = CAS.request(key=key, value=value, previous_not_exist=expected is None, previous_value=expected or b"")
        return bool((await self._call(CAS, request)).succeed)


class RaftGroup:
    """See `run.Deployment`."""

    def __init__(self, world: World, members: int = 3, bug: Bug | None = None) -> None:
        self.world = world
        self.bug = bug
        self.links = world.links
        self.numbers = list(range(1, members + 1))
        self.members: dict[str, Member] = {}
        self.others: list[str] = []
        self.machines = [world.machine(f"n{number}", self._main(number)) for number in self.numbers]
        for machine in self.machines:
            machine.disk.sync_s = lambda rng=machine.rng: rng.expovariate(500)  # type: ignore[misc]

    def address(self, number: int) -> str:
        return f"n{number}:1"

    def _main(self, number: int) -> Any:
        async def main(life: Life) -> None:
            member = self.members[life.name] = Member(self, life, number)
            await life.server(self.address(number), member.handlers()).start()
            life.spawn(member.run())

        return main

    def restart(self, machine: Machine) -> None:
        self.world.restart(machine)

    async def boot(self) -> None:
        for machine in self.machines:
            await machine.start()
        await self.settle()

    async def settle(self) -> None:
        probe = GroupClient(self, "probe")
        while True:
            try:
                await probe.raw_get(b"probe")
                return
            except Aborted:
                await asyncio.sleep(TICK_S)

    def clients(self, count: int) -> list[GroupClient]:
        self.others = [f"c{number}" for number in range(count)]
        return [GroupClient(self, name) for name in self.others]

    def observe(self) -> None:
        """Members report as they go."""

    def observe_at_rest(self) -> None:
        """Every member that runs holds the same pairs once it has applied the same entries."""
        by_index: dict[int, Pairs] = {}
        for machine in self.machines:
            storage = self.members[machine.name].storage
            assert by_index.setdefault(storage.applied, storage.pairs) == storage.pairs, storage.applied

    async def transfer_leader(self, rng: random.Random) -> str | None:
        leaders = [m for m in self.machines if m.running and self.members[m.name].raw.role is Role.LEADER]
        if not leaders:
            return None
        target = rng.choice(self.numbers)
        self.members[leaders[0].name].raw.transfer_leader(target)
        return f"lead of {leaders[0].name} goes to n{target}"

    async def split(self, rng: random.Random) -> str | None:
        return None

    async def merge(self, rng: random.Random) -> str | None:
        return None

    async def change_peers(self, rng: random.Random) -> str | None:
        return None
