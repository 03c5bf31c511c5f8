"""Rows as operands: (a, b) = (c, d), ROW(a, b) IN (...), a subquery of several columns.

A comparison of rows is the comparisons of their items; one with a subquery is computed within a query over what the
subquery gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from coprocessor import functions as fn
from coprocessor.expr import Expr
from sqlfront.bind.messages import position_of
from sqlfront.errors import ER_OPERAND_COLUMNS, DatabaseError, error
from sqlfront.parse import FUNCTION_MARK

if TYPE_CHECKING:
    from sqlfront.bind.expr import ExprBinder

COMPARES_ROW = "compares_row"
"""Marks the query that `row_subquery` makes."""


def row_items(node: exp.Expression) -> list[exp.Expression] | None:
    """The items of (a, b) and ROW(a, b); None of anything else."""
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.Tuple) or (
        isinstance(node, exp.Anonymous) and str(node.this).removeprefix(FUNCTION_MARK).lower() == "row"
    ):
        return list(node.expressions)
    return None


def wide_query(node: exp.Expression) -> int:
    """How many columns a subquery selects, where they are listed and several; else 0."""
    width = _width(node)
    return width if width > 1 else 0


def _width(node: exp.Expression) -> int:
    """How many columns a subquery selects; 0 where a `*` is among them."""
    if not isinstance(node, exp.Subquery):
        return 0
    query = node.this
    while isinstance(query, (exp.SetOperation, exp.Subquery)):
        query = query.this
    listed = query.expressions if isinstance(query, exp.Select) else []
    return 0 if any(item.is_star for item in listed) else len(listed)


def wrong_columns(count: int, node: exp.Expression) -> DatabaseError:
    return error(ER_OPERAND_COLUMNS, f"Operand should contain {count} column(s)", position=position_of(node))


def compare_rows(binder: ExprBinder, name: str, node: exp.Binary, left: exp.Expression, right: exp.Expression) -> Expr:
    """Binds a comparison, by its function's name, of which a side is a row or a subquery of several columns."""
    a, b = row_items(left), row_items(right)
    width = len(a or b or ()) or wide_query(left) or wide_query(right)
    always = name == "nulleq"
    make: Callable[..., exp.Expression] = type(node)
    if isinstance(right, exp.Subquery):
        mine = node.left.copy()
        return row_subquery(binder, right, width, lambda row: make(this=mine, expression=row), always=always)
    if isinstance(left, exp.Subquery):
        mine = node.right.copy()
        return row_subquery(binder, left, width, lambda row: make(this=row, expression=mine), always=always)
    if a is None or b is None or len(a) != len(b):
        raise wrong_columns(len(a if a is not None else b or ()), node)
    if name in ("eq", "nulleq", "ne"):
        whole = _equal(binder, "nulleq" if name == "nulleq" else "eq", a, b)
        return fn.resolve("not", [whole]) if name == "ne" else whole
    lefts, rights = binder.bind_all(a), binder.bind_all(b)
    strict = {"le": "lt", "ge": "gt"}.get(name, name)
    out = fn.resolve(name, [lefts[-1], rights[-1]])
    for x, y in zip(reversed(lefts[:-1]), reversed(rights[:-1]), strict=True):
        tied = fn.resolve("and", [fn.resolve("eq", [x, y]), out])
        out = fn.resolve("or", [fn.resolve(strict, [x, y]), tied])
    return out


def row_in(binder: ExprBinder, row: Sequence[exp.Expression], listed: Sequence[exp.Expression]) -> Expr:
    """A row IN a list of rows."""
    each: list[Expr] = []
    for item in listed:
        items = row_items(item)
        if items is None or len(items) != len(row):
            raise wrong_columns(len(row), item)
        each.append(_equal(binder, "eq", row, items))
    return chain("or", each)


def _equal(binder: ExprBinder, name: str, a: Sequence[exp.Expression], b: Sequence[exp.Expression]) -> Expr:
    """The equality of two rows, whose items may be rows."""
    each: list[Expr] = []
    for x, y in zip(a, b, strict=True):
        xs, ys = row_items(x), row_items(y)
        if xs is not None or ys is not None:
            if xs is None or ys is None or len(xs) != len(ys):
                raise wrong_columns(len(xs) if xs is not None else 1, y)
            each.append(_equal(binder, name, xs, ys))
        else:
            each.append(fn.resolve(name, [binder.bind(x), binder.bind(y)]))
    return chain("and", each)


def row_subquery(
    binder: ExprBinder,
    query: exp.Subquery,
    width: int,
    compared: Callable[[exp.Expression], exp.Expression],
    *,
    always: bool = False,
) -> Expr:
    """A comparison with the one row of a query, made in a query over it: NULL without a row, and with `always` that of
    a row of NULLs.
    """
    if _width(query) not in (0, width):
        raise wrong_columns(width, query)
    # the names tell the row from those of such queries around this one
    table = f"row_subquery_{binder.ctx.new_id()}"
    names = [f"{table}_{i}" for i in range(width)]
    alias = exp.TableAlias(this=exp.to_identifier(table), columns=[exp.to_identifier(n) for n in names])
    row = exp.Tuple(expressions=[exp.column(name, table=table) for name in names])
    source = exp.Subquery(this=query.this.copy(), alias=alias)
    select = exp.select(compared(row))
    if always:
        one = exp.Subquery(this=exp.select("1"), alias=exp.TableAlias(this=exp.to_identifier("row_always")))
        select = select.from_(one).join(source, join_type="left", on=exp.true())
    else:
        select = select.from_(source)
    select.meta[COMPARES_ROW] = True
    return binder.bind(exp.Subquery(this=select))


def chain(op: str, parts: Sequence[Expr]) -> Expr:
    out = parts[0]
    for part in parts[1:]:
        out = fn.resolve(op, [out, part])
    return out
