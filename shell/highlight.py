"""Colours for what is typed: pygments' MySQL lexer, with backslash commands as lines of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pygments.lexers.sql import MySqlLexer  # type: ignore[import-untyped]
from pygments.token import Keyword, String, _TokenType  # type: ignore[import-untyped]

_COMMAND = re.compile(r"(\s*\\\S*)([^\n]*)")
_Item = tuple[int, _TokenType, str]


class ShellLexer(MySqlLexer):  # type: ignore[misc]
    """MySQL, unless the text begins with a backslash."""

    name = "sqlfront shell"
    aliases = ("sqlfront",)
    url = ""

    def get_tokens_unprocessed(self, text: str, stack: tuple[str, ...] = ("root",)) -> Iterator[_Item]:
        match = _COMMAND.match(text)
        if match is None:
            yield from super().get_tokens_unprocessed(text, stack)
            return
        yield (0, Keyword, match[1])
        yield (match.start(2), String, match[2])
        for index, kind, value in super().get_tokens_unprocessed(text[match.end() :], stack):
            yield (index + match.end(), kind, value)
