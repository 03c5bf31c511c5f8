"""Large, deep and odd statements: they parse in linear time or are refused, and never take the process with them."""

from __future__ import annotations

import logging
import subprocess
import sys
import time

import pytest
import sqlglot
from sqlglot import exp

from sqlfront import parse
from sqlfront.errors import Error
from sqlfront.parse import trees


def _depth(node: exp.Expression) -> int:
    deepest, stack = 0, [(node, 1)]
    while stack:
        at, depth = stack.pop()
        deepest = max(deepest, depth)
        stack.extend((child, depth + 1) for child in at.iter_expressions())
    return deepest


def _tree(sql: str) -> exp.Expression:
    statement = parse.parse(sql).statement
    assert isinstance(statement, parse.Query)
    return statement.ast


@pytest.mark.parametrize("word", ["and", "or", "&&", "||"])
def test_long_chains_are_flat(word: str) -> None:
    tree = _tree("select 1 from t where " + f" {word} ".join(f"a = {i}" for i in range(5000)))
    assert _depth(tree) < 30
    numbers = [int(n.name) for n in tree.args["where"].find_all(exp.Literal, bfs=False)]
    assert sorted(numbers) == list(range(5000))


def test_chains_keep_order_and_mixed_operators() -> None:
    terms = [f"a{i} and b{i} xor c{i}" for i in range(40)]
    tree = _tree("select " + " or ".join(terms))
    assert tree.sql(dialect="mysql").lower() == "select " + " or ".join(terms)


@pytest.mark.parametrize(
    "sql",
    [
        "select " + "(" * 2000 + "1" + ")" * 2000,
        "select " + "(" * 50_000 + "1" + ")" * 50_000,
        "select " + "(" * 50_000,
        "select 1 from " + "(" * 20_000 + "t" + ")" * 20_000,
        "select " + "from (" * 20_000,
        "select " + "abs(" * 2000 + "1" + ")" * 2000,
        "select " + "not " * 5000 + "1",
        "select " + "- " * 5000 + "1",
        "select " + "case when 1 then " * 2000 + "1" + " end" * 2000,
        "select " + "(select " * 1000 + "1" + ")" * 1000,
        "select " + "+".join("1" * 2000),
        " union ".join(["select 1"] * 2000),
        "select 1" + " between 0 and 2" * 2000,
        "select 1" + " collate utf8mb4_bin" * 2000,
        "select '2026-01-01'" + " + interval 1 day" * 2000,
    ],
    ids=lambda sql: sql[:24],
)
def test_too_deep_is_refused(sql: str) -> None:
    with pytest.raises(Error) as caught:
        parse.parse(sql)
    assert caught.value.code in (1064, 1436)


@pytest.mark.parametrize(
    "sql",
    [
        "select " + "(" * 100 + "1" + ")" * 100,
        "select " + "abs(" * 100 + "1" + ")" * 100,
        "select " + "+".join("1" * 100),
        " union ".join(["select 1"] * 100),
    ],
    ids=lambda sql: sql[:24],
)
def test_ordinary_depth_is_not(sql: str) -> None:
    assert _depth(_tree(sql)) <= trees.TREE_DEPTH_MAX


def test_joins_without_conditions_take_linear_time() -> None:
    start = time.monotonic()
    tree = _tree("select 1 from t0 " + " ".join(f"join t{i}" for i in range(1, 150)))
    assert len(tree.args["joins"]) == 149
    assert time.monotonic() - start < 5  # sqlglot alone needs years


def test_too_many_joins() -> None:
    with pytest.raises(Error, match="Too many tables") as caught:
        parse.parse("select 1 from t0 " + " ".join(f"join t{i}" for i in range(1, 400)))
    assert caught.value.code == 1116


def test_ten_megabytes() -> None:
    text = "x" * (10 << 20)
    parsed = parse.parse(f"insert into t values (1, '{text}')")
    assert isinstance(parsed.statement, parse.Insert)
    literal = next(n for n in parsed.statement.ast.find_all(exp.Literal) if n.is_string)
    assert len(literal.name) == 10 << 20


def test_over_the_limit() -> None:
    with pytest.raises(Error) as caught:
        parse.parse("select '" + "x" * (64 << 20) + "'")
    assert caught.value.code == 1153


def test_many_rows() -> None:
    parsed = parse.parse("insert into t values " + ", ".join(f"({i}, ?)" for i in range(5000)))
    assert parsed.positional == 5000


@pytest.mark.parametrize("sql", ["select 1 from t pivot x", "insert into t foo bar", "delete foo bar baz"])
def test_sqlglot_is_quiet(sql: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="sqlglot"), pytest.raises(Error):
        parse.parse(sql)
    assert not caplog.records


def test_others_still_hear_sqlglot(caplog: pytest.LogCaptureFixture) -> None:
    parse.parse("select 1")
    with caplog.at_level(logging.WARNING, logger="sqlglot"):
        sqlglot.parse_one("ALTER TABLE t FROB x", dialect="mysql")
    assert "Falling back" in caplog.text


def test_importing_is_light() -> None:
    code = (
        "import sys, sqlfront, sqlfront.parse\n"
        "assert 'sqlglot' not in sys.modules\n"
        "sqlfront.parse.parse('select 1')\n"
        "assert 'sqlglot' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
