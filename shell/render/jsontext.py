"""JSON: an array of objects, or one object per line. Values are spelled as `shell.values` says.

Objects keep the order of the columns. Columns of equal names get `_2`, `_3` … so that no value is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import add

from shell.render.base import RenderOptions, TextSink
from shell.values import Column, Row, json_columns, json_string


def unique_names(names: Sequence[str]) -> list[str]:
    """Returns the names with a number behind each that was there before."""
    taken = set(names)
    seen: set[str] = set()
    out = []
    for name in names:
        candidate, number = name, 1
        while candidate in seen or (number > 1 and candidate in taken):
            number += 1
            candidate = f"{name}_{number}"
        seen.add(candidate)
        out.append(candidate)
    return out


class _ObjectWriter:
    def __init__(self, out: TextSink, options: RenderOptions) -> None:
        self._out = out

    def begin(self, columns: Sequence[Column]) -> None:
        self._keys = [f"{json_string(name)}: " for name in unique_names([c.name for c in columns])]
        self._columns = columns

    def _objects(self, batch: Sequence[Row]) -> list[str]:
        values = zip(*json_columns(self._columns, batch), strict=True)
        return ["{" + ", ".join(map(add, self._keys, row)) + "}" for row in values]


class JsonWriter(_ObjectWriter):
    """One array for the result."""

    _rows_before = False

    def rows(self, batch: Sequence[Row]) -> None:
        self._out.write((",\n" if self._rows_before else "[\n") + ",\n".join(self._objects(batch)))
        self._rows_before = True

    def end(self) -> None:
        self._out.write("\n]\n" if self._rows_before else "[]\n")


class JsonLinesWriter(_ObjectWriter):
    """One object per line."""

    def rows(self, batch: Sequence[Row]) -> None:
        self._out.write("".join([line + "\n" for line in self._objects(batch)]))

    def end(self) -> None:
        return
