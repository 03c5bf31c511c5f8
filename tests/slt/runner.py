"""Runs a parsed file against a store and reports what passed, failed and was skipped.

A store opens sessions on one fresh database; `connection NAME` in a file opens more of them. A failed record is noted
and the file goes on, as in sqlite's runner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tests.slt import render
from tests.slt.records import (
    Condition,
    Halt,
    HashThreshold,
    Location,
    Mode,
    Query,
    Reconnect,
    Record,
    Require,
    Script,
    Statement,
)

SHOWN_LINES_MAX = 12


class StatementFailed(Exception):
    """A statement was refused by the database under test."""

    def __init__(self, code: int, sqlstate: str, message: str) -> None:
        self.code = code
        self.sqlstate = sqlstate
        self.message = message
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a statement gave: `columns` 0 and no rows, or rows; `count` is the number of rows changed."""

    columns: int
    rows: Sequence[Sequence[object]]
    count: int


class Session(Protocol):
    """One connection to the database under test."""

    def execute(self, sql: str) -> Outcome:
        """Runs one statement; raises StatementFailed when the database refuses it."""

    def close(self) -> None: ...


class Store(Protocol):
    """A database, empty when it was made; `engines` are the names that skipif and onlyif know it by."""

    engines: frozenset[str]

    def open(self) -> Session: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Failure:
    at: Location
    sql: str
    what: str

    def __str__(self) -> str:
        return f"{self.at}: {self.what}\n    {self.sql}"


@dataclass(slots=True)
class Report:
    """The outcome of one file."""

    passed: int = 0
    skipped: int = 0
    failures: list[Failure] = field(default_factory=list)


def applies(conditions: Sequence[Condition], engines: frozenset[str]) -> bool:
    """Tells whether a record is for this engine; several onlyif are alternatives, any skipif excludes."""
    only = [c for c in conditions if c.only]
    if only and not any(c.engine.lower() in engines for c in only):
        return False
    return not any(not c.only and c.engine.lower() in engines for c in conditions)


@dataclass(slots=True)
class Runner:
    """Runs one script; `limit` stops after so many failures (0: never)."""

    store: Store
    script: Script
    limit: int = 0
    on_record: Callable[[Record], None] | None = None
    report: Report = field(default_factory=Report)
    sessions: dict[str, Session] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    skipping: bool = False

    def run(self) -> Report:
        try:
            for record in self.script.records:
                if not self.step(record) or (self.limit and len(self.report.failures) >= self.limit):
                    break
        finally:
            for session in self.sessions.values():
                session.close()
        return self.report

    def step(self, record: Record) -> bool:
        """Runs one record; False ends the file."""
        if self.on_record is not None:
            self.on_record(record)
        match record:
            case Mode(skip=skip):
                self.skipping = skip
            case Require():
                self.report.skipped += 1
                return False
            case Halt(conditions=conditions):
                return not applies(conditions, self.store.engines)
            case HashThreshold():
                pass
            case Reconnect():
                if (session := self.sessions.pop("", None)) is not None:
                    session.close()
            case Statement() | Query():
                if self.skipping or not applies(record.conditions, self.store.engines):
                    self.report.skipped += 1
                else:
                    self.judge(record)
        return True

    def judge(self, record: Statement | Query) -> None:
        problem = self.statement(record) if isinstance(record, Statement) else self.query(record)
        if problem is None:
            self.report.passed += 1
        else:
            self.report.failures.append(Failure(record.at, record.sql, problem))

    def session(self, name: str) -> Session:
        if name not in self.sessions:
            self.sessions[name] = self.store.open()
        return self.sessions[name]

    def statement(self, record: Statement) -> str | None:
        """Runs a statement and returns what is wrong, None if nothing is."""
        try:
            outcome = self.session(record.connection).execute(record.sql)
        except StatementFailed as e:
            if record.outcome == "maybe":
                return None
            if record.error is not None and record.error.matches(e.code, e.sqlstate, e.message):
                return None
            wanted = "success" if record.error is None else f"error {record.error}"
            return f"expected {wanted}, got ({e.code}, {e.sqlstate}) {e.message}"
        if record.outcome == "error":
            return f"expected error {record.error}, got success"
        if record.outcome == "count" and outcome.count != record.count:
            return f"expected {record.count} rows changed, got {outcome.count}"
        return None

    def query(self, record: Query) -> str | None:
        """Runs a query and returns what is wrong, None if nothing is."""
        try:
            outcome = self.session(record.connection).execute(record.sql)
        except StatementFailed as e:
            return f"expected rows, got ({e.code}, {e.sqlstate}) {e.message}"
        if record.types and len(record.types) != outcome.columns:
            return f"expected {len(record.types)} columns, got {outcome.columns}"
        if not render.agrees(record, outcome.columns, outcome.rows, self.script.dialect):
            return self.difference(record, outcome)
        return self.check_label(record, outcome)

    def check_label(self, record: Query, outcome: Outcome) -> str | None:
        """Queries under one label must all give the same."""
        if not record.label or self.script.dialect == "lossless":
            return None
        digest = render.values_hash(render.rendered(record, outcome.columns, outcome.rows, "classic"))
        if self.labels.setdefault(record.label, digest) != digest:
            return f"differs from the other queries labelled {record.label}"
        return None

    def difference(self, record: Query, outcome: Outcome) -> str:
        dialect = "lossless" if self.script.dialect == "lossless" else "classic"
        rows = render.rendered(record, outcome.columns, outcome.rows, dialect)
        separator = "\t" if dialect == "lossless" else "\n"
        if record.expected and "hashing to" in record.expected[0]:
            actual = [f"{sum(map(len, rows))} values hashing to {render.values_hash(rows)}"]
        else:
            actual = [separator.join(row) for row in rows]
        return f"expected {_shown(record.expected)}, got {_shown(actual)}"


def _shown(lines: Sequence[str]) -> str:
    rest = len(lines) - SHOWN_LINES_MAX
    return repr(list(lines[:SHOWN_LINES_MAX])) + (f" and {rest} more" if rest > 0 else "")
