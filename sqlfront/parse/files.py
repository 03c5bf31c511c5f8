"""Readers of what goes to files and comes from them: SELECT ... INTO, LOAD DATA, and FIELDS and LINES of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from sqlfront.errors import error, unsupported
from sqlfront.parse import FUNCTION_MARK
from sqlfront.parse.statements import FileForm, LoadData, Query, SelectInto

if TYPE_CHECKING:
    from sqlfront.parse.commands import Commands

_AFTER_INTO = frozenset({"@", "OUTFILE", "DUMPFILE"})


def find_into(tokens: Sequence[Token], start: int) -> int | None:
    """Where the INTO of a query stands, outside of all parentheses; None without one.

    Raises 1327 for INTO a name, which would be a procedure's variable.
    """
    depth = 0
    for i in range(start, len(tokens) - 1):
        kind = tokens[i].token_type
        if kind == TokenType.L_PAREN:
            depth += 1
        elif kind == TokenType.R_PAREN:
            depth -= 1
        elif kind == TokenType.INTO and depth == 0:
            name = tokens[i + 1]
            if name.text.upper() in _AFTER_INTO:
                return i
            if name.token_type in (TokenType.VAR, TokenType.IDENTIFIER):
                raise error(1327, f"Undeclared variable: {name.text}", position=name.start)
    return None


def select_into(c: Commands, at: int) -> SelectInto:
    """A query with INTO at token `at`: before its FROM, before its locks or at its end."""
    first, tokens = c.at, c.tokens
    c.at = at + 1
    out = SelectInto(Query(exp.Select()))
    if c.accept("OUTFILE"):
        out.path = c.string()
        charset = _charset(c)
        if charset not in ("", "utf8mb4", "utf8", "utf8mb3", "binary"):
            raise unsupported(f"INTO OUTFILE in {charset}", position=tokens[at].start)
        out.form = _form(c)
    elif c.accept("DUMPFILE"):
        out.path = c.string()
    else:
        while True:
            c.expect("@")
            out.variables.append(str(c.take().text).casefold())
            if not c.accept(","):
                break
    c.tokens, c.at = [*tokens[:at], *tokens[c.at :]], first
    query = c.query()
    if not isinstance(query, Query):
        raise c.syntax_error(c.at)
    out.query = query
    return out


def load_data(c: Commands) -> LoadData:
    """LOAD DATA [LOCAL] INFILE 'path' [REPLACE | IGNORE] INTO TABLE t ..."""
    marked = c.tokens
    c.tokens = [_plain(token) for token in marked]
    first = c.take()
    if not c.accept("DATA"):
        raise unsupported("LOAD " + c.peek(), position=first.start)
    if not c.accept("LOW_PRIORITY"):
        c.accept("CONCURRENT")
    local = c.accept("LOCAL")
    c.expect("INFILE")
    path = c.string()
    duplicates = "replace" if c.accept("REPLACE") else "ignore" if c.accept("IGNORE") else ""
    c.expect("INTO", "TABLE")
    out = LoadData(path, c.table(), local, duplicates)
    if c.peek() == "PARTITION":
        raise unsupported("LOAD DATA ... PARTITION", position=c.tokens[c.at].start)
    out.charset = _charset(c)
    out.form = _form(c)
    if c.accept("IGNORE"):
        out.skip = c.number()
        if not c.accept("LINES"):
            c.expect("ROWS")
    if c.accept("(") and not c.accept(")"):
        while True:
            out.targets.append("@" + str(c.take().text).casefold() if c.accept("@") else c.name())
            if not c.accept(","):
                break
        c.expect(")")
    if c.accept("SET"):
        c.tokens = marked
        while True:
            name = c.name()
            c.expect("=")
            stop = c.next_comma()
            out.assignments.append((name, c.expression(c.tokens[c.at : stop])))
            c.at = stop
            if not c.accept(","):
                break
    c.end()
    return out


def _plain(token: Token) -> Token:
    """The token without the mark of a function: before a list of columns there is none."""
    if not token.text.startswith(FUNCTION_MARK):
        return token
    text = token.text.removeprefix(FUNCTION_MARK)
    return Token(TokenType.VAR, text, token.line, token.col, token.start, token.end)


def _charset(c: Commands) -> str:
    if c.accept("CHARACTER SET") or c.accept("CHARACTER", "SET") or c.accept("CHARSET"):
        token = c.take()
        return str(token.text).lower()
    return ""


def _form(c: Commands) -> FileForm:
    """{FIELDS | COLUMNS} TERMINATED BY ... [OPTIONALLY] ENCLOSED BY ... ESCAPED BY ... LINES STARTING BY ..."""
    form = FileForm()
    position = c.tokens[c.at].start if c.at < len(c.tokens) else 0
    if c.accept("FIELDS") or c.accept("COLUMNS"):
        while True:
            if c.accept("TERMINATED", "BY"):
                form.terminated = c.string()
            elif c.peek() in ("OPTIONALLY", "ENCLOSED"):
                form.optionally = c.accept("OPTIONALLY")
                c.expect("ENCLOSED", "BY")
                form.enclosed = c.string()
            elif c.accept("ESCAPED", "BY"):
                form.escaped = c.string()
            else:
                break
    if c.accept("LINES"):
        while True:
            if c.accept("STARTING", "BY"):
                form.starting = c.string()
            elif c.accept("TERMINATED", "BY"):
                form.ending = c.string()
            else:
                break
    if len(form.enclosed) > 1 or len(form.escaped) > 1:
        raise error(1083, "Field separator argument is not what is expected; check the manual", position=position)
    if not form.terminated or not form.ending:
        raise unsupported("files with rows of fixed size", position=position)
    return form
