"""Administration: what `sqlfront ctl` asks for. Every call needs the leader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvstore.proto import pdraft_pb2 as pb
from kvstore.proto.metapb_pb2 import Store
from kvstore.proto.pdpb_pb2 import ErrorType
from pd import state as keys
from pd.builder import Builder, CannotBuild, roles_of
from pd.checkers.merge import merge_operators
from pd.errors import Refused
from pd.leadership import IDS_FOR_A_REGION, Leadership
from pd.operators import Kind, Operator, Priority
from pd.regions import RegionInfo
from pd.rules import RULES_MAX, RuleSet
from pd.schedulers import SchedulerSpec, check_spec
from pd.service.calls import Calls, alone
from pd.state import Change, pack_weights
from pd.steps import SplitRegion
from pd.stored import rule_from_pb, rule_key, rule_to_pb, scheduler_change, scheduler_removal, scheduler_to_pb

OPERATORS_LISTED_MAX = 1000


async def list_stores(lead: Leadership, request: pb.PdAdminRequest, reply: pb.PdStoresResponse) -> None:
    for store in lead.cluster.stores.values():
        item = reply.stores.add(
            store=store.meta,
            state_name=store.health(lead.now_ms(), lead.config).value,
            leader_count=len(store.load.leaders),
            region_count=len(store.load.regions),
            leader_size_mib=store.load.leader_size,
            region_size_mib=store.load.region_size,
            leader_weight=store.leader_weight,
            region_weight=store.region_weight,
        )
        if store.stats is not None:
            item.stats.CopyFrom(store.stats)


@alone
async def set_store_state(lead: Leadership, request: pb.PdSetStoreStateRequest, reply: pb.PdAdminResponse) -> None:
    """Offline empties a store, Up takes it back, Tombstone buries one that carries nothing (or is destroyed)."""
    await lead.set_store_state(request.store_id, request.state, destroyed=request.physically_destroyed)


@alone
async def set_store_labels(lead: Leadership, request: pb.PdStoreLabelsRequest, reply: pb.PdAdminResponse) -> None:
    """Sets the labels given; one with an empty value goes."""
    known = lead.known_store(request.store_id)
    labels = {**known.labels(), **{label.key: label.value for label in request.labels}}
    changed = Store()
    changed.CopyFrom(known.meta)
    del changed.labels[:]
    for key, value in labels.items():
        if value:
            changed.labels.add(key=key, value=value)
    await lead.save_store(changed)


@alone
async def set_store_weight(lead: Leadership, request: pb.PdStoreWeightRequest, reply: pb.PdAdminResponse) -> None:
    known = lead.known_store(request.store_id)
    if not (0 <= request.leader_weight < 1e6 and 0 <= request.region_weight < 1e6):
        raise Refused("weights must not be negative", ErrorType.INVALID_VALUE)
    value = pack_weights(request.leader_weight, request.region_weight)
    await lead.save([Change(keys.STORE_WEIGHTS + known.id.to_bytes(8, "big"), value)])
    known.leader_weight, known.region_weight = request.leader_weight, request.region_weight


def _operator_to_pb(operator: Operator) -> pb.PdOperator:
    return pb.PdOperator(
        region_id=operator.region_id,
        description=operator.description + (f" ({operator.reason})" if operator.reason else ""),
        kind=operator.kind_names(),
        status=operator.status,
        steps=[str(step) for step in operator.steps],
        step=operator.step,
        created_ms=operator.created_ms,
        finished_ms=operator.finished_ms,
    )


async def list_operators(lead: Leadership, request: pb.PdAdminRequest, reply: pb.PdOperatorsResponse) -> None:
    """Those that run, then those that ended, the latest first."""
    controller = lead.controller
    listed = [*controller.running.values(), *reversed(controller.history)][:OPERATORS_LISTED_MAX]
    reply.operators.extend(_operator_to_pb(operator) for operator in listed)


def _region(lead: Leadership, region_id: int) -> RegionInfo:
    region = lead.cluster.regions.by_id(region_id)
    if region is None:
        raise Refused(f"region {region_id} not found", ErrorType.REGION_NOT_FOUND)
    return region


def _wanted(lead: Leadership, region: RegionInfo, request: pb.PdAddOperatorRequest) -> dict[int, bool]:
    """The region's peers after the request."""
    wanted = roles_of(region)
    match request.WhichOneof("operator"):
        case "add_peer":
            lead.known_store(request.add_peer.store_id)
            if request.add_peer.store_id in wanted:
                raise Refused(f"region {region.id} has a peer on store {request.add_peer.store_id} already")
            wanted[request.add_peer.store_id] = not request.add_peer.learner
        case "remove_peer":
            if wanted.pop(request.remove_peer.store_id, None) is None:
                raise Refused(f"region {region.id} has no peer on store {request.remove_peer.store_id}")
        case "transfer_peer":
            move = request.transfer_peer
            lead.known_store(move.to_store_id)
            if move.from_store_id not in wanted or move.to_store_id in wanted:
                raise Refused(f"region {region.id} cannot move from {move.from_store_id} to {move.to_store_id}")
            wanted[move.to_store_id] = wanted.pop(move.from_store_id)
    return wanted


def _operators(lead: Leadership, region: RegionInfo, request: pb.PdAddOperatorRequest) -> Sequence[Operator]:
    kind = request.WhichOneof("operator")
    builder = Builder(
        f"admin-{(kind or '').replace('_', '-')}",
        region,
        Kind.ADMIN,
        next_id=lead.ids.take,
        priority=Priority.URGENT,
    )
    match kind:
        case "transfer_leader":
            return [builder.transfer_leader(request.transfer_leader.store_id)]
        case "add_peer" | "remove_peer" | "transfer_peer":
            return [builder.to(_wanted(lead, region, request))]
        case "split":
            split = request.split
            return [builder.operator((SplitRegion(region.start_key, region.end_key, split.policy, tuple(split.keys)),))]
        case "merge":
            target = _region(lead, request.merge.target_region_id)
            neighbours = (lead.cluster.regions.left_of(region), lead.cluster.regions.right_of(region))
            if target not in neighbours:
                raise Refused(f"regions {region.id} and {target.id} are no neighbours", ErrorType.INVALID_VALUE)
            return merge_operators(lead.view(), region, target, Kind.ADMIN)
        case "scatter":
            found = lead.scatterer.scatter(lead.view(), region, "")
            return [] if found is None else [found]
        case _:
            raise Refused("no operator is given", ErrorType.INVALID_VALUE)


async def add_operator(lead: Leadership, request: pb.PdAddOperatorRequest, reply: pb.PdAdminResponse) -> None:
    await lead.ids.ensure(IDS_FOR_A_REGION)
    try:
        operators = _operators(lead, _region(lead, request.region_id), request)
    except CannotBuild as error:
        raise Refused(str(error), ErrorType.INVALID_VALUE) from error
    if problem := lead.start_operators(operators):
        raise Refused(problem)


async def remove_operator(lead: Leadership, request: pb.PdRegionRequest, reply: pb.PdAdminResponse) -> None:
    if not lead.controller.cancel(request.region_id, "removed by the administrator", lead.now_ms()):
        raise Refused(f"no operator works on region {request.region_id}", ErrorType.ENTRY_NOT_FOUND)


async def list_schedulers(lead: Leadership, request: pb.PdAdminRequest, reply: pb.PdSchedulersResponse) -> None:
    reply.schedulers.extend(scheduler_to_pb(spec) for _, spec in sorted(lead.schedulers.specs.items()))


@alone
async def add_scheduler(lead: Leadership, request: pb.PdSchedulerRequest, reply: pb.PdAdminResponse) -> None:
    spec = SchedulerSpec(request.kind, request.store_id)
    try:
        check_spec(spec)
    except ValueError as error:
        raise Refused(str(error), ErrorType.INVALID_VALUE) from error
    if spec.store_id:
        lead.known_store(spec.store_id)
    if spec.name in lead.schedulers.specs:
        raise Refused(f"scheduler {spec.name!r} exists already", ErrorType.DUPLICATED_ENTRY)
    await lead.save([scheduler_change(spec)])
    lead.schedulers.add(spec)


def _spec(lead: Leadership, name: str) -> SchedulerSpec:
    spec = lead.schedulers.specs.get(name)
    if spec is None:
        raise Refused(f"no scheduler {name!r}", ErrorType.ENTRY_NOT_FOUND)
    return spec


@alone
async def remove_scheduler(lead: Leadership, request: pb.PdPauseSchedulerRequest, reply: pb.PdAdminResponse) -> None:
    spec = _spec(lead, request.name)
    await lead.save([scheduler_removal(spec.name)])
    lead.schedulers.remove(spec.name)


@alone
async def pause_scheduler(lead: Leadership, request: pb.PdPauseSchedulerRequest, reply: pb.PdAdminResponse) -> None:
    until_ms = lead.now_ms() + request.seconds * 1000 if request.seconds > 0 else 0
    paused = replace(_spec(lead, request.name), paused_until_ms=until_ms)
    await lead.save([scheduler_change(paused)])
    lead.schedulers.add(paused)


async def get_config(lead: Leadership, request: pb.PdAdminRequest, reply: pb.PdConfigResponse) -> None:
    for name, value in lead.config.items():
        reply.items.add(name=name, value=value)


@alone
async def set_config(lead: Leadership, request: pb.PdSetConfigRequest, reply: pb.PdAdminResponse) -> None:
    await lead.set_config([(item.name, item.value) for item in request.items])


async def list_rules(lead: Leadership, request: pb.PdAdminRequest, reply: pb.PdRulesResponse) -> None:
    reply.rules.extend(rule_to_pb(rule) for rule in lead.rules.rules)


@alone
async def set_rules(lead: Leadership, request: pb.PdSetRulesRequest, reply: pb.PdAdminResponse) -> None:
    """All or none."""
    own, changes = dict(lead.rules.own), []
    for told in request.rules:
        if told.count == 0:
            own.pop((told.group, told.id), None)
            changes.append(Change(rule_key(told.group, told.id), None))
            continue
        try:
            rule = rule_from_pb(told)
            rule.check()
        except ValueError as error:
            raise Refused(str(error), ErrorType.INVALID_VALUE) from error
        own[rule.group, rule.id] = rule
        changes.append(Change(rule_key(rule.group, rule.id), rule_to_pb(rule).SerializeToString()))
    if len(own) > RULES_MAX:
        raise Refused(f"{len(own)} rules; at most {RULES_MAX}", ErrorType.INVALID_VALUE)
    await lead.save(changes)
    lead.rules = RuleSet(own.values(), lead.config)


CALLS = Calls(
    always={
        "ListSchedulers": list_schedulers,
        "AddScheduler": add_scheduler,
        "RemoveScheduler": remove_scheduler,
        "PauseScheduler": pause_scheduler,
        "GetConfig": get_config,
        "SetConfig": set_config,
        "ListRules": list_rules,
        "SetRules": set_rules,
    },
    bootstrapped={
        "ListStores": list_stores,
        "SetStoreState": set_store_state,
        "SetStoreLabels": set_store_labels,
        "SetStoreWeight": set_store_weight,
        "ListOperators": list_operators,
        "AddOperator": add_operator,
        "RemoveOperator": remove_operator,
    },
)
