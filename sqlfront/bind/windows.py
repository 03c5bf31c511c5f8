"""Window functions: what stands before OVER and what it spells out."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlglot import exp

from coprocessor import functions as fn
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
        frame = _frame(binder, spec.args.get("spec"))
        if frame is not None:
            _check_frame(frame, keys, position_of(node))
    finally:
        binder.allow_windows = True
    return fn.resolve_window(name, bound, partition_by=partition, order_by=keys, frame=frame, distinct=distinct)


def _window_spec(binder: ExprBinder, node: exp.Window) -> exp.Expression:
    """The window that OVER names or spells out, with what a named one gives it."""
    alias = node.args.get("alias")
    if alias is None:
        return node
    base = binder.windows.get(alias.name.casefold())
    if base is None:
        raise error(3579, f"Window name '{alias.name}' is not defined.", position=position_of(alias))
    own = {k: node.args.get(k) for k in ("partition_by", "order", "spec")}
    merged = base.copy()
    for key, value in own.items():
        if value:
            merged.set(key, value.copy() if isinstance(value, exp.Expression) else [v.copy() for v in value])
    return merged


def _frame(binder: ExprBinder, spec: exp.Expression | None) -> Frame | None:
    if spec is None:
        return None
    unit = str(spec.args.get("kind")).lower()
    if unit not in ("rows", "range") or spec.args.get("exclude") is not None:
        raise refuse(spec)
    return Frame(unit, _bound(binder, spec, "start"), _bound(binder, spec, "end"))


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
    if frame.unit == "range" and values:
        ordered = keys[0].expr.type if len(keys) == 1 else None
        if ordered is None or not (ordered.is_numeric or ordered.is_temporal):
            message = "with RANGE N PRECEDING/FOLLOWING frame requires exactly one ORDER BY expression, of numeric or"
            raise error(3587, f"{window} {message} temporal type", position=position)
    wrong = any(_is_no_distance(value, whole=frame.unit == "rows") for value in values)
    if wrong or _BOUNDS.index(start) > _BOUNDS.index(end):
        message = f"{window}: frame start or end is negative, NULL or of non-integral type"
        raise error(3586, message, position=position)


def _is_no_distance(value: Expr, *, whole: bool) -> bool:
    if not isinstance(value, Const):
        return False
    number = value.value
    if isinstance(number, int):
        return number < 0
    return whole or not isinstance(number, (float, Decimal)) or number < 0


def _bound(binder: ExprBinder, spec: exp.Expression, which: str) -> tuple[str, Expr | None]:
    value, side = spec.args.get(which), str(spec.args.get(f"{which}_side") or "").lower()
    if value is None or value == "CURRENT ROW":
        return ("current", None)
    if value == "UNBOUNDED":
        return (f"unbounded_{side}", None)
    return (side, binder.bind(value))
