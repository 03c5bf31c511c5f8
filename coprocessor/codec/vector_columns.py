"""Columns of one type out of many byte spans: what the vectorised decoder reads in rows and in keys.

Numbers are gathered as 64-bit words and brought to the type by arithmetic over whole columns; strings are Arrow's take
over the buffer itself. What has no vector form (JSON, decimals of unusual shape) is decoded value by value.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coprocessor.arrow import arrow_type, column_array
from coprocessor.codec.datum import SIGN, decimal_shape, value_decoder, wire_kind
from coprocessor.codec.decimals import bin_size, decode_vector, decode_vector_wide, word_layout
from coprocessor.codec.gather import Bytes, Ints, big_u64, compact_ints, compact_uints, primitive, spans, windows
from coprocessor.codec.temporal import NANOS_PER_MICRO, packed_to_days, packed_to_micros, vector_from_utc
from coprocessor.types import FieldType, Tp

ColumnReader = Callable[[Bytes, Ints, Ints], Any]

_SIGN_U64 = np.uint64(SIGN)
_WORD = 8


def integers(type_: FieldType, numbers: npt.NDArray[Any]) -> Any:
    wanted = arrow_type(type_, inside=True)
    return primitive(wanted, numbers.astype(wanted.to_pandas_dtype(), copy=False))


def _times(type_: FieldType, packed: npt.NDArray[np.uint64], tz: dt.tzinfo | None) -> Any:
    if type_.tp == Tp.DATE:
        days = packed_to_days(packed)
        return primitive(pa.date32(), days, days != -(1 << 31))
    micros, wrong = packed_to_micros(packed)
    column = primitive(pa.timestamp("us"), micros, ~wrong)
    return vector_from_utc(column, tz) if type_.tp == Tp.TIMESTAMP else column


def _members(type_: FieldType, numbers: npt.NDArray[np.uint64]) -> Any:
    """ENUM and SET: each distinct number is spelled once."""
    distinct, places = np.unique(numbers, return_inverse=True)
    spell = value_decoder(type_)
    names = [spell(int(n).to_bytes(8, "little")) for n in distinct]
    return pa.array(names, pa.string()).take(pa.array(places.reshape(-1)))


def _floats(type_: FieldType, bits: npt.NDArray[np.uint64]) -> Any:
    """Comparable doubles back to doubles."""
    values = np.where(bits & _SIGN_U64, bits ^ _SIGN_U64, ~bits).view(np.float64)
    if type_.tp == Tp.FLOAT:
        return primitive(pa.float32(), values.astype(np.float32))
    return primitive(pa.float64(), values)


def key_numbers(type_: FieldType, bits: npt.NDArray[np.uint64], tz: dt.tzinfo | None) -> Any:
    """A datum of eight payload bytes in a key."""
    kind = wire_kind(type_)
    if kind == "float":
        return _floats(type_, bits)
    if kind == "time":
        return _times(type_, bits, tz)
    if kind == "duration":
        return primitive(pa.int64(), (bits ^ _SIGN_U64).view(np.int64) // NANOS_PER_MICRO)
    if type_.tp in (Tp.ENUM, Tp.SET):
        return _members(type_, bits)
    return integers(type_, bits if kind == "uint" else (bits ^ _SIGN_U64).view(np.int64))


def column_reader(type_: FieldType, tz: dt.tzinfo | None) -> ColumnReader:
    """Returns the reader of a stored column: (values, starts, ends) -> Arrow array."""
    kind = wire_kind(type_)
    if kind in ("text", "bytes"):
        wanted = arrow_type(type_, inside=True)
        return lambda data, starts, ends: spans(data, starts, ends, wanted)
    if kind == "int":
        return lambda data, starts, ends: integers(type_, compact_ints(data, starts, ends - starts))
    if kind == "uint" and type_.tp in (Tp.ENUM, Tp.SET):
        return lambda data, starts, ends: _members(type_, compact_uints(data, starts, ends - starts))
    if kind == "uint":
        return lambda data, starts, ends: integers(type_, compact_uints(data, starts, ends - starts))
    if kind == "time":
        return lambda data, starts, ends: _times(type_, compact_uints(data, starts, ends - starts), tz)
    if kind == "duration":
        return lambda data, starts, ends: primitive(
            pa.int64(), compact_ints(data, starts, ends - starts) // NANOS_PER_MICRO
        )
    if kind == "float":
        return lambda data, starts, ends: _floats(type_, big_u64(data, starts))
    if kind == "decimal":
        return _decimal_reader(type_)
    return _row_by_row(type_, tz)


def _row_by_row(type_: FieldType, tz: dt.tzinfo | None) -> ColumnReader:
    """For what has no vector form: JSON, and decimals of unusual shape."""
    decode = value_decoder(type_, tz)

    def read(data: Bytes, starts: Ints, ends: Ints) -> Any:
        places = zip(starts.tolist(), ends.tolist(), strict=True)
        return column_array([decode(data[a:b].tobytes()) for a, b in places], type_, inside=True)

    return read


def _decimal_reader(type_: FieldType) -> ColumnReader:
    prec, frac = decimal_shape(type_)
    if prec > 38:
        return _row_by_row(type_, None)
    size = bin_size(prec, frac)
    wanted = arrow_type(type_, inside=True)
    head = np.array([prec, frac], np.uint8).view("<u2")[0]
    slow = _row_by_row(type_, None)

    def read(data: Bytes, starts: Ints, ends: Ints) -> Any:
        if not len(starts):
            return pa.array([], wanted)
        shapes = windows(data, starts, 2).view("<u2")
        if not bool((ends - starts == size + 2).all()) or not bool((shapes == head).all()):
            return slow(data, starts, ends)
        if prec > 18:
            return primitive(wanted, decode_vector_wide(windows(data, starts + 2, size), prec, frac))
        if size <= _WORD:
            unscaled = _decimal_words(big_u64(data, starts + 2), prec, frac)
        else:
            unscaled = decode_vector(windows(data, starts + 2, size), prec, frac)
        wide = np.empty((len(unscaled), 2), np.int64)
        wide[:, 0] = unscaled
        wide[:, 1] = unscaled >> 63
        return primitive(wanted, wide)

    return read


def _decimal_words(bits: npt.NDArray[np.uint64], prec: int, frac: int) -> Ints:
    """Unscaled int64 of decimals whose `bin` fits the high end of a 64-bit word."""
    signed = bits.view(np.int64)
    # All ones where the top bit is clear: negative.
    sign = ~(signed >> 63)
    folded = (signed ^ sign) & ((1 << 63) - 1)
    total = np.zeros(len(bits), np.int64)
    shift = 64
    for width, digits in word_layout(prec, frac):
        shift -= 8 * width
        word = (folded >> shift) & ((1 << 8 * width) - 1)
        total = total * 10**digits + word
    return (total ^ sign) - sign
