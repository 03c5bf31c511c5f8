"""CREATE TABLE ... [AS] SELECT: a table with the columns of a query, and its rows.

MySQL's rules: columns that only the statement defines come first, then those of the query in its order, each as the
statement defines it or else as the query's column is: with its type, NOT NULL and DEFAULT, without AUTO_INCREMENT and
without indexes. The table is made first and filled, as by a bulk load where it can be; when that fails it is dropped
again. Others may see it empty meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coprocessor import types as t
from coprocessor.coercible import connection_collation
from coprocessor.expr import Column as ColumnExpr
from coprocessor.expr import Const, Expr
from coprocessor.functions.inference import gives_way
from coprocessor.types import BLOB_TPS, FieldType, Tp
from kvstore.errors import KeyExists
from sqlfront import parse
from sqlfront.bind.ddl import read_text
from sqlfront.bind.query import QueryBinder
from sqlfront.catalog import definition as d
from sqlfront.catalog.column_types import quote_text, type_text
from sqlfront.catalog.describe import default_text, now_text, quote_name
from sqlfront.catalog.model import Column, Table
from sqlfront.catalog.table_builder import columns_in
from sqlfront.errors import ER_PARSE, error
from sqlfront.exec.context import storing
from sqlfront.exec.ddl import execute_definition
from sqlfront.exec.dml import insert_of
from sqlfront.exec.statement import bind_context, make_query
from sqlfront.load import append_rows
from sqlfront.load_source import CHUNK_ROWS, Chunk, Source
from sqlfront.parse.text import near
from sqlfront.plan.nodes import Node, Project, Scan, walk_nodes
from sqlfront.result import Result, Row
from sqlfront.translate import translate

if TYPE_CHECKING:
    from sqlfront.session import Session

_STRING_TPS = frozenset({Tp.VARCHAR, Tp.VAR_STRING, Tp.STRING})
VARCHAR_CHARS_MAX = 512
"""A longer text that a query makes becomes a TEXT column."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A column of the query: its type, whether it may be NULL, and the stored column or the expression it is."""

    name: str
    type: FieldType
    nullable: bool
    column: Column | None = None
    expr: Expr | None = None


def create_from_query(session: Session, spec: d.CreateTable, params: Sequence[object]) -> Result:
    """Makes the table and fills it; the result counts its rows."""
    db = spec.table.db or session.current_db
    there = session.catalog.schema.database(db)
    if there is not None and there.table(spec.table.name) is not None:
        return execute_definition(session, spec)  # which says that it is there
    is_hidden = session.temporary is not None and session.temporary.find(db, spec.table.name) is not None
    parsed, query = _query_of(spec)
    made = _columns_of(session, parsed, query, params)
    _complete(session, spec, made)
    execute_definition(session, spec)
    session.rebound()
    table = session.catalog.schema.need_table(db, spec.table.name)
    try:
        if spec.duplicates or is_hidden:
            source = RowsSource(session, parsed, query, params, made)
            taken = source.fill(table, spec.duplicates)
            count = source.count
        else:
            count = taken = _fill(session, table, parsed, query, params, [m.name for m in made])
    except KeyExists as exc:
        told = translate(exc, session.database.find_table)  # while the table is there to be named
        execute_definition(session, d.DropTable([spec.table], True))
        raise told from exc
    except BaseException:
        execute_definition(session, d.DropTable([spec.table], True))
        raise
    return Result(affected_rows=taken, info=info_text(session, count, taken))


def info_text(session: Session, count: int, taken: int) -> str:
    """What clients are told of so many rows, of which so many are there."""
    return f"Records: {count}  Duplicates: {max(count - taken, 0)}  Warnings: {len(session.warnings)}"


def rows_source(session: Session, spec: d.CreateTable, params: Sequence[object]) -> RowsSource:
    """The rows for a table that is to be made; gives the statement's columns those of the query."""
    parsed, query = _query_of(spec)
    made = _columns_of(session, parsed, query, params)
    source = RowsSource(session, parsed, query, params, made)
    _complete(session, spec, made)
    return source


def _query_of(spec: d.CreateTable) -> tuple[parse.Parsed, parse.Query]:
    parsed = parse.parse(spec.query)
    if not isinstance(parsed.statement, parse.Query):
        position = len(spec.query) - len(spec.query.lstrip())
        message = "You have an error in your SQL syntax" + near(spec.query, position)
        raise error(ER_PARSE, message, position=position)
    return parsed, parsed.statement


class RowsSource:
    """The rows of a query, for a table that an INSERT fills: one with IGNORE or REPLACE, and what is temporary.

    The query is bound here, where the names of tables mean what they did before there was the new one.
    """

    def __init__(
        self,
        session: Session,
        parsed: parse.Parsed,
        query: parse.Query,
        params: Sequence[object],
        made: Sequence[_Made],
    ) -> None:
        self.count = 0
        """How many rows the query has given."""
        self._made = made
        self._session, self._params = session, tuple(params)
        with storing(session):
            self._executable, _ = make_query(session, parsed, query, params)
        self._ignore = False

    def fill(self, table: Table, duplicates: str) -> int:
        """Inserts the rows as one statement; returns how many rows were affected."""
        names, types = [m.name for m in self._made], [m.type for m in self._made]
        self._ignore = duplicates == "ignore"
        change = insert_of(self._session, table, table.name, names, types, duplicates)
        return change.run_rows(self._session, self._rows).affected_rows

    def _rows(self) -> Iterator[Row]:
        self.count = 0
        with storing(self._session, ignore=self._ignore):
            result = self._executable.run(self._session, self._params)
        try:
            for batch in result.fetch():
                self.count += len(batch)
                yield from batch
        finally:
            result.close()


# Columns


def _columns_of(session: Session, parsed: parse.Parsed, query: parse.Query, params: Sequence[object]) -> list[_Made]:
    if query.assigns:
        executable, _ = make_query(session, parsed, query, params)
        columns = getattr(executable, "columns", ())
        return [_Made(c.name, c.type, c.nullable) for c in columns]
    ctx = bind_context(session, parsed, params)
    root = QueryBinder(ctx).bind(query.ast, query.item_texts).root
    sources = {
        c.id: scan.table.columns[offset]
        for scan in walk_nodes(root)
        if isinstance(scan, Scan)
        for c, offset in zip(scan.cols, scan.offsets, strict=True)
        if offset >= 0
    }
    exprs = _exprs_of(root)
    out = []
    for place, column in enumerate(root.cols):
        expr = exprs[place] if exprs is not None else None
        stored = sources.get(expr.id if isinstance(expr, ColumnExpr) else column.id)
        out.append(_Made(column.name, _in_collation(column.type, expr), column.nullable, stored, expr))
    return out


def _in_collation(type_: FieldType, expr: Expr | None) -> FieldType:
    """A column's type; text that is made of literals alone has the connection's collation."""
    made = expr is not None and type_.is_text and gives_way(expr)
    return type_.with_(collate=connection_collation()) if made else type_


def _exprs_of(node: Node) -> Sequence[Expr] | None:
    """What the columns of a plan are, as far down as they can be followed."""
    while True:
        if isinstance(node, Project):
            below = _exprs_of(node.child)
            places = {c.id: i for i, c in enumerate(node.child.cols)}
            if below is None:
                return node.exprs
            return [below[places[e.id]] if isinstance(e, ColumnExpr) and e.id in places else e for e in node.exprs]
        child = getattr(node, "child", None)
        if child is None or tuple(child.cols) != tuple(node.cols):
            return None
        node = child


def _complete(session: Session, spec: d.CreateTable, made: Sequence[_Made]) -> None:
    """Gives the statement's columns those of the query."""
    given: dict[str, d.ColumnSpec] = {}
    for definition in spec.columns:
        if given.setdefault(definition.name.casefold(), definition) is not definition:
            raise error(1060, f"Duplicate column name '{definition.name}'", position=definition.position)
    names = {m.name.casefold() for m in made}
    primary = {part.column.casefold() for key in spec.keys if key.kind == "primary" for part in key.parts}
    columns = [column for name, column in given.items() if name not in names]
    for column in made:
        found = given.pop(column.name.casefold(), None)
        if found is not None and found.generated is not None:
            message = (
                f"The value specified for generated column '{found.name}' in table '{spec.table.name}' is not allowed."
            )
            raise error(3105, message, position=found.position)
        columns.append(found or _spec_of(session, column, in_primary=column.name.casefold() in primary))
    spec.columns = columns
    spec.query = ""


def _spec_of(session: Session, made: _Made, *, in_primary: bool) -> d.ColumnSpec:
    """The definition of a column of the query, by way of its text; it is NOT NULL in a primary key."""
    type_ = _type_of(made)
    parts = [quote_name(made.name), type_]
    ft = made.type
    if ft.is_text or ft.elems:
        parts.append(f"CHARACTER SET {ft.charset or t.TEXT_CHARSET} COLLATE {ft.collate or t.TEXT_COLLATE}")
    parts.append("NULL" if made.nullable and not in_primary else "NOT NULL")
    default = _default_of(session, made, type_)
    if default:
        parts.append(f"DEFAULT {default}")
    column = made.column
    if column is not None:
        if column.on_update_now:
            parts.append(f"ON UPDATE {now_text(max(ft.decimal, 0))}")
        if column.comment:
            parts.append(f"COMMENT {quote_text(column.comment)}")
    definition = read_text(f"CREATE TABLE t ({' '.join(parts)})")
    assert isinstance(definition, d.CreateTable)
    return definition.columns[0]


def _type_of(made: _Made) -> str:
    ft = made.type
    if made.column is not None:
        return type_text(ft, zerofill=made.column.zerofill)
    if ft.tp == Tp.NULL:
        return "binary(0)"
    value = made.expr.value if isinstance(made.expr, Const) else None
    if isinstance(value, int) and ft.is_integer and abs(value) < 1_000_000_000:
        return "int"
    if ft.tp in BLOB_TPS or ft.tp in _STRING_TPS:
        size = len(value) if isinstance(value, str | bytes) else -1 if ft.tp in BLOB_TPS else ft.flen
        if 0 <= size <= VARCHAR_CHARS_MAX:
            return f"{'varbinary' if ft.is_binary else 'varchar'}({size})"
        return "longblob" if ft.is_binary else "longtext"
    return type_text(ft)


def _default_of(session: Session, made: _Made, type_: str) -> str:
    """The text of its DEFAULT, empty for none: that of the stored column, or what stands for nothing."""
    ft, column = made.type, made.column
    plain = ft.is_numeric and ft.tp != Tp.BIT
    if column is not None and not column.auto_increment and column.generated is None:
        shown = default_text(column, session.variables.zone)
        if column.default.kind == "expr":  # one that reads columns means others here
            return "" if columns_in(column.default.text) else f"({shown})"
        if shown is None or column.default.kind == "now" or shown.startswith(("b'", "0x")):
            return shown or ""
        return quote_text(shown)
    if made.nullable:
        return ""
    if plain:
        return "'0'"
    return "''" if type_.startswith("var") else ""


# Rows


def _fill(
    session: Session,
    table: Table,
    parsed: parse.Parsed,
    query: parse.Query,
    params: Sequence[object],
    names: list[str],
) -> int:
    """Puts the query's rows in as a bulk load does; returns how many there were."""
    with storing(session):
        executable, _ = make_query(session, parsed, query, params)
    told = session.warnings
    with storing(session):
        result = executable.run(session, tuple(params))
    try:
        source = Source(names, None, _chunks(result))
        count = append_rows(session.database, session, f"{table.db}.{table.name}", lambda _: source)
    finally:
        result.close()
        if session.warnings is not told:  # a few rows are put in by a statement of their own
            session.warnings = told + session.warnings
    return count


def _chunks(result: Result) -> Iterator[Chunk]:
    held: list[Row] = []
    first = 1
    for batch in result.fetch():
        held += batch
        if len(held) >= CHUNK_ROWS:
            yield _chunk(held, first)
            first += len(held)
            held = []
    if held:
        yield _chunk(held, first)


def _chunk(rows: list[Row], first: int) -> Chunk:
    return Chunk([list(column) for column in zip(*rows, strict=True)], len(rows), first)
