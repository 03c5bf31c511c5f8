"""Both forms of every golden expression give MariaDB's text: the closure, and DuckDB running the printed form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from coprocessor.convert import quantize, to_text
from coprocessor.duck_expr import Printer, register_udfs, translate_error
from coprocessor.env import Env
from coprocessor.errors import CoprocessorError
from coprocessor.evaluate import compile_expr
from coprocessor.expr import Expr
from coprocessor.types import Tp
from tests.functions.differences import DUCK_DIFFERS, MYSQL_DIFFERS
from tests.functions.mysql_text import read

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*.txt"))


def entries(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text().split("\n"):
        if line:
            text, _, expected = line.partition("\t")
            yield text, expected


def shown(value: object, expr: Expr) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return to_text(value, expr.type)


def same(got: str, expected: str, expr: Expr) -> bool:
    if got == expected:
        return True
    if expr.type.is_real or (expr.type.is_decimal and expr.type.flen > 38):
        try:
            return math.isclose(float(got), float(expected), rel_tol=1e-13, abs_tol=1e-15)
        except ValueError:
            return False
    return False


def by_closure(text: str) -> tuple[str, Expr | None]:
    expr: Expr | None = None
    try:
        expr = read(text)
        return shown(compile_expr(expr, {})((), Env()), expr), expr
    except CoprocessorError as e:
        return f"ERROR {e.code}", expr


def by_duck(connection: duckdb.DuckDBPyConnection, expr: Expr) -> str:
    try:
        printer = Printer(folding=False, wide=True)
        sql = printer.value(expr)
        register_udfs(connection, printer.udfs, {0: Env()})
        value = connection.execute(f"SELECT {sql}", printer.bind(Env())).fetchall()[0][0]
    except (duckdb.Error, CoprocessorError) as e:
        return f"ERROR {translate_error(e).code} {str(e)[:150]}"
    if expr.type.tp == Tp.DURATION and value is not None:
        value = timedelta(microseconds=value)
    if expr.type.is_decimal and value is not None:
        value = quantize(value, max(expr.type.decimal, 0))
    return shown(value, expr)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_closure_gives_the_golden_text(path: Path) -> None:
    wrong = []
    for text, expected in entries(path):
        if text in MYSQL_DIFFERS:
            expected = MYSQL_DIFFERS[text][0]
        got, expr = by_closure(text)
        if expr is None or not same(got, expected, expr):
            wrong.append(f"{text} gives {got}, expected {expected}")
    assert not wrong, "\n".join([f"{len(wrong)} wrong", *wrong])


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_duckdb_gives_the_golden_text(path: Path) -> None:
    wrong = []
    with duckdb.connect() as connection:
        for text, expected in entries(path):
            if text in DUCK_DIFFERS or expected.startswith("ERROR"):
                continue
            if text in MYSQL_DIFFERS:
                expected = MYSQL_DIFFERS[text][0]
            expr = read(text)
            got = by_duck(connection, expr)
            if not same(got, expected, expr):
                wrong.append(f"{text} gives {got}, expected {expected}")
    assert not wrong, "\n".join([f"{len(wrong)} wrong", *wrong])
