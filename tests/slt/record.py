"""`python -m tests.slt.record --judge mariadb FILE...`: fills in what our files expect, from another database.

A `.sql` draft (statements ended by `;`, comments with `#`, `connection NAME` lines) becomes the `.slt` file beside it;
an `.slt` file is filled in again in place. A record under a comment that begins `# mysql:` is left as it is: there
MySQL differs from the judge and the result was written by hand.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.slt.judges import mariadb_server
from tests.slt.records import DELIMITER, Query, Statement, parse_file
from tests.slt.render import written
from tests.slt.runner import Outcome, Session, StatementFailed, Store
from tests.slt.stores import JUDGES, open_store

HASH_THRESHOLD = 60
HEADER = "# dialect: lossless"
BY_HAND = "# mysql:"

_ROWS = re.compile(r"\s*(\(|select|with|show|desc|explain|values|table|execute|admin|checksum|analyze)\b|\s*\(", re.I)
_DML = re.compile(r"\s*(insert|update|delete|replace)\b", re.I)
_CONTROL = re.compile(r"(connection|skipif|onlyif)\s+\S+")


def from_draft(text: str) -> str:
    """Returns a draft as an `.slt` file without results."""
    out = [HEADER, ""]
    pending: list[str] = []
    for line in text.splitlines():
        if not pending and (line.startswith("#") or _CONTROL.match(line)):
            out.extend(["", line] if line.startswith("#") and out[-1] and not out[-1].startswith("#") else [line])
        elif line.strip():
            pending.append(line)
        if pending and line.rstrip().endswith(";"):
            sql = "\n".join(pending).rstrip().removesuffix(";")
            kind = "query" if _ROWS.match(sql) else "statement ok"
            out.extend([kind, sql, ""])
            pending = []
    if pending:
        raise ValueError(f"a statement without its semicolon: {pending[0]!r}")
    return "\n".join(out)


def _without_parentheses(sql: str) -> str:
    sql = re.sub(r"'(?:[^'\\]|''|\\.)*'", "''", sql)
    before = ""
    while before != sql:
        before, sql = sql, re.sub(r"\([^()]*\)", "", sql)
    return sql


def _sort(sql: str, rows: int) -> str:
    ordered = re.search(r"\border\s+by\b", _without_parentheses(sql), re.I) is not None
    fixed = ordered or re.match(r"\s*(show|desc|explain)", sql, re.I) is not None
    return "nosort" if rows < 2 or fixed else "rowsort"


def _types(outcome: Outcome) -> str:
    letters = ""
    for column in range(outcome.columns):
        kinds = {type(row[column]) for row in outcome.rows} - {type(None)}
        letters += "I" if kinds == {int} else "R" if kinds == {float} else "T"
    return letters


def _span(lines: Sequence[str], start: int) -> int:
    end = start
    while end < len(lines) and lines[end].strip():
        end += 1
    return end


def _recorded(session: Session, record: Statement | Query, threshold: int) -> list[str]:
    try:
        outcome = session.execute(record.sql)
    except StatementFailed as e:
        return [f"statement error {e.code}", record.sql]
    if outcome.columns == 0:
        counted = _DML.match(record.sql) is not None
        return [f"statement count {outcome.count}" if counted else "statement ok", record.sql]
    types, sort = _types(outcome), _sort(record.sql, len(outcome.rows))
    query = Query(record.at, record.sql, types, sort, "", ())
    header = f"query {types}" + (f" {sort}" if sort != "nosort" else "")
    return [header, record.sql, DELIMITER, *written(query, outcome.columns, outcome.rows, threshold)]


def record_file(path: Path, store: Store, threshold: int) -> tuple[int, int]:
    """Fills in one file; returns the number of its queries and of its records."""
    if path.suffix == ".sql":
        draft, path = path, path.with_suffix(".slt")
        path.write_text(from_draft(draft.read_text(encoding="utf-8")), encoding="utf-8")
    lines = path.read_text(encoding="utf-8").split("\n")
    out: list[str] = []
    position = queries = records = 0
    sessions: dict[str, Session] = {}
    for record in parse_file(path).records:
        if not isinstance(record, Statement | Query):
            continue
        start = record.at.line - 1
        out.extend(lines[position:start])
        position = _span(lines, start)
        records += 1
        session = sessions.get(record.connection) or sessions.setdefault(record.connection, store.open())
        new = _recorded(session, record, threshold)
        before = next((line for line in reversed(lines[:start]) if not _CONTROL.match(line)), "")
        out.extend(lines[start:position] if before.startswith(BY_HAND) else new)
        queries += out[-1] != "" and isinstance(record, Query)
    for session in sessions.values():
        session.close()
    out.extend(lines[position:])
    path.write_text(re.sub(r"\n{3,}", "\n\n", "\n".join(out)).rstrip("\n") + "\n", encoding="utf-8")
    return queries, records


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.slt.record", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--judge", default="mariadb", choices=JUDGES)
    parser.add_argument("--hash-threshold", type=int, default=HASH_THRESHOLD)
    options = parser.parse_args(arguments)
    with mariadb_server():
        for path in options.files:
            store = open_store(options.judge)
            queries, records = record_file(path, store, options.hash_threshold)
            store.close()
            print(f"{path}: {queries} queries in {records} records")
    return 0


if __name__ == "__main__":
    sys.exit(main())
