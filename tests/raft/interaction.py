"""A group of raw nodes driven by script commands, each node's work printed as it is done.

Lines read `node: what it does` and `from>to message`. Entries are term/index "data". Every group begins with a snapshot
at 5/5. An election timeout is always 5 ticks and a heartbeat 1, so that scripts can count.
"""

from __future__ import annotations

from collections.abc import Callable

from kvstore.raft import Config, decode_conf_change
from kvstore.raft.confchange import changes_text
from kvstore.raft.errors import RaftError
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
    ReadOnlyOption,
)
from tests.raft.network import Cluster, SimNode

ROUNDS_MAX = 60
_KINDS = {"v": ConfChangeType.ADD_NODE, "l": ConfChangeType.ADD_LEARNER, "r": ConfChangeType.REMOVE_NODE}
_SETTINGS: dict[str, Callable[[str], object]] = {
    "pre_vote": lambda text: text == "on",
    "check_quorum": lambda text: text == "on",
    "batch_append": lambda text: text == "on",
    "skip_bcast_commit": lambda text: text == "on",
    "step_down_on_removal": lambda text: text == "on",
    "lease": lambda text: ReadOnlyOption.LEASE_BASED if text == "on" else ReadOnlyOption.SAFE,
    "max_inflight_msgs": int,
    "max_size_per_msg": int,
    "max_uncommitted_size": int,
    "priority": int,
    "min_election_tick": int,
    "max_election_tick": int,
}


class ShortestTimeout:
    """Draws the shortest election timeout every time."""

    def randrange(self, start: int, stop: int, /) -> int:
        return start


class Script(Cluster):
    """The commands of a script, and what they print."""

    def __init__(self) -> None:
        super().__init__(0, nodes=0, voters=0, pre_vote=False, check_quorum=False)
        self.rng = ShortestTimeout()  # type: ignore[assignment]
        self.out: list[str] = []

    def add(self, node: int, conf_state: ConfState) -> None:
        self.nodes[node] = PrintingNode(self, node, conf_state, Config(node, **self.settings))

    def send(self, messages: object) -> None:
        for message in messages:  # type: ignore[attr-defined]
            self.out.append(message_text(message))
            self.in_flight.append(message)

    def run_command(self, words: list[str], options: dict[str, str]) -> list[str]:
        self.out = []
        for name, value in options.items():
            if name in _SETTINGS:
                self.settings["read_only" if name == "lease" else name] = _SETTINGS[name](value)
        try:
            getattr(self, "do_" + words[0])(words[1:], options)
        except RaftError as error:
            self.out.append(f"{type(error).__name__}: {error}")
        return self.out

    # making nodes

    def do_add(self, args: list[str], options: dict[str, str]) -> None:
        """add 1 2 3 [/learners=4]: nodes that are the voters, and learners, of a new group."""
        learners = _ids(options.get("learners", ""))
        voters = _ids(",".join(args))
        for node in voters + learners:
            self.add(node, ConfState(voters, learners))

    def do_join(self, args: list[str], options: dict[str, str]) -> None:
        """join 4: a node that knows nothing yet."""
        self.add(int(args[0]), ConfState())

    def do_entries(self, args: list[str], options: dict[str, str]) -> None:
        """entries 1 6 6 7: node 1 starts anew with entries of these terms from index 6 on, none committed."""
        node, terms = self.nodes[int(args[0])], [int(word) for word in args[1:]]
        node.storage.append([Entry(EntryType.NORMAL, term, 6 + i, b"") for i, term in enumerate(terms)])
        node.storage.set_hard_state(HardState(terms[-1], 0, 5))
        node.start()

    # what one node does

    def do_campaign(self, args: list[str], options: dict[str, str]) -> None:
        if not self.nodes[int(args[0])].raw.campaign():
            self.out.append("no campaign")

    def do_elect(self, args: list[str], options: dict[str, str]) -> None:
        """elect 1: a campaign that all vote in, without a word."""
        self.do_campaign(args, {})
        self.do_stabilize([], {})
        self.out = []

    def do_tick(self, args: list[str], options: dict[str, str]) -> None:
        """tick 1 [5]: so many ticks."""
        for _ in range(int(args[1]) if len(args) > 1 else 1):
            self.nodes[int(args[0])].raw.tick()

    def do_propose(self, args: list[str], options: dict[str, str]) -> None:
        for data in args[1:]:
            self.nodes[int(args[0])].raw.propose(b"", data.encode())

    def do_change(self, args: list[str], options: dict[str, str]) -> None:
        """change 1 v4 l2 r3 [/transition=explicit]: proposes to add voter 4, add learner 2, remove 3."""
        changes = tuple(ConfChangeSingle(_KINDS[word[0]], int(word[1:])) for word in args[1:])
        transition = ConfChangeTransition[options.get("transition", "auto").upper()]
        self.nodes[int(args[0])].raw.propose_conf_change(b"", ConfChangeV2(changes, transition))

    def do_transfer(self, args: list[str], options: dict[str, str]) -> None:
        self.nodes[int(args[0])].raw.transfer_leader(int(args[1]))

    def do_read(self, args: list[str], options: dict[str, str]) -> None:
        if not self.nodes[int(args[0])].raw.read_index(args[1].encode()):
            self.out.append("no leader to ask")

    def do_request_snapshot(self, args: list[str], options: dict[str, str]) -> None:
        self.nodes[int(args[0])].raw.request_snapshot()

    def do_unreachable(self, args: list[str], options: dict[str, str]) -> None:
        self.nodes[int(args[0])].raw.report_unreachable(int(args[1]))

    def do_snapshot_sent(self, args: list[str], options: dict[str, str]) -> None:
        self.nodes[int(args[0])].raw.report_snapshot(int(args[1]), True)

    def do_snapshot_failed(self, args: list[str], options: dict[str, str]) -> None:
        self.nodes[int(args[0])].raw.report_snapshot(int(args[1]), False)

    def do_compact(self, args: list[str], options: dict[str, str]) -> None:
        """compact 1 [8]: drops the log up to an index, else up to what is applied."""
        node = self.nodes[int(args[0])]
        node.flush_machine()
        node.storage.compact(int(args[1]) if len(args) > 1 else node.applied)

    def do_no_snapshot(self, args: list[str], options: dict[str, str]) -> None:
        """no_snapshot 1 on|off: making a snapshot takes a while."""
        self.nodes[int(args[0])].storage.snapshot_unavailable = args[1] == "on"

    def do_crash(self, args: list[str], options: dict[str, str]) -> None:
        """crash 1: comes back at once with what is on disk."""
        node = self.nodes[int(args[0])]
        node.crash()
        node.start()

    def do_begin(self, args: list[str], options: dict[str, str]) -> None:
        """begin 1: takes a Ready, and sends what needs no disk."""
        self.nodes[int(args[0])].begin()

    def do_finish(self, args: list[str], options: dict[str, str]) -> None:
        """finish 1: the Ready is on disk."""
        self.nodes[int(args[0])].finish()

    def do_ready(self, args: list[str], options: dict[str, str]) -> None:
        for node in _ids(",".join(args)):
            self.nodes[node].begin()
            self.nodes[node].finish()

    # the network

    def do_deliver(self, args: list[str], options: dict[str, str]) -> None:
        """deliver 2 [/from=1] [/type=append]: hands over what is under way to it."""
        for message in self._taken(args, options):
            self.nodes[message.to].raw.step(message)

    def do_drop(self, args: list[str], options: dict[str, str]) -> None:
        for message in self._taken(args, options):
            self.out.append("lost " + message_text(message))

    def do_double(self, args: list[str], options: dict[str, str]) -> None:
        """double 2: what is under way to it will arrive twice."""
        taken = self._taken(args, options)
        self.in_flight += taken + taken

    def _taken(self, args: list[str], options: dict[str, str]) -> list[Message]:
        targets = _ids(",".join(args))
        sources = _ids(options.get("from", ""))
        kind = options.get("type", "").upper()
        """What is under way to these nodes, by sender or type if told, or the first of it only."""
        taken = [
            message
            for message in self.in_flight
            if message.to in targets
            and (not sources or message.from_ in sources)
            and (not kind or message.type.name == kind)
        ]
        taken = taken[:1] if "first" in options else taken
        self.in_flight = [message for message in self.in_flight if not any(message is one for one in taken)]
        return taken

    def do_stabilize(self, args: list[str], options: dict[str, str]) -> None:
        """stabilize [1 2]: these nodes, or all, work and talk until all is quiet; messages to others stay under way."""
        nodes = _ids(",".join(args)) or tuple(sorted(self.nodes))
        for _ in range(ROUNDS_MAX):
            busy = False
            for node in nodes:
                busy = busy or self.nodes[node].raw.has_ready()
                self.nodes[node].begin()
                self.nodes[node].finish()
            for message in self._taken([str(node) for node in nodes], {}):
                busy = True
                if message.to in self.nodes:
                    self.nodes[message.to].raw.step(message)
            if not busy:
                return
        self.out.append("does not come to rest")

    # what one can see

    def do_nodes(self, args: list[str], options: dict[str, str]) -> None:
        for node in self.nodes.values():
            raw = node.raw
            self.out.append(
                f"{raw.id}: {raw.role.name} term={raw.term} vote={raw.vote} leader={raw.leader_id} commit={raw.commit}"
                f" applied={raw.applied} last={raw.last_term}/{raw.last_index}"
            )

    def do_log(self, args: list[str], options: dict[str, str]) -> None:
        log = self.nodes[int(args[0])].raw._raft.log
        first = log.first_index()
        entries = log.entries(first, log.last_index + 1, None) if first <= log.last_index else []
        self.out.append(f"{args[0]}: after {log.term(first - 1)}/{first - 1}: {entries_text(entries)}")

    def do_progress(self, args: list[str], options: dict[str, str]) -> None:
        """progress 1: how the leader sees its followers."""
        raw = self.nodes[int(args[0])].raw
        for node in raw.members():
            view = raw.progress(node)
            assert view is not None
            more = f" inflight={view.inflight}" if view.inflight else ""
            more += f" pending_snapshot={view.pending_snapshot}" if view.pending_snapshot else ""
            more += " paused" if view.paused else ""
            more += "" if view.recent_active or node == raw.id else " silent"
            self.out.append(f"{node}: {view.state.name} matched={view.matched} next={view.next_idx}{more}")

    def do_lease(self, args: list[str], options: dict[str, str]) -> None:
        self.out.append("in lease" if self.nodes[int(args[0])].raw.in_lease() else "no lease")


class PrintingNode(SimNode):
    """Prints every Ready and what is applied."""

    cluster: Script

    def say(self, text: str) -> None:
        self.cluster.out.append(f"{self.id}: {text}")

    def begin(self) -> None:
        had_none = self.ready is None
        # What goes out is said after what has to be durable before it.
        out, self.cluster.out = self.cluster.out, []
        super().begin()
        sent, self.cluster.out = self.cluster.out, out
        if had_none and self.ready is not None:
            self._say_ready()
        self.cluster.out += sent

    def _say_ready(self) -> None:
        ready = self.ready
        assert ready is not None
        if ready.soft_state is not None:
            self.say(f"{ready.soft_state.role.name} leader={ready.soft_state.leader_id}")
        if ready.hard_state is not None:
            self.say(f"term={ready.hard_state.term} vote={ready.hard_state.vote} commit={ready.hard_state.commit}")
        if ready.snapshot is not None:
            snapshot = ready.snapshot
            self.say(f"restore {snapshot.term}/{snapshot.index} {conf_text(snapshot.conf_state)}")
        if ready.entries:
            self.say(f"append {entries_text(ready.entries)}")
        for state in ready.read_states:
            self.say(f"read {state.request_ctx.decode()} at {state.index}")

    def _apply(self, entry: Entry) -> None:
        self.say(f"apply {entries_text([entry])}")
        before, refused = self.conf_state, self.cluster.seen["refused"]
        super()._apply(entry)
        if self.conf_state != before:
            self.say(f"members {conf_text(self.conf_state)}")
        elif self.cluster.seen["refused"] != refused:
            self.say("change refused")


def _ids(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(",") if word)


def entries_text(entries: object) -> str:
    return " ".join(_entry_text(entry) for entry in entries) or "(none)"  # type: ignore[attr-defined]


def _entry_text(entry: Entry) -> str:
    if entry.type is EntryType.NORMAL:
        return f'{entry.term}/{entry.index} "{entry.data.decode()}"'
    change = decode_conf_change(entry)
    text = changes_text(change.changes) or "leave"
    if change.transition is not ConfChangeTransition.AUTO:
        text += " " + change.transition.name.lower()
    return f"{entry.term}/{entry.index} ({text})"


def conf_text(conf: ConfState) -> str:
    text = f"voters={list(conf.voters)}"
    text += f" outgoing={list(conf.voters_outgoing)}" if conf.voters_outgoing else ""
    text += f" learners={list(conf.learners)}" if conf.learners else ""
    text += f" learners_next={list(conf.learners_next)}" if conf.learners_next else ""
    return text + (" auto_leave" if conf.auto_leave else "")


def message_text(message: Message) -> str:
    text = f"{message.from_}>{message.to} {message.type.name.lower()} term={message.term}"
    match message.type:
        case MessageType.APPEND:
            entries = entries_text(message.entries)
            text += f" after {message.log_term}/{message.index} commit={message.commit} {entries}"
        case MessageType.APPEND_RESPONSE:
            text += f" index={message.index}"
            if message.reject:
                text += f" reject hint={message.log_term}/{message.reject_hint}"
            if message.request_snapshot:
                text += f" wants snapshot at {message.request_snapshot}"
        case MessageType.REQUEST_VOTE | MessageType.REQUEST_PRE_VOTE:
            text += f" last={message.log_term}/{message.index} commit={message.commit_term}/{message.commit}"
            text += " forced" if message.context else ""
        case MessageType.REQUEST_VOTE_RESPONSE | MessageType.REQUEST_PRE_VOTE_RESPONSE:
            text += " no" if message.reject else " yes"
        case MessageType.HEARTBEAT:
            text += f" commit={message.commit}" + (f" read={message.context.decode()}" if message.context else "")
        case MessageType.HEARTBEAT_RESPONSE:
            text += f" read={message.context.decode()}" if message.context else ""
        case MessageType.SNAPSHOT:
            assert message.snapshot is not None
            text += f" {message.snapshot.term}/{message.snapshot.index} {conf_text(message.snapshot.conf_state)}"
        case MessageType.READ_INDEX:
            text += f" read={message.entries[0].data.decode()}"
        case MessageType.READ_INDEX_RESP:
            text += f" read={message.entries[0].data.decode()} index={message.index}"
        case _:
            pass
    return text
