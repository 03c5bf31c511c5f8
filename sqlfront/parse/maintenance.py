"""Readers of statements about tables that change no rows (LOCK, FLUSH, CHECK, OPTIMIZE, REPAIR), and of DO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from sqlfront.errors import unsupported
from sqlfront.parse.statements import Do, DropMissing, Flush, LockTables, MaintainTables, Query, UnlockTables

if TYPE_CHECKING:
    from sqlfront.parse.commands import Commands

UNKNOWN_KINDS = frozenset({"TRIGGER", "PROCEDURE", "FUNCTION", "EVENT"})
"""What there is none of, so that dropping it can only say so."""
_FLUSHED = frozenset({"PRIVILEGES", "STATUS", "HOSTS", "LOGS", "OPTIMIZER_COSTS", "USER_RESOURCES"})
_LOGS = frozenset({"BINARY", "ENGINE", "ERROR", "GENERAL", "SLOW"})
_CHECK_OPTIONS = frozenset({"QUICK", "FAST", "MEDIUM", "EXTENDED", "CHANGED", "USE_FRM"})


def lock_tables(c: Commands) -> LockTables:
    """LOCK TABLES t [[AS] alias] READ [LOCAL] | [LOW_PRIORITY] WRITE, ..."""
    first = c.take()
    if not (c.accept("TABLES") or c.accept("TABLE")):
        raise unsupported("LOCK " + c.peek(), position=first.start)
    tables: list[exp.Table] = []
    while True:
        tables.append(c.table())
        if c.accept("AS") or c.peek() not in ("READ", "WRITE", "LOW_PRIORITY"):
            c.name()
        if c.accept("READ"):
            c.accept("LOCAL")
        else:
            c.accept("LOW_PRIORITY")
            c.expect("WRITE")
        if not c.accept(","):
            break
    c.end()
    return LockTables(tables)


def unlock_tables(c: Commands) -> UnlockTables:
    first = c.take()
    if not (c.accept("TABLES") or c.accept("TABLE")):
        raise unsupported("UNLOCK " + c.peek(), position=first.start)
    c.end()
    return UnlockTables()


def flush(c: Commands) -> Flush:
    """FLUSH [NO_WRITE_TO_BINLOG | LOCAL] TABLES [t, ...] or what else has nothing to be flushed here."""
    first = c.take()
    if not c.accept("NO_WRITE_TO_BINLOG"):
        c.accept("LOCAL")
    if c.accept("TABLES") or c.accept("TABLE"):
        tables = c.table_list() if c.at < len(c.tokens) and c.peek() not in ("WITH", "FOR") else []
        if c.accept("WITH", "READ", "LOCK") or c.accept("FOR", "EXPORT"):
            raise unsupported("FLUSH TABLES that locks", position=first.start)
        c.end()
        return Flush("TABLES", tables)
    while True:
        if c.peek() in _LOGS:
            c.take()
            c.expect("LOGS")
        elif c.peek() in _FLUSHED:
            c.take()
        else:
            raise unsupported("FLUSH " + c.peek(), position=first.start) if c.peek() else c.syntax_error(c.at)
        if not c.accept(","):
            break
    c.end()
    return Flush("")


def drop_missing(c: Commands) -> DropMissing:
    """DROP {TRIGGER | PROCEDURE | FUNCTION | EVENT} [IF EXISTS] name"""
    c.take()
    kind = str(c.take().text).upper()
    exists = c.accept("IF", "EXISTS")
    name = c.table()
    c.end()
    return DropMissing(kind, name, exists)


def do(c: Commands) -> Do:
    """DO expression [, ...]: a SELECT list of its own."""
    first = c.take()
    select = Token(TokenType.SELECT, "SELECT", first.line, first.col, first.start, first.end)
    tree = c.tree([select, *c.tokens[c.at :]])
    if not isinstance(tree, exp.Select) or {k for k, v in tree.args.items() if v} - {"expressions", "kind"}:
        raise c.syntax_error(c.at)
    return Do(Query(tree, assigns=":=" in c.text))


def maintain_tables(c: Commands) -> MaintainTables:
    """CHECK, OPTIMIZE or REPAIR [NO_WRITE_TO_BINLOG | LOCAL] TABLE t, ... [options]"""
    first = c.take()
    verb = str(first.text).lower()
    if verb != "check" and not c.accept("NO_WRITE_TO_BINLOG"):
        c.accept("LOCAL")
    if not (c.accept("TABLE") or c.accept("TABLES")):
        raise c.syntax_error(c.at)
    tables = c.table_list()
    if verb != "optimize":
        while c.peek() in _CHECK_OPTIONS:
            c.take()
        if verb == "check":
            c.accept("FOR", "UPGRADE")
    c.end()
    return MaintainTables(verb, tables)
