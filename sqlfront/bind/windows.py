"""Window functions: what stands before OVER and what it spells out."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlglot import exp

from coprocessor import functions as fn
from coprocessor import types as t
from coprocessor.evaluate import fold
from coprocessor.expr import Const, Expr, Frame, OrderKey
from sqlfront.bind.messages import position_of, refuse
from sqlfront.errors import error, unsupported
from sqlfront.parse import FUNCTION_MARK

if TYPE_CHECKING:
    from sqlfront.bind.expr import ExprBinder


def bind_window(binder: ExprBinder, node: exp.Window) -> Expr:
    """Binds a call with OVER."""
    if not binder.allow_windows:
        call = node.this
        raise error(
            3593,
            f"You cannot use the window function '{str(call.this).removeprefix(FUNCTION_MARK)}' in this context.",
            position=position_of(node),
        )
    call = node.this
    if not isinstance(call, exp.Anonymous):
        raise refuse(node)
    name = str(call.this).removeprefix(FUNCTION_MARK).lower()
    args, distinct = call.expressions, False
    if len(args) == 1 and isinstance(args[0], exp.Distinct):
        raise unsupported("DISTINCT in a window function", position=position_of(node))
    if len(args) == 1 and isinstance(args[0], exp.Star):
        args = []
    if not fn.is_window(name) and not fn.is_aggregate(name):
        raise error(1305, f"FUNCTION {name} does not exist", position=position_of(node))
    spec = _window_spec(binder, node)
    binder.allow_windows = False
    try:
        partition = binder.bind_all(spec.args.get("partition_by") or [])
        order = spec.args.get("order")
        keys = (
            []
            if order is None
            else [OrderKey(binder.bind(o.this), bool(o.args.get("desc"))) for o in order.expressions]
        )
        bound = binder.bind_all(args)
        _check_offset(name, bound, position_of(node))
        frame = _frame(binder, spec.args.get("spec"))
        if frame is not None:
            _check_frame(frame, keys, position_of(node))
    finally:
        binder.allow_windows = True
    return fn.resolve_window(name, bound, partition_by=partition, order_by=keys, frame=frame, distinct=distinct)


def _window_spec(binder: ExprBinder, node: exp.Window) -> exp.Expression:
    """The window that OVER names or spells out, with what the ones that it names give it.

    sqlglot does not tell `OVER w` from `OVER (w)`, which may not name a window with a frame: both may.
    """
    own = [key for key in ("partition_by", "order", "spec") if node.args.get(key)]
    if node.args.get("alias") is None:
        return node
    return _inherited(binder, node, "<unnamed window>", frame=not own, seen=())


def _inherited(
    binder: ExprBinder, node: exp.Expression, name: str, *, frame: bool, seen: tuple[str, ...]
) -> exp.Expression:
    """A window with what it has of the one that it names, whose frame it may have where `frame` says so.

    Raises 3579 to 3583 for what MySQL forbids.
    """
    alias = node.args.get("alias")
    if alias is None:
        return node
    position, key = position_of(alias), alias.name.casefold()
    base = binder.windows.get(key)
    if base is None:
        raise error(3579, f"Window name '{alias.name}' is not defined.", position=position)
    if key in seen:
        raise error(3580, "There is a circularity in the window dependency graph.", position=position)
    base = _inherited(binder, base, alias.name, frame=False, seen=(*seen, key))
    if node.args.get("partition_by"):
        raise error(3581, "A window which depends on another cannot define partitioning.", position=position)
    if base.args.get("spec") and not frame:
        message = f"Window '{alias.name}' has a frame definition, so cannot be referenced by another window."
        raise error(3582, message, position=position)
    if base.args.get("order") and node.args.get("order"):
        message = f"Window '{name}' cannot inherit '{alias.name}' since both contain an ORDER BY clause."
        raise error(3583, message, position=position)
    merged = base.copy()
    for part in ("order", "spec"):
        if node.args.get(part):
            merged.set(part, node.args[part].copy())
    return merged


def _frame(binder: ExprBinder, spec: exp.Expression | None) -> Frame | None:
    if spec is None:
        return None
    unit = str(spec.args.get("kind")).lower()
    if unit not in ("rows", "range") or spec.args.get("exclude") is not None:
        raise refuse(spec)
    start, of_start = _bound(binder, spec, "start")
    end, of_end = _bound(binder, spec, "end")
    return Frame(unit, start, end, (of_start, of_end))


_BOUNDS = ("unbounded_preceding", "preceding", "current", "following", "unbounded_following")


def _check_frame(frame: Frame, keys: Sequence[OrderKey], position: int) -> None:
    """Raises MySQL's errors for a frame that ends before it begins, or whose bounds are no distances."""
    window = "Window '<unnamed window>'"
    start, end = frame.start[0], frame.end[0]
    if start == "unbounded_following":
        raise error(3584, f"{window}: frame start cannot be UNBOUNDED FOLLOWING.", position=position)
    if end == "unbounded_preceding":
        raise error(3585, f"{window}: frame end cannot be UNBOUNDED PRECEDING.", position=position)
    values = [value for _, value in (frame.start, frame.end) if value is not None]
    spans = [unit for unit in frame.units if unit]
    if frame.unit == "range" and values:
        ordered = keys[0].expr.type if len(keys) == 1 else None
        if ordered is None or not (ordered.is_numeric or ordered.is_temporal):
            message = "with RANGE N PRECEDING/FOLLOWING frame requires exactly one ORDER BY expression, of numeric or"
            raise error(3587, f"{window} {message} temporal type", position=position)
        if ordered.is_temporal and len(spans) < len(values):
            message = "with RANGE frame has ORDER BY expression of datetime type. Only INTERVAL bound value allowed."
            raise error(3588, f"{window} {message}", position=position)
        if spans and not ordered.is_temporal:
            message = "with RANGE frame has ORDER BY expression of numeric type, INTERVAL bound value not allowed."
            raise error(3589, f"{window} {message}", position=position)
    wrong = any(_is_no_distance(value, whole=frame.unit == "rows") for value in values)
    if wrong or (spans and frame.unit == "rows") or _BOUNDS.index(start) > _BOUNDS.index(end):
        message = f"{window}: frame start or end is negative, NULL or of non-integral type"
        raise error(3586, message, position=position)


def _is_no_distance(value: Expr, *, whole: bool) -> bool:
    if not isinstance(value, Const):
        return False
    number = value.value
    if isinstance(number, int):
        return number < 0
    return whole or not isinstance(number, (float, Decimal)) or number < 0


def _bound(binder: ExprBinder, spec: exp.Expression, which: str) -> tuple[tuple[str, Expr | None], str]:
    """A bound, and the unit of its INTERVAL."""
    value, side = spec.args.get(which), str(spec.args.get(f"{which}_side") or "").lower()
    if value is None or value == "CURRENT ROW":
        return ("current", None), ""
    if value == "UNBOUNDED":
        return (f"unbounded_{side}", None), ""
    if not isinstance(value, exp.Interval) or value.args.get("unit") is None:
        return (side, binder.bind(value)), ""
    unit = value.args["unit"].name.lower()
    if "_" in unit:
        raise refuse(value)
    return (side, fold(fn.cast_to(binder.bind(value.this), t.BIGINT))), unit


def _check_offset(name: str, args: Sequence[Expr], position: int) -> None:
    """The offset of LAG and LEAD is a whole number from 0."""
    if name in ("lag", "lead") and len(args) > 1 and isinstance(args[1], Const):
        offset = args[1].value
        if not isinstance(offset, int) or offset < 0:
            raise error(1210, f"Incorrect arguments to {name}", position=position)
