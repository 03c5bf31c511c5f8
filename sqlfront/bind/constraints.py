"""CHECK constraints: their expressions, bound against the columns of their table's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from sqlglot import exp

from coprocessor import functions as fn
from coprocessor.expr import Agg, Call, Column, Context, Expr, Subquery, Window, walk
from coprocessor.types import UBIGINT, FieldType
from sqlfront.bind.generated import bind_alone, virtual_exprs
from sqlfront.bind.scope import BindContext
from sqlfront.catalog import definition as d
from sqlfront.catalog.column_types import type_info
from sqlfront.catalog.constraint_rules import named_checks
from sqlfront.catalog.model import Table, field_type
from sqlfront.catalog.table_builder import columns_in
from sqlfront.errors import DatabaseError, error
from sqlfront.parse import parse_expression
from sqlfront.plan.rules.push_filters import substitute

_NUMBERS = (exp.Column, exp.Literal, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Neg, exp.Null)
"""What is no condition by itself."""


@dataclass(frozen=True, slots=True)
class BoundCheck:
    """A CHECK that is enforced. `expr` is over columns whose ids are offsets of the table, none of them virtual."""

    name: str
    expr: Expr


@lru_cache(maxsize=512)
def bound_checks(table: Table) -> tuple[BoundCheck, ...]:
    """The CHECKs of a table that are enforced."""
    return tuple(bind_check(table, check.name, check.text) for check in table.checks if check.enforced)


def bind_check(table: Table, name: str, text: str) -> BoundCheck:
    """Binds one CHECK over the columns of a table that rows hold."""
    expr = _bind([("" if c.hidden else c.name, c.type) for c in table.columns], parse_expression(text))[0]
    stored: dict[int, Expr] = {c.offset: Column(c.offset, c.type, c.name) for c in table.columns if c.stored}
    return BoundCheck(name, substitute(expr, stored | virtual_exprs(table, stored)))


def _bind(columns: Sequence[tuple[str, FieldType]], tree: exp.Expression) -> tuple[Expr, BindContext]:
    return bind_alone(columns, tree, "check constraint")


def checked_definition(spec: d.CreateTable) -> list[d.CheckSpec]:
    """The CHECKs of a new table, with names, after they were bound."""
    written = [*spec.checks, *(check for column in spec.columns for check in column.checks)]
    if not written:
        return []
    columns = [_typed(column) for column in spec.columns]
    found = named_checks(spec.table.name, (), written)
    for check in found:
        _examine(columns, check)
    return [replace(check, text=_bare(check.text)) for check in found]


def checked_addition(table: Table, specs: Sequence[d.CheckSpec], added: Sequence[d.ColumnSpec]) -> list[d.CheckSpec]:
    """The CHECKs that ALTER TABLE adds, with names, after they were bound; `added` are the columns that it adds, or
    changes."""
    names = {column.name.lower() for column in added}
    columns = [(c.name, c.type, c.auto_increment) for c in table.visible if c.name.lower() not in names]
    columns += [_typed(column) for column in added]
    found = named_checks(table.name, [check.name for check in table.checks], specs)
    for check in found:
        _examine(columns, check)
    return [replace(check, text=_bare(check.text)) for check in found]


def _bare(text: str) -> str:
    """An expression without the parentheses around all of it: SHOW CREATE TABLE adds some."""
    while isinstance(parse_expression(text), exp.Paren):
        text = text.strip()[1:-1].strip()
    return text


def _typed(column: d.ColumnSpec) -> tuple[str, FieldType, bool]:
    if column.type.name == "SERIAL":
        return column.name, UBIGINT, True
    return column.name, field_type(type_info(column.type, column.name)), column.auto_increment


def _examine(columns: Sequence[tuple[str, FieldType, bool]], check: d.CheckSpec) -> None:
    """Raises what keeps a CHECK from being one (3812 to 3820)."""
    tree = parse_expression(check.text)
    name = check.name
    if tree.find(exp.Parameter, exp.SessionParameter) is not None:
        raise _wrong(
            3816, f"An expression of a check constraint '{name}' cannot refer to a user or system variable.", check
        )
    if tree.find(exp.Query, exp.Placeholder) is not None:
        raise _wrong(3815, f"An expression of a check constraint '{name}' contains disallowed function.", check)
    known = {column.lower(): automatic for column, _, automatic in columns}
    for column in columns_in(check.text):
        if column not in known:
            raise _wrong(3820, f"Check constraint '{name}' refers to non-existing column '{column}'.", check)
        if check.column and column != check.column.lower():
            raise _wrong(3813, f"Column check constraint '{name}' references other column.", check)
        if known[column]:
            raise _wrong(3818, f"Check constraint '{name}' cannot refer to an auto-increment column.", check)
    expr, ctx = _bind([(column, type_) for column, type_, _ in columns], tree)
    for part in walk(expr):
        if isinstance(part, Call):
            entry = fn.lookup(part.func)
            if entry is not None and not entry.deterministic:
                message = f"An expression of a check constraint '{name}' contains disallowed function: {part.func}."
                raise _wrong(3814, message, check)
        if isinstance(part, Context):
            message = f"An expression of a check constraint '{name}' contains disallowed function: {part.key[0]}."
            raise _wrong(3814, message, check)
        if isinstance(part, Subquery | Agg | Window):
            raise _wrong(3815, f"An expression of a check constraint '{name}' contains disallowed function.", check)
    if not ctx.cacheable:
        raise _wrong(3815, f"An expression of a check constraint '{name}' contains disallowed function.", check)
    if isinstance(tree.unnest(), _NUMBERS):
        raise _wrong(3812, f"An expression of non-boolean type specified to a check constraint '{name}'.", check)


def _wrong(code: int, message: str, check: d.CheckSpec) -> DatabaseError:
    return error(code, message, position=check.position)
