"""What a store tells the placement driver, and how it carries out its orders.

An order is bound to the region's epoch; one that does not fit any more is dropped: the next heartbeat says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kvstore.proto.metapb_pb2 import Peer as PeerPb
from kvstore.proto.metapb_pb2 import PeerRole, Region
from kvstore.proto.pdpb_pb2 import RegionHeartbeatResponse, StoreStats, TimeInterval
from kvstore.proto.raft_cmdpb_pb2 import AdminCmdType, AdminRequest, ChangePeerRequest
from kvstore.raft.types import Role
from kvstore.raftstore import admin, checks, merge, split_check
from kvstore.raftstore.api import PLACEMENT_ERRORS, RegionError
from kvstore.raftstore.peer import Peer, Traffic

if TYPE_CHECKING:
    from kvstore.raftstore.store import RaftStore

RETRY_S = 1.0


class PlacementWorker:
    """Heartbeats of the store, and the stream of orders. `start` when the store runs."""

    def __init__(self, store: RaftStore, started_at: int = 0) -> None:
        """`started_at` is the process's start in seconds of the wall clock."""
        self._store = store
        self._started_at = started_at
        self._reported_at = store.clock()
        self._reported = Traffic()

    def start(self) -> None:
        self._store.spawn(self._heartbeats())
        self._store.spawn(self._orders())

    async def _heartbeats(self) -> None:
        store = self._store
        while True:
            try:
                await store.placement.store_heartbeat(self.stats())
                self._reported_at, self._reported = store.clock(), replace(store.traffic)
            except PLACEMENT_ERRORS as error:
                store.log.warning("store_heartbeat_failed", error=str(error))
            await asyncio.sleep(store.config.store_heartbeat_s)

    def stats(self) -> StoreStats:
        """The store as its heartbeat shows it; sizes in bytes."""
        store = self._store
        free = store.free_bytes() if store.free_bytes is not None else 0
        used = sum(peer.flow.size for peer in store.peers.values())
        return StoreStats(
            store_id=store.store_id,
            capacity=free + used,
            available=free,
            used_size=used,
            region_count=len(store.tree),
            sending_snap_count=store.snapshots.sending,
            receiving_snap_count=store.snapshots.receiving,
            applying_snap_count=sum(peer.applying is not None for peer in store.peers.values()),
            start_time=self._started_at,
            is_busy=store.disk_full,
            bytes_written=store.traffic.bytes_written - self._reported.bytes_written,
            keys_written=store.traffic.keys_written - self._reported.keys_written,
            bytes_read=store.traffic.bytes_read - self._reported.bytes_read,
            keys_read=store.traffic.keys_read - self._reported.keys_read,
            interval=TimeInterval(start_timestamp=round(self._reported_at), end_timestamp=round(store.clock())),
        )

    async def _orders(self) -> None:
        store = self._store
        while True:
            try:
                order = await store.placement.next_order()
            except PLACEMENT_ERRORS as error:
                store.log.warning("no_orders", error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            store.spawn(self._execute(order))

    async def _execute(self, order: RegionHeartbeatResponse) -> None:
        try:
            await execute_order(self._store, order)
        except RegionError as error:
            self._store.log.info("order_not_executed", region=order.region_id, error=str(error))


async def execute_order(store: RaftStore, order: RegionHeartbeatResponse) -> None:
    """Carries out one order to a region led here. RegionError if it does not fit (any more)."""
    peer = store.peers.get(order.region_id)
    if peer is None:
        raise checks.region_not_found(order.region_id)
    if order.HasField("region_epoch") and order.region_epoch != peer.region.region_epoch:
        raise checks.epoch_not_match("an order", [peer.region])
    if order.HasField("change_peer"):
        change = order.change_peer
        await change_peers(store, peer, [ChangePeerRequest(change_type=change.change_type, peer=change.peer)])
    elif order.HasField("change_peer_v2"):
        changes = [ChangePeerRequest(change_type=c.change_type, peer=c.peer) for c in order.change_peer_v2.changes]
        await change_peers(store, peer, changes)
    elif order.HasField("transfer_leader"):
        await hand_over(store, peer, [order.transfer_leader.peer, *order.transfer_leader.peers])
    elif order.HasField("merge"):
        await begin_merge(store, peer, order.merge.target)
    elif order.HasField("split_region"):
        if order.split_region.keys:
            await store.split_at(peer, sorted(order.split_region.keys))
        else:
            await split_check.split_in_half(store, peer)


def _check_leads(peer: Peer) -> None:
    if peer.raft.role is not Role.LEADER:
        raise checks.not_leader(peer.region_id, peer.leader())


async def change_peers(store: RaftStore, peer: Peer, changes: Sequence[ChangePeerRequest]) -> Region:
    """Changes the members of a region: one change simply, several jointly, none leaves the joint configuration."""
    _check_leads(peer)
    if peer.raft.has_pending_conf:
        raise checks.refused("another membership change is under way")
    after = admin.change_peers(peer.region, changes)
    own = checks.find_peer(after, store.store_id)
    if own is None or own.role == PeerRole.Learner:
        raise checks.refused("a leader does not remove or demote itself: hand over first")
    _check_quorum(peer, after)
    request = AdminRequest(cmd_type=AdminCmdType.ChangePeerV2)
    request.change_peer_v2.SetInParent()
    request.change_peer_v2.changes.extend(changes)
    regions: list[Region] = await store.propose_admin(peer, request)
    return regions[0]


def _check_quorum(peer: Peer, after: Region) -> None:
    """Refuses a change after which a majority of voters would have to wait for snapshots."""
    voters_before = [member for member in peer.region.peers if member.role != PeerRole.Learner]
    if len(voters_before) == 1:
        return  # there is no other way to grow
    voters = [member for member in after.peers if member.role in (PeerRole.Voter, PeerRole.IncomingVoter)]
    healthy = 0
    for member in voters:
        progress = peer.raft.progress(member.id)
        if member.id == peer.peer.id or (progress is not None and progress.matched >= peer.storage.truncated_index):
            healthy += 1
    if 2 * healthy <= len(voters):
        raise checks.refused(f"only {healthy} of {len(voters)} voters would have the log")


async def hand_over(store: RaftStore, peer: Peer, candidates: Sequence[PeerPb]) -> None:
    """Hands the lead of a region over when what has to be written before is."""
    _check_leads(peer)
    await store.prepare_to_leave(peer)
    if peer.destroyed:
        raise checks.region_not_found(peer.region_id)
    transfer_leader(store, peer, candidates)


def transfer_leader(store: RaftStore, peer: Peer, candidates: Sequence[PeerPb]) -> None:
    """Hands the lead to the candidate whose log is longest; it may come to nothing."""
    _check_leads(peer)
    best, best_matched = 0, -1
    for candidate in candidates:
        progress = peer.raft.progress(candidate.id)
        if progress is not None and candidate.id != peer.peer.id and progress.matched > best_matched:
            best, best_matched = candidate.id, progress.matched
    if not best:
        raise checks.refused("none of the candidates is a member")
    store.rouse(peer)
    peer.raft.transfer_leader(best)
    store.mark(peer)


async def begin_merge(store: RaftStore, peer: Peer, target: Region) -> Region:
    """Prepares the merge of a region led here into its neighbour; what follows goes by itself."""
    _check_leads(peer)
    await store.prepare_to_leave(peer)
    _check_leads(peer)
    request = merge.prepare_request(store, peer, target)
    regions: list[Region] = await store.propose_admin(peer, request)
    return regions[0]
