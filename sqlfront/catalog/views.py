"""Views in the catalog: their records, CREATE, ALTER and DROP VIEW, and how MySQL words them.

A view is a table's record with a query in it (`ViewInfo`), as in TiDB: it shares the names of tables, has an id and no
rows. Its columns are stored by name alone: what they are, its query says whenever it is bound
(`sqlfront/bind/views.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlfront.catalog.catalog import SchemaChange
from sqlfront.catalog.ddl import Note, resolve
from sqlfront.catalog.definition import CreateView, DropView
from sqlfront.catalog.describe import quote_name
from sqlfront.catalog.info import Action, ColumnInfo, TableInfo, TypeInfo, UserIdentity, ViewInfo
from sqlfront.catalog.table_builder import check_name
from sqlfront.errors import DatabaseError, error, near_match

if TYPE_CHECKING:
    from sqlfront.catalog.catalog import Catalog
    from sqlfront.catalog.model import Database, Schema, Table

_ALGORITHMS = ("UNDEFINED", "MERGE", "TEMPTABLE")
_SECURITIES = ("DEFINER", "INVOKER")
_CHECK_OPTIONS = ("LOCAL", "CASCADED")
CURRENT_USER = ("root", "localhost")
"""Who creates every view: there are no other users."""


def check_new_view(schema: Schema, spec: CreateView, current_db: str) -> tuple[Database, Table | None]:
    """The database of a view that is to be made, and the view that it replaces. Raises 1050, 1146 and 1347."""
    name = spec.view
    database = resolve(schema, current_db, name)
    check_name(name.name, 1103, "table", name.position)
    old = database.table(name.name)
    if old is None:
        if spec.alter:
            schema.need_relation(database.name, name.name, position=name.position)
        return database, None
    if not spec.alter and not spec.or_replace:
        raise error(1050, f"Table '{name.name}' already exists", position=name.position)
    if old.view is None:
        raise not_a_view(f"{old.db}.{old.name}", name.position)
    return database, old


def create_view(
    catalog: Catalog, spec: CreateView, current_db: str, select: str, columns: Sequence[str], charset: tuple[str, str]
) -> Table:
    """Stores a view, under a new id also where it replaces one.

    `select` is its query with all names spelled out, `columns` the names of what that gives; `charset` and collation
    are those of the connection.
    """
    with catalog.ddl_mutex:
        database, old = check_new_view(catalog.schema, spec, current_db)
        user, host = spec.definer or CURRENT_USER
        view = ViewInfo(
            algorithm=_ALGORITHMS.index(spec.algorithm),
            definer=UserIdentity(username=user, hostname=host, auth_username=user, auth_hostname=host),
            security=_SECURITIES.index(spec.security),
            select=select,
            check_option=_CHECK_OPTIONS.index(spec.check_option),
        )
        info = TableInfo(name=spec.view.name, charset=charset[0], collate=charset[1], view=view, auto_id_cache=0)
        info.columns = [
            ColumnInfo(id=i, name=name, offset=i - 1, type=TypeInfo(flen=0, decimal=0))
            for i, name in enumerate(columns, 1)
        ]
        info.max_col_id = len(info.columns)
        made: list[Table] = []

        def apply(change: SchemaChange) -> None:
            info.id = change.meta.new_id()
            change.describe(Action.CREATE_VIEW, database.id, info.id, 0 if old is None else old.id)
            if old is not None:
                change.drop_table(database, old, keep_data=True)
            made.append(change.put_table(database, info))

        catalog.change(apply)
        return made[0]


def drop_views(catalog: Catalog, spec: DropView, current_db: str, note: Note) -> None:
    """Drops all views or, when one is missing (1051) or a table (1347), none."""
    with catalog.ddl_mutex:
        schema = catalog.schema
        found: dict[int, tuple[Database, Table]] = {}
        missing: list[str] = []
        for name in spec.views:
            db = name.db or current_db
            database = schema.database(db) if name.db else resolve(schema, current_db, name)
            view = None if database is None else database.table(name.name)
            if database is None or view is None:
                missing.append(f"{db}.{name.name}")
            elif view.view is None:
                raise not_a_view(f"{view.db}.{view.name}", name.position)
            else:
                found[view.id] = (database, view)
        if missing:
            message = f"Unknown table '{','.join(missing)}'"
            if not spec.if_exists:
                names = [f"{d.name}.{t.name}" for d in schema.databases.values() for t in d.tables.values() if t.view]
                raise error(1051, message + near_match(missing[0], names), position=spec.views[0].position)
            note(1051, message)
        if not found:
            return

        def apply(change: SchemaChange) -> None:
            for database, view in found.values():
                change.describe(Action.DROP_VIEW, database.id, view.id)
                change.drop_table(database, view, keep_data=True)

        catalog.change(apply)


def not_a_view(name: str, position: int = -1) -> DatabaseError:
    return error(1347, f"'{name}' is not VIEW", position=position)


# Words


def _word(words: Sequence[str], number: int, default: str) -> str:
    """Numbers that are not known mean the default, as in TiDB."""
    return words[number] if 0 <= number < len(words) else default


def definer_of(view: ViewInfo) -> tuple[str, str]:
    """User and host of who defined a view."""
    definer = view.definer
    if definer is None:
        return "", ""
    if definer.auth_username and definer.auth_hostname:
        return definer.auth_username, definer.auth_hostname
    return definer.username, definer.hostname


def security_of(view: ViewInfo) -> str:
    return _word(_SECURITIES, view.security, "DEFINER")


def check_option_of(view: ViewInfo) -> str:
    return _word(_CHECK_OPTIONS, view.check_option, "CASCADED")


def create_view_text(table: Table) -> str:
    """The statement that makes a view again."""
    view = table.view
    assert view is not None
    user, host = definer_of(view)
    words = [
        f"CREATE ALGORITHM={_word(_ALGORITHMS, view.algorithm, 'UNDEFINED')}",
        f"DEFINER={quote_name(user)}@{quote_name(host)}",
        f"SQL SECURITY {security_of(view)}",
        f"VIEW {quote_name(table.name)} ({', '.join(quote_name(c.name) for c in table.info.columns)})",
        f"AS {view.select}",
    ]
    return " ".join(words)
