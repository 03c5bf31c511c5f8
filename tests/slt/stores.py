"""Stores that `.slt` files run on: `open_store(name)` is the seam where later ones join.

`memory` and `rocksdb` are the database itself; `pushed`, `pushed-chunk` and `pushed-datum` have a storage that answers
push-down requests as many regions do, in one encoding each; `cluster` is three stores with small regions and several
SQL servers, over an in-memory network; `columnar-cluster` has a columnar store besides, and queries read its replicas.
`tikv` is the cluster of stores and placement drivers, of whatever make, that SLT_TIKV names as `connect` takes it; all
databases in it are dropped. `mariadb`, `tidb`, `sqlite` and `duckdb` are judges (`judges.py`).
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import sqlfront
from coprocessor.dag.plan import EncodeType
from sqlfront.exec import direct
from tests.push.regions import connect as connect_pushed
from tests.slt.runner import Outcome, Session, StatementFailed, Store
from tests.sql.sessions import second_session

EMBEDDED = ("memory", "rocksdb")
PUSHED = {"pushed": EncodeType.ARROW, "pushed-chunk": EncodeType.CHUNK, "pushed-datum": EncodeType.DEFAULT}
CLUSTER = "cluster"
COLUMNAR_CLUSTER = "columnar-cluster"
TIKV = "tikv"
STORES = (*EMBEDDED, *PUSHED, CLUSTER, COLUMNAR_CLUSTER)
"""Those that a run of the tests opens."""
JUDGES = ("mariadb", "tidb", "sqlite", "duckdb")
PATHS = ("auto", "row", "duckdb")


class SqlfrontSession:
    """A session on the database under test, through the DB-API as a user has it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._cursor = connection.cursor()

    def execute(self, sql: str) -> Outcome:
        try:
            self._cursor.execute(sql)
            if self._cursor.description is None:
                return Outcome(0, (), self._cursor.rowcount)
            rows = self._cursor.fetchall()
        except sqlfront.Error as e:
            raise StatementFailed(e.code, e.sqlstate, e.message) from e
        return Outcome(len(self._cursor.description), rows, len(rows))

    def close(self) -> None:
        self._connection.close()


class SqlfrontStore:
    """A fresh database: in memory, or in a temporary directory."""

    engines = frozenset({"mysql", "sqlfront"})

    def __init__(self, name: str) -> None:
        self._directory = tempfile.mkdtemp(prefix="slt-") if name == "rocksdb" else ""
        self._target = os.path.join(self._directory, "db") if name == "rocksdb" else ":memory:"
        self._first: Any = None

    def open(self) -> Session:
        if self._first is None or self._directory:
            connection = sqlfront.connect(self._target, autocommit=True)
            self._first = self._first or connection
        else:
            connection = second_session(self._first)
        return SqlfrontSession(connection)

    def close(self) -> None:
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)


class ClusterStore:
    """A fresh cluster; every other session is on a SQL server of its own."""

    engines = frozenset({"mysql", "sqlfront"})

    def __init__(self) -> None:
        from tests.cluster_sql.world import World

        self._world = World()
        self._servers = itertools.cycle([self._world.first, None])

    def open(self) -> Session:
        server = next(self._servers) or self._world.server()
        return SqlfrontSession(self._world.connect(server))

    def close(self) -> None:
        self._world.close()


class ColumnarSession(SqlfrontSession):
    """A session that reads columnar replicas alone, and makes one of every table."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._connection = connection
        self._aside = connection.cursor()
        super().execute("SET tidb_isolation_read_engines = 'tiflash,tidb'")

    def execute(self, sql: str) -> Outcome:
        outcome = super().execute(sql)
        if sql.lstrip()[:6].upper() in ("CREATE", "ALTER ", "TRUNCA", "DROP T"):
            self._make_replicas()
        return outcome

    def _make_replicas(self) -> None:
        from tests.cluster_columnar.worlds import wait_ready

        session = self._connection._session
        schema = session.database.catalog.schema
        for table in schema.table_by_id.values():
            hidden = session.seen(schema).table(table.db, table.name) is not table
            if not (table.system or table.columnar or table.view or hidden):
                self._aside.execute(f"ALTER TABLE `{table.db}`.`{table.name}` SET TIFLASH REPLICA 1")
                wait_ready(self._aside, table.name)


class ColumnarClusterStore(ClusterStore):
    """A cluster with a columnar store."""

    def __init__(self) -> None:
        from tests.cluster_sql.world import World

        self.world = self._world = World(columnar=1)
        self._servers = itertools.repeat(self._world.first)

    def open(self) -> Session:
        return ColumnarSession(self._world.connect(next(self._servers)))


class ExistingClusterStore:
    """The database `test` of a running cluster, made anew."""

    engines = SqlfrontStore.engines

    def __init__(self) -> None:
        from tests.slt.judges import make_test_database

        self._target = os.environ.get("SLT_TIKV", "")
        if not self._target:
            raise ValueError("the store tikv needs SLT_TIKV, as tikv://127.0.0.1:2379/test")
        # kept open: with the last connection the SQL server ends
        self._keep = sqlfront.connect(self._target.rpartition("/")[0] + "/", autocommit=True)
        make_test_database(self._keep.cursor())

    def open(self) -> Session:
        return SqlfrontSession(sqlfront.connect(self._target, autocommit=True))

    def close(self) -> None:
        self._keep.close()


class PushedStore:
    """A fresh database in memory whose storage takes push-down requests."""

    engines = SqlfrontStore.engines

    def __init__(self, name: str) -> None:
        self._encode = PUSHED[name]
        self._first: Any = None

    def open(self) -> Session:
        if self._first is not None:
            return SqlfrontSession(second_session(self._first))
        self._first = connect_pushed(0, self._encode)
        return SqlfrontSession(self._first)

    def close(self) -> None:
        """Its first session closes the database."""


@contextlib.contextmanager
def forced_path(path: str) -> Iterator[None]:
    """Makes the process run what a query needs beside its access paths directly in Python (`row`, where the direct
    executor can) or always in DuckDB (`duckdb`); `auto` leaves it to the planner."""
    query: Any = importlib.import_module("sqlfront.exec.query")
    compile_direct, rows_max = query.compile_direct, direct.DIRECT_ROWS_MAX
    if path == "duckdb":
        # forced is what DuckDB cannot compute, as decimals of more than 38 digits
        query.compile_direct = lambda *args, force=False: compile_direct(*args, force=True) if force else None
    elif path == "row":
        direct.DIRECT_ROWS_MAX = math.inf
    elif path != "auto":
        raise ValueError(f"no path {path!r}; there are {', '.join(PATHS)}")
    try:
        yield
    finally:
        query.compile_direct, direct.DIRECT_ROWS_MAX = compile_direct, rows_max


def open_store(name: str) -> Store:
    """Makes a fresh, empty database of a kind."""
    if name == CLUSTER:
        return ClusterStore()
    if name == COLUMNAR_CLUSTER:
        return ColumnarClusterStore()
    if name == TIKV:
        return ExistingClusterStore()
    if name in EMBEDDED:
        return SqlfrontStore(name)
    if name in PUSHED:
        return PushedStore(name)
    if name in JUDGES:
        from tests.slt.judges import open_judge

        return open_judge(name)
    raise ValueError(f"no store {name!r}; there are {', '.join((*STORES, TIKV, *JUDGES))}")
