"""Expressions in keys: what MySQL allows, and the hidden virtual column that stands for one, as TiDB stores it."""

from __future__ import annotations

from sqlglot import exp

from coprocessor.expr import Column, Expr, walk
from coprocessor.types import BLOB_TPS, FieldType, Tp
from sqlfront.bind.generated import bind_repeatable
from sqlfront.bind.restored import restored
from sqlfront.catalog.info import ColumnInfo, Flag, TableInfo, TypeInfo
from sqlfront.catalog.model import field_type
from sqlfront.catalog.table_builder import columns_in
from sqlfront.errors import error
from sqlfront.parse import parse_expression

HIDDEN_PREFIX = "_V$"
_CLAUSE = "functional index"
_FSP_MAX = 6


def hidden_name(index: str, number: int) -> str:
    """The name of the column that stands for part `number` (from 0) of an index (`pkg/ddl`, BuildHiddenColumnInfo)."""
    return f"{HIDDEN_PREFIX}_{index}_{number}"


def hidden_column(info: TableInfo, index: str, number: int, text: str, position: int = -1) -> ColumnInfo:
    """Returns the column that stands for an expression, part `number` of an index; without id and offset.

    Raises 1054 for what is no column, 3753, 3757, 3758, 3761, 3762 and 3800 for what cannot be in an index, 3754 for
    an AUTO_INCREMENT column in it.
    """
    if isinstance(parse_expression(text).unnest(), exp.Tuple):
        raise error(3800, f"Expression of functional index '{index}' cannot refer to a row value.", position=position)
    visible = [c for c in info.columns if not c.hidden]
    message = f"Expression of functional index '{index}' contains a disallowed function."
    disallowed = error(3758, message, position=position, sqlstate="HY000")
    expr = bind_repeatable([(c.name, field_type(c.type)) for c in visible], text, _CLAUSE, disallowed)
    shown = restored(text)
    refusal = _refusal(expr, shown)
    if refusal is not None:
        raise error(*refusal, position=position, sqlstate="HY000")
    names = columns_in(text)
    if any(c.has(Flag.AUTO_INCREMENT) for c in visible if c.name.lower() in names):
        raise error(3754, f"Functional index '{index}' cannot refer to an auto-increment column.", position=position)
    return ColumnInfo(
        name=hidden_name(index, number),
        generated_expr_string=shown,
        dependences={name: {} for name in names},
        type=_stored_type(expr.type),
        hidden=True,
    )


def _refusal(expr: Expr, text: str) -> tuple[int, str] | None:
    """Why an expression cannot be in an index by its kind or type."""
    if isinstance(expr, Column):
        return 3762, "Functional index on a column is not supported. Consider using a regular index instead."
    if expr.type.tp == Tp.JSON:
        return 3753, "Cannot create a functional index on an expression that returns a JSON or GEOMETRY value."
    if _is_lob(expr):
        message = "Cannot create a functional index on an expression that returns a BLOB or TEXT. Please consider"
        return 3757, f"{message} using CAST."
    if expr.type.tp in (Tp.NULL, Tp.ENUM, Tp.SET, Tp.BIT):
        return 3761, f"The used storage engine cannot index the expression '{text}'."
    return None


def _is_lob(expr: Expr) -> bool:
    """Whether MySQL gives the expression a BLOB or TEXT type: text of no known length that comes from such a column."""
    if expr.type.tp in BLOB_TPS:
        return True
    unbounded = expr.type.is_string and expr.type.flen < 0
    lobs = BLOB_TPS | {Tp.JSON}
    return unbounded and any(isinstance(part, Column) and part.type.tp in lobs for part in walk(expr))


def _stored_type(ft: FieldType) -> TypeInfo:
    """An expression's type as a column's."""
    decimal = ft.decimal
    if ft.is_temporal and decimal < 0:
        decimal = _FSP_MAX
    text = ft.is_text
    flag = (Flag.UNSIGNED if ft.unsigned else 0) | (0 if text else Flag.BINARY)
    charset, collate = (ft.charset, ft.collate) if text else ("binary", "binary")
    return TypeInfo(int(ft.tp), int(flag), ft.flen, decimal, charset, collate)
