"""A random network of raw nodes under one seed, with the checks of the Raft paper (figure 3) after every step.

A node has a disk (`MemoryStorage`, the machine's applied prefix and its configuration) and a Ready that may be half
done: messages, ticks and proposals come in between `ready` and `advance`, and a crash there loses what was not on disk.
Messages are lost, doubled and reordered, and pairs of nodes are cut off one-way. `Faults` plants bugs on purpose.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from kvstore.raft import Config, MemoryStorage, RawNode, Ready, decode_conf_change
from kvstore.raft.errors import Compacted, ConfChangeError, ProposalDropped, RequestSnapshotDropped
from kvstore.raft.types import (
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Role,
    Snapshot,
)

FIRST_INDEX = FIRST_TERM = 5  # the group begins with a snapshot here, as TiKV's do: a node that joins needs one
IN_FLIGHT_MAX = 60


class Violation(AssertionError):
    """A property of Raft does not hold."""


@dataclass(frozen=True)
class Faults:
    """Bugs of the caller, planted on purpose."""

    forget_vote: bool = False
    reply_before_persist: bool = False


@dataclass
class Checker:
    """What must hold across all nodes and crashes."""

    leaders: dict[int, int] = field(default_factory=dict)
    entries: dict[tuple[int, int], tuple[bytes, int]] = field(default_factory=dict)
    applied: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    applied_in_term: dict[int, int] = field(default_factory=dict)
    applied_max: int = FIRST_INDEX

    def on_leader(self, node: SimNode) -> None:
        """Election safety; and leader completeness for what was seen committed in earlier terms."""
        raw = node.raw
        known = self.leaders.setdefault(raw.term, raw.id)
        if known != raw.id:
            raise Violation(f"term {raw.term} has two leaders, {known} and {raw.id}")
        for index, (term, _) in self.applied.items():
            if self.applied_in_term[index] < raw.term and not _holds(raw, index, term):
                raise Violation(f"leader {raw.id} of term {raw.term} lacks committed entry {index} of term {term}")

    def on_entry(self, entry: Entry, previous_term: int) -> None:
        """Log matching, by induction: an index and a term name one entry and its predecessor's term."""
        value = (entry.data, previous_term)
        if self.entries.setdefault((entry.index, entry.term), value) != value:
            raise Violation(f"two entries at index {entry.index} of term {entry.term}")

    def on_applied(self, node: int, entry: Entry, term: int) -> None:
        """State machine safety."""
        value = (entry.term, entry.data)
        if self.applied.setdefault(entry.index, value) != value:
            raise Violation(f"node {node} applied {value} at {entry.index}, another {self.applied[entry.index]}")
        self.applied_in_term[entry.index] = min(term, self.applied_in_term.get(entry.index, term))
        self.applied_max = max(self.applied_max, entry.index)


def _holds(raw: RawNode, index: int, term: int) -> bool:
    log = raw._raft.log
    try:
        return index <= log.last_index and log.term(index) == term
    except Compacted:
        return True


class SimStorage(MemoryStorage):
    """Makes its snapshots when they are asked for, of what is applied by then."""

    def __init__(self, node: SimNode, conf_state: ConfState) -> None:
        super().__init__(conf_state)
        self._node = node

    def snapshot(self, request_index: int, to: int) -> Snapshot:
        self.create_snapshot(self._node.applied, self._node.conf_state)
        return super().snapshot(request_index, to)


class SimNode:
    """One node: its disk, and while it is up its RawNode and the Ready in progress."""

    def __init__(self, cluster: Cluster, node: int, conf_state: ConfState, settings: Config) -> None:
        self.cluster = cluster
        self.id = node
        self.settings = settings
        self.storage = SimStorage(self, conf_state)
        if conf_state.voters:
            self.storage.apply_snapshot(Snapshot(FIRST_INDEX, FIRST_TERM, conf_state))
            self.storage.set_hard_state(HardState(FIRST_TERM, 0, FIRST_INDEX))
        self.disk_applied = self.storage.first_index() - 1
        self.disk_conf = conf_state
        self.up = False
        self.start()

    def start(self) -> None:
        self.up = True
        self.storage.conf_state = self.conf_state = self.disk_conf
        self.applied = self.disk_applied
        self.ready: Ready | None = None
        self.was_leader = False
        self.reads: dict[bytes, int] = {}
        self.unapplied: list[Entry] = []
        self.raw = RawNode(replace(self.settings, applied=self.applied), self.storage, self.cluster.rng)

    def crash(self) -> None:
        self.up = False

    def begin(self) -> None:
        """Takes a Ready; nothing of it is on disk yet."""
        if self.ready is not None or not self.raw.has_ready():
            return
        ready = self.ready = self.raw.ready()
        self.cluster.send(ready.messages)
        if self.cluster.faults.reply_before_persist:
            self.cluster.send(ready.persisted_messages)

    def finish(self) -> None:
        """The disk has it all: answers leave, entries are applied."""
        ready, self.ready = self.ready, None
        if ready is None:
            return
        self._persist(ready)
        if not self.cluster.faults.reply_before_persist:
            self.cluster.send(ready.persisted_messages)
        light = self.raw.advance(ready)
        self.cluster.send(light.messages)
        for state in ready.read_states:
            asked_at = self.reads.pop(state.request_ctx, None)
            self.cluster.seen["reads"] += asked_at is not None
            if asked_at is not None and state.index < asked_at:
                raise Violation(f"read at {state.index}, but {asked_at} was committed when it was asked")
        self.unapplied += [*ready.committed_entries, *light.committed_entries]
        if not self.cluster.lazy_apply:
            self.apply()
        if light.commit_index is not None:
            hard_state = self.storage.hard_state
            self.storage.set_hard_state(HardState(hard_state.term, hard_state.vote, light.commit_index))

    def apply(self) -> None:
        """The state machine catches up with what was handed to it."""
        unapplied, self.unapplied = self.unapplied, []
        for entry in unapplied:
            self._apply(entry)

    def _persist(self, ready: Ready) -> None:
        if ready.snapshot is not None:
            self.storage.apply_snapshot(ready.snapshot)
            self.disk_applied = self.applied = ready.snapshot.index
            self.disk_conf = self.conf_state = ready.snapshot.conf_state
            self.unapplied = []  # it covers them
            self.cluster.seen["snapshots"] += 1
            self.raw.advance_apply_to(self.applied)
        self.storage.append(ready.entries)
        for entry in ready.entries:
            self.cluster.checker.on_entry(entry, self.storage.term(entry.index - 1))
        if ready.hard_state is not None:
            hard_state = ready.hard_state
            if self.cluster.faults.forget_vote:
                hard_state = HardState(hard_state.term, 0, hard_state.commit)
            self.storage.set_hard_state(hard_state)

    def _apply(self, entry: Entry) -> None:
        if entry.index != self.applied + 1:
            raise Violation(f"node {self.id} was handed {entry.index} after {self.applied}")
        self.cluster.checker.on_applied(self.id, entry, self.raw.term)
        if entry.type is not EntryType.NORMAL:
            try:
                self.conf_state = self.raw.apply_conf_change(decode_conf_change(entry))
                self.cluster.seen["joint" if self.conf_state.voters_outgoing else "simple"] += 1
            except ConfChangeError:
                self.cluster.seen["refused"] += 1  # the same on every node: state machine safety sees to that
        self.applied = entry.index
        self.raw.advance_apply_to(entry.index)

    def flush_machine(self) -> None:
        """The state machine's own disk catches up; a crash goes back to here."""
        self.disk_applied, self.disk_conf = self.applied, self.conf_state

    def compact(self) -> None:
        """Drops the log before what is applied."""
        if self.ready is None and self.applied > self.storage.first_index():
            self.flush_machine()
            self.storage.compact(self.applied)


class Cluster:
    """The nodes and the network between them."""

    def __init__(
        self,
        seed: int,
        nodes: int = 5,
        voters: int = 3,
        faults: Faults | None = None,
        lazy_apply: bool = False,
        **settings: Any,
    ) -> None:
        self.rng = random.Random(seed)
        self.faults = faults or Faults()
        self.checker = Checker()
        self.in_flight: list[Message] = []
        self.cut: set[tuple[int, int]] = set()
        self.proposed = 0
        self.lazy_apply = lazy_apply  # the state machine lags behind, else it applies what it gets at once
        self.seen: Counter[str] = Counter()  # what the run has been through
        conf_state = ConfState(voters=tuple(range(1, voters + 1)))
        self.settings = {"election_tick": 5, "heartbeat_tick": 1, **settings}
        self.nodes: dict[int, SimNode] = {}
        for node in range(1, nodes + 1):
            self.add(node, conf_state if node <= voters else ConfState())

    def add(self, node: int, conf_state: ConfState) -> None:
        """A node that knows a configuration, or with none one that waits for a snapshot."""
        self.nodes[node] = SimNode(self, node, conf_state, Config(node, **self.settings))

    def send(self, messages: Iterable[Message]) -> None:
        self.in_flight.extend(messages)

    def up(self) -> list[SimNode]:
        return [node for node in self.nodes.values() if node.up]

    def leaders(self) -> list[SimNode]:
        return [node for node in self.up() if node.raw.role is Role.LEADER]

    def deliver(self, position: int) -> None:
        message = self.in_flight[position]
        target = self.nodes.get(message.to)
        if target is None or not target.up or (message.from_, message.to) in self.cut:
            self.lose(position)
            return
        self.in_flight.pop(position)
        target.raw.step(message)
        self._report(message, True)

    def lose(self, position: int) -> None:
        self._report(self.in_flight.pop(position), False)

    def _report(self, message: Message, ok: bool) -> None:
        """Snapshots go over a connection of their own, whose end the sender sees."""
        sender = self.nodes.get(message.from_)
        if message.type == MessageType.SNAPSHOT and sender is not None and sender.up:
            sender.raw.report_snapshot(message.to, ok)

    def check(self) -> None:
        for node in self.up():
            # A group's only voter leads in memory before its vote is on disk, but nobody hears of it.
            leads = node.raw.role is Role.LEADER and node.storage.hard_state.term == node.raw.term
            if leads and not node.was_leader:
                self.seen["leaders"] += 1
                self.checker.on_leader(node)
            node.was_leader = leads

    def step(self) -> None:
        """One random event."""
        node = self.rng.choice(list(self.nodes.values()))
        dice = self.rng.random()
        if dice < 0.40:
            for _ in range(4):
                self._network()
        elif not node.up:
            if dice < 0.45:
                node.start()
        elif dice < 0.60:
            node.begin()
        elif dice < 0.80:
            node.finish()
            if self.rng.random() < 0.3:
                node.apply()
        elif dice < 0.90:
            node.raw.tick()
        elif dice < 0.93:
            self._propose()
        elif dice < 0.95:
            self._read(node)
        elif dice < 0.955:
            self._change_membership()
        elif dice < 0.96:
            node.compact()
        elif dice < 0.97:
            node.flush_machine()
        elif dice < 0.973:
            self.cut = set() if self.cut else self._partition()
        elif dice < 0.974:
            self._repair(node)
        elif dice < 0.976:
            node.raw.transfer_leader(self.rng.choice(list(self.nodes)))
        elif dice < 0.98:
            node.crash()
        self.check()

    def _network(self) -> None:
        if not self.in_flight:
            return
        while len(self.in_flight) > IN_FLIGHT_MAX:
            self.lose(self.rng.randrange(len(self.in_flight)))
        # Mostly in order: else logs hardly ever grow.
        position = 0 if self.rng.random() < 0.7 else self.rng.randrange(len(self.in_flight))
        fate = self.rng.random()
        if fate < 0.05:
            self.lose(position)
        elif fate < 0.10:
            self.in_flight.append(self.in_flight[position])
        else:
            self.deliver(position)

    def _partition(self) -> set[tuple[int, int]]:
        side = {node for node in self.nodes if self.rng.random() < 0.5}
        one_way = self.rng.random() < 0.3
        return {
            (a, b) for a in self.nodes for b in self.nodes if (a in side) != (b in side) and (not one_way or a in side)
        }

    def _propose(self) -> None:
        for node in self.leaders():
            try:
                node.raw.propose(b"", b"%d" % self.proposed)
                self.proposed += 1
            except ProposalDropped:
                pass  # being handed over, or removed

    def _repair(self, node: SimNode) -> None:
        if self.rng.random() < 0.5:
            with contextlib.suppress(RequestSnapshotDropped):  # nobody to ask
                node.raw.request_snapshot()
        else:
            node.raw.report_unreachable(self.rng.choice(list(self.nodes)))

    def _read(self, node: SimNode) -> None:
        context = b"read-%d-%d" % (node.id, self.rng.getrandbits(40))
        if node.raw.read_index(context):
            node.reads[context] = self.checker.applied_max

    def _change_membership(self) -> None:
        for node in self.leaders():
            kinds = list(ConfChangeType)
            changes = tuple(
                ConfChangeSingle(self.rng.choice(kinds), self.rng.choice(list(self.nodes)))
                for _ in range(self.rng.randrange(4))
            )
            if self.rng.random() < 0.3:
                changes = ()  # leave a joint configuration
            transition = self.rng.choice(list(ConfChangeTransition)) if changes else ConfChangeTransition.AUTO
            with contextlib.suppress(ProposalDropped):  # being handed over, or removed
                node.raw.propose_conf_change(b"", ConfChangeV2(changes, transition))

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def destroy_removed(self) -> None:
        """Takes away who was removed and does not know: without pre-vote and check-quorum it would disturb for ever."""
        members = max(self.nodes.values(), key=lambda node: node.applied).raw.members()
        self.nodes = {node: self.nodes[node] for node in members}

    def settle(self, ticks: int = 80) -> None:
        """Heals everything and lets time pass: the group must agree again."""
        self.cut = set()
        for node in self.nodes.values():
            if not node.up:
                node.start()
        for _ in range(ticks):
            for node in self.nodes.values():
                node.raw.tick()
            self.drain()

    def exchange(self, *nodes: int, keep: Callable[[Message], bool] = lambda message: True) -> None:
        """Lets these nodes work and talk to each other, with the messages that `keep` passes, until all is quiet."""
        quiet = False
        while not quiet:
            for node in nodes:
                self.nodes[node].begin()
                self.nodes[node].finish()
                self.nodes[node].apply()
            sent, self.in_flight = self.in_flight, []
            for message in sent:
                if message.from_ in nodes and message.to in nodes and keep(message):
                    self.nodes[message.to].raw.step(message)
            self.check()
            quiet = not any(self.nodes[node].raw.has_ready() for node in nodes)

    def drain(self) -> None:
        """Persists and delivers until nothing is left to do."""
        while True:
            for node in self.up():
                node.begin()
                node.finish()
                node.apply()
            self.check()
            if not self.in_flight and not any(node.raw.has_ready() for node in self.up()):
                return
            while self.in_flight:
                self.deliver(0)
            self.check()
