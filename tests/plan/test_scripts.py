"""Plans as scripts: `scripts/*.txt` show schema, statistics, statements and what EXPLAIN says of them.

One file for each behaviour, written anew with SQLFRONT_GOLDEN=write: read every line of the difference. A paragraph has
comments (`# `), statements that prepare (`! `; `! fill t N exprs` inserts N rows computed from i = 0 .. N-1), and one
statement to explain (`> `, parameters after ` -- `), under which the plan stands.
"""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import pytest

import sqlfront

FILES = sorted((Path(__file__).parent / "scripts").glob("*.txt"))
_DIGITS = "(select 0 d union all " + " union all ".join(f"select {i}" for i in range(1, 10)) + ")"
_NUMBERS = (
    f"(select a.d + 10 * b.d + 100 * c.d + 1000 * e.d as i from {_DIGITS} a, {_DIGITS} b, {_DIGITS} c, {_DIGITS} e) n"
)


def fill(con: Any, table: str, count: int, exprs: str) -> None:
    """Inserts `count` rows, each computed from its number i."""
    con.execute(f"insert into {table} select {exprs} from {_NUMBERS} where i < {count}")


def plan_of(con: Any, line: str) -> list[str]:
    sql, _, params = line.partition(" -- ")
    try:
        rows = con.execute("explain " + sql, ast.literal_eval(params or "()")).fetchall()
    except sqlfront.Error as exc:
        return [f"error {exc.code}: {exc.message}"]
    return [" | ".join(map(str, row)).rstrip(" |") for row in rows]


def _prepare(con: Any, line: str) -> None:
    if line.startswith("fill "):
        _, table, count, exprs = line.split(" ", 3)
        fill(con, table, int(count), exprs)
    else:
        con.execute(line)


def _again(con: Any, paragraph: str) -> str:
    lines = [line for line in paragraph.split("\n") if line.startswith(("# ", "! ", "> "))]
    for line in lines:
        if line.startswith("! "):
            _prepare(con, line[2:])
    explained = [line[2:] for line in lines if line.startswith("> ")]
    return "\n".join([*lines, *(plan_of(con, explained[0]) if explained else ())])


def run_script(path: Path, con: Any) -> None:
    """Runs a script on an empty database, and compares, or writes it anew."""
    before = path.read_text(encoding="utf-8")
    after = "\n\n".join(_again(con, p) for p in before.strip().split("\n\n")) + "\n"
    if os.environ.get("SQLFRONT_GOLDEN") == "write":
        path.write_text(after, encoding="utf-8")
    else:
        assert after == before


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_script(path: Path) -> None:
    with sqlfront.connect(":memory:", autocommit=True) as con:
        run_script(path, con)


def test_there_are_scripts() -> None:
    assert len(FILES) >= 15
