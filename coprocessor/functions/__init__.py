"""The one catalogue of SQL functions and operators, and how names and typed arguments become typed calls.

`resolve`, `resolve_agg` and `resolve_window` look a name up, check the argument count, insert the casts that MySQL
would make and give the node its result type. Nothing is folded here. Entries live in the subject files of this package.
"""

from __future__ import annotations

from collections.abc import Sequence

from coprocessor.errors import ResolveError
from coprocessor.expr import Agg, Call, Expr, Frame, OrderKey, Window
from coprocessor.functions import (  # noqa: F401  (importing a subject fills the registry)
    aggregates,
    casts,
    control,
    encryption,
    json,
    json_schema,
    json_table,
    locks,
    math,
    misc,
    operators,
    patterns,
    strings,
    temporal,
    temporal_format,
    windows,
)
from coprocessor.functions.casting import cast_to
from coprocessor.functions.inference import by_connection, comparable, kind, need_collation, unify, with_one_collation
from coprocessor.functions.quotients import by_own_type, for_cast, for_column, precise
from coprocessor.functions.registry import AGGREGATES, ALIASES, FUNCTIONS, WINDOWS, Function, Infer, lookup
from coprocessor.types import FieldType

__all__ = [
    "Function",
    "by_own_type",
    "cast_to",
    "comparable",
    "explicit_cast",
    "for_cast",
    "for_column",
    "is_aggregate",
    "is_function",
    "is_window",
    "kind",
    "lookup",
    "names",
    "precise",
    "resolve",
    "resolve_agg",
    "resolve_window",
    "unify",
]


_COMPARING = {
    "eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "nulleq": "<=>", "in": " IN ", "like": "like",
    **{name: name for name in ("between", "strcmp", "locate", "instr", "find_in_set", "field")},
    **{name: name for name in ("nullif", "greatest", "least")},
}  # fmt: skip
"""What compares its arguments, and how messages call it."""
_MATCHING = frozenset({"regexp", "rlike", "regexp_like", "regexp_instr"})
_SEARCHING = _MATCHING | {"regexp_replace", "regexp_substr", "replace", "trim", "ltrim", "rtrim", "substring_index"}
"""What looks for one of its arguments in another."""


def names() -> list[str]:
    """Returns every function name, aliases, aggregates and window functions included."""
    return sorted({*FUNCTIONS, *ALIASES, *AGGREGATES, *WINDOWS})


def is_function(name: str) -> bool:
    """True for a scalar function or operator of the catalogue."""
    return lookup(name) is not None


def is_aggregate(name: str) -> bool:
    """True for an aggregate function."""
    return name.lower() in AGGREGATES


def is_window(name: str) -> bool:
    """True for a pure window function (not for aggregates, which also work over windows)."""
    return name.lower() in WINDOWS


def _unknown(name: str) -> ResolveError:
    return ResolveError(f"FUNCTION {name} does not exist", code=1305)


def _check_count(name: str, count: int, least: int, most: int | None) -> None:
    if count < least or (most is not None and count > most):
        raise ResolveError(f"Incorrect parameter count in the call to native function '{name}'", code=1582)


def _typed(args: Sequence[Expr], types: Sequence[FieldType | None]) -> tuple[Expr, ...]:
    return tuple(
        a if t is None else cast_to(precise(a) if t.is_real else a, t) for a, t in zip(args, types, strict=True)
    )


def _inferred(
    infer: Infer, args: Sequence[Expr], inner: Sequence[Expr]
) -> tuple[Sequence[Expr], Sequence[FieldType | None], FieldType]:
    """Returns arguments, their wanted types and the result's, where `inner` are the arguments with hidden digits: these
    are computed with, the result shows as many digits as without them.
    """
    types, result = infer(args)
    if all(a is b for a, b in zip(args, inner, strict=True)):
        return args, types, result
    types, computed = infer(inner)
    return inner, types, computed if computed.decimal == result.decimal else result


def explicit_cast(expr: Expr, target: FieldType) -> Expr:
    """Returns CAST(expr AS target), as somebody wrote it."""
    return Call("cast", (for_cast(expr, target),), target)


def resolve(name: str, args: Sequence[Expr]) -> Expr:
    """Returns the typed call of a scalar function: a `Call`, or for a few names what they stand for (NOW() is a
    Context).

    Raises ResolveError 1305 (no such function) or 1582 (argument count).
    """
    function = lookup(name)
    if function is None:
        raise _unknown(name)
    _check_count(name, len(args), function.min_args, function.max_args)
    args = with_one_collation(_COMPARING.get(name, name), args, comparing=name in _COMPARING or name in _SEARCHING)
    if name in _COMPARING or name in _MATCHING:
        args = by_connection(args)
    if function.rewrite is not None:
        return function.rewrite(args)
    if function.refine is not None:
        return function.refine(args)
    inner = [precise(a) for a in args] if function.precise else args
    args, types, result = _inferred(function.infer, args, inner)
    return Call(function.name, _typed(args, types), result)


def _summed(name: str, args: Sequence[Expr]) -> Sequence[Expr]:
    return [precise(a) for a in args] if name in ("sum", "avg") else args


def resolve_agg(
    name: str,
    args: Sequence[Expr],
    *,
    distinct: bool = False,
    order_by: Sequence[OrderKey] = (),
    separator: str = ",",
) -> Agg:
    """Returns the typed aggregate call; `args` empty is COUNT(*)."""
    aggregate = AGGREGATES.get(name.lower())
    if aggregate is None:
        raise _unknown(name)
    _check_count(name, len(args), aggregate.min_args, aggregate.max_args)
    if aggregate.name == "count" and len(args) > 1 and not distinct:
        raise ResolveError(f"Incorrect parameter count in the call to native function '{name}'", code=1582)
    if aggregate.name in ("min", "max"):
        need_collation(aggregate.name, args[0])
    args, types, result = _inferred(aggregate.infer, args, _summed(aggregate.name, args))
    return Agg(aggregate.name, _typed(args, types), result, distinct, tuple(order_by), separator)


def resolve_window(
    name: str,
    args: Sequence[Expr],
    partition_by: Sequence[Expr] = (),
    order_by: Sequence[OrderKey] = (),
    frame: Frame | None = None,
    distinct: bool = False,
) -> Window:
    """Returns the typed window call of a window function or an aggregate."""
    key = name.lower()
    function = WINDOWS.get(key) or AGGREGATES.get(key)
    if function is None:
        raise _unknown(name)
    _check_count(name, len(args), function.min_args, function.max_args)
    if distinct:
        raise ResolveError("DISTINCT is not supported for window functions", code=1235)
    if key == "group_concat":
        raise ResolveError("GROUP_CONCAT is not supported as a window function", code=1235)
    args, types, result = _inferred(function.infer, args, _summed(function.name, args))
    return Window(function.name, _typed(args, types), result, tuple(partition_by), tuple(order_by), frame, distinct)
