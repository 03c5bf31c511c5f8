"""Source that brings what a statement gives for a column to what is stored, for statements that are compiled whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coprocessor.errors import CoprocessorError
from coprocessor.expr import Const, Expr, Param

if TYPE_CHECKING:
    from sqlfront.exec.filler import ColumnFiller


def value_lines(
    filler: ColumnFiller, at: int, expr: Expr, names: dict[str, Any], *, optional: bool
) -> list[str] | None:
    """The lines that compute `v<at>`, the value of the column at this offset, from the tuple `params`; what they
    refer to is added to `names`. None for an expression that is neither a parameter nor a constant.

    A constant is converted once. `optional` says that NULL may be stored, or that the caller sees to it.
    """
    match expr:
        case Param(index=index):
            source = f"params[{index}]"
        case Const(value=value):
            stored = _cast_once(filler, at, value)
            names[f"const{at}"] = value if stored is None else stored
            if stored is not None:
                return [f"    v{at} = const{at}"]
            source = f"const{at}"
        case _:
            return None
    return cast_lines(filler, at, source, names, optional=optional)


def cast_lines(filler: ColumnFiller, at: int, source: str, names: dict[str, Any], *, optional: bool) -> list[str]:
    """The lines that convert the value of `source` to `v<at>`; see `value_lines`."""
    names[f"cast{at}"] = filler.casters[at]
    names["null"] = filler.null
    lines = [f"    v{at} = cast{at}({source}, 1)"]
    if not optional:
        lines += [f"    if v{at} is None:", f"        v{at} = null({at})"]
    return lines


def _cast_once(filler: ColumnFiller, offset: int, value: Any) -> Any:
    """A constant as it is stored; None for NULL, and for one that fails or may be told of with every row."""
    try:
        return filler.casters[offset](value, 1)
    except CoprocessorError:
        return None
