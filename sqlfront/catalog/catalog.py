"""The catalog of one database directory: the current schema, and the one way to change it.

Statements take `catalog.schema` once and use that version to their end. A change (`change`) is one transaction over
the `m` keys: it raises SchemaVersionKey, writes a Diff and the objects, and puts the new `Schema` in place inside its
own commit, so that the stored and the current schema are never apart. Changes run one at a time.

A transaction that wrote a table remembers the table's `revision`; `check_revisions`, run inside its commit, refuses it
when the table has another revision by then (error 8028: run it again). Since commits and the switch to a new schema
exclude each other, whoever sees a new schema knows that no transaction will commit by the old one any more.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from kvstore.client.api import TS_MAX, ReadFrom
from kvstore.errors import CommitRejected
from sqlfront.catalog.backfill import IndexBuild, IndexWatch, LocalBuild
from sqlfront.catalog.info import Action, AffectedOption, DBInfo, SchemaDiff, TableInfo
from sqlfront.catalog.jobs import CANCELLED, SYNCED, Job, running_jobs
from sqlfront.catalog.meta import BOOTSTRAP, DELETE_RANGES, ROW_COUNTS, SCHEMA_VERSION, STATS, Meta, MetaReader
from sqlfront.catalog.model import SYSTEM_DATABASE, Database, Schema, Table, make_database, make_table
from sqlfront.catalog.partitions import definitions

if TYPE_CHECKING:
    from kvstore.client.api import CancelToken, CommitCheck, LocalStorage, Reader, Storage, Transaction
    from sqlfront.threads import Mutex

BOOTSTRAP_VERSION = 1
DEFAULT_DATABASE = "test"
INFORMATION_SCHEMA = "information_schema"
_INFORMATION_SCHEMA_ID = -1

KeyRange = tuple[bytes, bytes]
_T = TypeVar("_T")


class SchemaChange:
    """One schema change in progress: its meta transaction and the databases of the schema that it makes."""

    def __init__(
        self, meta: Meta, base: Schema, version: int, table_of: Callable[[TableInfo, DBInfo], Table] = make_table
    ) -> None:
        self.meta = meta
        self._table_of = table_of
        self.base = base
        self.version = version
        self.databases: dict[str, Database] = dict(base.databases)
        self.diff = SchemaDiff(version=version)
        self.is_step = False
        """Whether it is one version of a job that keeps a record of its own, or ends one."""

    def describe(
        self, action: Action, db_id: int, table_id: int = 0, old_table_id: int = 0, old_db_id: int = 0
    ) -> None:
        """Says in the Diff what this version changes; each call after the first adds an affected table."""
        if self.diff.action:
            self.diff.affected_options.append(
                AffectedOption(
                    schema_id=db_id, table_id=table_id, old_table_id=old_table_id, old_schema_id=old_db_id or db_id
                )
            )
            return
        self.diff.action, self.diff.schema_id, self.diff.table_id = int(action), db_id, table_id
        self.diff.old_table_id, self.diff.old_schema_id = old_table_id, old_db_id

    def go_on(self, job: Job) -> None:
        """Stores the record of a job that this version is a step of."""
        self.is_step = True
        job.put(self.meta)

    def end_job(self, job: Job, state: str = SYNCED) -> None:
        """Has this version be the last of a job."""
        self.is_step = True
        job.end(self.meta, state)

    def note(self, query: str, server: str) -> None:
        """Remembers a change of one version."""
        diff, databases = self.diff, (*self.databases.values(), *self.base.databases.values())
        db = next((d for d in databases if d.id == diff.schema_id), None)
        ids = (diff.table_id, diff.old_table_id)
        table = next((t for d in databases for t in d.tables.values() if t.id in ids), None)
        job = Job(self.meta.new_id(), diff.action, diff.schema_id, diff.table_id)
        job.db, job.table = "" if db is None else db.name, "" if table is None else table.name
        job.query, job.server = query, server
        job.remember(self.meta)

    def put_database(self, info: DBInfo) -> None:
        self.meta.put_database(info)
        old = self.databases.get(info.name.lower())
        self.databases[info.name.lower()] = make_database(info, () if old is None else old.tables.values())

    def drop_database(self, database: Database) -> None:
        for table in database.tables.values():
            if table.view is None:
                self.drop_stored(table)
        self.meta.drop_database(database.id)
        del self.databases[database.name.lower()]

    def put_table(self, database: Database, info: TableInfo, *, writers: bool = True) -> Table:
        """Stores a table and makes it part of the new schema. `writers` False: what writers maintain is as before."""
        if writers:
            info.revision = self.version
        info.update_timestamp = self.meta.txn.start_ts
        for definition in definitions(info):
            definition["id"] = definition["id"] or self.meta.new_id()
        self.meta.put_table(database.id, info)
        table = self._table_of(info, database.info)
        self._replace(database.name, add=table, remove_id=info.id)
        return table

    def drop_table(self, database: Database, table: Table, *, keep_data: bool = False) -> None:
        """Takes a table out; its key ranges are destroyed later, unless it lives on in another database."""
        if not keep_data:
            self.drop_stored(table)
        self.meta.drop_table(database.id, table.id)
        self._replace(database.name, remove_id=table.id)

    def drop_stored(self, table: Table) -> None:
        from coprocessor.codec.keys import table_range

        for part in table.physical:
            self.drop_range(table_range(part.id))
        self.meta.drop_auto_ids(auto_id_database(table), table.id)
        for job in running_jobs(self.meta):
            if job.table_id == table.id and job.copy_id:
                # A load that was to be resumed has nothing to go on with.
                job.end(self.meta, CANCELLED)
                self.drop_range(job.copy_range())

    def drop_range(self, key_range: KeyRange) -> None:
        """Records a key range that nothing refers to any more."""
        start, end = key_range
        range_id = self.meta.new_id()
        self.meta.put_json(DELETE_RANGES, range_id, {"start": start.hex(), "end": end.hex()})

    def _replace(self, db: str, *, remove_id: int, add: Table | None = None) -> None:
        database = self.databases[db.lower()]
        tables = [t for t in database.tables.values() if t.id != remove_id]
        if add is not None:
            tables.append(add)
        self.databases[db.lower()] = make_database(database.info, tables)


def auto_id_database(table: Table) -> int:
    """The database under whose hash the counters of a table are: where it was created."""
    return table.info.old_schema_id or table.db_id


class Catalog(ABC):
    """The schema of one storage. Any thread may use it. `SharedCatalog` is the one that several servers have."""

    hides_first = False
    """Whether readers leave an index one version before writers do, because they may go on by the version before."""
    server = ""
    """Where this is, for the history."""
    self_id = "1"
    """What tells this server from the others of its cluster."""
    columnar_default = True
    """Whether tables that nobody said anything about have a columnar replica."""

    def __init__(self, storage: Storage, ddl_mutex: Mutex) -> None:
        self.storage = storage
        self.ddl_mutex = ddl_mutex
        """Held by who changes the schema: re-entrant."""
        self._schema = Schema(0, MappingProxyType({}))
        self.query = ""
        """The statement that changes the schema, for the history."""
        self.priority = ""
        """Its `tidb_ddl_reorg_priority`."""
        self.key_checks = True
        """Its `foreign_key_checks`."""
        self.listeners: list[Callable[[Schema, Schema], None]] = []
        """Called after a change with the schema before and after; they must not raise."""

    @property
    def schema(self) -> Schema:
        """The current schema."""
        return self._schema

    def columnar_servers(self) -> int:
        """How many columnar replicas there can be of a table."""
        return 1

    @abstractmethod
    def building(self, job: Job) -> AbstractContextManager[IndexBuild]:
        """Begins the build of a job's new indexes, before they are announced; ends with the block."""

    @abstractmethod
    def closing(self, table: Table, cancel: CancelToken | None) -> AbstractContextManager[object]:
        """Lets no writer of the table commit in the block; readers go on."""

    def owner(self, meta: MetaReader) -> tuple[str, str]:
        """Who changes the schema now: its id, and where it is; both "" when nobody does."""
        return self.self_id, self.server

    def was_finished(self, job: Job) -> bool:
        """Whether another server, which took this one for dead, has carried the job out; waits for its end."""
        return False

    def table_of(self, info: TableInfo, db: DBInfo) -> Table:
        return make_table(info, db, columnar_default=self.columnar_default)

    @property
    def is_new(self) -> bool:
        """Whether nothing has been made in this storage yet."""
        return self.storage.get_latest(_bootstrap_key()) is None

    def reload(self) -> Schema:
        """Reads the whole schema from the store."""
        with self.ddl_mutex:
            self._schema = self._read(MetaReader(self.storage.snapshot()))
            return self._schema

    def _read(self, meta: MetaReader) -> Schema:
        databases = {}
        for info in meta.databases():
            tables = [self.table_of(t, info) for t in meta.tables(info.id)]
            databases[info.name.lower()] = make_database(info, tables)
        return Schema(meta.schema_version(), MappingProxyType(_with_virtual(databases)))

    def change(self, apply: Callable[[SchemaChange], None]) -> Schema:
        """Makes the next schema version: `apply` changes the objects, the commit puts it in place.

        What `apply` raises leaves nothing behind.
        """
        with self.ddl_mutex:
            before = self._schema
            txn = self.storage.begin(pessimistic=False)
            try:
                meta = Meta(txn)
                change = SchemaChange(meta, before, meta.increment(SCHEMA_VERSION), self.table_of)
                apply(change)
                if not change.is_step:
                    change.note(self.query, self.server)
                meta.put_diff(change.diff)
                after = Schema(change.version, MappingProxyType(_with_virtual(change.databases)))
                self._make(txn, before, after)
            except BaseException:
                with suppress(Exception):
                    txn.rollback()
                raise
            for listener in self.listeners:
                listener(before, after)
            return after

    @abstractmethod
    def _make(self, txn: Transaction, before: Schema, after: Schema) -> None:
        """Commits the transaction of a change and puts the new schema in place."""

    def commit_with(self, used: Mapping[int, int], commit: Callable[[CommitCheck], _T]) -> _T:
        """Runs `commit` of a transaction that wrote tables (by id) at these revisions, with the check that it needs."""
        return commit(lambda commit_ts: self.check_revisions(used))

    @abstractmethod
    def snapshot(self, schema: Schema, read: ReadFrom = ReadFrom.LEADER) -> Reader:
        """A fresh snapshot for a statement that is bound to `schema`; `read` says which copies may answer."""

    @abstractmethod
    def cover(self, ts: int) -> None:
        """Makes sure that the current schema is not older than that of `ts`, which was just drawn."""

    @abstractmethod
    def check_read(self, schema: Schema, ts: int) -> None:
        """Raises CommitRejected unless `schema`, to which a statement is bound, is that of `ts`, at which it reads."""

    def check_revisions(self, used: Mapping[int, int]) -> None:
        """Raises CommitRejected when a table (by id) no longer has the revision at which it was written."""
        tables = self._schema.table_by_id
        for table_id, revision in used.items():
            table = tables.get(table_id)
            if table is None or table.revision != revision:
                what = f"table id {table_id}" if table is None else f"table '{table.db}.{table.name}'"
                raise CommitRejected(f"Information schema is changed during the execution of the statement ({what})")

    def pending_ranges(self) -> list[KeyRange]:
        """The key ranges of dropped objects that are still there."""
        return list(_stored_ranges(self.storage.snapshot()).values())

    def collect_ranges(self, oldest_ts: int) -> int:
        """Destroys the key ranges that were dropped before every reader at or above `oldest_ts`; returns how many.

        The caller knows that nobody reads at an older timestamp: the least start_ts of the running statements and
        transactions, or the GC safe point. Safe to run at any time and again after a crash.
        """
        there = _stored_ranges(self.storage.snapshot())
        if not there:
            return 0
        # Who sees the record of a drop sees the drop.
        seen = _stored_ranges(self.storage.snapshot(min(oldest_ts, self.storage.now_ts())))
        ready = there.keys() & seen.keys()
        for range_id in sorted(ready):
            self.storage.destroy_range(*there[range_id])
            txn = self.storage.begin(pessimistic=False)
            Meta(txn).delete_json(DELETE_RANGES, range_id)
            txn.commit()
        return len(ready)

    def forget_dead_statistics(self) -> None:
        """Removes the statistics of tables that are gone: a killed process did not come to it."""
        reader = MetaReader(self.storage.snapshot())
        known = self._schema.table_by_id
        hashes = (STATS, ROW_COUNTS)
        dead = [(key, int(field)) for key in hashes for field, _ in reader.hash_fields(key) if int(field) not in known]
        if not dead:
            return
        txn = self.storage.begin(pessimistic=False)
        meta = Meta(txn)
        for key, table_id in dead:
            meta.delete_json(key, table_id)
        txn.commit()

    @abstractmethod
    def close(self) -> None:
        """Ends what goes on in the background."""


class LocalCatalog(Catalog):
    """The schema of a storage that is this process's own."""

    storage: LocalStorage

    def __init__(self, storage: LocalStorage) -> None:
        super().__init__(storage, threading.RLock())
        self._index_watch: IndexWatch | None = None
        self._switching = False
        """Whether a change may have drawn its timestamp and not put its schema in place yet."""
        self._open()

    def _open(self) -> None:
        from sqlfront.catalog.online import roll_back_unfinished

        if self.is_new:
            self.change(bootstrap)
        else:
            self.reload()
        self.forget_dead_statistics()
        roll_back_unfinished(self)
        # One process owns the directory and has just opened it: nobody reads yet.
        self.collect_ranges(TS_MAX)

    @contextmanager
    def building(self, job: Job) -> Iterator[IndexBuild]:
        if self._index_watch is None:
            self._index_watch = IndexWatch()
            self.storage.observe(self._index_watch)
        table = self._schema.table_by_id[job.table_id]
        with self._index_watch.follow([part.id for part in table.physical], job.indexes) as touched:
            yield LocalBuild(self.storage, touched)

    @contextmanager
    def closing(self, table: Table, cancel: CancelToken | None) -> Iterator[None]:
        from coprocessor.codec.keys import table_range

        with ExitStack() as stack:
            for part in table.physical:
                closed = self.storage.ingest(*table_range(part.id), cancel=cancel)
                stack.callback(closed.abort)
            yield

    def _make(self, txn: Transaction, before: Schema, after: Schema) -> None:
        self._switching = True
        try:
            txn.commit(lambda commit_ts: self._put_in_place(after))
        except BaseException:
            self._schema = before
            raise
        finally:
            self._switching = False

    def _put_in_place(self, schema: Schema) -> None:
        self._schema = schema

    def snapshot(self, schema: Schema, read: ReadFrom = ReadFrom.LEADER) -> Reader:
        reader = self.storage.snapshot(read=read)
        self.check_read(schema, reader.ts)
        return reader

    def cover(self, ts: int) -> None:
        if self._switching:
            self.storage.wait_until(ts)

    def check_read(self, schema: Schema, ts: int) -> None:
        self.cover(ts)
        if schema is not self._schema:
            raise CommitRejected("Information schema is changed during the execution of the statement")

    def close(self) -> None:
        """Nothing goes on."""


def _stored_ranges(reader: Reader) -> dict[int, KeyRange]:
    """The ranges of dropped objects, by their records' ids."""
    found = MetaReader(reader).json_fields(DELETE_RANGES)
    return {i: (bytes.fromhex(record["start"]), bytes.fromhex(record["end"])) for i, record in found.items()}


def _bootstrap_key() -> bytes:
    from sqlfront.catalog.meta import string_key

    return string_key(BOOTSTRAP)


def bootstrap(change: SchemaChange) -> None:
    change.is_step = True  # of making the database: nothing to remember
    for name in (SYSTEM_DATABASE, DEFAULT_DATABASE):
        info = DBInfo(id=change.meta.new_id(), name=name)
        change.put_database(info)
        change.describe(Action.CREATE_SCHEMA, info.id)
    change.meta.set_string(BOOTSTRAP, b"%d" % BOOTSTRAP_VERSION)


def _with_virtual(databases: Mapping[str, Database]) -> dict[str, Database]:
    """Adds the databases whose tables are computed."""
    if INFORMATION_SCHEMA in databases:
        return dict(databases)
    info = DBInfo(id=_INFORMATION_SCHEMA_ID, name=INFORMATION_SCHEMA)
    return {**databases, INFORMATION_SCHEMA: make_database(info, (), virtual=True)}
