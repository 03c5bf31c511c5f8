"""Every format on the same awkward rows: NULL, wide characters, newlines, control characters, bytes, nothing at all."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Sequence
from decimal import Decimal

import pytest

from shell.render import FORMATS, row_writer
from shell.render import table as table_module
from shell.render.base import RenderOptions
from shell.render.table import fit
from shell.values import Column, Row

COLUMNS = [Column("id", numeric=True), Column("name"), Column("price|€", numeric=True), Column("raw")]
ROWS: list[Row] = [
    (1, "pen", Decimal("1.20"), b"\x00\xff"),
    (22, "東京", None, None),
    (-3, 'a "b", c|d\\', Decimal("1E+3"), b""),
    (4, "two\nlines", 0.1, "tab\there"),
    (5, "\x1b[2J\u202ered", 1e300, ""),
]


def render(
    form: str, columns: Sequence[Column], rows: Sequence[Row], *, header: bool = True, terminal: int | None = None
) -> str:
    out = io.StringIO(newline="")
    writer = row_writer(form, out, RenderOptions(header, terminal))
    writer.begin(columns)
    for start in range(0, len(rows), 2):
        writer.rows(rows[start : start + 2])
    writer.end()
    return out.getvalue()


GOLDEN = {
    "table": """\
+----+------------------+---------+-----------+
| id | name             | price|€ | raw       |
+----+------------------+---------+-----------+
|  1 | pen              |    1.20 | 0x00FF    |
| 22 | 東京             |    NULL | NULL      |
| -3 | a "b", c|d\\      |    1000 | 0x        |
|  4 | two              |     0.1 | tab\\there |
|    | lines            |         |           |
|  5 | \\x1b[2J\\u202ered |   1e300 |           |
+----+------------------+---------+-----------+
""",
    "vertical": """\
*************************** 1. row ***************************
     id: 1
   name: pen
price|€: 1.20
    raw: 0x00FF
*************************** 2. row ***************************
     id: 22
   name: 東京
price|€: NULL
    raw: NULL
*************************** 3. row ***************************
     id: -3
   name: a "b", c|d\\
price|€: 1000
    raw: 0x
*************************** 4. row ***************************
     id: 4
   name: two
lines
price|€: 0.1
    raw: tab\\there
*************************** 5. row ***************************
     id: 5
   name: \\x1b[2J\\u202ered
price|€: 1e300
    raw:\x20
""",
    "csv": (
        "id,name,price|€,raw\r\n"
        "1,pen,1.20,0x00FF\r\n"
        "22,東京,,\r\n"
        '-3,"a ""b"", c|d\\",1000,0x\r\n'
        '4,"two\nlines",0.1,tab\there\r\n'
        '5,\x1b[2J\u202ered,1e300,""\r\n'
    ),
    "tsv": (
        "id\tname\tprice|€\traw\n"
        "1\tpen\t1.20\t0x00FF\n"
        "22\t東京\t\\N\t\\N\n"
        '-3\ta "b", c|d\\\\\t1000\t0x\n'
        "4\ttwo\\nlines\t0.1\ttab\\there\n"
        "5\t\x1b[2J\u202ered\t1e300\t\n"
    ),
    "json": """\
[
{"id": 1, "name": "pen", "price|€": 1.20, "raw": "0x00FF"},
{"id": 22, "name": "東京", "price|€": null, "raw": null},
{"id": -3, "name": "a \\"b\\", c|d\\\\", "price|€": 1000, "raw": "0x"},
{"id": 4, "name": "two\\nlines", "price|€": 0.1, "raw": "tab\\there"},
{"id": 5, "name": "\\u001b[2J\\u202ered", "price|€": 1e+300, "raw": ""}
]
""",
    "jsonl": """\
{"id": 1, "name": "pen", "price|€": 1.20, "raw": "0x00FF"}
{"id": 22, "name": "東京", "price|€": null, "raw": null}
{"id": -3, "name": "a \\"b\\", c|d\\\\", "price|€": 1000, "raw": "0x"}
{"id": 4, "name": "two\\nlines", "price|€": 0.1, "raw": "tab\\there"}
{"id": 5, "name": "\\u001b[2J\\u202ered", "price|€": 1e+300, "raw": ""}
""",
    "markdown": """\
| id | name | price\\|€ | raw |
| ---: | --- | ---: | --- |
| 1 | pen | 1.20 | 0x00FF |
| 22 | 東京 | NULL | NULL |
| -3 | a "b", c\\|d\\\\ | 1000 | 0x |
| 4 | two<br>lines | 0.1 | tab\there |
| 5 | \x1b[2J\u202ered | 1e300 |  |
""",
}

EMPTY = {
    "table": "+----+------+---------+-----+\n| id | name | price|€ | raw |\n+----+------+---------+-----+\n"
    "+----+------+---------+-----+\n",
    "vertical": "",
    "csv": "id,name,price|€,raw\r\n",
    "tsv": "id\tname\tprice|€\traw\n",
    "json": "[]\n",
    "jsonl": "",
    "markdown": "| id | name | price\\|€ | raw |\n| ---: | --- | ---: | --- |\n",
}


def test_every_text_format_is_golden() -> None:
    assert set(GOLDEN) == set(EMPTY) == set(FORMATS) - {"arrow", "parquet"}


@pytest.mark.parametrize("form", GOLDEN)
def test_golden(form: str) -> None:
    assert render(form, COLUMNS, ROWS) == GOLDEN[form]


@pytest.mark.parametrize("form", EMPTY)
def test_empty(form: str) -> None:
    assert render(form, COLUMNS, []) == EMPTY[form]


@pytest.mark.parametrize("form", ["table", "csv", "tsv", "markdown"])
def test_without_header(form: str) -> None:
    text = render(form, COLUMNS, ROWS[:1], header=False)
    assert "name" not in text
    assert "pen" in text


def test_csv_reads_back() -> None:
    rows = list(csv.reader(io.StringIO(render("csv", COLUMNS, ROWS), newline="")))
    assert [r[1] for r in rows] == ["name", *(r[1] for r in ROWS)]


def test_csv_tells_null_from_an_empty_string() -> None:
    assert render("csv", [Column("a"), Column("b")], [(None, "")], header=False) == ',""\r\n'
    assert render("csv", [Column("a")], [(None,), ("",)], header=False) == '\r\n""\r\n'


def test_json_reads_back_with_every_digit() -> None:
    big, exact = 2**64 - 1, Decimal("12345678901234567890.123456789")
    text = render("json", [Column("i"), Column("d")], [(big, exact)])
    assert json.loads(text, parse_float=Decimal) == [{"i": big, "d": exact}]


def test_json_has_no_value_it_cannot_spell() -> None:
    text = render("jsonl", [Column("a"), Column("b")], [(float("nan"), float("inf"))])
    assert json.loads(text) == {"a": "nan", "b": "inf"}
    assert json.loads(render("jsonl", [Column("a")], [("\x7f\x9b\x00\u2028",)])) == {"a": "\x7f\x9b\x00\u2028"}
    assert "\x9b" not in render("jsonl", [Column("a")], [("\x9b",)])


def test_json_embeds_json_and_keeps_columns_of_equal_names() -> None:
    columns = [Column("a", json=True), Column("a"), Column("a_2"), Column("a")]
    text = render("jsonl", columns, [('{"k": [1]}', 1, 2, 3)])
    assert json.loads(text) == {"a": {"k": [1]}, "a_3": 1, "a_2": 2, "a_4": 3}


@pytest.mark.parametrize(
    ("value", "column", "text"),
    [
        (dt.date(2013, 1, 31), Column("c"), "2013-01-31"),
        (dt.datetime(2013, 1, 31, 17, 5), Column("c", fraction=0), "2013-01-31 17:05:00"),
        (dt.datetime(2013, 1, 31, 17, 5), Column("c", fraction=3), "2013-01-31 17:05:00.000"),
        (dt.datetime(2013, 1, 31, 17, 5, 0, 120), Column("c"), "2013-01-31 17:05:00.000120"),
        (dt.timedelta(hours=-838, minutes=-59, seconds=-59), Column("c"), "-838:59:59"),
        (dt.timedelta(microseconds=500_000), Column("c", fraction=1), "00:00:00.5"),
        (1.0, Column("c"), "1"),
        (1e20, Column("c"), "1e20"),
        (0.10000000149011612, Column("c", single=True), "0.1"),
        (16777217.0, Column("c"), "16777217"),
        (True, Column("c"), "1"),
        (Decimal("0E-7"), Column("c"), "0.0000000"),
        (bytearray(b"a"), Column("c"), "0x61"),
    ],
)
def test_values_as_text(value: object, column: Column, text: str) -> None:
    assert render("tsv", [column], [(value,)], header=False) == text + "\n"


def test_values_as_json() -> None:
    row = (dt.datetime(2013, 1, 31, 17, 5), dt.date(2013, 1, 31), dt.timedelta(hours=1), 2.0)
    columns = [Column(n) for n in "abcd"]
    assert render("jsonl", columns, [row]) == (
        '{"a": "2013-01-31T17:05:00", "b": "2013-01-31", "c": "01:00:00", "d": 2.0}\n'
    )


def test_a_terminal_table_cuts_text_and_never_numbers() -> None:
    columns = [Column("id", numeric=True), Column("short"), Column("long")]
    rows: list[Row] = [(12345678901234567890, "abc", "x" * 5000), (1, "東京", "東" * 40)]
    assert render("table", columns, rows, terminal=50) == (
        "+----------------------+-------+-----------------+\n"
        "|                   id | short | long            |\n"
        "+----------------------+-------+-----------------+\n"
        "| 12345678901234567890 | abc   | xxxxxxxxxxxxxx… |\n"
        "|                    1 | 東京  | 東東東東東東東… |\n"
        "+----------------------+-------+-----------------+\n"
    )


def test_off_the_terminal_nothing_is_cut() -> None:
    assert "x" * 5000 in render("table", [Column("a")], [("x" * 5000,)])


def test_tall_cells_are_limited_on_a_terminal() -> None:
    tall = "\n".join(str(i) for i in range(1000))
    assert (
        render("table", [Column("a")], [(tall,)], terminal=80).count("\n") == table_module.TERMINAL_CELL_LINES_MAX + 4
    )
    assert render("table", [Column("a")], [(tall,)]).count("\n") == 1004


def test_rows_after_the_sample_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "TABLE_SAMPLE_ROWS", 2)
    out = io.StringIO()
    writer = row_writer("table", out, RenderOptions())
    writer.begin([Column("a")])
    writer.rows([("x",)])
    assert out.getvalue() == ""
    writer.rows([("y",)])
    assert out.getvalue() == "+---+\n| a |\n+---+\n| x |\n| y |\n"
    writer.rows([("wider",)])
    writer.end()
    assert out.getvalue().endswith("| y |\n| wider |\n+---+\n")


@pytest.mark.parametrize(
    ("widths", "fixed", "available", "expected"),
    [
        ([5, 5], [False, False], 20, [5, 5]),
        ([50, 5], [False, False], 20, [15, 5]),
        ([50, 50], [False, False], 31, [16, 15]),
        ([30, 50], [True, False], 20, [30, 8]),
        ([100, 100, 100], [False] * 3, 0, [8, 8, 8]),
    ],
)
def test_fit(widths: list[int], fixed: list[bool], available: int, expected: list[int]) -> None:
    assert fit(widths, fixed, available) == expected
