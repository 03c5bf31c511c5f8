"""A database of canned answers with the DB-API surface that the shell uses, for tests of the shell alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlfront.errors import error

INT, VARCHAR, DATETIME, DECIMAL, BLOB = 3, 15, 12, 246, 252 | 0x100

Description = tuple[str, int, None, None, None, int | None, bool]


def column(name: str, code: int = VARCHAR, scale: int | None = None) -> Description:
    """Returns one item of a cursor's description."""
    return (name, code, None, None, None, scale, True)


@dataclass
class Answer:
    """What a statement gives."""

    columns: Sequence[Description] | None = None
    rows: Sequence[Sequence[object]] = ()
    rowcount: int = 0
    warnings: Sequence[tuple[str, int, str]] = ()
    info: str = ""
    failure: Exception | None = None  # raised after the rows when read as Arrow


@dataclass
class FakeDatabase:
    """Statements in lower case and what they give: an answer, an exception, or a function of the connection."""

    answers: dict[str, Answer | Exception | Callable[[FakeConnection], Answer]] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)

    def connect(self, path: str) -> FakeConnection:
        return FakeConnection(self, path)


class FakeConnection:
    def __init__(self, database: FakeDatabase, path: str) -> None:
        self.fake = database
        self.path = path
        self.in_transaction = False
        self.database = "test"
        self.interrupted = threading.Event()
        self.running = threading.Event()
        self.closed = False

    def cursor(self) -> FakeCursor:
        return FakeCursor(self)

    def interrupt(self) -> None:
        if self.running.is_set():
            self.interrupted.set()

    def close(self) -> None:
        self.closed = True


def sleeping(connection: FakeConnection) -> Answer:
    """Runs until it is interrupted."""
    connection.running.set()
    try:
        if connection.interrupted.wait(timeout=30):
            raise error(1317, "Query execution was interrupted")
    finally:
        connection.running.clear()
        connection.interrupted.clear()
    raise AssertionError("nobody interrupted the statement")


class FakeCursor:
    lastrowid = None

    def __init__(self, connection: FakeConnection) -> None:
        self._connection = connection
        self._answer = Answer()
        self._at = 0

    def execute(self, sql: str, /) -> object:
        fake, key = self._connection.fake, " ".join(sql.lower().split())
        fake.executed.append(sql)
        if key == "begin":
            self._connection.in_transaction = True
        elif key in ("commit", "rollback"):
            self._connection.in_transaction = False
        elif key.startswith("use "):
            self._connection.database = sql.split()[1].strip("`")
        found = fake.answers.get(key, Answer())
        if isinstance(found, Exception):
            raise found
        self._answer = found if isinstance(found, Answer) else found(self._connection)
        return self

    @property
    def description(self) -> Sequence[Sequence[Any]] | None:
        return self._answer.columns

    @property
    def rowcount(self) -> int:
        return self._answer.rowcount

    @property
    def warnings(self) -> Sequence[tuple[str, int, str]]:
        return self._answer.warnings

    @property
    def info(self) -> str:
        return self._answer.info

    def fetchmany(self, size: int, /) -> Sequence[Sequence[object]]:
        rows = self._answer.rows[self._at : self._at + size]
        self._at += len(rows)
        return rows

    def fetch_record_batch(self) -> Any:
        import pyarrow as pa

        assert self._answer.columns is not None
        names = [c[0] for c in self._answer.columns]
        table = pa.table({name: [row[i] for row in self._answer.rows] for i, name in enumerate(names)})
        return pa.RecordBatchReader.from_batches(table.schema, self._batches(table))

    def _batches(self, table: Any) -> Iterator[Any]:
        yield from table.to_batches(max_chunksize=2)
        if self._answer.failure is not None:
            raise self._answer.failure

    def close(self) -> None:
        self._at = 0


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits for another thread to reach a state."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("the condition did not come true")
        time.sleep(0.001)
