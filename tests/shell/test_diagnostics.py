"""Errors with their line and a caret."""

from __future__ import annotations

from shell.diagnostics import EXCERPT_CHARS_MAX, error_text, excerpt, location_text
from shell.statements import Statement
from sqlfront.errors import error


def test_error_with_position() -> None:
    statement = Statement("select *\nfrom ordes\nwhere 1", 4)
    problem = error(1146, "Table 'shop.ordes' doesn't exist", position=statement.text.index("ordes"))
    assert error_text(problem, statement) == (
        "ERROR 1146 (42S02): Table 'shop.ordes' doesn't exist\nLINE 5: from ordes\n             ^\n"
    )


def test_error_without_position() -> None:
    assert error_text(error(1213, "Deadlock found"), Statement("x")) == "ERROR 1213 (40001): Deadlock found\n"
    assert error_text(error(1064, "bad", position=99), Statement("x")) == "ERROR 1064 (42000): bad\n"


def test_caret_counts_cells_not_characters() -> None:
    assert excerpt(Statement("select '東京', x"), 13) == "LINE 1: select '東京', x\n                       ^\n"
    assert excerpt(Statement("\tselect\t1 x"), 10) == "LINE 1:  select 1 x\n                  ^\n"


def test_caret_at_the_end() -> None:
    assert excerpt(Statement("select"), 6) == "LINE 1: select\n              ^\n"
    assert excerpt(Statement("select\n"), 7) == "LINE 2: \n        ^\n"


def test_a_long_line_is_shown_around_the_place() -> None:
    text = "a" * 500 + "!" + "b" * 500
    line, caret = excerpt(Statement(text), 500).splitlines()
    assert line.startswith("LINE 1: …a")
    assert line.endswith("b…")
    assert len(line) == len("LINE 1: ……") + EXCERPT_CHARS_MAX
    assert line[len(caret) - 1] == "!"


def test_control_characters_in_source_and_message_are_shown() -> None:
    statement = Statement("select \x1b[2J x")
    text = error_text(error(1054, "Unknown column '\x1b[2Jx'", position=12), statement)
    assert "\x1b" not in text
    line, caret = text.splitlines()[1:]
    assert line[len(caret) - 1] == "x"


def test_location() -> None:
    assert location_text(Statement("select 1\n+ 1", 7)) == "LINE 7: select 1\n"
    assert location_text(Statement("x" * 200, 1)) == f"LINE 1: {'x' * EXCERPT_CHARS_MAX}…\n"
