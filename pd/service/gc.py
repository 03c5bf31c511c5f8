"""Safe points of garbage collection, in the old form and in the newer one."""

from __future__ import annotations

from kvstore.proto import pdpb_pb2 as pb
from pd.leadership import Leadership
from pd.safe_points import GC_WORKER
from pd.service.calls import Calls, alone
from pd.state import Change


async def _save(lead: Leadership, changes: list[Change]) -> None:
    await lead.save(changes)
    lead.safe_points.apply(changes)


async def get_gc_safe_point(
    lead: Leadership, request: pb.GetGCSafePointRequest, reply: pb.GetGCSafePointResponse
) -> None:
    reply.safe_point = lead.safe_points.gc


@alone
async def update_gc_safe_point(
    lead: Leadership, request: pb.UpdateGCSafePointRequest, reply: pb.UpdateGCSafePointResponse
) -> None:
    changes = lead.safe_points.update_gc(request.safe_point)
    await _save(lead, changes)
    reply.new_safe_point = lead.safe_points.gc


@alone
async def update_service_gc_safe_point(
    lead: Leadership, request: pb.UpdateServiceGCSafePointRequest, reply: pb.UpdateServiceGCSafePointResponse
) -> None:
    """Answers with the safe point that holds back most, whoever's it is."""
    now_ms = lead.now_ms()
    changes = lead.safe_points.update_service(request.service_id, request.TTL, request.safe_point, now_ms)
    await _save(lead, changes)
    least = lead.safe_points.least(now_ms)
    reply.service_id = least.service
    reply.TTL = least.ttl_s(now_ms)
    reply.min_safe_point = least.safe_point


async def get_gc_state(lead: Leadership, request: pb.GetGCStateRequest, reply: pb.GetGCStateResponse) -> None:
    points, now_ms = lead.safe_points, lead.now_ms()
    if request.HasField("keyspace_scope"):
        reply.gc_state.keyspace_scope.CopyFrom(request.keyspace_scope)
    reply.gc_state.txn_safe_point = points.txn
    reply.gc_state.gc_safe_point = points.gc
    if request.exclude_gc_barriers:
        return
    for point in points.living(now_ms):
        if point.service != GC_WORKER:
            reply.gc_state.gc_barriers.add(
                barrier_id=point.service.decode(errors="replace"),
                barrier_ts=point.safe_point,
                ttl_seconds=point.ttl_s(now_ms),
            )


@alone
async def advance_txn_safe_point(
    lead: Leadership, request: pb.AdvanceTxnSafePointRequest, reply: pb.AdvanceTxnSafePointResponse
) -> None:
    reply.old_txn_safe_point = lead.safe_points.txn
    changes, blocker = lead.safe_points.advance_txn(request.target, lead.now_ms())
    await _save(lead, changes)
    reply.new_txn_safe_point = lead.safe_points.txn
    if blocker is not None:
        reply.blocker_description = (
            f"barrier {blocker.service.decode(errors='replace')!r} at {blocker.safe_point}, "
            f"ttl {blocker.ttl_s(lead.now_ms())} s"
        )


@alone
async def advance_gc_safe_point(
    lead: Leadership, request: pb.AdvanceGCSafePointRequest, reply: pb.AdvanceGCSafePointResponse
) -> None:
    reply.old_gc_safe_point = lead.safe_points.gc
    changes = lead.safe_points.advance_gc(request.target)
    await _save(lead, changes)
    reply.new_gc_safe_point = lead.safe_points.gc


CALLS = Calls(
    bootstrapped={
        "GetGCSafePoint": get_gc_safe_point,
        "UpdateGCSafePoint": update_gc_safe_point,
        "UpdateServiceGCSafePoint": update_service_gc_safe_point,
        "GetGCState": get_gc_state,
        "AdvanceTxnSafePoint": advance_txn_safe_point,
        "AdvanceGCSafePoint": advance_gc_safe_point,
    }
)
