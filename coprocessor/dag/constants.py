"""Constants in expressions on the wire: a tipb.Expr of a literal type and its bytes."""

from __future__ import annotations

import datetime as dt
import struct
from typing import Any

from coprocessor.codec import json_binary
from coprocessor.codec.datum import SIGN, decimal_shape, encode_comparable_float, number_of, value_of_number
from coprocessor.codec.decimals import decimal_encoder, decode_decimal
from coprocessor.codec.temporal import duration_nanos, duration_of_nanos, to_utc
from coprocessor.dag.field_types import field_type_of, wire_type
from coprocessor.errors import BadRequest, CoprocessorError, Unsupported
from coprocessor.expr import Const
from coprocessor.functions.inference import kind
from coprocessor.types import BIGINT, BYTES, DOUBLE, DURATION, JSON, NULL, TEXT, UBIGINT, FieldType, Tp, decimal_type
from kvstore.codec import decode_float
from kvstore.proto import tipb_pb2

_U64 = struct.Struct(">Q")


def encode_const(const: Const, tz: dt.tzinfo) -> tipb_pb2.Expr:
    """Encodes a literal. Raises Unsupported for one that has no form there."""
    tp, val = _encoded(const.value, const.type, tz)
    return tipb_pb2.Expr(tp=tp, val=val, field_type=wire_type(const.type))


def _encoded(value: Any, type_: FieldType, tz: dt.tzinfo) -> tuple[tipb_pb2.ExprType, bytes]:
    if value is None:
        return tipb_pb2.Null, b""
    if type_.tp in (Tp.BIT, Tp.SET):
        raise Unsupported(f"a literal of type {type_.tp.name} on the wire")
    match kind(type_):
        case "int" if type_.unsigned:
            return tipb_pb2.Uint64, _U64.pack(value)
        case "int":
            return tipb_pb2.Int64, _U64.pack(value + SIGN)
        case "real":
            return tipb_pb2.Float64, encode_comparable_float(value)
        case "decimal":
            return tipb_pb2.MysqlDecimal, decimal_encoder(*decimal_shape(type_))(value)
        case "time":
            stored = to_utc(value, tz) if type_.tp == Tp.TIMESTAMP else value
            return tipb_pb2.MysqlTime, _U64.pack(number_of(type_)(stored))
        case "duration":
            return tipb_pb2.MysqlDuration, _U64.pack(duration_nanos(value) + SIGN)
        case "json":
            return tipb_pb2.MysqlJson, json_binary.encode_text(value)
        case _ if type_.tp == Tp.ENUM:
            return tipb_pb2.MysqlEnum, _U64.pack(number_of(type_)(value))
        case _:
            return (tipb_pb2.Bytes, bytes(value)) if type_.is_binary else (tipb_pb2.String, value.encode())


_DEFAULT_TYPES = {
    tipb_pb2.Null: NULL,
    tipb_pb2.Int64: BIGINT,
    tipb_pb2.Uint64: UBIGINT,
    tipb_pb2.Float32: DOUBLE,
    tipb_pb2.Float64: DOUBLE,
    tipb_pb2.String: TEXT,
    tipb_pb2.Bytes: BYTES,
    tipb_pb2.MysqlDecimal: decimal_type(65, 30),
    tipb_pb2.MysqlDuration: DURATION,
    tipb_pb2.MysqlJson: JSON,
}
_KINDS = {
    tipb_pb2.Int64: "int", tipb_pb2.Uint64: "int", tipb_pb2.Float32: "real", tipb_pb2.Float64: "real",
    tipb_pb2.String: "string", tipb_pb2.Bytes: "string", tipb_pb2.MysqlDecimal: "decimal",
    tipb_pb2.MysqlDuration: "duration", tipb_pb2.MysqlTime: "time", tipb_pb2.MysqlJson: "json",
    tipb_pb2.MysqlEnum: "string",
}  # fmt: skip


def is_const(wire: tipb_pb2.Expr) -> bool:
    """Whether the expression is a literal of a type that is known."""
    return wire.tp == tipb_pb2.Null or wire.tp in _KINDS


def decode_const(wire: tipb_pb2.Expr, tz: dt.tzinfo) -> Const:
    """Decodes a literal. Raises BadRequest where the bytes are no value of its type."""
    type_ = field_type_of(wire.field_type) if wire.field_type.tp else _DEFAULT_TYPES.get(wire.tp)
    name = tipb_pb2.ExprType.Name(wire.tp)
    if wire.tp == tipb_pb2.Null:
        return Const(None, type_ or NULL)
    if type_ is None or kind(type_) != _KINDS[wire.tp] or (wire.tp == tipb_pb2.MysqlEnum) != (type_.tp == Tp.ENUM):
        raise BadRequest(f"a {name} literal of type {'none' if type_ is None else type_.tp.name}")
    if type_.tp in (Tp.BIT, Tp.SET):
        raise Unsupported(f"a literal of type {type_.tp.name}")
    try:
        value = _decoded(wire.tp, wire.val, type_, tz)
    except (struct.error, ValueError, IndexError, ArithmeticError, CoprocessorError) as error:
        raise BadRequest(f"a {name} literal of the bytes {wire.val[:40].hex()}: {error}") from None
    if type_.is_decimal:
        type_ = _exact_type(type_, value)
    elif type_.tp == Tp.LONGLONG:
        type_ = type_.with_(unsigned=wire.tp == tipb_pb2.Uint64)
    return Const(value, type_)


def _exact_type(type_: FieldType, value: Any) -> FieldType:
    """The wire's type where it holds the value as it is; else one that does."""
    _, digits, exponent = value.as_tuple()
    scale = max(-exponent, 0)
    if type_.flen > 0 and max(type_.decimal, 0) == scale and len(digits) <= type_.flen:
        return type_
    return decimal_type(max(len(digits), scale, 1), scale)


def _decoded(tp: int, val: bytes, type_: FieldType, tz: dt.tzinfo) -> Any:
    if tp in (tipb_pb2.Float32, tipb_pb2.Float64):
        if len(val) != 8:
            raise ValueError("a double has eight bytes")
        number = decode_float(val)[0]
        if number - number != 0:
            raise ValueError("a double has to be finite")
        return number
    if tp == tipb_pb2.MysqlDecimal:
        return decode_decimal(val)
    if tp == tipb_pb2.MysqlJson:
        return json_binary.decode_text(val)
    if tp in (tipb_pb2.String, tipb_pb2.Bytes):
        return val if type_.is_binary else val.decode()
    (bits,) = _U64.unpack(val)
    if tp == tipb_pb2.MysqlDuration:
        return duration_of_nanos(bits - SIGN)
    if tp == tipb_pb2.MysqlTime:
        return value_of_number(type_, tz)(bits)
    if tp == tipb_pb2.MysqlEnum:
        return value_of_number(type_)(bits)
    return bits if tp == tipb_pb2.Uint64 else bits - SIGN
