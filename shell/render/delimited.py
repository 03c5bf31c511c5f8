"""Comma and tab separated values."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shell.render.base import RenderOptions, TextSink
from shell.values import Column, Row, text_columns

_CSV_SPECIAL = re.compile(r'[,"\r\n]|^[ \t]|[ \t]\Z|\A\Z')
_TSV_SPECIAL = re.compile(r"[\t\n\r\0\\]")
_TSV_ESCAPES = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0", "\\": "\\\\"}


def csv_field(text: str) -> str:
    """Returns a field of RFC 4180, quoted where it must be; an empty string is quoted so that NULL is not one."""
    return '"' + text.replace('"', '""') + '"' if _CSV_SPECIAL.search(text) else text


def tsv_field(text: str) -> str:
    """Returns a field with the escapes that LOAD DATA and the mysql client's batch mode use."""
    return _TSV_SPECIAL.sub(lambda m: _TSV_ESCAPES[m[0]], text) if _TSV_SPECIAL.search(text) else text


class CsvWriter:
    """RFC 4180: lines end in CR LF; a row of one NULL column is an empty line."""

    def __init__(self, out: TextSink, options: RenderOptions) -> None:
        self._out = out
        self._header = options.header

    def begin(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        if self._header:
            self._out.write(",".join(csv_field(c.name) for c in columns) + "\r\n")

    def rows(self, batch: Sequence[Row]) -> None:
        fields = text_columns(self._columns, batch, "", csv_field)
        self._out.write("\r\n".join(map(",".join, zip(*fields, strict=True))) + "\r\n")

    def end(self) -> None:
        return


class TsvWriter:
    """Tab separated; NULL is \\N."""

    def __init__(self, out: TextSink, options: RenderOptions) -> None:
        self._out = out
        self._header = options.header

    def begin(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        if self._header:
            self._out.write("\t".join(tsv_field(c.name) for c in columns) + "\n")

    def rows(self, batch: Sequence[Row]) -> None:
        fields = text_columns(self._columns, batch, "\\N", tsv_field)
        self._out.write("\n".join(map("\t".join, zip(*fields, strict=True))) + "\n")

    def end(self) -> None:
        return
