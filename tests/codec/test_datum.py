"""Datums of every type: they read back, and in keys they sort as their values do."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coprocessor.codec import temporal
from coprocessor.codec.collation import needs_restored_data, sort_key
from coprocessor.codec.datum import (
    decode_datum,
    decode_key_datum,
    encode_datum,
    key_encoder,
    skip_key_datum,
    value_decoder,
    value_encoder,
)
from coprocessor.types import FieldType, Tp
from tests.codec.samples import ELEMS, TYPES, values_of

NAMED = st.sampled_from(sorted(TYPES))


@given(st.data())
@settings(max_examples=300)
def test_values_read_back(data: st.DataObject) -> None:
    type_ = TYPES[data.draw(NAMED)]
    value = data.draw(values_of(type_))
    encoded = value_encoder(type_)(value)
    assert value_decoder(type_)(encoded) == value
    flagged = encode_datum(type_, value)
    assert decode_datum(type_, b"!" + flagged + b"rest", 1) == (value, 1 + len(flagged))


@given(st.data())
@settings(max_examples=300)
def test_keys_read_back(data: st.DataObject) -> None:
    type_ = TYPES[data.draw(NAMED)]
    value = data.draw(st.none() | values_of(type_))
    encoded = key_encoder(type_)(value)
    assert skip_key_datum(b"!" + encoded + b"rest", 1) == 1 + len(encoded)
    if not needs_restored_data(type_):
        assert decode_key_datum(type_, encoded + b"rest", 0) == (value, len(encoded))


def in_order(type_: FieldType, value: Any) -> Any:
    if type_.tp == Tp.ENUM:
        return ELEMS.index(value)
    if type_.tp == Tp.SET:
        return sum(1 << ELEMS.index(e) for e in value.split(",") if e)
    return sort_key(type_.collate)(value) if type_.is_text else value


@given(st.data())
@settings(max_examples=400)
def test_keys_sort_as_values(data: st.DataObject) -> None:
    type_ = TYPES[data.draw(st.sampled_from(sorted(set(TYPES) - {"json"})))]
    a, b = data.draw(values_of(type_)), data.draw(values_of(type_))
    encode = key_encoder(type_)
    left, right = in_order(type_, a), in_order(type_, b)
    assert (encode(a) < encode(b)) == (left < right)
    assert (encode(a) == encode(b)) == (left == right)
    assert encode(None) < encode(a)


@pytest.mark.parametrize(
    ("collate", "a", "b", "equal"),
    [
        ("utf8mb4_bin", "a", "a  ", True),
        ("utf8mb4_bin", "a", "A", False),
        ("utf8mb4_0900_bin", "a", "a  ", False),
        ("utf8mb4_general_ci", "Ärger ", "arger", True),
        ("utf8mb4_general_ci", "a", "b", False),
        ("utf8mb4_unicode_ci", "STRASSE", "strasse", True),
        ("utf8mb4_0900_ai_ci", "É", "e", True),
        ("utf8mb4_0900_ai_ci", "e", "e ", False),
    ],
)
def test_collations(collate: str, a: str, b: str, equal: bool) -> None:
    weight = sort_key(collate)
    assert (weight(a) == weight(b)) is equal


def test_prefix_cuts_characters_of_text_and_bytes_of_binary() -> None:
    assert key_encoder(TYPES["varchar"], 2)("äöü") == key_encoder(TYPES["varchar"])("äö")
    assert key_encoder(TYPES["varbinary"], 2)(b"abc") == key_encoder(TYPES["varbinary"])(b"ab")


@given(st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2037, 1, 1)))
def test_vector_zone_conversion_is_the_scalar_one(moment: dt.datetime) -> None:
    import pyarrow as pa

    for tz in (ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), dt.timezone(dt.timedelta(hours=5, minutes=30))):
        column = pa.array([moment, None], pa.timestamp("us"))
        assert temporal.vector_from_utc(column, tz).to_pylist() == [temporal.from_utc(moment, tz), None]
        assert temporal.vector_to_utc(column, tz).to_pylist() == [temporal.to_utc(moment, tz), None]


def test_a_skipped_hour_converts_the_same_both_ways() -> None:
    import pyarrow as pa

    gap, berlin = dt.datetime(2024, 3, 31, 2, 30), ZoneInfo("Europe/Berlin")
    assert temporal.vector_to_utc(pa.array([gap]), berlin).to_pylist() == [temporal.to_utc(gap, berlin)]


@given(st.lists(st.datetimes(), min_size=1, max_size=20))
def test_vector_packing_is_the_scalar_one(moments: list[dt.datetime]) -> None:
    import numpy as np

    packed = np.array([temporal.pack_datetime(m) for m in moments], np.uint64)
    micros, wrong = temporal.packed_to_micros(packed)
    assert not wrong.any()
    epoch = dt.datetime(1970, 1, 1)
    assert [epoch + dt.timedelta(microseconds=int(m)) for m in micros] == moments
    assert temporal.micros_to_packed(micros).tolist() == packed.tolist()


def test_zero_dates_read_as_null() -> None:
    import numpy as np

    assert temporal.unpack_date(0) is None
    assert temporal.unpack_datetime(((2024 * 13 + 0) << 5 | 1) << 41) is None
    days = temporal.packed_to_days(np.array([0, temporal.pack_date(dt.date(1970, 1, 2))], np.uint64))
    assert days.tolist() == [temporal.NO_DAY, 1]
