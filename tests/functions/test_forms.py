"""Every catalogue entry: the closure and the printed DuckDB form give the same on the same typed inputs.

Inputs are columns of a table with the values of a pool per type (NULLs, extremes, empty, negative, unicode, leap
days) and literals of the same pools; argument types are drawn by a seed that is the function's name.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from coprocessor import types as t
from coprocessor.convert import quantize
from coprocessor.duck_expr import Printer, duck_type, register_udfs
from coprocessor.env import Env
from coprocessor.errors import CoprocessorError
from coprocessor.evaluate import compile_expr
from coprocessor.expr import Call, Column, Const, Expr, walk
from coprocessor.functions import resolve
from coprocessor.functions.registry import FUNCTIONS
from coprocessor.types import FieldType, Tp
from tests.functions.differences import FORM_DIFFERS

ROWS = 24
DRAWS = int(os.environ.get("SQLFRONT_FORM_DRAWS", "8"))
D = Decimal
POOLS: list[tuple[FieldType, list[Any]]] = [
    (t.INT, [0, 1, -1, 7, -3, 2147483647, -2147483648, 100]),
    (t.BIGINT, [0, 1, -1, 63, 64, 2**63 - 1, -(2**63), 20240229]),
    (t.UBIGINT, [0, 1, 5, 2**64 - 1, 2**63]),
    (t.decimal_type(10, 2), [D("0.00"), D("1.50"), D("-1.50"), D("2.45"), D("99999999.99"), D("-0.05")]),
    (t.decimal_type(20, 4), [D("0.0000"), D("1.2345"), D("-9999999999999999.9999"), D("0.5000"), D("10.0000")]),
    (t.DOUBLE, [0.0, 1.0, -2.5, 0.5, 1e10, 1e-3, 3.7]),
    (t.TEXT, ["", "a", "A", "abc", "abc  ", "12", "-1.5e1x", " 7", "äöü", "日本語", "2024-02-29", "x_y%z", "a,b"]),
    (t.varchar(10), ["b", "hello", "Hello", "1.5", "2023-12-31 10:00:00"]),
    (t.BYTES, [b"", b"a", b"\x00\xff", b"abc", b"12"]),
    (t.DATE, [date(2024, 2, 29), date(1999, 12, 31), date(2000, 1, 1), date(9999, 12, 31), date(1970, 1, 1), date(1,
    1, 1)]), (t.DATETIME, [datetime(2024, 2, 29, 23, 59, 59), datetime(2000, 1, 1), datetime(1980, 5, 31, 12, 0, 1)]),
    (t.DATETIME6, [datetime(2024, 2, 29, 23, 59, 59, 999999), datetime(2023, 1, 1), datetime(2038, 1, 19, 3, 14, 8,
    500000)]), (t.DURATION, [timedelta(), timedelta(hours=838, minutes=59, seconds=59), -timedelta(hours=1,
    seconds=5)]), (t.JSON, ["null", "1", "[1, 2]", '{"a": 1}', '"x"', "true"]),
    (FieldType(Tp.ENUM, charset="utf8mb4", collate="utf8mb4_bin", elems=("z", "a", "m")), ["z", "a", "m"]),
    (FieldType(Tp.YEAR, 4, 0, True), [1970, 2024, 2155]),
]  # fmt: skip
PER_TYPE = 3
UNITS = ["day", "month", "year", "hour", "second", "week", "quarter", "minute", "year_month", "day_hour", "microsecond"]
SIMPLE = [u for u in UNITS if "_" not in u]
STRUCTURAL: dict[str, dict[int, list[Any]]] = {
    "interval_add": {2: UNITS},
    "interval_sub": {2: UNITS},
    "extract": {0: UNITS},
    "timestampdiff": {0: SIMPLE},
    "like": {1: ["a%", "_bc", "%", "x\\_%", "abc"], 2: ["\\", "|"]},
    "regexp": {1: ["^a", "b+", "[0-9]+$", "a++b"]},
    "regexp_like": {1: ["^a", "b+", "[0-9]+$"], 2: ["c", "i"]},
    "regexp_substr": {1: ["a.", "[0-9]+"], 2: [1], 3: [1, 2], 4: ["c"]},
    "regexp_instr": {1: ["a.", "[0-9]+"], 2: [1], 3: [1, 2], 4: [0, 1], 5: ["i"]},
    "regexp_replace": {1: ["(a).", "[0-9]+", "x*", "c$"], 2: ["", "[$1]", "\\\\$"], 3: [1], 4: [0, 1], 5: ["i"]},
    "date_format": {1: ["%Y-%m-%d", "%W %M %D", "%H:%i:%s.%f", "%j%%"]},
    "time_format": {1: ["%H:%i:%s", "%k %p"]},
    "str_to_date": {1: ["%Y-%m-%d", "%H:%i:%s", "%Y-%m-%d %H:%i:%s"]},
    "convert_tz": {1: ["+00:00", "Europe/Berlin"], 2: ["+05:30", "-08:00"]},
    "from_unixtime": {1: ["%Y %D"]},
    "json_extract": {i: ["$", "$.a", "$[0]"] for i in range(1, 9)},
    "json_extract_text": {1: ["$", "$.a", "$[0]"]},
    "json_table_rows": {
        1: ['{"path": "$", "columns": [[0, "path", "$.a"], [1, "exists", "$[1]"]], "nested": [], "width": 2}']
    },
    "json_value_as": {1: ["$.a", "$[*]"], 2: ["7"], 3: ["error", "8"]},
    "json_table_cell": {0: ["[[1], [], [[2]], null]"], 1: [0, 1, 2, 3], 2: ["a"], 3: ["3", '"x"'], 4: ["error", "4"]},
    "json_length": {1: ["$", "$.a"]},
    "json_keys": {1: ["$"]},
    "json_contains": {2: ["$", "$.a"]},
    "json_contains_path": {1: ["one", "all"], 2: ["$.a"], 3: ["$[0]"], 4: ["$"]},
    "json_set": {1: ["$.b"], 3: ["$[1]"]},
    "json_insert": {1: ["$.b"], 3: ["$[1]"]},
    "json_replace": {1: ["$.a"], 3: ["$[1]"]},
    "json_remove": {1: ["$.a"], 2: ["$[0]"], 3: ["$.x"]},
    "convert_using": {1: ["latin1", "ascii", "utf8mb3"]},
    "sleep": {0: [0]},
    "repeat": {1: [0, 2, 3]},
    "space": {0: [0, 3]},
    "lpad": {1: [0, 2, 9]},
    "rpad": {1: [0, 2, 9]},
    "get_format": {0: ["date", "time"], 1: ["USA", "ISO"]},
}
CAST_TARGETS = [ft for ft, _ in POOLS if ft.tp not in (Tp.ENUM, Tp.YEAR, Tp.LONG)]
COLUMNS = [(ft, Column(i * PER_TYPE + k, ft)) for i, (ft, _) in enumerate(POOLS) for k in range(PER_TYPE)]
LAYOUT = {c.id: c.id for _, c in COLUMNS}
TESTED = sorted(n for n, f in FUNCTIONS.items() if f.rewrite is None and f.deterministic)


def rows() -> list[list[Any]]:
    rng = random.Random(20240229)
    return [
        [None if rng.random() < 0.12 else rng.choice(pool) for _, pool in POOLS for _ in range(PER_TYPE)]
        for _ in range(ROWS)
    ]


def literal_of(value: Any) -> Const:
    if isinstance(value, str):
        return Const(value, t.varchar(len(value)))
    return Const(value, t.BIGINT)


def filled() -> Iterator[tuple[duckdb.DuckDBPyConnection, list[list[Any]]]]:
    """Yields a connection with the table t, and its rows."""
    data = rows()
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        names = ", ".join(f"c{c.id} {duck_type(ft)}" for ft, c in COLUMNS)
        connection.execute(f"CREATE TABLE t (i INTEGER, {names})")
        marks = ", ".join("?" for _ in range(len(COLUMNS) + 1))
        stored = [
            [i, *(v // timedelta(microseconds=1) if isinstance(v, timedelta) else v for v in r)]
            for i, r in enumerate(data)
        ]
        connection.executemany(f"INSERT INTO t VALUES ({marks})", stored)
        yield connection, data


@pytest.fixture(scope="module")
def table() -> Iterator[tuple[duckdb.DuckDBPyConnection, list[list[Any]]]]:
    yield from filled()


def draw(name: str, rng: random.Random) -> list[Expr]:
    f = FUNCTIONS[name]
    most = f.min_args + 2 if f.max_args is None else f.max_args
    args: list[Expr] = []
    for i in range(rng.randint(f.min_args, most)):
        choices = STRUCTURAL.get(name, {}).get(i)
        if choices is not None:
            args.append(literal_of(rng.choice(choices)))
        elif rng.random() < 0.25:
            ft, pool = rng.choice(POOLS)
            args.append(Const(rng.choice(pool), ft))
        else:
            args.append(rng.choice(COLUMNS)[1])
    if args and not any(isinstance(a, Column) for a in args) and 0 not in STRUCTURAL.get(name, {}):
        args[0] = rng.choice(COLUMNS)[1]
    return args


def expected(expr: Expr, data: Sequence[Sequence[Any]]) -> dict[int, Any]:
    """The closure's value per row; rows on which it fails are left out."""
    closure = compile_expr(expr, LAYOUT)
    out: dict[int, Any] = {}
    for i, row in enumerate(data):
        try:
            out[i] = closure(row, Env())
        except CoprocessorError:
            continue
    return out


def agree(a: Any, b: Any, ft: FieldType) -> bool:
    if a is None or b is None:
        return a is b
    if isinstance(a, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(a, Decimal):
        if ft.flen > 38:
            return math.isclose(a, b, rel_tol=1e-13, abs_tol=1e-12)
        return a == quantize(D(b), max(ft.decimal, 0))
    if isinstance(a, timedelta):
        return a == timedelta(microseconds=b)
    if isinstance(a, str | bytes | int | date):
        return bool(type(a) is type(b) and a == b)
    return bool(a == b)


def compare(connection: duckdb.DuckDBPyConnection, expr: Expr, data: list[list[Any]]) -> list[str]:
    want = expected(expr, data)
    if not want:
        return []
    printer = Printer(wide=True, pad_safe=True)
    sql = printer.value(expr)
    register_udfs(connection, printer.udfs, {0: Env()})
    keep = ", ".join(map(str, want))
    source = f"(SELECT * FROM t WHERE i IN ({keep}) ORDER BY i)"
    found = connection.execute(f"SELECT i, {sql} FROM {source}", printer.bind(Env())).fetchall()
    wrong = [f"row {i}: closure {want[i]!r}, DuckDB {v!r}" for i, v in found if not agree(want[i], v, expr.type)]
    return [f"{expr}\n  {sql[:400]}", *wrong[:3]] if wrong else []


@pytest.mark.parametrize("name", TESTED)
def test_forms_agree(name: str, table: tuple[duckdb.DuckDBPyConnection, list[list[Any]]]) -> None:
    connection, data = table
    rng = random.Random(name)
    wrong: list[str] = []
    for _ in range(DRAWS):
        args = draw(name, rng)
        if name in FORM_DIFFERS and FORM_DIFFERS[name](args):
            continue
        try:
            if name == "cast":
                expr: Expr = Call("cast", (args[0],), rng.choice(CAST_TARGETS))
            else:
                expr = resolve(name, args)
            compile_expr(expr, LAYOUT)
        except CoprocessorError:
            continue  # refused on both paths alike, before either runs
        try:
            wrong += compare(connection, expr, data)
        except duckdb.OutOfRangeException as e:
            if not any(n.type.is_decimal and n.type.flen > 38 for n in walk(expr)):
                wrong.append(f"{expr}\n  {e}")  # else: more digits than DuckDB has
        except duckdb.Error as e:
            wrong.append(f"{expr}\n  {type(e).__name__}: {str(e)[:600]}")
    assert not wrong, "\n".join(wrong)
