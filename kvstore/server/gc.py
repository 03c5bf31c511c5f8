"""Collecting garbage below the placement driver's safe point, in the regions led here.

The records go through the log, in batches, so that all replicas stay alike. TiKV asks its placement driver for the safe
point every ten seconds, too; who moves it (the SQL layer, or a client's `gc()`) has resolved the locks below first.
"""

from __future__ import annotations

import asyncio
import logging

from kvstore.errors import PdError, StoreError, TxnError
from kvstore.failpoint import fail_point_async
from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.raftstore.api import Placement, RegionError, RegionStore
from kvstore.rpc.api import RpcError
from kvstore.server.admin import Admin

POLL_S = 10.0
_log = logging.getLogger(__name__)


class GcWorker:
    """Runs until it is cancelled."""

    def __init__(self, store: RegionStore, placement: Placement, admin: Admin, poll_s: float = POLL_S) -> None:
        self._store = store
        self._placement = placement
        self._admin = admin
        self._poll_s = poll_s
        self._done: dict[int, tuple[int, int]] = {}
        """The safe point up to which a region was collected here, and the version it had then."""

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                safe_point = await self._placement.gc_safe_point()
            except (RpcError, PdError) as error:
                _log.debug("no safe point: %s", error)
                continue
            if safe_point:
                await self.collect(safe_point)

    async def collect(self, safe_point: int) -> int:
        """Collects every region led here that was not yet; returns how many records went."""
        removed = 0
        regions = self._store.regions()
        for region in regions:
            leader = self._store.leader_of(region.id)
            due = (safe_point, region.region_epoch.version)
            if leader is None or leader.store_id != self._store.store_id or self._done.get(region.id) == due:
                continue
            context = Context(region_id=region.id, region_epoch=region.region_epoch, peer=leader)
            await fail_point_async("gc::before_region")
            try:
                removed += await self._admin.collect(context, safe_point)
                self._done[region.id] = due
            except (RegionError, TxnError) as error:
                _log.debug("garbage of region %d: %s", region.id, error)
            except StoreError as error:
                _log.warning("garbage of region %d: %s", region.id, error)
        here = {region.id for region in regions}
        self._done = {region_id: due for region_id, due in self._done.items() if region_id in here}
        return removed
