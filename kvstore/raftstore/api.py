"""The seams of the region store: what the service above asks of it, and what it asks of the placement driver."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from kvstore.engine.api import Engine
from kvstore.errors import KvError
from kvstore.proto.errorpb_pb2 import Error
from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.proto.metapb_pb2 import Peer, Region, Store
from kvstore.proto.pdpb_pb2 import (
    RegionHeartbeatRequest,
    RegionHeartbeatResponse,
    SplitID,
    StoreHeartbeatResponse,
    StoreStats,
)
from kvstore.rpc.api import RpcError

Entry = tuple[str, bytes, bytes | None]
"""One change: column family, key as it is stored (with `z`), value; None deletes (`kvstore.txn.Changes.entries`)."""


class RegionError(Exception):
    """The region cannot answer here and now; `error` goes to the client as it is.

    Nothing was applied, unless `error.undetermined_result` is set: then nobody here knows.
    """

    def __init__(self, error: Error) -> None:
        self.error = error
        super().__init__(error.message)

    @property
    def undetermined(self) -> bool:
        return self.error.HasField("undetermined_result")


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to read: the region as it is now, and the leader's term that a later write is bound to."""

    region: Region
    term: int
    applied_index: int


class RegionObserver(Protocol):
    """Told on the store's loop, in order; must be quick and must not raise."""

    def on_role(self, region: Region, peer: Peer, *, is_leader: bool, term: int) -> None:
        """This store's peer became leader (before it serves), or ceased to be."""

    def on_region(self, region: Region) -> None:
        """The region's bounds, epoch or peers changed, or it appeared."""

    def on_destroyed(self, region: Region) -> None:
        """The region's peer here goes, and its data with it unless another region has taken it over."""

    def on_replaced(self, region: Region) -> None:
        """A snapshot takes the place of the data in the region's bounds, and of what the region had before."""

    def on_applied(self, region: Region, entries_bytes: int) -> None:
        """A batch of writes was applied."""


class WriteObserver(Protocol):
    """Told on the store's loop of what changes in the data, whichever region it is in; must be quick and not raise."""

    def on_written(self, records: Sequence[bytes]) -> None:
        """Records of changes (kvstore/engine/batch.py) are in the engine now, in this order; nobody was told yet."""

    def on_range_changed(self, start: bytes, end: bytes) -> None:
        """What is stored in a range of encoded keys (an empty end: no bound) changes otherwise, now or with the next
        write: it goes, is ingested, or a snapshot takes its place. Until that is done no read in it is granted."""


Leaving = Callable[[Region, Peer], Awaitable[None]]
"""Told of a region and of its peer here."""


class RegionStore(Protocol):
    """Regions of one store. Every method checks store id, region, peer, leader, term and epoch of the context first."""

    @property
    def engine(self) -> Engine: ...

    @property
    def store_id(self) -> int: ...

    def try_read(self, context: Context) -> Grant | None:
        """Leave to read at once (a leader in its lease), or None: then `read` has to be awaited. Raises RegionError."""

    async def read(self, context: Context, deadline: float | None = None) -> Grant:
        """Leave to read, by the lease or ReadIndex; with `context.replica_read` also on a follower. Raises RegionError.

        `deadline` is in the loop's time. The caller reads the engine synchronously, up to its next await.
        """

    def check_key(self, region: Region, key: bytes) -> None:
        """Raises RegionError (key_not_in_region) for an encoded key outside the region's bounds."""

    def note_read(self, region_id: int, read_keys: int, read_bytes: int) -> None:
        """Counts what a request has read, for the hot-region scheduler."""

    async def write(self, context: Context, entries: Sequence[Entry], *, term: int = 0) -> int:
        """Replicates and applies; returns the applied index. With `term`, only while the leader's term is that one.

        Raises RegionError.
        """

    async def delete_range(self, context: Context, cf: str, start: bytes, end: bytes) -> None:
        """Deletes the stored keys in [start, end) of one family through the log. Raises RegionError."""

    async def read_index(self, context: Context) -> int:
        """The index up to which a replica must have applied to serve a linearizable read now."""

    async def split(self, context: Context, keys: Sequence[bytes]) -> list[Region]:
        """Splits the region at the encoded keys; returns the regions in key order. Raises RegionError."""

    def regions(self) -> list[Region]:
        """All regions with a peer here, in key order."""

    def leader_of(self, region_id: int) -> Peer | None: ...

    def observe(self, observer: RegionObserver) -> None:
        """Tells the observer of everything from now on, and first of what there is."""

    def observe_writes(self, observer: WriteObserver) -> None:
        """Tells the observer of everything that is written from now on."""

    def wait_told(self) -> None:
        """Returns when the observers of writes were told of all that the caller may have seen. On any thread."""

    def before_leaving(self, call: Leaving) -> None:
        """Awaits `call` before a region led here is split, merged into another, or handed over on an order.

        It must not raise; it has its own limit of time.
        """


PLACEMENT_ERRORS = (RpcError, KvError)
"""What a call of the placement driver may raise: it cannot be reached, or it refuses (`kvstore.errors.PdError`)."""


class Placement(Protocol):
    """What a store asks of the placement driver. Raises PLACEMENT_ERRORS."""

    async def is_bootstrapped(self) -> bool: ...
    async def bootstrap(self, store: Store, region: Region) -> None: ...
    async def alloc_id(self) -> int: ...
    async def put_store(self, store: Store) -> None: ...
    async def get_store(self, store_id: int) -> Store: ...
    async def store_heartbeat(self, stats: StoreStats) -> StoreHeartbeatResponse: ...

    def region_heartbeat(self, request: RegionHeartbeatRequest) -> None:
        """Queues a heartbeat on the stream; the newest of a region wins when the stream is slow."""

    async def next_order(self) -> RegionHeartbeatResponse:
        """The placement driver's next order to a region led here."""

    async def ask_batch_split(self, region: Region, count: int) -> Sequence[SplitID]: ...
    async def report_batch_split(self, regions: Sequence[Region]) -> None: ...
    async def get_region_by_id(self, region_id: int) -> tuple[Region, Peer | None] | None: ...

    async def get_region(self, key: bytes) -> tuple[Region, Peer | None] | None:
        """The region that holds an encoded key."""

    async def get_ts(self) -> int: ...
    async def gc_safe_point(self) -> int: ...
