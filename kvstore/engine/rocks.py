"""The engine on RocksDB, and the only door to rocksdict.

What rocksdict makes easy to get wrong is kept here: raw mode everywhere; the options object and the bounds of an
iterator live as long as it does; iterators of several families are made under the write lock; every iterator is
registered, so that `close` can drop it (RocksDB stays open while one lives); errors come as bare `Exception` and
leave translated. `next` on an iterator that is not valid crashes the process: callers test `key() is None` first.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import threading
import weakref
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

import rocksdict
from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    WriteBatch,
    WriteOptions,
)

from kvstore.engine.api import (
    CF_CHANGES,
    CF_DEFAULT,
    CF_LOCK,
    CF_META,
    CF_RAFT,
    COLUMN_FAMILIES,
    Cursor,
    Scanner,
    StagedFiles,
)
from kvstore.engine.batch import Family, LoggedBatch, replay
from kvstore.engine.directory import KV_DIRECTORY, Directory, sync_directory, write_identity
from kvstore.engine.failure import translate
from kvstore.engine.journal import Journal
from kvstore.engine.log import Log, LogLimits
from kvstore.engine.log_files import LOG_DIRECTORY, LogFiles
from kvstore.engine.manifest import check_files
from kvstore.engine.rocks_cursors import RocksCursor, RocksScanner
from kvstore.errors import Corruption, DiskFull, StoreClosed, StoreError
from kvstore.failpoint import fail_point

MIB = 1 << 20
BLOCK_CACHE_BYTES = 256 * MIB
WRITE_BUFFER_BYTES = 512 * MIB
"""Never reached: the journal has tables flushed when a log file is full."""
WRITE_BUFFERS_MAX = 4
OPTIONS_PATH = os.path.join(os.path.dirname(__file__), "rocks_options")
BLOCK_BYTES = 16 * 1024
BLOOM_BITS = 10
BLOB_BYTES_MIN = 4096
BLOB_FILE_BYTES = 128 * MIB
INFO_LOG_FILES_MAX = 2
INFO_LOG_BYTES = 4 * MIB
OPEN_FILES_MAX = 1024


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
    small = cf in (CF_LOCK, CF_META, CF_CHANGES, CF_RAFT)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
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
    # without the flush that RocksDB makes when it is shut down: rocksdict has no setter for that
    options, _ = Options.load_latest(OPTIONS_PATH)
    options.create_if_missing(create)
    options.create_missing_column_families(True)  # a directory of an older format has fewer
    # Damage in the logs that a database of format 1 has is refused, but for a torn record at the end: RocksDB's default
    # would drop the acknowledged writes behind it without a word.
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_atomic_flush(True)  # all families or none, should RocksDB ever flush by itself
    options.set_max_background_jobs(2)
    options.set_max_open_files(OPEN_FILES_MAX)
    options.set_keep_log_file_num(INFO_LOG_FILES_MAX)
    options.set_max_log_file_size(INFO_LOG_BYTES)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_is_fd_close_on_exec(True)
    return options


class RocksTables:
    """RocksDB behind the write-ahead log (see `journal.Tables`).

    No local variable of a step that can fail has one of RocksDB's objects: the error would keep RocksDB open.
    """

    def __init__(self, db: Rdict) -> None:
        self.db = db
        self._pid = os.getpid()
        self.options = WriteOptions()
        self.options.disable_wal = True
        self.families = {cf: db.get_column_family(cf) for cf in COLUMN_FAMILIES}
        self.handles = {
            cf: Family(number, db.get_column_family_handle(cf)) for number, cf in enumerate(COLUMN_FAMILIES)
        }
        self._errors = self._background_errors()

    def apply(self, batches: list[bytes]) -> None:
        raw = [self.handles[cf].raw for cf in COLUMN_FAMILIES]
        target: Any = WriteBatch(raw_mode=True)
        for batch in batches:
            replay(batch, target, raw)
        self._write(target, "replay")

    def sequence(self) -> int:
        sequence: int = self.db.latest_sequence_number()
        return sequence

    def flush(self) -> None:
        self._flush(wait=True)

    def begin_flush(self) -> None:
        self._flush(wait=False)

    def _flush(self, *, wait: bool) -> None:
        try:
            for cf in COLUMN_FAMILIES:
                self.families[cf].flush(wait)
        except Exception as error:
            raise translate(error, "flush") from error

    def flushing(self) -> bool:
        if self._background_errors() > self._errors:
            self._write(WriteBatch(raw_mode=True), "flush")  # raises what RocksDB has stopped for
            raise StoreError("flush: RocksDB could not write a table file, its LOG says why")
        return any(family.property_int_value("rocksdb.num-immutable-mem-table") for family in self.families.values())

    def _background_errors(self) -> int:
        return self.db.property_int_value("rocksdb.background-errors") or 0

    def _write(self, batch: Any, what: str) -> None:
        try:
            self.db.write(batch, self.options)
        except Exception as error:
            raise translate(error, what) from error

    def close(self, *, whole: bool) -> None:
        """Closes what there is to close, whatever fails; raises the first failure.

        Unless it is `whole`, memory is dropped: RocksDB must not write what the log may not have.
        """
        for handle in self.handles.values():
            handle.raw = None
        self.handles.clear()
        with ExitStack() as stack:
            if whole:
                for closing in (self.db, *self.families.values()):
                    stack.callback(closing.close)
            else:
                # closing would flush and, since that is refused now, leave RocksDB open; it closes with its last object
                self.db.cancel_all_background(True)
            self.families.clear()
            del self.db

    def leave(self, log: Log) -> None:
        """To be called when the process ends, or the engine is dropped, without a close: rocksdict flushes what is in
        memory, so the log has to have it. In a forked child it leaves all to the parent."""
        if os.getpid() != self._pid:
            return
        try:
            log.sync()
        except StoreError:
            self.db.cancel_all_background(True)

    def disown(self) -> None:
        """RocksDB's threads and locks do not survive a fork: its objects must never be finalized in the child."""
        for owned in (self.db, *self.families.values(), *(handle.raw for handle in self.handles.values())):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(owned))


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


def file_bounds(cf: str, path: str) -> tuple[bytes, bytes]:
    """The first and the last key of a table file, which is read by a database of its own. Corruption if it is none."""
    scratch = f"{path}.db"
    shutil.rmtree(scratch, ignore_errors=True)
    options = _family_options(cf, Cache(MIB))
    options.create_if_missing(True)
    ingest = rocksdict.IngestExternalFileOptions()
    try:
        db = Rdict(scratch, options)
        try:
            db.ingest_external_file([path], ingest)
            raw = db.iter()
            raw.seek_to_first()
            first = raw.key()
            raw.seek_to_last()
            last = raw.key()
            del raw
        finally:
            db.close()
    except Exception as error:
        raise Corruption(f"{os.path.basename(path)} is no table file of family {cf}: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if first is None or last is None:
        raise Corruption(f"{os.path.basename(path)} is empty")
    return first, last


class RocksEngine:
    """RocksDB under `<path>/kv`; owns the directory until `close`."""

    def __init__(
        self,
        path: str,
        *,
        cache_bytes: int = BLOCK_CACHE_BYTES,
        limits: LogLimits = LogLimits(),  # noqa: B008 - frozen
    ) -> None:
        self._directory = Directory(path)
        self.path: str | None = self._directory.path
        self.write_seq = self.write_begun = 0
        self._cursors: weakref.WeakSet[RocksCursor | RocksScanner] = weakref.WeakSet()
        self._cursors_mutex = threading.Lock()
        self._closed: StoreError | None = None
        cache = Cache(cache_bytes)
        self._file_options = {cf: _family_options(cf, cache) for cf in COLUMN_FAMILIES}
        tables: RocksTables | None = None
        try:
            state = check_files(self._directory.path, rocksdb_logs=self._directory.format < 2)
            logs = LogFiles(os.path.join(self._directory.path, LOG_DIRECTORY), None if state is None else state.logs)
            tables = RocksTables(
                Rdict(
                    self._directory.kv_path,
                    _database_options(create=state is None),
                    column_families={cf: _family_options(cf, cache) for cf in COLUMN_FAMILIES},
                )
            )
            if state is not None and tables.sequence() < state.sequence:
                raise Corruption(f"{state.sequence} writes were durable, {tables.sequence()} are there")
            self._directory.upgrade()
            self._journal = Journal(self._directory.path, tables, logs, limits)
        except BaseException as error:
            if tables is not None:
                with suppress(Exception):  # the first error is the one to tell
                    tables.close(whole=False)
            self._directory.release()
            if isinstance(error, Exception):
                raise translate(error, f"cannot open database {path!r}") from error
            raise
        self._tables: RocksTables | None = tables
        self._leave = weakref.finalize(self, tables.leave, self._journal.log)
        self._families = tables.families
        self._handles = tables.handles
        self._all_handles = tuple(tables.handles.values())
        self._write_mutex = self._journal.mutex
        self._options = tables.options
        self._db: Rdict | None = tables.db
        self._staged: StagedFiles | None = None

    @property
    def staged(self) -> StagedFiles:
        if self._staged is None:
            from kvstore.engine.staged import DirectoryFiles

            self._open_db()
            self._staged = DirectoryFiles(self, self._directory.import_path, file_bounds)
        return self._staged

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

    def batch(self) -> LoggedBatch:
        if self._db is None:
            raise self.closed_error()
        return LoggedBatch(WriteBatch(raw_mode=True), self._all_handles)

    def write(self, batch: Any) -> None:
        self._journal.prepare()
        record = batch.record()
        with self._write_mutex:
            if self._db is None:
                raise self.closed_error()
            try:
                if fail_point("engine::before_write") is not None:
                    raise DiskFull("write: failpoint engine::before_write")
                self._journal.log.append(record)
            except StoreError as error:
                raise self._journal.refuse(error) from error
            self.write_begun = self.write_seq + 1
            try:
                self._db.write(batch.raw, self._options)
            except Exception as error:
                raise self._journal.fail(translate(error, "write")) from error
            self.write_seq += 1

    def hand_over(self) -> None:
        self._open_db()
        self._journal.log.hand_over()

    def sync(self) -> None:
        self._open_db()
        self._journal.log.sync()

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
        paths = [file.path for file in files]

        def take_over() -> None:
            self.write_begun = self.write_seq + 1
            try:
                self._family(cf).ingest_external_file(paths, options)
            except Exception as error:
                raise translate(error, "ingest") from error
            self.write_seq += 1
            self._journal.note_flushed()  # no log has what was ingested: only the MANIFEST does

        # what is in the log must not be replayed over what is ingested
        self._journal.while_empty(take_over)

    def checkpoint(self, path: str) -> None:
        """Writes a directory that opens as a database: RocksDB's checkpoint and an identity file, in this order."""
        self._open_db()

        def copy() -> None:
            try:
                os.makedirs(path)
                rocksdict.Checkpoint(self._open_db()).create_checkpoint(os.path.join(path, KV_DIRECTORY))
                write_identity(path, self._directory.identity)
                sync_directory(os.path.dirname(os.path.abspath(path)))
            except Exception as error:
                raise translate(error, f"backup to {path!r}") from error

        self._journal.while_empty(copy)

    def flush(self) -> None:
        self._open_db()
        self._journal.flush()

    def compact(self, cf: str, start: bytes | None = None, end: bytes | None = None) -> None:
        family = self._family(cf)
        self._journal.flush()  # compacting flushes, and the log has to be ahead of every flush
        try:
            family.compact_range(start, end)
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
        self._leave.detach()
        if self._tables is not None:
            self._tables.disown()
        self._journal.disown(error)
        self._write_mutex = self._journal.mutex
        self._db = None
        self._tables = None
        self._families = {}
        self._handles = {}
        for cursor in list(self._cursors):
            cursor.disown()

    def close(self) -> None:
        with self._write_mutex:
            self._db = None
            tables, self._tables = self._tables, None
        if tables is None:
            return
        self._leave.detach()
        with self._cursors_mutex:
            cursors = list(self._cursors)
        for cursor in cursors:
            cursor.close()
        failed = self._journal.failed
        try:
            self._close(tables)
        except Exception as error:
            if not failed:
                raise translate(error, "close") from error
            # whoever wrote was told already, and everything acknowledged is in the log
        finally:
            self._directory.release()

    def _close(self, tables: RocksTables) -> None:
        whole = False
        with ExitStack() as stack:
            stack.callback(lambda: tables.close(whole=whole))
            self._families = {}
            self._journal.close()
            whole = True
