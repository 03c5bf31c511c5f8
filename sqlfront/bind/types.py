"""sqlglot's data types in CAST to ours."""

from __future__ import annotations

from sqlglot import exp

from coprocessor import types as t
from coprocessor.types import FieldType, Tp, decimal_type
from sqlfront.errors import ER_PARSE, DatabaseError, error, unsupported

_K = exp.DataType.Type

_SIGNED = {_K.BIGINT, _K.INT, _K.SMALLINT, _K.TINYINT, _K.MEDIUMINT}
_UNSIGNED = {_K.UBIGINT, _K.UINT, _K.USMALLINT, _K.UTINYINT, _K.UMEDIUMINT}
_CHARS = {_K.CHAR, _K.NCHAR, _K.VARCHAR, _K.NVARCHAR, _K.TEXT}


def cast_type(node: exp.DataType) -> FieldType:
    """The target type of CAST(x AS node)."""
    kind = node.this
    sizes = [int(p.this.name) for p in node.expressions if isinstance(p, exp.DataTypeParam)]
    if kind in _SIGNED:
        return t.BIGINT
    if kind in _UNSIGNED:
        return t.UBIGINT
    if kind in _CHARS:
        return FieldType(Tp.VAR_STRING, sizes[0] if sizes else -1, charset=t.TEXT_CHARSET, collate=t.TEXT_COLLATE)
    if kind in (_K.BINARY, _K.VARBINARY):
        # CAST AS BINARY(n) fills up with zero bytes; AS BINARY alone does not.
        tp = Tp.STRING if sizes else Tp.VAR_STRING
        return FieldType(tp, sizes[0] if sizes else -1, charset="binary", collate="binary")
    if kind in (_K.DECIMAL, _K.UDECIMAL):
        return _decimal(sizes)
    if kind == _K.DATE:
        return t.DATE
    if kind in (_K.DATETIME, _K.TIMESTAMP, _K.TIMESTAMPTZ):
        fsp = _fsp(sizes)
        return FieldType(Tp.DATETIME, 19 + (fsp + 1 if fsp else 0), fsp)
    if kind == _K.TIME:
        fsp = _fsp(sizes)
        return FieldType(Tp.DURATION, 10 + (fsp + 1 if fsp else 0), fsp)
    if kind in (_K.DOUBLE, _K.FLOAT):
        return _real(kind, sizes)
    if kind == _K.JSON:
        return t.JSON
    if kind == _K.YEAR:
        return FieldType(Tp.YEAR, 4, 0, unsigned=True)
    raise unsupported(f"CAST AS {node.sql('mysql')}")


def _real(kind: exp.DataType.Type, sizes: list[int]) -> FieldType:
    """DOUBLE, FLOAT or FLOAT(p): unlike columns they have no (M,D)."""
    if len(sizes) > 1 or (sizes and kind == _K.DOUBLE):
        raise error(ER_PARSE, f"CAST AS {kind.name} takes no width and scale")
    if sizes and sizes[0] > 53:
        raise _too_big(1426, "precision", sizes[0], 53)
    return t.DOUBLE if kind == _K.DOUBLE or (sizes and sizes[0] > 24) else t.FLOAT


def _decimal(sizes: list[int]) -> FieldType:
    precision = sizes[0] if sizes else 10
    scale = sizes[1] if len(sizes) > 1 else 0
    if precision > 65:
        raise _too_big(1426, "precision", precision, 65)
    if scale > 30:
        raise _too_big(1425, "scale", scale, 30)
    if scale > precision:
        raise error(1427, "For float(M,D), double(M,D) or decimal(M,D), M must be >= D (column '')")
    return decimal_type(precision or 10, scale)


def _fsp(sizes: list[int]) -> int:
    fsp = sizes[0] if sizes else 0
    if fsp > 6:
        raise _too_big(1426, "precision", fsp, 6)
    return fsp


def _too_big(code: int, what: str, got: int, most: int) -> DatabaseError:
    return error(code, f"Too-big {what} {got} specified for 'CAST'. Maximum is {most}.")
