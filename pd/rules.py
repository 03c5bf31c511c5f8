"""Placement rules: how many replicas of a key range, in which role, on stores with which labels.

As PD's placement rules: a rule holds for a range of encoded keys; a region takes all rules whose range holds it whole;
a rule with `override` puts those before it in its group out of force. `fit` says which peer stands for which rule, and
checkers bring regions to where every rule has its count. Replicas of one rule are spread by its location labels.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from kvstore.proto.metapb_pb2 import Peer, PeerRole, Region
from pd.cluster import ENGINE_LABEL, Cluster, StoreInfo
from pd.config import ScheduleConfig
from pd.regions import VOTING_ROLES, RegionInfo

DEFAULT_GROUP = "pd"
DEFAULT_ID = "default"
RULES_MAX = 1000
ISOLATION_BASE = 100
"""What a difference at one location label outweighs of differences at the next narrower one."""


class RuleRole(enum.Enum):
    VOTER = "voter"
    LEADER = "leader"
    FOLLOWER = "follower"
    LEARNER = "learner"


class LabelOp(enum.Enum):
    IN = "in"
    NOT_IN = "notIn"
    EXISTS = "exists"
    NOT_EXISTS = "notExists"


@dataclass(frozen=True, slots=True)
class LabelConstraint:
    """What a store's label must be."""

    key: str
    op: LabelOp
    values: tuple[str, ...] = ()

    def matches(self, store: StoreInfo) -> bool:
        value = store.label(self.key)
        match self.op:
            case LabelOp.IN:
                return value is not None and value in self.values
            case LabelOp.NOT_IN:
                return value is None or value not in self.values
            case LabelOp.EXISTS:
                return value is not None
            case LabelOp.NOT_EXISTS:
                return value is None


@dataclass(frozen=True, slots=True)
class Rule:
    """One placement rule."""

    group: str
    id: str
    role: RuleRole = RuleRole.VOTER
    count: int = 3
    index: int = 0
    """Order within the group."""
    override: bool = False
    start_key: bytes = b""
    end_key: bytes = b""
    constraints: tuple[LabelConstraint, ...] = ()
    location_labels: tuple[str, ...] = ()
    isolation_level: str = ""

    def check(self) -> None:
        """Raises ValueError for a rule that can't be."""
        if not self.group or not self.id:
            raise ValueError("a rule needs a group and an id")
        if self.count < 1:
            raise ValueError(f"rule {self.group}/{self.id}: count {self.count} is less than 1")
        if self.role is RuleRole.LEADER and self.count > 1:
            raise ValueError(f"rule {self.group}/{self.id}: a region has one leader, not {self.count}")
        if self.end_key and self.end_key <= self.start_key:
            raise ValueError(f"rule {self.group}/{self.id}: the range is empty")
        if self.isolation_level and self.isolation_level not in self.location_labels:
            raise ValueError(
                f"rule {self.group}/{self.id}: isolation level {self.isolation_level!r} is no location label"
            )

    def holds(self, start: bytes, end: bytes) -> bool:
        """Whether the range lies whole in the rule's."""
        return self.start_key <= start and (not self.end_key or (bool(end) and end <= self.end_key))

    def matches(self, store: StoreInfo) -> bool:
        """Whether the store may carry the rule's replicas; special stores only where a constraint names their label."""
        named = {constraint.key.lower() for constraint in self.constraints}
        for label in store.meta.labels:
            special = label.key.startswith("$") or label.key.lower() == ENGINE_LABEL
            if special and label.key.lower() not in named:
                return False
        return all(constraint.matches(store) for constraint in self.constraints)

    def suits(self, peer: Peer, *, is_leader: bool) -> bool:
        """Whether the peer has the rule's role already."""
        match self.role:
            case RuleRole.LEARNER:
                return peer.role == PeerRole.Learner
            case RuleRole.LEADER:
                return is_leader
            case RuleRole.FOLLOWER:
                return peer.role in VOTING_ROLES and not is_leader
            case RuleRole.VOTER:
                return peer.role in VOTING_ROLES

    def could_suit(self, peer: Peer) -> bool:
        """A learner can be promoted and the lead be handed on; a voter is not made a learner."""
        return self.role is not RuleRole.LEARNER or peer.role in (PeerRole.Learner, PeerRole.DemotingVoter)


class RuleSet:
    """All rules in force, in order; without any of one's own there is one for all keys, from the configuration."""

    def __init__(self, rules: Iterable[Rule], config: ScheduleConfig) -> None:
        self.own = {(rule.group, rule.id): rule for rule in rules}
        rules = list(self.own.values())
        if all(rule.role is RuleRole.LEARNER for rule in rules):
            # rules for learners alone add to what regions have: without it no voter would be wanted at all
            rules.append(default_rule(config))
        self.rules = sorted(rules, key=lambda rule: (rule.group, rule.index, rule.id))
        self._ranged = any(rule.start_key or rule.end_key for rule in self.rules)
        self._everywhere = _in_force(self.rules)
        self._fits: dict[int, tuple[Region, int, int, RegionFit]] = {}
        """Fits already made, by region, with what they were made from."""

    def for_range(self, start: bytes, end: bytes) -> Sequence[Rule]:
        if not self._ranged:
            return self._everywhere
        return _in_force([rule for rule in self.rules if rule.holds(start, end)])

    def fit(self, region: RegionInfo, cluster: Cluster) -> RegionFit:
        """The region's fit, made again only when its peers, its leader or some store changed."""
        leader_id = region.leader.id if region.leader is not None else 0
        made = self._fits.get(region.id)
        if made and made[0] is region.meta and made[1] == leader_id and made[2] == cluster.stores_changed:
            return made[3]
        found = fit(region, self.for_range(region.start_key, region.end_key), cluster.stores)
        self._fits[region.id] = (region.meta, leader_id, cluster.stores_changed, found)
        return found

    def forget(self, region_id: int) -> None:
        self._fits.pop(region_id, None)

    def split_keys(self, start: bytes, end: bytes) -> list[bytes]:
        """Where rules begin and end strictly within the range: a region must not reach over these."""
        if not self._ranged:
            return []
        keys = {key for rule in self.rules for key in (rule.start_key, rule.end_key)}
        return sorted(key for key in keys if key > start and (not end or key < end))


def default_rule(config: ScheduleConfig) -> Rule:
    return Rule(
        DEFAULT_GROUP,
        DEFAULT_ID,
        count=max(1, config.max_replicas),
        location_labels=config.labels(),
        isolation_level=config.isolation_level if config.isolation_level in config.labels() else "",
    )


def _in_force(rules: Sequence[Rule]) -> list[Rule]:
    kept: list[Rule] = []
    for rule in rules:
        if rule.override:
            kept = [other for other in kept if other.group != rule.group]
        kept.append(rule)
    return kept


def isolation(stores: Sequence[StoreInfo], labels: Sequence[str]) -> int:
    """How well the stores are apart: for each pair the weight of the widest location label at which they differ."""
    return sum(distance(one, two, labels) for one, two in combinations(stores, 2))


def distance(one: StoreInfo, two: StoreInfo, labels: Sequence[str]) -> int:
    for position, label in enumerate(labels):
        mine, theirs = one.label(label), two.label(label)
        if mine is None or theirs is None or mine != theirs:
            weight: int = ISOLATION_BASE ** (len(labels) - position - 1)
            return weight
    return 0


@dataclass(frozen=True, slots=True)
class RuleFit:
    """The peers that stand for one rule."""

    rule: Rule
    peers: tuple[Peer, ...]
    wrong_role: tuple[Peer, ...]
    """Those of them that have another role yet."""
    isolation: int

    @property
    def missing(self) -> int:
        return self.rule.count - len(self.peers)

    def rank(self) -> tuple[int, int, int]:
        return len(self.peers), -len(self.wrong_role), self.isolation


@dataclass(frozen=True, slots=True)
class RegionFit:
    """Every rule with its peers, and the peers that no rule needs."""

    fits: tuple[RuleFit, ...]
    orphans: tuple[Peer, ...]

    def is_satisfied(self) -> bool:
        """Every rule has its count of peers in its role."""
        return bool(self.fits) and all(not fit.missing and not fit.wrong_role for fit in self.fits)

    def of(self, peer: Peer) -> RuleFit | None:
        return next((fit for fit in self.fits if any(other.id == peer.id for other in fit.peers)), None)


def fit(region: RegionInfo, rules: Sequence[Rule], stores: Mapping[int, StoreInfo]) -> RegionFit:
    """The best assignment of peers to rules; what comes first in the order of the rules weighs more."""
    peers = sorted((peer for peer in region.peers if peer.store_id in stores), key=lambda peer: peer.store_id)
    leader_id = region.leader.id if region.leader is not None else 0
    fits = _best(tuple(peers), rules, stores, leader_id)
    used = {peer.id for each in fits for peer in each.peers}
    return RegionFit(tuple(fits), tuple(peer for peer in region.peers if peer.id not in used))


def _best(
    peers: tuple[Peer, ...], rules: Sequence[Rule], stores: Mapping[int, StoreInfo], leader_id: int
) -> list[RuleFit]:
    if not rules:
        return []
    rule, rest = rules[0], rules[1:]
    candidates = [peer for peer in peers if rule.could_suit(peer) and rule.matches(stores[peer.store_id])]
    options = [
        _rule_fit(rule, chosen, stores, leader_id)
        for chosen in combinations(candidates, min(rule.count, len(candidates)))
    ]
    top = max(option.rank() for option in options)
    best: list[RuleFit] = []
    for option in (option for option in options if option.rank() == top):
        left = tuple(peer for peer in peers if peer not in option.peers)
        found = [option, *_best(left, rest, stores, leader_id)]
        if not best or [each.rank() for each in found] > [each.rank() for each in best]:
            best = found
    return best


def _rule_fit(rule: Rule, peers: tuple[Peer, ...], stores: Mapping[int, StoreInfo], leader_id: int) -> RuleFit:
    wrong = tuple(peer for peer in peers if not rule.suits(peer, is_leader=peer.id == leader_id))
    return RuleFit(rule, peers, wrong, isolation([stores[peer.store_id] for peer in peers], rule.location_labels))
