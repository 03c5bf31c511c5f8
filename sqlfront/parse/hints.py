"""Optimizer hints: the text of a comment `/*+ ... */` to what it asks for.

Of all hints two are read, as TiDB does (`pkg/parser/hintparser.y`); the others are stepped over:

    READ_FROM_STORAGE([@block] engine [table, ...], ...)    engine: TIKV or TIFLASH; table: [db.]alias[@block]
    MAX_EXECUTION_TIME([@block] milliseconds)               0: without a limit

A hint never fails a statement: what cannot be read is a warning, and the rest of the comment is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

READ_FROM_STORAGE = "READ_FROM_STORAGE"
MAX_EXECUTION_TIME = "MAX_EXECUTION_TIME"
MILLISECONDS_MAX = (1 << 31) - 1
ENGINES = frozenset({"tikv", "tiflash"})
ER_HINT_SYNTAX = 1064
ER_HINT_UNSUPPORTED = 8061

_TOKEN = re.compile(r"`(?:[^`]|``)*`|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[\w$]+|\S", re.DOTALL)


@dataclass(frozen=True, slots=True)
class HintedTable:
    """A table as a hint names it; `db` is empty where it says none."""

    db: str
    name: str

    def __str__(self) -> str:
        return f"{self.db}.{self.name}" if self.db else self.name


@dataclass(slots=True)
class HintComment:
    """What one comment asks for: the engine of each table it names, in order, and warnings (code, message).

    `max_execution_ms` is None where it says nothing of the time.
    """

    engines: list[tuple[str, HintedTable]] = field(default_factory=list)
    warnings: list[tuple[int, str]] = field(default_factory=list)
    max_execution_ms: int | None = None


def read_hints(text: str) -> HintComment:
    """Reads the text between `/*+` and `*/`."""
    out = HintComment()
    reader = _Reader(_TOKEN.findall(text))
    try:
        while reader.more():
            reader.hint(out)
    except _HintError as exc:
        out.warnings.append((ER_HINT_SYNTAX, f"Optimizer hint syntax error{exc}"))
    return out


class _HintError(Exception):
    """What could not be read, as the end of a message."""


class _Reader:
    """A cursor over the words and marks of a comment."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tokens
        self.at = 0

    def more(self) -> bool:
        return self.at < len(self.tokens)

    def peek(self) -> str:
        return self.tokens[self.at] if self.more() else ""

    def accept(self, mark: str) -> bool:
        found = self.peek() == mark
        self.at += found
        return found

    def expect(self, mark: str) -> None:
        if not self.accept(mark):
            raise self.wrong()

    def wrong(self) -> _HintError:
        rest = " ".join(self.tokens[self.at : self.at + 8])
        return _HintError(f" near '{rest}'" if rest else " at its end")

    def name(self) -> str:
        token = self.peek()
        if token[:1] == "`" and len(token) > 2:
            self.at += 1
            return token[1:-1].replace("``", "`")
        if not token.replace("$", "_").isidentifier() and not token[:1].isdigit():
            raise self.wrong()
        self.at += 1
        return token

    def hint(self, out: HintComment) -> None:
        """One hint, and the comma that may stand behind it."""
        if self.peek().upper() == READ_FROM_STORAGE:
            self.at += 1
            self.storage(out)
        elif self.peek().upper() == MAX_EXECUTION_TIME:
            self.at += 1
            self.time_limit(out)
        else:
            self.name()
            if self.accept("("):
                self.skip()
        self.accept(",")

    def skip(self) -> None:
        depth = 1
        while depth:
            if not self.more():
                raise self.wrong()
            depth += {"(": 1, ")": -1}.get(self.peek(), 0)
            self.at += 1

    def storage(self, out: HintComment) -> None:
        """READ_FROM_STORAGE from its parenthesis on. One that speaks of another query block is not obeyed."""
        found: list[tuple[str, HintedTable]] = []
        self.expect("(")
        elsewhere = self.block()
        while True:
            engine = self.peek().lower()
            if engine not in ENGINES:
                raise self.wrong()
            self.at += 1
            self.expect("[")
            while True:
                found.append((engine, self.table()))
                elsewhere |= self.block()
                if not self.accept(","):
                    break
            self.expect("]")
            if not self.accept(","):
                break
        self.expect(")")
        if elsewhere:
            message = f"Optimizer hint {READ_FROM_STORAGE} with names of query blocks is not supported and is ignored"
            out.warnings.append((ER_HINT_UNSUPPORTED, message))
        else:
            out.engines += found

    def time_limit(self, out: HintComment) -> None:
        """MAX_EXECUTION_TIME from its parenthesis on; the last one counts."""
        self.expect("(")
        elsewhere = self.block()
        digits = self.peek()
        if not (digits.isascii() and digits.isdigit()):
            raise self.wrong()
        self.at += 1
        self.expect(")")
        if not elsewhere:
            out.max_execution_ms = min(int(digits), MILLISECONDS_MAX)

    def block(self) -> bool:
        """The name of a query block, if there is one."""
        if not self.accept("@"):
            return False
        self.name()
        return True

    def table(self) -> HintedTable:
        first = self.name()
        return HintedTable(first, self.name()) if self.accept(".") else HintedTable("", first)
