"""A connection as the shell uses it: the DB-API behind one thread, results as batches, the state a prompt shows.

Everything goes through the public DB-API (`sqlfront.connect`, cursors, `interrupt`); catalog questions are SQL.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from shell.values import Column, Row
from shell.worker import StatementThread

if TYPE_CHECKING:
    import pyarrow as pa

FETCH_ROWS = 1000
MEMORY = ":memory:"

# PEP 249 leaves type codes open; sqlfront's are MySQL's column type numbers.
_FLOAT = 4
_DOUBLE = 5
_TIMESTAMP, _TIME, _DATETIME = 7, 11, 12
_JSON = 245


class Cursor(Protocol):
    """The part of a PEP 249 cursor that the shell uses."""

    @property
    def description(self) -> Sequence[Sequence[Any]] | None: ...
    @property
    def rowcount(self) -> int: ...
    @property
    def lastrowid(self) -> int | None: ...
    @property
    def warnings(self) -> Sequence[tuple[str, int, str]]: ...
    @property
    def info(self) -> str: ...

    def execute(self, sql: str, /) -> object: ...
    def fetchmany(self, size: int, /) -> Sequence[Row]: ...
    def fetch_record_batch(self) -> pa.RecordBatchReader: ...
    def close(self) -> None: ...


class Connection(Protocol):
    """The part of a connection that the shell uses."""

    @property
    def in_transaction(self) -> bool: ...
    @property
    def database(self) -> str: ...

    def cursor(self) -> Cursor: ...
    def interrupt(self) -> None: ...
    def close(self) -> None: ...


Connect = Callable[[str], Connection]


def open_connection(path: str) -> Connection:
    """Opens the database with autocommit on, as a shell expects it."""
    import sqlfront

    connection: Connection = sqlfront.connect(path, autocommit=True)
    return connection


class Outcome:
    """What one statement gave: columns and rows that are still to come, or counts.

    `seconds` is the time spent in the database so far; time spent printing does not count.
    """

    def __init__(self, session: Session, sql: str) -> None:
        self._session = session
        self._cursor: Cursor | None = None
        self._first: Sequence[Row] = ()
        self._sql = sql
        self.columns: tuple[Column, ...] | None = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.warnings: Sequence[tuple[str, int, str]] = ()
        self.info = ""
        self.row_number = 0
        self.complete = True
        self.seconds = 0.0

    def start(self, *, rows: bool) -> None:
        """Executes the statement; with `rows` the first batch is fetched on the same trip to the thread."""
        started = time.perf_counter()
        try:
            self._session.thread.call(lambda: self._execute(rows))
        finally:
            self.seconds += time.perf_counter() - started

    def _execute(self, rows: bool) -> None:
        cursor = self._session.connection.cursor()
        self._cursor = cursor
        cursor.execute(self._sql)
        if cursor.description is not None:
            self.columns = tuple(column_of(item) for item in cursor.description)
            if rows:
                self._first = cursor.fetchmany(FETCH_ROWS)
        else:
            self.rowcount = cursor.rowcount
            self.lastrowid = cursor.lastrowid
            self.info = cursor.info
        self.warnings = cursor.warnings
        if self.columns is None or (rows and len(self._first) < FETCH_ROWS):
            self._cursor = None  # all is here: closing it now saves a trip to the thread
            cursor.close()

    def batches(self) -> Iterator[Sequence[Row]]:
        """Yields the rows in batches."""
        batch, self._first = self._first, ()
        self.complete = False
        while batch:
            self.row_number += len(batch)
            yield batch
            if len(batch) < FETCH_ROWS:
                break
            batch = self._timed(lambda cursor: cursor.fetchmany(FETCH_ROWS))
        self.complete = True

    def record_batches(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Returns the Arrow schema and the rows as record batches, instead of `batches`."""
        reader = self._timed(lambda cursor: cursor.fetch_record_batch())
        return reader.schema, self._read(reader)

    def _read(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        def next_batch(_: Cursor) -> pa.RecordBatch | None:
            with suppress(StopIteration):
                return reader.read_next_batch()
            return None

        while (batch := self._timed(next_batch)) is not None:
            self.row_number += batch.num_rows
            yield batch

    def _timed(self, use: Callable[[Cursor], Any]) -> Any:
        cursor = self._cursor
        assert cursor is not None, "start() comes first"
        started = time.perf_counter()
        try:
            return self._session.thread.call(lambda: use(cursor))
        finally:
            self.seconds += time.perf_counter() - started

    def close(self) -> None:
        """Lets go of the cursor and what it holds."""
        cursor, self._cursor = self._cursor, None
        if cursor is not None:
            self._session.thread.call(cursor.close)


_WITH_FRACTION = (_FLOAT, _DOUBLE, _TIMESTAMP, _TIME, _DATETIME)


def column_of(item: Sequence[Any]) -> Column:
    """Returns the shell's view of one item of a cursor's description."""
    import sqlfront

    code, scale = item[1], item[5]
    return Column(
        name=str(item[0]),
        numeric=code == sqlfront.NUMBER,
        fraction=scale if code in _WITH_FRACTION and isinstance(scale, int) and scale >= 0 else None,
        single=code == _FLOAT,
        json=code == _JSON,
    )


class Session:
    """One connection and the thread that it lives in."""

    def __init__(self, path: str, connect: Connect = open_connection) -> None:
        self.path = path
        self._connect = connect
        self.thread = StatementThread()
        try:
            self.connection: Connection = self.thread.call(lambda: connect(path))
        except BaseException:
            self.thread.close()
            raise

    def start(self, sql: str, *, rows: bool = True) -> Outcome:
        """Executes one statement and returns its outcome, which the caller closes."""
        outcome = Outcome(self, sql)
        try:
            outcome.start(rows=rows)
        except BaseException:
            outcome.close()
            raise
        return outcome

    def query(self, sql: str) -> list[Row]:
        """Returns all rows of a small query."""
        outcome = self.start(sql)
        try:
            return [row for batch in outcome.batches() for row in batch]
        finally:
            outcome.close()

    def interrupt(self) -> None:
        """Stops the running statement; safe from a signal handler and any thread."""
        self.connection.interrupt()

    @property
    def database(self) -> str:
        """The current database, or an empty string."""
        return self.connection.database

    @property
    def in_transaction(self) -> bool:
        return self.connection.in_transaction

    def twin(self) -> Session:
        """Returns a second session on the same database, or this one where memory belongs to one connection."""
        return self if self.path == MEMORY else self.another(self.path)

    def another(self, path: str) -> Session:
        """Returns a session on another path, opened in the same way."""
        return Session(path, self._connect)

    def close(self) -> None:
        """Closes the connection (an open transaction is rolled back) and ends the thread."""
        try:
            self.thread.call(self.connection.close)
        finally:
            self.thread.close()
