"""Bytes of membership changes in log entries: protobuf, eraftpb.ConfChange and ConfChangeV2.

The core has to read and write them itself (a leader looks into conf change entries it appends), and it imports nothing
of ours, so the two small messages are coded here by hand.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvstore.raft.errors import ConfChangeError
from kvstore.raft.types import (
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    Entry,
    EntryType,
)

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_BYTES_MAX = 10


def encode_conf_change(change: ConfChangeV2) -> bytes:
    """The data of a CONF_CHANGE_V2 entry; empty for a change that leaves a joint configuration."""
    out = bytearray()
    _put_number(out, 1, change.transition)
    for single in change.changes:
        body = bytearray()
        _put_number(body, 1, single.type)
        _put_number(body, 2, single.node_id)
        _put_bytes(out, 2, bytes(body))
    if change.context:
        _put_bytes(out, 3, change.context)
    return bytes(out)


def decode_conf_change(entry: Entry) -> ConfChangeV2:
    """The change that a CONF_CHANGE or CONF_CHANGE_V2 entry holds; ConfChangeError if the bytes are damaged."""
    try:
        if entry.type == EntryType.CONF_CHANGE:
            return _decode_v1(entry.data)
        if entry.type == EntryType.CONF_CHANGE_V2:
            return _decode_v2(entry.data)
    except (ValueError, TypeError) as error:
        raise ConfChangeError(f"entry {entry.index} holds no membership change: {error}") from error
    raise ConfChangeError(f"entry {entry.index} is of type {entry.type!r}")


def _decode_v1(data: bytes) -> ConfChangeV2:
    kind = node = 0
    context = b""
    for number, value in _fields(data):
        if number == 2:
            kind = _as_number(value)
        elif number == 3:
            node = _as_number(value)
        elif number == 4:
            context = _as_bytes(value)
    return ConfChangeV2((ConfChangeSingle(ConfChangeType(kind), node),), context=context)


def _decode_v2(data: bytes) -> ConfChangeV2:
    transition = 0
    changes: list[ConfChangeSingle] = []
    context = b""
    for number, value in _fields(data):
        if number == 1:
            transition = _as_number(value)
        elif number == 2:
            changes.append(_decode_single(_as_bytes(value)))
        elif number == 3:
            context = _as_bytes(value)
    return ConfChangeV2(tuple(changes), ConfChangeTransition(transition), context)


def _decode_single(data: bytes) -> ConfChangeSingle:
    kind = node = 0
    for number, value in _fields(data):
        if number == 1:
            kind = _as_number(value)
        elif number == 2:
            node = _as_number(value)
    return ConfChangeSingle(ConfChangeType(kind), node)


def _as_number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("bytes where a number belongs")
    return value


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes belong")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire_type == _BYTES:
            length, position = _varint(data, position)
        elif wire_type in (_FIXED64, _FIXED32):
            length = 8 if wire_type == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire_type}")
        if position + length > len(data):
            raise ValueError("cut short")
        yield number, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for count in range(_VARINT_BYTES_MAX):
        if position + count >= len(data):
            raise ValueError("cut short")
        byte = data[position + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, position + count + 1
    raise ValueError("a number of more than 64 bits")


def _put_varint(out: bytearray, value: int) -> None:
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _put_number(out: bytearray, number: int, value: int) -> None:
    if value:
        _put_varint(out, number << 3 | _VARINT)
        _put_varint(out, value)


def _put_bytes(out: bytearray, number: int, value: bytes) -> None:
    _put_varint(out, number << 3 | _BYTES)
    _put_varint(out, len(value))
    out += value
