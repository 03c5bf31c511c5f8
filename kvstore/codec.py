"""Memcomparable and compact primitives: the lowest layer, shared by record keys, row values and index keys.

Comparable forms sort as bytes the way their values sort; compact forms are short. Formats are TiDB's
(`pkg/util/codec/{number,bytes}.go`): integers big-endian with the sign bit flipped, floats as sortable IEEE bits,
bytes in groups of eight with a marker, varints in Go's zigzag form. Decoders take `(data, offset)` and return
`(value, next offset)`; they raise `CodecError` on damaged input.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache

SIGN_BIT = 1 << 63
U64_MAX = (1 << 64) - 1
GROUP = 8
MARKER = 0xFF
VARINT_BYTES_MAX = 10

_U64 = struct.Struct(">Q")
_F64 = struct.Struct(">d")
_PAD = bytes(GROUP)
_INVERT = bytes(255 - i for i in range(256))


class CodecError(ValueError):
    """The bytes are not a valid encoding."""


def _need(data: bytes, offset: int, size: int) -> None:
    if len(data) - offset < size:
        raise CodecError(f"insufficient bytes: need {size} at offset {offset} of {len(data)}")


def invert(data: bytes) -> bytes:
    """Inverts all bits, which turns an ascending encoding into the descending one."""
    return data.translate(_INVERT)


def encode_uint(value: int) -> bytes:
    """u64, big-endian."""
    return _U64.pack(value)


def decode_uint(data: bytes, offset: int = 0) -> tuple[int, int]:
    _need(data, offset, 8)
    return _U64.unpack_from(data, offset)[0], offset + 8


def encode_uint_desc(value: int) -> bytes:
    """u64 with all bits inverted: larger values sort first."""
    return _U64.pack(value ^ U64_MAX)


def encode_int(value: int) -> bytes:
    """i64, big-endian with the sign bit flipped."""
    return _U64.pack(value + SIGN_BIT)


def decode_int(data: bytes, offset: int = 0) -> tuple[int, int]:
    _need(data, offset, 8)
    return _U64.unpack_from(data, offset)[0] - SIGN_BIT, offset + 8


def encode_int_desc(value: int) -> bytes:
    return _U64.pack((value + SIGN_BIT) ^ U64_MAX)


def decode_int_desc(data: bytes, offset: int = 0) -> tuple[int, int]:
    _need(data, offset, 8)
    return (_U64.unpack_from(data, offset)[0] ^ U64_MAX) - SIGN_BIT, offset + 8


def encode_float(value: float) -> bytes:
    """f64 as sortable bits: the sign bit set for value >= 0, all bits inverted below."""
    bits = _U64.unpack(_F64.pack(value))[0]
    return _U64.pack(bits ^ U64_MAX if bits & SIGN_BIT else bits | SIGN_BIT)


def decode_float(data: bytes, offset: int = 0) -> tuple[float, int]:
    _need(data, offset, 8)
    bits = _U64.unpack_from(data, offset)[0]
    bits = bits & ~SIGN_BIT if bits & SIGN_BIT else bits ^ U64_MAX
    return _F64.unpack(_U64.pack(bits))[0], offset + 8


def encode_float_desc(value: float) -> bytes:
    return invert(encode_float(value))


def decode_float_desc(data: bytes, offset: int = 0) -> tuple[float, int]:
    _need(data, offset, 8)
    return decode_float(invert(data[offset : offset + 8]))[0], offset + 8


def encode_bytes(data: bytes) -> bytes:
    """Groups of eight bytes, each followed by `0xFF - padding`; the last group always has padding."""
    size = len(data)
    if size < SHAPED_BYTES_MAX:
        cut, shape = SHAPES[size]
        return shape % cut(data)
    parts: list[bytes] = []
    for at in range(0, size - size % GROUP, GROUP):
        parts.append(data[at : at + GROUP])
        parts.append(b"\xff")
    tail = data[size - size % GROUP :]
    parts.append(tail + _PAD[len(tail) :] + _MARKERS[len(tail)])
    return b"".join(parts)


_MARKERS = tuple(bytes([MARKER - (GROUP - n)]) for n in range(GROUP))


SHAPED_BYTES_MAX = 96


def _shape(size: int) -> tuple[Callable[[bytes], tuple[bytes, ...]], bytes]:
    groups, rest = divmod(size, GROUP)
    cut = struct.Struct("8s" * groups + f"{rest}s").unpack
    return cut, b"%b\xff" * groups + b"%b" + _PAD[rest:] + _MARKERS[rest]


SHAPES = tuple(_shape(size) for size in range(SHAPED_BYTES_MAX))
"""For data of each size: what cuts it into groups, and the format that puts their markers in."""


def encoded_bytes_length(size: int) -> int:
    """Length of the encoding of `size` bytes."""
    return (size // GROUP + 1) * (GROUP + 1)


def decode_bytes(data: bytes, offset: int = 0) -> tuple[bytes, int]:
    parts: list[bytes] = []
    while True:
        _need(data, offset, GROUP + 1)
        pad = MARKER - data[offset + GROUP]
        if pad > GROUP:
            raise CodecError(f"invalid group marker {data[offset + GROUP]:#04x} at offset {offset + GROUP}")
        end = offset + GROUP - pad
        parts.append(data[offset:end])
        offset += GROUP + 1
        if pad:
            if any(data[end : offset - 1]):
                raise CodecError(f"padding is not zero at offset {end}")
            return b"".join(parts), offset


def encode_bytes_desc(data: bytes) -> bytes:
    return invert(encode_bytes(data))


def decode_bytes_desc(data: bytes, offset: int = 0) -> tuple[bytes, int]:
    parts: list[bytes] = []
    while True:
        _need(data, offset, GROUP + 1)
        group = invert(data[offset : offset + GROUP + 1])
        pad = MARKER - group[GROUP]
        if pad > GROUP:
            raise CodecError(f"invalid group marker {group[GROUP]:#04x} at offset {offset + GROUP}")
        if any(group[GROUP - pad : GROUP]):
            raise CodecError(f"padding is not zero at offset {offset + GROUP - pad}")
        parts.append(group[: GROUP - pad])
        offset += GROUP + 1
        if pad:
            return b"".join(parts), offset


def encode_uvarint(value: int) -> bytes:
    """u64 in seven-bit groups, low first."""
    if value < 0x80:
        return bytes((value,))
    if value > 0x1FFFFF:
        # timestamps, which share what is above for some milliseconds
        low = (value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14 & 0x7F | 0x80)
        return bytes(low) + _uvarint_rest(value >> 21)
    return _uvarint_rest.__wrapped__(value)


@lru_cache(maxsize=64)
def _uvarint_rest(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_uvarint(data: bytes, offset: int = 0) -> tuple[int, int]:
    value = shift = 0
    for at in range(offset, min(len(data), offset + VARINT_BYTES_MAX)):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > U64_MAX:
                raise CodecError(f"uvarint over 64 bits at offset {offset}")
            return value, at + 1
        shift += 7
    raise CodecError(f"uvarint does not end at offset {offset}")


def encode_varint(value: int) -> bytes:
    """i64 in zigzag form."""
    return encode_uvarint(value << 1 if value >= 0 else ((-value) << 1) - 1)


def decode_varint(data: bytes, offset: int = 0) -> tuple[int, int]:
    raw, offset = decode_uvarint(data, offset)
    return (raw >> 1) ^ -(raw & 1), offset


def encode_compact_bytes(data: bytes) -> bytes:
    """Varint length and the bytes."""
    return encode_varint(len(data)) + data


def decode_compact_bytes(data: bytes, offset: int = 0) -> tuple[bytes, int]:
    size, offset = decode_varint(data, offset)
    if size < 0:
        raise CodecError(f"negative length {size}")
    _need(data, offset, size)
    return data[offset : offset + size], offset + size


def prefix_end(prefix: bytes) -> bytes:
    """The smallest key greater than every key that starts with `prefix`; empty when there is none."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return b""
    return stripped[:-1] + bytes((stripped[-1] + 1,))
