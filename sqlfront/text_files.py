"""Text files as MySQL's LOAD DATA reads them and SELECT ... INTO OUTFILE writes them.

A row is a list of fields, None for NULL. Files are read as UTF-8 (or another character set) whose wrong bytes are
escaped, so that binary values come through; `FileForm` says what separates, encloses and escapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, TextIO

from coprocessor.convert import to_text
from coprocessor.types import FieldType, Tp
from sqlfront.errors import error
from sqlfront.parse.statements import FileForm

READ_CHARS = 1 << 20
ROW_CHARS_MAX = 64 << 20  # a row that has no end is not looked for longer than this

Field = str | bytes | None

_UNDECODED = re.compile("[\udc80-\udcff]")
_MEANT = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}
_NUMBERS = frozenset("0123456789+-.e")


def read_rows(stream: TextIO, form: FileForm) -> Iterator[list[Field]]:
    """Yields the rows of a file. Raises 1105 for a row that does not end."""
    reader = _Reader(form)
    text, ended = "", False
    while True:
        at = 0
        while True:
            at = yield from reader.plain_rows(text, at)
            found = reader.row(text, at, ended)
            if found is None:
                break
            row, at = found
            if row is not None:
                yield row
        text = text[at:]
        if ended:
            return
        if len(text) > ROW_CHARS_MAX:
            raise error(1105, f"a row of the file is longer than {ROW_CHARS_MAX} characters: is a quote not closed?")
        more = stream.read(READ_CHARS)
        ended = not more
        text += more


class _Reader:
    """Cuts rows out of text; what a row needs may not be there yet."""

    def __init__(self, form: FileForm) -> None:
        self.form = form
        self._escape = "" if form.escaped == form.enclosed else form.escaped  # a quote is doubled in any case
        pair = f"{re.escape(self._escape)}." if self._escape else ""
        ends = [re.escape(form.terminated), re.escape(form.ending)]
        self._special = re.compile("|".join(filter(None, (pair, *ends))), re.DOTALL)
        self._close = re.compile("|".join(filter(None, (pair, re.escape(form.enclosed)))), re.DOTALL)
        self._escaped = re.compile(f"{re.escape(self._escape)}(.)", re.DOTALL)
        self._marks = tuple(filter(None, (self._escape, form.enclosed)))
        self._longest = max(len(form.terminated), len(form.ending), 2)

    def plain_rows(self, text: str, at: int) -> Generator[list[Field], None, int]:
        """Whole rows without quotes, escapes and bytes, up to the first one that has some; where that begins."""
        form = self.form
        ending, size, separator = form.ending, len(form.ending), form.terminated
        if form.starting or separator in ending or ending in separator:
            return at
        marks, null = self._marks, "NULL" if form.enclosed or not self._escape else ""
        while (end := text.find(ending, at)) >= 0:
            line = text[at:end]
            if not line.isascii() and _UNDECODED.search(line):
                break
            if any(mark in line for mark in marks) or (null and null in line):
                break
            yield line.split(separator)  # type: ignore[misc]
            at = end + size
        return at

    def row(self, text: str, at: int, ended: bool) -> tuple[list[Field] | None, int] | None:
        """The row that begins at `at`, and where the next one does; None for text that ends before the row."""
        form = self.form
        if form.starting:
            start = text.find(form.starting, at)
            if start < 0:
                return None
            at = start + len(form.starting)
        elif at >= len(text):
            return None
        row: list[Field] = []
        while True:
            found = self._enclosed(text, at, ended) if form.enclosed and text.startswith(form.enclosed, at) else None
            if found is None:
                found = self._plain(text, at, ended)
            if found is None:
                return None
            value, at, last = found
            row.append(value)
            if last:
                return row, at

    def _plain(self, text: str, at: int, ended: bool) -> tuple[Field, int, bool] | None:
        """A field without quotes: up to what separates fields, or ends the row."""
        begin = at
        while True:
            match = self._special.search(text, at)
            if match is None:
                return (self._value(text[begin:]), len(text), True) if ended else None
            if match[0][0] == self._escape:
                at = match.end()
                continue
            close = match.start()
            if not ended and close + self._longest > len(text):
                return None
            last = self._is_ending(text, close)
            size = len(self.form.ending if last else self.form.terminated)
            return self._value(text[begin:close]), close + size, last

    def _is_ending(self, text: str, at: int) -> bool:
        """Whether what was found ends the row; of two marks that begin alike the longer one counts."""
        form = self.form
        ends, separates = text.startswith(form.ending, at), text.startswith(form.terminated, at)
        return ends and (not separates or len(form.ending) >= len(form.terminated))

    def _enclosed(self, text: str, at: int, ended: bool) -> tuple[Field, int, bool] | None:
        """A field in quotes; a quote that is doubled stands for one, and one that nothing ends after is text."""
        form, mark = self.form, self.form.enclosed
        at += 1
        begin, doubled = at, False
        while True:
            match = self._close.search(text, at)
            if match is None:
                return None
            if match.group() != mark:
                at = match.end()
                continue
            close, after = match.start(), match.end()
            if not ended and after + self._longest > len(text):
                return None
            if text.startswith(mark, after):
                doubled, at = True, after + 1
                continue
            last = after >= len(text) or self._is_ending(text, after)
            if not last and not text.startswith(form.terminated, after):
                at = after
                continue
            value = text[begin:close]
            if doubled:
                value = value.replace(mark + mark, mark)
            size = 0 if after >= len(text) else len(form.ending if last else form.terminated)
            return self._unescaped(value), after + size, last

    def _value(self, text: str) -> Field:
        """What stands outside of quotes."""
        if text == "NULL" and (self.form.enclosed or not self._escape):
            return None
        return self._unescaped(text)

    def _unescaped(self, text: str) -> Field:
        """What escapes stand for; NULL for the one that is NULL, which counts in quotes too."""
        if self._escape and self._escape in text:
            if text == self._escape + "N":
                return None
            text = self._escaped.sub(lambda m: _MEANT.get(m[1], m[1]), text)
        if text.isascii():
            return text
        data = text.encode("utf-8", "surrogateescape")
        try:
            data.decode()
        except UnicodeDecodeError:
            return data
        return text


def row_writer(form: FileForm, types: Sequence[FieldType]) -> Callable[[Iterable[Sequence[Any]]], bytes]:
    """Returns what makes lines of rows of these types."""
    cells = [_cell(form, type_) for type_ in types]
    between, start, end = form.terminated.encode(), form.starting.encode(), form.ending.encode()

    def lines(rows: Iterable[Sequence[Any]]) -> bytes:
        return b"".join(
            start + between.join([cell(value) for cell, value in zip(cells, row, strict=True)]) + end for row in rows
        )

    return lines


def plain_bytes(value: Any, type_: FieldType) -> bytes:
    """A value as text, without anything around it; NULL is nothing."""
    if value is None:
        return b""
    return value if isinstance(value, bytes) else to_text(value, type_).encode()


def _cell(form: FileForm, type_: FieldType) -> Callable[[Any], bytes]:
    numeric = type_.is_numeric and type_.tp != Tp.BIT
    quote = form.enclosed.encode() if not (form.optionally and numeric) else b""
    null = form.escaped.encode() + b"N" if form.escaped else b"NULL"
    # In quotes only these end the field; what begins a row's end is escaped in any case.
    special = {form.escaped, form.enclosed or form.terminated[0], form.ending[0]} - {""}
    plain = not form.escaped or (numeric and not any(c in _NUMBERS for c in special))
    escape = form.escaped.encode()
    found = re.compile(b"[\0" + b"".join(re.escape(c.encode()) for c in sorted(special)) + b"]")

    def escaped(match: re.Match[bytes]) -> bytes:
        return escape + (b"0" if match[0] == b"\0" else match[0])

    def cell(value: Any) -> bytes:
        if value is None:
            return null
        data = plain_bytes(value, type_)
        return quote + (data if plain else found.sub(escaped, data)) + quote

    return cell
