"""Looks at the stores of a cluster and tells the invariants what each holds: regions, logs, leaders, data."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable

from kvstore.engine.api import CF_DEFAULT, CF_LOCK, CF_WRITE
from kvstore.proto.metapb_pb2 import Region
from kvstore.raft.types import Role
from kvstore.raftstore.peer import Peer
from kvstore.raftstore.store import RaftStore
from tests.sim.invariants import Broken, Invariants, RegionView

DIGEST_EVERY = 5
"""Replicas are compared at every so many looks; a digest reads the whole region."""


class Observer:
    """What was seen so far. Stores go by the name of their machine."""

    def __init__(self, invariants: Invariants, names: Iterable[str]) -> None:
        self._invariants = invariants
        self._seen_commit: dict[tuple[str, int], int] = {}
        self._views: dict[str, dict[int, RegionView]] = {name: {} for name in names}
        self._led: set[tuple[int, int]] = set()
        self._looks = 0
        self._digests: dict[tuple[int, int], tuple[str, str]] = {}

    def forget(self, name: str) -> None:
        """A store's new life: what it had applied and not synced may be gone, and comes again from its log."""
        self._gone(name, self._views[name])
        self._views[name] = {}

    def look(self, stores: Iterable[tuple[str, RaftStore]]) -> None:
        """Raises Broken."""
        self._looks += 1
        for name, store in stores:
            views: dict[int, RegionView] = {}
            for region_id, peer in store.peers.items():
                if not peer.storage.initialized or peer.destroyed:
                    continue
                view = views[region_id] = _view(name, peer.region)
                if self._views[name].get(region_id) != view:
                    self._invariants.region(view)
                self._look_at_raft(name, peer)
                if self._looks % DIGEST_EVERY == 0:
                    self._look_at_data(name, store, peer)
            self._gone(name, self._views[name].keys() - views.keys())
            self._views[name] = views

    def _gone(self, name: str, region_ids: Iterable[int]) -> None:
        for region_id in region_ids:
            self._invariants.destroyed(name, region_id)
            self._seen_commit.pop((name, region_id), None)

    def tiles(self, *, at_rest: bool) -> None:
        """The newest views, also of stores that are down, leave no hole, nor overlap `at_rest`. Raises Broken."""
        views = [view for views in self._views.values() for view in views.values()]
        if views:
            self._invariants.tiles(views, at_rest=at_rest)

    def _look_at_raft(self, name: str, peer: Peer) -> None:
        raft, invariants = peer.raft, self._invariants
        term = (peer.region_id, raft.term)
        if raft.role is Role.LEADER:
            invariants.leader(peer.region_id, raft.term, peer.peer.id)
            if term not in self._led:
                self._led.add(term)
                invariants.leader_log(peer.region_id, raft.term, peer.peer.id, raft.last_index)
        seen = (name, peer.region_id)
        first = max(self._seen_commit.get(seen, 0) + 1, peer.storage.first_index())
        if raft.applied >= first:
            for entry in peer.storage.entries(first, raft.applied + 1, None):
                digest = hashlib.blake2b(entry.data, digest_size=8).digest()
                invariants.committed(name, peer.region_id, entry.index, entry.term, digest)
            self._seen_commit[seen] = raft.applied

    def _look_at_data(self, name: str, store: RaftStore, peer: Peer) -> None:
        """What a region holds follows from how much of its log is applied, whoever applied it."""
        if peer.applying is not None:
            return
        digest = digest_of(store, peer.region)
        other, theirs = self._digests.setdefault((peer.region_id, peer.storage.applied), (name, digest))
        if theirs != digest:
            raise Broken(
                f"region {peer.region_id} with {peer.storage.applied} applied: {name} holds {digest}, {other} {theirs}"
            )


def _view(name: str, region: Region) -> RegionView:
    epoch = region.region_epoch
    return RegionView(name, region.id, region.start_key, region.end_key, epoch.version, epoch.conf_ver)


def digest_of(store: RaftStore, region: Region) -> str:
    """Of every record in the region's range."""
    digest = hashlib.blake2b(digest_size=8)
    start, end = b"z" + region.start_key, b"z" + region.end_key if region.end_key else b"{"
    for cf in (CF_DEFAULT, CF_LOCK, CF_WRITE):
        scanner = store.engine.scanner(cf, start, end)
        try:
            while flat := scanner.take(1024):
                digest.update(array("Q", map(len, flat)).tobytes())
                digest.update(b"".join(flat))
        finally:
            scanner.release()
    return digest.hexdigest()
