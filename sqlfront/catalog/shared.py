"""The catalog of one SQL server among several: the schema as it is stored, under a lease.

`schema` waits while a switch goes on (see `lease`) and refuses to answer without a lease. The owner makes changes;
the others take it in by its Diff, reading again only what it names.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, TypeVar

from kvstore.client.api import ReadFrom
from kvstore.errors import CommitRejected, KvError, NoColumnarRules
from sqlfront.catalog.backfill import IndexBuild
from sqlfront.catalog.catalog import INFORMATION_SCHEMA, Catalog, SchemaChange, bootstrap
from sqlfront.catalog.info import Action, SchemaDiff
from sqlfront.catalog.jobs import SYNCED, Job, past_jobs, running_jobs
from sqlfront.catalog.lease import POLL_S, SchemaLease
from sqlfront.catalog.meta import MetaReader
from sqlfront.catalog.model import CLOSED, Database, Schema, Table, make_database
from sqlfront.catalog.online import go_on_with_unfinished
from sqlfront.catalog.shared_build import SharedBuild
from sqlfront.errors import error
from sqlfront.threads import OS_THREADS, Threads

if TYPE_CHECKING:
    from kvstore.client.api import CancelToken, CommitCheck, Reader, SharedStorage, Transaction

_T = TypeVar("_T")
COPY_WAIT_S = 50.0
DIFFS_MAX = 256
"""A server that is further behind reads the whole schema."""
_OF_DATABASES = frozenset({Action.CREATE_SCHEMA, Action.DROP_SCHEMA})


class SharedCatalog(Catalog):
    """The schema that this server has of a storage that several share."""

    columnar_default = False
    hides_first = True
    storage: SharedStorage

    def __init__(
        self,
        storage: SharedStorage,
        threads: Threads = OS_THREADS,
        server_id: int | None = None,
    ) -> None:
        self._threads = threads
        self._taking_in = threads.mutex()
        """Held to put a schema in place: an older one never follows a newer one."""
        self.lease = SchemaLease(storage, self._advance, storage.oldest_ts, threads, server_id)
        super().__init__(storage, _Ownership(self.lease, self._finish_jobs))
        self.server = self.lease.where
        self.self_id = f"{self.lease.server_id:x}"
        self.lease.on_orphans = self._go_on
        self.lease.join()
        try:
            if self.is_new:
                with self.ddl_mutex:
                    if self.is_new:
                        self.change(bootstrap)
        except BaseException:
            self.lease.leave()
            raise

    @property
    def schema(self) -> Schema:
        if not self.lease.is_settled and not self.lease.is_mine:
            self.lease.settle()
        return self._schema

    def owner(self, meta: MetaReader) -> tuple[str, str]:
        held = self.lease.owner(meta)
        return ("", "") if held is None else (f"{held['server']:x}", held["where"])

    def columnar_servers(self) -> int:
        try:
            return self.storage.columnar_servers()
        except NoColumnarRules as exc:
            raise error(8200, str(exc)) from exc

    def close(self) -> None:
        self.lease.leave()

    def snapshot(self, schema: Schema, read: ReadFrom = ReadFrom.LEADER) -> Reader:
        return self.storage.snapshot(read=read, check=lambda ts: self.check_read(schema, ts))

    def cover(self, ts: int) -> None:
        self.lease.cover(ts)

    def check_read(self, schema: Schema, ts: int) -> None:
        # Only then is no switch at or before `ts` unknown here: what the statement reads is what it was bound to.
        if schema is not self._schema or not self.lease.covers(ts):
            raise CommitRejected("Information schema is changed during the execution of the statement")

    def commit_with(self, used: Mapping[int, int], commit: Callable[[CommitCheck], _T]) -> _T:
        self._wait_until_open(used)
        with self.lease.committing(used) as check_lease:

            def check(commit_ts: int) -> None:
                check_lease(commit_ts)
                self.check_revisions(used)

            return commit(check)

    def _wait_until_open(self, tables: Collection[int]) -> None:
        """Waits for the end of the copy of a table."""
        until = self._threads.monotonic() + COPY_WAIT_S
        while any(table is not None and table.closed for table in map(self._schema.table_by_id.get, tables)):
            if self._threads.monotonic() > until:
                raise CommitRejected("Information schema is changed during the execution of the statement: a copy")
            self._threads.sleep(POLL_S / 2)

    # Changes by this server

    def change(self, apply: Callable[[SchemaChange], None]) -> Schema:
        with self.ddl_mutex:
            # A step before this one may have been made after all, though nobody could say so at the time.
            self._advance()
            return super().change(apply)

    def _make(self, txn: Transaction, before: Schema, after: Schema) -> None:
        if after.version != before.version + 1:
            raise CommitRejected(f"schema version {before.version} was changed by another server")
        affected = _affected(before, after)
        _, interrupt = self.lease.switch(affected, after.version, txn.commit)
        with self._taking_in:
            if after.version > self._schema.version:
                self._schema = after
        self.lease.made(after.version)
        if interrupt is not None:
            raise interrupt

    @contextmanager
    def building(self, job: Job) -> Iterator[IndexBuild]:
        build = SharedBuild(self.storage, job, self._threads)
        try:
            yield build
        finally:
            with suppress(KvError):  # it ends by itself
                build.close()

    @contextmanager
    def closing(self, table: Table, cancel: CancelToken | None) -> Iterator[None]:
        def close(change: SchemaChange) -> None:
            change.is_step = True
            info = table.info.copy()
            info.extra[CLOSED] = True
            change.describe(Action.MODIFY_TABLE_COMMENT, table.db_id, table.id)
            change.put_table(change.databases[table.db.lower()], info)

        self.change(close)
        # Whoever leaves the table as it was opens it again, in the version that says so: `rewrite`.
        yield

    def was_finished(self, job: Job) -> bool:
        until = self._threads.monotonic() + COPY_WAIT_S
        while not self.lease.owns and self._threads.monotonic() < until:
            meta = MetaReader(self.storage.snapshot())
            if any(running.id == job.id for running in running_jobs(meta)):
                self._threads.sleep(POLL_S)
                continue
            self._advance()
            return any(past.id == job.id and past.state == SYNCED for past in past_jobs(meta))
        return False

    def _go_on(self) -> None:
        """Takes over from an owner that died."""
        if self.ddl_mutex.acquire(timeout=0):
            self.ddl_mutex.release()

    def _finish_jobs(self) -> None:
        """What every new owner does first: the record of a job has the table as it is to be in the end, so nothing
        else may change before. Raises KvError when a job can be neither finished nor undone now."""
        go_on_with_unfinished(self)

    # Changes by others

    def _advance(self) -> int:
        """Takes in the stored schema; returns its version."""
        with self._taking_in:
            before = self._schema
            meta = MetaReader(self.storage.snapshot())
            version = meta.schema_version()
            if version == before.version:
                return version
            names = self._touched(meta, before.version, version)
            after = self._read(meta) if names is None else self._patched(meta, before, version, names)
            self._schema = after
        for listener in self.listeners:
            listener(before, after)
        return version

    def _touched(self, meta: MetaReader, known: int, version: int) -> dict[int, set[int] | None] | None:
        """The ids of tables by those of their databases (None: the whole database) that changed since `known`; None
        when that cannot be told."""
        if not known or not known < version <= known + DIFFS_MAX:
            return None
        out: dict[int, set[int] | None] = {}
        for number in range(known + 1, version + 1):
            diff = meta.diff(number)
            if diff is None:
                return None
            _note(out, diff)
        return out

    def _patched(
        self, meta: MetaReader, before: Schema, version: int, touched: Mapping[int, set[int] | None]
    ) -> Schema:
        """The schema before, with what is touched read again."""
        by_id = {d.id: d for d in before.databases.values() if not d.virtual}
        for db_id, table_ids in touched.items():
            info = meta.database(db_id)
            if info is None:
                by_id.pop(db_id, None)
                continue
            old = by_id.get(db_id)
            if table_ids is None or old is None:
                tables = [self.table_of(t, info) for t in meta.tables(db_id)]
            else:
                tables = [t for t in old.tables.values() if t.id not in table_ids]
                found = [meta.table(db_id, table_id) for table_id in table_ids]
                tables += [self.table_of(t, info) for t in found if t is not None]
            by_id[db_id] = make_database(info, tables)
        databases: dict[str, Database] = {d.name.lower(): d for d in by_id.values()}
        virtual = before.databases.get(INFORMATION_SCHEMA)
        if virtual is not None:
            databases[INFORMATION_SCHEMA] = virtual
        return Schema(version, MappingProxyType(databases))


def _note(out: dict[int, set[int] | None], diff: SchemaDiff) -> None:
    """Adds what a Diff says to have changed."""
    places = [(diff.schema_id, diff.table_id), (diff.schema_id, diff.old_table_id)]
    if diff.old_schema_id:
        places += [(diff.old_schema_id, diff.table_id), (diff.old_schema_id, diff.old_table_id)]
    for option in diff.affected_options or ():
        places += [(option.schema_id, option.table_id), (option.schema_id, option.old_table_id)]
        if option.old_schema_id:
            places += [(option.old_schema_id, option.table_id), (option.old_schema_id, option.old_table_id)]
    whole = diff.action in _OF_DATABASES
    for db_id, table_id in places:
        known = out.setdefault(db_id, set())
        if whole or not table_id:
            if whole:
                out[db_id] = None
        elif known is not None:
            known.add(table_id)


def _affected(before: Schema, after: Schema) -> frozenset[int]:
    """The tables that writers have to treat otherwise from this version on, or that are gone."""
    now = after.table_by_id

    def same(old: Table) -> bool:
        new = now.get(old.id)
        return new is not None and (new.revision, new.name, new.db_id) == (old.revision, old.name, old.db_id)

    return frozenset(table_id for table_id, old in before.table_by_id.items() if not same(old))


class _Ownership:
    """The owner's place in the cluster, as a lock. `begin` runs first whenever this server becomes the owner."""

    def __init__(self, lease: SchemaLease, begin: Callable[[], None]) -> None:
        self._lease = lease
        self._begin = begin
        self._held = threading.local()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        stack = ExitStack()
        entered: AbstractContextManager[bool] = self._lease.owning(
            None if timeout < 0 and blocking else max(timeout, 0)
        )
        if not stack.enter_context(entered):
            return False
        stacks: list[ExitStack] = self._held.__dict__.setdefault("stacks", [])
        stacks.append(stack)
        if len(stacks) == 1:
            try:
                self._begin()
            except BaseException:
                self.release()
                raise
        return True

    def release(self) -> None:
        self._held.stacks.pop().close()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
