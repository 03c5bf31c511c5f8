"""Aggregates: the running state and the DuckDB form give the same over the pools' columns; windows print and run."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from coprocessor import types as t
from coprocessor.duck_expr import Printer, register_udfs
from coprocessor.env import Env
from coprocessor.errors import CoprocessorError
from coprocessor.evaluate import compile_agg
from coprocessor.expr import Column, Frame, OrderKey
from coprocessor.functions import resolve_agg, resolve_window
from coprocessor.functions.registry import AGGREGATES
from coprocessor.types import Tp
from tests.functions import test_forms
from tests.functions.test_forms import COLUMNS, LAYOUT, agree

Table = tuple[duckdb.DuckDBPyConnection, list[list[Any]]]


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    yield from test_forms.filled()


def run(table: Table, name: str, args: list[Column], **options: Any) -> tuple[Any, Any, t.FieldType]:
    connection, data = table
    agg = resolve_agg(name, args, **options)
    state = compile_agg(agg, LAYOUT)()
    for row in data:
        state.add(row, Env())
    printer = Printer(pad_safe=True)
    sql = printer.value(agg)
    register_udfs(connection, printer.udfs, {0: Env()})
    return state.result(), connection.execute(f"SELECT {sql} FROM t", printer.bind(Env())).fetchall()[0][0], agg.type


@pytest.mark.parametrize(
    "name", sorted(set(AGGREGATES) - {"json_objectagg", "any_value", "group_concat", "json_arrayagg"})
)
@pytest.mark.parametrize("distinct", [False, True])
def test_state_and_duckdb_agree(name: str, distinct: bool, table: Table) -> None:
    if distinct and name not in ("count", "sum", "avg", "min", "max"):
        pytest.skip("DISTINCT is for count, sum, avg, min and max")
    for ft, column in COLUMNS[::2]:
        numeric = name not in ("count", "min", "max")
        if (numeric and not ft.is_numeric) or (numeric and ft.tp == Tp.LONGLONG and name.startswith(("std", "var"))):
            continue
        if ft.tp == Tp.JSON or (name.startswith(("bit", "std", "var")) and ft.is_decimal):
            continue
        try:
            want, got, result = run(table, name, [column], distinct=distinct)
        except CoprocessorError:
            continue
        assert agree(want, got, result) or (ft.is_text and name in ("min", "max")), (name, ft, want, got)


def test_empty_input(table: Table) -> None:
    for name, want in (
        ("count", 0),
        ("sum", None),
        ("avg", None),
        ("bit_and", 2**64 - 1),
        ("bit_or", 0),
        ("max", None),
    ):
        agg = resolve_agg(name, [Column(0, t.INT)])
        assert compile_agg(agg, LAYOUT)().result() == want
        assert table[0].execute(f"SELECT {Printer().value(agg)} FROM t WHERE false").fetchall() == [(want,)]


def test_count_forms(table: Table) -> None:
    assert run(table, "count", [])[:2] == (24, 24)
    a, b = COLUMNS[0][1], COLUMNS[18][1]
    want, got, _ = run(table, "count", [a, b], distinct=True)
    assert want == got


def test_group_concat(table: Table) -> None:
    ints, words = COLUMNS[0][1], COLUMNS[21][1]
    for options in (
        {"order_by": [OrderKey(ints), OrderKey(words, True)], "separator": "; "},
        {"distinct": True, "order_by": [OrderKey(words, True)]},
    ):
        want, got, _ = run(table, "group_concat", [words], **options)
        assert want == got


def test_average_is_exact(table: Table) -> None:
    column = Column(1, t.decimal_type(15, 2))
    agg = resolve_agg("avg", [column])
    assert (agg.type.flen, agg.type.decimal) == (19, 6)
    connection = table[0]
    connection.execute("CREATE OR REPLACE TEMP TABLE v AS SELECT unnest([0.01, 0.02, 0.02])::DECIMAL(15,2) AS c1")
    assert connection.execute(f"SELECT {Printer().value(agg)} FROM v").fetchall() == [(Decimal("0.016667"),)]


def test_windows_run(table: Table) -> None:
    connection = table[0]
    ints, words = COLUMNS[0][1], COLUMNS[21][1]
    frame = Frame("rows", ("unbounded_preceding", None), ("current", None))
    for name, args, bounds in (
        ("row_number", [], None), ("rank", [], None), ("lag", [ints], None), ("sum", [ints], frame),
        ("avg", [ints], frame), ("count", [], None), ("ntile", [test_forms.literal_of(3)], None),
    ):  # fmt: skip
        window = resolve_window(name, args, [words], [OrderKey(ints, True)], bounds)
        assert len(connection.execute(f"SELECT {Printer().value(window)} FROM t").fetchall()) == 24
