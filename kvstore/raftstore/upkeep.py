"""What is done with the clock: ticks, log compaction, measuring, heartbeats, the search for stale peers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvstore.proto.metapb_pb2 import Region
from kvstore.proto.pdpb_pb2 import PeerStats, RegionHeartbeatRequest, TimeInterval
from kvstore.proto.raft_cmdpb_pb2 import AdminCmdType, AdminRequest
from kvstore.raft.types import NO_ID, Role
from kvstore.raftstore import checks, merge, sleep, split_check
from kvstore.raftstore.api import PLACEMENT_ERRORS, RegionError
from kvstore.raftstore.peer import Peer

if TYPE_CHECKING:
    from kvstore.raftstore.store import RaftStore

SAMPLE_EVERY = 64
SAMPLES_MAX = 64
DISK_CHECK_S = 1.0
IMPORT_CHECK_S = 10.0
"""How often files are looked for that will never be ingested."""
ASLEEP_TIMES = 10
"""A follower that slept for so many times `leader_missing_s` is woken, to see that it still has a leader."""
FOUND_GONE_TIMES = 3
"""So often in a row a region has to be unknown before a peer of it goes: heartbeats may be on their way."""


def count_read(peer: Peer, key: bytes) -> None:
    """Counts a read; of every 64th the key is kept, to know where to split a region that is read too much."""
    load = peer.load
    load.reads = reads = load.reads + 1
    if not reads % SAMPLE_EVERY:
        if len(load.keys) < SAMPLES_MAX:
            load.keys.append(key)
        else:
            load.keys[reads // SAMPLE_EVERY % SAMPLES_MAX] = key


class Upkeep:
    """Everything periodic of one store, driven by `tick`."""

    def __init__(self, store: RaftStore) -> None:
        self._store = store
        self._ticks = 0
        self._checking_stale: set[int] = set()
        self._measuring = False

    def _period(self, seconds: float) -> int:
        """In ticks."""
        return max(1, round(seconds / self._store.config.tick_s))

    def _every(self, seconds: float) -> bool:
        return self._ticks % self._period(seconds) == 0

    def tick(self) -> None:
        """One tick of all peers that are awake, and what is due."""
        store, config = self._store, self._store.config
        self._ticks += 1
        for peer in list(store.awake.values()):
            peer.idle_ticks += 1
            if peer.raft.tick():
                store.mark(peer)
            if peer.proposals or peer.reads:
                self._age(peer)
            if config.hibernate_ticks and peer.idle_ticks >= config.hibernate_ticks:
                sleep.try_sleep(store, peer)
        now = store.clock()
        if config.hibernate_ticks and self._every(config.store_alive_s):
            sleep.keep_alive(store, now)
        if self._every(config.merge_check_s):
            for peer in list(store.merging.values()):
                merge.check_merge(store, peer)
        if self._every(config.log_gc_s):
            for peer in list(store.awake.values()):
                self._compact_log(peer)
        if self._every(config.split_check_s):
            self._check_sizes()
        if config.load_split_qps and self._every(config.load_split_window_s):
            self._check_load()
        if self._every(DISK_CHECK_S):
            self._check_disk()
            self._leave_joint(now)
        if self._every(IMPORT_CHECK_S):
            store.imports.collect()
        if self._every(config.leader_missing_s / 4):
            self._look_for_stale(now)
        period, now_due = self._period(config.region_heartbeat_s), self._ticks
        due = [r for r, peer in store.peers.items() if peer.is_leader and not (r + now_due) % period]
        for region_id in due:
            self.report(store.peers[region_id])

    def _age(self, peer: Peer) -> None:
        """Gives up what has waited too long: nobody may ever tell how it ended."""
        patience = 2 * self._store.config.election_ticks
        if peer.raft.role is not Role.LEADER:
            for proposal in peer.proposals:
                proposal.ticks += 1
            while peer.proposals and peer.proposals[0].ticks > patience:
                peer.settle_one(peer.proposals.popleft(), checks.undetermined("leadership was lost"))
        for context, read in list(peer.reads.items()):
            read.ticks += 1
            if read.ticks > patience // 4:  # the question or its answer was lost
                del peer.reads[context]
                peer.read_queue += [(future, read.replica) for future in read.futures if not future.done()]
                self._store.mark(peer)

    # the log

    def _compact_log(self, peer: Peer) -> None:
        """Proposes to cut what everyone has, or, when the log grows too large, what some may still lack."""
        config, storage, raft = self._store.config, peer.storage, peer.raft
        low = storage.truncated_index
        if raft.role is not Role.LEADER or storage.applied - low < config.log_gc_entries or peer.merge is not None:
            return
        if peer.last_compacted > low:
            return  # the last one is not applied yet
        if storage.applied - low > config.log_gc_entries_max or storage.log_bytes > config.log_gc_bytes_max:
            index = storage.applied
        else:
            index = min(storage.applied, self._store.snapshots.lowest_index(peer))
            for member in raft.members():
                progress = raft.progress(member)
                if progress is not None and member != peer.peer.id:
                    index = min(index, progress.matched)
        if index - low < config.log_gc_entries:
            return
        admin = AdminRequest(cmd_type=AdminCmdType.CompactLog)
        admin.compact_log.compact_index = index
        admin.compact_log.compact_term = storage.term(index)
        try:
            peer.propose_admin(admin, None, self._store.clock())
        except RegionError:
            return  # the lead is being handed over
        peer.last_compacted = index
        self._store.mark(peer)

    # sizes and load

    def _check_sizes(self) -> None:
        """Measures the regions led here that have changed much, and those that were never measured, one by one."""
        enough = self._store.config.split_check_bytes
        due = [
            peer
            for peer in self._store.peers.values()
            if peer.is_leader and (peer.flow.since_check >= enough or not peer.flow.measured)
        ]
        if due and not self._measuring:
            self._measuring = True
            self._store.spawn(self._measure(due))

    async def _measure(self, due: Sequence[Peer]) -> None:
        try:
            for peer in due:
                if peer.is_leader and not peer.destroyed:
                    peer.flow.since_check = 0
                    await split_check.split_if_large(self._store, peer)
        finally:
            self._measuring = False

    def _check_load(self) -> None:
        store, config = self._store, self._store.config
        for peer in list(store.peers.values()):
            load = peer.load
            hot = load.reads >= config.load_split_qps * config.load_split_window_s
            load.hot_windows = load.hot_windows + 1 if hot else 0
            load.reads = 0
            if load.hot_windows >= config.load_split_windows and peer.is_leader:
                load.hot_windows = 0
                key = split_check.balanced_key(peer.region, load.keys)
                load.keys.clear()
                if key is not None:
                    store.spawn(split_check.split_at(store, peer, [key]))

    def _check_disk(self) -> None:
        store = self._store
        if store.free_bytes is not None:
            store.disk_full = store.free_bytes() < store.config.reserved_disk_bytes

    def _leave_joint(self, now: float) -> None:
        """Whoever ordered the joint configuration is to order its end; a leader does not wait for ever."""
        store = self._store
        for peer in list(store.awake.values()):
            since = peer.joint_since
            if since is None or now - since < store.config.joint_leave_s or peer.raft.role is not Role.LEADER:
                continue
            if peer.raft.has_pending_conf or peer.merge is not None:
                continue
            admin = AdminRequest(cmd_type=AdminCmdType.ChangePeerV2)
            admin.change_peer_v2.SetInParent()
            try:
                peer.propose_admin(admin, None, now)
            except RegionError:
                continue
            store.mark(peer)

    # the placement driver

    def report(self, peer: Peer) -> None:
        """Queues a heartbeat of a region led here."""
        store, flow, now = self._store, peer.flow, self._store.clock()
        request = RegionHeartbeatRequest(
            region=peer.region,
            leader=peer.peer,
            term=peer.raft.term,
            bytes_written=flow.bytes_written,
            keys_written=flow.keys_written,
            bytes_read=flow.bytes_read,
            keys_read=flow.keys_read,
            approximate_size=max(1, flow.size) if flow.measured else 0,
            approximate_keys=flow.keys,
            interval=TimeInterval(start_timestamp=round(peer.reported_at), end_timestamp=round(now)),
        )
        peer.reported_at = now
        store.traffic.add(flow)
        flow.bytes_written = flow.keys_written = flow.bytes_read = flow.keys_read = 0
        for member in peer.region.peers:
            if member.id == peer.peer.id:
                continue
            if peer.needs_snapshot(member):
                request.pending_peers.append(member)
            silent = now - peer.heard_at.get(member.id, now)
            if silent > store.config.down_peer_s and not peer.asleep:
                request.down_peers.append(PeerStats(peer=member, down_seconds=round(silent)))
        peer.pending = list(request.pending_peers)
        store.placement.region_heartbeat(request)

    def report_caught_up(self, peer: Peer) -> None:
        """Reports a region when a member that was pending has what it needs: an operator may wait for just that."""
        if peer.raft.role is not Role.LEADER:
            peer.pending = []
        elif not all(map(peer.needs_snapshot, peer.pending)):
            self.report(peer)

    def report_split(self, regions: Sequence[Region]) -> None:
        self._store.spawn(self._report_split(regions))

    async def _report_split(self, regions: Sequence[Region]) -> None:
        try:
            await self._store.placement.report_batch_split(regions)
        except PLACEMENT_ERRORS as error:
            self._store.log.warning("split_not_reported", error=str(error))  # the heartbeats tell, too

    def _look_for_stale(self, now: float) -> None:
        store = self._store
        patience = store.config.leader_missing_s
        for peer in list(store.peers.values()):
            if peer.is_leader:
                continue
            if peer.asleep:
                if now - peer.heard_at.get(peer.raft.leader_id, 0.0) > ASLEEP_TIMES * patience:
                    sleep.rouse(store, peer, tell_leader=True)
                continue
            if (
                now - peer.leader_seen() > patience
                and peer.region_id not in self._checking_stale
                and peer.applying is None
            ):
                self._checking_stale.add(peer.region_id)
                store.spawn(self._check_stale(peer))

    def is_led(self, peer: Peer) -> bool:
        """Whether a leader was heard of within two election timeouts, or the peer leads itself."""
        config = self._store.config
        silence = 2 * config.election_ticks * config.tick_s
        return peer.is_leader or self._store.clock() - peer.leader_seen() < silence

    def ask_if_gone(self, peer: Peer) -> None:
        """The peer is in the way: if it has no leader, finds out whether it still is one, but not all the time."""
        store, now = self._store, self._store.clock()
        if self.is_led(peer) or now - peer.asked_at < store.config.region_heartbeat_s:
            return
        if peer.region_id not in self._checking_stale and peer.applying is None:
            peer.asked_at = now
            self._checking_stale.add(peer.region_id)
            store.spawn(self._check_stale(peer))

    async def _check_stale(self, peer: Peer) -> None:
        """Asks whether a peer without a leader still is one; destroys it when it is certain that it is not."""
        store, region_id = self._store, peer.region_id
        try:
            found = await store.placement.get_region_by_id(region_id)
            if found is not None:
                gone = self._was_removed(peer, found[0])
                peer.found_gone = 0
            else:
                gone = await self._was_merged(peer)
        except PLACEMENT_ERRORS as error:
            store.log.warning("stale_peer_not_checked", region=region_id, error=str(error))
            return
        finally:
            self._checking_stale.discard(region_id)
        missing = store.clock() - peer.leader_seen() > store.config.leader_missing_s
        if gone and missing and not peer.destroyed and peer.applying is None:
            store.log.info("stale_peer_destroyed", region=region_id, peer=peer.peer.id)
            store.destroy_now(peer)

    def _was_removed(self, peer: Peer, region: Region) -> bool:
        if region.region_epoch.conf_ver <= peer.region.region_epoch.conf_ver and peer.storage.initialized:
            return False
        return all(member.id != peer.peer.id for member in region.peers)

    async def _was_merged(self, peer: Peer) -> bool:
        """Whether a region that nobody knows is part of others, as their versions show, and has been for a while.

        A target that has a peer here buries the source itself, and needs it for that: so every peer here has to be
        led and to have applied all it knows of, or to be gone itself. As what it knows of may be old, none may have a
        version that the placement driver knows a later one of, either.
        """
        store, version = self._store, peer.region.region_epoch.version
        at, end = peer.region.start_key, peer.region.end_key
        newest = version
        while peer.storage.initialized:
            found = await store.placement.get_region(at)
            if found is None or found[0].region_epoch.version <= version:
                peer.found_gone = 0
                return False
            newest = max(newest, found[0].region_epoch.version)
            at = found[0].end_key
            if not at or (end and at >= end):
                break
        peer.laggards = await self._laggards(peer, newest) if peer.storage.initialized else {}
        peer.found_gone += 1
        if peer.laggards:
            return False
        for other in store.peers.values():
            if other.storage.initialized and other.found_gone < FOUND_GONE_TIMES:
                if other.raft.leader_id == NO_ID or other.storage.applied != other.raft.commit:
                    return False
        return peer.found_gone >= FOUND_GONE_TIMES

    async def _laggards(self, source: Peer, newest: int) -> dict[int, int]:
        """The regions here that may still come to where they took `source` over, being behind in their logs, with the
        versions that the placement driver knows of them: who has come to his is past that.

        So is who has come to `newest`, the version of what is in the source's range now.
        """
        found_behind: dict[int, int] = {}
        for other in list(self._store.peers.values()):
            version = other.region.region_epoch.version
            if other is source or not other.storage.initialized or version >= newest:
                continue
            found = await self._store.placement.get_region_by_id(other.region_id)
            if found is not None and found[0].region_epoch.version > version:
                found_behind[other.region_id] = found[0].region_epoch.version
        return found_behind
