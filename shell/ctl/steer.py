"""The commands that change a cluster or look at how it is steered: the service sqlfrontpb.PdAdmin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from kvstore.proto import pdraft_pb2 as pb
from kvstore.proto.metapb_pb2 import StoreLabel, StoreState
from kvstore.proto.pdpb_pb2 import CheckPolicy, OperatorStatus
from kvstore.rpc.api import methods_of
from shell.ctl.keys import Key
from shell.ctl.report import Report, Value, one
from shell.ctl.session import Command, CtlError, Session

ADMIN = methods_of(pb.DESCRIPTOR, "PdAdmin")
RULES_BYTES_MAX = 1 << 20


async def _ask(session: Session, name: str, request: Any) -> Any:
    return await session.admin(ADMIN[name], request)


def _order(call: str, request: Any, **said: Value) -> Command:
    """A command that orders something and says that it was taken."""

    async def command(session: Session) -> Report:
        await _ask(session, call, request)
        return one(done=call, **said)

    return command


async def members(session: Session) -> Report:
    """The placement drivers, and who leads."""
    found: pb.PdMembersResponse = await _ask(session, "ListMembers", pb.PdAdminRequest())
    rows = [(member.name, member.member_id, member.client_url, member.leader) for member in found.members]
    return Report(("name", "id", "client_url", "leads"), rows)


def transfer_member(name: str) -> Command:
    """Lets another placement driver lead; any other when no name is given."""
    return _order("TransferMemberLeader", pb.PdTransferMemberRequest(name=name), to=name or "any other")


async def stores(session: Session) -> Report:
    """All stores with what they hold."""
    found: pb.PdStoresResponse = await _ask(session, "ListStores", pb.PdAdminRequest())
    columns = ("id", "address", "state", "leaders", "regions", "size_mib", "capacity", "available", "labels")
    return Report(columns, [[_store(item)[name] for name in columns] for item in found.stores])


def store(store_id: int) -> Command:
    """One store with all that is known of it."""

    async def command(session: Session) -> Report:
        found: pb.PdStoresResponse = await _ask(session, "ListStores", pb.PdAdminRequest())
        for item in found.stores:
            if item.store.id == store_id:
                return one(**_store(item))
        raise CtlError(f"store {store_id} is not known")

    return command


def _store(found: pb.PdStoreStatus) -> dict[str, Value]:
    store, stats = found.store, found.stats
    return {
        "id": store.id,
        "address": store.address,
        "state": found.state_name or StoreState.Name(store.state),
        "leaders": found.leader_count,
        "regions": found.region_count,
        "size_mib": found.region_size_mib,
        "leader_weight": found.leader_weight,
        "region_weight": found.region_weight,
        "capacity": stats.capacity,
        "available": stats.available,
        "version": store.version,
        "status_address": store.status_address,
        "labels": {label.key: label.value for label in store.labels},
    }


def set_store_state(store_id: int, state: str, destroyed: bool) -> Command:
    """Takes a store out (offline), back (up), or buries it (tombstone)."""
    value = {"up": StoreState.Up, "offline": StoreState.Offline, "tombstone": StoreState.Tombstone}[state]
    request = pb.PdSetStoreStateRequest(store_id=store_id, state=value, physically_destroyed=destroyed)
    return _order("SetStoreState", request, store_id=store_id, state=state)


def set_store_labels(store_id: int, labels: Mapping[str, str]) -> Command:
    """Adds labels to a store, or changes them."""
    told = [StoreLabel(key=name, value=value) for name, value in labels.items()]
    return _order("SetStoreLabels", pb.PdStoreLabelsRequest(store_id=store_id, labels=told), store_id=store_id)


def set_store_weight(store_id: int, leader: float, region: float) -> Command:
    """How much of leaders and regions a store is to have, against 1 of others."""
    request = pb.PdStoreWeightRequest(store_id=store_id, leader_weight=leader, region_weight=region)
    return _order("SetStoreWeight", request, store_id=store_id, leader_weight=leader, region_weight=region)


async def operators(session: Session) -> Report:
    """Operators under way, and those that ended lately."""
    found: pb.PdOperatorsResponse = await _ask(session, "ListOperators", pb.PdAdminRequest())
    return Report(
        ("region_id", "description", "kind", "status", "step", "steps"), list(map(_operator, found.operators))
    )


def _operator(found: pb.PdOperator) -> Sequence[Value]:
    status = OperatorStatus.Name(found.status).lower()
    return (found.region_id, found.description, found.kind, status, found.step, list(found.steps))


def add_operator(request: pb.PdAddOperatorRequest) -> Command:
    """Orders something to be done to a region."""
    return _order("AddOperator", request, region_id=request.region_id, operator=request.WhichOneof("operator"))


def split(region_id: int, keys: Sequence[Key]) -> Command:
    """Splits a region at keys, or in the middle when there are none."""
    policy = CheckPolicy.USEKEY if keys else CheckPolicy.SCAN
    told = pb.PdSplit(policy=policy, keys=[key.encoded for key in keys])
    return add_operator(pb.PdAddOperatorRequest(region_id=region_id, split=told))


def remove_operator(region_id: int) -> Command:
    """Cancels what is under way for a region."""
    return _order("RemoveOperator", pb.PdRegionRequest(region_id=region_id), region_id=region_id)


async def schedulers(session: Session) -> Report:
    """The schedulers that run."""
    found: pb.PdSchedulersResponse = await _ask(session, "ListSchedulers", pb.PdAdminRequest())
    rows = [(item.name, item.kind, list(item.store_ids), item.paused_until_ms or None) for item in found.schedulers]
    return Report(("name", "kind", "stores", "paused_until_ms"), rows)


def add_scheduler(kind: str, store_id: int) -> Command:
    """Starts a scheduler."""
    return _order("AddScheduler", pb.PdSchedulerRequest(kind=kind, store_id=store_id), kind=kind)


def remove_scheduler(name: str) -> Command:
    """Ends a scheduler."""
    return _order("RemoveScheduler", pb.PdPauseSchedulerRequest(name=name), name=name)


def pause_scheduler(name: str, seconds: int) -> Command:
    """Holds a scheduler for so long; 0 lets it go on."""
    return _order("PauseScheduler", pb.PdPauseSchedulerRequest(name=name, seconds=seconds), name=name, seconds=seconds)


async def config(session: Session) -> Report:
    """How placement is done: values that all members share."""
    found: pb.PdConfigResponse = await _ask(session, "GetConfig", pb.PdAdminRequest())
    return Report(("name", "value"), [(item.name, item.value) for item in found.items])


def set_config(name: str, value: str) -> Command:
    """Changes one of those values."""
    request = pb.PdSetConfigRequest(items=[pb.PdConfigItem(name=name, value=value)])
    return _order("SetConfig", request, name=name, value=value)


async def rules(session: Session) -> Report:
    """The placement rules, as `rules set` takes them."""
    found: pb.PdRulesResponse = await _ask(session, "ListRules", pb.PdAdminRequest())
    columns = ("group", "id", "role", "count", "constraints", "start_key", "end_key", "rule")
    return Report(columns, [_rule(rule) for rule in found.rules])


def _rule(rule: pb.PdRule) -> Sequence[Value]:
    constraints = [f"{one.key} {pb.PdLabelOp.Name(one.op).lower()} {'/'.join(one.values)}" for one in rule.constraints]
    whole = json_format.MessageToDict(rule, preserving_proto_field_name=True)
    bounds = (rule.start_key.hex().upper(), rule.end_key.hex().upper())
    return (rule.group, rule.id, pb.PdRuleRole.Name(rule.role).lower(), rule.count, constraints, *bounds, whole)


def set_rules(file: Path) -> Command:
    """Sets the rules of a JSON file: a list of objects as the field `rule` of `rules --format json` has them.

    Raises CtlError.
    """
    try:
        text = file.read_text("utf-8") if file.stat().st_size <= RULES_BYTES_MAX else ""
        request = pb.PdSetRulesRequest()
        json_format.Parse(f'{{"rules": {text}}}', request)
    except OSError as error:
        raise CtlError(f"{file}: {error.strerror}") from error
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise CtlError(f"{file} is no list of rules: {error}") from error
    return _order("SetRules", request, rules=len(request.rules))
