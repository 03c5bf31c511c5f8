"""Snapshots of a region: made from one state of the engine, sent in pieces, received to disk, applied in steps.

A piece is a record of puts into one family (`kvstore.engine.batch`); SnapshotMeta has the bytes and the crc32 of each
family's pieces. The sender reads the same engine state twice, once to measure and once to send, so it keeps no piece.
The receiver stages the pieces under local keys of the region. Once Raft accepts the snapshot, the region's state is
Applying and the staged pieces are applied one a round; a crash in between begins that anew.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from kvstore.engine.api import CF_RAFT, Scanner
from kvstore.engine.batch import encode_pairs
from kvstore.errors import Corruption
from kvstore.failpoint import fail_point, fail_point_async
from kvstore.proto import raft_serverpb_pb2 as serverpb
from kvstore.proto.metapb_pb2 import Region
from kvstore.proto.raft_serverpb_pb2 import RaftMessage, RaftSnapshotData, SnapshotChunk, SnapshotMeta
from kvstore.raft.types import Snapshot
from kvstore.raftstore import keys
from kvstore.raftstore.peer import Peer
from kvstore.raftstore.peer_storage import conf_state_of
from kvstore.rpc.api import Code, RpcError

if TYPE_CHECKING:
    from kvstore.raftstore.store import RaftStore

PAIRS_PER_READ_MAX = 256
SNAPSHOT_VERSION = 1
"""Of the pieces' format, in RaftSnapshotData."""


class OutgoingSnapshot:
    """A snapshot on its way: where its pieces come from, for as long as they are needed."""

    def __init__(self, store: RaftStore, peer: Peer) -> None:
        self.peer = peer
        self.region = peer.region
        self.index, self.term = peer.storage.applied, peer.storage.applied_term
        self._piece_bytes = store.config.snapshot_piece_bytes
        low, high = keys.data_start(self.region.start_key), keys.data_end(self.region.end_key)
        self._measure = [(cf, store.engine.scanner(cf, low, high)) for cf in keys.DATA_FAMILIES]
        self._send = [(cf, store.engine.scanner(cf, low, high)) for cf in keys.DATA_FAMILIES]
        self.sending = False
        self.meta = SnapshotMeta()
        self.size = 0

    def _pieces(self, cf: str, scanner: Scanner) -> Iterator[bytes]:
        parts: list[bytes] = []
        size, pairs = 0, 1
        while flat := scanner.take(pairs):
            record = encode_pairs(cf, flat)
            parts.append(record)
            size += len(record)
            if len(record) * 4 < self._piece_bytes:
                pairs = min(2 * pairs, PAIRS_PER_READ_MAX)
            else:
                pairs = max(1, pairs // 2)  # values may be of any size
            if size >= self._piece_bytes:
                yield b"".join(parts)
                parts, size = [], 0
        if parts:
            yield b"".join(parts)

    async def measure(self) -> None:
        """Reads everything once for its size and checksums, letting others run in between."""
        for cf, scanner in self._measure:
            size = checksum = 0
            for piece in self._pieces(cf, scanner):
                size += len(piece)
                checksum = zlib.crc32(piece, checksum)
                await asyncio.sleep(0)
            scanner.release()
            self.meta.cf_files.append(serverpb.SnapshotCFFile(cf=cf, size=size, checksum=checksum))
            self.size += size

    def pieces(self) -> Iterator[bytes]:
        for cf, scanner in self._send:
            yield from self._pieces(cf, scanner)

    def release(self) -> None:
        for _, scanner in (*self._measure, *self._send):
            scanner.release()

    def to_raft(self) -> Snapshot:
        data = RaftSnapshotData(region=self.region, file_size=self.size, version=SNAPSHOT_VERSION, meta=self.meta)
        return Snapshot(self.index, self.term, conf_state_of(self.region), data.SerializeToString())


@dataclass(slots=True)
class Staged:
    """A snapshot whose pieces are on disk; `accepted` once it is in Raft's hands."""

    region: Region
    index: int
    pieces: int
    complete: bool = False


@dataclass(slots=True)
class ApplyingSnapshot:
    """How far the pieces of an accepted snapshot are applied."""

    pieces: int
    next_piece: int = 0


class Snapshots:
    """All snapshots that a store makes, sends, receives and applies."""

    def __init__(self, store: RaftStore) -> None:
        self._store = store
        self._outgoing: dict[tuple[int, int], OutgoingSnapshot] = {}
        self.staged: dict[int, Staged] = {}
        self.sending = 0

    @property
    def receiving(self) -> int:
        return sum(not staged.complete for staged in self.staged.values())

    # out

    def lowest_index(self, peer: Peer) -> int:
        """The index of the oldest snapshot of a region that is on its way: its receiver needs the log from there on."""
        indexes = [out.index for (region_id, _), out in self._outgoing.items() if region_id == peer.region_id]
        return min(indexes, default=peer.storage.applied)

    def make(self, peer: Peer) -> None:
        """Begins the snapshots that the peer's Raft node has asked for; called when the engine has all it applied."""
        wanted, peer.storage.snapshot_of = peer.storage.snapshot_of, []
        for index, to in wanted:
            key = (peer.region_id, to)
            before = self._outgoing.get(key)
            if before is not None and not before.sending and before.index < max(index, peer.storage.truncated_index):
                self._drop(before, to)
            if key in self._outgoing or peer.storage.applied < index or peer.merge is not None:
                continue
            if len(self._outgoing) >= self._store.config.snapshots_sending_max:
                return
            outgoing = self._outgoing[key] = OutgoingSnapshot(self._store, peer)
            self._store.spawn(self._make(outgoing, to))

    async def _make(self, outgoing: OutgoingSnapshot, to: int) -> None:
        peer = outgoing.peer
        await outgoing.measure()
        await fail_point_async("raftstore::snapshot_made")
        peer.storage.made_snapshots[to] = outgoing.to_raft()
        self._store.counters.snapshots_made += 1
        self._store.mark(peer)
        # Raft asks again with the next answer of the follower; what nobody takes is dropped
        await asyncio.sleep(self._store.config.snapshot_timeout_s)
        if self._outgoing.get((peer.region_id, to)) is outgoing and not outgoing.sending:
            self._drop(outgoing, to)

    def _drop(self, outgoing: OutgoingSnapshot, to: int) -> None:
        key = (outgoing.peer.region_id, to)
        if self._outgoing.get(key) is outgoing:
            del self._outgoing[key]
            outgoing.peer.storage.made_snapshots.pop(to, None)
        outgoing.release()

    def send(self, peer: Peer, message: RaftMessage) -> None:
        """Sends a snapshot message and its pieces; the Raft node is told how it went."""
        to = message.to_peer.id
        outgoing = self._outgoing.get((peer.region_id, to))
        if outgoing is None or outgoing.index != message.message.snapshot.metadata.index:
            self._store.on_snapshot_sent(peer, to, ok=False)
            return
        if not outgoing.sending:
            outgoing.sending = True
            self._store.spawn(self._send(outgoing, message))

    async def _send(self, outgoing: OutgoingSnapshot, message: RaftMessage) -> None:
        store, to = self._store, message.to_peer.id
        self.sending += 1
        ok = False
        try:
            async with asyncio.timeout(store.config.snapshot_timeout_s):
                await store.transport.send_snapshot(message, outgoing.pieces())
            ok = True
        except (RpcError, TimeoutError) as error:
            store.log.warning("snapshot_not_sent", region=outgoing.region.id, to=to, error=str(error))
        finally:
            self.sending -= 1
            self._drop(outgoing, to)
            store.on_snapshot_sent(outgoing.peer, to, ok=ok)

    # in

    async def receive(self, chunks: AsyncIterator[SnapshotChunk]) -> None:
        """Stages what comes and hands the message to the Raft node. RpcError for what is refused or damaged."""
        message: RaftMessage | None = None
        region_id = 0
        staging: _Staging | None = None
        done = False
        try:
            async for chunk in chunks:
                if staging is None:
                    if not chunk.HasField("message"):
                        raise RpcError(Code.INVALID_ARGUMENT, "the first chunk of a snapshot has no message")
                    message = chunk.message
                    staging = self._begin(message)
                    region_id = message.region_id
                if chunk.data:
                    staging.add(chunk.data)
                await fail_point_async("raftstore::snapshot_receive")
            if staging is None or message is None:
                raise RpcError(Code.INVALID_ARGUMENT, "a snapshot without chunks")
            staging.finish()
            done = True
        finally:
            if staging is not None and not done:
                self.discard(region_id)
        self._store.counters.snapshots_received += 1
        self._store.on_raft_message(message)

    def _begin(self, message: RaftMessage) -> _Staging:
        store, region_id = self._store, message.region_id
        try:
            data = RaftSnapshotData.FromString(message.message.snapshot.data)
        except DecodeError as error:
            raise RpcError(Code.INVALID_ARGUMENT, f"a snapshot that cannot be read: {error}") from error
        if data.region.id != region_id:
            raise RpcError(Code.INVALID_ARGUMENT, f"a snapshot of region {data.region.id} for region {region_id}")
        if message.to_peer.store_id != store.store_id:
            raise RpcError(
                Code.INVALID_ARGUMENT, f"a snapshot for store {message.to_peer.store_id}, this is {store.store_id}"
            )
        if region_id in self.staged:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"region {region_id} is receiving a snapshot already")
        if self.receiving >= store.config.snapshots_receiving_max:
            raise RpcError(Code.RESOURCE_EXHAUSTED, "too many snapshots are being received")
        if data.file_size > store.config.snapshot_bytes_max:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"a snapshot of {data.file_size} bytes is too large")
        if data.version != SNAPSHOT_VERSION:
            raise RpcError(Code.FAILED_PRECONDITION, f"snapshot version {data.version} is not known")
        staged = self.staged[region_id] = Staged(data.region, message.message.snapshot.metadata.index, 0)
        store.engine.delete_range(CF_RAFT, *keys.staging_range(region_id))
        return _Staging(store, staged, list(data.meta.cf_files))

    def discard(self, region_id: int) -> None:
        """Drops a staged snapshot that will not be applied."""
        peer = self._store.peers.get(region_id)
        if peer is not None and peer.applying is not None:
            return  # a message that came twice
        if self.staged.pop(region_id, None) is not None and not self._store.stopped:
            self._store.engine.delete_range(CF_RAFT, *keys.staging_range(region_id))

    def recover(self, applying: dict[int, Peer]) -> None:
        """After a restart: goes on with the snapshots that were being applied, and drops what else is staged."""
        pieces: dict[int, int] = {}
        scanner = self._store.engine.scanner(CF_RAFT, *keys.STAGING)
        while flat := scanner.take(1):
            region_id = keys.region_of(flat[0])
            pieces[region_id] = pieces.get(region_id, 0) + 1
        scanner.release()
        for region_id, count in pieces.items():
            if region_id not in applying:
                self._store.engine.delete_range(CF_RAFT, *keys.staging_range(region_id))
                continue
            self.staged[region_id] = Staged(
                applying[region_id].region, applying[region_id].storage.applied, count, True
            )
        for region_id, peer in applying.items():
            batch = self._store.engine.batch()
            self._store.delete_data(batch, peer.region.start_key, peer.region.end_key)
            self._store.engine.write(batch)
            peer.applying = ApplyingSnapshot(pieces.get(region_id, 0))

    def apply_piece(self, peer: Peer) -> None:
        """Applies the next piece of an accepted snapshot; the last step makes the region Normal."""
        state = peer.applying
        assert isinstance(state, ApplyingSnapshot), peer.region_id
        engine, region_id = self._store.engine, peer.region_id
        batch = engine.batch()
        if state.next_piece < state.pieces:
            record = engine.get(CF_RAFT, keys.staging_key(region_id, state.next_piece))
            if record is None:
                raise Corruption(f"region {region_id}: piece {state.next_piece} of its snapshot is not there")
            batch.add_record(record)
            state.next_piece += 1
            peer.flow.size += len(record)
            fail_point("raftstore::apply_snapshot_piece")
            engine.write(batch)
            return
        peer.storage.state = serverpb.PeerState.Normal
        peer.storage.save_region(batch)
        batch.delete_range(*keys.staging_range(region_id), engine.handle(CF_RAFT))
        engine.write(batch)
        self.staged.pop(region_id, None)
        peer.applying = None
        self._store.on_snapshot_applied(peer)


class _Staging:
    """Writes pieces to their staging keys and checks them against the snapshot's meta."""

    def __init__(self, store: RaftStore, staged: Staged, files: list[serverpb.SnapshotCFFile]) -> None:
        self._store = store
        self._staged = staged
        self._files = files
        self._file = 0
        self._size = self._checksum = 0

    def add(self, piece: bytes) -> None:
        self._close_full_files()
        if self._file >= len(self._files):
            raise RpcError(Code.INVALID_ARGUMENT, "a snapshot has more than it says")
        self._size += len(piece)
        self._checksum = zlib.crc32(piece, self._checksum)
        engine, region_id = self._store.engine, self._staged.region.id
        batch = engine.batch()
        batch.put(keys.staging_key(region_id, self._staged.pieces), piece, engine.handle(CF_RAFT))
        engine.write(batch)
        self._staged.pieces += 1

    def _close_full_files(self) -> None:
        while self._file < len(self._files) and self._size >= self._files[self._file].size:
            file = self._files[self._file]
            if self._size != file.size or self._checksum != file.checksum:
                raise RpcError(
                    Code.INVALID_ARGUMENT,
                    f"snapshot of region {self._staged.region.id}: family {file.cf} is damaged: {self._size} bytes, "
                    f"crc32 {self._checksum:#x}, should be {file.size}, {file.checksum:#x}",
                )
            self._file += 1
            self._size = self._checksum = 0

    def finish(self) -> None:
        self._close_full_files()
        if self._file < len(self._files):
            raise RpcError(Code.INVALID_ARGUMENT, f"snapshot of region {self._staged.region.id} is cut off")
        self._staged.complete = True
