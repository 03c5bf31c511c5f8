"""The sqllogictest dialect as records: what a `.slt` (or sqlite's `.test`) file says, before anything is run.

Read are the classic format of sqlite's suites, the additions of sqllogictest-rs (`statement count`, `query error`,
`connection`, `include`, `subtest`, `control`) and those of DuckDB's runner that other files use (`loop`, `foreach`,
`require`, `mode skip`, error messages under `----`). What is unknown is an error with its line, never skipped.

A comment `# dialect: lossless` (or `classic`) fixes how a file's results are written; see `render.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

SORT_MODES = ("nosort", "rowsort", "valuesort")
DELIMITER = "----"
INCLUDE_DEPTH_MAX = 16


class SltSyntaxError(Exception):
    """The file is not sqllogictest; the message begins with file and line."""


@dataclass(frozen=True, slots=True)
class Location:
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class ExpectedError:
    """What an error must be: a MySQL code, an SQLSTATE, a regular expression, text it holds; all unset is any error.

    `codes` has several where MySQL and TiDB differ, written `1265|1366`.
    """

    codes: tuple[int, ...] = ()
    sqlstate: str | None = None
    pattern: str | None = None
    text: str | None = None

    def matches(self, code: int, sqlstate: str, message: str) -> bool:
        if self.codes and code not in self.codes:
            return False
        if self.sqlstate is not None and sqlstate != self.sqlstate:
            return False
        if self.pattern is not None and re.search(self.pattern, message) is None:
            return False
        return self.text is None or " ".join(self.text.split()) in " ".join(message.split())

    def __str__(self) -> str:
        parts = ("|".join(map(str, self.codes)), self.sqlstate, self.pattern, self.text)
        return " ".join(p for p in parts if p) or "any error"


@dataclass(frozen=True, slots=True)
class Condition:
    """`skipif` or `onlyif` before a record."""

    only: bool
    engine: str


@dataclass(frozen=True, slots=True)
class Statement:
    """`outcome` is ok, error, count or maybe (ok or error)."""

    at: Location
    sql: str
    outcome: str
    error: ExpectedError | None = None
    count: int | None = None
    connection: str = ""
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """`types` is one letter a column, empty when the file does not say; `expected` the lines after `----`."""

    at: Location
    sql: str
    types: str
    sort: str
    label: str
    expected: tuple[str, ...]
    connection: str = ""
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Halt:
    at: Location
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class HashThreshold:
    at: Location
    value: int
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Mode:
    """DuckDB's `mode skip`, `mode unskip`."""

    at: Location
    skip: bool


@dataclass(frozen=True, slots=True)
class Require:
    """DuckDB's `require NAME`: without it the rest of the file does not apply."""

    at: Location
    what: str


@dataclass(frozen=True, slots=True)
class Reconnect:
    at: Location


Record: TypeAlias = Statement | Query | Halt | HashThreshold | Mode | Require | Reconnect


@dataclass(frozen=True, slots=True)
class Script:
    """A parsed file. `dialect` is lossless, classic or auto."""

    path: str
    dialect: str
    records: tuple[Record, ...]


@dataclass(slots=True)
class _Line:
    at: Location
    text: str


@dataclass(slots=True)
class _Parser:
    lines: list[_Line]
    depth: int
    position: int = 0
    sort_mode: str = "nosort"
    conditions: list[Condition] = field(default_factory=list)
    connection: str = ""
    records: list[Record] = field(default_factory=list)

    def run(self) -> list[Record]:
        while self.position < len(self.lines):
            line = self.lines[self.position]
            self.position += 1
            if line.text.strip() and not line.text.startswith("#"):
                self.record(line.at, line.text.split())
        return self.records

    def record(self, at: Location, tokens: list[str]) -> None:
        match tokens:
            case ["statement", outcome, *rest]:
                self.statement(at, outcome, rest)
            case ["query", "error", *rest]:
                self.statement(at, "error", rest)
            case ["query", *rest]:
                self.query(at, rest)
            case ["skipif" | "onlyif" as word, engine, *_]:
                self.conditions.append(Condition(word == "onlyif", engine))
            case ["connection", name]:
                self.connection = "" if name == "default" else name
            case ["halt", *_]:
                self.records.append(Halt(at, self.take_conditions()))
            case ["hash-threshold", number, *_]:
                self.records.append(HashThreshold(at, _integer(at, number), self.take_conditions()))
            case ["subtest", *_]:
                pass
            case ["require", what, *_]:
                self.records.append(Require(at, what))
            case ["mode", "skip" | "unskip" as word]:
                self.records.append(Mode(at, word == "skip"))
            case ["reconnect"]:
                self.records.append(Reconnect(at))
            case ["control", "sortmode", mode] if mode in SORT_MODES:
                self.sort_mode = mode
            case ["control", "resultmode", "rowwise" | "valuewise"]:
                pass
            case ["include", name]:
                self.include(at, name)
            case _:
                raise SltSyntaxError(f"{at}: unknown record: {' '.join(tokens)!r}")

    def statement(self, at: Location, outcome: str, rest: list[str]) -> None:
        rest = _without_retry(rest)
        if outcome not in ("ok", "error", "count", "maybe"):
            raise SltSyntaxError(f"{at}: unknown outcome {outcome!r} of a statement")
        count = _integer(at, rest[0]) if outcome == "count" and rest else None
        if outcome == "count" and count is None:
            raise SltSyntaxError(f"{at}: statement count wants a number")
        connection = rest[0] if outcome in ("ok", "maybe") and rest else self.connection
        sql, delimited = self.sql(at)
        error = _expected_error(rest) if outcome == "error" else None
        if delimited:
            text = "\n".join(self.until_blank())
            if text.startswith("<REGEX>:"):
                error = ExpectedError(pattern="(?s)" + text.removeprefix("<REGEX>:"))
            elif outcome == "error" and text:
                error = ExpectedError(text=text)
        self.connection = ""
        self.records.append(Statement(at, sql, outcome, error, count, connection, self.take_conditions()))

    def query(self, at: Location, rest: list[str]) -> None:
        rest = _without_retry(rest)
        types = rest.pop(0) if rest and rest[0] not in SORT_MODES else ""
        sort = rest.pop(0) if rest and rest[0] in (*SORT_MODES, "sort") else self.sort_mode
        label = rest[0] if rest else ""
        sql, delimited = self.sql(at)
        expected = tuple(self.until_blank()) if delimited else ()
        connection, self.connection = self.connection, ""
        sort = "rowsort" if sort == "sort" else sort
        self.records.append(Query(at, sql, types, sort, label, expected, connection, self.take_conditions()))

    def sql(self, at: Location) -> tuple[str, bool]:
        """Returns the record's SQL and whether it ended at `----`."""
        out: list[str] = []
        while self.position < len(self.lines):
            text = self.lines[self.position].text
            self.position += 1
            if not text.strip():
                break
            if text.strip() == DELIMITER:
                return "\n".join(out), True
            if not text.startswith("#"):
                out.append(text)
        if not out:
            raise SltSyntaxError(f"{at}: a record without SQL")
        return "\n".join(out), False

    def until_blank(self) -> list[str]:
        out: list[str] = []
        while self.position < len(self.lines):
            text = self.lines[self.position].text
            self.position += 1
            if not text:
                break
            out.append(text)
        return out

    def take_conditions(self) -> tuple[Condition, ...]:
        conditions, self.conditions = tuple(self.conditions), []
        return conditions

    def include(self, at: Location, name: str) -> None:
        if self.depth >= INCLUDE_DEPTH_MAX:
            raise SltSyntaxError(f"{at}: includes are nested deeper than {INCLUDE_DEPTH_MAX}")
        found = sorted(Path(at.file).parent.glob(name))
        if not found:
            raise SltSyntaxError(f"{at}: no file {name!r}")
        for path in found:
            self.records.extend(_Parser(_read(path), self.depth + 1).run())


def _integer(at: Location, text: str) -> int:
    if not text.isdigit():
        raise SltSyntaxError(f"{at}: {text!r} is not a number")
    return int(text)


def _without_retry(tokens: list[str]) -> list[str]:
    """Drops sqllogictest-rs's `retry N backoff D`: an embedded database answers right at once or never."""
    if len(tokens) >= 4 and tokens[-4] == "retry" and tokens[-2] == "backoff":
        return tokens[:-4]
    return tokens


def _expected_error(tokens: Sequence[str]) -> ExpectedError:
    text = " ".join(tokens)
    if not text:
        return ExpectedError()
    if re.fullmatch(r"\d+(\|\d+)*", text) is not None:
        return ExpectedError(codes=tuple(map(int, text.split("|"))))
    if (state := re.fullmatch(r"\(([0-9A-Z]{5})\)", text)) is not None:
        return ExpectedError(sqlstate=state[1])
    return ExpectedError(pattern=text)


def _expand_loops(lines: list[_Line]) -> list[_Line]:
    """Writes out `loop VAR FROM TO` and `foreach VAR VALUE...`, innermost last, with `${VAR}` replaced."""
    out: list[_Line] = []
    position = 0
    while position < len(lines):
        line = lines[position]
        position += 1
        tokens = line.text.split()
        if len(tokens) == 4 and tokens[0] == "loop" and line.text.startswith("loop "):
            values = [str(i) for i in range(_integer(line.at, tokens[2]), _integer(line.at, tokens[3]))]
        elif len(tokens) >= 3 and line.text.startswith("foreach "):
            values = tokens[2:]
        else:
            out.append(line)
            continue
        end = _end_of_loop(lines, position, line.at)
        for value in values:
            body = [_Line(b.at, b.text.replace(f"${{{tokens[1]}}}", value)) for b in lines[position:end]]
            out.extend(_expand_loops(body))
        position = end + 1
    return out


def _end_of_loop(lines: list[_Line], start: int, at: Location) -> int:
    depth = 1
    for i in range(start, len(lines)):
        word = lines[i].text.split(maxsplit=1)[:1]
        depth += (word in (["loop"], ["foreach"])) - (word == ["endloop"])
        if depth == 0:
            return i
    raise SltSyntaxError(f"{at}: a loop without endloop")


def _read(path: Path) -> list[_Line]:
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    lines = [_Line(Location(str(path), i), t.removesuffix("\r")) for i, t in enumerate(text.split("\n"), 1)]
    return _expand_loops(lines)


def parse_file(path: str | Path) -> Script:
    """Reads a file; raises SltSyntaxError where it is not sqllogictest."""
    lines = _read(Path(path))
    dialect = "auto"
    for line in lines:
        if (found := re.fullmatch(r"#\s*dialect:\s*(lossless|classic|auto)\s*", line.text)) is not None:
            dialect = found[1]
            break
    return Script(str(path), dialect, tuple(_Parser(lines, 0).run()))
