"""Building an index beside writers of other servers.

Nobody here is told of their commits. But every commit after a timestamp W, drawn when the index had been announced,
maintains it: whoever changes or removes a row writes the entries of the old and new values at his own commit_ts. So
entries of rows in a snapshot after W are loaded *as versions of W*: where a writer has been since, they lie below what
he wrote, and where nobody has, they are right. Nothing is locked, a batch may be repeated, and one that comes late
changes nothing. Until the index is complete nobody reads it.

Garbage collection stays below W for as long as the build goes on: else a deleted entry could be collected before the
older version is loaded.

Two rows with one key of a unique index are found as `backfill` says.

A build rests after every batch, for as long as its priority says: the stores have other work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlfront.catalog.backfill import EntryEncoder, check_unique, read_entries, stop_if, written_before

if TYPE_CHECKING:
    from kvstore.client.api import CancelToken, SharedStorage
    from sqlfront.catalog.jobs import Job
    from sqlfront.catalog.model import Index, Table
    from sqlfront.threads import Threads

KEEP_S = 600
BATCH_ROWS = 65_536
"""Rows between two rests."""
REST = {"PRIORITY_LOW": 1.0, "PRIORITY_NORMAL": 0.5, "PRIORITY_HIGH": 0.0}
"""How long a build rests, as a share of the time that it worked: `tidb_ddl_reorg_priority`."""
REST_SLICE_S = 0.1


def rest(threads: Threads, seconds: float, cancel: CancelToken | None) -> None:
    """Sleeps; raises what `stop_if` does when the statement is interrupted meanwhile."""
    until = threads.monotonic() + seconds
    while (left := until - threads.monotonic()) > 0:
        stop_if(cancel)
        threads.sleep(min(left, REST_SLICE_S))


class SharedBuild:
    """The build of a job's indexes; the job's record says how far it came."""

    untouched = False

    def __init__(self, storage: SharedStorage, job: Job, threads: Threads) -> None:
        self._storage = storage
        self._job = job
        self._threads = threads

    @property
    def _service(self) -> str:
        return f"sqlfront-ddl-{self._job.id}"

    def fill(self, table: Table, index: Index, cancel: CancelToken | None) -> int:
        job = self._job
        if not job.entries_ts:
            job.entries_ts = self._storage.now_ts()
        self._keep()
        encode = EntryEncoder(table, (index.schema,))
        start, end = written_before(self._storage, table)
        place = f"{table.id}/{index.id}" if table.partition else str(index.id)
        known = job.filled.get(place)
        if known is not None:
            start = bytes.fromhex(known) if known else end
        share = REST.get(job.priority, 0.0)
        rows = 0
        while start < end:
            stop_if(cancel)
            begun = self._threads.monotonic()
            run = read_entries(self._storage, encode, (start, end), cancel, BATCH_ROWS)
            if run is not None:
                self._load(encode, index, run.keys, run.values, cancel)
                job.rows += run.rows
                rows += run.rows
            start = run.next if run is not None and run.next is not None else end
            job.filled[place] = start.hex() if start < end else ""
            self._keep()
            if start < end:
                rest(self._threads, share * (self._threads.monotonic() - begun), cancel)
        if index.unique:
            check_unique(self._storage, table, index, cancel)
        return rows

    def _load(
        self, encode: EntryEncoder, index: Index, keys: list[bytes], values: list[bytes], cancel: CancelToken | None
    ) -> None:
        start, end = encode.codec.index_range(index.schema)
        load = self._storage.load(start, end, commit_ts=self._job.entries_ts, cancel=cancel)
        try:
            load.add_run(keys, values)
            load.finish(check_duplicates=False)
        except BaseException:
            load.abort()
            raise

    def _keep(self) -> None:
        """Notes how far it is, which fails when the job is cancelled or another server goes on with it."""
        self._storage.keep_versions(self._service, self._job.entries_ts, KEEP_S)
        self._job.save(self._storage)

    def close(self) -> None:
        if self._job.entries_ts:
            self._storage.keep_versions(self._service, self._job.entries_ts, 0)
