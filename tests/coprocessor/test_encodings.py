"""Answers' encodings against naive twins, value by value, and vectors laid out by hand."""

from __future__ import annotations

import contextlib
import datetime as dt
import struct
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coprocessor.arrow import batch_to_rows, rows_to_batch
from coprocessor.codec import json_binary
from coprocessor.codec.datum import encode_datum
from coprocessor.codec.temporal import to_utc
from coprocessor.dag.chunk import can_chunk, decode_chunk, encode_chunk
from coprocessor.dag.datum_columns import Unusual, decode_chunks
from coprocessor.dag.datum_rows import decode_batch, decode_rows, encode_rows
from coprocessor.errors import CodecError
from coprocessor.types import FieldType, Tp, decimal_type, varchar
from tests.codec.samples import ELEMS, TYPES, values_of

CHUNKED = {name: type_ for name, type_ in TYPES.items() if type_.tp != Tp.SET}


def _core_time(value: Any, type_: FieldType) -> int:
    clock = 0
    if isinstance(value, dt.datetime):
        clock = value.hour << 36 | value.minute << 30 | value.second << 24 | value.microsecond << 4
    tag = 14 if type_.tp == Tp.DATE else max(type_.decimal, 0) << 1 | (type_.tp == Tp.TIMESTAMP)
    return value.year << 50 | value.month << 46 | value.day << 41 | clock | tag


def _my_decimal(value: Decimal, type_: FieldType) -> bytes:
    prec, scale = type_.flen, type_.decimal
    sign, digits, _ = value.as_tuple()
    text = "".join(map(str, digits)).zfill(prec)
    whole, fraction = (text[: len(text) - scale], text[len(text) - scale :]) if scale else (text, "")
    groups = [whole[max(0, end - 9) : end] for end in range(len(whole), 0, -9)][::-1]
    while groups and int(groups[0]) == 0:
        groups.pop(0)
    if not groups and not scale:
        groups = ["0"] if prec == 1 else ["0" * min(prec, 9)]
    ints = sum(map(len, groups))
    words = [int(g) for g in groups] + [int(fraction[i : i + 9].ljust(9, "0")) for i in range(0, scale, 9)]
    head = bytes((ints, scale, scale, sign if int(text) else 0))
    return head + b"".join(w.to_bytes(4, "little") for w in words).ljust(36, b"\0")


def _element(value: Any, type_: FieldType) -> bytes:
    tp = type_.tp
    if tp == Tp.FLOAT:
        return struct.pack("<f", value)
    if tp == Tp.DOUBLE:
        return struct.pack("<d", value)
    if tp == Tp.NEWDECIMAL:
        return _my_decimal(value, type_)
    if tp in (Tp.DATE, Tp.DATETIME, Tp.TIMESTAMP):
        return _core_time(value, type_).to_bytes(8, "little")
    if tp == Tp.DURATION:
        return (value // dt.timedelta(microseconds=1) * 1000).to_bytes(8, "little", signed=True)
    if tp == Tp.ENUM:
        return (ELEMS.index(value) + 1 if value else 0).to_bytes(8, "little") + value.encode()
    if tp == Tp.BIT:
        return bytes(value.to_bytes(8, "big")[8 - -(-type_.flen // 8) :])
    if tp == Tp.JSON:
        return json_binary.encode_text(value)
    if isinstance(value, int):
        return value.to_bytes(8, "little", signed=not type_.unsigned)
    return value.encode() if isinstance(value, str) else value


def _naive_column(values: list[Any], type_: FieldType) -> bytes:
    nulls = sum(v is None for v in values)
    out = struct.pack("<II", len(values), nulls)
    if nulls:
        bits = bytearray(-(-len(values) // 8))
        for i, v in enumerate(values):
            bits[i // 8] |= (v is not None) << i % 8
        out += bytes(bits)
    parts = [None if v is None else _element(v, type_) for v in values]
    variable = type_.tp in (Tp.ENUM, Tp.BIT, Tp.JSON) or type_.is_text or type_.is_binary
    if not variable:
        width = 40 if type_.is_decimal else 4 if type_.tp == Tp.FLOAT else 8
        return out + b"".join(bytes(width) if p is None else p for p in parts)
    at = 0
    out += bytes(8)
    for p in parts:
        at += len(p or b"")
        out += struct.pack("<q", at)
    return out + b"".join(p or b"" for p in parts)


def _batch(rows: list[tuple[Any, ...]], types: list[FieldType]) -> pa.RecordBatch:
    return rows_to_batch(rows, [f"c{i}" for i in range(len(types))], types, inside=True)


@pytest.mark.parametrize("name", list(CHUNKED))
@given(data=st.data())
@settings(max_examples=40)
def test_a_chunk_column_is_laid_out_value_by_value(name: str, data: st.DataObject) -> None:
    type_ = CHUNKED[name]
    values = data.draw(st.lists(st.none() | values_of(type_), max_size=20))
    batch = _batch([(v,) for v in values], [type_])
    found = encode_chunk([batch.column(0)], [type_])
    if type_.tp != Tp.DOUBLE:  # -0.0 has a sign
        assert found == _naive_column(values, type_)
    read = decode_chunk(found, [type_], ["c0"])
    assert batch_to_rows(read, [type_]) == batch_to_rows(batch, [type_])
    if len(values) > 2:  # a slice of a larger array
        part = batch.slice(1, len(values) - 2)
        assert encode_chunk([part.column(0)], [type_]) == _naive_column(values[1:-1], type_)


@given(data=st.data())
@settings(max_examples=60)
def test_rows_of_datums(data: st.DataObject) -> None:
    types = data.draw(st.lists(st.sampled_from(list(TYPES.values())), min_size=1, max_size=6))
    zone = data.draw(st.sampled_from([dt.UTC, ZoneInfo("Europe/Berlin")]))
    row = st.tuples(*(st.none() | values_of(type_) for type_ in types))
    rows = data.draw(st.lists(row, max_size=70))
    batch = _batch(rows, types)
    shown = batch_to_rows(batch, types)

    def datum(value: Any, type_: FieldType) -> bytes:
        stored = to_utc(value, zone) if type_.tp == Tp.TIMESTAMP and value is not None else value
        return encode_datum(type_, stored)

    wanted = [b"".join(datum(v, type_) for v, type_ in zip(r, types, strict=True)) for r in shown]
    chunks = list(encode_rows(batch.columns, types, zone))
    assert chunks == [b"".join(wanted[i : i + 64]) for i in range(0, len(wanted), 64)]
    read = [r for chunk in chunks for r in decode_rows(chunk, types, zone)]
    assert [len(r) for r in read] == [len(r) for r in shown]
    if all(type_.tp not in (Tp.TIMESTAMP, Tp.FLOAT) for type_ in types):
        assert read == shown
    together = decode_chunks(chunks, types, batch.schema.names, zone)
    if all(type_.tp != Tp.FLOAT for type_ in types):
        assert batch_to_rows(together, types) == read


def test_a_chunk_by_hand() -> None:
    type_ = FieldType(Tp.LONGLONG, 20, 0)
    column = pa.array([1, None, -1], pa.int64())
    assert encode_chunk([column], [type_]).hex() == (
        "03000000010000000501000000000000000000000000000000ffffffffffffffff"
    )  # fmt: skip
    text = pa.array(["ab", "", "c"], pa.string())
    assert encode_chunk([text], [varchar(3)]).hex() == (
        "03000000000000000000000000000000020000000000000002000000000000000300000000000000616263"
    )  # fmt: skip
    number = pa.array([Decimal("-1234567890.125")], pa.decimal128(20, 3))
    words = struct.pack("<9I", 1, 234567890, 125000000, *[0] * 6)
    assert encode_chunk([number], [decimal_type(20, 3)]) == struct.pack("<II", 1, 0) + bytes((17, 3, 3, 1)) + words
    day = pa.array([dt.date(2020, 2, 29)], pa.date32())
    bits = 2020 << 50 | 2 << 46 | 29 << 41 | 0b1110
    assert encode_chunk([day], [FieldType(Tp.DATE, 10, 0)]) == struct.pack("<IIQ", 1, 0, bits)


def test_decimals_of_other_servers() -> None:
    """Leading zeros, fewer digits than the column's, hidden digits beyond it."""

    def column(*cells: tuple[int, int, int, list[int]]) -> bytes:
        body = b"".join(
            bytes((i, f, f, s)) + b"".join(w.to_bytes(4, "little") for w in words).ljust(36, b"\0")
            for i, f, s, words in cells
        )
        return struct.pack("<II", len(cells), 0) + body

    data = column((9, 2, 0, [5, 250_000_000]), (1, 0, 1, [7]), (1, 9, 0, [1, 234_500_000]), (1, 9, 1, [1, 235_000_000]))
    read = decode_chunk(data, [decimal_type(10, 2)], ["d"])
    assert read.column(0).to_pylist() == [Decimal("5.25"), Decimal("-7.00"), Decimal("1.23"), Decimal("-1.24")]


@given(st.binary(max_size=80), st.sampled_from(list(CHUNKED.values())))
def test_damaged_chunks_are_refused(data: bytes, type_: FieldType) -> None:
    with contextlib.suppress(CodecError):
        decode_chunk(data, [type_], ["c0"])


DAMAGED = st.binary(max_size=60) | st.lists(st.sampled_from([0, 2, 6, 8, 9, 10, 1, 3, 255]), max_size=40).map(bytes)


@given(DAMAGED, st.lists(st.sampled_from(list(TYPES.values())), min_size=1, max_size=3))
def test_damaged_rows_are_refused(data: bytes, types: list[FieldType]) -> None:
    with contextlib.suppress(CodecError):
        decode_batch(data, types, [f"c{i}" for i in range(len(types))], dt.UTC)
    with contextlib.suppress(CodecError, Unusual):
        decode_chunks([data, data[1:]], types, [f"c{i}" for i in range(len(types))], dt.UTC)


def test_sets_have_no_chunk() -> None:
    assert not can_chunk([TYPES["set"]])
    assert can_chunk(list(CHUNKED.values()))
