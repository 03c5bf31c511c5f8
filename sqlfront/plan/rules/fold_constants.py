"""Computes what does not depend on rows, and drops conditions that are always true."""

from __future__ import annotations

from dataclasses import replace

from coprocessor.errors import EvalError
from coprocessor.evaluate import fold
from coprocessor.expr import Call, Expr, transform
from sqlfront.plan.nodes import Filter, Join, Node, is_true, map_exprs, with_children


def fold_constants(node: Node) -> Node:
    """Folds every expression of the tree, subqueries' plans excepted (the optimizer runs on those by itself)."""
    node = map_exprs(with_children(node, fold_constants), _fold)
    match node:
        case Filter():
            conds = tuple(c for c in node.conds if not is_true(c))
            return replace(node, conds=conds) if conds else node.child
        case Join():
            return replace(node, on=tuple(c for c in node.on if not is_true(c)))
        case _:
            return node


def _fold(expr: Expr) -> Expr:
    try:
        return transform(expr, lambda e: fold(e) if isinstance(e, Call) else e)
    except EvalError:
        # The error belongs to the execution: a CASE may never come to it, and a table may be empty.
        return expr
