"""Rules and schedulers as messages: on disk, and over the administration's calls."""

from __future__ import annotations

from collections.abc import Iterable

from kvstore.proto.pdraft_pb2 import PdLabelConstraint, PdLabelOp, PdRule, PdRuleRole, PdScheduler
from pd import state as keys
from pd.rules import LabelConstraint, LabelOp, Rule, RuleRole
from pd.schedulers import DEFAULTS, SchedulerSpec
from pd.state import Change, State

_ROLES = {
    PdRuleRole.VOTER: RuleRole.VOTER,
    PdRuleRole.LEADER: RuleRole.LEADER,
    PdRuleRole.FOLLOWER: RuleRole.FOLLOWER,
    PdRuleRole.LEARNER: RuleRole.LEARNER,
}
_OPS = {
    PdLabelOp.IN: LabelOp.IN,
    PdLabelOp.NOT_IN: LabelOp.NOT_IN,
    PdLabelOp.EXISTS: LabelOp.EXISTS,
    PdLabelOp.NOT_EXISTS: LabelOp.NOT_EXISTS,
}
_ROLE_NUMBERS = {role: number for number, role in _ROLES.items()}
_OP_NUMBERS = {op: number for number, op in _OPS.items()}
REMOVED = b"removed"
"""What stands for a default scheduler that was removed."""


def rule_from_pb(told: PdRule) -> Rule:
    """Raises ValueError for a role or an operator that there is not."""
    if told.role not in _ROLES or any(constraint.op not in _OPS for constraint in told.constraints):
        raise ValueError(f"rule {told.group}/{told.id}: unknown role or label operator")
    return Rule(
        told.group,
        told.id,
        _ROLES[told.role],
        told.count,
        told.index,
        told.override,
        told.start_key,
        told.end_key,
        tuple(LabelConstraint(each.key, _OPS[each.op], tuple(each.values)) for each in told.constraints),
        tuple(told.location_labels),
        told.isolation_level,
    )


def rule_to_pb(rule: Rule) -> PdRule:
    return PdRule(
        group=rule.group,
        id=rule.id,
        role=_ROLE_NUMBERS[rule.role],
        count=rule.count,
        index=rule.index,
        override=rule.override,
        start_key=rule.start_key,
        end_key=rule.end_key,
        constraints=[
            PdLabelConstraint(key=each.key, op=_OP_NUMBERS[each.op], values=each.values) for each in rule.constraints
        ],
        location_labels=rule.location_labels,
        isolation_level=rule.isolation_level,
    )


def rule_key(group: str, rule_id: str) -> bytes:
    return keys.RULES + group.encode() + b"/" + rule_id.encode()


def scheduler_to_pb(spec: SchedulerSpec) -> PdScheduler:
    stores = [spec.store_id] if spec.store_id else []
    return PdScheduler(name=spec.name, kind=spec.kind, store_ids=stores, paused_until_ms=spec.paused_until_ms)


def scheduler_change(spec: SchedulerSpec) -> Change:
    return Change(keys.SCHEDULERS + spec.name.encode(), scheduler_to_pb(spec).SerializeToString())


def scheduler_removal(name: str) -> Change:
    return Change(keys.SCHEDULERS + name.encode(), REMOVED if name in DEFAULTS else None)


def load_schedulers(state: State) -> Iterable[SchedulerSpec]:
    """Those stored, and the default ones that were not removed."""
    stored = {key.removeprefix(keys.SCHEDULERS).decode(): value for key, value in state.scan(keys.SCHEDULERS)}
    for kind in DEFAULTS:
        if kind not in stored:
            yield SchedulerSpec(kind)
    for value in stored.values():
        if value != REMOVED:
            told = PdScheduler.FromString(value)
            yield SchedulerSpec(told.kind, told.store_ids[0] if told.store_ids else 0, told.paused_until_ms)
