"""The digits that MySQL keeps of a quotient beyond those it shows.

A decimal division gives whole words of nine digits, cut off; only what is shown or stored is rounded to the scale of
the type. So 2 / 3 * 3 is 0.666666666 * 3, shown as 2.0000, and 1 / 100000 is more than 0. Here the type of a node says
how many digits its value has: `precise` makes of an operand the same node with the longer type, for those who compute
with it, `compared` for those who compare it. Both forms of evaluation follow the types, and so agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from coprocessor.division import div_precision_increment
from coprocessor.expr import Agg, Call, Expr
from coprocessor.functions.casting import cast_to
from coprocessor.types import DATETIME6, TEXT, UBIGINT, FieldType, Tp, decimal_type

WORD_DIGITS = 9
DECIMAL_DIGITS_MAX = 38  # DuckDB's
HIDDEN_SCALE_MAX = 18  # leaves 20 of these to the whole part


def _words(scale: int) -> int:
    return -(-scale // WORD_DIGITS) * WORD_DIGITS


def quotient_scale(s1: int, s2: int) -> int:
    """Returns the digits after the point that MySQL's division of values of these scales computes."""
    w1, w2 = _words(s1), _words(s2)
    return _words(w1 + w2 + max(0, div_precision_increment() - (w1 - s1) - (w2 - s2)))


def _scale(expr: Expr) -> int:
    return max(expr.type.decimal, 0) if expr.type.is_decimal else 0


def _longer(ft: FieldType, scale: int) -> FieldType:
    """Returns the decimal type with `scale` digits after the point if these are more, and as many before it as `ft`."""
    scale = min(scale, HIDDEN_SCALE_MAX)
    if scale <= ft.decimal:
        return ft
    return decimal_type(ft.flen - ft.decimal + scale, scale, unsigned=ft.unsigned)


def precise(expr: Expr) -> Expr:
    """Returns the expression with the hidden digits of the quotients in it; itself if it has none.

    What went through a temporary table in MySQL (columns of derived tables, group keys, window functions) has none.
    """
    if not expr.type.is_decimal:
        return expr
    if isinstance(expr, Agg):
        scale = _AGGREGATED[expr.func](expr) if expr.func in _AGGREGATED and expr.args else 0
    elif isinstance(expr, Call):
        if expr.func in _COMPUTED:
            scale = _COMPUTED[expr.func](*map(_scale, expr.args))
        elif expr.func in _PASSED_ON:
            return _passed_on(expr, _PASSED_ON[expr.func](len(expr.args)))
        else:
            return _implicit_cast(expr) if expr.func == "cast" else expr
    else:
        return expr
    ft = _longer(expr.type, scale)
    return expr if ft is expr.type else replace(expr, type=ft)


_COMPUTED: dict[str, Callable[..., int]] = {
    "div": quotient_scale,
    "plus": max,
    "minus": max,
    "mod": max,
    "mul": lambda s1, s2: s1 + s2,
}
_AGGREGATED: dict[str, Callable[[Agg], int]] = {
    "sum": lambda node: _scale(node.args[0]),
    "avg": lambda node: quotient_scale(_scale(node.args[0]), 0),
}
_PASSED_ON: dict[str, Callable[[int], Sequence[int]]] = {
    "unaryminus": lambda n: (0,),
    "abs": lambda n: (0,),
    "if": lambda n: (1, 2),
    "ifnull": range,
    "coalesce": range,
    "greatest": range,
    "least": range,
    "case": lambda n: [i for i in range(n) if i % 2 or i == n - 1],
}


def _passed_on(call: Call, values: Sequence[int]) -> Expr:
    """A function that hands on one of its arguments' values hands on their hidden digits."""
    inner = {i: precise(call.args[i]) for i in values}
    ft = _longer(call.type, max(map(_scale, inner.values())))
    if ft is call.type:
        return call
    args = tuple(cast_to(inner[i], ft) if i in inner else arg for i, arg in enumerate(call.args))
    return Call(call.func, args, ft)


def _implicit_cast(call: Call) -> Expr:
    """A cast that brought a quotient to a common type gives way; one that was asked for has a precise argument
    already.
    """
    arg = call.args[0]
    inner = precise(arg)
    if inner is arg or call.type.decimal < arg.type.decimal:
        return call
    ft = _longer(call.type, inner.type.decimal)
    return call if ft is call.type else Call("cast", (inner,), ft)


def compared(expr: Expr) -> Expr:
    """Returns what a comparison takes of an operand: a quotient with its hidden digits, if DuckDB has room for them.

    An aggregate's value is rounded before.
    """
    if isinstance(expr, Agg):
        return expr
    longer = precise(expr)
    return longer if longer.type.flen <= DECIMAL_DIGITS_MAX else expr


def for_cast(expr: Expr, target: FieldType) -> Expr:
    """Returns what CAST(expr AS target) converts: a number takes the hidden digits, text shows the visible ones."""
    return precise(expr) if target.is_numeric else expr


def for_column(expr: Expr, column: FieldType) -> Expr:
    """Returns what an assignment to a column of that type converts: as of a CAST, and by the value's own type."""
    return by_own_type(for_cast(expr, column), column)


def by_own_type(expr: Expr, column: FieldType) -> Expr:
    """Returns what a column of that type gets, where a Python value alone does not tell: an ENUM or SET is its number
    for numbers, a TIME is one of today for dates, and text shows the digits that its type has."""
    source = expr.type
    if source.tp in (Tp.ENUM, Tp.SET) and column.is_numeric:
        return Call("cast", (expr,), UBIGINT)
    if source.tp == Tp.DURATION and column.tp in (Tp.DATE, Tp.DATETIME, Tp.TIMESTAMP):
        return Call("cast", (expr,), DATETIME6)
    timed = source.tp in (Tp.DURATION, Tp.DATETIME, Tp.TIMESTAMP) and 0 < source.decimal < 6
    if timed and (column.is_string or column.elems):
        return Call("cast", (expr,), TEXT)
    return expr
