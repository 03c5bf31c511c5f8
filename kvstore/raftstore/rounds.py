"""One turn of a store's loop: all peers' Ready become one write, one sync, and what follows from them.

messages and ticks in → collect what every peer has to persist → leaders' messages leave → one engine batch
→ apply what is committed already, in one batch with the apply states → answer
→ one sync for everybody, while new requests pile up → messages that had to wait leave
→ what that committed is applied → answer
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from kvstore.engine.api import Batch
from kvstore.failpoint import fail_point, fail_point_async
from kvstore.proto.raft_serverpb_pb2 import RaftMessage, RaftSnapshotData
from kvstore.raft.raw_node import Ready
from kvstore.raft.types import NO_ID, Entry, HardState, Message, MessageType, Role
from kvstore.raft_wire import message_to_pb
from kvstore.raftstore import checks, messages
from kvstore.raftstore.apply import Applying, apply_entries, serve_apply_waiters
from kvstore.raftstore.peer import Flow, Peer, PendingRead, fail
from kvstore.raftstore.snapshot import ApplyingSnapshot

if TYPE_CHECKING:
    from kvstore.raftstore.store import RaftStore

Readies = list[tuple[Peer, Ready]]


class Syncer(Protocol):
    """Makes what the engine has written durable, without keeping the loop from its other work."""

    async def sync(self) -> None: ...


class Rounds:
    """What waits for the next round, and the round itself. What fails in it must end the store."""

    def __init__(self, store: RaftStore, syncer: Syncer, first_read: int) -> None:
        self._store = store
        self._syncer = syncer
        self._next_read = first_read
        self.inbox: list[RaftMessage] = []
        self.dirty: dict[int, Peer] = {}
        """Peers that may have something to do."""
        self.tick_due = False
        self.wake = asyncio.Event()

    def mark(self, peer: Peer) -> None:
        self.dirty[peer.region_id] = peer
        self.wake.set()

    async def wait(self) -> None:
        """Returns when there is something to do."""
        if not self.dirty and not self.inbox and not self.tick_due:
            self.wake.clear()
            await self.wake.wait()

    async def turn(self) -> None:
        store, counters = self._store, self._store.counters
        counters.rounds += 1
        inbox, self.inbox = self.inbox, []
        counters.messages_received += len(inbox)
        for message in inbox:
            messages.on_message(store, message)
        if self.tick_due:
            self.tick_due = False
            store.upkeep.tick()
        readies, held, must_sync, write_begun = self._collect()
        applying = Applying(store)
        for peer, entries in held:
            self._apply(applying, peer, entries)
        for peer, ready in readies:
            self._apply(applying, peer, ready.committed_entries)
        applying.flush()
        for peer, _ in held:
            if not peer.destroyed:
                peer.raft.advance_apply_to(peer.storage.applied)
        imported = store.imports.take_done()
        if must_sync or imported:
            await fail_point_async("raftstore::before_sync")
            begun = store.clock()
            await self._syncer.sync()
            counters.syncs += 1
            ended = store.clock()
            counters.sync_s += ended - begun
            counters.append_log.add(ended - write_begun)
            await fail_point_async("raftstore::after_sync")
        store.imports.synced(imported)
        self._advance(readies)
        self._finish(readies)

    def _collect(self) -> tuple[Readies, list[tuple[Peer, Sequence[Entry]]], bool, float]:
        """Takes every peer's Ready, writes what is to be persisted, and sends what need not wait for it.

        Returns the Readies, the entries that had to wait for a snapshot that is applied now, whether to sync, and when
        writing began.
        """
        store = self._store
        dirty, self.dirty = self.dirty, {}
        batch = store.engine.batch()
        readies: Readies = []
        held: list[tuple[Peer, Sequence[Entry]]] = []
        must_sync = wrote = False
        now = store.clock()
        for peer in dirty.values():
            if peer.destroyed:
                continue
            if peer.applying is not None:
                store.snapshots.apply_piece(peer)
                self.mark(peer)
                if peer.applying is None and peer.held:
                    held.append((peer, peer.held))
                    peer.held = []
                continue
            if peer.queue:
                self._propose(peer, now)
            if peer.read_queue:
                self._ask_read_index(peer, now)
            if peer.pending:
                store.upkeep.report_caught_up(peer)
            if not peer.raft.has_ready():
                continue
            ready = peer.raft.ready()
            readies.append((peer, ready))
            if ready.soft_state is not None:
                self._on_soft_state(peer, now)
            wrote = self._persist(batch, peer, ready) or wrote
            must_sync = must_sync or ready.must_sync
        for region_id in store.stepped_snapshots:
            store.snapshots.discard(region_id)
        store.stepped_snapshots.clear()
        store.counters.readies += len(readies)
        for peer, ready in readies:
            self._send_all(peer, ready.messages)
        store.transport.flush()
        write_begun = store.clock()
        if wrote:
            fail_point("raftstore::before_save")
            store.engine.write(batch)
            fail_point("raftstore::after_save")
        return readies, held, must_sync, write_begun

    def _propose(self, peer: Peer, now: float) -> None:
        counters = self._store.counters
        counters.writes += len(peer.queue)
        refused, entries = peer.take_writes(now)
        counters.write_entries += entries
        for future, error in refused:
            fail(future, error)

    def _persist(self, batch: Batch, peer: Peer, ready: Ready) -> bool:
        storage = peer.storage
        if ready.hard_state is not None:
            storage.hard_state = ready.hard_state
        if ready.snapshot is not None:
            self._accept_snapshot(batch, peer, ready)
        if ready.entries:
            storage.append(batch, ready.entries, self._store.config.entry_cache_bytes_max)
            self._store.counters.entries_appended += len(ready.entries)
        if ready.must_sync:
            storage.save_raft_state(batch)
            return True
        return False  # the commit index alone is saved with the next write

    def _accept_snapshot(self, batch: Batch, peer: Peer, ready: Ready) -> None:
        """Raft has taken a snapshot: what it replaces goes, and its pieces are applied from the next round on."""
        store, snapshot = self._store, ready.snapshot
        assert snapshot is not None
        region = RaftSnapshotData.FromString(snapshot.data).region
        store.stepped_snapshots.pop(region.id, None)
        staged = store.snapshots.staged[region.id]
        assert staged.complete, region.id
        assert staged.index == snapshot.index, (region.id, staged.index, snapshot.index)
        before = peer.region
        if before.peers:
            store.delete_data(batch, before.start_key, before.end_key)
        for other in store.tree.overlapping(region):
            store.destroy(batch, store.peers[other.id])
        store.delete_data(batch, region.start_key, region.end_key)
        for observer in store.observers:
            for replaced in (before, region) if before.peers else (region,):
                observer.on_replaced(replaced)
        peer.storage.begin_snapshot(batch, snapshot, region)
        peer.last_compacted = snapshot.index
        peer.flow = Flow()
        peer.on_members()
        store.tree.put(region)
        store.merging.pop(region.id, None)
        peer.applying = ApplyingSnapshot(staged.pieces)
        for proposal in peer.proposals:
            peer.settle_one(proposal, checks.undetermined("a snapshot took the place of the log"))
        peer.proposals.clear()

    def _apply(self, applying: Applying, peer: Peer, entries: Sequence[Entry]) -> None:
        if not entries or peer.destroyed:
            return
        if peer.applying is not None:
            peer.held += entries  # they follow the snapshot
        else:
            apply_entries(applying, peer, entries)

    def _advance(self, readies: Readies) -> None:
        """What was persisted is durable: lets the messages go that waited for it, and applies what it committed."""
        applying = Applying(self._store)
        for peer, ready in readies:
            if peer.destroyed:
                continue
            self._send_all(peer, ready.persisted_messages)
            light = peer.raft.advance(ready)
            self._send_all(peer, light.messages)
            if light.commit_index is not None:
                state = peer.storage.hard_state
                peer.storage.hard_state = HardState(state.term, state.vote, light.commit_index)
            self._apply(applying, peer, light.committed_entries)
        self._store.transport.flush()
        applying.flush()

    def _finish(self, readies: Readies) -> None:
        """Tells Raft what was applied, serves reads that waited for it, and sees who has more to do."""
        for peer, ready in readies:
            if peer.destroyed:
                continue
            if peer.applying is None and peer.storage.applied > peer.raft.applied:
                peer.raft.advance_apply_to(peer.storage.applied)
            self._serve_reads(peer, ready)
            if peer.applying is not None:
                self.mark(peer)
                continue
            if peer.storage.snapshot_of:
                self._store.snapshots.make(peer)
            if peer.raft.has_ready():
                self.mark(peer)

    # messages, reads and roles

    def _send_all(self, peer: Peer, out: Sequence[Message]) -> None:
        store = self._store
        for message in out:
            to = peer.members.get(message.to)
            if to is None:
                continue
            wrapped = store.message_to(peer, to)
            wrapped.message.CopyFrom(message_to_pb(message))
            if message.type is MessageType.SNAPSHOT:
                store.snapshots.send(peer, wrapped)
                continue
            if messages.is_first_message(message.type, message.commit):
                wrapped.start_key, wrapped.end_key = peer.region.start_key, peer.region.end_key
            store.counters.messages_sent += 1
            store.transport.send(wrapped)

    def _ask_read_index(self, peer: Peer, now: float) -> None:
        """One ReadIndex for all reads that wait."""
        queue, peer.read_queue = peer.read_queue, []
        leads = peer.raft.role is Role.LEADER
        waiting: list[asyncio.Future[int]] = []
        replica = True
        for future, by_replica in queue:
            if future.done():
                continue
            if leads or by_replica:
                waiting.append(future)
                replica = replica and by_replica
            else:
                fail(future, checks.not_leader(peer.region_id, peer.leader()))
        if not waiting:
            return
        self._next_read += 1
        context = peer.peer.id.to_bytes(8, "big") + self._next_read.to_bytes(8, "big")
        if not peer.raft.read_index(context):
            for future in waiting:
                fail(future, checks.not_leader(peer.region_id, None))
            return
        self._store.counters.read_indexes += 1
        peer.reads[context] = PendingRead(now, peer.raft.term if leads else 0, waiting, replica)

    def _serve_reads(self, peer: Peer, ready: Ready) -> None:
        for state in ready.read_states:
            read = peer.reads.pop(state.request_ctx, None)
            if read is None:
                continue
            peer.renew_lease(read.sent_at, read.term)
            peer.apply_waiters += [(state.index, future) for future in read.futures]
        if peer.apply_waiters and peer.applying is None:
            serve_apply_waiters(peer)

    def _on_soft_state(self, peer: Peer, now: float) -> None:
        raft = peer.raft
        if raft.leader_id != NO_ID:
            peer.led = True
        elif peer.led:
            peer.led = False
            peer.leaderless_since = now
        leads = raft.role is Role.LEADER
        if leads == peer.is_leader:
            return
        peer.is_leader = leads
        peer.lease_until = 0.0
        peer.sleepers.clear()
        if leads:
            peer.heard_at = {member.id: now for member in peer.region.peers}
            self._store.upkeep.report(peer)
        else:
            peer.fail_reads(checks.not_leader(peer.region_id, peer.leader()), replica_too=False)
        self._store.tell_role(peer)
