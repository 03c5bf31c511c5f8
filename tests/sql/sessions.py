"""Another session on the database of an open connection, in memory too, where no path could name it."""

from __future__ import annotations

from typing import Any

from sqlfront.dbapi import Connection


class _Borrowed:
    """A database that its first connection owns: closing a borrowed one leaves it open."""

    def __init__(self, database: Any) -> None:
        self._database = database

    def close(self) -> None:
        """The owner closes it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


def second_session(connection: Any, *, autocommit: bool = True) -> Any:
    """Opens a connection that shares `connection`'s database; close it before the first one."""
    database = connection._database
    session = database.session()
    session.use(connection.database)
    other = Connection(_Borrowed(database), session)  # type: ignore[arg-type]
    other.autocommit = autocommit
    return other
