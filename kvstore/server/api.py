"""The seams of the service: what it asks of the cluster, and what it leaves to others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from kvstore.proto.coprocessor_pb2 import BatchRequest, BatchResponse, Request, Response
from kvstore.proto.metapb_pb2 import Peer, Region, Store
from kvstore.raftstore.api import RegionStore
from kvstore.server.region_reader import RegionReader


class Directory(Protocol):
    """What the service asks of the placement driver. Raises `kvstore.rpc.api.RpcError`, or an error of PD's."""

    async def get_region(self, key: bytes) -> tuple[Region, Peer | None] | None:
        """The region that holds the encoded key, and its leader."""

    async def get_store(self, store_id: int) -> Store: ...
    async def get_ts(self) -> int: ...


class CoprocessorHandler(Protocol):
    """Evaluates coprocessor requests of stores' regions."""

    def begin(self, store: RegionStore) -> CoprocessorOfStore:
        """What answers the requests to a store; it follows the store's writes from now on."""


class CoprocessorOfStore(Protocol):
    """Evaluates coprocessor requests over a region's data; errors of a request are in its answer."""

    async def handle(self, request: Request, reader: RegionReader, data_version: int) -> Response:
        """Answers a request whose ranges are in the region.

        `data_version` is a number of the region's data, greater after every write; `reader.check` says when it is not
        worth going on. Raises RegionError (busy), and what the reader does.
        """


class ReplicaHandler(Protocol):
    """A columnar replica of what a store holds: answers one request over many of its regions at once."""

    def begin(self, store: RegionStore) -> None:
        """Follows the writes of the store from now on; called once, before it serves."""

    async def handle_batch(
        self,
        request: BatchRequest,
        ranges: Sequence[tuple[bytes, bytes]],
        reader_at: Callable[[int], RegionReader],
    ) -> list[BatchResponse]:
        """Answers a request over ascending ranges that this store may read at the request's timestamp.

        `reader_at(ts)` reads the rows at a timestamp; its `check` says when it is not worth going on. What the replica
        does not answer is an `other_error`: the rows are to be read. Raises MetLock, RegionError (busy), and what the
        reader does.
        """
