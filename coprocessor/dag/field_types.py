"""FieldTypes and columns on the wire: tipb.FieldType and tipb.ColumnInfo both ways.

A collation id is negative under TiDB's new collations, which compare as MySQL does. A positive one other than binary is
of a cluster with the old ones, where every string compares byte by byte: the same as utf8mb4_0900_bin.
"""

from __future__ import annotations

import struct

from coprocessor.codec.datum import decode_datum, encode_datum
from coprocessor.codec.decimals import PRECISION_MAX, SCALE_MAX
from coprocessor.dag.plan import HANDLE_ID, ScanColumn
from coprocessor.errors import BadRequest, CodecError, Unsupported
from coprocessor.types import STRING_TPS, FieldType, Tp
from kvstore.proto import tipb_pb2

NOT_NULL_FLAG, PRIMARY_FLAG, UNSIGNED_FLAG, BINARY_FLAG = 1, 2, 32, 128
ID_BINARY = 63
FSP_MAX = 6
DEFAULT_PRECISION = 10
"""Of a DECIMAL that says nothing of its digits."""
_BYTEWISE = "utf8mb4_0900_bin"
_COLLATIONS = {
    "utf8mb4_bin": 46, "utf8mb4_general_ci": 45, "utf8mb4_unicode_ci": 224, "utf8mb4_0900_ai_ci": 255,
    "utf8mb4_0900_bin": 309, "utf8_bin": 83, "utf8mb3_bin": 83, "utf8_general_ci": 33, "utf8_unicode_ci": 192,
    "latin1_bin": 47, "ascii_bin": 65,
}  # fmt: skip
_NAMES = {number: name for name, number in _COLLATIONS.items() if name != "utf8mb3_bin"}
LENGTH_MAX = (1 << 31) - 1
_WITH_CHARSET = STRING_TPS | {Tp.ENUM, Tp.SET, Tp.JSON}
_TPS = frozenset(int(tp) for tp in Tp)


def text_of(value: str) -> str:
    """Returns a string of a message. Raises BadRequest where it is not UTF-8: protobuf gives such a one as bytes."""
    if not isinstance(value, str):
        raise BadRequest(f"text that is not UTF-8: {value!r}")
    return value


def collation_id(type_: FieldType) -> int:
    """Returns the id of a type's collation; binary for what is no text."""
    if type_.tp not in _WITH_CHARSET or type_.charset == "binary" or type_.collate == "binary":
        return ID_BINARY
    number = _COLLATIONS.get(type_.collate or "utf8mb4_bin")
    if number is None:
        raise Unsupported(f"collation '{type_.collate}' on the wire")
    return -number


def collation_name(number: int) -> str:
    """Returns the collation that strings of a wire id compare by. Raises Unsupported where that is not known."""
    if abs(number) == ID_BINARY:
        return "binary"
    if number >= 0:
        return _BYTEWISE
    if -number not in _NAMES:
        raise Unsupported(f"collation {number}")
    return _NAMES[-number]


def _field_type(
    tp: int, flag: int, flen: int, decimal: int, collate: int, charset: str, elems: tuple[str, ...]
) -> FieldType:
    if tp not in _TPS:
        raise Unsupported(f"columns of MySQL type {tp}")
    known = Tp(tp)
    name = ""
    if known in _WITH_CHARSET:
        name = collation_name(collate)
        charset = charset or ("binary" if name == "binary" else name.partition("_")[0])
        if known not in STRING_TPS and name == "binary":
            charset, name = "utf8mb4", "utf8mb4_bin"  # members and documents are text whatever is said of them
        elif name == "binary":
            charset = "binary"
    else:
        charset = ""
    flen, decimal = max(flen, -1), max(decimal, -1)
    if known == Tp.NEWDECIMAL:
        decimal = min(decimal, SCALE_MAX)
        if flen > 0:
            flen = min(max(flen, decimal), PRECISION_MAX)
        elif decimal > DEFAULT_PRECISION:
            flen = PRECISION_MAX
    elif known in (Tp.DATE, Tp.DATETIME, Tp.TIMESTAMP, Tp.DURATION):
        decimal = min(decimal, FSP_MAX)
    return FieldType(known, flen, decimal, bool(flag & UNSIGNED_FLAG), charset, name, elems)


def field_type_of(wire: tipb_pb2.FieldType) -> FieldType:
    """Decodes a type. Raises Unsupported for one that is not known."""
    if wire.array:
        raise Unsupported("arrays of values (multi-valued indexes)")
    elems = tuple(map(text_of, wire.elems))
    return _field_type(wire.tp, wire.flag, wire.flen, wire.decimal, wire.collate, text_of(wire.charset), elems)


def _wire_length(type_: FieldType) -> int:
    """A length as messages hold it: LONGTEXT's and JSON's are over 31 bits, and go as none, as TiDB's do."""
    return type_.flen if type_.flen <= LENGTH_MAX else -1


def wire_type(type_: FieldType) -> tipb_pb2.FieldType:
    """Encodes a type. Raises Unsupported for a collation that has no number."""
    number = collation_id(type_)
    flag = (UNSIGNED_FLAG if type_.unsigned else 0) | (BINARY_FLAG if number == ID_BINARY else 0)
    charset = "binary" if number == ID_BINARY else type_.charset or "utf8mb4"
    return tipb_pb2.FieldType(
        tp=int(type_.tp),
        flag=flag,
        flen=_wire_length(type_),
        decimal=type_.decimal,
        collate=number,
        charset=charset,
        elems=type_.elems,
    )


def scan_column(wire: tipb_pb2.ColumnInfo) -> ScanColumn:
    """Decodes a scan's column. Raises Unsupported for types and special columns that are not known."""
    if wire.array:
        raise Unsupported("arrays of values (multi-valued indexes)")
    if wire.column_id < HANDLE_ID:
        raise Unsupported(f"the special column {wire.column_id}")
    elems = tuple(map(text_of, wire.elems))
    type_ = _field_type(wire.tp, wire.flag, wire.columnLen, wire.decimal, wire.collation, "", elems)
    default = None
    if wire.default_val:
        try:
            default, end = decode_datum(type_, wire.default_val)
        except (CodecError, IndexError, ValueError, ArithmeticError, struct.error) as error:
            raise BadRequest(f"the default of column {wire.column_id}: {error}") from None
        if end != len(wire.default_val):
            raise BadRequest(f"the default of column {wire.column_id} is longer than its value")
    is_handle = wire.pk_handle or wire.column_id == HANDLE_ID
    return ScanColumn(wire.column_id, type_, bool(wire.flag & NOT_NULL_FLAG), is_handle, default)


def wire_column(column: ScanColumn) -> tipb_pb2.ColumnInfo:
    """Encodes a scan's column."""
    type_ = column.type
    number = collation_id(type_)
    flag = (UNSIGNED_FLAG if type_.unsigned else 0) | (NOT_NULL_FLAG if column.not_null else 0)
    out = tipb_pb2.ColumnInfo(
        column_id=column.id,
        tp=int(type_.tp),
        collation=number,
        columnLen=_wire_length(type_),
        decimal=type_.decimal,
        flag=flag | (PRIMARY_FLAG if column.is_handle else 0) | (BINARY_FLAG if number == ID_BINARY else 0),
        elems=type_.elems,
        pk_handle=column.is_handle,
    )
    if column.default is not None:
        out.default_val = encode_datum(type_, column.default)
    return out
