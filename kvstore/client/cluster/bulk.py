"""Bulk load into a cluster: sorted runs become files of finished records on the stores, and those part of the regions.

    add_run  gathered in memory, spilled to a directory, no store knows of it
    finish   runs merged: a key that is there twice ends the load here ── range empty? ── regions split and scattered
             ── region by region, several at a time: rows to every peer, then ingested (see `region_load`)

All rows are versions of one commit_ts, and become visible region by region: a reader at or above commit_ts sees those
that are in. **The caller makes sure that nobody reads there at or above commit_ts, and nobody writes there, from when
commit_ts was drawn until `finish` has returned**, as by a table that is not public yet. Nothing is locked or checked on
the way: a transaction that is under way in the range would not notice, nor be noticed.

A load that fails, or is cancelled, leaves the rows of the regions that were done. Either it is run again (with the
same rows, range and directory it goes on where it was, with the same commit_ts), or the caller drops the range with
`Cluster.destroy_range` and leaves it unused: an ingest whose answer was lost may still be applied, as late as a leader
that was cut off is back.

What `directory` guarantees: a range is noted there, synced, after its ingest was answered, so what is skipped later is
there. A range whose answer was lost is loaded again: it ends with the same records.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from kvstore.client.api import LoadReport
from kvstore.client.cluster.backoff import SCAN_BUDGET_MS, Backoff
from kvstore.client.cluster.parts import Parts
from kvstore.client.cluster.progress import PROGRESS_FILE, LoadIdentity, Progress
from kvstore.client.cluster.region_load import RegionLoad
from kvstore.client.cluster.runs import RowFile, Runs
from kvstore.client.cluster.sender import RegionChanged
from kvstore.client.cluster.snapshot import Snapshot
from kvstore.client.cluster.splitting import split_regions
from kvstore.errors import KeyExists, LoadDiffers, PdError, TxnNotFound
from kvstore.proto.pdpb_pb2 import OperatorStatus
from kvstore.rpc.api import RpcError

PART_BUDGET_MS = 600_000
"""Pauses for one region before the load fails: as long as a store may be away."""
SCATTER_WAIT_S = 60.0
"""How long is waited for new regions to be spread; then the load goes on where they are."""
SCATTER_POLL_S = 0.2
SCATTER_POLLED_MAX = 64
"""Regions that are asked about at the same time."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What a load may take."""

    memory_bytes: int = 64 << 20
    """Rows in memory before they are spilled."""
    region_bytes: int = 96 << 20
    """Regions are split so that each gets about so much, and no file has more."""
    parallel: int = 4
    """Regions that are loaded at the same time."""
    scatter: bool = True


class BulkLoad:
    """A bulk load in progress; `Cluster.bulk_load` begins one. Its `finish` is awaited in the cluster's loop."""

    def __init__(
        self, parts: Parts, start: bytes, end: bytes, commit_ts: int, directory: str | None, options: LoadOptions
    ) -> None:
        self._parts = parts
        self._start = start
        self._end = end
        self._commit_ts = commit_ts
        self._options = options
        self._temporary = tempfile.TemporaryDirectory(prefix="sqlfront-load-")
        self._runs = Runs(self._temporary.name, options.memory_bytes)
        self._progress = Progress(None if directory is None else os.path.join(directory, PROGRESS_FILE))
        self._loaded_rows = self._ingests = 0
        self._over = False

    @classmethod
    async def open(
        cls,
        parts: Parts,
        start: bytes,
        end: bytes,
        *,
        commit_ts: int = 0,
        directory: str | None = None,
        options: LoadOptions | None = None,
    ) -> BulkLoad:
        """Begins or resumes a load. `commit_ts` 0: that of the load in `directory`, else a fresh timestamp.

        Raises LoadDiffers when `directory` has another load, PdUnavailable.
        """
        if end and start >= end:
            raise ValueError(f"the range {start.hex()} .. {end.hex()} is empty")
        if directory is not None:
            os.makedirs(directory, exist_ok=True)
        load = cls(parts, start, end, commit_ts, directory, options or LoadOptions())
        known = load._progress.identity
        try:
            if known is not None:
                load._resume(known)
            elif not commit_ts:
                load._commit_ts = await parts.pd.get_ts()
        except BaseException:
            load.abort()
            raise
        return load

    def _resume(self, known: LoadIdentity) -> None:
        other_ts = self._commit_ts not in (0, known.commit_ts)
        if other_ts or (known.start, known.end) != (self._start.hex(), self._end.hex()):
            raise LoadDiffers(f"the directory has another load: {known}")
        self._commit_ts = known.commit_ts

    @property
    def commit_ts(self) -> int:
        return self._commit_ts

    async def __aenter__(self) -> BulkLoad:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def add_run(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Adds one run: keys strictly ascending within it. Runs may interleave with each other.

        May write to the local disk. Raises ValueError, and KeyExists for a key that the run has twice.
        """
        if self._over:
            raise TxnNotFound("the bulk load is over")
        if len(keys) != len(values):
            raise ValueError(f"{len(keys)} keys, {len(values)} values")
        if not keys:
            return
        if keys[0] < self._start or (self._end and keys[-1] >= self._end):
            raise ValueError(f"run {keys[0].hex()} .. {keys[-1].hex()} is not inside the range of the bulk load")
        self._runs.add(keys, values)

    async def finish(self, *, check_empty: bool = False) -> LoadReport:
        """Makes all rows visible, durably; see the module for what a failure leaves.

        Raises KeyExists, nothing loaded, for a key that two runs have, and with `check_empty` for a live key in the
        range (not when a load is resumed: what it finds may be its own); without, rows lie above what was there. Raises
        LoadDiffers when the directory has another load, ClusterError, PdError.
        """
        if self._over:
            raise TxnNotFound("the bulk load is over")
        try:
            rows = await self._runs.merge()
            resumed = self._progress.identity is not None
            if check_empty and not resumed:
                await self._check_empty()
            self._progress.begin(
                LoadIdentity(self._start.hex(), self._end.hex(), self._commit_ts, rows.rows, rows.crc32)
            )
            pieces = self._pieces(rows)
            await self._split(pieces)
            loading = RegionLoad(self._parts, rows, self._commit_ts, self._options.region_bytes)
            await self._load_all(loading, rows, pieces)
            return LoadReport(self._commit_ts, rows.rows, self._loaded_rows, self._ingests)
        finally:
            self.abort()

    def abort(self) -> None:
        """Ends the load and deletes what is here of it; the directory stays. Harmless when it is over."""
        self._over = True
        self._runs.remove()
        self._temporary.cleanup()

    async def _check_empty(self) -> None:
        reader = Snapshot(self._parts, await self._parts.pd.get_ts())
        async for key, value in reader.scan(self._start, self._end, limit=1):
            raise KeyExists(key, value)

    def _pieces(self, rows: RowFile) -> list[tuple[bytes, bytes]]:
        """What is still to be loaded, in pieces of about a region, ascending; each has rows."""
        bounds = [self._start, *rows.cut_keys(self._options.region_bytes)]
        pieces: list[tuple[bytes, bytes]] = []
        for low, high in zip(bounds, [*bounds[1:], self._end], strict=True):
            at = self._left(rows, low, high)
            if at is not None:
                pieces.append((at, high))
        return pieces

    def _left(self, rows: RowFile, low: bytes, high: bytes) -> bytes | None:
        """The first key in [low, high) that is not loaded yet."""
        at: bytes | None = rows.first(low, high)
        while at is not None:
            past = self._progress.past(at)
            if past is None:
                return at
            if not past or (high and past >= high):
                return None
            at = rows.first(past, high)
        return None

    async def _split(self, pieces: Sequence[tuple[bytes, bytes]]) -> None:
        """Splits regions where pieces begin and behind the range, and waits a while for them to be spread."""
        keys = [low for low, _ in pieces]
        if not keys:
            return
        behind = [self._end] if self._end else []
        backoff = self._parts.backoff(SCAN_BUDGET_MS)
        ids = await split_regions(self._parts.sender, backoff, [*keys, *behind], raw=False)
        if not self._options.scatter or len(keys) < 2:
            return
        wanted = sorted(set(ids[: len(keys)]))
        try:
            await self._parts.pd.scatter_regions(wanted, group=f"load-{self._commit_ts}")
            async with asyncio.timeout(SCATTER_WAIT_S):
                await self._until_scattered(wanted)
        except (RpcError, PdError, TimeoutError):
            pass  # the rows go where the regions are; the placement driver's own balance comes later

    async def _until_scattered(self, ids: Sequence[int]) -> None:
        waiting = list(ids)
        while waiting:
            some = waiting[:SCATTER_POLLED_MAX]
            answers = await asyncio.gather(*(self._parts.pd.get_operator(region_id) for region_id in some))
            running = [i for i, answer in zip(some, answers, strict=True) if answer.status == OperatorStatus.RUNNING]
            waiting = running + waiting[len(some) :]
            if running:
                await asyncio.sleep(SCATTER_POLL_S)

    async def _load_all(self, loading: RegionLoad, rows: RowFile, pieces: list[tuple[bytes, bytes]]) -> None:
        left = iter(pieces)

        async def work() -> None:
            for low, high in left:
                await self._load_piece(loading, rows, low, high)

        await _together([work() for _ in range(min(self._options.parallel, len(pieces)))])

    async def _load_piece(self, loading: RegionLoad, rows: RowFile, low: bytes, high: bytes) -> None:
        at: bytes | None = low
        while at is not None:
            backoff = self._parts.backoff(PART_BUDGET_MS)
            done, count = await self._load_part(loading, backoff, at, self._progress.next_done(at, high))
            self._progress.done(at, done)
            self._loaded_rows += count
            self._ingests += 1
            at = self._left(rows, at, high)

    async def _load_part(self, loading: RegionLoad, backoff: Backoff, low: bytes, high: bytes) -> tuple[bytes, int]:
        while True:
            try:
                return await loading.load(backoff, low, high)
            except RegionChanged:
                continue  # whoever raised it has waited, against the budget


async def _together(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Runs all beside each other; the first failure, or being cancelled, ends the others before it is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
