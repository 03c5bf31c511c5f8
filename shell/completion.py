"""Completion: what may stand at the cursor, from the words around it and the catalog's names.

`suggest` is a function of the text before and after the cursor and a catalog; `SqlCompleter` hands it to
prompt_toolkit. It reads the statement around the cursor as tokens, not as grammar: the tables named after FROM, JOIN,
UPDATE and INTO, with their aliases, decide which columns are offered, also when they stand behind the cursor.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from shell.commands import COMMANDS, quote_name
from shell.keywords import FUNCTIONS, KEYWORDS, RESERVED, TYPES
from shell.render import FORMATS
from shell.sqlhelp import TOPICS
from shell.text import one_line

UNSCOPED_COLUMNS_MAX = 2000

_TOKEN = re.compile(
    r"""(?P<skip>\s+|--(?:\s[^\n]*|$)|\#[^\n]*|/\*.*?\*/)
      | (?P<open>/\*.*\Z)
      | (?P<string>'(?:[^'\\]|\\.|'')*+'?|"(?:[^"\\]|\\.|"")*+"?)
      | (?P<quoted>`(?:[^`]|``)*+`?)
      | (?P<word>[\w$@]+)
      | (?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_TABLE_WORDS = frozenset({"FROM", "JOIN", "INTO", "UPDATE", "TABLE", "VIEW", "DESCRIBE", "TRUNCATE", "REFERENCES"})
_SCOPE_WORDS = frozenset({"FROM", "JOIN", "INTO", "UPDATE"})
_DATABASE_WORDS = frozenset({"USE", "DATABASE", "SCHEMA"})
_PLAIN_NAME = re.compile(r"[a-z_$][\w$]*\Z", re.IGNORECASE)


class Names(Protocol):
    """The names that a catalog offers."""

    @property
    def database(self) -> str: ...

    def databases(self) -> Sequence[str]: ...
    def tables(self, database: str = "") -> Sequence[str]: ...
    def columns(self, table: str, database: str = "") -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Suggestion:
    """`text` replaces the `length` characters before the cursor."""

    text: str
    kind: str
    length: int


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    kind: str  # word, quoted, string, mark, open

    @property
    def name(self) -> str:
        """The identifier's name, or the word itself."""
        return self.text[1:].removesuffix("`").replace("``", "`") if self.kind == "quoted" else self.text

    @property
    def is_name(self) -> bool:
        return self.kind in ("word", "quoted")


@dataclass(frozen=True, slots=True)
class _Source:
    database: str
    table: str
    alias: str


def suggest(before: str, after: str, names: Names) -> list[Suggestion]:
    """Returns what may stand at the cursor between the two texts, the likeliest kinds first."""
    if before.lstrip().startswith("\\"):
        return _command_suggestions(before.lstrip(), names)
    tokens = _statement_tokens(before)
    if tokens and _is_open(tokens[-1]):
        return []
    rest = _first_statement(after)
    prefix = ""
    if tokens and tokens[-1].is_name and not before[-1:].isspace():
        prefix = tokens.pop().text
    if tokens and tokens[-1].text == ".":
        found = _qualified(tokens[:-1], tokens + rest, names)
    else:
        found = _unqualified(tokens, rest, names)
    return list(_matching(found, prefix))


def _statement_tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "mark"
        if kind == "mark" and match[0] == ";":
            tokens = []
        elif kind != "skip" or (match.end() == len(text) and match[0][0] in "-#"):
            tokens.append(_Token(match[0], kind if kind != "skip" else "open"))
    return tokens


def _first_statement(text: str) -> list[_Token]:
    tokens = []
    for match in _TOKEN.finditer(text):
        if match[0] == ";":
            break
        if match.lastgroup != "skip":
            tokens.append(_Token(match[0], match.lastgroup or "mark"))
    return tokens


def _is_open(token: _Token) -> bool:
    if token.kind == "open":
        return True
    return token.kind == "string" and (len(token.text) == 1 or token.text[-1] != token.text[0])


def _sources(tokens: Sequence[_Token]) -> list[_Source]:
    """Returns the tables that a statement names, with database and alias."""
    found = []
    i = 0
    expecting = False
    while i < len(tokens):
        token = tokens[i]
        word = token.text.upper() if token.kind == "word" else ""
        if word in _SCOPE_WORDS:
            expecting = True
            i += 1
            continue
        if not expecting or not token.is_name or word in RESERVED:
            expecting = expecting and token.text == "("
            i += 1
            continue
        source, i = _source(tokens, i)
        found.append(source)
        expecting = i < len(tokens) and tokens[i].text == ","
        i += 1 if expecting else 0
    return found


def _source(tokens: Sequence[_Token], i: int) -> tuple[_Source, int]:
    database, table = "", tokens[i].name
    i += 1
    if i + 1 < len(tokens) and tokens[i].text == "." and tokens[i + 1].is_name:
        database, table = table, tokens[i + 1].name
        i += 2
    if i < len(tokens) and tokens[i].text.upper() == "AS":
        i += 1
    alias = ""
    if i < len(tokens) and tokens[i].is_name and tokens[i].text.upper() not in RESERVED:
        alias = tokens[i].name
        i += 1
    return _Source(database, table, alias), i


def _qualified(before: Sequence[_Token], tokens: Sequence[_Token], names: Names) -> Iterator[tuple[str, str]]:
    """Yields what may follow a dot: columns of an alias or a table, tables of a database."""
    if not before or not before[-1].is_name:
        return
    qualifier = before[-1].name
    if len(before) >= 3 and before[-2].text == "." and before[-3].is_name:
        yield from ((c, "column") for c in names.columns(qualifier, before[-3].name))
        return
    for source in _sources(tokens):
        if qualifier.casefold() == (source.alias or source.table).casefold():
            columns = names.columns(source.table, source.database)
            yield from ((c, "column") for c in columns)
            if columns:
                return
    if any(qualifier.casefold() == d.casefold() for d in names.databases()):
        yield from ((t, "table") for t in names.tables(qualifier))
    yield from ((c, "column") for c in names.columns(qualifier))


def _unqualified(before: list[_Token], after: list[_Token], names: Names) -> Iterator[tuple[str, str]]:
    word = _governing_word(before)
    if word in _DATABASE_WORDS:
        yield from ((d, "database") for d in names.databases())
        return
    if word in _TABLE_WORDS:
        yield from ((t, "table") for t in names.tables())
        yield from ((d, "database") for d in names.databases())
        if word in ("TABLE", "VIEW"):
            yield from ((k, "keyword") for k in ("IF", "EXISTS"))
        elif word == "FROM":
            yield ("SELECT", "keyword")
        return
    if before:
        yield from _columns_in_scope(_sources(before + after), names)
        yield from ((f + "(", "function") for f in FUNCTIONS)
    yield from ((k, "keyword") for k in KEYWORDS)
    if before:
        yield from ((t, "type") for t in TYPES)


def _governing_word(tokens: list[_Token]) -> str:
    """Returns the keyword that says what comes next; a comma within FROM's list still belongs to FROM."""
    if not tokens:
        return ""
    last = tokens[-1].text.upper()
    if last in ("EXISTS", "IF") and len(tokens) >= 2:
        back = [t.text.upper() for t in tokens if t.text.upper() not in ("IF", "NOT", "EXISTS")]
        return back[-1] if back and back[-1] in (_TABLE_WORDS | _DATABASE_WORDS) else ""
    if last == "DESC" and len(tokens) == 1:
        return "DESCRIBE"
    if last == ",":
        for token in reversed(tokens):
            word = token.text.upper() if token.kind == "word" else ""
            if word in RESERVED and word != "AS":
                return word if word == "FROM" else ""
            if token.text in "()":
                return ""
    return last if tokens[-1].kind == "word" else ""


def _columns_in_scope(sources: Sequence[_Source], names: Names) -> Iterator[tuple[str, str]]:
    if not sources:
        columns = [(t, c) for t in names.tables() for c in names.columns(t)]
        if len(columns) <= UNSCOPED_COLUMNS_MAX:
            yield from ((c, "column") for _, c in columns)
        return
    for source in sources:
        yield from ((c, "column") for c in names.columns(source.table, source.database))
    for source in sources:
        yield (source.alias or source.table, "alias" if source.alias else "table")


def _matching(found: Iterable[tuple[str, str]], prefix: str) -> Iterator[Suggestion]:
    wanted = prefix.lstrip("`").casefold()
    lower = prefix.islower() and not prefix.startswith("`")
    seen: set[str] = set()
    for text, kind in found:
        if not text.casefold().startswith(wanted) or text != one_line(text):
            continue
        if kind in ("keyword", "function", "type"):
            if prefix.startswith("`"):
                continue
            shown = text.lower() if lower else text
        elif prefix.startswith("`") or not _PLAIN_NAME.match(text) or text.upper() in RESERVED:
            shown = quote_name(text)
        else:
            shown = text
        if shown not in seen:
            seen.add(shown)
            yield Suggestion(shown, kind, len(prefix))


def _command_suggestions(line: str, names: Names) -> list[Suggestion]:
    name, space, argument = line.partition(" ")
    if not space:
        return [Suggestion(c, "command", len(name)) for c in COMMANDS if c.startswith(name)]
    command = COMMANDS.get(name)
    if command is None:
        return []
    argument = argument.lstrip()
    choices: dict[str, Callable[[], Iterable[tuple[str, str]]]] = {
        "table": lambda: ((t, "table") for t in names.tables()),
        "database": lambda: ((d, "database") for d in names.databases()),
        "format": lambda: ((f, "format") for f in FORMATS),
        "topic": lambda: ((t, "keyword") for t in TOPICS),
        "path": lambda: _paths(argument),
    }
    if command.argument == "table" and "." in argument:
        database, _, table = argument.rpartition(".")
        return list(_matching(((t, "table") for t in names.tables(database.strip("`"))), table))
    if command.argument == "path":
        return [Suggestion(path, "path", len(argument)) for path, _ in _paths(argument)]
    if command.argument not in choices:
        return []
    return list(_matching(choices[command.argument](), argument))


def _paths(typed: str) -> Iterator[tuple[str, str]]:
    directory, start = os.path.split(typed)
    try:
        entries = sorted(os.scandir(os.path.expanduser(directory) or "."), key=lambda e: e.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(start) and (start or not entry.name.startswith(".")):
            yield (os.path.join(directory, entry.name) + ("/" if entry.is_dir() else ""), "path")


class SqlCompleter(Completer):
    """prompt_toolkit's side of `suggest`."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        before = document.text_before_cursor
        if not complete_event.completion_requested and not before[-1:].strip(" \t\n()=<>,;"):
            return
        for found in suggest(before, document.text_after_cursor, self._names):
            if len(found.text) == found.length and before.endswith(found.text) and found.kind != "path":
                continue
            yield Completion(found.text, start_position=-found.length, display_meta=found.kind)
