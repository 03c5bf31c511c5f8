"""One column per line, for rows too wide to read side by side."""

from __future__ import annotations

from collections.abc import Sequence

from shell.render.base import RenderOptions, TextSink
from shell.text import many_lines, one_line, pad, width
from shell.values import Column, Row, text_columns

_STARS = "*" * 27


class VerticalWriter:
    """`name: value` lines below a line of stars with the row's number. Names are part of it, header or not."""

    def __init__(self, out: TextSink, options: RenderOptions) -> None:
        self._out = out
        self._number = 0

    def begin(self, columns: Sequence[Column]) -> None:
        names = [one_line(c.name) for c in columns]
        cells = max(map(width, names), default=0)
        self._labels = [pad(name, cells, right=True) + ": " for name in names]
        self._columns = columns

    def rows(self, batch: Sequence[Row]) -> None:
        lines: list[str] = []
        for row in zip(*text_columns(self._columns, batch, "NULL", many_lines), strict=True):
            self._number += 1
            lines.append(f"{_STARS} {self._number}. row {_STARS}\n")
            lines.extend([f"{label}{text}\n" for label, text in zip(self._labels, row, strict=True)])
        self._out.write("".join(lines))

    def end(self) -> None:
        return
