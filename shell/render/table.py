"""Boxed tables. Column widths come from the first rows; what follows streams.

On a terminal the text columns shrink, the widest first, until a row fits in a line, and what is cut ends in `…`;
numbers are never cut. Elsewhere nothing is cut: a cell wider than its column pushes the rest of its line to the right.
A newline in a value begins a new line within the cell.
"""

from __future__ import annotations

from collections.abc import Sequence

from shell.render.base import RenderOptions, TextSink
from shell.text import ELLIPSIS, cut, many_lines, one_line, pad, width
from shell.values import Column, Row, text_columns

TABLE_SAMPLE_ROWS = 1000
TEXT_CELLS_MIN = 8
TERMINAL_CELL_LINES_MAX = 40

_Cells = Sequence[str]


class TableWriter:
    """Rows between lines of `+---+`."""

    def __init__(self, out: TextSink, options: RenderOptions) -> None:
        self._out = out
        self._options = options
        self._sample: list[_Cells] | None = []
        self._widths: list[int] = []

    def begin(self, columns: Sequence[Column]) -> None:
        self._names = [one_line(c.name) for c in columns]
        self._right = [c.numeric for c in columns]
        self._columns = columns

    def rows(self, batch: Sequence[Row]) -> None:
        cells: list[_Cells] = list(zip(*text_columns(self._columns, batch, "NULL", many_lines), strict=True))
        if self._sample is None:
            self._write(cells)
            return
        self._sample.extend(cells)
        if len(self._sample) >= TABLE_SAMPLE_ROWS:
            self._flush_sample()

    def end(self) -> None:
        self._flush_sample()
        self._out.write(self._rule)

    def _flush_sample(self) -> None:
        if self._sample is None:
            return
        sample, self._sample = self._sample, None
        self._widths = self._measure(sample)
        self._rule = "+" + "+".join("-" * (w + 2) for w in self._widths) + "+\n"
        self._out.write(self._rule)
        if self._options.header:
            self._write([self._names])
            self._out.write(self._rule)
        self._write(sample)

    def _measure(self, sample: list[_Cells]) -> list[int]:
        widths = [width(name) for name in self._names] if self._options.header else [1] * len(self._names)
        for row in sample:
            for i, cell in enumerate(row):
                if len(cell) > widths[i] or not cell.isascii():
                    widths[i] = max(widths[i], *(width(line) for line in cell.split("\n")))
        columns = self._options.terminal_columns
        return widths if columns is None else fit(widths, self._right, columns - 3 * len(widths) - 1)

    def _write(self, rows: list[_Cells]) -> None:
        lines: list[str] = []
        plain = self._options.terminal_columns is None
        for row in rows:
            if any("\n" in cell for cell in row):
                lines.extend(self._tall_row(row))
            elif plain:
                lines.append(self._line(row))
            else:
                lines.append(self._line(self._cut_row(row)))
        self._out.write("".join(lines))

    def _cut_row(self, row: _Cells) -> _Cells:
        return [cell if right else cut(cell, w) for cell, w, right in zip(row, self._widths, self._right, strict=True)]

    def _tall_row(self, row: _Cells) -> list[str]:
        parts = [cell.split("\n") for cell in row]
        if self._options.terminal_columns is not None:
            for part in parts:
                if len(part) > TERMINAL_CELL_LINES_MAX:
                    part[TERMINAL_CELL_LINES_MAX - 1 :] = [ELLIPSIS]
        lines = []
        for i in range(max(map(len, parts))):
            cells = [part[i] if i < len(part) else "" for part in parts]
            lines.append(self._line(cells if self._options.terminal_columns is None else self._cut_row(cells)))
        return lines

    def _line(self, cells: _Cells) -> str:
        padded = [pad(c, w, right=r) for c, w, r in zip(cells, self._widths, self._right, strict=True)]
        return "| " + " | ".join(padded) + " |\n"


def fit(widths: Sequence[int], fixed: Sequence[bool], available: int) -> list[int]:
    """Returns the widths, the widest of the columns not fixed shrunk until the sum is `available`, if that can be."""
    room = available - sum(w for w, keep in zip(widths, fixed, strict=True) if keep)
    flexible = [w for w, keep in zip(widths, fixed, strict=True) if not keep]
    if sum(flexible) <= room:
        return list(widths)
    low, high = TEXT_CELLS_MIN, max(flexible, default=TEXT_CELLS_MIN)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(w, middle) for w in flexible) <= room:
            low = middle
        else:
            high = middle - 1
    spare = max(room - sum(min(w, low) for w in flexible), 0)
    fitted = []
    for w, keep in zip(widths, fixed, strict=True):
        if keep or w <= low:
            fitted.append(w)
        else:
            fitted.append(low + (1 if spare > 0 else 0))
            spare -= 1
    return fitted
