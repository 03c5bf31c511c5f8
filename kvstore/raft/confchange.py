"""Membership: the configuration, and the three steps between configurations.

Pure functions from a configuration to the next, or ConfChangeError: `simple` (at most one voter differs), `enter_joint`
(old voters become the outgoing half, the changes make the incoming one), `leave_joint`. A voter that is demoted in a
joint change stays a voter of the outgoing half until it is left, and waits in `learners_next` meanwhile: no node is
ever voter and learner at once. Source: etcd-io/raft confchange/, the Raft thesis section 4.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kvstore.raft.errors import ConfChangeError
from kvstore.raft.types import NO_ID, ConfChangeSingle, ConfChangeType, ConfState


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who votes and who listens. `outgoing` is empty outside a joint change."""

    incoming: frozenset[int] = field(default=frozenset())
    outgoing: frozenset[int] = field(default=frozenset())
    learners: frozenset[int] = field(default=frozenset())
    learners_next: frozenset[int] = field(default=frozenset())
    auto_leave: bool = False

    @property
    def joint(self) -> bool:
        return bool(self.outgoing)

    def voters(self) -> frozenset[int]:
        return self.incoming | self.outgoing

    def members(self) -> frozenset[int]:
        return self.incoming | self.outgoing | self.learners

    def to_conf_state(self) -> ConfState:
        return ConfState(
            voters=tuple(sorted(self.incoming)),
            learners=tuple(sorted(self.learners)),
            voters_outgoing=tuple(sorted(self.outgoing)),
            learners_next=tuple(sorted(self.learners_next)),
            auto_leave=self.auto_leave,
        )

    def check(self) -> None:
        """Raises ConfChangeError if the sets contradict each other."""
        both = self.learners & self.voters()
        if both:
            raise ConfChangeError(f"voters and learners at once: {sorted(both)}")
        if not self.learners_next <= self.outgoing:
            raise ConfChangeError(f"demoted but not outgoing voters: {sorted(self.learners_next - self.outgoing)}")
        if self.learners_next & self.incoming:
            raise ConfChangeError(f"demoted and incoming voters: {sorted(self.learners_next & self.incoming)}")
        if not self.joint and self.auto_leave:
            raise ConfChangeError("auto_leave without a joint configuration")


def simple(conf: Configuration, changes: Iterable[ConfChangeSingle]) -> Configuration:
    """Applies changes of which at most one adds or removes a voter."""
    if conf.joint:
        raise ConfChangeError("can't apply simple config change in joint config")
    result = _apply(conf, conf.outgoing, changes)
    if len(result.incoming ^ conf.incoming) > 1:
        raise ConfChangeError("more than one voter changed without entering joint config")
    return result


def enter_joint(conf: Configuration, auto_leave: bool, changes: Iterable[ConfChangeSingle]) -> Configuration:
    """Applies any changes; until `leave_joint` old and new voters must both agree."""
    if conf.joint:
        raise ConfChangeError("config is already joint")
    if not conf.incoming:
        raise ConfChangeError("can't make a zero-voter config joint")
    result = _apply(conf, conf.incoming, changes)
    joint = Configuration(result.incoming, conf.incoming, result.learners, result.learners_next, auto_leave)
    joint.check()
    return joint


def leave_joint(conf: Configuration) -> Configuration:
    """Drops the outgoing voters; those that were demoted become learners."""
    if not conf.joint:
        raise ConfChangeError("can't leave a non-joint config")
    result = Configuration(incoming=conf.incoming, learners=conf.learners | conf.learners_next)
    result.check()
    return result


def restore(state: ConfState) -> Configuration:
    """The configuration that a ConfState describes; ConfChangeError if it describes none."""
    conf = Configuration(
        frozenset(state.voters),
        frozenset(state.voters_outgoing),
        frozenset(state.learners),
        frozenset(state.learners_next),
        state.auto_leave,
    )
    if not conf.incoming and (conf.outgoing or conf.learners):
        raise ConfChangeError("a configuration without voters")
    conf.check()
    return conf


def _apply(conf: Configuration, outgoing: frozenset[int], changes: Iterable[ConfChangeSingle]) -> Configuration:
    incoming, learners, demoted = set(conf.incoming), set(conf.learners), set(conf.learners_next)
    for kind, node in changes:
        if node == NO_ID:  # a change that was proposed and then struck out
            continue
        if kind == ConfChangeType.ADD_LEARNER and node in learners:
            continue
        incoming.discard(node)
        learners.discard(node)
        demoted.discard(node)
        match kind:
            case ConfChangeType.ADD_NODE:
                incoming.add(node)
            case ConfChangeType.ADD_LEARNER:
                (demoted if node in outgoing else learners).add(node)
            case ConfChangeType.REMOVE_NODE:
                pass
    if not incoming:
        raise ConfChangeError("removed all voters")
    result = Configuration(
        frozenset(incoming), outgoing, frozenset(learners), frozenset(demoted), auto_leave=conf.auto_leave
    )
    result.check()
    return result


def changes_text(changes: Sequence[ConfChangeSingle]) -> str:
    """`v1 l2 r3`: add voter 1, add learner 2, remove 3."""
    letters = {ConfChangeType.ADD_NODE: "v", ConfChangeType.ADD_LEARNER: "l", ConfChangeType.REMOVE_NODE: "r"}
    return " ".join(f"{letters[kind]}{node}" for kind, node in changes)
