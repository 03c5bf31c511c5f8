"""What a command found, printed as a table for people or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Value = str | int | float | bool | None | Sequence["Value"] | dict[str, "Value"]
Format = Literal["table", "json"]


@dataclass(frozen=True, slots=True)
class Report:
    """Rows under columns; `single` is for one thing, which JSON has as an object and the table as two columns."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Value]]
    single: bool = False


def one(**fields: Value) -> Report:
    """A report of one thing."""
    return Report(tuple(fields), [tuple(fields.values())], single=True)


def render(report: Report, format: Format) -> str:
    """The report as text, without the last line's end."""
    if format == "json":
        objects = [dict(zip(report.columns, row, strict=True)) for row in report.rows]
        return json.dumps(objects[0] if report.single else objects, indent=2, ensure_ascii=False)
    if report.single:
        width = max(map(len, report.columns))
        (row,) = report.rows
        return "\n".join(f"{name:{width}}  {_cell(value)}" for name, value in zip(report.columns, row, strict=True))
    cells = [report.columns, *([_cell(value) for value in row] for row in report.rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(report.columns))]
    right = [bool(report.rows) and all(_is_number(row[at]) for row in report.rows) for at in range(len(widths))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in cells
    )


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(value: Value) -> str:
    """A value in one line, without what would move the terminal's cursor."""
    match value:
        case None:
            text = "-"
        case bool():
            text = "yes" if value else "no"
        case dict():
            text = ",".join(f"{name}={_cell(item)}" for name, item in value.items())
        case str() | int() | float():
            text = str(value)
        case _:
            text = ",".join(_cell(item) for item in value)
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
