"""Makes a left join an inner one where a condition on its result refuses the rows that found no partner.

Conditions can then be pushed into both of its sides, and either side can be looked up by the other's rows.
"""

from __future__ import annotations

from dataclasses import replace

from coprocessor.expr import Call, Column, Const, Expr
from coprocessor.functions import lookup
from sqlfront.plan.nodes import Aggregate, Distinct, Filter, Join, Node, Project, Sort, With, map_ctes, with_children
from sqlfront.plan.rules.push_filters import substitute


def outer_to_inner(node: Node) -> Node:
    """Returns the tree with such joins changed."""
    return _under(node, ())


def _under(node: Node, conds: tuple[Expr, ...]) -> Node:
    """`conds` are true for every row of `node` that counts."""
    match node:
        case Filter():
            return replace(node, child=_under(node.child, node.conds + conds))
        case Join():
            right_ids = {c.id for c in node.right.cols}
            if node.kind == "left" and any(_of_nulls(c, right_ids) in _REFUSED for c in conds):
                node = replace(node, kind="inner")
            inner = node.kind == "inner"
            left = _under(node.left, node.on + conds if inner else conds)
            return replace(node, left=left, right=_under(node.right, node.on + conds if inner else node.on))
        case Project():
            sources = {c.id: e for c, e in zip(node.cols, node.exprs, strict=True)}
            return replace(node, child=_under(node.child, tuple(substitute(c, sources) for c in conds)))
        case Aggregate() if node.groups and not node.rollup:
            groups = {c.id: e for c, e in zip(node.cols, node.groups, strict=False)}
            return replace(node, child=_under(node.child, tuple(substitute(c, groups) for c in conds)))
        case Sort() | Distinct():
            return replace(node, child=_under(node.child, conds))
        case With():
            return replace(node, ctes=map_ctes(node, outer_to_inner), child=_under(node.child, conds))
        case _:
            return with_children(node, outer_to_inner)


_REFUSED = ("null", "false", "not true")


def _of_nulls(expr: Expr, ids: set[int]) -> str:
    """What an expression is when all columns of `ids` are NULL: "null", "false", "true", "not true" where it is one
    of the first two, "" when that depends on more.
    """
    match expr:
        case Column():
            return "null" if expr.id in ids else ""
        case Const():
            if expr.value is None:
                return "null"
            return ("true" if expr.value else "false") if isinstance(expr.value, int) else ""
        case Call():
            return _of_call(expr.func, [_of_nulls(a, ids) for a in expr.args])
        case _:
            return ""


def _of_call(func: str, args: list[str]) -> str:
    match func:
        case "and":
            return "false" if "false" in args else "not true" if any(a in _REFUSED for a in args) else ""
        case "or":
            return "true" if "true" in args else "not true" if all(a in _REFUSED for a in args) else ""
        case "not":
            return {"null": "null", "false": "true", "true": "false"}.get(args[0], "")
        case "isnull":
            return "true" if args[0] == "null" else ""
        case "istrue":
            return "false" if args[0] in _REFUSED else ""
        case "in":
            return args[0] if args[0] == "null" else ""
        case _:
            entry = lookup(func)
            strict = entry is not None and not entry.nulls and entry.build is None
            return "null" if strict and "null" in args else ""
