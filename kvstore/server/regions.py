"""The bounds of the store's regions, so that a blind write need not ask for leave to read to know them."""

from __future__ import annotations

from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.proto.metapb_pb2 import Peer, Region
from kvstore.raftstore.api import RegionStore
from kvstore.server.errors import key_not_in_region


class Regions:
    """An observer that keeps (version, start, end) by region id."""

    def __init__(self, store: RegionStore) -> None:
        self._bounds: dict[int, tuple[int, bytes, bytes]] = {}
        for region in store.regions():
            self.on_region(region)
        store.observe(self)

    def check(self, context: Context, key: bytes) -> None:
        """Raises RegionError for an encoded key outside the region, if the context's epoch is the one known here.

        Where it is not, the region store refuses the request.
        """
        region_id = context.region_id
        known = self._bounds.get(region_id)
        if known is None or known[0] != context.region_epoch.version:
            return
        _, start, end = known
        if key < start or (end and key >= end):
            raise key_not_in_region(key, region_id, start, end)

    def on_role(self, region: Region, peer: Peer, *, is_leader: bool, term: int) -> None:
        """The bounds stay."""

    def on_region(self, region: Region) -> None:
        self._bounds[region.id] = (region.region_epoch.version, region.start_key, region.end_key)

    def on_destroyed(self, region: Region) -> None:
        self._bounds.pop(region.id, None)

    def on_replaced(self, region: Region) -> None:
        """The bounds stay, or are told next."""

    def on_applied(self, region: Region, entries_bytes: int) -> None:
        """The bounds stay."""
