"""FieldTypes and Arrow: types both ways, DuckDB type names, and Python rows to and from record batches.

There are two conventions that differ in one type: TIME is int64 microseconds *inside* (in scans and in DuckDB, which
has no signed span of that shape) and duration[us] at the *edge*, where a user gets Arrow. `to_edge` goes from one to
the other.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from coprocessor.codec.datum import decimal_shape
from coprocessor.codec.temporal import duration_micros
from coprocessor.errors import Unsupported
from coprocessor.types import (
    BIGINT,
    BYTES,
    DATE,
    DOUBLE,
    FLOAT,
    JSON,
    NULL,
    STRING_TPS,
    TEXT,
    FieldType,
    Tp,
    decimal_type,
)

DECIMAL128_PRECISION_MAX = 38

_INT_ARROW = {
    Tp.TINY: (pa.int8(), pa.uint8(), "TINYINT"),
    Tp.SHORT: (pa.int16(), pa.uint16(), "SMALLINT"),
    Tp.INT24: (pa.int32(), pa.uint32(), "INTEGER"),
    Tp.LONG: (pa.int32(), pa.uint32(), "INTEGER"),
    Tp.LONGLONG: (pa.int64(), pa.uint64(), "BIGINT"),
}
_SIMPLE: dict[Tp, tuple[pa.DataType, str]] = {
    Tp.YEAR: (pa.uint16(), "USMALLINT"),
    Tp.BIT: (pa.uint64(), "UBIGINT"),
    Tp.FLOAT: (pa.float32(), "FLOAT"),
    Tp.DOUBLE: (pa.float64(), "DOUBLE"),
    Tp.DATE: (pa.date32(), "DATE"),
    Tp.DATETIME: (pa.timestamp("us"), "TIMESTAMP"),
    Tp.TIMESTAMP: (pa.timestamp("us"), "TIMESTAMP"),
    Tp.ENUM: (pa.string(), "VARCHAR"),
    Tp.SET: (pa.string(), "VARCHAR"),
    Tp.JSON: (pa.string(), "VARCHAR"),
    Tp.NULL: (pa.null(), '"NULL"'),
}


def arrow_type(type_: FieldType, *, inside: bool = False) -> pa.DataType:
    """Returns the Arrow type of values of `type_`, at the edge or inside."""
    tp = type_.tp
    if tp in _INT_ARROW:
        signed, unsigned, _ = _INT_ARROW[tp]
        return unsigned if type_.unsigned else signed
    if tp == Tp.NEWDECIMAL:
        prec, frac = decimal_shape(type_)
        return pa.decimal128(prec, frac) if prec <= DECIMAL128_PRECISION_MAX else pa.decimal256(prec, frac)
    if tp in STRING_TPS:
        return pa.binary() if type_.is_binary else pa.string()
    if tp == Tp.DURATION:
        return pa.int64() if inside else pa.duration("us")
    return _SIMPLE[tp][0]


def duckdb_type(type_: FieldType) -> str:
    """Returns the DuckDB type that holds values of `type_`. Raises Unsupported for decimals over 38 digits."""
    tp = type_.tp
    if tp in _INT_ARROW:
        return ("U" if type_.unsigned else "") + _INT_ARROW[tp][2]
    if tp == Tp.NEWDECIMAL:
        prec, frac = decimal_shape(type_)
        if prec > DECIMAL128_PRECISION_MAX:
            raise Unsupported(f"DECIMAL({prec},{frac}) has no columnar form: more than 38 digits")
        return f"DECIMAL({prec}, {frac})"
    if tp in STRING_TPS:
        return "BLOB" if type_.is_binary else "VARCHAR"
    if tp == Tp.DURATION:
        return "BIGINT"
    return _SIMPLE[tp][1]


def arrow_schema(names: Sequence[str], types: Sequence[FieldType], *, inside: bool = False) -> pa.Schema:
    return pa.schema([(name, arrow_type(type_, inside=inside)) for name, type_ in zip(names, types, strict=True)])


# Python rows


def column_array(values: Sequence[Any], type_: FieldType, *, inside: bool = False) -> pa.Array:
    """Builds the array of a column's Python values."""
    if inside and type_.tp == Tp.DURATION:
        values = [None if v is None else duration_micros(v) for v in values]
    return pa.array(values, arrow_type(type_, inside=inside))


def rows_to_batch(
    rows: Sequence[Sequence[Any]], names: Sequence[str], types: Sequence[FieldType], *, inside: bool = False
) -> pa.RecordBatch:
    """Builds a record batch from rows of our Python values."""
    columns: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else ([] for _ in types)
    arrays = [column_array(list(c), t, inside=inside) for c, t in zip(columns, types, strict=True)]
    schema = arrow_schema(names, types, inside=inside)
    if not arrays:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * len(rows), pa.struct([])))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def batch_to_rows(batch: pa.RecordBatch | pa.Table, types: Sequence[FieldType]) -> list[tuple[Any, ...]]:
    """Turns a batch or table, in either convention and with Arrow types that only come near, into rows of
    our values.
    """
    if not types:
        return [()] * batch.num_rows
    columns = [column_values(batch.column(i), type_) for i, type_ in enumerate(types)]
    return list(zip(*columns, strict=True))


def column_values(column: pa.Array | pa.ChunkedArray, type_: FieldType) -> list[Any]:
    """Turns one Arrow column into Python values of `type_`, casting where the Arrow type differs."""
    wanted = arrow_type(type_)
    arrow = column.type
    if type_.tp == Tp.DURATION and pa.types.is_integer(arrow):
        return _spans(column)
    if type_.tp == Tp.FLOAT:
        wanted = pa.float64() if arrow == pa.float64() else arrow
    if arrow != wanted and not _same_python(arrow, wanted):
        column = column.cast(wanted)
        arrow = wanted
    if column.null_count == 0 and _through_numpy(arrow):
        values: list[Any] = column.to_numpy(**_numpy_options(column)).tolist()
        return values
    if pa.types.is_decimal(arrow):
        return _decimals(column)
    if pa.types.is_timestamp(arrow) and arrow.tz is not None:
        column = column.cast(pa.timestamp("us", tz=arrow.tz)).cast(pa.timestamp("us"))
    if pa.types.is_duration(arrow):
        return _spans(column.cast(pa.duration("us")).cast(pa.int64()))
    found: list[Any] = column.to_pylist()
    return found


def _numpy_options(column: pa.Array | pa.ChunkedArray) -> dict[str, bool]:
    return {} if isinstance(column, pa.ChunkedArray) else {"zero_copy_only": False}


def _through_numpy(arrow: pa.DataType) -> bool:
    """Whether numpy's `tolist` gives the right Python values: it is several times as fast as Arrow's."""
    return bool(
        pa.types.is_integer(arrow)
        or pa.types.is_floating(arrow)
        or pa.types.is_string(arrow)
        or pa.types.is_large_string(arrow)
        or pa.types.is_date32(arrow)
        or (pa.types.is_timestamp(arrow) and arrow.unit == "us" and arrow.tz is None)
    )


def _same_python(arrow: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of the two Arrow types are the same Python values, so that a cast can be spared."""
    if pa.types.is_integer(arrow):
        return bool(pa.types.is_integer(wanted))
    if pa.types.is_large_string(arrow):
        return bool(pa.types.is_string(wanted))
    if pa.types.is_large_binary(arrow):
        return bool(pa.types.is_binary(wanted))
    return False


def _spans(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    span = dt.timedelta
    return [None if v is None else span(microseconds=v) for v in column.to_pylist()]


def _decimals(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Decimals by way of int64 where they fit: Arrow makes each from text, which takes microseconds."""
    arrow = column.type
    if arrow.precision > 18 or not pa.types.is_decimal128(arrow):
        wide: list[Any] = column.to_pylist()
        return wide
    scale = decimal.Decimal(-arrow.scale)
    make, shift = decimal.Decimal, decimal.Context(prec=40).scaleb
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    out: list[Any] = []
    for chunk in chunks:
        numbers = _unscaled(chunk)
        if chunk.null_count:
            valid = chunk.is_valid().to_pylist()
            out += [shift(make(n), scale) if ok else None for n, ok in zip(numbers, valid, strict=True)]
        else:
            out += [shift(make(n), scale) for n in numbers]
    return out


def _unscaled(array: pa.Array) -> list[int]:
    import numpy as np

    buffer = array.buffers()[1]
    words = np.frombuffer(buffer, np.int64, count=2 * (array.offset + len(array)))
    numbers: list[int] = words[2 * array.offset :: 2].tolist()
    return numbers


# From and to the outside


def to_edge(batch: pa.RecordBatch, names: Sequence[str], types: Sequence[FieldType]) -> pa.RecordBatch:
    """Casts a batch from inside, or as DuckDB returned it, to the edge's types and names."""
    schema = arrow_schema(names, types)
    arrays = [batch.column(i) for i in range(batch.num_columns)]
    cast = [a if a.type == f.type else a.cast(f.type) for a, f in zip(arrays, schema, strict=True)]
    return pa.RecordBatch.from_arrays(cast, schema=schema)


def as_table(source: Any) -> pa.Table:
    """Returns an Arrow table of a table, batch, batch reader, anything with an Arrow C stream, or a pandas frame."""
    if isinstance(source, pa.Table):
        return source
    if isinstance(source, pa.RecordBatch):
        return pa.Table.from_batches([source])
    if isinstance(source, pa.RecordBatchReader):
        return source.read_all()
    module = type(source).__module__.partition(".")[0]
    if module == "pandas":
        return pa.Table.from_pandas(source, preserve_index=False)
    if callable(getattr(type(source), "__arrow_c_stream__", None)):
        return pa.RecordBatchReader.from_stream(source).read_all()
    if isinstance(source, dict):
        return pa.table(source)
    raise TypeError(f"cannot read a {type(source).__name__} as Arrow; give a table, batch, reader or data frame")


def field_type(arrow: pa.DataType) -> FieldType:
    """Infers the FieldType of an Arrow column, as `register` needs it. Raises Unsupported for nested types."""
    types = pa.types
    if types.is_dictionary(arrow):
        return field_type(arrow.value_type)
    if types.is_boolean(arrow):
        return BIGINT.with_(tp=Tp.TINY, flen=1)
    if types.is_integer(arrow):
        return _integer_field(arrow)
    if types.is_float16(arrow) or types.is_float32(arrow):
        return FLOAT
    if types.is_float64(arrow):
        return DOUBLE
    if types.is_decimal(arrow):
        return _decimal_field(arrow)
    if types.is_string(arrow) or types.is_large_string(arrow) or types.is_string_view(arrow):
        return TEXT
    if types.is_binary(arrow) or types.is_large_binary(arrow) or types.is_binary_view(arrow):
        return BYTES
    if types.is_fixed_size_binary(arrow):
        return BYTES.with_(flen=arrow.byte_width)
    if types.is_date(arrow):
        return DATE
    if types.is_timestamp(arrow):
        return FieldType(Tp.TIMESTAMP if arrow.tz else Tp.DATETIME, 26, _FSP[arrow.unit])
    if types.is_duration(arrow) or types.is_time(arrow):
        return FieldType(Tp.DURATION, 17, _FSP[arrow.unit])
    if types.is_null(arrow):
        return NULL
    if str(arrow) == "extension<arrow.json>":
        return JSON
    raise Unsupported(f"Arrow columns of type {arrow} are not supported")


_FSP = {"s": 0, "ms": 3, "us": 6, "ns": 6}
_INT_OF_BITS = {8: (Tp.TINY, 4), 16: (Tp.SHORT, 6), 32: (Tp.LONG, 11), 64: (Tp.LONGLONG, 20)}


def _integer_field(arrow: pa.DataType) -> FieldType:
    tp, flen = _INT_OF_BITS[arrow.bit_width]
    return FieldType(tp, flen, 0, bool(pa.types.is_unsigned_integer(arrow)))


def _decimal_field(arrow: pa.DataType) -> FieldType:
    if arrow.scale < 0 or arrow.precision > 65 or arrow.scale > 30:
        raise Unsupported(f"Arrow columns of type {arrow} are not supported")
    return decimal_type(arrow.precision, arrow.scale)
