"""The storage seam over a cluster: what `kvstore.client.api` asks for, by the client on a loop of its own.

Each call of a thread is one trip to the loop. A timestamp is drawn when a snapshot first reads, in the same trip.
"""

from __future__ import annotations

import asyncio
import random
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from kvstore.client.api import (
    GC_LIFE_MS,
    LOCK_WAIT_MS,
    LOGICAL_BITS,
    TS_MAX,
    CancelToken,
    CommitCheck,
    Ingest,
    LoadReport,
    Parts,
    PushAnswer,
    PushDown,
    PushRequest,
    ReadFrom,
)
from kvstore.client.cluster.bulk import BulkLoad, LoadOptions
from kvstore.client.cluster.cluster import Cluster
from kvstore.client.cluster.columnar import ColumnarPlacement
from kvstore.client.cluster.key_ranges import KeyRange
from kvstore.client.cluster.loop_thread import LoopThread
from kvstore.client.cluster.parts import Options
from kvstore.client.cluster.push import Push, RegionPart
from kvstore.client.cluster.snapshot import FIRST_BATCH, Snapshot
from kvstore.client.cluster.stores import StoreFeatures, features_of
from kvstore.client.cluster.transaction import ClusterTransaction, MergedReader
from kvstore.client.write_buffer import Pair
from kvstore.errors import SnapshotTooOld, WriteConflict
from kvstore.mvcc.batch import PackedBatch
from kvstore.mvcc.chunks import Chunk, pairs_of
from kvstore.rpc.api import Transport

OPTIONS = Options(scan_batch=4096)

_Reading = Snapshot | MergedReader


class ClusterReader(ABC):
    """`api.Reader` at one timestamp, drawn when it is wanted."""

    def __init__(self, loop: LoopThread, ts: int) -> None:
        self._loop = loop
        self._ts = ts
        self.is_over = False
        """Whether nothing will be read any more."""

    @abstractmethod
    async def _reading(self) -> _Reading:
        """What is read, on the loop; the same every time."""

    @property
    def ts(self) -> int:
        if not self._ts:
            self._ts = self._loop.run(self._reading()).ts
        return self._ts

    def get(self, key: bytes) -> bytes | None:
        async def get() -> bytes | None:
            return await (await self._reading()).get(key)

        return self._loop.run(get())

    def batch_get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        wanted = list(keys)
        if not wanted:
            return {}

        async def batch_get() -> dict[bytes, bytes]:
            return await (await self._reading()).batch_get(wanted)

        return self._loop.run(batch_get())

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[Pair]:
        return pairs_of(self.scan_chunks(start, end, reverse=reverse))

    def scan_chunks(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[Chunk]:
        return map(Chunk.of, self._batches(start, end, reverse))

    def scan_packed(self, start: bytes, end: bytes, *, batch_rows: int = 65536) -> Iterator[PackedBatch]:
        from kvstore.mvcc.packed import pack_pairs

        pairs: list[Pair] = []
        for batch in self._batches(start, end, False):
            pairs += batch
            if len(pairs) >= batch_rows:
                yield pack_pairs(pairs, 0)
                pairs = []
        if pairs:
            yield pack_pairs(pairs, 0)

    def _batches(self, start: bytes, end: bytes, reverse: bool) -> Iterator[list[Pair]]:
        if end and start >= end:
            return
        scan: AsyncGenerator[list[Pair], None] | None = None

        async def first() -> list[list[Pair]]:
            """The first batch, and the end of the scan if that comes with it."""
            nonlocal scan
            scan = (await self._reading()).scan_batches(start, end, reverse=reverse)
            batches: list[list[Pair]] = []
            while (batch := await anext(scan, None)) is not None:
                batches.append(batch)
                if len(batches) > 1 or len(batch) >= FIRST_BATCH:
                    return batches
            scan = None
            return batches

        try:
            yield from self._loop.run(first())
            while scan is not None and (batch := self._loop.run(anext(scan, None))) is not None:
                yield batch
        finally:
            if scan is not None:
                self._loop.spawn(_closing(scan))


async def _closing(answers: AsyncGenerator[Any, None]) -> None:
    await answers.aclose()


class SnapshotReader(ClusterReader):
    """A reader of what is committed; `ts` 0 is drawn with the first read."""

    def __init__(self, loop: LoopThread, cluster: Cluster, ts: int, read: ReadFrom, check: CommitCheck | None) -> None:
        super().__init__(loop, ts)
        self._cluster = cluster
        self._read = read
        self._check = check
        self._snapshot = cluster.snapshot(ts, read=read) if ts else None

    async def _reading(self) -> Snapshot:
        if self._snapshot is None:
            ts = await self._cluster.now_ts()
            if self._check is not None:
                self._check(ts)
            if self._snapshot is None:  # by another thread's read
                self._snapshot = self._cluster.snapshot(ts, read=self._read)
                self._ts = ts
        return self._snapshot


class CurrentReader(ClusterReader):
    """A transaction's reader at another timestamp, its own writes over it."""

    def __init__(self, loop: LoopThread, txn: ClusterTransaction, ts: int) -> None:
        super().__init__(loop, ts)
        self._txn = txn

    async def _reading(self) -> MergedReader:
        return self._txn.at(self._ts)


class StorageTransaction(ClusterReader):
    """`api.Transaction` over a transaction of the client. Dropped without an end, its locks are released."""

    def __init__(self, loop: LoopThread, txn: ClusterTransaction) -> None:
        super().__init__(loop, txn.start_ts)
        self._txn = txn
        self.lock_wait_ms = LOCK_WAIT_MS

    @property
    def pessimistic(self) -> bool:
        return self._txn.pessimistic

    @pessimistic.setter
    def pessimistic(self, value: bool) -> None:
        self._txn.pessimistic = value

    @property
    def cancel(self) -> CancelToken | None:
        return self._txn.cancel

    @cancel.setter
    def cancel(self, value: CancelToken | None) -> None:
        self._txn.cancel = value

    @property
    def start_ts(self) -> int:
        return self._ts

    @property
    def commit_ts(self) -> int:
        """0 until it is committed."""
        return self._txn.commit_ts

    @property
    def is_dirty(self) -> bool:
        return self._txn.is_dirty

    def get(self, key: bytes) -> bytes | None:
        buffered = self._txn.buffered(key)
        return super().get(key) if buffered is None else buffered[0]

    async def _reading(self) -> MergedReader:
        return self._txn

    def at(self, ts: int) -> ClusterReader:
        return CurrentReader(self._loop, self._txn, ts)

    def put(self, key: bytes, value: bytes) -> None:
        self._txn.put(key, value)

    def patch(self, key: bytes, value: bytes, parts: Parts) -> None:
        """A put: those who observe commits of a cluster see the log, which does not say more."""
        self._txn.put(key, value)

    def insert(self, key: bytes, value: bytes) -> None:
        self._txn.insert(key, value)

    def delete(self, key: bytes) -> None:
        self._txn.delete(key)

    def dirty(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes | None]]:
        return self._txn.dirty(start, end)

    def has_dirty(self, start: bytes, end: bytes) -> bool:
        return self._txn.has_dirty(start, end)

    def before(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        wanted = list(keys)
        return self._loop.run(self._txn.before(wanted)) if wanted else {}

    def shade(self, prefix: bytes, shades: Mapping[bytes, bytes | None]) -> None:
        self._txn.shade(prefix, shades)

    def is_shaded(self, prefix: bytes) -> bool:
        return self._txn.is_shaded(prefix)

    def lock_keys(
        self, keys: Sequence[bytes], *, for_update_ts: int, wait_ms: int, skip_locked: bool = False
    ) -> list[bytes]:
        txn = self._txn
        if txn.lock_at_hand(keys):
            return list(keys)
        work = txn.lock_keys(keys, for_update_ts=for_update_ts, wait_ms=wait_ms, skip_locked=skip_locked)
        return self._loop.run(work, self.cancel)

    def lock_and_get(self, keys: Sequence[bytes], *, for_update_ts: int = 0, wait_ms: int) -> dict[bytes, bytes]:
        work = self._txn.lock_and_get(keys, for_update_ts=for_update_ts, wait_ms=wait_ms)
        return self._loop.run(work, self.cancel)

    def witness(self, keys: Iterable[bytes]) -> None:
        self._txn.witness(list(keys))

    def mark(self) -> int:
        return self._txn.mark()

    def undo_to(self, mark: int) -> None:
        self._txn.undo_to(mark)

    def commit(self, check: CommitCheck | None = None) -> int:
        self.is_over = True
        txn = self._txn
        txn.lock_wait_ms = self.lock_wait_ms
        return self._loop.run(txn.commit(check), to_its_end=True)

    def rollback(self) -> None:
        if not self.is_over:
            self.is_over = True
            if not self._txn.end_at_hand():
                self._loop.run(self._txn.rollback(), to_its_end=True)

    def __del__(self) -> None:
        if not self.is_over and not self._txn.end_at_hand():
            self._loop.spawn(self._txn.rollback())


class _PushDown:
    """`api.PushDown` for threads."""

    few_rows = FIRST_BATCH  # one answer of a scan

    def __init__(self, loop: LoopThread, push: Push) -> None:
        self._loop = loop
        self._push = push

    @property
    def arrow(self) -> bool:
        known = self._push.arrow_at_hand(self._loop.time())
        return self._loop.run(self._push.arrow()) if known is None else known

    def by_region(self, ranges: Sequence[KeyRange]) -> list[RegionPart]:
        return self._loop.run(self._push.by_region(ranges))

    def run_whole(self, request: PushRequest, cancel: CancelToken | None = None) -> Sequence[PushAnswer] | None:
        return self._loop.run(self._push.whole(request), cancel)

    def run(self, request: PushRequest, cancel: CancelToken | None = None) -> Iterator[PushAnswer]:
        answers = self._push.run(request)
        try:
            while (answer := self._loop.run(anext(answers, None), cancel)) is not None:
                yield answer
        finally:
            self._loop.spawn(_closing(answers))


class StorageLoad:
    """`api.Ingest` over a bulk load of the client."""

    def __init__(self, loop: LoopThread, load: BulkLoad, cancel: CancelToken | None, *, is_past: bool) -> None:
        self._loop = loop
        self._load = load
        self._cancel = cancel
        self._is_past = is_past

    @property
    def commit_ts(self) -> int:
        return self._load.commit_ts

    def add_run(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        self._load.add_run(keys, values)

    def finish(self, *, check_duplicates: bool = True) -> LoadReport:
        check_empty = check_duplicates and not self._is_past
        return self._loop.run(self._load.finish(check_empty=check_empty), self._cancel)

    def abort(self) -> None:
        self._load.abort()


class ClusterStorage:
    """`api.Storage` over a cluster. Any thread may use it; it ends with `close`."""

    def __init__(self, loop: LoopThread, cluster: Cluster, leave: Callable[[], Awaitable[None]]) -> None:
        """`cluster` lives on `loop`; both end with `close`, which calls `leave` in between."""
        self.cluster = cluster
        self.gc_life_ms = GC_LIFE_MS
        self.load_options = LoadOptions()
        self._loop = loop
        self._leave_transport = leave
        self._push_down = _PushDown(loop, Push(cluster.parts))
        self._readers: weakref.WeakSet[ClusterReader] = weakref.WeakSet()

    @classmethod
    def connect(
        cls, addresses: Sequence[str], transport: Callable[[], Transport], *, options: Options = OPTIONS
    ) -> ClusterStorage:
        """Connects to the placement drivers at `addresses`; `transport()` is called on the loop of the client.

        Raises PdUnavailable, ClusterMismatch.
        """
        loop = LoopThread("sqlfront-cluster")

        async def connect() -> ClusterStorage:
            made = transport()
            try:
                rng = random.Random()
                cluster = await Cluster.connect(addresses, transport=made, rng=rng, options=options)
            except BaseException:
                await made.close()
                raise
            return cls(loop, cluster, made.close)

        try:
            return loop.run(connect())
        except BaseException:
            loop.close(_nothing())
            raise

    def run(self, work: Awaitable[Any], cancel: CancelToken | None = None) -> Any:
        """Runs a coroutine over `cluster` on its loop and returns its result."""
        return self._loop.run(work, cancel)

    @property
    def push_down(self) -> PushDown | None:
        return self._push_down

    def by_region(self, ranges: Sequence[KeyRange]) -> list[RegionPart]:
        """Cuts ascending, disjoint ranges at the bounds of regions, in key order."""
        return self._push_down.by_region(ranges)

    def features(self) -> StoreFeatures:
        """What the cluster's stores can be asked for. Raises PdUnavailable, PdError."""

        async def features() -> StoreFeatures:
            return features_of(await self.cluster.pd.get_all_stores())

        return self._loop.run(features())

    def oldest_ts(self) -> int:
        """The oldest timestamp that is read at, 0 if none is: garbage collection has to stay below it."""
        while True:
            try:
                return min((reader._ts for reader in self._readers if reader._ts and not reader.is_over), default=0)
            except RuntimeError:
                continue  # another thread began to read

    def now_ts(self) -> int:
        return self._loop.run(self.cluster.now_ts())

    def begin(self, *, pessimistic: bool = True, start_ts: int | None = None) -> StorageTransaction:
        txn = self._loop.run(self.cluster.begin(pessimistic=pessimistic, start_ts=start_ts))
        made = StorageTransaction(self._loop, txn)
        self._readers.add(made)
        return made

    def snapshot(
        self, ts: int | None = None, *, read: ReadFrom = ReadFrom.LEADER, check: CommitCheck | None = None
    ) -> ClusterReader:
        """`check` is told the timestamp when it is drawn; what it raises comes out of the call that reads."""
        reader = SnapshotReader(self._loop, self.cluster, ts or 0, read, check)
        self._readers.add(reader)
        return reader

    def get_latest(self, key: bytes, *, read: ReadFrom = ReadFrom.LEADER) -> bytes | None:
        return self._loop.run(self.cluster.snapshot(TS_MAX, read=read).get(key))

    def write(
        self,
        writes: dict[bytes, bytes | None],
        inserts: Collection[bytes],
        *,
        wait_ms: int,
        cancel: CancelToken | None = None,
        check: CommitCheck | None = None,
    ) -> int:
        async def write() -> int:
            clock = asyncio.get_running_loop().time
            deadline = clock() + wait_ms / 1000
            while True:
                txn = await self.cluster.begin(pessimistic=False)
                txn.cancel = cancel
                txn.lock_wait_ms = max(int((deadline - clock()) * 1000), 0)
                for key, value in writes.items():
                    if value is None:
                        txn.delete(key)
                    elif key in inserts:
                        txn.insert(key, value)
                    else:
                        txn.put(key, value)
                try:
                    return await txn.commit(check)
                except WriteConflict:
                    # somebody committed since the timestamp was drawn; nothing was read that could be old by now
                    if clock() >= deadline:
                        raise

        return self._loop.run(write(), to_its_end=True)

    @property
    def safe_point(self) -> int:
        return int(self._loop.run(self.cluster.pd.gc_safe_point()))

    def load(
        self,
        start: bytes,
        end: bytes,
        *,
        commit_ts: int = 0,
        cancel: CancelToken | None = None,
        directory: str | None = None,
    ) -> Ingest:
        options = self.load_options
        load = self._loop.run(
            self.cluster.bulk_load(start, end, commit_ts=commit_ts, directory=directory, options=options)
        )
        return StorageLoad(self._loop, load, cancel, is_past=bool(commit_ts))

    def keep_versions(self, service: str, ts: int, ttl_s: int) -> None:
        """Keeps what a reader at `ts` sees for so long; 0 seconds lets it go. Raises SnapshotTooOld."""
        least = self._loop.run(self.cluster.pd.update_service_safe_point(service, ttl_s, ts))
        if ttl_s and least > ts:
            raise SnapshotTooOld(ts, least)

    def destroy_range(self, start: bytes, end: bytes) -> None:
        self._loop.run(self.cluster.destroy_range(start, end))

    def gc(self, safe_point: int | None = None) -> dict[str, int]:
        """Settles old locks and moves the safe point; stores remove the versions below it in their own time."""
        if safe_point is None:
            now = self.now_ts()
            safe_point = max((now >> LOGICAL_BITS) - self.gc_life_ms, 0) << LOGICAL_BITS
        return {"safe_point": self._loop.run(self.cluster.gc(safe_point))}

    def columnar_servers(self) -> int:
        """How many stores take columnar replicas. Raises NoColumnarRules."""
        return self._loop.run(ColumnarPlacement(self.cluster.pd).server_count())

    def columnar_placed(self) -> dict[int, int]:
        """How many columnar replicas the placement driver was told to keep, by table id."""
        return self._loop.run(ColumnarPlacement(self.cluster.pd).placed())

    def place_columnar(self, wanted: Mapping[int, tuple[bytes, bytes, int]]) -> None:
        """Tells the placement driver of columnar replicas: by table id the range of its records, and how many."""
        self._loop.run(ColumnarPlacement(self.cluster.pd).place(wanted))

    def columnar_progress(self, start: bytes, end: bytes, count: int) -> float:
        """The share of a range's regions that have their columnar replicas."""
        return self._loop.run(ColumnarPlacement(self.cluster.pd).progress(start, end, count))

    def stats(self) -> dict[str, Any]:
        async def stats() -> dict[str, Any]:
            stores = await self.cluster.pd.get_all_stores()
            return {"cluster_id": self.cluster.pd.cluster_id, "stores": len(stores), "pd": self.cluster.pd.leader}

        found: dict[str, Any] = self._loop.run(stats())
        return found

    def close(self) -> None:
        self._loop.close(self._leave())

    async def _leave(self) -> None:
        try:
            await self.cluster.close()
        finally:
            await self._leave_transport()


async def _nothing() -> None:
    pass
