"""The store: the peers of all its regions, the seam to the service above, and the loop that drives them.

What a turn of the loop does is in `rounds`. Nobody is answered, and no vote or acknowledgement leaves, before what it
rests on is durable. Anything that fails in between ends `run` with the error, and nothing is answered after it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import structlog

from kvstore.engine.api import CF_RAFT, Batch, Engine
from kvstore.engine.batch import encode_changes
from kvstore.errors import StoreError
from kvstore.proto import raft_serverpb_pb2 as serverpb
from kvstore.proto.import_sstpb_pb2 import SSTMeta
from kvstore.proto.kvrpcpb_pb2 import Context, DiskFullOpt
from kvstore.proto.metapb_pb2 import Peer as PeerPb
from kvstore.proto.metapb_pb2 import Region
from kvstore.proto.raft_cmdpb_pb2 import AdminCmdType, AdminRequest, CmdType, RaftCmdRequest
from kvstore.proto.raft_serverpb_pb2 import RaftMessage, SnapshotChunk
from kvstore.raft.config import Rng
from kvstore.raft.types import MessageType, Role
from kvstore.raftstore import checks, keys, messages, sleep, upkeep
from kvstore.raftstore.api import (
    PLACEMENT_ERRORS,
    Entry,
    Grant,
    Leaving,
    Placement,
    RegionObserver,
    WriteObserver,
)
from kvstore.raftstore.apply import serve_apply_waiters
from kvstore.raftstore.config import ENTRY_BYTES_MAX, SPLIT_KEYS_MAX, StoreConfig
from kvstore.raftstore.execute import AdminExecutor
from kvstore.raftstore.imports import Imports
from kvstore.raftstore.metrics import Counters
from kvstore.raftstore.peer import Peer, QueuedWrite, Traffic
from kvstore.raftstore.peer_storage import PeerStorage, write_tombstone
from kvstore.raftstore.region_tree import RegionTree
from kvstore.raftstore.rounds import Rounds
from kvstore.raftstore.rounds import Syncer as Syncer
from kvstore.raftstore.snapshot import Snapshots
from kvstore.raftstore.transport import RaftTransport
from kvstore.rpc.api import Code, RpcError


class RaftStore:
    """Regions of one store over one engine (see `api.RegionStore`). `run` drives it until `stop`."""

    def __init__(
        self,
        engine: Engine,
        store_id: int,
        placement: Placement,
        transport: RaftTransport,
        syncer: Syncer,
        rng: Rng,
        clock: Callable[[], float],
        *,
        config: StoreConfig | None = None,
        free_bytes: Callable[[], int] | None = None,
    ) -> None:
        """`clock` is monotonic, in seconds, and must not stop while the machine is suspended: leases go by it."""
        self._engine = engine
        self._store_id = store_id
        self.placement = placement
        self.transport = transport
        self._rng = rng
        self.clock = clock
        self.config = config or StoreConfig()
        self.free_bytes = free_bytes
        self.log = structlog.get_logger("raftstore").bind(store=store_id)
        self.peers: dict[int, Peer] = {}
        self.awake: dict[int, Peer] = {}
        self.merging: dict[int, Peer] = {}
        self.tree = RegionTree()
        self.observers: list[RegionObserver] = []
        self.write_observers: list[WriteObserver] = []
        self.telling = threading.Lock()
        """Held from before a write until its observers were told of it."""
        self._leaving: list[Leaving] = []
        self.snapshots = Snapshots(self)
        self.imports = Imports(self)
        self.stepped_snapshots: dict[int, Region] = {}
        self.admin_executor = AdminExecutor(self)
        self.heard_at: dict[int, float] = {}
        self.votes_from = 0.0
        self.disk_full = False
        self.traffic = Traffic()
        self.stopped = False
        self.fatal: BaseException | None = None
        self.counters = Counters()
        self._queue_bytes = self._queue_writes = 0
        self._tasks: dict[asyncio.Task[None], None] = {}
        self.rounds = Rounds(self, syncer, rng.randrange(0, 1 << 63))
        self.upkeep = upkeep.Upkeep(self)

    # the seam to the service

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def store_id(self) -> int:
        return self._store_id

    def observe(self, observer: RegionObserver) -> None:
        self.observers.append(observer)
        for peer in self.peers.values():
            if peer.storage.initialized:
                observer.on_region(peer.region)
                if peer.is_leader:
                    observer.on_role(peer.region, peer.peer, is_leader=True, term=peer.raft.term)

    def observe_writes(self, observer: WriteObserver) -> None:
        self.write_observers.append(observer)

    def wait_told(self) -> None:
        with self.telling:
            """Whoever held it has told."""

    def before_leaving(self, call: Leaving) -> None:
        self._leaving.append(call)

    async def prepare_to_leave(self, peer: Peer) -> None:
        """Before a region led here changes its bounds or its leader on order."""
        for call in self._leaving:
            await call(peer.region, peer.peer)

    def regions(self) -> list[Region]:
        return self.tree.all()

    @property
    def queued_bytes(self) -> int:
        return self._queue_bytes

    def leader_of(self, region_id: int) -> PeerPb | None:
        peer = self.peers.get(region_id)
        return None if peer is None else peer.leader()

    def check_key(self, region: Region, key: bytes) -> None:
        if key < region.start_key or (region.end_key and key >= region.end_key):
            raise checks.key_not_in_region(key, region)
        peer = self.peers.get(region.id)
        if peer is not None:
            upkeep.count_read(peer, key)

    def note_read(self, region_id: int, read_keys: int, read_bytes: int) -> None:
        peer = self.peers.get(region_id)
        if peer is not None:
            peer.flow.keys_read += read_keys
            peer.flow.bytes_read += read_bytes

    def _locate(self, context: Context, *, follower: bool = False) -> Peer:
        """The peer that a request is for. RegionError, in TiKV's order."""
        asked = context.peer
        if asked.store_id != self._store_id:
            raise checks.store_not_match(asked.store_id, self._store_id)
        peer = self.peers.get(context.region_id)
        if peer is None:
            raise checks.region_not_found(context.region_id)
        if not peer.storage.region.peers:
            raise checks.region_not_initialized(context.region_id)
        raft = peer.raft
        if raft.role is not Role.LEADER and not follower:
            if peer.asleep:
                sleep.rouse(self, peer, tell_leader=True)
            raise checks.not_leader(context.region_id, peer.leader())
        if asked.id != peer.peer.id:
            raise checks.mismatch_peer_id(asked.id, peer.peer.id)
        if context.term and raft.term > context.term + 1:
            raise checks.stale_command()
        region = peer.storage.region
        if context.region_epoch.version != region.region_epoch.version:
            self._raise_epoch(context, region)
        return peer

    def _raise_epoch(self, context: Context, region: Region) -> None:
        raise checks.epoch_not_match(
            f"request {checks.epoch_text(context.region_epoch)}, now {checks.epoch_text(region.region_epoch)}",
            [region, *self.tree.neighbours(region)],
        )

    def try_read(self, context: Context) -> Grant | None:
        if context.replica_read:
            return self._try_replica_read(context)
        peer = self._locate(context)
        if peer.storage.merge is not None:
            raise checks.proposal_in_merging_mode(peer.region_id)
        if peer.asleep:
            sleep.rouse(self, peer)
        peer.idle_ticks = 0
        if not peer.lease_valid(self.clock()):
            return None
        self.counters.lease_reads += 1
        return Grant(peer.storage.region, peer.raft.term, peer.storage.applied)

    def _try_replica_read(self, context: Context) -> Grant | None:
        peer = self._locate(context, follower=True)
        if peer.storage.merge is not None:
            raise checks.proposal_in_merging_mode(peer.region_id)
        if not peer.lease_valid(self.clock()):
            return None
        return Grant(peer.storage.region, peer.raft.term, peer.storage.applied)

    async def read(self, context: Context, deadline: float | None = None) -> Grant:
        granted = self.try_read(context)
        if granted is not None:
            return granted
        await self._confirm(context, deadline)
        peer = self._locate(context, follower=context.replica_read)
        if peer.storage.merge is not None:
            raise checks.proposal_in_merging_mode(peer.region_id)
        return Grant(peer.storage.region, peer.raft.term, peer.storage.applied)

    async def read_index(self, context: Context) -> int:
        peer = self._locate(context, follower=True)
        if peer.storage.merge is not None:
            raise checks.proposal_in_merging_mode(peer.region_id)
        return await self._confirm(context, None)

    async def _confirm(self, context: Context, deadline: float | None) -> int:
        """Waits until a ReadIndex asked from now on is applied here; returns the index."""
        self._check_running()
        peer = self._locate(context, follower=True)
        sleep.rouse(self, peer, tell_leader=True)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        peer.read_queue.append((future, context.replica_read))
        self.mark(peer)
        try:
            async with asyncio.timeout_at(deadline):
                return await future
        except TimeoutError:
            raise checks.read_index_not_ready(context.region_id, "it takes longer than the request may") from None

    async def write(self, context: Context, entries: Sequence[Entry], *, term: int = 0) -> int:
        peer = self._locate_for_write(context)
        if self.disk_full and any(entry[2] is not None for entry in entries):
            self._check_disk(context)
        parts = encode_changes(entries)
        size = sum(map(len, parts))
        if size > ENTRY_BYTES_MAX:
            raise checks.raft_entry_too_large(peer.region_id, size)
        config = self.config
        if (
            self._queue_bytes + size > config.queue_bytes_max
            or self._queue_writes >= config.queue_writes_max
            or peer.queue_bytes + size > config.region_queue_bytes_max
        ):
            raise checks.server_is_busy("too many writes are waiting", config.busy_backoff_ms)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        peer.queue.append(QueuedWrite(parts, size, term, context.region_epoch.version, future))
        if peer.asleep:
            sleep.rouse(self, peer)
        peer.idle_ticks = 0
        self.rounds.mark(peer)
        self._queue_bytes += size
        self._queue_writes += 1
        peer.queue_bytes += size
        try:
            index: int = await future
            return index
        finally:
            self._queue_bytes -= size
            self._queue_writes -= 1
            peer.queue_bytes -= size

    async def delete_range(self, context: Context, cf: str, start: bytes, end: bytes) -> None:
        peer = self._locate_for_write(context)
        command = RaftCmdRequest()
        request = command.requests.add(cmd_type=CmdType.DeleteRange)
        request.delete_range.cf, request.delete_range.start_key, request.delete_range.end_key = cf, start, end
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        sleep.rouse(self, peer)
        peer.propose_command(command, future, self.clock())
        self.mark(peer)
        await future

    async def ingest(self, context: Context, metas: Sequence[SSTMeta]) -> None:
        """Takes files that were written on every store of the region over, through the log. RegionError.

        An `undetermined_result` may be followed by writing the same rows to new files and ingesting those: what is
        there twice is the same.
        """
        peer = self._locate_for_write(context)
        self.imports.command(peer.region, metas)
        # what leaders before this one proposed is applied behind this: an entry that names the files can't be under way
        await self.read(context)
        peer = self._locate_for_write(context)
        if self.disk_full:
            self._check_disk(context)
        command = self.imports.command(peer.region, metas)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        sleep.rouse(self, peer)
        peer.propose_command(command, future, self.clock())
        self.imports.proposed(metas, future)
        self.mark(peer)
        await asyncio.shield(future)

    async def split(self, context: Context, keys: Sequence[bytes]) -> list[Region]:
        peer = self._locate_for_write(context)
        wanted = sorted({key for key in keys if key != peer.region.start_key})
        if len(wanted) > SPLIT_KEYS_MAX:
            raise checks.refused(f"{len(wanted)} split keys are more than {SPLIT_KEYS_MAX}")
        for key in wanted:
            checks.check_key(peer.region, key)
        if not wanted:
            return [peer.region]
        return await self.split_at(peer, wanted)

    async def split_at(self, peer: Peer, wanted: Sequence[bytes]) -> list[Region]:
        """Gets ids for the new regions and splits; keys ascending, inside of the region. RegionError."""
        epoch = peer.region.region_epoch
        try:
            ids = await self.placement.ask_batch_split(peer.region, len(wanted))
        except PLACEMENT_ERRORS as error:
            raise checks.server_is_busy(
                f"the placement driver gives no ids: {error}", self.config.busy_backoff_ms
            ) from error
        await self.prepare_to_leave(peer)
        if peer.destroyed or peer.region.region_epoch != epoch:
            raise checks.epoch_not_match("it changed while the split was prepared", [peer.region])
        admin = AdminRequest(cmd_type=AdminCmdType.BatchSplit)
        admin.splits.right_derive = True
        for key, split_id in zip(wanted, ids, strict=True):
            admin.splits.requests.add(
                split_key=key,
                new_region_id=split_id.new_region_id,
                new_peer_ids=split_id.new_peer_ids,
                right_derive=True,
            )
        regions: list[Region] = await self.propose_admin(peer, admin)
        return regions

    async def propose_admin(self, peer: Peer, admin: AdminRequest) -> Any:
        """Proposes a change of the region and waits for its outcome. RegionError."""
        self._check_running()
        if peer.destroyed:
            raise checks.region_not_found(peer.region_id)
        if peer.raft.role is not Role.LEADER:
            raise checks.not_leader(peer.region_id, peer.leader())
        if peer.merge is not None and admin.cmd_type != AdminCmdType.RollbackMerge:
            raise checks.proposal_in_merging_mode(peer.region_id)
        sleep.rouse(self, peer)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        peer.propose_admin(admin, future, self.clock())
        self.mark(peer)
        return await future

    def _locate_for_write(self, context: Context) -> Peer:
        self._check_running()
        peer = self._locate(context)
        if peer.storage.merge is not None:
            raise checks.proposal_in_merging_mode(peer.region_id)
        return peer

    def _check_running(self) -> None:
        if self.stopped:
            raise checks.region_not_found(0) if self.fatal is None else checks.server_is_busy("the store has failed")

    def _check_disk(self, context: Context) -> None:
        if context.disk_full_opt == DiskFullOpt.NotAllowedOnFull:
            raise checks.disk_full(self._store_id, "less is free than is reserved")

    # peers come and go

    def load(self) -> None:
        """Opens the peers that are on disk. Raises Corruption."""
        self.votes_from = self.clock() + self.config.lease_s
        scanner = self._engine.scanner(CF_RAFT, *keys.REGION_STATES)
        applying: dict[int, Peer] = {}
        while flat := scanner.take(256):
            for raw in flat[1::2]:
                local = serverpb.RegionLocalState.FromString(raw)
                if local.state == serverpb.PeerState.Tombstone:
                    continue
                peer = self._open(local)
                peer.loaded = True
                if local.state == serverpb.PeerState.Applying:
                    applying[peer.region_id] = peer
                elif local.state == serverpb.PeerState.Merging:
                    self.merging[peer.region_id] = peer
                if peer.alone and not applying.get(peer.region_id):
                    peer.raft.campaign()
                self.mark(peer)
        scanner.release()
        self.snapshots.recover(applying)
        self.imports.load()

    def _open(self, local: serverpb.RegionLocalState) -> Peer:
        own = checks.find_peer(local.region, self._store_id)
        assert own is not None, (self._store_id, local.region)
        storage = PeerStorage(self._engine, local.region.id, local)
        peer = self._add(Peer(storage, own, self.config, self._rng, self.clock()))
        self.tree.put(local.region)
        return peer

    def open_peer(self, region: Region) -> Peer:
        """The peer of a region whose first states were just written; an empty one in its place goes."""
        before = self.peers.pop(region.id, None)
        if before is not None:
            before.destroyed = True
            before.fail_all(checks.stale_command(), checks.stale_command())
        return self._open(serverpb.RegionLocalState(state=serverpb.PeerState.Normal, region=region))

    def create_empty(self, region_id: int, own: PeerPb) -> Peer:
        """A peer that will get a snapshot; nothing of it is on disk until it votes."""
        storage = PeerStorage(self._engine, region_id, None)
        return self._add(Peer(storage, own, self.config, self._rng, self.clock()))

    def _add(self, peer: Peer) -> Peer:
        self.peers[peer.region_id] = peer
        self.awake[peer.region_id] = peer
        return peer

    def grave_of(self, region_id: int) -> Region | None:
        """The region as it was when its peer here was buried."""
        raw = self._engine.get(CF_RAFT, keys.region_state_key(region_id))
        if raw is None:
            return None
        local = serverpb.RegionLocalState.FromString(raw)
        return local.region if local.state == serverpb.PeerState.Tombstone else None

    def delete_data(self, batch: Batch, start: bytes, end: bytes) -> None:
        for cf in keys.DATA_FAMILIES:
            batch.delete_range(keys.data_start(start), keys.data_end(end), self._engine.handle(cf))
        self.tell_range(start, end)

    def tell_range(self, start: bytes, end: bytes) -> None:
        """Something other than records changes a range of encoded keys."""
        for observer in self.write_observers:
            observer.on_range_changed(start, end)

    def destroy(self, batch: Batch, peer: Peer) -> None:
        """Removes a peer that is no member any more, with its data."""
        if peer.storage.initialized:
            self.delete_data(batch, peer.region.start_key, peer.region.end_key)
        self.bury(batch, peer)

    def destroy_now(self, peer: Peer) -> None:
        batch = self._engine.batch()
        self.destroy(batch, peer)
        self._engine.write(batch)

    def bury(self, batch: Batch, peer: Peer) -> None:
        """Removes a peer but leaves its data to the region that has taken over its range."""
        region_id = peer.region_id
        write_tombstone(self._engine, batch, peer.region, peer.peer)
        batch.delete_range(*keys.staging_range(region_id), self._engine.handle(CF_RAFT))
        self.snapshots.staged.pop(region_id, None)
        peer.destroyed = True
        for registry in (self.peers, self.awake, self.merging, self.rounds.dirty):
            registry.pop(region_id, None)
        self.tree.remove(region_id)
        peer.fail_all(checks.undetermined("the peer is gone"), checks.region_not_found(region_id))
        if peer.is_leader:
            peer.is_leader = False
            self.tell_role(peer)
        if peer.storage.initialized:
            for observer in self.observers:
                observer.on_destroyed(peer.region)

    # what peers report

    def mark(self, peer: Peer) -> None:
        """The peer may have something to do in the next round."""
        self.rounds.mark(peer)

    def rouse(self, peer: Peer) -> None:
        sleep.rouse(self, peer)

    def on_region_changed(self, peer: Peer) -> None:
        for observer in self.observers:
            observer.on_region(peer.region)
        if peer.raft.role is Role.LEADER:
            self.upkeep.report(peer)

    def on_split(self, regions: Sequence[Region]) -> None:
        self.upkeep.report_split(regions)

    def on_snapshot_sent(self, peer: Peer, to: int, *, ok: bool) -> None:
        self.counters.snapshots_sent += ok
        if not peer.destroyed:
            peer.raft.report_snapshot(to, ok)
            self.mark(peer)

    def on_snapshot_applied(self, peer: Peer) -> None:
        self.counters.snapshots_applied += 1
        peer.raft.advance_apply_to(peer.storage.applied)
        serve_apply_waiters(peer)
        self.on_region_changed(peer)
        self.mark(peer)

    def on_unreachable(self, store_id: int) -> None:
        """Messages to a store could not be delivered."""
        for peer in self.awake.values():
            if peer.raft.role is Role.LEADER:
                for member in peer.region.peers:
                    if member.store_id == store_id:
                        peer.raft.report_unreachable(member.id)

    def on_raft_message(self, message: RaftMessage) -> None:
        """A message from another store; handled in the next round."""
        if self.stopped:
            return
        if len(self.rounds.inbox) < self.config.inbox_messages_max:
            self.rounds.inbox.append(message)
            self.rounds.wake.set()
            return
        self.counters.messages_dropped += 1
        if messages.kind_of(message) is MessageType.SNAPSHOT:
            self.snapshots.discard(message.region_id)

    async def receive_snapshot(self, chunks: AsyncIterator[SnapshotChunk]) -> None:
        """Takes a snapshot from another store, piece by piece. RpcError if it is refused."""
        if self.stopped:
            raise RpcError(Code.UNAVAILABLE, "the store is closed")
        try:
            await self.snapshots.receive(chunks)
        except StoreError as error:
            self.fail(error)
            raise RpcError(Code.INTERNAL, str(error)) from error

    def fail(self, error: BaseException) -> None:
        """Ends `run` with an error that came up beside it."""
        if self.fatal is None:
            self.fatal = error
            self.rounds.tick_due = True
            self.rounds.wake.set()

    def tell_role(self, peer: Peer) -> None:
        for observer in self.observers:
            observer.on_role(peer.region, peer.peer, is_leader=peer.is_leader, term=peer.raft.term)

    # messages

    def message_to(self, peer: Peer, to: PeerPb) -> RaftMessage:
        return RaftMessage(
            region_id=peer.region_id, from_peer=peer.peer, to_peer=to, region_epoch=peer.region.region_epoch
        )

    # the loop

    async def run(self) -> None:
        """Drives all peers until `stop`; ends with the error that makes it impossible to go on."""
        self.spawn(self._tick_forever())
        try:
            while not self.stopped:
                await self.rounds.wait()
                if self.fatal is not None:
                    raise self.fatal
                await self.rounds.turn()
                await asyncio.sleep(0)
        except BaseException as error:
            self.fatal = error
            raise
        finally:
            self._end()

    def stop(self) -> None:
        """Ends `run` after the present round."""
        self.stopped = True
        self.rounds.wake.set()

    def _end(self) -> None:
        self.stopped = True
        for task in self._tasks:
            task.cancel()
        for peer in self.peers.values():
            peer.fail_all(checks.undetermined("the store is closing"), checks.server_is_busy("the store is closing"))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs something beside the rounds, for as long as the store runs; what it raises ends the store."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(self.config.tick_s)
            # after a pause there is one tick, not many: an election timeout must never be shorter than it says
            self.rounds.tick_due = True
            self.rounds.wake.set()
