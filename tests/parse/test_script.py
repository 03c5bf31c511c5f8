"""Scripts are cut at their semicolons and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlfront import parse

PIECES = st.sampled_from(
    [
        "select 1",
        "'a;b'",
        '"a;b"',
        "`a;b`",
        "/* ; */",
        "-- ;\n",
        "# ;\n",
        "'it''s;'",
        "'\\';'",
        "\n",
        " ",
        "x",
        "é",
        "- 1",
    ]
)
STATEMENT = st.lists(PIECES, min_size=1, max_size=8).map(lambda parts: "select " + " ".join(parts) + " end_")


@given(st.lists(STATEMENT, max_size=6))
def test_cutting_undoes_joining(statements: list[str]) -> None:
    assert parse.split_statements(";\n".join(statements)) == statements
    assert parse.split_statements(";".join([*statements, ""])) == statements


@given(st.text(alphabet="ab;'\"`/*-# \n\\!", max_size=40))
def test_nothing_is_lost(script: str) -> None:
    parts = parse.split_statements(script)
    rest = script
    for part in parts:
        at = rest.find(part)
        assert at >= 0
        assert part == part.strip()
        rest = rest[at + len(part) :]


@pytest.mark.parametrize(
    ("script", "statements"),
    [
        ("", []),
        (" ; ;\n;", []),
        ("-- only a comment", []),
        ("/* a; b */", []),
        ("select 1", ["select 1"]),
        ("select 1;", ["select 1"]),
        ("select 1;\n-- bye\n", ["select 1"]),
        ("/*!40101 set a = 1 */; select 2", ["/*!40101 set a = 1 */", "select 2"]),
        ("select 'a;b'; select 2", ["select 'a;b'", "select 2"]),
        ("select 1--2; select 3", ["select 1--2", "select 3"]),
        ("select 'open; select 2", ["select 'open", "select 2"]),
    ],
)
def test_cases(script: str, statements: list[str]) -> None:
    assert parse.split_statements(script) == statements
