"""Rows of version 1, read as version 2: what TiDB wrote before 4.0, and writes still while it makes its system tables.

A row is a list of pairs, a column's id and its value, as datums with flags (`pkg/tablecodec`, `EncodeOldRow`); one byte
NIL stands for no column at all. Values are flat: times are packed numbers, durations nanoseconds, members of ENUM and
SET their numbers. The bytes of version 2 follow from the flag alone, so no schema is needed.
"""

from __future__ import annotations

import struct

from coprocessor.codec import json_binary
from coprocessor.codec.datum import (
    BYTES_FLAG,
    COMPACT_BYTES_FLAG,
    DECIMAL_FLAG,
    DURATION_FLAG,
    FLOAT_FLAG,
    INT_FLAG,
    JSON_FLAG,
    NIL_FLAG,
    SIGN,
    U64_MASK,
    UINT_FLAG,
    UVARINT_FLAG,
    VARINT_FLAG,
    compact_int,
    compact_uint,
)
from coprocessor.codec.decimals import bin_size
from coprocessor.codec.row import build_row
from coprocessor.errors import CodecError
from kvstore.codec import decode_bytes, decode_compact_bytes, decode_uvarint, decode_varint

NO_COLUMNS = bytes((NIL_FLAG,))
_U64 = struct.Struct(">Q")


def version_2_of(row: bytes) -> bytes:
    """The same row in version 2. Raises CodecError for what is no row of version 1."""
    not_null: dict[int, bytes] = {}
    null: list[int] = []
    pos = 0
    try:
        while pos < len(row) and row != NO_COLUMNS:
            column_id, pos = _column_id(row, pos)
            value, pos = _value(row, pos)
            if value is None:
                null.append(column_id)
            else:
                not_null[column_id] = value
    except (IndexError, ValueError, struct.error) as error:
        raise CodecError(f"damaged row of version 1: {row[:16].hex()}") from error
    return build_row(sorted(not_null.items()), sorted(null))


def _column_id(row: bytes, pos: int) -> tuple[int, int]:
    flag = row[pos]
    if flag == VARINT_FLAG:
        column_id, end = decode_varint(row, pos + 1)
    elif flag == INT_FLAG:
        column_id, end = _U64.unpack_from(row, pos + 1)[0] - SIGN, pos + 9
    else:
        raise CodecError(f"not a row: {row[:16].hex()}")
    if column_id < 0:
        raise CodecError(f"column id {column_id} in a row of version 1")
    return column_id, end


def _value(row: bytes, pos: int) -> tuple[bytes | None, int]:
    """The value at `pos` as version 2 has it, None for NULL, and where the next begins."""
    flag = row[pos]
    pos += 1
    if flag == NIL_FLAG:
        return None, pos
    if flag in (BYTES_FLAG, COMPACT_BYTES_FLAG):
        return (decode_bytes if flag == BYTES_FLAG else decode_compact_bytes)(row, pos)
    if flag == VARINT_FLAG:
        number, end = decode_varint(row, pos)
        return compact_int(number), end
    if flag == UVARINT_FLAG:
        number, end = decode_uvarint(row, pos)
        return compact_uint(number & U64_MASK), end
    if flag == UINT_FLAG:
        return compact_uint(_U64.unpack_from(row, pos)[0]), pos + 8
    if flag in (INT_FLAG, DURATION_FLAG):
        return compact_int(_U64.unpack_from(row, pos)[0] - SIGN), pos + 8
    if flag == FLOAT_FLAG:
        end = pos + 8
    elif flag == DECIMAL_FLAG:
        end = pos + 2 + bin_size(row[pos], row[pos + 1])
    elif flag == JSON_FLAG:
        end = pos + json_binary.encoded_size(row, pos)
    else:
        raise CodecError(f"datum flag {flag:#x} in a row of version 1")
    if end > len(row):
        raise CodecError(f"row of version 1 cut short: {row[:16].hex()}")
    return row[pos:end], end
