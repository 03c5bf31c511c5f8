"""CREATE VIEW, ALTER VIEW and DROP VIEW: from their tokens to what they ask for."""

from __future__ import annotations

from sqlfront.bind.ddl_tokens import TokenCursor
from sqlfront.catalog import definition as d

_CHECK_OPTIONS = (("WITH", "CASCADED", "CHECK", "OPTION"), ("WITH", "LOCAL", "CHECK", "OPTION"),
                  ("WITH", "CHECK", "OPTION"))  # fmt: skip
_NAMED = ("word", "name", "string")


def begins_view(cursor: TokenCursor) -> bool:
    """Whether what follows CREATE or ALTER defines a view."""
    at = 0
    while cursor.word(at) in ("OR", "REPLACE", "ALGORITHM", "DEFINER", "SQL"):
        if cursor.word(at) == "ALGORITHM":
            return True
        at += {"DEFINER": _width_of_user(cursor, at + 2) + 2, "SQL": 3}.get(cursor.word(at), 1)
    return cursor.word(at) == "VIEW"


def _width_of_user(cursor: TokenCursor, at: int) -> int:
    if cursor.word(at) == "CURRENT_USER":
        return 3 if cursor.word(at + 1) == "(" else 1
    if cursor.word(at + 1) != "@":
        return 1
    if cursor.kind(at + 2) != "number":
        return 3
    width = 3
    while cursor.kind(at + width) == "number" or cursor.word(at + width) == ".":
        width += 1
    return width


def read_create_view(cursor: TokenCursor, *, alter: bool = False) -> d.CreateView:
    """Reads what follows CREATE or ALTER."""
    or_replace = not alter and cursor.accept("OR", "REPLACE")
    algorithm = "UNDEFINED"
    if cursor.accept("ALGORITHM"):
        cursor.expect("=")
        algorithm = cursor.accept_any("UNDEFINED", "MERGE", "TEMPTABLE")
        if not algorithm:
            raise cursor.wrong()
    definer = _user(cursor) if cursor.accept("DEFINER", "=") else None
    security = "DEFINER"
    if cursor.accept("SQL", "SECURITY"):
        security = cursor.accept_any("DEFINER", "INVOKER")
        if not security:
            raise cursor.wrong()
    cursor.expect("VIEW")
    view = cursor.table()
    columns: list[str] = []
    if cursor.accept("("):
        columns.append(cursor.name())
        while cursor.accept(","):
            columns.append(cursor.name())
        cursor.expect(")")
    cursor.expect("AS")
    query, check_option = _query(cursor)
    return d.CreateView(view, query, tuple(columns), algorithm, definer, security, check_option, or_replace, alter)


def read_drop_view(cursor: TokenCursor) -> d.DropView:
    """Reads what follows DROP VIEW."""
    exists = cursor.if_exists()
    views = [cursor.table()]
    while cursor.accept(","):
        views.append(cursor.table())
    cursor.accept_any("RESTRICT", "CASCADE")
    return d.DropView(views, exists)


def _user(cursor: TokenCursor) -> tuple[str, str] | None:
    """user[@host], or CURRENT_USER, which is None."""
    if cursor.accept("CURRENT_USER"):
        if cursor.accept("("):
            cursor.expect(")")
        return None
    if cursor.kind() not in _NAMED:
        raise cursor.wrong()
    name = cursor.take().text
    if not cursor.accept("@"):
        return name, "%"
    if cursor.kind() == "number":
        host = ""
        while cursor.kind() == "number" or cursor.word() == ".":
            host += cursor.take().text
        return name, host
    if cursor.kind() not in _NAMED:
        raise cursor.wrong()
    return name, cursor.take().text


def _query(cursor: TokenCursor) -> tuple[str, str]:
    """The rest of the statement: a query, which stays at its place in the text, and the check option."""
    if cursor.ended:
        raise cursor.wrong()
    start, check_option = cursor.position, "CASCADED"
    end = len(cursor.text)
    first = cursor.at
    cursor.at = len(cursor.tokens)
    for words in _CHECK_OPTIONS:
        at = len(cursor.tokens) - len(words)
        if at > first and tuple(token.upper for token in cursor.tokens[at:]) == words:
            end = cursor.tokens[at].start
            check_option = "LOCAL" if "LOCAL" in words else "CASCADED"
            break
    return " " * start + cursor.text[start:end], check_option
