"""Errors as a user reads them: MySQL's code and SQLSTATE, the message, and the source line with a caret.

ERROR 1146 (42S02): Table 'shop.ordes' doesn't exist
LINE 2: from ordes
             ^
"""

from __future__ import annotations

from shell.statements import Statement
from shell.text import ELLIPSIS, many_lines, one_line, width
from sqlfront.errors import Error

EXCERPT_CHARS_MAX = 100


def error_text(error: Error, statement: Statement | None = None) -> str:
    """Returns the lines that describe an error, ending in a newline."""
    text = f"ERROR {error.code} ({error.sqlstate}): {many_lines(error.message)}\n"
    if statement is not None and 0 <= error.position <= len(statement.text):
        text += excerpt(statement, error.position)
    return text


def location_text(statement: Statement) -> str:
    """Returns the line on which a statement begins, for an error that has no position."""
    first = one_line(statement.text.split("\n", 1)[0])
    if len(first) > EXCERPT_CHARS_MAX:
        first = first[:EXCERPT_CHARS_MAX] + ELLIPSIS
    return f"LINE {statement.line}: {first}\n"


def excerpt(statement: Statement, position: int) -> str:
    """Returns the line at a character offset and a caret below it; a long line is shown around the place."""
    text = statement.text
    begin = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = text[begin : len(text) if end < 0 else end]
    column = position - begin
    number = statement.line + text.count("\n", 0, begin)
    head = ""
    if len(line) > EXCERPT_CHARS_MAX:
        left = max(0, min(column - EXCERPT_CHARS_MAX // 2, len(line) - EXCERPT_CHARS_MAX))
        right = left + EXCERPT_CHARS_MAX
        head = ELLIPSIS if left else ""
        line = line[left:right] + (ELLIPSIS if right < len(line) else "")
        column -= left
    label = f"LINE {number}: {head}"
    before = one_line(line[:column].replace("\t", " "))
    after = one_line(line[column:].replace("\t", " "))
    return f"{label}{before}{after}\n{' ' * (width(label) + width(before))}^\n"


def plain_error_text(message: str) -> str:
    """Returns the line for an error that is the shell's own, not the database's."""
    return f"ERROR: {many_lines(message)}\n"
