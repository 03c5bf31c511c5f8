"""Expressions as DEFAULT: computed for each row that is given nothing for their column.

They may read the other columns of the row, of those that are computed themselves (by a default or by what generates
them) only the ones before: so the rest of a row is filled first, then these from left to right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from sqlglot import exp

from coprocessor import functions as fn
from coprocessor.expr import Agg, Column, Expr, Subquery, Window, walk
from coprocessor.types import FieldType
from sqlfront.bind.generated import bind_alone, generated_of
from sqlfront.catalog import definition as d
from sqlfront.catalog.column_types import type_info
from sqlfront.catalog.model import Table, field_type
from sqlfront.errors import DatabaseError, error
from sqlfront.parse import columns_named, parse_expression

CLAUSE = "default value expression"


@lru_cache(maxsize=512)
def default_exprs(table: Table) -> Mapping[int, Expr]:
    """The expressions that columns of a table (by offset) have as DEFAULT, of their own types, over columns whose ids
    are offsets; generated columns are read as what they are computed by."""
    from sqlfront.plan.rules.push_filters import substitute

    columns = [("" if c.hidden else c.name, c.type) for c in table.columns]
    known: dict[int, Expr] = {}
    for generated in generated_of(table):
        known[generated.offset] = fn.cast_to(substitute(generated.expr, known), table.columns[generated.offset].type)
    return {
        c.offset: substitute(bind_default(c.name, c.default.text, columns), known)
        for c in table.columns
        if c.default.kind == "expr"
    }


@lru_cache(maxsize=512)
def late_defaults(table: Table) -> frozenset[int]:
    """The offsets of the columns whose DEFAULT reads other columns of the row."""
    return frozenset(offset for offset, expr in default_exprs(table).items() if _reads(expr))


def _reads(expr: Expr) -> bool:
    return any(isinstance(part, Column) for part in walk(expr))


def bind_default(name: str, text: str, columns: Sequence[tuple[str, FieldType]] = (), position: int = -1) -> Expr:
    """Binds the default of column `name` over columns (name, type), whose ids are their places.

    Raises 3770 for what none may have, 3772 for variables, 1054 for names that no column has.
    """
    tree = parse_expression(text)
    if tree.find(exp.Parameter, exp.SessionParameter) is not None:
        message = f"Default value expression of column '{name}' cannot refer user or system variables."
        raise error(3772, message, position=position)
    if tree.find(exp.Query, exp.Placeholder) is not None:
        raise _disallowed(name, position)
    expr, _ = bind_alone(columns, tree, CLAUSE)
    if any(isinstance(part, Subquery | Agg | Window) for part in walk(expr)):
        raise _disallowed(name, position)
    return expr


def default_alone(name: str, text: str) -> Expr:
    """The default of a column where there is no row: for DEFAULT(column). Raises 3773 for one that reads columns."""
    if columns_named(parse_expression(text)):
        raise error(3773, "DEFAULT function cannot be used with default value expressions")
    return bind_default(name, text)


def _disallowed(name: str, position: int) -> DatabaseError:
    message = f"Default value expression of column '{name}' contains a disallowed function."
    return error(3770, message, position=position)


def check_defaults(
    columns: Iterable[d.ColumnSpec],
    there: Sequence[tuple[str, FieldType]] = (),
    changed: Iterable[d.SetDefault] = (),
) -> None:
    """Binds those of new columns, and those that columns get, of a table that has the columns `there` already."""
    columns = list(columns)
    given = [(c.name, c.default) for c in columns] + [(action.column, action.default) for action in changed]
    exprs = [(name, default) for name, default in given if default is not None and default.kind == "expr"]
    if exprs:
        new = [(c.name, field_type(type_info(c.type, c.name))) for c in columns if c.type.name != "SERIAL"]
        named = {name.lower() for name, _ in new}
        known = [*new, *((name, type_) for name, type_ in there if name.lower() not in named)]
        for name, default in exprs:
            bind_default(name, str(default.value), known, default.position)
