"""Compiles typed expressions to Python closures: the direct path.

`compile_expr` and `compile_predicate` run once per plan; the closures take a row (a sequence of Python values,
`layout` maps column ids to positions) and the execution's `Env`. NULL is None. Hot shapes (a column, a constant, a
column compared with a constant, a conjunction) get closures of their own. `fold` replaces deterministic calls over
constants by constants.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any, NoReturn

from coprocessor.codec.collation import pads_space
from coprocessor.env import Env
from coprocessor.errors import CoprocessorError, Unsupported
from coprocessor.expr import Agg, Call, Column, Const, Context, Expr, Param, Subquery, Window, transform
from coprocessor.functions.collation import is_ci
from coprocessor.functions.inference import collate_type
from coprocessor.functions.operators import compare_key
from coprocessor.functions.registry import AGGREGATES, FUNCTIONS, AggState, Closure, Function, Kernel

__all__ = [
    "AggState",
    "Closure",
    "Env",
    "compile_agg",
    "compile_column_agg",
    "compile_expr",
    "compile_predicate",
    "compile_row",
    "fold",
]

Layout = Mapping[int, int]
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
}  # fmt: skip


_SYMBOLS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def _short_closures(template: str) -> dict[str, Callable[[int, Any], Closure]]:
    """Compiles one closure factory per comparison from a template of fixed text; values come in as closure cells."""
    return {name: eval(template.format(op=symbol), {"__builtins__": {}}) for name, symbol in _SYMBOLS.items()}


_WITH_CONSTANT = _short_closures(
    "lambda i, c: lambda row, env: None if (v := row[i]) is None else 1 if v {op} c else 0"
)
_WITH_COLUMN = _short_closures(
    "lambda i, j: lambda row, env: None if (v := row[i]) is None or (w := row[j]) is None else 1 if v {op} w else 0"
)


def compile_expr(expr: Expr, layout: Layout) -> Closure:
    """Returns the closure (row, env) → value of the expression."""
    match expr:
        case Const(value=value):
            return lambda row, env: value
        case Column(id=id_):
            return _column(layout[id_])
        case Param(index=index):
            return lambda row, env: env.params[index]
        case Context(key=key):
            return lambda row, env: env.context[key]
        case Call():
            return _call(expr, layout)
        case Agg() | Window():
            raise Unsupported(f"{expr.func} cannot be computed row by row")
        case Subquery():
            raise Unsupported("a subquery cannot be computed row by row")


def _column(position: int) -> Closure:
    return lambda row, env: row[position]


def _call(call: Call, layout: Layout) -> Closure:
    function = FUNCTIONS[call.func]
    special = _compare(call, layout)
    if special is not None:
        return special
    args = [compile_expr(a, layout) for a in call.args]
    if function.build is not None:
        return function.build(call, args)
    kernel = function.py if function.kernel is None else function.kernel(call)
    assert kernel is not None, call.func
    return _apply(function, kernel, args)


def _apply(function: Function, kernel: Kernel, args: Sequence[Closure]) -> Closure:
    """Wraps a kernel on argument closures: NULL in gives NULL out unless the function sees NULLs."""
    if function.nulls:
        if function.env:
            return lambda row, env: kernel(env, *[a(row, env) for a in args])
        return lambda row, env: kernel(*[a(row, env) for a in args])
    if len(args) == 1:
        return _apply1(kernel, args[0], function.env)
    if len(args) == 2:
        return _apply2(kernel, args[0], args[1], function.env)

    def apply_all(row: Sequence[Any], env: Env) -> Any:
        values = [a(row, env) for a in args]
        if None in values:
            return None
        return kernel(env, *values) if function.env else kernel(*values)

    return apply_all


def _apply1(kernel: Kernel, arg: Closure, with_env: bool) -> Closure:
    if with_env:

        def apply_env(row: Sequence[Any], env: Env) -> Any:
            v = arg(row, env)
            return None if v is None else kernel(env, v)

        return apply_env

    def apply(row: Sequence[Any], env: Env) -> Any:
        v = arg(row, env)
        return None if v is None else kernel(v)

    return apply


def _apply2(kernel: Kernel, first: Closure, second: Closure, with_env: bool) -> Closure:
    def apply(row: Sequence[Any], env: Env) -> Any:
        a = first(row, env)
        if a is None:
            return None
        b = second(row, env)
        if b is None:
            return None
        return kernel(env, a, b) if with_env else kernel(a, b)

    return apply


def _compare(call: Call, layout: Layout) -> Closure | None:
    """Short closures for a column compared with a constant, or columns with each other, whose values compare as
    they are.
    """
    op = _COMPARE.get(call.func)
    if op is None:
        return None
    a, b = call.args
    if not isinstance(a, Column) or compare_key(call.args) is not None:
        return _compare_text(call, layout, op)
    i = layout[a.id]
    if isinstance(b, Const):
        c = b.value
        if c is None:
            return lambda row, env: None

        return _WITH_CONSTANT[call.func](i, c)
    if isinstance(b, Column):
        j = layout[b.id]

        return _WITH_COLUMN[call.func](i, j)
    return None


def _compare_text(call: Call, layout: Layout, op: Callable[[Any, Any], bool]) -> Closure | None:
    """A text column compared with a constant: the constant's key is made once."""
    a, b = call.args
    key = compare_key(call.args)
    if key is None or not isinstance(a, Column) or not isinstance(b, Const) or b.value is None:
        return None
    i, c = layout[a.id], key(b.value)
    if call.func == "eq" and a.type.is_text and isinstance(c, str) and not is_ci(collate_type(call.args).collate):
        return _padded_equal(i, c, pads_space(collate_type(call.args).collate))

    def compare(row: Sequence[Any], env: Env) -> int | None:
        v = row[i]
        return None if v is None else 1 if op(key(v), c) else 0

    return compare


def _padded_equal(i: int, c: str, pad: bool) -> Closure:
    """A text column equal to a constant: most values differ in the first look or are equal without trimming."""

    def equal(row: Sequence[Any], env: Env) -> int | None:
        v = row[i]
        if v is None:
            return None
        if v == c:
            return 1
        return 1 if pad and v[-1:] == " " and v.rstrip(" ") == c else 0

    return equal


def compile_predicate(expr: Expr, layout: Layout) -> Callable[[Sequence[Any], Env], bool]:
    """Returns the closure (row, env) → True when the expression is neither NULL nor zero."""
    if isinstance(expr, Call) and expr.func == "and":
        parts = [compile_predicate(a, layout) for a in expr.args]
        if len(parts) == 2:
            first, second = parts
            return lambda row, env: first(row, env) and second(row, env)
        return lambda row, env: all(p(row, env) for p in parts)
    closure = compile_expr(expr, layout)
    if expr.type.is_numeric:
        return lambda row, env: bool(closure(row, env))
    from coprocessor.functions.casting import cast_to
    from coprocessor.functions.operators import truth_type

    target = truth_type(expr)
    assert target is not None
    typed = compile_expr(cast_to(expr, target), layout)
    return lambda row, env: bool(typed(row, env))


def compile_row(exprs: Sequence[Expr], layout: Layout) -> Callable[[Sequence[Any], Env], tuple[Any, ...]]:
    """Returns the closure (row, env) → the tuple of the expressions' values; a plain projection is one itemgetter."""
    if exprs and all(isinstance(e, Column) for e in exprs):
        positions = [layout[e.id] for e in exprs if isinstance(e, Column)]
        if len(positions) == 1:
            only = positions[0]
            return lambda row, env: (row[only],)
        getter = operator.itemgetter(*positions)
        return lambda row, env: getter(row)
    closures = [compile_expr(e, layout) for e in exprs]
    return lambda row, env: tuple([c(row, env) for c in closures])


def compile_agg(agg: Agg, layout: Layout) -> Callable[[], AggState]:
    """Returns the factory of the aggregate's running state: add(row, env) per row of a group, then result()."""
    closures = [compile_expr(a, layout) for a in agg.args]
    closures += [compile_expr(k.expr, layout) for k in agg.order_by]
    return AGGREGATES[agg.func].state(agg, closures)


def compile_column_agg(agg: Agg, layout: Layout) -> Callable[[Sequence[Sequence[Any]]], Any] | None:
    """The aggregate of a plain column over all rows at once; None where it has to be computed row by row."""
    from coprocessor.functions.aggregates import column_form

    form = column_form(agg)
    if form is None or not isinstance(agg.args[0], Column):
        return None
    pick = operator.itemgetter(layout[agg.args[0].id])

    def compute(rows: Sequence[Sequence[Any]]) -> Any:
        values = list(map(pick, rows))
        return form([value for value in values if value is not None] if None in values else values)

    return compute


class _UnknownZone(tzinfo):
    """The session's zone while there is no session: whatever asks it for an offset cannot be folded."""

    def utcoffset(self, dt: datetime | None) -> NoReturn:
        raise KeyError("the session's time zone")

    def dst(self, dt: datetime | None) -> timedelta | None:
        return None

    def tzname(self, dt: datetime | None) -> str:
        return "unknown"

    def fromutc(self, dt: datetime) -> NoReturn:
        raise KeyError("the session's time zone")


_NO_ZONE = _UnknownZone()


def fold(expr: Expr) -> Expr:
    """Replaces deterministic calls over constants by their value.

    A call whose evaluation warns or fails is left as it is: it must warn or fail when, and only if, a row reaches it.
    So is one that asks for the session's time zone or clock: a plan may outlive them.
    """
    return transform(expr, _fold_node)


def _fold_node(expr: Expr) -> Expr:
    if not isinstance(expr, Call) or not all(isinstance(a, Const) for a in expr.args):
        return expr
    if not FUNCTIONS[expr.func].deterministic:
        return expr
    warned: list[int] = []
    env = Env(tz=_NO_ZONE, warn=lambda code, message: warned.append(code))
    try:
        value = compile_expr(expr, {})((), env)
    except CoprocessorError:
        return expr
    except KeyError:
        return expr  # needs a value of the session (the current date, the zone)
    return expr if warned else Const(value, expr.type)
