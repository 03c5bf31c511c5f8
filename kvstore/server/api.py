"""The seams of the service: what it asks of the cluster, and what it leaves to others."""

from __future__ import annotations

from typing import Protocol

from kvstore.proto.coprocessor_pb2 import Request, Response
from kvstore.proto.metapb_pb2 import Peer, Region, Store
from kvstore.server.region_reader import RegionReader


class Directory(Protocol):
    """What the service asks of the placement driver. Raises `kvstore.rpc.api.RpcError`, or an error of PD's."""

    async def get_region(self, key: bytes) -> tuple[Region, Peer | None] | None:
        """The region that holds the encoded key, and its leader."""

    async def get_store(self, store_id: int) -> Store: ...
    async def get_ts(self) -> int: ...


class CoprocessorHandler(Protocol):
    """Evaluates coprocessor requests over a region's data; errors of a request are in its answer."""

    async def handle(self, request: Request, reader: RegionReader, data_version: int) -> Response:
        """Answers a request whose ranges are in the region.

        `data_version` is a number of the region's data, greater after every write; `reader.check` says when it is not
        worth going on. Raises RegionError (busy), and what the reader does.
        """
