"""The tokens of a data definition statement, and a cursor over them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot.tokens import TokenType

from sqlfront.catalog import definition as d
from sqlfront.errors import ER_PARSE, DatabaseError, error, unsupported
from sqlfront.parse import tokenize


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is word, name (quoted), string, number, bits, hex or mark; `upper` is empty for names and strings."""

    kind: str
    text: str
    upper: str
    start: int


QUERY_STARTS = frozenset({"SELECT", "WITH", "VALUES", "TABLE", "("})
BEFORE_QUERY = QUERY_STARTS | {"AS", "IGNORE", "REPLACE"}
"""Words that end the options of CREATE TABLE: what follows is AS SELECT."""

_KINDS = {
    TokenType.IDENTIFIER: "name",
    TokenType.STRING: "string",
    TokenType.NATIONAL_STRING: "string",
    TokenType.NUMBER: "number",
    TokenType.BIT_STRING: "bits",
    TokenType.HEX_STRING: "hex",
}


def _split(text: str) -> list[Token]:
    out: list[Token] = []
    for token in tokenize(text):
        kind = _KINDS.get(token.token_type)
        if kind is not None:
            out.append(Token(kind, token.text, "", token.start))
            continue
        if token.token_type == TokenType.SEMICOLON:
            continue
        at = token.start
        for word in token.text.split():
            kind = "word" if word[0].isalnum() or word[0] in "_$" else "mark"
            out.append(Token(kind, word, word.upper(), at))
            at += len(word) + 1
    return out


class TokenCursor:
    """A cursor over the tokens of one statement."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _split(text)
        self.at = 0

    def word(self, ahead: int = 0) -> str:
        index = self.at + ahead
        return self.tokens[index].upper if index < len(self.tokens) else ""

    @property
    def position(self) -> int:
        return self.tokens[self.at].start if self.at < len(self.tokens) else len(self.text)

    @property
    def ended(self) -> bool:
        return self.at >= len(self.tokens)

    def take(self) -> Token:
        if self.ended:
            raise self.wrong()
        self.at += 1
        return self.tokens[self.at - 1]

    def accept(self, *words: str) -> bool:
        if all(self.word(i) == w for i, w in enumerate(words)):
            self.at += len(words)
            return True
        return False

    def accept_any(self, *words: str) -> str:
        found = self.word()
        if found and found in words:
            self.at += 1
            return found
        return ""

    def expect(self, *words: str) -> None:
        if not self.accept(*words):
            raise self.wrong()

    def kind(self, ahead: int = 0) -> str:
        index = self.at + ahead
        return self.tokens[index].kind if index < len(self.tokens) else ""

    def wrong(self) -> DatabaseError:
        snippet = self.text[self.position : self.position + 80].strip()
        line = self.text.count("\n", 0, self.position) + 1
        near = f" near '{snippet}' at line {line}" if snippet else f" at the end of the statement, line {line}"
        return error(ER_PARSE, "You have an error in your SQL syntax" + near, position=self.position)

    def refuse(self, what: str, position: int | None = None) -> DatabaseError:
        return unsupported(what, position=self.position if position is None else position)

    def name(self) -> str:
        if self.kind() not in ("word", "name"):
            raise self.wrong()
        return self.take().text

    def string(self) -> str:
        if self.kind() != "string":
            raise self.wrong()
        return self.take().text

    def integer(self) -> int:
        if self.kind() != "number" or not self.tokens[self.at].text.isdigit():
            raise self.wrong()
        return int(self.take().text)

    def table(self) -> d.TableName:
        position = self.position
        first = self.name()
        if self.accept("."):
            return d.TableName(first, self.name(), position)
        return d.TableName(None, first, position)

    def if_exists(self) -> bool:
        return self.accept("IF", "EXISTS")

    def if_not_exists(self) -> bool:
        return self.accept("IF", "NOT", "EXISTS")

    def query_text(self) -> str:
        """A query that goes on to the end: its text, at its place. It is read when the table's columns are known."""
        if self.word() not in QUERY_STARTS:
            raise self.wrong()
        text = " " * self.position + self.text[self.position :]
        self.at = len(self.tokens)
        return text

    def no_encryption(self) -> None:
        """ENCRYPTION = 'N': nothing to do."""
        position = self.position
        self.take()
        self.accept("=")
        if self.string().upper() != "N":
            raise self.refuse("ENCRYPTION", position)

    def end(self) -> None:
        if not self.ended:
            raise self.wrong()
