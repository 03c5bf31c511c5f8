"""Bringing Arrow columns to a table's types before a bulk load: casts, checks, and errors with their row number.

Every column first takes a path through Arrow's compute functions. Where that path finds anything it cannot settle (a
value out of range, text that is too long, a source type that needs MySQL's conversion) the column goes value by value
through the same caster as an INSERT, which converts it or raises with MySQL's code and the row.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coprocessor.arrow import arrow_type, column_array, field_type
from coprocessor.codec.temporal import MICROS_PER_SECOND, vector_to_utc
from coprocessor.convert import INT_BITS, int_bounds
from coprocessor.errors import InvalidArgument
from coprocessor.schema import ColumnSchema
from coprocessor.types import BLOB_TPS, FieldType, Tp
from coprocessor.values import (
    BLOB_BYTES_MAX,
    FLOAT_MAX,
    TIMESTAMP_MAX,
    TIMESTAMP_MIN,
    Warn,
    compile_caster,
)

MAX_DURATION_MICROS = (838 * 3600 + 59 * 60 + 59) * MICROS_PER_SECOND
_DAY_MIN, _DAY_MAX = -719_162, 2_932_896
_MICRO_MIN, _MICRO_MAX = _DAY_MIN * 86_400 * MICROS_PER_SECOND, (_DAY_MAX + 1) * 86_400 * MICROS_PER_SECOND - 1
FLOAT_FRACTION_MAX = 18
"""Digits behind the point of a double that becomes a DECIMAL without a look at each value."""
DECIMAL128_DIGITS = 38
_EPOCH = dt.datetime(1970, 1, 1)
_MICRO = dt.timedelta(microseconds=1)


class _NotSettled(Exception):
    """The column needs the row-by-row conversion."""


def cast_column(
    column: Any,
    schema: ColumnSchema,
    tz: dt.tzinfo | None,
    *,
    strict: bool = True,
    warn: Warn | None = None,
    first_row: int = 1,
) -> Any:
    """Casts one Arrow array to the column's inside type; TIMESTAMPs from zone `tz` (None: UTC) to UTC.

    Raises as `values.compile_caster` does. NULLs are checked by `check_not_null`.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), arrow_type(schema.type, inside=True))
    try:
        cast = _fast_path(schema.type)(column, schema.type, tz)
    except (_NotSettled, pa.ArrowInvalid, pa.ArrowNotImplementedError):
        cast = _by_value(column, schema, tz, strict, warn, first_row)
    return vector_to_utc(cast, tz) if schema.type.tp == Tp.TIMESTAMP else cast


def check_not_null(column: Any, schema: ColumnSchema) -> None:
    """Raises MySQL's error 1048 when a NOT NULL column holds a NULL."""
    if schema.not_null and column.null_count:
        raise InvalidArgument(f"Column '{schema.name}' cannot be null", code=1048, sqlstate="23000")


def _by_value(
    column: Any, schema: ColumnSchema, tz: dt.tzinfo | None, strict: bool, warn: Warn | None, first_row: int
) -> Any:
    """Converts value by value; columns of few distinct values convert each once."""
    from coprocessor.arrow import column_values

    cast = compile_caster(schema, strict=strict, warn=warn, tz=tz)
    source = field_type(column.type)
    if pa.types.is_time(column.type) or (pa.types.is_timestamp(column.type) and column.type.tz is not None):
        values = column.to_pylist()
    else:
        values = column_values(column, source)
    return column_array([cast(value, row) for row, value in enumerate(values, first_row)], schema.type, inside=True)


FastPath = Callable[[Any, FieldType, "dt.tzinfo | None"], Any]


def _fast_path(type_: FieldType) -> FastPath:
    tp = type_.tp
    if tp in INT_BITS or tp == Tp.BIT:
        return _to_ints
    if tp == Tp.NEWDECIMAL:
        return _to_decimals
    if type_.is_real:
        return _to_floats
    if type_.is_text:
        return _to_text
    if type_.is_binary:
        return _to_bytes
    if tp == Tp.DATE:
        return _to_dates
    if tp in (Tp.DATETIME, Tp.TIMESTAMP):
        return _to_datetimes
    if tp == Tp.DURATION:
        return _to_durations
    if tp in (Tp.ENUM, Tp.SET):
        return _to_members
    return _no_fast_path


def _no_fast_path(column: Any, type_: FieldType, tz: dt.tzinfo | None) -> Any:
    raise _NotSettled


def _within(column: Any, low: Any, high: Any) -> None:
    bounds = pc.min_max(column).as_py()
    if bounds["min"] is not None and not (low <= bounds["min"] and bounds["max"] <= high):
        raise _NotSettled


def _to_ints(column: Any, type_: FieldType, tz: dt.tzinfo | None) -> Any:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if not pa.types.is_integer(column.type):
        raise _NotSettled
    _within(column, *int_bounds(type_))
    return column.cast(arrow_type(type_, inside=True))


def _to_decimals(column: Any, type_: FieldType, tz: dt.tzinfo | None) -> Any:
    wanted = arrow_type(type_, inside=True)
    if pa.types.is_integer(column.type):
        column = column.cast(pa.decimal128(20, 0))
    elif pa.types.is_float64(column.type):
        # by the shortest text that stands for the number, as `repr` has it
        column = decimals_of_text(column.cast(pa.string()), FLOAT_FRACTION_MAX)
    elif not pa.types.is_decimal(column.type):
        raise _NotSettled
    if column.type.scale > wanted.scale:
        column = pc.round(column, ndigits=wanted.scale, round_mode="half_towards_infinity")
    # Arrow multiplies to the wanted scale without a look at what does not fit in 128 bits.
    limit = 10 ** (wanted.precision - wanted.scale)
    _within(column, -limit, limit)
    return _unsigned_checked(column if column.type == wanted else column.cast(wanted), type_)


def decimals_of_text(text: Any, scale: int) -> Any:
    """Numbers that are written without an exponent as decimals with `scale` digits behind the point.

    Raises ArrowInvalid for what is none, or could be too long: Arrow does not see when a number leaves its 128 bits.
    """
    digits = pc.max(pc.binary_length(text)).as_py() or 0
    if digits > DECIMAL128_DIGITS - scale or any(pc.any(pc.match_substring(text, e)).as_py() for e in "eE"):
        raise pa.ArrowInvalid("an exponent, or too many digits")
    return text.cast(pa.decimal128(DECIMAL128_DIGITS, scale))


def _unsigned_checked(column: Any, type_: FieldType) -> Any:
    if type_.unsigned:
        _within(column, 0, float("inf"))
    return column


def _to_floats(column: Any, type_: FieldType, tz: dt.tzinfo | None) -> Any:
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)) or type_.decimal >= 0:
        raise _NotSettled
    column = column.cast(pa.float64(), safe=False)
    if not pc.all(pc.is_finite(column), min_count=0).as_py():
        raise _NotSettled
    most = FLOAT_MAX if type_.tp == Tp.FLOAT else float("inf")
    _within(column, 0.0 if type_.unsigned else -most, most)
    return column.cast(arrow_type(type_, inside=True), safe=False)


def _to_text(column: Any, type_: FieldType, tz: dt.tzinfo | None) -> Any:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        if not pa.types.is_string_view(column.type):
            raise _NotSettled
    column = column.cast(pa.string())
    if type_.tp in BLOB_TPS:
        _within(pc.binary_length(column), 0, BLOB_BYTES_MAX[type_.tp])
        return column
    if type_.tp == Tp.STRING and pc.any(pc.ends_with(column, " ")).as_py():
        column = pc.utf8_rtrim(column, " ")
    limit = type_.flen if type_.flen >= 0 else (1 if type_.tp == Tp.STRING else 65_535)
    if len(column) and (pc.max(pc.binary_length(column)).as_py() or 0) > limit:
        # Bytes are at least as many as characters, so most columns are done without counting characters.
        _within(pc.utf8_length(column), 0, limit)
    return column


def _to_bytes(column: Any, type_: FieldType, tz: dt.tzinfo | None) -> Any:
    kinds = pa.types
    known = (kinds.is_binary, kinds.is_large_binary, kinds.is_fixed_size_binary, kinds.is_string, kinds.is_large_string)
    if not any(is_kind(column.type) for is_kind in known) or type_.tp == Tp.STRING:
        raise _NotSettled
    column = column.cast(pa.binary())
    limit = BLOB_BYTES_MAX.get(type_.tp, type_.flen if type_.flen >= 0 else 65_535)
    _within(pc.binary_length(column), 0, limit)
    return column


def _to_dates(column: Any, type_: FieldType, tz: dt.tzinfo | None) -> Any:
    if not pa.types.is_date(column.type) or len(column) == column.null_count:
        raise _NotSettled
    column = column.cast(pa.date32())
    _within(column.cast(pa.int32()), _DAY_MIN, _DAY_MAX)
    return column


def _to_datetimes(column: Any, type_: FieldType, tz: dt.tzinfo | None) -> Any:
    arrow = column.type
    if pa.types.is_date(arrow):
        column = _to_dates(column, type_, tz).cast(pa.timestamp("us"))
    elif not pa.types.is_timestamp(arrow) or (arrow.tz is not None and tz is not None and tz is not dt.UTC):
        raise _NotSettled
    elif arrow.unit == "ns":
        column = column.cast(pa.timestamp("us", tz=arrow.tz), safe=False)
    column = column.cast(pa.timestamp("us", tz=column.type.tz)).cast(pa.timestamp("us"))
    micros = column.cast(pa.int64())
    rounded = _rounded(micros, type_)
    if type_.tp == Tp.TIMESTAMP:
        # A day of margin for the zone: what lies in it is checked exactly, value by value.
        day = 86_400 * MICROS_PER_SECOND if tz is not None and tz is not dt.UTC else 0
        low, high = (TIMESTAMP_MIN - _EPOCH) // _MICRO, (TIMESTAMP_MAX - _EPOCH) // _MICRO
        _within(rounded, low + day, high - day)
    else:
        _within(rounded, _MICRO_MIN, _MICRO_MAX)
    return column if rounded is micros else rounded.cast(pa.timestamp("us"))


def _to_durations(column: Any, type_: FieldType, tz: dt.tzinfo | None) -> Any:
    arrow = column.type
    if pa.types.is_time(arrow):
        micros = column.cast(pa.time64("us"), safe=False).cast(pa.int64())
    elif pa.types.is_duration(arrow):
        micros = column.cast(pa.duration("us"), safe=False).cast(pa.int64())
    else:
        raise _NotSettled
    micros = _rounded(micros, type_)
    _within(micros, -MAX_DURATION_MICROS, MAX_DURATION_MICROS)
    return micros


def _rounded(micros: Any, type_: FieldType) -> Any:
    """Rounds to the column's fractional digits: times half up, TIME half away from zero."""
    fsp = max(type_.decimal, 0)
    if fsp >= 6 or not len(micros):
        return micros
    unit = 10 ** (6 - fsp)
    numbers = pc.fill_null(micros, 0).to_numpy(zero_copy_only=False)
    if not (numbers % unit).any():
        return micros
    if type_.tp == Tp.DURATION:
        numbers = np.sign(numbers) * ((np.abs(numbers) + unit // 2) // unit * unit)
    else:
        numbers = (numbers + unit // 2) // unit * unit
    return pa.array(numbers, mask=micros.is_null().to_numpy(zero_copy_only=False) if micros.null_count else None)


def _to_members(column: Any, type_: FieldType, tz: dt.tzinfo | None) -> Any:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise _NotSettled
    column = column.cast(pa.string())
    if type_.tp == Tp.SET:
        known = {value for value in pc.unique(column).to_pylist() if value}
        order = {elem: i for i, elem in enumerate(type_.elems)}
        if not all(_is_normal_set(value, order) for value in known):
            raise _NotSettled
        return column
    if not pc.all(pc.is_in(pc.drop_null(column), pa.array(type_.elems, pa.string())), min_count=0).as_py():
        raise _NotSettled
    return column


def _is_normal_set(text: str, order: dict[str, int]) -> bool:
    places = [order.get(member, -1) for member in text.split(",")]
    return all(place >= 0 for place in places) and all(a < b for a, b in pairwise(places))
