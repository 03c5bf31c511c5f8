"""The temporary tables of one session: names that stand before those of the schema.

They are never part of the catalog. A session that has some binds its statements against `over` the schema, in which
each hides the table or view of its name. Their ids are the process's own (`TEMPORARY_ID_MIN` and on), so that nothing
that is kept by a table's id, of any session, is taken for another's.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from sqlfront.catalog.model import Schema, Table, make_database, make_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlfront.catalog.info import DBInfo, TableInfo

_Name = tuple[str, str]


class TemporaryTables:
    """The names of a session's temporary tables, with what they stand for."""

    def __init__(self) -> None:
        self._tables: dict[_Name, tuple[Table, DBInfo]] = {}
        self._over: tuple[Schema, Schema] | None = None
        """The last schema that was asked for, with the one over it."""

    def __iter__(self) -> Iterator[Table]:
        return (table for table, _ in self._tables.values())

    def find(self, db: str, name: str) -> Table | None:
        found = self._tables.get((db.lower(), name.lower()))
        return None if found is None else found[0]

    def put(self, info: TableInfo, db: DBInfo, name: str = "") -> Table:
        """Makes a table of its record, under a name of its own (`name` if it is to be found under another)."""
        table = make_table(info, db, columnar_default=False)
        self._tables[db.name.lower(), (name or info.name).lower()] = table, db
        self._over = None
        return table

    def settle(self, table: Table) -> None:
        """Has a table that was put under another name be found under its own."""
        found = table, self.database_of(table)
        self.remove(table)
        self._tables[table.db.lower(), table.name.lower()] = found

    def database_of(self, table: Table) -> DBInfo:
        """The database that a table was made in; it may be gone since."""
        return next(db for known, db in self._tables.values() if known is table)

    def remove(self, table: Table) -> None:
        self._tables = {name: found for name, found in self._tables.items() if found[0] is not table}
        self._over = None

    def over(self, schema: Schema) -> Schema:
        """What the session sees: `schema` with its temporary tables in front."""
        if not self._tables:
            return schema
        if self._over is None or self._over[0] is not schema:
            databases = dict(schema.databases)
            for (db, name), (table, info) in self._tables.items():
                database = databases.get(db) or make_database(info, ())
                databases[db] = replace(database, tables=MappingProxyType({**database.tables, name: table}))
            over = Schema(schema.version, MappingProxyType(databases), schema.late, under=schema)
            self._over = schema, over
        return self._over[1]
