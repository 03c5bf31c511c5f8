"""Typed expressions: what the binder makes of SQL text, and what scans, closures and DuckDB evaluate.

Every node is immutable and carries its result type. Arguments of a `Call` already have the types that the function
wants: `functions.resolve` inserts the casts. A column is known by an id that is unique within the statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from coprocessor.types import FieldType


@dataclass(frozen=True, slots=True)
class Const:
    """A literal; `value` is the Python value of `type` (see types.py), None for NULL."""

    value: object
    type: FieldType


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a relation in scope, by statement-wide id."""

    id: int
    type: FieldType
    name: str = ""


@dataclass(frozen=True, slots=True)
class Param:
    """A statement parameter, by position in the execution's parameter row; the value has the Python type of `type`."""

    index: int
    type: FieldType


@dataclass(frozen=True, slots=True)
class Context:
    """A value that the session supplies once per execution: ("now", fsp), ("uservar", name), ("sysvar", name), ..."""

    key: tuple[object, ...]
    type: FieldType


@dataclass(frozen=True, slots=True)
class Call:
    """A catalogue function or operator on arguments of the types it wants."""

    func: str
    args: tuple[Expr, ...]
    type: FieldType


@dataclass(frozen=True, slots=True)
class OrderKey:
    expr: Expr
    desc: bool = False


@dataclass(frozen=True, slots=True)
class Agg:
    """An aggregate call (count, sum, avg, min, max, group_concat, ...). `args` empty is count(*)."""

    func: str
    args: tuple[Expr, ...]
    type: FieldType
    distinct: bool = False
    order_by: tuple[OrderKey, ...] = ()
    separator: str = ","


@dataclass(frozen=True, slots=True)
class Frame:
    """A window frame: `unit` rows or range; a bound is (kind, expr): unbounded_preceding, preceding, current,
    following, unbounded_following. `units` are those of bounds that are intervals (day, hour, ...), "" of others."""

    unit: str
    start: tuple[str, Expr | None]
    end: tuple[str, Expr | None]
    units: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Window:
    """A window function call: an aggregate or row_number, rank, lag, ... over a partition."""

    func: str
    args: tuple[Expr, ...]
    type: FieldType
    partition_by: tuple[Expr, ...] = ()
    order_by: tuple[OrderKey, ...] = ()
    frame: Frame | None = None
    distinct: bool = False


@dataclass(frozen=True, slots=True)
class Subquery:
    """A subquery inside an expression. `kind`: scalar, exists, in (with `args` on the left), any/all (with `op`).

    `plan` is a plan of the SQL layer, opaque here. `outer` are the ids of outer columns it refers to.
    """

    kind: str
    plan: object
    type: FieldType
    args: tuple[Expr, ...] = ()
    op: str = ""
    negated: bool = False
    outer: frozenset[int] = frozenset()


Expr: TypeAlias = Const | Column | Param | Context | Call | Agg | Window | Subquery


def children(expr: Expr) -> tuple[Expr, ...]:
    """Returns the direct sub-expressions (not the plan of a subquery)."""
    match expr:
        case Call() | Subquery():
            return expr.args
        case Agg():
            return expr.args + tuple(k.expr for k in expr.order_by)
        case Window():
            bounds = () if expr.frame is None else (expr.frame.start[1], expr.frame.end[1])
            return (
                expr.args
                + expr.partition_by
                + tuple(k.expr for k in expr.order_by)
                + tuple(b for b in bounds if b is not None)
            )
        case _:
            return ()


def walk(expr: Expr) -> Iterator[Expr]:
    """Yields the expression and all below it, parents first."""
    yield expr
    for child in children(expr):
        yield from walk(child)


def nesting(expr: Expr) -> int:
    """The number of levels of an expression; 1 for a leaf."""
    levels, level = 0, [expr]
    while level:
        levels += 1
        level = [child for parent in level for child in children(parent)]
    return levels


def transform(expr: Expr, fn: Callable[[Expr], Expr]) -> Expr:
    """Rebuilds the expression bottom-up, each node passed through `fn`."""
    match expr:
        case Call() | Subquery():
            args = tuple(transform(a, fn) for a in expr.args)
            expr = expr if args == expr.args else replace(expr, args=args)
        case Agg():
            expr = replace(
                expr,
                args=tuple(transform(a, fn) for a in expr.args),
                order_by=tuple(OrderKey(transform(k.expr, fn), k.desc) for k in expr.order_by),
            )
        case Window():
            frame = expr.frame
            if frame is not None:
                (sk, sv), (ek, ev) = frame.start, frame.end
                frame = replace(
                    frame,
                    start=(sk, None if sv is None else transform(sv, fn)),
                    end=(ek, None if ev is None else transform(ev, fn)),
                )
            expr = replace(
                expr,
                args=tuple(transform(a, fn) for a in expr.args),
                partition_by=tuple(transform(a, fn) for a in expr.partition_by),
                order_by=tuple(OrderKey(transform(k.expr, fn), k.desc) for k in expr.order_by),
                frame=frame,
            )
        case _:
            pass
    return fn(expr)


def columns(expr: Expr) -> set[int]:
    """Returns the ids of the columns that the expression reads, outer references of its subqueries included."""
    out: set[int] = set()
    for node in walk(expr):
        if isinstance(node, Column):
            out.add(node.id)
        elif isinstance(node, Subquery):
            out |= node.outer
    return out
