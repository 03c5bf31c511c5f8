"""Which calls may have something to tell of the values that they meet: a warning, or in a statement that stores their
results in strict mode an error.

DuckDB's own forms tell nothing. A statement whose rows are only read goes without; what stores rows is printed with
`Printer(telling=True)`, where such a form hands the values that it makes nothing of to the closure.
"""

from __future__ import annotations

from coprocessor.expr import Call, Const, Expr, walk
from coprocessor.functions.inference import type_digits
from coprocessor.functions.registry import FUNCTIONS
from coprocessor.types import FieldType, Tp

_DIVISIONS = frozenset({"div", "intdiv", "mod"})
CONSTANTS_FOR_ROWS = _DIVISIONS | {"cast"}
"""Of these, calls over constants alone are folded where they have nothing to tell; what is left is for each row that
reaches it."""
_INT_DIGITS = 18  # of decimals that are within BIGINT whatever they are


def tells(expr: Expr) -> bool:
    """Whether any call in an expression may tell something; subqueries are not looked into."""
    return any(isinstance(part, Call) and call_tells(part) for part in walk(expr))


def call_tells(call: Call) -> bool:
    """Whether the call itself may tell something."""
    if call.func in _DIVISIONS:
        divisor = call.args[1]
        return not (isinstance(divisor, Const) and divisor.value)
    if call.func == "cast":
        return _cast_tells(call.args[0].type, call.type)
    return FUNCTIONS[call.func].env


def _cast_tells(src: FieldType, dst: FieldType) -> bool:
    """Whether values of a type may not fit into another."""
    if src.is_string or src.tp == Tp.JSON:
        return not (dst.is_string and dst.flen < 0)
    if dst.is_decimal:
        return not (src.is_integer or src.is_decimal) or narrows(src, dst)
    if dst.is_integer:
        return not src.is_integer and (not src.is_decimal or src.flen - max(src.decimal, 0) > _INT_DIGITS)
    return (dst.is_string and dst.flen >= 0) or (dst.is_temporal and not src.is_temporal)


def narrows(src: FieldType, dst: FieldType) -> bool:
    """Whether an exact number may have more digits before the point than a DECIMAL takes, also when it is rounded."""
    (p1, s1), (p2, s2) = type_digits(src), type_digits(dst)
    return not (p2 - s2 > p1 - s1 or (p2 - s2 == p1 - s1 and s2 >= s1))
