"""Expressions as DEFAULT: bound by themselves, computed for each row that is given nothing for their column."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from sqlglot import exp

from coprocessor.expr import Agg, Expr, Subquery, Window, walk
from sqlfront.bind.generated import bind_alone
from sqlfront.catalog import definition as d
from sqlfront.catalog.model import Column
from sqlfront.errors import DatabaseError, error, unsupported
from sqlfront.parse import parse_expression


@lru_cache(maxsize=512)
def default_expr(column: Column) -> Expr:
    """What a column with such a default gets, of the expression's own type."""
    return bind_default(column.name, column.default.text)


def bind_default(name: str, text: str, position: int = -1) -> Expr:
    """Binds the default of column `name`. Raises 3770 for what none may have, 1235 for one that reads columns."""
    tree = parse_expression(text)
    if tree.find(exp.Query, exp.Placeholder, exp.Parameter, exp.SessionParameter) is not None:
        raise _disallowed(name, position)
    if tree.find(exp.Column) is not None:
        raise unsupported("columns in an expression as DEFAULT", position=position)
    expr, _ = bind_alone((), tree, "default value expression")
    if any(isinstance(part, Subquery | Agg | Window) for part in walk(expr)):
        raise _disallowed(name, position)
    return expr


def _disallowed(name: str, position: int) -> DatabaseError:
    message = f"Default value expression of column '{name}' contains a disallowed function."
    return error(3770, message, position=position)


def check_defaults(columns: Iterable[d.ColumnSpec]) -> None:
    """Binds those of new or changed columns, and nothing else."""
    for column in columns:
        if column.default is not None and column.default.kind == "expr":
            bind_default(column.name, str(column.default.value), column.default.position)
