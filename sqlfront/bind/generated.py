"""Generated columns: the expressions that they are computed by, bound against the other columns of their row.

A STORED one is computed when its row is written and is a column like any other to whoever reads. A VIRTUAL one is in no
row: the binder puts a projection over the scan of its table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sqlglot import exp

from coprocessor import functions as fn
from coprocessor.coercible import comparing_literals
from coprocessor.division import DIV_PRECISION_INCREMENT, dividing
from coprocessor.expr import Agg, Call, Column, Context, Expr, Subquery, Window, walk
from coprocessor.types import TEXT_COLLATE, FieldType, Tp
from sqlfront.bind.expr import ExprBinder
from sqlfront.bind.query import QueryBinder
from sqlfront.bind.scope import BindContext, Relation, Scope
from sqlfront.catalog import definition as d
from sqlfront.catalog.column_types import type_info
from sqlfront.catalog.info import ColumnInfo, TableInfo
from sqlfront.catalog.model import Schema, Table, field_type
from sqlfront.errors import DatabaseError, error
from sqlfront.parse import parse_expression
from sqlfront.plan.nodes import PlanColumn

_NO_SCHEMA = Schema(0, {})


@dataclass(frozen=True, slots=True)
class Generated:
    """One generated column. `expr` is over columns whose ids are offsets of the table; its type is the expression's
    own."""

    offset: int
    stored: bool
    expr: Expr


@lru_cache(maxsize=512)
def generated_of(table: Table) -> tuple[Generated, ...]:
    """The generated columns of a table, each behind those it is computed from."""
    columns = [("" if c.hidden else c.name, c.type) for c in table.columns]
    return tuple(
        Generated(c.offset, c.stored, fn.by_own_type(bind_over(columns, c.name, c.generated or ""), c.type))
        for c in table.generated
    )


def virtual_exprs(table: Table, columns: Mapping[int, Expr]) -> dict[int, Expr]:
    """What the virtual columns of a table (by offset) show, as expressions over those of `columns`, by offset."""
    from sqlfront.plan.rules.push_filters import substitute

    known = dict(columns)
    for generated in generated_of(table):
        if not generated.stored:
            expr = substitute(generated.expr, known)
            known[generated.offset] = fn.cast_to(expr, table.columns[generated.offset].type)
    return {offset: expr for offset, expr in known.items() if offset not in columns}


def bind_over(
    columns: Sequence[tuple[str, FieldType]],
    name: str,
    text: str,
    position: int = -1,
    clause: str = "generated column function",
) -> Expr:
    """Binds the expression of column `name` over columns (name, type), whose ids are their places.

    Raises 1054 for names that none of them has, 3102 for what is not the same each time it is computed.
    """
    return bind_repeatable(columns, text, clause, _disallowed(name, position))


def bind_repeatable(
    columns: Sequence[tuple[str, FieldType]], text: str, clause: str, disallowed: DatabaseError
) -> Expr:
    """Binds an expression over columns (name, type), whose ids are their places; raises `disallowed` for one that is
    not the same each time it is computed."""
    tree = parse_expression(text)
    if tree.find(exp.Query, exp.Placeholder, exp.Parameter, exp.SessionParameter) is not None:
        raise disallowed
    expr, ctx = bind_alone(columns, tree, clause)
    if not ctx.cacheable or any(_is_disallowed(part) for part in walk(expr)):
        raise disallowed
    return expr


def varies_by_zone(info: TableInfo, column: ColumnInfo) -> bool:
    """Whether what a virtual column shows depends on the session: on its time zone, which TIMESTAMPs and some functions
    read, or on today's date. Raises what is wrong with the expressions that it comes from."""
    columns = [(c.name, field_type(c.type)) for c in info.columns]
    expr = bind_over(columns, column.name, column.generated_expr_string)
    if any(_reads_zone(part) for part in walk(expr)):
        return True
    sources = [found for name in column.dependences or () if (found := info.column(name)) is not None]
    virtual = [c for c in sources if c.generated_expr_string and not c.generated_stored]
    return any(varies_by_zone(info, c) for c in virtual)


_OF_ZONE = frozenset({"unix_timestamp_of", "from_unixtime", "convert_tz"})
_DAYS = frozenset({Tp.DATE, Tp.DATETIME, Tp.TIMESTAMP})


def _reads_zone(part: Expr) -> bool:
    if isinstance(part, Call):
        dated = part.func == "cast" and part.type.tp in _DAYS and part.args[0].type.tp == Tp.DURATION
        return dated or part.func in _OF_ZONE
    return isinstance(part, Column) and part.type.tp == Tp.TIMESTAMP


def bind_alone(columns: Sequence[tuple[str, FieldType]], tree: exp.Expression, clause: str) -> tuple[Expr, BindContext]:
    """Binds an expression that belongs to no statement, over columns (name, type) whose ids are their places; `clause`
    is where messages find it."""
    ctx = BindContext(_NO_SCHEMA, "", {}, {})
    scope = Scope()
    cols = tuple(PlanColumn(place, column, type_, True) for place, (column, type_) in enumerate(columns))
    scope.add(Relation("", "", cols))
    binder = ExprBinder(ctx, scope, QueryBinder(ctx))
    binder.clause = clause
    with dividing(DIV_PRECISION_INCREMENT), comparing_literals(TEXT_COLLATE):  # the same for all sessions
        return binder.bind(tree), ctx


def _disallowed(name: str, position: int) -> DatabaseError:
    return error(3102, f"Expression of generated column '{name}' contains a disallowed function.", position=position)


def _is_disallowed(part: Expr) -> bool:
    if isinstance(part, Call):
        entry = fn.lookup(part.func)
        return entry is not None and not entry.deterministic
    return isinstance(part, Context | Subquery | Agg | Window)


def check_definition(columns: Sequence[d.ColumnSpec], there: Sequence[tuple[str, FieldType]] = ()) -> None:
    """Binds the generated ones among new columns, of a table that has the columns `there` already."""
    if all(c.generated is None for c in columns):
        return
    known = [*there, *((c.name, field_type(type_info(c.type, c.name))) for c in columns if c.type.name != "SERIAL")]
    for column in columns:
        if column.generated is not None:
            bind_over(known, column.name, column.generated.text, column.generated.position)
