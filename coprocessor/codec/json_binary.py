"""JSON values between their normalised text and TiDB's binary form (type byte and value; `pkg/types/json_binary.go`).

object  01 | u32 count | u32 size | count * (u32 key offset, u16 key length) | count * value entry | keys | values
array   03 | u32 count | u32 size | count * value entry | values
literal 04 | 00 null, 01 true, 02 false
number  int64 09, uint64 0A, float64 0B | 8 bytes LE
string  0C | uvarint length | bytes

A value entry is the type byte and a u32 offset from the start of the container's value, or the literal itself.
Object keys are sorted by their bytes. The normalised text is MySQL's: keys by length, then bytes, with `, ` and `: `
between.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from coprocessor.errors import CodecError, InvalidArgument
from kvstore.codec import decode_uvarint, encode_uvarint

OBJECT, ARRAY, LITERAL, INT64, UINT64, FLOAT64, STRING = 0x01, 0x03, 0x04, 0x09, 0x0A, 0x0B, 0x0C
_LITERALS = {None: 0, True: 1, False: 2}
_LITERAL_VALUES = (None, True, False)
KEY_BYTES_MAX = 65535
DEPTH_MAX = 100

_U32X2 = struct.Struct("<II")
_KEY_ENTRY = struct.Struct("<IH")
_VALUE_ENTRY = struct.Struct("<BI")


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _integer(digits: str) -> int | float:
    """What no 64-bit integer holds is a double."""
    value = int(digits)
    return value if -(1 << 63) <= value < 1 << 64 else float(value)


def parse(text: str) -> Any:
    """Parses JSON text; raises MySQL's error 3140 when it is none."""
    try:
        return json.loads(text, parse_constant=_reject_constant, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"Invalid JSON text: {error}", code=3140, sqlstate="22032") from None


def dump(value: Any) -> str:
    """Prints a parsed JSON value as normalised text."""
    if isinstance(value, dict):
        ordered = sorted(value.items(), key=lambda item: (len(item[0].encode()), item[0].encode()))
        return "{" + ", ".join(f"{json.dumps(k, ensure_ascii=False)}: {dump(v)}" for k, v in ordered) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(dump, value)) + "]"
    if isinstance(value, float):
        return repr(value).replace("e+", "e")
    return json.dumps(value, ensure_ascii=False)


def normalise(text: str) -> str:
    return dump(parse(text))


def encode_text(text: str) -> bytes:
    """Encodes JSON text to type and value."""
    try:
        type_code, value = _encode(parse(text), 1)
    except UnicodeEncodeError:
        raise InvalidArgument("Invalid JSON text: a lone surrogate", code=3140, sqlstate="22032") from None
    return bytes((type_code,)) + value


def _encode(value: Any, depth: int) -> tuple[int, bytes]:
    if depth > DEPTH_MAX:
        raise InvalidArgument("The JSON document exceeds the maximum depth.", code=3157, sqlstate="22032")
    if value is None or isinstance(value, bool):
        return LITERAL, bytes((_LITERALS[value],))
    if isinstance(value, int):
        if -(1 << 63) <= value < 1 << 63:
            return INT64, value.to_bytes(8, "little", signed=True)
        if 0 < value < 1 << 64:
            return UINT64, value.to_bytes(8, "little")
        raise InvalidArgument(f"Invalid JSON text: {value} is out of range", code=3140, sqlstate="22032")
    if isinstance(value, float):
        return FLOAT64, struct.pack("<d", value)
    if isinstance(value, str):
        data = value.encode()
        return STRING, encode_uvarint(len(data)) + data
    if isinstance(value, list):
        return ARRAY, _encode_container([], value, depth)
    if isinstance(value, dict):
        keys = sorted(key.encode() for key in value)
        ordered = [value[key.decode()] for key in keys]
        return OBJECT, _encode_container(keys, ordered, depth)
    raise CodecError(f"no JSON value: {type(value).__name__}")


def _encode_container(keys: list[bytes], values: list[Any], depth: int) -> bytes:
    head = _U32X2.size + len(keys) * _KEY_ENTRY.size + len(values) * _VALUE_ENTRY.size
    key_entries, value_entries, tail = bytearray(), bytearray(), bytearray()
    for key in keys:
        if len(key) > KEY_BYTES_MAX:
            raise InvalidArgument("The JSON object contains a key name that is too long.", code=3151, sqlstate="22032")
        key_entries += _KEY_ENTRY.pack(head + len(tail), len(key))
        tail += key
    for value in values:
        type_code, data = _encode(value, depth + 1)
        if type_code == LITERAL:
            value_entries += _VALUE_ENTRY.pack(type_code, data[0])
        else:
            value_entries += _VALUE_ENTRY.pack(type_code, head + len(tail))
            tail += data
    return _U32X2.pack(len(values), head + len(tail)) + bytes(key_entries) + bytes(value_entries) + bytes(tail)


def decode_value(data: bytes) -> Any:
    """Decodes type and value to Python objects."""
    try:
        return _decode(data[0], data, 1)
    except (IndexError, struct.error, UnicodeDecodeError, KeyError) as error:
        raise CodecError(f"damaged JSON value: {error}") from None


def decode_text(data: bytes) -> str:
    """Decodes type and value to normalised text."""
    return dump(decode_value(data))


def _decode(type_code: int, data: bytes, pos: int) -> Any:
    if type_code == LITERAL:
        return _LITERAL_VALUES[data[pos]]
    if type_code == INT64:
        return int.from_bytes(data[pos : pos + 8], "little", signed=True)
    if type_code == UINT64:
        return int.from_bytes(data[pos : pos + 8], "little")
    if type_code == FLOAT64:
        return struct.unpack_from("<d", data, pos)[0]
    if type_code == STRING:
        length, pos = decode_uvarint(data, pos)
        return data[pos : pos + length].decode()
    if type_code not in (OBJECT, ARRAY):
        raise CodecError(f"JSON type {type_code:#x} is not supported")
    count, _ = _U32X2.unpack_from(data, pos)
    entries = pos + _U32X2.size
    keys: list[str] = []
    if type_code == OBJECT:
        for i in range(count):
            offset, length = _KEY_ENTRY.unpack_from(data, entries + i * _KEY_ENTRY.size)
            keys.append(data[pos + offset : pos + offset + length].decode())
        entries += count * _KEY_ENTRY.size
    values = []
    for i in range(count):
        inner, where = _VALUE_ENTRY.unpack_from(data, entries + i * _VALUE_ENTRY.size)
        values.append(_LITERAL_VALUES[where & 0xFF] if inner == LITERAL else _decode(inner, data, pos + where))
    return dict(zip(keys, values, strict=True)) if type_code == OBJECT else values


def encoded_size(data: bytes, pos: int) -> int:
    """Returns the length of the value (type byte included) that starts at `pos`."""
    type_code = data[pos]
    if type_code == LITERAL:
        return 2
    if type_code in (INT64, UINT64, FLOAT64):
        return 9
    if type_code == STRING:
        length, end = decode_uvarint(data, pos + 1)
        return end - pos + length
    if type_code in (OBJECT, ARRAY):
        _, size = _U32X2.unpack_from(data, pos + 1)
        return 1 + int(size)
    raise CodecError(f"JSON type {type_code:#x} is not supported")
