"""The seams of the service: what it asks of the cluster, and what it leaves to others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from kvstore.proto.coprocessor_pb2 import BatchRequest, BatchResponse, Request, Response
from kvstore.proto.metapb_pb2 import Peer, Region, Store
from kvstore.raftstore.api import Grant


class Directory(Protocol):
    """What the service asks of the placement driver. Raises `kvstore.rpc.api.RpcError`, or an error of PD's."""

    async def get_region(self, key: bytes) -> tuple[Region, Peer | None] | None:
        """The region that holds the encoded key, and its leader."""

    async def get_store(self, store_id: int) -> Store: ...
    async def get_ts(self) -> int: ...


class CoprocessorHandler(Protocol):
    """Answers coprocessor requests over the store's data; errors of a request are in its answer."""

    async def handle(self, request: Request, grant: Grant) -> Response: ...
    def stream(self, request: Request, grant: Grant) -> AsyncIterator[Response]: ...
    def batch(self, request: BatchRequest) -> AsyncIterator[BatchResponse]: ...
