"""The engine on RocksDB, and the only door to rocksdict.

What rocksdict makes easy to get wrong is kept here: raw mode everywhere; the options object and the bounds of an
iterator live as long as it does; iterators of several families are made under the write lock; every iterator is
registered, so that `close` can drop it (RocksDB stays open while one lives); errors come as bare `Exception` and
leave translated. `next` on an iterator that is not valid crashes the process: callers test `key() is None` first.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from itertools import chain, islice
from typing import Any

import rocksdict
from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
)

from kvstore.engine.api import CF_DEFAULT, CF_LOCK, CF_META, COLUMN_FAMILIES, Batch, Cursor, RawIterator, Scanner
from kvstore.engine.directory import Directory, sync_directory, write_identity
from kvstore.engine.failure import check_status, translate
from kvstore.engine.manifest import Durable, check_files, log_sizes, sync_manifest, write_state
from kvstore.errors import Corruption, StoreClosed, StoreError

MIB = 1 << 20
BLOCK_CACHE_BYTES = 256 * MIB
WRITE_BUFFER_BYTES = 64 * MIB
WRITE_BUFFERS_MAX = 4
SMALL_WRITE_BUFFER_BYTES = 8 * MIB
WAL_BYTES_MAX = 512 * MIB
BLOCK_BYTES = 16 * 1024
BLOOM_BITS = 10
BLOB_BYTES_MIN = 4096
BLOB_FILE_BYTES = 128 * MIB
INFO_LOG_FILES_MAX = 2
INFO_LOG_BYTES = 4 * MIB
OPEN_FILES_MAX = 1024
BACK_STEP_PAIRS = 32
"""A reverse pass finds out that it is below its start after at most so many pairs too many."""


def _table_options(cache: Cache, *, bloom: bool) -> BlockBasedOptions:
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_block_size(BLOCK_BYTES)
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    table.set_format_version(5)
    if bloom:
        table.set_bloom_filter(BLOOM_BITS, False)
    return table


def _family_options(cf: str, cache: Cache) -> Options:
    options = Options(raw_mode=True)
    options.set_block_based_table_factory(_table_options(cache, bloom=cf in (CF_DEFAULT, CF_META)))
    small = cf in (CF_LOCK, CF_META)
    options.set_write_buffer_size(SMALL_WRITE_BUFFER_BYTES if small else WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(WRITE_BUFFERS_MAX)
    options.set_level_compaction_dynamic_level_bytes(True)
    options.set_compression_type(DBCompressionType.none() if small else DBCompressionType.lz4())
    if cf == CF_DEFAULT:
        options.set_enable_blob_files(True)
        options.set_min_blob_size(BLOB_BYTES_MIN)
        options.set_blob_file_size(BLOB_FILE_BYTES)
        options.set_blob_compression_type(DBCompressionType.lz4())
        options.set_enable_blob_gc(True)
    return options


def _database_options(*, create: bool) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(create)
    options.create_missing_column_families(create)
    options.set_max_total_wal_size(WAL_BYTES_MAX)
    # A torn record at the end of the log is what a crash leaves; it was never acknowledged. Damage before is refused:
    # RocksDB's default would drop the acknowledged writes behind it without a word.
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_max_background_jobs(2)
    options.set_max_open_files(OPEN_FILES_MAX)
    options.set_keep_log_file_num(INFO_LOG_FILES_MAX)
    options.set_max_log_file_size(INFO_LOG_BYTES)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_is_fd_close_on_exec(True)
    return options


class RocksCursor:
    """A registered iterator that owns its read options and bounds (see `api.Cursor`)."""

    __slots__ = ("__weakref__", "_engine", "_family", "_options", "_upper", "raw", "seq")

    def __init__(self, engine: RocksEngine, family: Rdict, upper: bytes | None) -> None:
        self._engine = engine
        self._family: Rdict | None = family
        self._options: ReadOptions | None = None
        self._upper = upper
        if upper is not None:
            self._options = ReadOptions()
            self._options.set_iterate_upper_bound(upper)
        self.raw: RawIterator | None = None
        self.seq = -1

    def refresh(self) -> RawIterator:
        family = self._family
        if family is None:
            raise self._engine.closed_error()
        seq = self._engine.write_seq
        try:
            raw: RawIterator = family.iter() if self._options is None else family.iter(self._options)
        except Exception as error:
            raise translate(error, "read") from error
        self.raw = raw
        self.seq = seq
        if self._family is None:  # closed meanwhile
            self.raw = None
            raise self._engine.closed_error()
        return raw

    def release(self) -> None:
        self.seq = -1
        self.raw = None

    def disown(self) -> None:
        """Takes the cursor out of use without freeing the iterator."""
        if self.raw is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.raw))
        self.close()

    def close(self) -> None:
        """Takes the cursor out of use for good."""
        self._family = None
        self.release()


class RocksScanner:
    """A registered one-way pass (see `api.Scanner`); owns the options and bounds of its iterator."""

    __slots__ = ("__weakref__", "_engine", "_family", "_items", "_last", "_options", "_reverse", "_start")

    def __init__(self, engine: RocksEngine, family: Rdict, start: bytes, end: bytes, reverse: bool) -> None:
        self._engine = engine
        self._options = ReadOptions()
        self._options.set_iterate_upper_bound(end)
        # a reverse pass begins at the upper bound, which is exclusive, and has to be stopped by hand below `start`:
        # rocksdict's `items` does not obey a lower bound
        self._start = start
        self._reverse = reverse
        self._family = family
        self._last: bytes | None = None
        self._items: Any = family.items(backwards=reverse, from_key=end if reverse else start, read_opt=self._options)

    def take(self, pairs: int) -> list[bytes]:
        items = self._items
        if items is None:
            raise self._engine.closed_error()
        try:
            flat = self._take_back(items, pairs) if self._reverse else list(chain.from_iterable(islice(items, pairs)))
        except Exception as error:
            raise translate(error, "read") from error
        if self._reverse and flat and flat[-2] < self._start:
            start = self._start
            keep = next(at for at in range(0, len(flat), 2) if flat[at] < start)
            del flat[keep:]
        elif len(flat) < 2 * pairs:
            self._check_end(flat[-2] if flat else self._last)
        elif flat:
            self._last = flat[-2]
        return flat

    def _take_back(self, items: Any, pairs: int) -> list[bytes]:
        """The next pairs, in small steps so that little is read below the start."""
        flat: list[bytes] = []
        while pairs > 0:
            step = list(chain.from_iterable(islice(items, min(pairs, BACK_STEP_PAIRS))))
            flat += step
            pairs -= BACK_STEP_PAIRS
            if len(step) < 2 * BACK_STEP_PAIRS or step[-2] < self._start:
                break
        return flat

    def _check_end(self, last: bytes | None) -> None:
        """Makes sure that the pass ended at its bound: rocksdict's `items` ends silently on a read error, too."""
        raw: RawIterator | None = None
        try:
            raw = self._family.iter(self._options)
            if self._reverse:
                raw.seek_for_prev(last) if last is not None else raw.seek_to_last()
            else:
                raw.seek(self._start if last is None else last)
            if last is not None and raw.key() == last:
                raw.prev() if self._reverse else raw.next()
            if raw.key() is None:
                check_status(raw)
        except Exception as error:
            raise translate(error, "read") from error
        finally:
            raw = None  # an error keeps this frame alive, and an iterator keeps RocksDB open

    def release(self) -> None:
        self._items = None

    def disown(self) -> None:
        """Takes the scanner out of use without freeing the iterator."""
        if self._items is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._items))
            self._items = None

    close = release


class RocksFileWriter:
    """One sorted file to be ingested."""

    def __init__(self, path: str, options: Options) -> None:
        self.path = path
        self._options = options
        self._writer = rocksdict.SstFileWriter(options)
        self._writer.open(path)

    def put_all(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        put = self._writer.__setitem__
        try:
            for key, value in zip(keys, values, strict=True):
                put(key, value)
        except Exception as error:
            raise translate(error, f"write {self.path}") from error

    def finish(self) -> None:
        try:
            self._writer.finish()
        except Exception as error:
            raise translate(error, f"write {self.path}") from error


class RocksEngine:
    """RocksDB under `<path>/kv`; owns the directory until `close`."""

    def __init__(self, path: str, *, cache_bytes: int = BLOCK_CACHE_BYTES) -> None:
        self._directory = Directory(path)
        self.path: str | None = self._directory.path
        self.write_seq = 0
        self._write_mutex = threading.Lock()
        self._cursors: weakref.WeakSet[RocksCursor | RocksScanner] = weakref.WeakSet()
        self._cursors_mutex = threading.Lock()
        self._closed: StoreError | None = None
        self._failure: StoreError | None = None
        """The last write or sync that failed: RocksDB refuses all that follow, also at close."""
        cache = Cache(cache_bytes)
        self._file_options = {cf: _family_options(cf, cache) for cf in COLUMN_FAMILIES}
        self._state_mutex = threading.Lock()
        self._noted = False
        try:
            state = check_files(self._directory.path, self._directory.kv_path)
            self._db: Rdict | None = Rdict(
                self._directory.kv_path,
                _database_options(create=state is None),
                column_families={cf: _family_options(cf, cache) for cf in COLUMN_FAMILIES},
            )
            self._families: dict[str, Rdict] = {cf: self._db.get_column_family(cf) for cf in COLUMN_FAMILIES}
            self._handles: dict[str, Any] = {cf: self._db.get_column_family_handle(cf) for cf in COLUMN_FAMILIES}
        except Exception as error:
            self._directory.release()
            raise translate(error, f"cannot open database {path!r}") from error
        if state is not None and self._db.latest_sequence_number() < state.sequence:
            there = self._db.latest_sequence_number()
            self._failure = Corruption(
                f"cannot open database {path!r}: {state.sequence} writes were durable, {there} are there"
            )
            self.close()
            raise self._failure
        self._note_durable()
        self._noted = False  # the first sync has a log to note

    def closed_error(self) -> StoreError:
        """What is raised by whoever comes after `close`."""
        return self._closed or StoreClosed("the store is closed")

    def _open_db(self) -> Rdict:
        if self._db is None:
            raise self.closed_error()
        return self._db

    def _family(self, cf: str) -> Rdict:
        if self._db is None:
            raise self.closed_error()
        return self._families[cf]

    def handle(self, cf: str) -> Any:
        self._open_db()
        return self._handles[cf]

    def get(self, cf: str, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._family(cf).get(key)
        except Exception as error:
            raise translate(error, "read") from error
        return value

    def cursor(self, cf: str, upper: bytes | None = None) -> Cursor:
        cursor = RocksCursor(self, self._family(cf), upper)
        with self._cursors_mutex:
            self._cursors.add(cursor)
        cursor.refresh()
        return cursor

    def scanner(self, cf: str, start: bytes, end: bytes, *, reverse: bool = False) -> Scanner:
        try:
            scanner = RocksScanner(self, self._family(cf), start, end, reverse)
        except StoreError:
            raise
        except Exception as error:
            raise translate(error, "read") from error
        with self._cursors_mutex:
            self._cursors.add(scanner)
        if self._db is None:  # closed meanwhile
            scanner.close()
        return scanner

    def view(self, families: Sequence[str]) -> list[Cursor]:
        with self._write_mutex:
            return [self.cursor(cf) for cf in families]

    def batch(self) -> Batch:
        batch: Batch = WriteBatch(raw_mode=True)
        return batch

    def write(self, batch: Batch) -> None:
        with self._write_mutex:
            db = self._open_db()
            try:
                db.write(batch)
            except Exception as error:
                self._failure = translate(error, "write")
                raise self._failure from error
            self.write_seq += 1

    def sync(self) -> None:
        db = self._open_db()
        try:
            db.flush_wal(True)
        except Exception as error:
            self._failure = translate(error, "sync")
            raise self._failure from error
        if not self._noted:
            self._note_durable()

    def _note_durable(self) -> None:
        """Notes what is durable by now, so that the next open can tell whether something was lost (see `manifest`)."""
        with self._state_mutex:
            db = self._open_db()
            try:
                sequence, logs = db.latest_sequence_number(), log_sizes(self._directory.kv_path)
                db.flush_wal(True)
            except Exception as error:
                raise translate(error, "sync") from error
            self._write_state(sequence, logs)

    def _write_state(self, sequence: int, logs: dict[int, int]) -> None:
        # what was noted before stays true: no room for the note is no failure of what it is about
        with suppress(OSError):
            manifest, manifest_bytes = sync_manifest(self._directory.kv_path)
            write_state(self._directory.path, Durable(manifest, manifest_bytes, sequence, logs))
            self._noted = True

    def delete_range(self, cf: str, start: bytes, end: bytes) -> None:
        batch = self.batch()
        batch.delete_range(start, end, self.handle(cf))
        self.write(batch)

    def sorted_file(self, cf: str, path: str) -> RocksFileWriter:
        self._open_db()
        try:
            return RocksFileWriter(path, self._file_options[cf])
        except Exception as error:
            raise translate(error, f"write {path}") from error

    def ingest(self, cf: str, files: Sequence[Any]) -> None:
        options = rocksdict.IngestExternalFileOptions()
        options.set_move_files(True)
        with self._write_mutex:
            try:
                self._family(cf).ingest_external_file([file.path for file in files], options)
            except Exception as error:
                raise translate(error, "ingest") from error
            self.write_seq += 1
        self._note_durable()  # no log has what was ingested: only the MANIFEST does

    def checkpoint(self, path: str) -> None:
        """Writes a directory that opens as a database: RocksDB's checkpoint and an identity file, in this order."""
        db = self._open_db()
        try:
            os.makedirs(path)
            with self._write_mutex:
                rocksdict.Checkpoint(db).create_checkpoint(os.path.join(path, "kv"))
            write_identity(path, self._directory.identity)
            sync_directory(os.path.dirname(os.path.abspath(path)))
        except Exception as error:
            raise translate(error, f"backup to {path!r}") from error

    def flush(self) -> None:
        try:
            for cf in COLUMN_FAMILIES:
                self._family(cf).flush(True)
        except Exception as error:
            raise translate(error, "flush") from error
        self._note_durable()

    def compact(self, cf: str, start: bytes | None = None, end: bytes | None = None) -> None:
        try:
            self._family(cf).compact_range(start, end)
        except Exception as error:
            raise translate(error, "compact") from error

    def is_empty(self, cf: str) -> bool:
        cursor = self.cursor(cf)
        raw = cursor.raw
        assert raw is not None
        raw.seek_to_first()
        empty = raw.key() is None
        cursor.release()
        return empty

    def stats(self) -> dict[str, Any]:
        sizes: dict[str, Any] = {"write_seq": self.write_seq}
        for cf in COLUMN_FAMILIES:
            family = self._family(cf)
            sizes[cf] = {
                "sst_bytes": family.property_int_value("rocksdb.total-sst-files-size") or 0,
                "memtable_bytes": family.property_int_value("rocksdb.cur-size-all-mem-tables") or 0,
                "estimated_keys": family.property_int_value("rocksdb.estimate-num-keys") or 0,
                "blob_bytes": family.property_int_value("rocksdb.total-blob-file-size") or 0,
            }
        return sizes

    def disown(self, error: StoreError) -> None:
        self._closed = error
        # RocksDB's threads and locks did not survive the fork: its objects must never be finalized here
        for owned in (self._db, *self._families.values(), *self._handles.values()):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(owned))
        self._db = None
        self._families = {}
        self._handles = {}
        for cursor in list(self._cursors):
            cursor.disown()

    def close(self) -> None:
        with self._write_mutex:
            db, self._db = self._db, None
            if db is None:
                return
            with self._cursors_mutex:
                cursors = list(self._cursors)
            for cursor in cursors:
                cursor.close()
            self._handles.clear()
            families = list(self._families.values())
            self._families.clear()
            try:
                self._close_db(db, families)
            except Exception as error:
                if self._failure is None:
                    raise translate(error, "close") from error
                # whoever wrote was told already, and everything acknowledged is in the logs
            finally:
                self._directory.release()

    def _close_db(self, db: Rdict, families: list[Rdict]) -> None:
        """Closes what there is to close, whatever fails; raises the first failure."""
        sequence = db.latest_sequence_number()
        with ExitStack() as stack:
            stack.callback(db.close)
            for family in families:
                stack.callback(family.close)
            db.flush_wal(True)
        if self._failure is None:
            self._write_state(sequence, log_sizes(self._directory.kv_path))
