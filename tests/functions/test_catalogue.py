"""Resolution: types, casts, errors; folding; the printer's modes; the document."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from coprocessor import types as t
from coprocessor.duck_expr import Printer, is_decimal_overflow, register_udfs
from coprocessor.env import Env
from coprocessor.errors import DivisionByZero, OutOfRange, ResolveError
from coprocessor.evaluate import compile_expr, compile_predicate, fold
from coprocessor.expr import Call, Column, Const, Context, Expr, Param
from coprocessor.functions import comparable, is_aggregate, is_function, is_window, names, resolve, unify
from coprocessor.functions.__main__ import tables
from coprocessor.types import FieldType
from tests.functions.mysql_text import read

INT, PRICE, DAY, NAME = (
    Column(1, t.INT), Column(2, t.decimal_type(15, 2)), Column(3, t.DATE), Column(4, t.varchar(20)),
)  # fmt: skip


def shape(ft: FieldType) -> tuple[str, int, int, bool]:
    return ft.tp.name, ft.flen, ft.decimal, ft.unsigned


def test_the_document_is_current() -> None:
    text = (Path(__file__).parents[2] / "docs" / "functions.md").read_text()
    assert text.endswith(tables()), (
        "run python -m coprocessor.functions and put its output at the end of docs/functions.md"
    )


def test_names() -> None:
    assert len(names()) > 250
    assert is_function("SUBSTR")
    assert is_aggregate("Sum")
    assert is_window("row_number")
    assert not is_window("sum")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 1", ("LONGLONG", 20, 0, False)),
        ("1.5 + 1", ("NEWDECIMAL", 3, 1, False)),
        ("1.10 * 1.1", ("NEWDECIMAL", 5, 3, False)),
        ("1.50 / 3", ("NEWDECIMAL", 7, 6, False)),
        ("1 / 3", ("NEWDECIMAL", 5, 4, False)),
        ("1 + 1e0", ("DOUBLE", 22, -1, False)),
        ("'1' + 1", ("DOUBLE", 22, -1, False)),
        ("18446744073709551615 + 1", ("LONGLONG", 20, 0, True)),
        ("CASE WHEN 1 THEN 1.50 ELSE 2 END", ("NEWDECIMAL", 21, 2, False)),
        ("1 < 2", ("LONGLONG", 1, 0, False)),
    ],
)
def test_result_types(text: str, expected: tuple[str, int, int, bool]) -> None:
    assert shape(read(text).type) == expected


def test_unify_and_comparable() -> None:
    assert unify([t.INT, t.NULL, t.BIGINT]) == t.BIGINT
    assert unify([t.BIGINT, t.UBIGINT]) == t.decimal_type(20, 0)
    assert unify([t.DATE, t.DATETIME]).tp == t.Tp.DATETIME
    assert unify([t.INT, t.varchar(3)]).is_text
    assert comparable(t.INT, t.varchar(3)) == t.DOUBLE
    assert comparable(t.DATE, t.varchar(3)).tp == t.Tp.DATETIME


def test_errors() -> None:
    with pytest.raises(ResolveError) as unknown:
        resolve("no_such", [])
    assert unknown.value.code == 1305
    with pytest.raises(ResolveError) as count:
        resolve("substring", [NAME])
    assert count.value.code == 1582


def test_literals_take_the_type_of_the_column() -> None:
    equal = resolve("eq", [DAY, Const("2024-02-29", t.varchar(10))])
    assert isinstance(equal, Call)
    assert equal.args[1] == Const(date(2024, 2, 29), t.DATE)
    number = resolve("eq", [INT, Const("5", t.varchar(1))])
    assert isinstance(number, Call)
    assert number.args == (INT, Const(5, t.BIGINT))


def test_the_clock_is_context() -> None:
    now = resolve("now", [Const(3, t.BIGINT)])
    assert now == Context(("now", 3), t.DATETIME.with_(decimal=3, flen=23))
    assert compile_expr(now, {})((), Env(context={("now", 3): datetime(2024, 1, 1)})) == datetime(2024, 1, 1)


def test_fold_keeps_what_warns_or_fails() -> None:
    assert fold(read("DATE_SUB(DATE '1998-12-01', INTERVAL '90' DAY)")) == Const(date(1998, 9, 2), t.DATE)
    assert isinstance(fold(read("1 / 0")), Call)
    assert isinstance(fold(read("9223372036854775807 + 1")), Call)
    assert isinstance(fold(resolve("rand", [])), Call)


def test_division_by_zero_by_mode() -> None:
    warned: list[int] = []
    closure = compile_expr(read("1 / 0"), {})
    assert closure((), Env(warn=lambda code, _: warned.append(code))) is None
    assert warned == [1365]
    with pytest.raises(DivisionByZero):
        closure((), Env(writing=True))
    with pytest.raises(OutOfRange, match="BIGINT value is out of range") as over:
        compile_expr(read("9223372036854775807 + 1"), {})((), Env())
    assert over.value.code == 1690


def test_predicate_is_true_only_when_not_null_and_not_zero() -> None:
    check = compile_predicate(resolve("gt", [INT, Const(3, t.BIGINT)]), {1: 0})
    assert [check((v,), Env()) for v in (4, 3, None)] == [True, False, False]


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (resolve("mul", [PRICE, resolve("minus", [Const(1, t.BIGINT), PRICE])]), "(c2 * (1 - c2))"),
        (resolve("eq", [NAME, Const("it's ", t.varchar(5))]), "CAST((c4 = 'it''s') AS BIGINT)"),
        (resolve("extract", [Const("year", t.varchar(4)), DAY]), "year(c3)"),
        (resolve("like", [NAME, Const("%a%", t.varchar(3))]), "CAST((c4 LIKE '%a%') AS BIGINT)"),
    ],
)
def test_printed_text(expr: Expr, text: str) -> None:
    assert Printer().value(expr) == text


def test_parameters_are_named_and_bound() -> None:
    printer = Printer()
    sql = printer.condition(
        resolve("and", [resolve("gt", [INT, Param(0, t.BIGINT)]), resolve("lt", [INT, Param(0, t.BIGINT)])])
    )
    assert sql == "((c1 > CAST($p0 AS BIGINT)) AND (c1 < CAST($p0 AS BIGINT)))"
    assert printer.bind(Env(params=[7])) == {"p0": 7}


def test_pad_space() -> None:
    expr = resolve("eq", [NAME, NAME])
    assert Printer(pad_safe=True).condition(expr) == "(rtrim(c4, ' ') = rtrim(c4, ' '))"
    assert compile_expr(resolve("eq", [NAME, Const("a", t.varchar(1))]), {4: 0})(("a  ",), Env()) == 1


def test_wide_cures_a_decimal_overflow() -> None:
    product = resolve("mul", [PRICE, PRICE])
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE w AS SELECT CAST(9999999999999.99 AS DECIMAL(15,2)) AS c2")
        with pytest.raises(duckdb.Error) as failed:
            connection.execute(f"SELECT {Printer().value(product)} FROM w").fetchall()
        assert is_decimal_overflow(failed.value)
        got = connection.execute(f"SELECT {Printer(wide=True).value(product)} FROM w").fetchall()
    assert got == [(Decimal("99999999999999800000000000.0001"),)]


def test_udfs_register_twice() -> None:
    printer = Printer()
    sql = printer.value(resolve("inet_aton", [NAME]))
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE n AS SELECT '10.0.5.9' AS c4")
        for _ in range(2):
            register_udfs(connection, printer.udfs, {0: Env()})
            assert connection.execute(f"SELECT {sql} FROM n").fetchall() == [(167773449,)]
