"""The runner itself: the dialect as sqlite's documentation, sqllogictest-rs and DuckDB have it, on sqlite3."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.slt import render
from tests.slt.__main__ import run_file
from tests.slt.records import SltSyntaxError, parse_file
from tests.slt.runner import Report


def run(directory: Path, text: str) -> Report:
    path = directory / "case.test"
    path.write_text(text, encoding="utf-8")
    return run_file(path, "sqlite", "auto")


HASHED = "3 values hashing to c0710d6b4f15dfa88f600b0e6b624077"
TABLE = "statement ok\nCREATE TABLE t(a INTEGER, b REAL, c TEXT)\n\n"
ROWS = TABLE + "statement ok\nINSERT INTO t VALUES (2, 1.5, 'x'), (10, 2, ''), (NULL, NULL, NULL)\n\n"


@pytest.mark.parametrize(
    "text",
    [
        "query I\nSELECT 1\n----\n1\n",
        "query ITR\nSELECT 1, 'a', 1.5\n----\n1\na\n1.500\n",
        "query I rowsort\nSELECT 10 UNION ALL SELECT 9\n----\n10\n9\n",
        "query II valuesort\nSELECT 3, 1 UNION ALL SELECT 2, 0\n----\n0\n1\n2\n3\n",
        "query I\nSELECT 1 WHERE 0\n",
        "query I\nSELECT 1 WHERE 0\n----\n\nquery I\nSELECT 2\n----\n2\n",
        "query T\nSELECT 'a' || char(10) || 'é'\n----\na@@@\n",
        "query I\nSELECT 3.9\n----\n3\n",
        "query I\nSELECT 'abc'\n----\n0\n",
        "query R\nSELECT 2\n----\n2.000\n",
        "# a comment\nquery I # after it\nSELECT 1\n# inside\n+ 1\n----\n2\n",
        "query I\r\nSELECT 1\r\n----\r\n1\r\n",
        f"hash-threshold 2\n\nquery I rowsort\nSELECT 1 UNION SELECT 2 UNION SELECT 3\n----\n{HASHED}\n",
        "statement error\nSELECT missing\n",
        "statement error no such column\nSELECT missing\n",
        "statement error\nSELECT missing\n----\nno such column: missing\n",
        "query error no such\nSELECT missing\n",
        "query I nosort one\nSELECT 1\n----\n1\n\nquery I nosort one\nSELECT 2 - 1\n----\n1\n",
        "query I\nSELECT 1\n----\n1\n\nhalt\n\nquery I\nSELECT 1\n----\n2\n",
        "onlyif mysql\nhalt\n\nquery I\nSELECT 1\n----\n1\n",
        "query II\nSELECT 1, 2 UNION ALL SELECT 3, 4\n----\n1 2\n3 4\n",
        "query IT\nSELECT 1, 'a b' UNION ALL SELECT 3, 'c'\n----\n1\ta b\n3\tc\n",
        "query RI rowsort\nSELECT 0.5, 3 UNION ALL SELECT 0.25, 4\n----\n0.50 3\n0.25 4\n",
        "loop i 0 3\n\nquery I\nSELECT ${i} + 1 - ${i}\n----\n1\n\nendloop\n",
        "foreach x 1 2\n\nforeach y 3 4\n\nquery I\nSELECT ${x} < ${y}\n----\n1\n\nendloop\n\nendloop\n",
        "mode skip\n\nquery I\nSELECT 1\n----\n2\n\nmode unskip\n\nquery I\nSELECT 1\n----\n1\n",
    ],
)
def test_passes(tmp_path: Path, text: str) -> None:
    report = run(tmp_path, text)
    assert not report.failures
    assert report.passed > 0


@pytest.mark.parametrize(
    "text",
    [
        "query I\nSELECT 1\n----\n2\n",
        "query I\nSELECT 1\n",
        "query I\nSELECT 1\n----\n1\n1\n",
        "query II\nSELECT 1\n----\n1\n",
        "query I\nSELECT 2 UNION ALL SELECT 1\n----\n1\n2\n",
        "query R\nSELECT 1.5\n----\n1.6\n",
        "query T\nSELECT ''\n----\nNULL\n",
        "query T\nSELECT NULL\n----\n(empty)\n",
        "statement ok\nSELECT missing\n",
        "statement error\nSELECT 1\n",
        "statement error no such table\nSELECT missing\n",
        "statement count 3\nCREATE TABLE t(a)\n",
        "query I nosort one\nSELECT 1\n----\n1\n\nquery I nosort one\nSELECT 2\n----\n2\n",
        "query I rowsort\nSELECT 1 UNION SELECT 2\n----\n2 values hashing to c0710d6b4f15dfa88f600b0e6b624077\n",
        "nonsense\n",
        "statement perhaps\nSELECT 1\n",
        "loop i 0 3\n\nquery I\nSELECT 1\n----\n1\n",
        "",
    ],
)
def test_fails(tmp_path: Path, text: str) -> None:
    report = run(tmp_path, text)
    assert len(report.failures) == (1 if text else 0)


def test_the_three_ways_of_null_and_empty(tmp_path: Path) -> None:
    report = run(
        tmp_path, ROWS + "query IRT rowsort\nSELECT * FROM t\n----\n10\n2.000\n(empty)\n2\n1.500\nx\nNULL\nNULL\nNULL\n"
    )
    assert not report.failures
    assert report.passed == 3


def test_conditions(tmp_path: Path) -> None:
    text = "skipif sqlite\nquery I\nSELECT 1\n----\n2\n\nonlyif mysql\nquery I\nSELECT 1\n----\n2\n\n"
    text += "onlyif sqlite\nskipif mysql # why\nquery I\nSELECT 1\n----\n1\n"
    report = run(tmp_path, text)
    assert not report.failures
    assert (report.passed, report.skipped) == (1, 2)


def test_lossless_is_exact(tmp_path: Path) -> None:
    head = "# dialect: lossless\n\n"
    good = "query IRT\nSELECT 1, 0.1 + 0.2, 'a' || char(9) || '\\'\n----\n1\t0.3\ta\\t\\\\\n"
    assert not run(tmp_path, head + good).failures
    assert run(tmp_path, head + "query I\nSELECT 1.0\n----\n1\n").failures
    assert run(tmp_path, head + "query T\nSELECT 'é'\n----\n@@\n").failures


def test_include_and_syntax_errors_name_their_line(tmp_path: Path) -> None:
    (tmp_path / "part.inc").write_text("query I\nSELECT 1\n----\n1\n")
    assert run(tmp_path, "include part.inc\n\nquery I\nSELECT 2\n----\n2\n").passed == 2
    path = tmp_path / "bad.slt"
    path.write_text("\n\nwrong record\n")
    with pytest.raises(SltSyntaxError, match=r"bad\.slt:3: unknown record"):
        parse_file(path)


def test_connections_are_for_one_record(tmp_path: Path) -> None:
    path = tmp_path / "c.slt"
    path.write_text("connection b\nstatement ok\nSELECT 1\n\nstatement ok\nSELECT 2\n")
    assert [getattr(r, "connection", None) for r in parse_file(path).records] == ["b", ""]


def test_the_hash_is_of_every_value_and_a_newline() -> None:
    assert render.values_hash([("1",), ("2",), ("3",)]) == "c0710d6b4f15dfa88f600b0e6b624077"
