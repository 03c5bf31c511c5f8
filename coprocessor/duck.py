"""DuckDB as the engine of the residual: connections, relations handed in as Arrow, results out as tuples or Arrow.

One in-memory DuckDB instance serves a database; every running query has a connection of its own from the pool, so
results can be streamed while others run. Relations are registered for one query and taken away with it.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from coprocessor.env import Env
from coprocessor.expr import Call

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


_warnings_mutex = threading.Lock()

IDLE_CONNECTIONS_MAX = 8
FETCH_ROWS = 4096
INTERRUPT_AGAIN_S = 0.02
NICENESS = 19
ARROW_BATCH_ROWS = 65536
RELATION = "relation_"
"""What a statement calls the Arrow relation that it is run over."""
RELATIONS_MAX = 4
"""Relations of one text."""


def query_errors() -> tuple[type[Exception], ...]:
    """The errors that DuckDB raises, for those who may not import it."""
    import duckdb

    return (duckdb.Error,)


def is_one_select(sql: str) -> bool:
    """Whether a text is a single SELECT. Raises DuckDB's errors where it cannot be read."""
    import duckdb

    statements = duckdb.extract_statements(sql)
    return len(statements) == 1 and statements[0].type is duckdb.StatementType.SELECT


def file_errors() -> tuple[type[Exception], ...]:
    """What DuckDB and the system raise over a file."""
    return (OSError, *query_errors())


def is_interrupt(error: Exception) -> bool:
    """Whether somebody interrupted the connection."""
    import duckdb

    return isinstance(error, duckdb.InterruptException)


def is_damage(error: Exception) -> bool:
    """Whether DuckDB says that its file cannot be trusted."""
    return any(sign in str(error) for sign in ("invalidated", "checksum", "Corrupt", "corrupt"))


def _connect() -> duckdb.DuckDBPyConnection:
    """A new instance in memory, whose own threads give way to everybody else.

    A query runs on the thread that asks and on DuckDB's; these would take all cores, and commits would wait for one. On
    Linux a thread is born with the niceness of the one that starts it, so a thread starts DuckDB that has more of it.

    There it has one thread more than cores: a writer sleeps for each sync, too briefly for the scheduler to bring a
    waiting thread from another core, so a core would stand still that has none of DuckDB's of its own.
    """
    import duckdb

    if sys.platform != "linux":
        return duckdb.connect(":memory:")
    with ThreadPoolExecutor(1, initializer=_give_way) as pool:
        return pool.submit(_connect_with_one_more).result()


def _connect_with_one_more() -> duckdb.DuckDBPyConnection:
    import duckdb

    connection = duckdb.connect(":memory:")
    [(cores,)] = connection.execute("SELECT current_setting('threads')").fetchall()
    connection.execute(f"SET threads = {int(cores) + 1}")
    return connection


def _give_way() -> None:
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


class Script:
    """Statements that are run in as few calls as can be, each over an Arrow relation or none.

    A call gives the interpreter up and has to wait for it again: next to a busy thread that is half a millisecond, and
    an Arrow relation makes four of them. Statements of one text have one call. DuckDB finds the relations among the
    variables of who calls it, which takes half as long as registering them.
    """

    def __init__(self) -> None:
        self._texts: list[list[str]] = [[]]
        self._relations: list[list[pa.RecordBatch | pa.Table]] = [[]]

    def add(self, sql: str, relation: pa.RecordBatch | pa.Table | None = None) -> None:
        """Adds a statement that calls its relation RELATION."""
        if relation is not None:
            if len(self._relations[-1]) == RELATIONS_MAX:
                self._texts.append([])
                self._relations.append([])
            sql = sql.replace(RELATION, f"{RELATION}{len(self._relations[-1])}")
            self._relations[-1].append(relation)
        self._texts[-1].append(sql)

    def run(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        """Runs all of them; the result is that of the last. Raises DuckDB's errors, at the first that fails."""
        for texts, relations in zip(self._texts, self._relations, strict=True):
            _execute(connection, ";\n".join(texts), *relations)
        return connection

    def run_whole(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Runs all of them in a transaction of their own, or none."""
        self._texts[0].insert(0, "BEGIN TRANSACTION")
        self._texts[-1].append("COMMIT")
        try:
            self.run(connection)
        except BaseException:
            with suppress(*query_errors()):  # there is none any more
                connection.rollback()
            raise


def _execute(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    relation_0: pa.RecordBatch | pa.Table | None = None,
    relation_1: pa.RecordBatch | pa.Table | None = None,
    relation_2: pa.RecordBatch | pa.Table | None = None,
    relation_3: pa.RecordBatch | pa.Table | None = None,
) -> None:
    connection.execute(sql)


def run_over(
    connection: duckdb.DuckDBPyConnection, sql: str, relation: pa.RecordBatch | pa.Table
) -> duckdb.DuckDBPyConnection:
    """Runs one statement over an Arrow relation."""
    script = Script()
    script.add(sql, relation)
    return script.run(connection)


class Snapshot(Protocol):
    """A transaction that a query runs in, and that ends with it."""

    @property
    def connection(self) -> duckdb.DuckDBPyConnection: ...


class DuckEngine:
    """The DuckDB instance of one database. Safe to share between threads."""

    def __init__(self, temp_directory: str | None = None) -> None:
        self._root = _connect()
        settings = ["SET TimeZone = 'UTC'", "SET preserve_insertion_order = true", "SET enable_progress_bar = false"]
        if temp_directory is not None:
            settings.append("SET temp_directory = '" + temp_directory.replace("'", "''") + "'")
        for setting in settings:
            self._root.execute(setting)
        self._mutex = threading.Lock()
        self._idle: list[duckdb.DuckDBPyConnection] = []
        self._closed = False
        self._executions = itertools.count()
        self._environments: dict[int, Env] = {}
        self._udfs: set[str] = set()
        self._quotas: weakref.WeakKeyDictionary[duckdb.DuckDBPyConnection, int] = weakref.WeakKeyDictionary()

    def query(
        self,
        sql: str,
        params: Mapping[str, Any],
        relations: Mapping[str, pa.Table],
        udfs: Mapping[str, Call],
        env: Env,
        view: Snapshot | None = None,
        quota: int = -1,
    ) -> DuckQuery:
        """Prepares a query; `start` runs it, in the transaction of `view` if there is one, which ends with it.

        What it needs beyond `quota` bytes for sorting, joining and grouping goes to disk.
        """
        connection = self.take() if view is None else view.connection
        return DuckQuery(self, connection, sql, params, relations, udfs, env, view, quota)

    def limit_memory(self, limit: int | None) -> None:
        """Bounds what all queries together take, in bytes; they spill to disk, and are refused when that does not
        help. None takes the bound away."""
        connection = self.take()
        try:
            connection.execute("RESET memory_limit" if limit is None else f"SET memory_limit = '{int(limit)}B'")
        finally:
            self.give_back(connection)

    def spill_beyond(self, connection: duckdb.DuckDBPyConnection, quota: int) -> None:
        """Sets how much one query of the connection keeps in memory, in bytes (below 0: as much as there is)."""
        if self._quotas.get(connection) != quota:
            text = "NULL" if quota < 0 else f"'{int(quota)}B'"
            connection.execute(f"SET operator_memory_limit = {text}")
            self._quotas[connection] = quota

    def enter(self, env: Env) -> int:
        """Returns the key by which the UDFs of one execution find its environment, until `leave`."""
        key = next(self._executions)
        self._environments[key] = env
        return key

    def leave(self, key: int) -> None:
        """Forgets an execution's environment."""
        del self._environments[key]

    def register(self, udfs: Mapping[str, Call]) -> None:
        """Makes UDFs known to all connections.

        DuckDB's Python functions live as long as the connection they were registered on, hence on the first one.
        """
        from coprocessor.duck_expr import register_udfs

        with self._mutex:
            missing = {name: call for name, call in udfs.items() if name not in self._udfs}
            register_udfs(self._root, missing, self._environments)
            self._udfs.update(missing)

    def take(self) -> duckdb.DuckDBPyConnection:
        """A connection of the pool, until `give_back`."""
        with self._mutex:
            if self._idle:
                return self._idle.pop()
            connection = self._root.cursor()
        connection.execute("SET TimeZone = 'UTC'")
        return connection

    def give_back(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Returns a connection whose query is over."""
        with self._mutex:
            if not self._closed and len(self._idle) < IDLE_CONNECTIONS_MAX:
                self._idle.append(connection)
                return
        connection.close()

    def end(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Ends the transaction of a connection and returns that."""
        with suppress(*query_errors()):  # there is none any more
            connection.rollback()
        self.give_back(connection)

    def close(self) -> None:
        with self._mutex:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        self._root.close()


def _quiet_reader(connection: duckdb.DuckDBPyConnection) -> pa.RecordBatchReader:
    """The started result as Arrow, without DuckDB's warning of the copy: that is the price of errors at the start."""
    with _warnings_mutex, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return connection.to_arrow_reader(ARROW_BATCH_ROWS)


class DuckQuery:
    """A running query: read it once, as tuples or as Arrow, and close it."""

    def __init__(
        self,
        engine: DuckEngine,
        connection: duckdb.DuckDBPyConnection,
        sql: str,
        params: Mapping[str, Any],
        relations: Mapping[str, pa.Table],
        udfs: Mapping[str, Call],
        env: Env,
        view: Snapshot | None = None,
        quota: int = -1,
    ) -> None:
        self._engine = engine
        self._quota = quota
        self._view = view
        self._connection: duckdb.DuckDBPyConnection | None = connection
        self._sql = sql
        self._params = dict(params)
        self._relations = relations
        self._udfs = udfs
        self._env = env
        self._environment: int | None = None
        self._finished = False
        self._starting = False
        self._mutex = threading.Lock()

    def start(self) -> None:
        """Runs the query up to its first rows.

        Raises DuckDB's errors as they are (`duck_expr.translate_error` reads them); the query is over then.
        """
        from coprocessor.duck_expr import ENVIRONMENT, reads_environment

        connection = self._connection
        assert connection is not None
        self._starting = True
        try:
            self._engine.spill_beyond(connection, self._quota)
            if self._udfs:
                # before the relations, with which a view's transaction comes to see the functions of that moment
                self._engine.register(self._udfs)
                if f"${ENVIRONMENT}" in self._sql and any(map(reads_environment, self._udfs.values())):
                    self._environment = self._params[ENVIRONMENT] = self._engine.enter(self._env)
            for name, table in self._relations.items():
                connection.register(name, table)
            if self._params:
                connection.execute(self._sql, self._params)
            else:
                connection.execute(self._sql)
        except BaseException:
            self._finished = True
            self.close()
            raise
        finally:
            self._starting = False

    def tuples(self) -> Iterator[list[tuple[Any, ...]]]:
        """Yields batches of tuples."""
        try:
            while self._connection is not None:
                rows = self._connection.fetchmany(FETCH_ROWS)
                if not rows:
                    self._finished = True
                    break
                yield rows
        finally:
            self.close()

    def batches(self, *, streamed: bool) -> Iterator[pa.RecordBatch]:
        """Yields Arrow batches.

        DuckDB turns a started result into Arrow by collecting it whole. `streamed` starts the query over as a relation,
        whose batches come one by one: for large results that begin at once, not for what took long to compute.
        """
        try:
            if self._connection is not None:
                if streamed:
                    self._connection.abort()
                    reader = self._connection.sql(self._sql, params=self._params).to_arrow_reader(ARROW_BATCH_ROWS)
                else:
                    reader = _quiet_reader(self._connection)
                yield from reader
                self._finished = True
        finally:
            self.close()

    def interrupt(self) -> None:
        """Stops the query; any thread may call this."""
        if self._interrupt() and self._starting:
            # DuckDB forgets an interrupt that comes before it has begun: again, until the query has noticed
            threading.Thread(target=self._keep_interrupting, name="sqlfront-interrupt", daemon=True).start()

    def _interrupt(self) -> bool:
        with self._mutex:
            if self._connection is not None:
                self._connection.interrupt()
            return self._connection is not None

    def _keep_interrupting(self) -> None:
        while self._starting and self._interrupt():
            time.sleep(INTERRUPT_AGAIN_S)

    def close(self) -> None:
        """Gives the connection back; harmless when it is over."""
        with self._mutex:
            connection, self._connection = self._connection, None
        if connection is None:
            return
        if not self._finished:
            connection.abort()
        if self._view is not None:
            connection.rollback()  # and the view is over
        for name in self._relations:
            connection.unregister(name)
        if self._environment is not None:
            self._engine.leave(self._environment)
        self._engine.give_back(connection)
