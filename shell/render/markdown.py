"""Markdown tables (the pipe tables of GitHub and many others)."""

from __future__ import annotations

from collections.abc import Sequence

from shell.render.base import RenderOptions, TextSink
from shell.values import Column, Row, text_columns


def cell(text: str) -> str:
    """Returns text that stays within its cell: pipes and backslashes escaped, newlines as <br>."""
    escaped = text.replace("\\", "\\\\").replace("|", "\\|")
    return escaped.replace("\r\n", "<br>").replace("\n", "<br>").replace("\r", "<br>")


class MarkdownWriter:
    """A header line, a line of dashes that aligns numbers right, and the rows."""

    def __init__(self, out: TextSink, options: RenderOptions) -> None:
        self._out = out
        self._header = options.header

    def begin(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        if self._header:
            self._out.write("| " + " | ".join(cell(c.name) for c in columns) + " |\n")
            self._out.write("|" + "|".join(" ---: " if c.numeric else " --- " for c in columns) + "|\n")

    def rows(self, batch: Sequence[Row]) -> None:
        cells = text_columns(self._columns, batch, "NULL", cell)
        self._out.write("".join([f"| {line} |\n" for line in map(" | ".join, zip(*cells, strict=True))]))

    def end(self) -> None:
        return
