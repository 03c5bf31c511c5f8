"""One column per line, for rows too wide to read side by side."""

from __future__ import annotations

from collections.abc import Sequence

from shell.render.base import RenderOptions, TextSink
from shell.text import many_lines, one_line, pad, width
from shell.values import Column, Row, text_converter

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
        self._converters = [text_converter(c, "NULL") for c in columns]

    def rows(self, batch: Sequence[Row]) -> None:
        lines: list[str] = []
        for row in batch:
            self._number += 1
            lines.append(f"{_STARS} {self._number}. row {_STARS}\n")
            for label, convert, value in zip(self._labels, self._converters, row, strict=True):
                lines.append(f"{label}{many_lines(convert(value))}\n")
        self._out.write("".join(lines))

    def end(self) -> None:
        return
