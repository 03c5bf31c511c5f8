"""A session and a database that only remember, so that the DB-API layer can be tested without a SQL core."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from coprocessor.types import BIGINT, BYTES, DATETIME6, TEXT, decimal_type
from sqlfront.dbapi import Connection
from sqlfront.errors import Error
from sqlfront.result import ListSource, Result, ResultColumn, Row
from sqlfront.variables import Variables

COLUMNS = (
    ResultColumn("id", BIGINT, nullable=False),
    ResultColumn("name", TEXT.with_(flen=20)),
    ResultColumn("price", decimal_type(10, 2)),
    ResultColumn("raw", BYTES),
    ResultColumn("at", DATETIME6),
)
ONE = (ResultColumn("id", BIGINT),)


class BatchSource:
    """Rows in batches; counts what is pulled, and may fail at a batch."""

    def __init__(self, batches: Sequence[Sequence[Row]], fail_at: int = -1, error: Exception | None = None) -> None:
        self._batches = batches
        self._fail_at = fail_at
        self._error = error
        self.pulled = 0
        self.closed = 0

    def rows(self) -> Iterator[Sequence[Row]]:
        for i, batch in enumerate(self._batches):
            if i == self._fail_at and self._error is not None:
                raise self._error
            self.pulled += 1
            yield batch

    def batches(self) -> Iterator[pa.RecordBatch]:
        for rows in self.rows():
            yield from ListSource(ONE, rows).batches()

    def close(self) -> None:
        self.closed += 1


class FakeSession:
    """Answers with prepared results, in order; a callable answer is called with (sql, params)."""

    def __init__(self) -> None:
        self.id = 1
        self.current_db = "test"
        self.autocommit = True
        self.in_transaction = False
        self.variables = Variables()
        self.warnings: list[tuple[str, int, str]] = []
        self.answers: list[Result | Exception | Callable[..., Result]] = []
        self.calls: list[tuple[Any, ...]] = []
        self.tables: dict[str, pa.Table] = {}
        self.interrupts = 0
        self.closed = False

    def execute(self, sql: str, params: object = None) -> Result:
        self.calls.append(("execute", sql, params))
        if not self.answers:
            return Result()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Result) else answer(sql, params)

    def execute_many(self, sql: str, rows: Iterable[object]) -> Result:
        taken = list(rows)
        self.calls.append(("execute_many", sql, taken))
        return Result(affected_rows=len(taken))

    def failed(self, error: Error) -> None:
        self.warnings.append(("Error", error.code, error.message))

    def commit(self) -> None:
        self.calls.append(("commit",))

    def rollback(self) -> None:
        self.calls.append(("rollback",))

    def interrupt(self) -> None:
        self.interrupts += 1

    def register(self, name: str, table: pa.Table) -> None:
        self.tables[name] = table

    def unregister(self, name: str) -> None:
        del self.tables[name]

    def close(self) -> None:
        self.closed = True

    @property
    def statements(self) -> list[str]:
        return [call[1] for call in self.calls if call[0] == "execute"]


class FakeDatabase:
    def __init__(self) -> None:
        self.closed = 0

    def find_table(self, table_id: int) -> None:
        return None

    def close(self) -> None:
        self.closed += 1


def open_fake() -> tuple[Connection, FakeSession, FakeDatabase]:
    session, database = FakeSession(), FakeDatabase()
    return Connection(database, session), session, database  # type: ignore[arg-type]


def rows_of(*ids: int) -> list[Row]:
    return [(i,) for i in ids]


MOMENT = dt.datetime(2024, 2, 29, 12, 30, 1, 5)
