"""The replicated state of a group of placement drivers: the Raft core with a disk, peers, ticks and a lease round it.

    tick, message, proposal → core → Ready: send · write and sync · send · apply · answer who waits

A leader proves every tick that it still leads (a ReadIndex round): from the moment it asked, no voter of the quorum
that answered votes for another one within the election timeout, so the lease lasts a bit less than that. What breaks
this rule is closed here: a voter that was just started could vote though it had promised not to, so it doesn't vote for
an election timeout; and a leadership that was handed on by force (TimeoutNow) has no lease any more.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from kvstore.engine.api import Engine
from kvstore.failpoint import fail_point_async
from kvstore.proto.pdraft_pb2 import PdChange, PdCommand
from kvstore.raft.config import Config
from kvstore.raft.errors import ProposalDropped
from kvstore.raft.raw_node import LightReady, RawNode, Ready
from kvstore.raft.types import Entry, Message, MessageType, Role
from kvstore.rpc.api import Handlers, Transport
from pd.errors import NotLeader, Undetermined
from pd.raft_disk import RaftDisk
from pd.raft_peers import Peers
from pd.state import Change, State

Sync = Callable[[], Awaitable[None]]
"""Makes what was written to the engine durable: in a thread in production, a virtual delay in a simulation."""
WAITING_MAX = 4096
"""Writes that may wait for their outcome at once."""
COMMAND_BYTES_MAX = 8 << 20
LEASE_PART = 0.8
"""Of the election timeout less one tick: what is left is for clocks that run unequally fast."""
_VOTE_REQUESTS = (MessageType.REQUEST_VOTE, MessageType.REQUEST_PRE_VOTE)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """Of one group; all its members have the same."""

    tick_s: float = 0.1
    election_ticks: int = 10
    heartbeat_ticks: int = 2

    @property
    def election_s(self) -> float:
        """Within this time after a sign of the leader no voter votes for another one."""
        return (self.election_ticks - 1) * self.tick_s


class OtherGroup(ValueError):
    """The directory belongs to a group of other members."""


class Replica:
    """One member's copy of the state, and the changes that all members make.

    It leads when it is Raft's leader and has applied an entry of its own term, so that nothing of an earlier leader can
    come after what it reads then.
    """

    def __init__(
        self,
        engine: Engine,
        sync: Sync,
        transport: Transport,
        member_id: int,
        addresses: Mapping[int, str],
        *,
        group_key: int,
        timing: Timing,
        rng: random.Random,
    ) -> None:
        """`addresses` are those of all members, this one among them. Raises OtherGroup."""
        self.state = State(engine)
        self._engine = engine
        self._sync = sync
        self._timing = timing
        self._disk = RaftDisk(engine, self.state, list(addresses))
        if self._disk.conf_state.voters != tuple(sorted(addresses)):
            raise OtherGroup(
                f"the directory belongs to a group of members {self._disk.conf_state.voters}, "
                f"the initial cluster names {tuple(sorted(addresses))}"
            )
        self._node = RawNode(
            Config(
                member_id,
                election_tick=timing.election_ticks,
                heartbeat_tick=timing.heartbeat_ticks,
                applied=self._disk.applied_index,
            ),
            self._disk,
            rng,
        )
        self._alone = len(addresses) == 1
        self._peers = Peers(
            transport,
            {other: address for other, address in addresses.items() if other != member_id},
            group_key,
            on_message=self._on_message,
            on_sent=self._on_sent,
            on_lost=self._on_lost,
        )
        self._observers: list[Callable[[], None]] = []
        self._told_term = 0
        self._applied_term = 0
        """The term of the last applied entry."""
        self._waiting: dict[int, tuple[int, asyncio.Future[None]]] = {}
        """Writes by the index of their entry, with the term."""
        self._lease_until = 0.0
        self._lease_asked: dict[bytes, float] = {}
        self._lease_rounds = 0
        self._handed_on_at = 0.0
        """When the lead was handed to another one in this term, 0 when it wasn't."""
        self._silent_until = 0.0
        """Before that no vote is given."""
        self._work = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.failure: asyncio.Future[None] | None = None
        """Done with the error when the disk failed or a law of Raft was broken: the process must end."""

    @property
    def term(self) -> int:
        """The term in which this member leads, 0 when it doesn't."""
        node = self._node
        leads = node.role is Role.LEADER and self._applied_term == node.term
        return node.term if leads and self._tasks else 0

    @property
    def leader_id(self) -> int:
        """The member that leads as far as is known here, 0 when nobody is known."""
        return self._node.leader_id

    @property
    def applied_index(self) -> int:
        return self._disk.applied_index

    def holds_lease(self) -> bool:
        """Whether no other member can lead just now: a timestamp may be given out."""
        if not self.term:
            return False
        return self._alone or (asyncio.get_running_loop().time() < self._lease_until and self._node.in_lease())

    def handlers(self) -> Handlers:
        return self._peers.handlers()

    def watch(self, observer: Callable[[], None]) -> None:
        """`observer` is called after `term` changed."""
        self._observers.append(observer)

    def transfer_leader(self, member_id: int) -> None:
        """The core ends the lease when it tells the other one to campaign; timestamps go on when another one leads."""
        if not self.term or member_id == self._node.id:
            return
        self._handed_on_at = asyncio.get_running_loop().time()
        self._node.transfer_leader(member_id)
        self._work.set()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._silent_until = loop.time() + self._timing.election_s
        if self._disk.is_new:
            batch = self._engine.batch()
            self._disk.apply(batch, [])
            self._engine.write(batch)
            await self._sync()
        self.failure = loop.create_future()
        self._tasks = [asyncio.ensure_future(self._run()), asyncio.ensure_future(self._tick())]
        self._peers.start()
        if self._alone:
            self._node.campaign()
        self._work.set()

    async def stop(self) -> None:
        self._peers.stop()
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self._give_up_waiting()
        self._tell()

    async def write(self, changes: Sequence[Change]) -> None:
        """Makes the changes on a quorum and here, durably. Raises NotLeader (nothing was done) or Undetermined."""
        if await fail_point_async("pd::before_propose") is not None or not self.term:
            raise NotLeader
        if len(self._waiting) >= WAITING_MAX:
            raise NotLeader
        term = self._node.term
        command = PdCommand(
            term=term,
            changes=[PdChange(key=c.key, value=c.value or b"", delete=c.value is None) for c in changes],
        )
        data = command.SerializeToString()
        assert len(data) <= COMMAND_BYTES_MAX, len(data)
        try:
            index = self._node.propose(b"", data)
        except ProposalDropped:
            raise NotLeader from None
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[index] = (term, outcome)
        self._work.set()
        await outcome

    # what drives the core

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._timing.tick_s)
            self._node.tick()
            if self._node.role is Role.LEADER and not self._alone:
                self._ask_for_lease()
                self._end_failed_transfer()
            self._work.set()

    def _end_failed_transfer(self) -> None:
        """Steps down when the lead was handed to somebody who did not take it: this term has no lease any more."""
        if (
            asyncio.get_running_loop().time() < self._handed_on_at + 2 * self._timing.election_s
            or not self._handed_on_at
        ):
            return
        self._handed_on_at = 0.0
        anybody = next(member for member in self._node.members() if member != self._node.id)
        self._node.step(Message(MessageType.HEARTBEAT_RESPONSE, self._node.id, anybody, self._node.term + 1))

    def _ask_for_lease(self) -> None:
        self._lease_rounds += 1
        context = self._lease_rounds.to_bytes(8, "big")
        self._lease_asked[context] = asyncio.get_running_loop().time()
        self._node.read_index(context)
        while len(self._lease_asked) > 4 * self._timing.election_ticks:
            del self._lease_asked[next(iter(self._lease_asked))]

    def _on_message(self, message: Message) -> None:
        if not self._tasks:
            return
        if message.type in _VOTE_REQUESTS and asyncio.get_running_loop().time() < self._silent_until:
            return
        self._node.step(message)
        self._work.set()

    def _on_sent(self, message: Message) -> None:
        if message.type is MessageType.SNAPSHOT:
            self._node.report_snapshot(message.to, True)

    def _on_lost(self, message: Message) -> None:
        if message.type is MessageType.SNAPSHOT:
            self._node.report_snapshot(message.to, False)
        else:
            self._node.report_unreachable(message.to)

    async def _run(self) -> None:
        assert self.failure is not None
        try:
            while True:
                self._tell()
                if not self._node.has_ready():
                    self._work.clear()
                    await self._work.wait()
                    continue
                await self._handle(self._node.ready())
        except Exception as error:  # noqa: BLE001 a member that cannot go on must not seem to: the process ends by this
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Notes what makes it impossible to go on; the first error counts."""
        _log.error("the placement driver cannot go on", exc_info=error)
        if self.failure is not None and not self.failure.done():
            self.failure.set_exception(error)

    async def _handle(self, ready: Ready) -> None:
        self._send(ready.messages)
        if ready.snapshot is not None or ready.entries or ready.hard_state is not None:
            batch = self._engine.batch()
            if ready.snapshot is not None:
                self._disk.install(batch, ready.snapshot)
                self._give_up_waiting()
            self._disk.put_entries(batch, ready.entries)
            if ready.hard_state is not None:
                self._disk.put_hard_state(batch, ready.hard_state)
            self._engine.write(batch)
            if ready.must_sync:
                await self._sync()
        self._send(ready.persisted_messages)
        self._apply(ready.committed_entries)
        for read in ready.read_states:
            asked = self._lease_asked.pop(read.request_ctx, None)
            if asked is not None:
                self._lease_until = max(self._lease_until, asked + LEASE_PART * self._timing.election_s)
        self._advance(self._node.advance(ready))

    def _advance(self, light: LightReady) -> None:
        self._send(light.messages)
        self._apply(light.committed_entries)
        self._node.advance_apply_to(self._disk.applied_index)
        if self._disk.is_long():
            batch = self._engine.batch()
            self._disk.truncate(batch)
            self._engine.write(batch)

    def _send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._peers.send(message)

    def _apply(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        batch = self._engine.batch()
        self._disk.apply(batch, entries)
        self._engine.write(batch)
        for entry in entries:
            self._applied_term = entry.term
            term, outcome = self._waiting.pop(entry.index, (0, None))
            if outcome is not None and not outcome.done():
                if term == entry.term:
                    outcome.set_result(None)
                else:
                    outcome.set_exception(NotLeader())

    def _tell(self) -> None:
        """Tells the observers when the term in which this member leads has changed."""
        if self._told_term and self.term != self._told_term:
            self._lease_until = self._handed_on_at = 0.0
            self._lease_asked.clear()
            self._give_up_waiting()
        if self.term != self._told_term:
            self._told_term = self.term
            if self.term and not self._alone:
                self._ask_for_lease()
            for observer in self._observers:
                observer()

    def _give_up_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for _, outcome in waiting.values():
            if not outcome.done():
                outcome.set_exception(Undetermined("leadership was lost before the outcome was known"))
