"""Pure window functions: ranks, offsets and frame values. Windows run in DuckDB; ranks need no argument types."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coprocessor.expr import Expr, Window
from coprocessor.functions.inference import unify
from coprocessor.functions.registry import WINDOWS, DuckPrinter, Infer, Inferred, WindowFunction
from coprocessor.types import BIGINT, DOUBLE, FieldType


def _returns(ft: FieldType) -> Infer:
    return lambda args: (tuple(BIGINT for _ in args), ft)


def _offset(args: Sequence[Expr]) -> Inferred:
    ft = unify([args[0].type, *(a.type for a in args[2:])])
    return (ft, BIGINT, ft)[: len(args)], ft


def _first(args: Sequence[Expr]) -> Inferred:
    return (None, BIGINT)[: len(args)], args[0].type


def _plain(name: str) -> Callable[[DuckPrinter, Window], str]:
    def form(p: DuckPrinter, window: Window) -> str:
        return f"{name}({', '.join(p.value(a) for a in window.args)}){p.over(window)}"

    return form


def _add(name: str, least: int, most: int, infer: Infer, *, framed: bool = False) -> None:
    WINDOWS[name] = WindowFunction(name, least, most, infer, _plain(name), framed)


for _name in ("row_number", "rank", "dense_rank"):
    _add(_name, 0, 0, _returns(BIGINT))
for _name in ("percent_rank", "cume_dist"):
    _add(_name, 0, 0, _returns(DOUBLE))
_add("ntile", 1, 1, _returns(BIGINT))
_add("lag", 1, 3, _offset)
_add("lead", 1, 3, _offset)
_add("first_value", 1, 1, _first, framed=True)
_add("last_value", 1, 1, _first, framed=True)
_add("nth_value", 2, 2, _first, framed=True)
