"""What the tests say to sessions: rows, one value, and the error a statement must give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from sqlfront.errors import Error
from sqlfront.session import Session
from sqlfront.translate import translate

Connect: TypeAlias = Callable[[], Session]


def rows(session: Session, sql: str, params: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
    return [tuple(r) for r in session.execute(sql, params).fetch_all()]


def value(session: Session, sql: str, params: Sequence[object] | None = None) -> Any:
    found = rows(session, sql, params)
    assert len(found) == 1, found
    assert len(found[0]) == 1, found
    return found[0][0]


def run(session: Session, *statements: str) -> None:
    for sql in statements:
        session.execute(sql).fetch_all()


def error_code(session: Session, sql: str, params: Sequence[object] | None = None) -> int:
    """The MySQL code of the error that the statement gives, 0 when it succeeds."""
    try:
        session.execute(sql, params).fetch_all()
    except Error as exc:
        return exc.code
    except Exception as exc:  # noqa: BLE001 - errors of the layers below become a user's at the DB-API's edge
        return translate(exc).code
    return 0
