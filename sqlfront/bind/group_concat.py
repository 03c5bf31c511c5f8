"""GROUP_CONCAT: its items, its order and its separator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from coprocessor import functions as fn
from coprocessor.expr import Agg, Expr, OrderKey
from sqlfront.bind.messages import position_of
from sqlfront.errors import ER_BAD_FIELD, ER_INVALID_GROUP_FUNC_USE, error

if TYPE_CHECKING:
    from sqlfront.bind.expr import ExprBinder


def bind_group_concat(binder: ExprBinder, node: exp.GroupConcat) -> Agg:
    """GROUP_CONCAT([DISTINCT] items ORDER BY keys SEPARATOR mark); a number as a key is an item's."""
    if not binder.may_aggregate:
        raise error(ER_INVALID_GROUP_FUNC_USE, "Invalid use of group function", position=position_of(node))
    inner = node.this
    ordered: list[exp.Ordered] = []
    separator = node.args.get("separator")
    if isinstance(inner, exp.Order):
        ordered = inner.expressions
        inner = inner.this
    distinct = isinstance(inner, exp.Distinct)
    nodes = inner.expressions if isinstance(inner, (exp.Distinct, exp.Tuple)) else [inner]
    if len(nodes) == 1 and isinstance(nodes[0], exp.Concat):
        nodes = nodes[0].expressions
    items = binder.aggregate_args(nodes)
    keys = [OrderKey(_key(binder, o.this, items), bool(o.args.get("desc"))) for o in ordered]
    mark = separator.this if isinstance(separator, exp.Literal) else ","
    return fn.resolve_agg("group_concat", items, distinct=distinct, order_by=keys, separator=mark)


def _key(binder: ExprBinder, node: exp.Expression, items: list[Expr]) -> Expr:
    if not isinstance(node, exp.Literal) or node.is_string or not node.this.isdigit():
        return binder.aggregate_args([node])[0]
    if not 1 <= int(node.this) <= len(items):
        raise error(ER_BAD_FIELD, f"Unknown column '{node.this}' in 'order clause'", position=position_of(node))
    return items[int(node.this) - 1]
