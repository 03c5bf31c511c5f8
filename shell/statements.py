"""Splits SQL text into statements while it arrives: scripts of any size, standard input, what a user types.

A statement ends at the delimiter (`;` unless DELIMITER changed it), at `\\G` or `\\g`, or at the end of the input.
Strings, quoted identifiers and comments are skipped as MySQL's lexer reads them: backslash escapes inside '…' and "…",
a doubled quote stands for itself, `--` opens a comment only before white space, `/* … */` does not nest. A line that
begins with a backslash where no statement is pending is a command of the shell.

Nothing here understands SQL; the database parses each statement. The text is scanned once, however it is cut into
chunks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

STATEMENT_CHARS_MAX = 256 * 1024 * 1024
DEFAULT_DELIMITER = ";"

_SPACE = re.compile(r"\s*+")
_QUOTED = {
    "'": re.compile(r"(?:[^'\\]++|\\.)*+", re.DOTALL),
    '"': re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL),
    "`": re.compile(r"[^`]*+"),
}
_DELIMITER_LINE = re.compile(r"delimiter(?:[ \t]+([^\n]*))?(?=\n|\Z)", re.IGNORECASE)
_DELIMITER_WORD = "delimiter"
_EXECUTABLE_COMMENTS = ("/*!", "/*+", "/*T!")
_LINE_COMMENT = "--"
_BLOCK_COMMENT = "/*"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement without its terminator. `line` is where its first character stands, counted from 1."""

    text: str
    line: int = 1
    terminator: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A line for the shell itself, with its backslash."""

    text: str
    line: int = 1


Piece = Statement | Command


class StatementTooLong(Exception):
    """One statement is longer than `STATEMENT_CHARS_MAX` characters (an unclosed quote, most often)."""


class Splitter:
    """Takes text in chunks and gives the statements that are complete."""

    def __init__(self, delimiter: str = DEFAULT_DELIMITER) -> None:
        self._set_delimiter(delimiter)
        self._text = ""
        self._pos = 0
        self._begin = -1  # the first character of the pending statement; -1 while there is only space and comments
        self._inside = ""  # the quote or comment that is open
        self._line = 1  # of `_counted`
        self._counted = 0

    @property
    def continuation(self) -> str:
        """What the input still waits for: "" nothing, a quote, "/*", or "-" for the end of a statement."""
        if self._inside in _QUOTED or self._inside == _BLOCK_COMMENT:
            return self._inside
        return "-" if self._begin >= 0 else ""

    def feed(self, text: str) -> Iterator[Piece]:
        """Takes a chunk and yields the pieces that it completes."""
        self._drop_consumed()
        self._text += text
        if len(self._text) > STATEMENT_CHARS_MAX:
            raise StatementTooLong(
                f"a statement is longer than {STATEMENT_CHARS_MAX} characters: is a quote not closed?"
            )
        yield from self._pieces(final=False)

    def finish(self) -> Iterator[Piece]:
        """Yields what is left at the end of the input; an unclosed quote is left for the database to complain about."""
        yield from self._pieces(final=True)
        if self._begin >= 0:
            yield self._statement(len(self._text), "")
        self._pos = len(self._text)
        self._inside = ""

    def _set_delimiter(self, delimiter: str) -> None:
        self.delimiter = delimiter
        self._plain = re.compile("[^" + re.escape("'\"`#-/\\" + delimiter[0]) + "]*+")

    def _drop_consumed(self) -> None:
        keep = self._begin if self._begin >= 0 else self._pos
        if keep:
            self._count_lines(keep)
            self._text = self._text[keep:]
            self._pos -= keep
            self._counted -= keep
            self._begin = 0 if self._begin >= 0 else -1

    def _count_lines(self, upto: int) -> int:
        if upto > self._counted:
            self._line += self._text.count("\n", self._counted, upto)
            self._counted = upto
        return self._line

    def _statement(self, end: int, terminator: str) -> Statement:
        line = self._count_lines(self._begin)
        text = self._text[self._begin : end].rstrip()
        self._begin = -1
        return Statement(text, line, terminator)

    def _pieces(self, *, final: bool) -> Iterator[Piece]:
        while self._pos < len(self._text):
            if self._inside:
                if not self._skip_inside():
                    return
                continue
            if self._begin < 0:
                self._pos = _SPACE.match(self._text, self._pos).end()  # type: ignore[union-attr]
                if self._pos == len(self._text):
                    return
                if self._text[self._pos] in "dD":
                    found = self._delimiter_line(final)
                    if found is None:
                        return
                    if found:
                        continue
            end = self._plain.match(self._text, self._pos).end()  # type: ignore[union-attr]
            if end > self._pos:
                self._open_statement()
                self._pos = end
                continue
            before = self._pos
            piece = self._special(final)
            if piece is not None:
                yield piece
            elif self._pos == before and not self._inside:
                return

    def _open_statement(self) -> None:
        if self._begin < 0:
            self._begin = self._pos

    def _delimiter_line(self, final: bool) -> bool | None:
        """Obeys a DELIMITER line; None when it takes more input to tell."""
        head = self._text[self._pos : self._pos + len(_DELIMITER_WORD)].lower()
        if not _DELIMITER_WORD.startswith(head):
            return False
        if not final and self._text.find("\n", self._pos) < 0:
            return None
        match = _DELIMITER_LINE.match(self._text, self._pos)
        if match is None:
            return False
        words = (match[1] or "").split()
        self._set_delimiter(words[0] if words else DEFAULT_DELIMITER)
        self._pos = match.end()
        return True

    def _skip_inside(self) -> bool:
        """Moves behind the open quote or comment; False when its end has not arrived."""
        text = self._text
        if self._inside == _LINE_COMMENT:
            end = text.find("\n", self._pos)
            self._pos = len(text) if end < 0 else end
        elif self._inside == _BLOCK_COMMENT:
            end = text.find("*/", self._pos)
            self._pos = max(self._pos, len(text) - 1) if end < 0 else end + 2
        else:
            end = _QUOTED[self._inside].match(text, self._pos).end()  # type: ignore[union-attr]
            closed = end < len(text) and text[end] == self._inside
            self._pos = end + 1 if closed else end
            end = end if closed else -1
        if end >= 0:
            self._inside = ""
        return end >= 0

    def _special(self, final: bool) -> Piece | None:
        """Handles the character at which plain text stopped; moves nothing when it takes more input to tell."""
        text, pos = self._text, self._pos
        ahead = text[pos : pos + max(4, len(self.delimiter))]
        known = final or len(ahead) >= max(4, len(self.delimiter))
        if ahead.startswith(self.delimiter):
            return self._terminate(self.delimiter)
        if not known and self.delimiter.startswith(ahead):
            return None
        if ahead[0] in _QUOTED:
            self._open_statement()
            self._inside = ahead[0]
            self._pos += 1
        elif ahead[0] == "#":
            self._inside = _LINE_COMMENT
        elif ahead[0] == "\\":
            return self._backslash(ahead, final)
        elif ahead[0] == "-" and ahead[1:2] in ("-", ""):
            if len(ahead) < 3 and not final:
                return None
            if ahead[1:2] == "-" and (len(ahead) == 2 or ahead[2] <= " "):
                self._inside = _LINE_COMMENT
            else:
                self._plain_character()
        elif ahead[0] == "/" and ahead[1:2] in ("*", ""):
            if not known:
                return None
            if ahead.startswith(_BLOCK_COMMENT):
                if ahead.startswith(_EXECUTABLE_COMMENTS):
                    self._open_statement()
                self._inside = _BLOCK_COMMENT
                self._pos += 2
            else:
                self._plain_character()
        else:
            self._plain_character()
        return None

    def _plain_character(self) -> None:
        self._open_statement()
        self._pos += 1

    def _terminate(self, terminator: str) -> Statement | None:
        piece = self._statement(self._pos, terminator) if self._begin >= 0 else None
        self._pos += len(terminator)
        return piece

    def _backslash(self, ahead: str, final: bool) -> Piece | None:
        if self._begin >= 0:
            if len(ahead) < 2 and not final:
                return None
            if ahead[1:2] in ("G", "g"):
                return self._terminate(ahead[:2])
            self._pos += 1
            return None
        end = self._text.find("\n", self._pos)
        if end < 0:
            if not final:
                return None
            end = len(self._text)
        command = Command(self._text[self._pos : end].strip(), self._count_lines(self._pos))
        self._pos = end
        return command


def split(text: str) -> list[Piece]:
    """Returns all pieces of a complete text."""
    splitter = Splitter()
    return [*splitter.feed(text), *splitter.finish()]
