"""The schema that statements use: immutable databases, tables, columns and indexes of one schema version.

Made from the stored records (`info.py`) when the catalog loads or changes a table; unchanged tables are shared between
versions, so holding a `Schema` costs nothing and is all a statement needs to see one consistent catalog.
"""

from __future__ import annotations

import base64
import datetime as dt
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from coprocessor.expr import Column as ColumnRef
from coprocessor.schema import ColumnSchema, IndexColumn, IndexSchema, TableSchema
from coprocessor.types import BLOB_TPS, STRING_TPS, TEXT_CHARSET, TEXT_COLLATE, FieldType, Tp
from sqlfront.catalog.constraints import Check, ForeignKey, checks_of, foreign_keys_of
from sqlfront.catalog.foreign import (
    is_keyed_as_here,
    is_shown,
    reason_against_reading,
    reason_against_view,
    reason_against_writing,
)
from sqlfront.catalog.info import ColumnInfo, DBInfo, Flag, IndexInfo, State, TableInfo, TypeInfo, ViewInfo
from sqlfront.catalog.partitions import definitions
from sqlfront.errors import error, near_match

if TYPE_CHECKING:
    from coprocessor.expr import Expr
    from coprocessor.table import TableCodec

PRIMARY = "PRIMARY"
CLOSED = "sqlfront_closed"
"""The tag of a table's record that says so."""
SYSTEM_DATABASE = "mysql"
TEMPORARY_ID_MIN = 1 << 62
"""From here on ids are those of temporary tables: of one process, and of no table that is stored."""
NOW_TEXT = "CURRENT_TIMESTAMP"


@dataclass(frozen=True, slots=True)
class Default:
    """What a column gets when a statement gives it nothing.

    `kind` is none (NOT NULL without DEFAULT), const (`value`, perhaps None), now (`value` is the fsp) or expr (`text`).
    A TIMESTAMP constant is naive UTC: take it from `local`.
    """

    kind: str
    value: Any = None
    text: str = ""
    utc: bool = False

    def local(self, tz: dt.tzinfo | None) -> Any:
        """The constant in the time zone of a session."""
        if not self.utc or self.value is None or tz is None:
            return self.value
        from coprocessor.codec.temporal import from_utc

        return from_utc(self.value, tz)


NO_DEFAULT = Default("none")
NULL_DEFAULT = Default("const", None, "NULL")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; `offset` is its place among the public columns."""

    id: int
    name: str
    offset: int
    type: FieldType
    not_null: bool = False
    default: Default = NULL_DEFAULT
    auto_increment: bool = False
    on_update_now: bool = False
    comment: str = ""
    state: State = State.PUBLIC
    generated: str | None = None
    """The expression it is computed by."""
    stored: bool = True
    """False for a generated column that is VIRTUAL: no row has it."""
    origin_default: Any = None
    zerofill: bool = False
    hidden: bool = False
    """True for an expression of an index: nobody can name the column, and no row has it."""


@dataclass(frozen=True)
class Index:
    """A secondary index; a primary key that is not clustered is one too, unique and named PRIMARY.

    Snapshots before `complete_ts` do not find all rows in it (see `Schema.at`).
    """

    id: int
    name: str
    columns: tuple[IndexColumn, ...]
    unique: bool
    primary: bool = False
    state: State = State.PUBLIC
    comment: str = ""
    complete_ts: int = 0

    @cached_property
    def schema(self) -> IndexSchema:
        return IndexSchema(self.id, self.name, self.columns, self.unique)


@dataclass(frozen=True, eq=False)
class Table:
    """A table of one schema version.

    `revision` is the schema version at which what writers of the table must maintain last changed: a transaction that
    wrote it at another revision must not commit. `db` is the database's name. Columns that cannot be seen yet have no
    place in `columns`, indexes that cannot be read none in `indexes`; `write_schema` holds those indexes that writers
    must maintain. The expressions of indexes are the last of the `columns`.
    """

    id: int
    name: str
    db: str
    db_id: int
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...]
    building: tuple[Index, ...]
    delete_only: tuple[Index, ...]
    handle_offset: int
    common_handle: tuple[IndexColumn, ...]
    primary_key: tuple[int, ...]
    revision: int
    info: TableInfo
    columnar_default: bool = True
    unread: tuple[Index, ...] = ()
    """Indexes that are shown and else not there: their keys are not made here as TiDB makes them."""
    partition: str = ""
    """The name of the partition that this is, of the table in `info`."""

    @property
    def clustered(self) -> bool:
        return self.handle_offset >= 0 or bool(self.common_handle)

    @property
    def comment(self) -> str:
        return self.info.comment

    @property
    def temporary(self) -> bool:
        """Whether it is one session's alone (`catalog/temporary.py`)."""
        return self.id >= TEMPORARY_ID_MIN

    @property
    def system(self) -> bool:
        """Whether it is one of the database's own tables, not a user's."""
        return self.db.lower() == SYSTEM_DATABASE

    @cached_property
    def columnar(self) -> bool:
        """Whether it should have a columnar replica: what SET TIFLASH REPLICA says, and where it was never said,
        every user table of an embedded database."""
        replica = self.info.tiflash_replica
        return (
            not self.system and self.view is None and (self.columnar_default if replica is None else replica.count > 0)
        )

    @property
    def view(self) -> ViewInfo | None:
        """What makes it a view, None for a table. A view has no columns here: its query gives them when it is bound."""
        return self.info.view

    @property
    def kind(self) -> str:
        """As the information schema says it."""
        if self.view is not None:
            return "VIEW"
        return "SEQUENCE" if self.info.sequence else "BASE TABLE"

    @cached_property
    def unreadable(self) -> str | None:
        """Why its rows cannot be read here, None where they can; then it has no columns."""
        return reason_against_reading(self.info)

    @cached_property
    def read_only(self) -> str | None:
        """Why its own record forbids that rows are changed here, None where it does not."""
        return reason_against_writing(self.info)

    @property
    def closed(self) -> bool:
        """Whether writers of all servers wait: it is being copied."""
        return bool(self.info.extra.get(CLOSED))

    @cached_property
    def parts(self) -> tuple[Table, ...]:
        """The partitions as tables: what holds the rows, under ids of their own. Empty for a table that has none."""
        if self.partition:
            return ()
        return tuple(replace(self, id=d["id"], partition=d["name"]["O"]) for d in definitions(self.info))

    @cached_property
    def part_numbers(self) -> Mapping[int, int]:
        """The places of the partitions among `parts`, by their ids."""
        return {part.id: number for number, part in enumerate(self.parts)}

    @property
    def physical(self) -> tuple[Table, ...]:
        """The tables that hold the rows: its partitions, or itself."""
        return self.parts or (self,)

    @cached_property
    def auto_increment(self) -> Column | None:
        return next((c for c in self.columns if c.auto_increment), None)

    @cached_property
    def visible(self) -> tuple[Column, ...]:
        """The columns that statements can name; the first ones of `columns`."""
        return tuple(c for c in self.columns if not c.hidden)

    @cached_property
    def generated(self) -> tuple[Column, ...]:
        """The generated columns, each behind those it is computed from."""
        return tuple(c for c in self.columns if c.generated is not None)

    @cached_property
    def shows_virtual(self) -> bool:
        """Whether statements can name columns that rows do not have."""
        return not all(c.stored for c in self.visible)

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        return checks_of(self.info)

    @cached_property
    def foreign_keys(self) -> tuple[ForeignKey, ...]:
        """Those that writers keep to."""
        return foreign_keys_of(self.info, self.db)

    @cached_property
    def _columns_by_name(self) -> dict[str, Column]:
        return {c.name.lower(): c for c in self.visible}

    @cached_property
    def _indexes_by_name(self) -> dict[str, Index]:
        return {i.name.lower(): i for i in self.indexes}

    def column(self, name: str) -> Column | None:
        return self._columns_by_name.get(name.lower())

    def index(self, name: str) -> Index | None:
        return self._indexes_by_name.get(name.lower())

    @cached_property
    def schema(self) -> TableSchema:
        """What readers see."""
        return self._table_schema(self.indexes)

    @cached_property
    def write_schema(self) -> TableSchema:
        """What writers maintain: also indexes that are being built."""
        return self._table_schema(self.indexes + self.building) if self.building else self.schema

    @cached_property
    def codec(self) -> TableCodec:
        from coprocessor.table import TableCodec

        return TableCodec(self.schema)

    @cached_property
    def write_codec(self) -> TableCodec:
        from coprocessor.table import TableCodec

        return TableCodec(self.write_schema) if self.building else self.codec

    @cached_property
    def _computed(self) -> Mapping[int, Expr]:
        """What the virtual columns are computed by that an index has, also one on its way in or out."""
        indexes = (*self.indexes, *self.building, *self.delete_only)
        offsets = {part.offset for index in indexes for part in index.columns}
        wanted = {offset for offset in offsets if not self.columns[offset].stored}
        if not wanted:
            return {}
        from sqlfront.bind.generated import virtual_exprs  # the expressions are text to the catalog

        stored = {c.offset: ColumnRef(c.offset, c.type, c.name) for c in self.columns if c.stored}
        return {offset: e for offset, e in virtual_exprs(self, stored).items() if offset in wanted}

    def _table_schema(self, indexes: Iterable[Index]) -> TableSchema:
        columns = tuple(
            ColumnSchema(
                c.id, c.name, c.type, c.not_null and c.stored, c.origin_default, c.stored, self._computed.get(c.offset)
            )
            for c in self.columns
        )
        return TableSchema(
            self.id, self.name, columns, self.handle_offset, self.common_handle, tuple(i.schema for i in indexes)
        )


def revisions(tables: Iterable[Table]) -> dict[int, int]:
    """The revisions of the stored ones among the tables that a statement writes, by their ids: a session's temporary
    tables change with nobody but itself, and may be written in a READ ONLY transaction."""
    return {table.id: table.revision for table in tables if not table.temporary}


@dataclass(frozen=True, slots=True)
class Database:
    """A database and its tables by lower-cased name; `virtual` tells that the tables are computed
    (information_schema).
    """

    id: int
    name: str
    tables: Mapping[str, Table]
    info: DBInfo
    virtual: bool = False

    def table(self, name: str) -> Table | None:
        return self.tables.get(name.lower())


@dataclass(frozen=True)
class Schema:
    """Every database at one schema version, by lower-cased name."""

    version: int
    databases: Mapping[str, Database]
    late: frozenset[tuple[str, str]] = frozenset()
    """Tables (database, name) whose rows an older snapshot cannot see."""
    under: Schema | None = None
    """What all sessions see, where this one has a session's temporary tables over it."""

    @property
    def stored(self) -> Schema:
        """The schema without temporary tables: what views and foreign keys mean by their names."""
        return self if self.under is None else self.under

    def database(self, name: str) -> Database | None:
        return self.databases.get(name.lower())

    def table(self, db: str, name: str) -> Table | None:
        database = self.databases.get(db.lower())
        return None if database is None else database.tables.get(name.lower())

    @cached_property
    def table_by_id(self) -> Mapping[int, Table]:
        """The tables, and their partitions as tables."""
        tables = [t for d in self.databases.values() for t in d.tables.values()]
        return {t.id: t for table in tables for t in (table, *table.parts)}

    @cached_property
    def _complete_ts(self) -> list[int]:
        """When tables that were written anew, and indexes that were built on rows, became complete; ascending."""
        tables = self.table_by_id.values()
        found = {i.complete_ts for t in tables for i in t.indexes} | {t.info.complete_ts for t in tables}
        return sorted(found - {0})

    @cached_property
    def _earlier(self) -> dict[int, Schema]:
        return {}

    def at(self, ts: int) -> Schema:
        """The schema for a snapshot: indexes that were completed after it are maintained, but not read.

        Tables that were truncated or written anew after it are not there: error 1412.
        """
        times = self._complete_ts
        if not times or ts >= times[-1]:
            return self
        place = bisect_right(times, ts)
        schema = self._earlier.get(place)
        if schema is None:
            databases = {n: d if d.virtual else _database_at(d, ts) for n, d in self.databases.items()}
            late = frozenset(
                (t.db.lower(), t.name.lower()) for t in self.table_by_id.values() if t.info.complete_ts > ts
            )
            under = None if self.under is None else self.under.at(ts)
            schema = self._earlier.setdefault(place, Schema(self.version, MappingProxyType(databases), late, under))
        return schema

    def need_database(self, name: str, *, position: int = -1) -> Database:
        """The database, or error 1049 with a near match."""
        found = self.database(name)
        if found is None:
            names = [d.name for d in self.databases.values()]
            raise error(1049, f"Unknown database '{name}'{near_match(name, names)}", position=position)
        return found

    def need_table(self, db: str, name: str, *, position: int = -1) -> Table:
        """The table, or error 1049 or 1146 with a near match; 1347 for a view."""
        found = self.need_relation(db, name, position=position)
        if found.view is not None:
            raise error(1347, f"'{found.db}.{found.name}' is not BASE TABLE", position=position)
        return found

    def need_relation(self, db: str, name: str, *, position: int = -1) -> Table:
        """The table or view, or error 1049 or 1146 with a near match."""
        database = self.need_database(db, position=position)
        found = database.table(name)
        if found is None:
            if (database.name.lower(), name.lower()) in self.late:
                message = "Table definition has changed, please retry transaction"
                raise error(1412, message, position=position, sqlstate="HY000")
            hint = near_match(name, [t.name for t in database.tables.values()])
            raise error(1146, f"Table '{db}.{name}' doesn't exist{hint}", position=position)
        reason = found.unreadable if found.view is None else reason_against_view(found.info)
        if reason is not None:
            message = f"Table '{found.db}.{found.name}' cannot be read here: it {reason}"
            raise error(8200, message, position=position)
        return found

    def check_writable(self, table: Table, *, position: int = -1) -> None:
        """Raises 1036 when the table holds what this code does not maintain."""
        reason = table.read_only
        if reason is not None:
            message = f"Table '{table.db}.{table.name}' is read only here: it {reason}"
            raise error(1036, message, position=position)

    @cached_property
    def _referring(self) -> Mapping[tuple[str, str], tuple[tuple[Table, ForeignKey], ...]]:
        out: dict[tuple[str, str], list[tuple[Table, ForeignKey]]] = {}
        for database in self.databases.values():
            for table in database.tables.values():
                for key in table.foreign_keys if table.info.fk_info else ():
                    out.setdefault((key.parent_db.lower(), key.parent.lower()), []).append((table, key))
        return {name: tuple(found) for name, found in out.items()}

    def referring(self, db: str, table: str) -> tuple[tuple[Table, ForeignKey], ...]:
        """The foreign keys that point to a table, each with its own."""
        return self._referring.get((db.lower(), table.lower()), ())


def _database_at(database: Database, ts: int) -> Database:
    tables = {name: _table_at(t, ts) for name, t in database.tables.items() if t.info.complete_ts <= ts}
    return replace(database, tables=MappingProxyType(tables))


def _table_at(table: Table, ts: int) -> Table:
    late = tuple(i for i in table.indexes if i.complete_ts > ts)
    if not late:
        return table
    return replace(table, indexes=tuple(i for i in table.indexes if i not in late), building=table.building + late)


def field_type(info: TypeInfo) -> FieldType:
    """The runtime type of a stored one."""
    tp = Tp(info.tp)
    charset, collate = info.charset, info.collate
    if tp == Tp.JSON:
        charset, collate = TEXT_CHARSET, TEXT_COLLATE
    elif tp not in STRING_TPS and tp not in (Tp.ENUM, Tp.SET):
        charset = collate = ""
    flen = info.flen
    if tp == Tp.VAR_STRING:
        tp = Tp.VARCHAR
    if tp in BLOB_TPS and flen <= 0:
        flen = -1
    unsigned = bool(info.flag & Flag.UNSIGNED)
    return FieldType(tp, flen, info.decimal, unsigned, charset, collate, tuple(info.elems or ()))


def constant_of_text(text: Any, bits: str | None, ft: FieldType, name: str) -> Any:
    """The Python value of a stored default."""
    if ft.tp == Tp.BIT and bits is not None:
        return int.from_bytes(base64.b64decode(bits), "big")
    if text is None or isinstance(text, bytes):
        return text
    from coprocessor.values import cast_for_column

    if ft.tp == Tp.BIT:
        return int.from_bytes(str(text).encode(), "big")
    if ft.is_binary:
        return str(text).encode("utf-8", "surrogateescape")
    return cast_for_column(str(text), ColumnSchema(0, name, ft))


def _default(info: ColumnInfo, ft: FieldType) -> Default:
    if info.has(Flag.AUTO_INCREMENT):
        return NULL_DEFAULT if not info.has(Flag.NOT_NULL) else NO_DEFAULT
    if info.default_is_expr:
        return Default("expr", None, str(info.default))
    if info.default is None and info.default_bit is None:
        return NO_DEFAULT if info.has(Flag.NOT_NULL) or info.has(Flag.NO_DEFAULT) else NULL_DEFAULT
    if ft.tp in (Tp.TIMESTAMP, Tp.DATETIME, Tp.DATE) and str(info.default).upper().startswith(NOW_TEXT):
        return Default("now", max(ft.decimal, 0), str(info.default))
    value = constant_of_text(info.default, info.default_bit, ft, info.name)
    return Default("const", value, str(info.default), utc=ft.tp == Tp.TIMESTAMP)


def make_column(info: ColumnInfo) -> Column:
    ft = field_type(info.type)
    return Column(
        id=info.id,
        name=info.name,
        offset=info.offset,
        type=ft,
        not_null=info.has(Flag.NOT_NULL),
        default=_default(info, ft),
        auto_increment=info.has(Flag.AUTO_INCREMENT),
        on_update_now=info.has(Flag.ON_UPDATE_NOW),
        comment=info.comment,
        state=State(info.state),
        generated=info.generated_expr_string or None,
        stored=info.generated_stored or not info.generated_expr_string,
        origin_default=constant_of_text(info.origin_default, info.origin_default_bit, ft, info.name),
        zerofill=info.has(Flag.ZEROFILL),
        hidden=info.hidden,
    )


def _make_index(info: IndexInfo, places: Mapping[int, int]) -> Index:
    """`places` are those of the table's columns by their stored offsets."""
    columns = tuple(IndexColumn(places[c.offset], c.length) for c in info.columns)
    state = State(info.state)
    return Index(info.id, info.name, columns, info.unique, info.primary, state, info.comment, info.complete_ts)


def make_table(info: TableInfo, db: DBInfo, *, columnar_default: bool = True) -> Table:
    """The immutable table of a stored one.

    Columns that cannot be seen yet, and indexes whose entries are not made here as TiDB makes them, have no place in
    it; nor have the expressions of such indexes.
    """
    if reason_against_reading(info) is not None:
        info, stored = TableInfo(id=info.id, name=info.name), info
        return replace(make_table(info, db, columnar_default=columnar_default), info=stored, revision=stored.revision)
    kept = [i for i in info.indexes if is_keyed_as_here(info, i)]
    keyed = {part.offset for i in kept for part in i.columns}
    shown = (c for c in info.columns if c.state == State.PUBLIC and (not c.hidden or c.offset in keyed))
    public = sorted(shown, key=lambda c: (c.hidden, c.offset))
    columns = tuple(replace(make_column(c), offset=i) for i, c in enumerate(public))
    places = {c.offset: i for i, c in enumerate(public)}
    handle_offset = -1
    common: tuple[IndexColumn, ...] = ()
    indexes = [_make_index(i, places) for i in kept]
    primary = next((i for i in indexes if i.primary), None)
    if info.pk_is_handle:
        handle_offset = next(i for i, c in enumerate(public) if c.has(Flag.PRI_KEY))
        key: tuple[int, ...] = (handle_offset,)
    else:
        key = tuple(c.offset for c in primary.columns) if primary is not None else ()
        if info.is_common_handle and primary is not None:
            common = primary.columns
            indexes.remove(primary)
    return Table(
        id=info.id,
        name=info.name,
        db=db.name,
        db_id=db.id,
        columns=columns,
        indexes=tuple(i for i in indexes if i.state == State.PUBLIC),
        building=tuple(i for i in indexes if i.state in (State.WRITE_ONLY, State.WRITE_REORG)),
        delete_only=tuple(i for i in indexes if i.state in (State.DELETE_ONLY, State.DELETE_REORG)),
        handle_offset=handle_offset,
        common_handle=common,
        primary_key=key,
        revision=info.revision,
        info=info,
        columnar_default=columnar_default,
        unread=tuple(
            _make_index(i, places)
            for i in info.indexes
            if i.state == State.PUBLIC
            and i not in kept
            and is_shown(i)
            and all(part.offset in places for part in i.columns)
        ),
    )


def make_database(info: DBInfo, tables: Iterable[Table], *, virtual: bool = False) -> Database:
    return Database(info.id, info.name, MappingProxyType({t.name.lower(): t for t in tables}), info, virtual)
