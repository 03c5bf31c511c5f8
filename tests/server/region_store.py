"""A region store for tests of the service: any number of regions over one engine, no Raft, and levers to pull."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from itertools import pairwise

from kvstore.engine.api import Engine
from kvstore.engine.batch import encode_changes
from kvstore.engine.memory import MemoryEngine
from kvstore.proto import errorpb_pb2
from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.proto.metapb_pb2 import Peer, Region, RegionEpoch
from kvstore.raftstore.api import Entry, Grant, Leaving, RegionError, RegionObserver, WriteObserver

STORE_ID = 1


class TestStore:
    """Leads all of its regions, until told otherwise. Writes take `write_delay_s`; `write_error` fails them."""

    __test__ = False

    def __init__(self, engine: Engine | None = None, store_id: int = STORE_ID) -> None:
        self.engine = engine or MemoryEngine()
        self.store_id = store_id
        self.write_delay_s = 0.0
        self.write_error: RegionError | None = None
        self.has_lease = True
        self.terms: dict[int, int] = {}
        """Of regions that had more than one leader."""
        self.reads: tuple[tuple[int, int, int], ...] = ()
        self.applied = 10
        self.leaders: dict[int, Peer | None] = {}
        self._regions: dict[int, Region] = {}
        self._observers: list[RegionObserver] = []
        self._write_observers: list[WriteObserver] = []
        self._telling = threading.Lock()
        self.leaving: list[Leaving] = []
        self.add(1, b"", b"")

    def add(self, region_id: int, start: bytes, end: bytes, *, leads: bool = True) -> Region:
        peer = Peer(id=region_id * 10 + self.store_id, store_id=self.store_id)
        region = Region(
            id=region_id, start_key=start, end_key=end, region_epoch=RegionEpoch(conf_ver=1, version=1), peers=[peer]
        )
        self._regions[region_id] = region
        self.leaders[region_id] = peer if leads else None
        for observer in self._observers:
            observer.on_region(region)
        return region

    def context(self, region_id: int = 1) -> Context:
        region = self._regions[region_id]
        return Context(region_id=region_id, region_epoch=region.region_epoch, peer=region.peers[0])

    def set_leader(self, region_id: int, leader: Peer | None) -> None:
        self.leaders[region_id] = leader
        self.terms[region_id] = self.term_of(region_id) + 1
        region = self._regions[region_id]
        ours = leader is not None and leader.store_id == self.store_id
        for observer in self._observers:
            observer.on_role(region, region.peers[0], is_leader=ours, term=self.term_of(region_id))

    def term_of(self, region_id: int) -> int:
        return self.terms.get(region_id, 6)

    # -- the seam

    def _check(self, context: Context) -> Region:
        error = errorpb_pb2.Error()
        region = self._regions.get(context.region_id)
        if region is None:
            error.region_not_found.region_id = context.region_id
            raise RegionError(error)
        if context.peer.store_id != self.store_id:
            error.store_not_match.request_store_id = context.peer.store_id
            raise RegionError(error)
        leader = self.leaders[region.id]
        if not context.replica_read and (leader is None or leader.store_id != self.store_id):
            error.not_leader.region_id = region.id
            if leader is not None:
                error.not_leader.leader.CopyFrom(leader)
            raise RegionError(error)
        if context.region_epoch.version != region.region_epoch.version:
            error.epoch_not_match.current_regions.append(region)
            raise RegionError(error)
        return region

    def try_read(self, context: Context) -> Grant | None:
        region = self._check(context)
        return Grant(region, self.term_of(region.id), self.applied) if self.has_lease else None

    async def read(self, context: Context, deadline: float | None = None) -> Grant:
        self._check(context)
        await asyncio.sleep(0.001)
        region = self._check(context)
        return Grant(region, self.term_of(region.id), self.applied)

    def check_key(self, region: Region, key: bytes) -> None:
        if key < region.start_key or (region.end_key and key >= region.end_key):
            error = errorpb_pb2.Error()
            error.key_not_in_region.key = key
            error.key_not_in_region.region_id = region.id
            raise RegionError(error)

    def note_read(self, region_id: int, read_keys: int, read_bytes: int) -> None:
        self.reads = (*self.reads, (region_id, read_keys, read_bytes))

    async def write(self, context: Context, entries: Sequence[Entry], *, term: int = 0) -> int:
        region = self._check(context)
        if term and term != self.term_of(region.id):
            raise RegionError(errorpb_pb2.Error(stale_command=errorpb_pb2.StaleCommand()))
        if self.write_error is not None:
            raise self.write_error
        await asyncio.sleep(self.write_delay_s)
        record = b"".join(encode_changes(entries))
        batch = self.engine.batch()
        batch.add_record(record)
        with self._telling:
            self.engine.write(batch)
            for told in self._write_observers:
                told.on_written([record])
        self.applied += 1
        for observer in self._observers:
            observer.on_applied(region, sum(len(key) + len(value or b"") for _, key, value in entries))
        return self.applied

    async def delete_range(self, context: Context, cf: str, start: bytes, end: bytes) -> None:
        region = self._check(context)
        await asyncio.sleep(self.write_delay_s)
        for told in self._write_observers:
            told.on_range_changed(region.start_key, region.end_key)
        self.engine.delete_range(cf, start, end)

    async def read_index(self, context: Context) -> int:
        self._check(context)
        return self.applied

    async def split(self, context: Context, keys: Sequence[bytes]) -> list[Region]:
        region = self._check(context)
        for key in keys:
            self.check_key(region, key)
        for call in self.leaving:
            await call(region, self.leaders[region.id])
        bounds = [region.start_key, *keys, region.end_key]
        version = region.region_epoch.version + len(keys)
        made: list[Region] = []
        for at, (start, end) in enumerate(pairwise(bounds)):
            piece = Region()
            piece.CopyFrom(region)
            if at:
                piece.id = max(self._regions) + 1
            piece.start_key, piece.end_key, piece.region_epoch.version = start, end, version
            self._regions[piece.id] = piece
            self.leaders[piece.id] = self.leaders[region.id]
            made.append(piece)
        for piece in made:
            for observer in self._observers:
                observer.on_region(piece)
        return made

    def regions(self) -> list[Region]:
        return sorted(self._regions.values(), key=lambda region: region.start_key)

    def leader_of(self, region_id: int) -> Peer | None:
        return self.leaders.get(region_id)

    def before_leaving(self, call: Leaving) -> None:
        self.leaving.append(call)

    def observe_writes(self, observer: WriteObserver) -> None:
        self._write_observers.append(observer)

    def wait_told(self) -> None:
        with self._telling:
            """Whoever held it has told."""

    def observe(self, observer: RegionObserver) -> None:
        self._observers.append(observer)
