"""A database: one store and everything that all its sessions share. The composition root of a SQL server.

Connections of one process to one directory, or to one cluster, share one `Database`; the last to close it closes the
store.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from coprocessor.quota import Holdings
from kvstore.client.embedded import EmbeddedStore
from kvstore.errors import StoreError
from pd.oracle import LocalOracle
from sqlfront.catalog.autoid import AutoIds
from sqlfront.catalog.catalog import Catalog, LocalCatalog
from sqlfront.catalog.model import TEMPORARY_ID_MIN
from sqlfront.catalog.stats import Statistics
from sqlfront.columnar import Columnar, NoReplicas, Replicas
from sqlfront.errors import OperationalError, unsupported
from sqlfront.threads import OS_THREADS, Threads
from sqlfront.user_locks import UserLocks
from sqlfront.variables import GlobalVariables, memory_limit

if TYPE_CHECKING:
    from coprocessor.duck import DuckEngine
    from coprocessor.segments import SegmentCache
    from kvstore.client.api import LocalStorage, Storage
    from sqlfront.catalog.model import Table
    from sqlfront.catalog.replica_status import ReplicaStatus
    from sqlfront.cluster import ClusterTarget
    from sqlfront.session import Session

# Binding, planning and evaluating recurse over expressions, some ten frames a level. Since 3.11 Python's own frames
# take nothing from the C stack, so the limit may be raised for the whole process; it is never lowered.
PYTHON_FRAMES_MIN = 12_000

_open: dict[str, Database] = {}
_open_mutex = threading.Lock()


class Duty(Protocol):
    """Something that a server does beside its sessions."""

    def close(self) -> None: ...


class Database:
    """One open database."""

    def __init__(
        self,
        path: str | None,
        storage: Storage,
        catalog: Catalog,
        local: LocalStorage | None,
        threads: Threads = OS_THREADS,
    ) -> None:
        """`local` is the storage when it is in this process; `path` its directory, None in memory and for a cluster."""
        sys.setrecursionlimit(max(sys.getrecursionlimit(), PYTHON_FRAMES_MIN))
        self.path = path
        self.storage = storage
        self.local = local
        self.catalog = catalog
        self.globals = GlobalVariables()
        self.user_locks = UserLocks(storage if local is None else None, threads)
        self.autoids = AutoIds(storage, threads)
        self.statistics = Statistics(storage, threads)
        self.sessions: dict[int, Session] = {}
        self._temporary: dict[int, Table] = {}
        """The temporary tables of all sessions, by their ids."""
        self._temporary_ids = itertools.count(TEMPORARY_ID_MIN)
        self._references = 1
        self._mutex = threading.RLock()
        self._next_session = 0
        self._segments: SegmentCache | None = None
        self._duck: DuckEngine | None = None
        self.holdings = Holdings(memory_limit(str(self.globals.get("tidb_server_memory_limit"))), self._leave_duck)
        """What executions hold besides DuckDB."""
        self._closed = False
        self._key: str | None = None
        self.duties: list[Duty] = []
        """What runs beside the sessions, and ends before the catalog does."""
        self.columnar: Replicas = NoReplicas() if local is None else Columnar(self, local)
        """A cluster's are put in its place (`sqlfront.cluster`)."""
        self.globals.on_change("tidb_gc_life_time", self._set_gc_life)
        self.globals.on_change("tidb_gc_enable", self._set_gc_enable)
        self.globals.on_change("tidb_server_memory_limit", self._set_memory_limit)

    @classmethod
    def open(cls, path: str | None, *, synchronous: bool = True) -> Database:
        """Opens the database at `path`, or joins it if this process has it open; None is a new one in memory."""
        key = None if path is None else os.path.realpath(path)
        return cls._join(key, lambda: cls._start(key, synchronous))

    @classmethod
    def connect(cls, target: ClusterTarget) -> Database:
        """Becomes a SQL server of a cluster, or joins the one that this process has."""
        from sqlfront.cluster import start_server

        return cls._join(target.key, lambda: start_server(target))

    @classmethod
    def _join(cls, key: str | None, start: Callable[[], Database]) -> Database:
        if key is None:
            return start()
        with _open_mutex:
            known = _open.get(key)
            if known is not None:
                known._references += 1
                return known
            database = _open[key] = start()
            database._key = key
            return database

    @classmethod
    def _start(cls, path: str | None, synchronous: bool) -> Database:
        storage = _open_store(path, synchronous)
        try:
            return cls(path, storage, LocalCatalog(storage), storage)
        except BaseException:  # a catalog that cannot be read must not keep the directory
            storage.close()
            raise

    def session(self) -> Session:
        """Starts a session."""
        from sqlfront.session import Session

        with self._mutex:
            self._next_session += 1
            number = self._next_session
        session = Session(self, number)  # waits for the schema while a switch is on
        self.sessions[session.id] = session
        return session

    def forget(self, session: Session) -> None:
        self.sessions.pop(session.id, None)

    @property
    def segments(self) -> SegmentCache | None:
        """Decoded segments of scanned tables, made when the first scan wants them.

        None for a cluster, whose commits nobody here is told of.
        """
        if self._segments is None and self.local is not None:
            with self._mutex:
                if self._segments is None:
                    from coprocessor.segments import SegmentCache

                    self._segments = SegmentCache(self.local)
        return self._segments

    @property
    def duck(self) -> DuckEngine:
        """The DuckDB instance of the residual, made when the first query wants it."""
        if self._duck is None:
            with self._mutex:
                if self._duck is None:
                    from coprocessor.duck import DuckEngine

                    spill = None if self.path is None else os.path.join(self.path, "spill")
                    self._duck = DuckEngine(spill)
        return self._duck

    def find_table(self, table_id: int) -> Table | None:
        """The table of an id, to name it in messages."""
        return self._temporary.get(table_id) or self.catalog.schema.table_by_id.get(table_id)

    def new_temporary_id(self) -> int:
        return next(self._temporary_ids)

    def note_temporary(self, table: Table) -> None:
        """Takes note of a temporary table that a session has made, which is empty."""
        self._temporary[table.id] = table
        self.statistics.set_rows(table.id, 0)

    def forget_temporary(self, table: Table) -> None:
        """Drops what is kept of a temporary table that is gone."""
        self._temporary.pop(table.id, None)
        self.autoids.forget(table.id)
        self.statistics.forget(table.id)

    def replica_status(self, table: Table) -> ReplicaStatus | None:
        """How far the table's columnar replica is; None when there is none."""
        if not table.parts:
            return self.columnar.status(table)
        from sqlfront.catalog.replica_status import joined

        found = [status for part in table.parts if (status := self.columnar.status(part)) is not None]
        return joined(found) if len(found) == len(table.parts) else None

    def kill(self, session_id: int, *, connection: bool) -> bool:
        """Interrupts another session's statement, and with `connection` its session; False when there is none."""
        session = self.sessions.get(session_id)
        if session is None:
            return False
        session.interrupt()
        if connection:
            session.killed = True
            session.user_locks.close()
        return True

    def forget_plans(self) -> None:
        """Makes every session plan its statements anew: statistics have changed."""
        for session in list(self.sessions.values()):
            session.plans_stale = True

    def collect_garbage(self) -> dict[str, int]:
        """Removes the versions that nobody can read any more; returns counters."""
        counters = self.storage.gc()
        counters["dropped_ranges"] = self.catalog.collect_ranges(counters["safe_point"])
        return counters

    def stats(self) -> dict[str, Any]:
        return self.storage.stats()

    def _set_gc_life(self, value: object) -> None:
        from sqlfront.variables import duration_ms

        self.storage.gc_life_ms = duration_ms(str(value))

    def _set_gc_enable(self, value: object) -> None:
        if not value and self.local is not None:
            raise unsupported("tidb_gc_enable = OFF in an embedded database")

    def _set_memory_limit(self, value: object) -> None:
        self.holdings.set_limit(memory_limit(str(value)))

    def _leave_duck(self, limit: int | None) -> None:
        self.duck.limit_memory(limit)

    def close(self) -> None:
        """Drops one reference; the last one closes the store."""
        with _open_mutex:
            self._references -= 1
            if self._references > 0 or self._closed:
                return
            self._closed = True
            if self._key is not None and _open.get(self._key) is self:
                del _open[self._key]
            # Still under the mutex: whoever opens the path next must find the directory let go.
            self._shut()

    def _shut(self) -> None:
        """Closes everything, the store last; whatever fails on the way, the directory is let go."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.storage.close)
            # On a store that stopped (a full disk), what these would save is lost: estimates, and unused ids.
            stack.callback(_unless_stopped, self.statistics.close)
            stack.callback(_unless_stopped, self.catalog.close)
            stack.callback(_unless_stopped, self.autoids.close)
            for duty in self.duties:
                stack.callback(duty.close)
            if self._duck is not None:
                stack.callback(self._duck.close)
            stack.callback(self.columnar.close)
            for session in list(self.sessions.values()):
                stack.callback(session.close)


def _unless_stopped(close: Callable[[], None]) -> None:
    with contextlib.suppress(StoreError):
        close()


def _open_store(path: str | None, synchronous: bool) -> EmbeddedStore:
    if path is not None and os.path.isfile(path):
        raise OperationalError(f"{path!r} is a file; a database is a directory", 1105)
    return EmbeddedStore.open(path, LocalOracle, synchronous=synchronous)
