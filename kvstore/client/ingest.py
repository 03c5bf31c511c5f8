"""Bulk load: sorted runs become files of finished records, which the engine takes over at once.

    open     close the range to writers, wait for those inside, draw start_ts S and commit_ts T
    add_run  encode keys and records in bulk, append them to a sorted file under <dir>/ingest
    finish   check for duplicates, take over the files (long values first), draw V and open the range: see `ranges`

A crash before the take-over leaves files that the next open removes; one between the long values and the records leaves
values that no record points to, which nobody sees.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from kvstore.client.api import CancelToken, Reader
from kvstore.client.ranges import ClosedRange
from kvstore.engine.api import CF_DEFAULT, CF_WRITE, SortedFileWriter
from kvstore.engine.directory import INGEST_DIRECTORY
from kvstore.errors import KeyExists, TxnNotFound
from kvstore.mvcc.bulk import BulkEncoder, encode_keys
from kvstore.mvcc.keys import ts_suffix, user_key

if TYPE_CHECKING:
    from kvstore.client.embedded import EmbeddedStore
    from kvstore.client.ingest_check import KeyRun

LOCK_WAIT_MS = 50_000
"""How long the start of a load waits for each lock inside its range."""
LIVE_PER_KEY = 4
LIVE_BASE = 65536
"""Live keys that are read to check for duplicates, per new key and in all, before new keys are looked up one by one."""
RANGE_LOCK_PREFIX = b"\xff\xffrange"
FILE_BYTES_TARGET = 64 << 20
"""A run that follows the last one is appended to its file up to this size."""


class _Output:
    """The open file of one family and the finished ones."""

    def __init__(self, store: EmbeddedStore, cf: str, stem: str) -> None:
        self._store = store
        self._cf = cf
        self._stem = stem
        self._open: SortedFileWriter | None = None
        self._bytes = 0
        self._last = b""
        self.files: list[SortedFileWriter] = []

    def append(self, keys: list[bytes], values: list[bytes]) -> None:
        if self._open is None or self._bytes > FILE_BYTES_TARGET or keys[0] <= self._last:
            self.seal()
            path = f"{self._stem}-{self._cf}-{len(self.files)}.sst"
            self._open = self._store.engine.sorted_file(self._cf, path)
            self.files.append(self._open)
            self._bytes = 0
        self._open.put_all(keys, values)
        self._bytes += sum(map(len, values)) + len(keys) * len(keys[0])
        self._last = keys[-1]

    def seal(self) -> None:
        if self._open is not None:
            self._open.finish()
            self._open = None

    def take_over(self) -> None:
        self.seal()
        if self.files:
            self._store.engine.ingest(self._cf, self.files)

    def remove(self) -> None:
        """Deletes what was not taken over."""
        for file in self.files:
            if os.path.exists(file.path):
                os.unlink(file.path)


class EmbeddedIngest:
    """See `api.Ingest`."""

    def __init__(self, store: EmbeddedStore, closed: ClosedRange, owner: _LoadOwner, start_ts: int) -> None:
        self._store = store
        self._owner = owner
        self._closed = closed
        self._encoder = BulkEncoder(start_ts, closed.commit_ts)
        directory = store.engine.path
        stem = os.path.join(directory, INGEST_DIRECTORY, str(closed.commit_ts)) if directory is not None else ""
        self._stem = stem
        self._records = _Output(store, CF_WRITE, stem)
        self._long_values = _Output(store, CF_DEFAULT, stem)
        self._runs: list[KeyRun] = []
        self._over = False

    @property
    def commit_ts(self) -> int:
        return self._closed.commit_ts

    def add_run(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        from kvstore.client.ingest_check import KeyRun

        if self._over:
            raise TxnNotFound("the bulk load is over")
        if len(keys) != len(values):
            raise ValueError(f"{len(keys)} keys, {len(values)} values")
        if not keys:
            return
        if not all(map(operator.lt, keys, islice(keys, 1, None))):
            self._raise_disorder(keys, values)
        if not (self._closed.covers(keys[0]) and self._closed.covers(keys[-1])):
            raise ValueError(f"run {keys[0].hex()} .. {keys[-1].hex()} is not inside the range of the bulk load")
        encoded = self._encoder.encode(keys, values)
        run = KeyRun.of_keys(encoded.data_keys)
        self._runs.append(run.spooled(f"{self._stem}-keys-{len(self._runs)}" if self._stem else None))
        if encoded.long_keys:
            self._long_values.append(encoded.long_keys, encoded.long_values)
        self._records.append(encoded.keys, encoded.records)

    def _raise_disorder(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        for before, after, value in zip(keys, islice(keys, 1, None), islice(values, 1, None), strict=False):
            if before == after:
                raise KeyExists(after, value)
            if before > after:
                raise ValueError(f"keys of a run must ascend: {after.hex()} after {before.hex()}")

    def finish(self, *, check_duplicates: bool = True) -> None:
        if self._over:
            raise TxnNotFound("the bulk load is over")
        try:
            self._store.check_running()
            self._records.seal()
            self._long_values.seal()
            if check_duplicates:
                from kvstore.client.ingest_check import overlapping

                for group in overlapping(self._runs):
                    self._check_group(group)
            self._apply()
        finally:
            self._end()

    def _check_group(self, group: list[KeyRun]) -> None:
        """Raises KeyExists when a key of these runs is there twice or live already."""
        from kvstore.client.ingest_check import find_duplicate, find_live

        duplicate = find_duplicate(group)
        if duplicate is None:
            reader = self._store.snapshot(self._closed.commit_ts - 1)
            start, end = user_key(group[0].first), user_key(max(run.last for run in group)) + b"\0"
            budget = LIVE_PER_KEY * sum(run.count for run in group) + LIVE_BASE
            live = self._live_runs(reader, start, end, budget)
            if live is None:
                # few new keys in a large range: look each of them up instead of reading all that is there
                duplicate = find_live(group, lambda key: reader.get(user_key(key)) is not None)
            elif live:
                try:
                    duplicate = find_duplicate([*group, *live])
                finally:
                    for run in live:
                        run.remove()
        if duplicate is not None:
            raise KeyExists(user_key(duplicate))

    def _live_runs(self, reader: Reader, start: bytes, end: bytes, budget: int) -> list[KeyRun] | None:
        """The live keys of [start, end) as runs; None when there are more than `budget`."""
        from kvstore.client.ingest_check import KeyRun
        from kvstore.mvcc.packed import unpack

        runs: list[KeyRun] = []
        for batch in reader.scan_packed(start, end):
            budget -= batch.count
            if budget < 0:
                for run in runs:
                    run.remove()
                return None
            if batch.count:
                keys = [key for key, _ in unpack(batch)]
                path = f"{self._stem}-live-{len(runs)}" if self._stem else None
                data_keys = encode_keys(keys, ts_suffix(self._closed.commit_ts))[1]
                runs.append(KeyRun.of_keys(data_keys).spooled(path))
        return runs

    def _apply(self) -> None:
        store, closed = self._store, self._closed
        committer = store.committer
        for observer in committer.observers:
            observer.on_ingest(closed.commit_ts, closed.start, closed.end)
        # whoever keeps a copy has been told, so no position of his passes this entry before he has read the load
        committer.changes.note_load(store.now_ts(), closed.start, closed.end)
        self._long_values.take_over()
        self._records.take_over()
        with committer.mutex:
            visible_from = store.now_ts()
            store.ranges.end_window(closed, visible_from)
            # readers between T and here see the range as it was, so for them the load is a newer commit
            committer.last_commit_ts = max(committer.last_commit_ts, visible_from)
        # again: what an observer read from the range in between was read without the load
        for observer in committer.observers:
            observer.on_ingest(visible_from, closed.start, closed.end)

    def abort(self) -> None:
        if not self._over:
            self._end()

    def _end(self) -> None:
        self._over = True
        store, closed = self._store, self._closed
        ranges = store.ranges
        with store.committer.mutex:
            # before writers come back, whatever became of the load
            store.committer.lasts.clear()
            ranges.active = tuple(entry for entry in ranges.active if entry is not closed)
            if closed.visible_from is None:
                ranges.drop_window(closed)
        store.lock_table.release((closed.lock_key,), self._owner)
        self._records.remove()
        self._long_values.remove()
        for run in self._runs:
            run.remove()

    def __del__(self) -> None:
        if not self._over:
            # a finalizer takes no mutex: upkeep wakes the waiters, and the next open removes the files
            self._closed.abandoned = True
            self._store.orphan((self._closed.lock_key,), self._owner, id(self))


def open_ingest(store: EmbeddedStore, start: bytes, end: bytes, cancel: CancelToken | None) -> EmbeddedIngest:
    """Closes [start, end) to writers, waits until none is inside, and begins the load."""
    owner = _LoadOwner(store.now_ts())
    closed = ClosedRange(start, end, RANGE_LOCK_PREFIX + owner.start_ts.to_bytes(8, "big"))
    locks, ranges = store.lock_table, store.ranges
    locks.acquire(owner, closed.lock_key, LOCK_WAIT_MS, cancel)
    while True:
        with store.committer.mutex:
            rival = next((other for other in ranges.active if other.overlaps(start, end)), None)
            if rival is None:
                ranges.active = (*ranges.active, closed)
                break
        locks.acquire(owner, rival.lock_key, LOCK_WAIT_MS, cancel)
        locks.release((rival.lock_key,), owner)
    try:
        # whoever locks a key from now on sees the closed range; those before are waited for
        for key in [key for key in list(locks.owners) if closed.covers(key) and key != closed.lock_key]:
            locks.acquire(owner, key, LOCK_WAIT_MS, cancel)
            locks.release((key,), owner)
        start_ts = store.now_ts()
        with store.committer.mutex:
            # told before the timestamp is drawn: a snapshot that draws a later one has to look
            ranges.add_window(closed)
            store.special_reads = True
            closed.commit_ts = store.now_ts()
    except BaseException:
        with store.committer.mutex:
            ranges.active = tuple(entry for entry in ranges.active if entry is not closed)
            ranges.drop_window(closed)
        locks.release((closed.lock_key,), owner)
        raise
    return EmbeddedIngest(store, closed, owner, start_ts)


class _LoadOwner:
    """The load as the lock table sees it."""

    def __init__(self, start_ts: int) -> None:
        self.start_ts = start_ts
