"""What completion knows of the catalog: databases, tables and columns, read with SQL when first needed after a change.

It reads through a connection of its own, so that a look at the catalog neither disturbs the user's transaction nor
`ROW_COUNT()` and warnings. In memory there is only the user's connection, and that one is used.
"""

from __future__ import annotations

from shell.session import MEMORY, Session
from shell.worker import ThreadClosed
from sqlfront.errors import Error

COLUMNS_MAX = 50_000


class Metadata:
    """A lazy, disposable copy of names. `problem` tells why there are none, when the catalog could not be read."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.problem = ""
        self._own: Session | None = None
        self._stale = True
        self._databases: list[str] = []
        self._columns: dict[str, dict[str, list[str]]] = {}

    def invalidate(self) -> None:
        """Forgets what was read; the next question reads it again."""
        self._stale = True

    @property
    def database(self) -> str:
        """The current database."""
        return self.session.database

    def databases(self) -> list[str]:
        """Returns the names of all databases."""
        self._refresh()
        return self._databases

    def tables(self, database: str = "") -> list[str]:
        """Returns the tables and views of a database, the current one by default."""
        self._refresh()
        return list(self._columns.get((database or self.database).casefold(), ()))

    def columns(self, table: str, database: str = "") -> list[str]:
        """Returns the columns of a table or view."""
        self._refresh()
        tables = self._columns.get((database or self.database).casefold(), {})
        for name, columns in tables.items():
            if name.casefold() == table.casefold():
                return columns
        return []

    def close(self) -> None:
        """Closes the connection that was opened for this."""
        own, self._own = self._own, None
        if own is not None:
            own.close()

    def follow(self, session: Session) -> None:
        """Turns to another session, after `\\c`."""
        if session is not self.session:
            self.close()
            self.session = session
        self.invalidate()

    def _refresh(self) -> None:
        if not self._stale:
            return
        self._stale = False
        self.problem = ""
        try:
            self._read(self._reader())
        except (Error, ThreadClosed) as error:
            self.problem = str(error)

    def _reader(self) -> Session:
        if self.session.path == MEMORY:
            return self.session
        if self._own is None:
            self._own = self.session.another(self.session.path)
        return self._own

    def _read(self, session: Session) -> None:
        databases = [str(row[0]) for row in session.query("SHOW DATABASES")]
        tables = session.query(
            "SELECT table_schema, table_name FROM information_schema.tables"
            f" ORDER BY table_schema, table_name LIMIT {COLUMNS_MAX}"
        )
        rows = session.query(
            "SELECT table_schema, table_name, column_name FROM information_schema.columns"
            f" ORDER BY table_schema, table_name, ordinal_position LIMIT {COLUMNS_MAX}"
        )
        columns: dict[str, dict[str, list[str]]] = {}
        for schema, table in tables:  # also a view that cannot be read, which has no columns
            columns.setdefault(str(schema).casefold(), {})[str(table)] = []
        for schema, table, column in rows:
            columns.setdefault(str(schema).casefold(), {}).setdefault(str(table), []).append(str(column))
        self._databases, self._columns = databases, columns
