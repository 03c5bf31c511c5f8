"""One value as bytes: in keys (comparable), in rows (v2, without flag) and as a flagged datum (v1, TypeDefault).

The functions come from factories by column type, so that a table's codec picks them once. Values are the Python values
of `coprocessor/types.py`; a TIMESTAMP is a naive UTC datetime here. In keys a string is its collation's sort key, which
does not always tell the string: such a column is also stored in the row (`collation.needs_restored_data`).
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable
from typing import Any

from coprocessor.codec import json_binary
from coprocessor.codec.collation import sort_key
from coprocessor.codec.decimals import decimal_encoder, decode_decimal
from coprocessor.codec.decimals import encoded_size as decimal_size
from coprocessor.codec.temporal import (
    duration_nanos,
    duration_of_nanos,
    from_utc,
    pack_date,
    pack_datetime,
    unpack_date,
    unpack_datetime,
)
from coprocessor.errors import CodecError, Truncated, Unsupported
from coprocessor.types import STRING_TPS, FieldType, Tp
from kvstore.codec import (
    decode_bytes,
    decode_compact_bytes,
    decode_float,
    decode_uvarint,
    decode_varint,
    encode_bytes,
    encode_compact_bytes,
    encode_float,
    encode_uvarint,
    encode_varint,
)

NIL_FLAG, BYTES_FLAG, COMPACT_BYTES_FLAG, INT_FLAG, UINT_FLAG, FLOAT_FLAG, DECIMAL_FLAG, DURATION_FLAG = range(8)
VARINT_FLAG, UVARINT_FLAG, JSON_FLAG = 8, 9, 10
MAX_FLAG = 0xFA
NIL = b"\x00"

SIGN = 1 << 63
U64_MASK = (1 << 64) - 1
_FLAG_U64 = struct.Struct(">BQ")
_U64 = struct.Struct(">Q")

Encoder = Callable[[Any], bytes]
Decoder = Callable[[bytes], Any]


# The kinds of wire value that the types fold into.
def wire_kind(type_: FieldType) -> str:
    """Returns what the type is on the wire: int, uint, float, decimal, time, duration, json, bytes or text."""
    tp = type_.tp
    if tp in STRING_TPS:
        return "bytes" if type_.is_binary else "text"
    kind = _KINDS.get(tp)
    if kind is None:
        raise Unsupported(f"columns of type {tp.name} cannot be stored")
    return "uint" if kind == "int" and type_.unsigned and tp != Tp.YEAR else kind


_KINDS = {
    Tp.TINY: "int",
    Tp.SHORT: "int",
    Tp.INT24: "int",
    Tp.LONG: "int",
    Tp.LONGLONG: "int",
    Tp.YEAR: "int",
    Tp.BIT: "uint",
    Tp.ENUM: "uint",
    Tp.SET: "uint",
    Tp.FLOAT: "float",
    Tp.DOUBLE: "float",
    Tp.NEWDECIMAL: "decimal",
    Tp.DATE: "time",
    Tp.DATETIME: "time",
    Tp.TIMESTAMP: "time",
    Tp.DURATION: "duration",
    Tp.JSON: "json",
}


def encode_comparable_float(value: float) -> bytes:
    """The order-preserving form of a double; -0.0 becomes 0.0, as they are equal."""
    return encode_float(value + 0.0)


def decode_comparable_float(data: bytes) -> float:
    return decode_float(data)[0]


def compact_int(value: int) -> bytes:
    """The shortest of 1, 2, 4 and 8 little-endian bytes that holds the signed value."""
    if -128 <= value < 128:
        return value.to_bytes(1, "little", signed=True)
    if -32_768 <= value < 32_768:
        return value.to_bytes(2, "little", signed=True)
    if -2_147_483_648 <= value < 2_147_483_648:
        return value.to_bytes(4, "little", signed=True)
    return value.to_bytes(8, "little", signed=True)


def compact_uint(value: int) -> bytes:
    """The shortest of 1, 2, 4 and 8 little-endian bytes that holds the unsigned value."""
    if value < 256:
        return value.to_bytes(1, "little")
    if value < 65_536:
        return value.to_bytes(2, "little")
    if value < 4_294_967_296:
        return value.to_bytes(4, "little")
    return value.to_bytes(8, "little")


def number_of(type_: FieldType) -> Callable[[Any], int]:
    """Returns the function from a value of a type that is a number on the wire (also ENUM, SET, times) to it."""
    tp = type_.tp
    if tp == Tp.ENUM:
        index = {elem: i for i, elem in enumerate(type_.elems, 1)}
        index.setdefault("", 0)
        return _lookup(index, type_)
    if tp == Tp.SET:
        bits = {elem: 1 << i for i, elem in enumerate(type_.elems)}
        return _set_mask(bits, type_)
    if tp == Tp.DATE:
        return pack_date
    if tp in (Tp.DATETIME, Tp.TIMESTAMP):
        return pack_datetime
    if tp == Tp.DURATION:
        return duration_nanos
    return int


def _lookup(index: dict[str, int], type_: FieldType) -> Callable[[str], int]:
    def number(value: str) -> int:
        try:
            return index[value]
        except KeyError:
            raise Truncated(f"'{value}' is not a member of ENUM{type_.elems}") from None

    return number


def _set_mask(bits: dict[str, int], type_: FieldType) -> Callable[[str], int]:
    def number(value: str) -> int:
        mask = 0
        for member in value.split(",") if value else ():
            if member not in bits:
                raise Truncated(f"'{member}' is not a member of SET{type_.elems}")
            mask |= bits[member]
        return mask

    return number


def value_of_number(type_: FieldType, tz: dt.tzinfo | None = None) -> Callable[[int], Any]:
    """The inverse of `number_of`; a TIMESTAMP is converted to `tz`."""
    tp = type_.tp
    if tp == Tp.ENUM:
        members = ("", *type_.elems)
        return lambda number: _enum_member(members, number)
    if tp == Tp.SET:
        elems = type_.elems
        return lambda mask: ",".join(elem for i, elem in enumerate(elems) if mask >> i & 1)
    if tp == Tp.DATE:
        return unpack_date
    if tp == Tp.TIMESTAMP and tz is not None and tz is not dt.UTC:
        return lambda packed: _local(unpack_datetime(packed), tz)
    if tp in (Tp.DATETIME, Tp.TIMESTAMP):
        return unpack_datetime
    if tp == Tp.DURATION:
        return duration_of_nanos
    return int


def _enum_member(members: tuple[str, ...], number: int) -> str:
    if number >= len(members):
        raise CodecError(f"ENUM value {number} of {len(members) - 1} members")
    return members[number]


def _local(value: dt.datetime | None, tz: dt.tzinfo) -> dt.datetime | None:
    return None if value is None else from_utc(value, tz)


def decimal_shape(type_: FieldType) -> tuple[int, int]:
    """Precision and scale of a DECIMAL column; unspecified ones are MySQL's DECIMAL(10, 0)."""
    prec = type_.flen if type_.flen > 0 else 10
    return prec, max(type_.decimal, 0)


# In keys


def key_encoder(type_: FieldType, prefix: int = -1) -> Encoder:
    """Returns the encoder of a value or None to its comparable datum; `prefix` cuts strings (characters or bytes)."""
    kind = wire_kind(type_)
    if kind in ("text", "bytes"):
        return _string_key_encoder(type_, prefix)
    number = number_of(type_) if kind in ("int", "uint", "time", "duration") else None
    pack = _FLAG_U64.pack
    if kind == "int":
        return lambda v: NIL if v is None else pack(INT_FLAG, v + SIGN)
    if kind in ("uint", "time"):
        assert number is not None
        return lambda v: NIL if v is None else pack(UINT_FLAG, number(v))
    if kind == "duration":
        return lambda v: NIL if v is None else pack(DURATION_FLAG, duration_nanos(v) + SIGN)
    if kind == "float":
        return lambda v: NIL if v is None else b"\x05" + encode_comparable_float(v)
    if kind == "decimal":
        encode = decimal_encoder(*decimal_shape(type_))
        return lambda v: NIL if v is None else b"\x06" + encode(v)
    return lambda v: NIL if v is None else b"\x0a" + json_binary.encode_text(v)


def _string_key_encoder(type_: FieldType, prefix: int) -> Encoder:
    if type_.is_binary:
        if prefix >= 0:
            return lambda v: NIL if v is None else b"\x01" + encode_bytes(v[:prefix])
        return lambda v: NIL if v is None else b"\x01" + encode_bytes(v)
    weight = sort_key(type_.collate)
    if prefix >= 0:
        return lambda v: NIL if v is None else b"\x01" + encode_bytes(weight(v[:prefix]))
    return lambda v: NIL if v is None else b"\x01" + encode_bytes(weight(v))


def decode_key_datum(type_: FieldType, data: bytes, pos: int) -> tuple[Any, int]:
    """Decodes the comparable datum at `pos` to (value, end). A string comes back as its sort key decodes."""
    flag = data[pos]
    if flag == NIL_FLAG:
        return None, pos + 1
    if flag == BYTES_FLAG:
        raw, end = decode_bytes(data, pos + 1)
        return (raw if type_.is_binary else raw.decode("utf-8", "replace")), end
    if flag in (INT_FLAG, UINT_FLAG, DURATION_FLAG):
        (bits,) = _U64.unpack_from(data, pos + 1)
        return value_of_number(type_)(bits if flag == UINT_FLAG else bits - SIGN), pos + 9
    if flag == FLOAT_FLAG:
        return decode_float(data, pos + 1)
    if flag == DECIMAL_FLAG:
        end = pos + 1 + decimal_size(data, pos + 1)
        return decode_decimal(data[pos + 1 : end]), end
    if flag == JSON_FLAG:
        end = pos + 1 + json_binary.encoded_size(data, pos + 1)
        return json_binary.decode_text(data[pos + 1 : end]), end
    raise CodecError(f"datum flag {flag:#x} in a key")


def skip_key_datum(data: bytes, pos: int) -> int:
    """Returns the end of the comparable datum at `pos`."""
    flag = data[pos]
    if flag == NIL_FLAG:
        return pos + 1
    if flag == BYTES_FLAG:
        pos += 1
        while data[pos + 8] == 0xFF:
            pos += 9
        return pos + 9
    if flag in (INT_FLAG, UINT_FLAG, FLOAT_FLAG, DURATION_FLAG):
        return pos + 9
    if flag == DECIMAL_FLAG:
        return pos + 1 + decimal_size(data, pos + 1)
    if flag == JSON_FLAG:
        return pos + 1 + json_binary.encoded_size(data, pos + 1)
    raise CodecError(f"datum flag {flag:#x} in a key")


# In rows (v2): no flag, the column's type tells


def value_encoder(type_: FieldType) -> Encoder:
    """Returns the encoder of a non-NULL value to its bytes in a row."""
    kind = wire_kind(type_)
    if kind == "text":
        return str.encode
    if kind == "bytes":
        return bytes
    if kind == "int":
        return compact_int
    if kind in ("uint", "time"):
        number = number_of(type_)
        return compact_uint if number is int else (lambda v: compact_uint(number(v)))
    if kind == "duration":
        return lambda v: compact_int(duration_nanos(v))
    if kind == "float":
        return encode_comparable_float
    if kind == "decimal":
        return decimal_encoder(*decimal_shape(type_))
    return json_binary.encode_text


def value_decoder(type_: FieldType, tz: dt.tzinfo | None = None) -> Decoder:
    """Returns the decoder of a value's bytes in a row; a TIMESTAMP is converted to `tz`."""
    kind = wire_kind(type_)
    if kind == "text":
        return bytes.decode
    if kind == "bytes":
        return bytes
    if kind in ("int", "duration"):
        value_of = value_of_number(type_)
        return lambda data: value_of(int.from_bytes(data, "little", signed=True))
    if kind in ("uint", "time"):
        value_of = value_of_number(type_, tz)
        return lambda data: value_of(int.from_bytes(data, "little"))
    if kind == "float":
        return decode_comparable_float
    if kind == "decimal":
        return decode_decimal
    return json_binary.decode_text


# As a flagged datum (row v1, TypeDefault)


def encode_datum(type_: FieldType, value: Any) -> bytes:
    """Encodes a value as a flagged datum, as rows of version 1 and TypeDefault responses hold it."""
    if value is None:
        return NIL
    kind = wire_kind(type_)
    if kind == "text":
        return b"\x02" + encode_compact_bytes(value.encode())
    if kind == "bytes":
        return b"\x02" + encode_compact_bytes(value)
    if kind == "int":
        return b"\x08" + encode_varint(value)
    if kind in ("uint", "time"):
        return b"\x09" + encode_uvarint(number_of(type_)(value))
    if kind == "duration":
        return b"\x07" + _U64.pack(duration_nanos(value) + SIGN)
    if kind == "float":
        return b"\x05" + encode_comparable_float(value)
    if kind == "decimal":
        return b"\x06" + decimal_encoder(*decimal_shape(type_))(value)
    return b"\x0a" + json_binary.encode_text(value)


def decode_datum(type_: FieldType, data: bytes, pos: int = 0, tz: dt.tzinfo | None = None) -> tuple[Any, int]:
    """Decodes a flagged datum of either form at `pos` to (value, end)."""
    flag = data[pos]
    if flag == COMPACT_BYTES_FLAG:
        raw, end = decode_compact_bytes(data, pos + 1)
        return (raw if type_.is_binary else raw.decode()), end
    if flag in (VARINT_FLAG, UVARINT_FLAG):
        number, end = decode_varint(data, pos + 1) if flag == VARINT_FLAG else decode_uvarint(data, pos + 1)
        if wire_kind(type_) in ("uint", "time"):
            number &= U64_MASK
        return value_of_number(type_, tz)(number), end
    if flag == UINT_FLAG and tz is not None:
        (bits,) = _U64.unpack_from(data, pos + 1)
        return value_of_number(type_, tz)(bits), pos + 9
    return decode_key_datum(type_, data, pos)
