"""Operators: what is to be done to a region, step by step, and the controller that sees them through.

Pure: the time is a parameter, orders are returned. An operator is bound to the epoch it was made for: a change of the
membership that it did not make itself cancels it. At most one operator works on a region; one of a higher priority
replaces it. Stores take a limited number of new and removed peers a minute.
"""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from kvstore.histogram import MINUTES, Durations
from kvstore.proto.metapb_pb2 import RegionEpoch
from kvstore.proto.pdpb_pb2 import OperatorStatus, RegionHeartbeatResponse
from pd.cluster import Cluster
from pd.config import ScheduleConfig
from pd.regions import RegionInfo
from pd.steps import AddLearner, MergeRegion, RemovePeer, Step, TransferLeader

HISTORY_MAX = 1000
"""Ended operators that are remembered."""
LEADER_TIMEOUT_MS = 60_000
REGION_TIMEOUT_MS = 600_000
SMALL_REGION_MIB = 20
SMALL_REGION_COST = 0.2
"""Of an ordinary region's, against a store's limit."""
BURST_PART = 0.25
"""Of a minute's peers that a store takes at once."""

_EVENTS = {OperatorStatus.SUCCESS: "finish"}
"""PD's word for an end where it isn't the status."""


class Kind(enum.Flag):
    """What an operator is for; each has a limit of how many run at once, ADMIN has none."""

    LEADER = enum.auto()
    REGION = enum.auto()
    REPLICA = enum.auto()
    MERGE = enum.auto()
    SPLIT = enum.auto()
    HOT = enum.auto()
    ADMIN = enum.auto()


class Priority(enum.IntEnum):
    LOW = 0
    MEDIUM = 1
    HIGH = 2
    URGENT = 3


@dataclass(slots=True)
class Operator:
    """One region's steps, and how far they are."""

    region_id: int
    description: str
    kind: Kind
    steps: tuple[Step, ...]
    epoch: RegionEpoch
    size_mib: int = 0
    priority: Priority = Priority.LOW
    timeout_ms: int = REGION_TIMEOUT_MS
    created_ms: int = 0
    step: int = 0
    status: OperatorStatus = OperatorStatus.RUNNING
    finished_ms: int = 0
    reason: str = ""
    """Why it ended, when not by success."""

    def current(self) -> Step | None:
        return self.steps[self.step] if self.step < len(self.steps) else None

    def advance(self, region: RegionInfo) -> None:
        while self.step < len(self.steps) and self.steps[self.step].finished(region):
            self.step += 1

    def conf_ver_changed(self, region: RegionInfo) -> int:
        """By how much the steps so far, the current one among them, have raised the region's conf_ver."""
        return sum(step.conf_ver_changed(region) for step in self.steps[: self.step + 1])

    def kind_names(self) -> str:
        return ",".join(kind.name.lower() for kind in Kind if kind in self.kind and kind.name is not None)

    def __str__(self) -> str:
        steps = "; ".join(str(step) for step in self.steps)
        return f"{self.description} {{region {self.region_id}: {steps}}}"


@dataclass(slots=True)
class Influence:
    """What operators under way will still change on a store."""

    leader_count: int = 0
    region_size: int = 0


@dataclass(slots=True)
class _Bucket:
    """Peers that a store may still be given, or lose."""

    tokens: float
    at_ms: int


@dataclass(slots=True)
class StoreLimits:
    """Two buckets a store, for added and for removed peers, filled at the configured rates."""

    _buckets: dict[tuple[int, bool], _Bucket] = field(default_factory=dict)

    def available(self, store_id: int, adds: bool, config: ScheduleConfig, now_ms: int) -> bool:
        return self._fill(store_id, adds, config, now_ms).tokens > 0

    def take(self, store_id: int, adds: bool, cost: float, config: ScheduleConfig, now_ms: int) -> None:
        """May go below nothing, so that a large cost is paid too, later."""
        self._fill(store_id, adds, config, now_ms).tokens -= cost

    def _fill(self, store_id: int, adds: bool, config: ScheduleConfig, now_ms: int) -> _Bucket:
        rate = config.store_add_peer_rate if adds else config.store_remove_peer_rate
        burst = max(1.0, rate * BURST_PART) if rate > 0 else 0.0
        bucket = self._buckets.setdefault((store_id, adds), _Bucket(burst, now_ms))
        bucket.tokens = min(burst, bucket.tokens + max(0, now_ms - bucket.at_ms) * rate / 60_000)
        bucket.at_ms = now_ms
        return bucket


class OperatorController:
    """The operators under way and those that ended."""

    def __init__(self, config: Callable[[], ScheduleConfig]) -> None:
        self._config = config
        self.running: dict[int, Operator] = {}
        self.history: deque[Operator] = deque(maxlen=HISTORY_MAX)
        self.limits = StoreLimits()
        self.counts: Counter[tuple[str, str]] = Counter()
        """What happened to operators, as (description, event), for metrics."""
        self.durations = Durations(
            "pd_schedule_finish_operators_duration_seconds",
            "Operators that succeeded, from start to end.",
            bounds=MINUTES,
        )

    def limit(self, kind: Kind) -> int:
        """How many operators of the kind may run at once."""
        config = self._config()
        if Kind.ADMIN in kind or Kind.SPLIT in kind:
            return 1 << 30
        if Kind.MERGE in kind:
            return config.merge_schedule_limit
        if Kind.HOT in kind:
            return config.hot_region_schedule_limit
        if Kind.REPLICA in kind:
            return config.replica_schedule_limit
        return config.leader_schedule_limit if Kind.LEADER in kind else config.region_schedule_limit

    def has_room(self, kind: Kind) -> bool:
        """Operators with the same purpose are counted together."""
        same = sum(1 for operator in self.running.values() if operator.kind & kind and not Kind.ADMIN & operator.kind)
        return same < self.limit(kind)

    def store_has_room(self, store_id: int, *, adds: bool, now_ms: int) -> bool:
        return self.limits.available(store_id, adds, self._config(), now_ms)

    def add(self, operators: Sequence[Operator], cluster: Cluster, now_ms: int) -> str:
        """Starts operators together (a merge has two) or none; returns why not, empty when they run."""
        for operator in operators:
            if problem := self._refusal(operator, cluster, now_ms):
                return problem
        for operator in operators:
            old = self.running.get(operator.region_id)
            if old is not None:
                self._end(old, OperatorStatus.REPLACE, f"replaced by {operator.description}", now_ms)
            operator.created_ms = now_ms
            self.running[operator.region_id] = operator
            self.counts[operator.description, "create"] += 1
            for store_id, adds in _places(operator):
                self.limits.take(store_id, adds, _cost(operator.size_mib), self._config(), now_ms)
        return ""

    def _refusal(self, operator: Operator, cluster: Cluster, now_ms: int) -> str:
        region = cluster.regions.by_id(operator.region_id)
        if region is None:
            return f"region {operator.region_id} not found"
        if region.meta.region_epoch != operator.epoch:
            return f"region {operator.region_id} has changed: {region.meta.region_epoch}".replace("\n", " ")
        old = self.running.get(operator.region_id)
        if old is not None and operator.priority <= old.priority:
            return f"region {operator.region_id} has operator {old.description!r} already"
        if not Kind.ADMIN & operator.kind:
            if not self.has_room(operator.kind):
                return f"too many operators of kind {operator.kind_names()}"
            for store_id, adds in _places(operator):
                if not self.store_has_room(store_id, adds=adds, now_ms=now_ms):
                    return f"store {store_id} is at its limit of {'added' if adds else 'removed'} peers"
        return ""

    def on_heartbeat(self, region: RegionInfo, now_ms: int) -> RegionHeartbeatResponse | None:
        """Sees how far the region's operator is; returns the order that is due."""
        operator = self.running.get(region.id)
        if operator is None:
            return None
        operator.advance(region)
        step = operator.current()
        if step is None:
            self._end(operator, OperatorStatus.SUCCESS, "", now_ms)
            return None
        if problem := self._trouble(operator, step, region):
            self._end(operator, OperatorStatus.CANCEL, problem, now_ms)
            return None
        if now_ms - operator.created_ms > operator.timeout_ms:
            self._end(operator, OperatorStatus.TIMEOUT, f"not done in {operator.timeout_ms // 1000} s", now_ms)
            return None
        return _order(step, region)

    def _trouble(self, operator: Operator, step: Step, region: RegionInfo) -> str:
        """Why the operator can't go on in this region, empty when it can."""
        if region.conf_ver - operator.epoch.conf_ver > operator.conf_ver_changed(region):
            return "the region's peers were changed by others"
        moved = region.version != operator.epoch.version
        if moved and any(isinstance(each, MergeRegion) for each in operator.steps):
            return "the region's bounds were changed by others"
        return step.problem(region)

    def region_gone(self, region_id: int, now_ms: int) -> None:
        """A region was merged away: which is what the source of a merge waits for."""
        operator = self.running.get(region_id)
        if operator is None:
            return
        merged = isinstance(operator.current(), MergeRegion)
        self._end(operator, OperatorStatus.SUCCESS if merged else OperatorStatus.CANCEL, "the region is gone", now_ms)

    def cancel(self, region_id: int, reason: str, now_ms: int) -> bool:
        """Whether there was one."""
        operator = self.running.get(region_id)
        if operator is not None:
            self._end(operator, OperatorStatus.CANCEL, reason, now_ms)
        return operator is not None

    def expire(self, now_ms: int) -> None:
        """Ends operators whose time is over, also of regions that no heartbeat comes of."""
        for operator in list(self.running.values()):
            if now_ms - operator.created_ms > operator.timeout_ms:
                self._end(operator, OperatorStatus.TIMEOUT, f"not done in {operator.timeout_ms // 1000} s", now_ms)

    def _end(self, operator: Operator, status: OperatorStatus, reason: str, now_ms: int) -> None:
        if self.running.get(operator.region_id) is operator:
            del self.running[operator.region_id]
        operator.status, operator.reason, operator.finished_ms = status, reason, now_ms
        self.history.append(operator)
        self.counts[operator.description, _EVENTS.get(status) or OperatorStatus.Name(status).lower()] += 1
        if status == OperatorStatus.SUCCESS:
            row = self.durations.row(operator.description)
            self.durations.observe(row, (now_ms - operator.created_ms) / 1000)
        if status != OperatorStatus.SUCCESS and isinstance(operator.steps[-1], MergeRegion):
            merge = operator.steps[-1]
            other = merge.source.id if merge.passive else merge.target.id
            partner = self.running.get(other)
            if partner is not None and isinstance(partner.steps[-1], MergeRegion):
                self._end(partner, OperatorStatus.CANCEL, f"the merge's other half ended: {reason}", now_ms)

    def of_region(self, region_id: int) -> Operator | None:
        """The running one, or the last that ended."""
        running = self.running.get(region_id)
        if running is not None:
            return running
        return next((ended for ended in reversed(self.history) if ended.region_id == region_id), None)

    def is_merging(self, region_id: int) -> bool:
        operator = self.running.get(region_id)
        return operator is not None and isinstance(operator.current(), MergeRegion)

    def is_adding_to(self, store_id: int) -> bool:
        """Whether a running operator gives the store a peer."""
        added = (store_id, True)
        return any(added in _places(operator) for operator in self.running.values())

    def influence(self, cluster: Cluster) -> dict[int, Influence]:
        """By store, what the running operators will still change."""
        total: dict[int, Influence] = {store_id: Influence() for store_id in cluster.stores}
        for operator in self.running.values():
            region = cluster.regions.by_id(operator.region_id)
            if region is not None:
                _add_influence(total, region, operator.steps[operator.step :])
        return total


def _order(step: Step, region: RegionInfo) -> RegionHeartbeatResponse | None:
    if isinstance(step, MergeRegion) and step.passive:
        return None
    response = RegionHeartbeatResponse(region_id=region.id, region_epoch=region.meta.region_epoch)
    if region.leader is not None:
        response.target_peer.CopyFrom(region.leader)
    step.order(region, response)
    return response


def _cost(size_mib: int) -> float:
    return SMALL_REGION_COST if size_mib <= SMALL_REGION_MIB else 1.0


def _places(operator: Operator) -> Iterable[tuple[int, bool]]:
    """The stores that get or lose a peer, with True for those that get one."""
    for step in operator.steps:
        if isinstance(step, AddLearner):
            yield step.store_id, True
        elif isinstance(step, RemovePeer):
            yield step.store_id, False


def _add_influence(total: dict[int, Influence], region: RegionInfo, steps: Sequence[Step]) -> None:
    size = max(1, region.size_mib)
    for step in steps:
        match step:
            case AddLearner(store_id) if store_id in total:
                total[store_id].region_size += size
            case RemovePeer(store_id) if store_id in total:
                total[store_id].region_size -= size
            case TransferLeader(from_store, to_store):
                for store_id, sign in ((from_store, -1), (to_store, 1)):
                    if store_id in total:
                        total[store_id].leader_count += sign
            case _:
                pass
