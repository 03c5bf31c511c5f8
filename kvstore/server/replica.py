"""Reads at a follower: the leader has to know of them first.

An async commit at the leader chooses its timestamp above the reads it knows. So before a follower reads at a timestamp,
the leader is told (`ReadIndex` with the timestamp and the ranges); a lock in flight there comes back. That the
follower has applied enough is the region store's own ReadIndex.
"""

from __future__ import annotations

from kvstore.errors import PdError
from kvstore.failpoint import fail_point_async
from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.proto import tikvpb_pb2
from kvstore.raftstore.api import RegionError, RegionStore
from kvstore.rpc.api import RpcError, Transport, methods_of
from kvstore.server.api import Directory
from kvstore.server.errors import LockedAtLeader, not_leader

ANNOUNCE_TIMEOUT_S = 5.0
_READ_INDEX = methods_of(tikvpb_pb2.DESCRIPTOR, "Tikv")["ReadIndex"]


class ReplicaReads:
    """Announces reads to leaders on other stores."""

    def __init__(self, store: RegionStore, transport: Transport | None, directory: Directory | None) -> None:
        self._store = store
        self._transport = transport
        self._directory = directory
        self._addresses: dict[int, str] = {}

    async def announce(self, context: pb.Context, ts: int, ranges: list[tuple[bytes, bytes]]) -> None:
        """Returns when the leader knows of the read. Raises RegionError, LockedAtLeader."""
        leader = self._store.leader_of(context.region_id)
        if leader is not None and leader.store_id == self._store.store_id:
            return
        if leader is None or self._transport is None or self._directory is None:
            raise not_leader(context.region_id, leader)
        await fail_point_async("replica_read::before_announce")
        request = pb.ReadIndexRequest(
            context=pb.Context(region_id=context.region_id, region_epoch=context.region_epoch, peer=leader),
            start_ts=ts,
            ranges=[pb.KeyRange(start_key=low, end_key=high) for low, high in ranges],
        )
        try:
            address = await self._address(leader.store_id)
            channel = self._transport.channel(address)
            answer: pb.ReadIndexResponse = await channel.unary(_READ_INDEX, request, ANNOUNCE_TIMEOUT_S)
        except (RpcError, PdError):
            self._addresses.pop(leader.store_id, None)
            raise not_leader(context.region_id, None) from None
        if answer.HasField("region_error"):
            raise RegionError(answer.region_error)
        if answer.HasField("locked"):
            raise LockedAtLeader(answer.locked)

    async def _address(self, store_id: int) -> str:
        address = self._addresses.get(store_id)
        if address is None:
            assert self._directory is not None
            address = self._addresses[store_id] = (await self._directory.get_store(store_id)).address
        return address
