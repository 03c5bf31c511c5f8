"""PEP 249: `connect`, connections. Cursors are in `cursor.py`, parameters in `parameters.py`, bulk load in `load.py`.

`connect` opens (or joins, within the process) the database behind a path and gives the connection a session of its
own. Unless `autocommit` is on, the first statement begins a transaction, and DDL commits what is open, as in MySQL.

As a context manager a connection commits, or rolls back when the block raises, and then **closes** (psycopg 3's way):
the directory belongs to one process, so a script that is done with it should let go of it.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import datetime as dt
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from sqlfront import errors
from sqlfront.cursor import Cursor
from sqlfront.errors import Error, InterfaceError
from sqlfront.parameters import Params

if TYPE_CHECKING:
    from sqlfront.cluster import ClusterTarget
    from sqlfront.database import Database
    from sqlfront.session import Session

apilevel = "2.0"
threadsafety = 1
paramstyle = "qmark"

MEMORY = ":memory:"
DEFAULT_DATABASE = "test"
SCHEME = "sqlfront"
CLUSTER_SCHEME = "tikv"
_SERVER_SCHEMES = frozenset({"mysql", "mysql+pymysql", "tidb", "grpc", "flight"})
_SWITCH = {"1": True, "on": True, "true": True, "yes": True, "0": False, "off": False, "false": False, "no": False}

_T = TypeVar("_T")


def connect(
    path: str | os.PathLike[str] = MEMORY,
    *,
    autocommit: bool = False,
    synchronous: bool = True,
    database: str = DEFAULT_DATABASE,
) -> Connection:
    """Opens a connection to a database directory (made if it is missing), or to a new private one in memory.

    `path` is a path, ":memory:", or a URL: `sqlfront:///srv/shop.db?database=shop&autocommit=on&synchronous=off`, or
    `tikv://pd1:2379,pd2:2379/shop?autocommit=on` for a cluster (TLS: `&ca=ca.pem&cert=cert.pem&key=key.pem`), of which
    this process becomes a SQL server.
    `synchronous=False` acknowledges a commit before it is on the disk: a power cut may lose the last ones, never tear
    one. Connections to one directory within a process share its store. Raises OperationalError when another process
    owns it.
    """
    options: dict[str, Any] = {"autocommit": autocommit, "synchronous": synchronous, "database": database}
    where = read_target(os.fspath(path), options)
    from sqlfront.database import Database

    if isinstance(where, str) or where is None:
        store = _translated(lambda: Database.open(where, synchronous=options["synchronous"]))
    else:
        store = _translated(lambda: Database.connect(where))
    try:
        session = _translated(store.session)
    except BaseException:
        store.close()
        raise
    connection = Connection(store, session)
    try:
        if options["database"]:
            connection._call(lambda: session.use(options["database"]))
        connection.autocommit = options["autocommit"]
    except BaseException:
        connection.close()
        raise
    return connection


def read_target(target: str, options: dict[str, Any]) -> str | ClusterTarget | None:
    """Returns the directory or cluster that `target` names, None for memory; a URL's query goes into `options`."""
    if target == MEMORY or not target:
        if not target:
            raise InterfaceError("the path of the database is empty; ':memory:' is a private one in memory")
        return None
    scheme, colon, _ = target.partition(":")
    if not colon or len(scheme) < 2 or not scheme.replace("+", "").isalnum():
        return target
    if scheme == CLUSTER_SCHEME:
        return _cluster(target, options)
    if scheme in _SERVER_SCHEMES:
        raise InterfaceError(f"{scheme}:// cannot be opened: this version opens directories and clusters (tikv://)")
    if scheme != SCHEME:
        if target.startswith(f"{scheme}://"):
            raise InterfaceError(f"unknown scheme {scheme!r}; a database URL is sqlfront:///path")
        return target
    return _from_url(target, options)


def _from_url(url: str, options: dict[str, Any]) -> str | None:
    parts = urlsplit(url)
    if parts.netloc:
        raise InterfaceError(
            f"{url!r} names the host {parts.netloc!r}; this version opens local directories only: sqlfront:///path"
        )
    _read_options(url, parts.query, options)
    path = unquote(parts.path)
    if path in (MEMORY, f"/{MEMORY}"):
        return None
    if not path or path == "/":
        raise InterfaceError(f"{url!r} names no path")
    return path


def _read_options(url: str, query: str, options: dict[str, Any], texts: Sequence[str] = ()) -> dict[str, str]:
    """Puts a URL's query into `options`; returns those of `texts`."""
    found = {}
    for name, value in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)):
        if name in texts:
            found[name] = value
        elif name not in options:
            raise InterfaceError(f"unknown option {name!r} in {url!r}{errors.near_match(name, [*options, *texts])}")
        elif name == "database":
            options[name] = value
        elif value.lower() not in _SWITCH:
            raise InterfaceError(f"option {name!r} in {url!r} is on or off, not {value!r}")
        else:
            options[name] = _SWITCH[value.lower()]
    return found


def _cluster(url: str, options: dict[str, Any]) -> ClusterTarget:
    from sqlfront.cluster import TLS_OPTIONS, ClusterTarget

    parts = urlsplit(url)
    tls = _read_options(url, parts.query, options, TLS_OPTIONS)
    if not options["synchronous"]:
        raise InterfaceError("synchronous=off is for a directory of one's own; the stores of a cluster are durable")
    name = unquote(parts.path).strip("/")
    if "/" in name:
        raise InterfaceError(f"{url!r}: {name!r} is no name of a database")
    if name:
        options["database"] = name
    return ClusterTarget.parse(parts.netloc, tls)


def _translated(call: Callable[[], _T]) -> _T:
    try:
        return call()
    except Error:
        raise
    except Exception as exc:
        from sqlfront.translate import translate

        raise translate(exc) from exc


LEAVE_S_MAX = 60.0
"""How long the end of the interpreter waits for forgotten connections."""
_leaving: list[Any] = []
"""Locks, each held until a forgotten connection is closed."""


def _abandon(session: Session, database: Database) -> None:
    """Closes what a forgotten connection leaves.

    The collector comes by in any thread, between any two instructions: under a mutex that closing takes, or in the very
    thread that closing waits for. So it is done in a thread of its own, begun without any of `threading`'s locks; but
    at the end of the interpreter here, where nobody else runs any more.
    """
    done = _thread.allocate_lock()
    done.acquire()
    if threading.main_thread().is_alive():
        _leaving.append(done)
        _thread.start_new_thread(_leave, (session, database, done))
    else:
        _leave(session, database, done)


def _leave(session: Session, database: Database, done: Any) -> None:
    try:
        session.close()
    finally:
        try:
            database.close()
        finally:
            done.release()
            with contextlib.suppress(ValueError):
                _leaving.remove(done)


@atexit.register
def _await_leaving() -> None:
    for done in list(_leaving):
        done.acquire(timeout=LEAVE_S_MAX)


class Connection:
    """One session with the database. One thread uses it at a time; only `interrupt` may come from another."""

    Warning = errors.Warning
    Error = errors.Error
    InterfaceError = errors.InterfaceError
    DatabaseError = errors.DatabaseError
    DataError = errors.DataError
    OperationalError = errors.OperationalError
    IntegrityError = errors.IntegrityError
    InternalError = errors.InternalError
    ProgrammingError = errors.ProgrammingError
    NotSupportedError = errors.NotSupportedError

    __slots__ = (
        "__weakref__",
        "_acquire",
        "_closed",
        "_cursors",
        "_database",
        "_finalizer",
        "_release",
        "_savepoints",
        "_session",
    )

    def __init__(self, database: Database, session: Session) -> None:
        mutex = threading.Lock()
        self._acquire: Callable[[bool], bool] = mutex.acquire
        self._release = mutex.release
        self._database = database
        self._session = session
        self._cursors: weakref.WeakSet[Cursor] = weakref.WeakSet()
        self._savepoints = 0
        self._closed = False
        # A connection that nobody closes must not hold locks, a snapshot or the directory when it is forgotten or the
        # interpreter ends.
        self._finalizer = weakref.finalize(self, _abandon, session, database)

    def cursor(self) -> Cursor:
        """Returns a new cursor."""
        if self._closed:
            raise self._refusal()
        cursor = Cursor(self)
        self._cursors.add(cursor)
        return cursor

    def execute(self, sql: str, params: Params | None = None) -> Cursor:
        """Runs one statement in a new cursor and returns the cursor."""
        return self.cursor().execute(sql, params)

    def executemany(self, sql: str, rows: Iterable[Params]) -> Cursor:
        """Runs one statement for every row of parameters in a new cursor and returns the cursor."""
        return self.cursor().executemany(sql, rows)

    def commit(self) -> None:
        """Makes the open transaction's changes durable and visible; without one it does nothing."""
        self._call(self._session.commit)

    def rollback(self) -> None:
        """Undoes the open transaction; without one it does nothing."""
        self._call(self._session.rollback)

    def interrupt(self) -> None:
        """Stops the statement that runs in this connection: it raises QueryInterrupted. Any thread may call this."""
        if self._closed:
            raise self._refusal()
        self._session.interrupt()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A block that commits at its end, or rolls back when it raises; inside another one, a savepoint.

        With autocommit off, a transaction that statements before the block began is committed first.
        """
        if self._savepoints:
            begin = f"SAVEPOINT sqlfront_block_{self._savepoints}"
            undo, end = f"ROLLBACK TO {begin}", f"RELEASE {begin}"
        else:
            begin, undo, end = "BEGIN", "ROLLBACK", "COMMIT"
        self._run(begin)
        self._savepoints += 1
        try:
            yield self
        except BaseException:
            # a deadlock or a conflict has already ended the transaction, and its savepoints with it
            if not self._closed and (self._savepoints == 1 or self.in_transaction):
                self._run(undo)
            raise
        else:
            self._run(end)
        finally:
            self._savepoints -= 1

    def register(self, name: str, data: object) -> None:
        """Lets this connection's queries read `data` as the table `name`, until `unregister`.

        `data` is an Arrow table or reader, a pandas or polars frame, or anything with `__arrow_c_stream__`. A reader
        is read to its end at once.
        """
        from sqlfront.load_source import to_arrow_table

        table = to_arrow_table(data)
        self._call(lambda: self._session.register(name, table))

    def unregister(self, name: str) -> None:
        """Takes a registered table away."""
        self._call(lambda: self._session.unregister(name))

    def append(
        self,
        table: str,
        data: object,
        *,
        progress: Callable[[int, int | None], None] | None = None,
        on_duplicate: str = "error",
    ) -> int:
        """Loads `data` into a table in bulk, as one transaction of its own, and returns the number of rows.

        `data` is an Arrow table or reader, a pandas or polars frame, anything with `__arrow_c_stream__`, the path of a
        Parquet file (read in pieces), or a list of tuples with a value for every column. Columns go by name; those
        that `data` lacks take their defaults. `progress(rows so far, rows in all or None)` is called after every
        chunk. `on_duplicate` is "error" (1062, nothing is loaded).
        """
        from sqlfront.load import append

        if isinstance(data, Cursor) and data.connection is self:
            data = data.fetch_arrow_table()  # reading it needs the connection, which the load is going to keep busy
        return self._call(
            lambda: append(self._database, self._session, table, data, progress=progress, on_duplicate=on_duplicate)
        )

    @property
    def autocommit(self) -> bool:
        """Whether every statement outside BEGIN is a transaction of its own. Turning it on commits what is open."""
        return self._session.autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        self._call(lambda: self._set_autocommit(value))

    def _set_autocommit(self, value: bool) -> None:
        session = self._session
        if value and session.in_transaction:
            session.commit()
        if bool(value) != session.autocommit:
            session.autocommit = bool(value)

    @property
    def in_transaction(self) -> bool:
        return self._session.in_transaction

    @property
    def database(self) -> str:
        """The current database (schema); empty when there is none."""
        return self._session.current_db

    @property
    def session(self) -> Session:
        """The session behind the connection: below PEP 249, for the shell and servers."""
        return self._session

    @property
    def warnings(self) -> list[tuple[str, int, str]]:
        """The last statement's warnings, whichever cursor ran it: level, MySQL code, message."""
        return self._session.warnings

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Rolls back what is open and lets go of the database. Closing again raises InterfaceError."""
        if self._closed or not self._acquire(False):
            raise self._refusal()
        self._closed = True  # and the mutex stays taken: no cursor gets in any more
        self._finalizer.detach()
        for cursor in list(self._cursors):
            cursor._discard()
        try:
            _translated(self._session.close)
        finally:
            _translated(self._database.close)

    def __enter__(self) -> Connection:
        if self._closed:
            raise self._refusal()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._closed:
            return
        try:
            if kind is None:
                self.commit()
            else:
                self.rollback()
        finally:
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "in a transaction" if self.in_transaction else "idle"
        return f"<sqlfront.Connection {state} at {id(self):#x}>"

    def _run(self, sql: str) -> None:
        self._call(lambda: self._session.execute(sql))

    def _call(self, call: Callable[[], _T]) -> _T:
        """Calls into the session under the mutex."""
        if not self._acquire(False):
            raise self._refusal()
        try:
            return call()
        except Error:
            raise
        except Exception as exc:
            raise self._translate(exc) from exc
        finally:
            self._release()

    def _translate(self, exc: Exception) -> errors.Error:
        from sqlfront.translate import translate

        return translate(exc, self._database.find_table)

    def _failed(self, exc: Exception) -> errors.Error:
        """The error that a statement has ended with, which the session has noted."""
        told = self._translate(exc)
        self._session.failed(told)
        return told

    def _zone(self) -> dt.tzinfo | None:
        """The session's time zone, for aware datetimes among the parameters."""
        return self._session.variables.zone

    def _refusal(self) -> errors.Error:
        if self._closed:
            return InterfaceError("the connection is closed")
        return InterfaceError("another thread is using this connection; give every thread a connection of its own")
