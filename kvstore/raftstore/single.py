"""A region store without Raft: one region over all keys, written straight to the engine.

For tests of the service above, and for a directory that is used by one process. It checks requests as the real one
does, and its writes are applied one after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from kvstore.engine.api import Engine
from kvstore.engine.batch import encode_changes
from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.proto.metapb_pb2 import Peer, Region
from kvstore.raftstore import checks
from kvstore.raftstore.api import Entry, Grant, Leaving, RegionObserver, WriteObserver
from kvstore.raftstore.bootstrap import first_region
from kvstore.raftstore.config import ENTRY_BYTES_MAX
from kvstore.raftstore.rounds import Syncer

TERM = 1


class SingleRegionStore:
    """See `api.RegionStore`. The one peer always leads, in term 1."""

    def __init__(
        self, engine: Engine, syncer: Syncer, *, store_id: int = 1, region_id: int = 2, peer_id: int = 3
    ) -> None:
        self._engine = engine
        self._syncer = syncer
        self._store_id = store_id
        self._region = first_region(region_id, peer_id, store_id)
        self._observers: list[RegionObserver] = []
        self._write_observers: list[WriteObserver] = []
        self._telling = threading.Lock()
        self._applied = 0

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def store_id(self) -> int:
        return self._store_id

    def context(self) -> Context:
        """A context that fits."""
        return Context(region_id=self._region.id, region_epoch=self._region.region_epoch, peer=self._region.peers[0])

    def _check(self, context: Context) -> None:
        if context.peer.store_id != self._store_id:
            raise checks.store_not_match(context.peer.store_id, self._store_id)
        if context.region_id != self._region.id:
            raise checks.region_not_found(context.region_id)
        if context.peer.id != self._region.peers[0].id:
            raise checks.mismatch_peer_id(context.peer.id, self._region.peers[0].id)
        if context.region_epoch.version != self._region.region_epoch.version:
            raise checks.epoch_not_match("of the only region", [self._region])

    def try_read(self, context: Context) -> Grant | None:
        self._check(context)
        return Grant(self._region, TERM, self._applied)

    async def read(self, context: Context, deadline: float | None = None) -> Grant:
        self._check(context)
        return Grant(self._region, TERM, self._applied)

    def check_key(self, region: Region, key: bytes) -> None:
        checks.check_key(region, key)

    def note_read(self, region_id: int, read_keys: int, read_bytes: int) -> None:
        """Nobody asks."""

    async def write(self, context: Context, entries: Sequence[Entry], *, term: int = 0) -> int:
        self._check(context)
        if term not in (0, TERM):
            raise checks.stale_command()
        record = b"".join(encode_changes(entries))
        if len(record) > ENTRY_BYTES_MAX:
            raise checks.raft_entry_too_large(self._region.id, len(record))
        batch = self._engine.batch()
        batch.add_record(record)
        with self._telling:
            self._engine.write(batch)
            for written in self._write_observers:
                written.on_written([record])
        self._applied += 1
        applied = self._applied
        for observer in self._observers:
            observer.on_applied(self._region, len(record))
        await self._syncer.sync()
        return applied

    async def delete_range(self, context: Context, cf: str, start: bytes, end: bytes) -> None:
        self._check(context)
        self._engine.delete_range(cf, start, end)
        for observer in self._write_observers:
            observer.on_range_changed(self._region.start_key, self._region.end_key)
        await self._syncer.sync()

    async def read_index(self, context: Context) -> int:
        self._check(context)
        return self._applied

    async def split(self, context: Context, keys: Sequence[bytes]) -> list[Region]:
        self._check(context)
        raise checks.refused("the only region is not split")

    def regions(self) -> list[Region]:
        return [self._region]

    def leader_of(self, region_id: int) -> Peer | None:
        return self._region.peers[0] if region_id == self._region.id else None

    def observe(self, observer: RegionObserver) -> None:
        self._observers.append(observer)
        observer.on_region(self._region)
        observer.on_role(self._region, self._region.peers[0], is_leader=True, term=TERM)

    def observe_writes(self, observer: WriteObserver) -> None:
        self._write_observers.append(observer)

    def wait_told(self) -> None:
        with self._telling:
            """Whoever held it has told."""

    def before_leaving(self, call: Leaving) -> None:
        """The region stays as it is."""
