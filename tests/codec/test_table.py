"""Key ranges: what lies in them is what the bounds say, on integer handles, common handles and indexes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coprocessor.errors import CodecError
from coprocessor.schema import ColumnSchema, IndexColumn, IndexSchema, TableSchema
from coprocessor.table import TableCodec
from coprocessor.types import BIGINT, INT, varchar
from tests.codec.samples import common_table, int_table, ints

SIGNED = ints(-(1 << 63), (1 << 63) - 1)
UNSIGNED = ints(0, (1 << 64) - 1)
BOUND = st.none() | ints(-(1 << 65), 1 << 65)


def inside(value: Any, low: Any, high: Any, low_open: bool, high_open: bool) -> bool:
    above = low is None or (value > low if low_open else value >= low)
    return above and (high is None or (value < high if high_open else value <= high))


@given(st.booleans(), st.data(), BOUND, BOUND, st.booleans(), st.booleans())
def test_handle_ranges(unsigned: bool, data: st.DataObject, low: Any, high: Any, lo: bool, ho: bool) -> None:
    codec = TableCodec(int_table(unsigned=unsigned))
    near = [v for b in (low, high) if b is not None for v in (b - 1, b, b + 1)]
    domain = UNSIGNED if unsigned else SIGNED
    least, most = (0, (1 << 64) - 1) if unsigned else (-(1 << 63), (1 << 63) - 1)
    handles = [*data.draw(st.lists(domain)), *(v for v in near if least <= v <= most)]
    ranges = codec.handle_range(low, high, lo, ho)
    found = [h for start, end in ranges for h in sorted(set(handles)) if start <= codec.record_key(h) < end]
    assert found == [h for h in sorted(set(handles)) if inside(h, low, high, lo, ho)]


def _taken_for_one_key(start: bytes, end: bytes) -> bool:
    """Whether TiKV takes a range of a table scan with int handles for a get of its start: the end is its successor."""
    bumped = int.from_bytes(start, "big") + 1
    return len(start) == len(end) and bumped == int.from_bytes(end, "big")


@pytest.mark.parametrize("table_id", [1, 255, 2**40 - 1])
def test_all_records_are_no_single_key_to_tikv(table_id: int) -> None:
    codec = TableCodec(replace(int_table(), table_id=table_id))
    start, end = codec.record_range
    assert not _taken_for_one_key(start, end)
    assert _taken_for_one_key(codec.record_prefix, end)
    assert start <= codec.record_key(-(2**63)) <= codec.record_key(2**63 - 1) < end
    key = codec.record_key(7)
    assert _taken_for_one_key(key, codec.record_key(8))


def test_unsigned_handles_read_back() -> None:
    codec = TableCodec(int_table(unsigned=True))
    row = ((1 << 64) - 1, 1, "x")
    key, value = codec.encode_record(row)
    assert codec.decode(key, value) == row
    assert codec.handle_of_key(key) == -1
    assert codec.decode(-1, value) == row


INDEX = IndexSchema(1, "i", (IndexColumn(1), IndexColumn(2)), unique=False)
PREFIX = IndexSchema(2, "p", (IndexColumn(2, 3),), unique=False)
CODEC = TableCodec(int_table(indexes=(INDEX, PREFIX)))
SMALL = st.none() | st.integers(-3, 3)
WORDS = st.text("ab ", max_size=5)


@given(
    st.lists(st.tuples(SMALL, st.none() | WORDS)),
    SMALL,
    st.integers(-(1 << 64), 1 << 64) | SMALL,
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_index_ranges_on_the_first_column(rows: Any, low: Any, high: Any, lo: bool, ho: bool, not_null: bool) -> None:
    start, end = CODEC.index_range(INDEX, (), low, high, lo, ho, not_null=not_null)
    for k, s in rows:
        key = CODEC.index_key_value(INDEX, (1, k, s), 1)[0]
        bounded = low is not None or high is not None or not_null
        wanted = not bounded if k is None else inside(k, low, high, lo, ho)
        assert (start <= key < end) is wanted


@given(st.lists(st.tuples(SMALL, st.none() | WORDS)), SMALL, st.none() | WORDS, st.none() | WORDS, st.booleans())
def test_index_ranges_behind_a_prefix(rows: Any, first: Any, low: Any, high: Any, is_open: bool) -> None:
    start, end = CODEC.index_range(INDEX, (first,), low, high, is_open, is_open)
    least, most = (v if v is None else v.rstrip(" ") for v in (low, high))
    for k, s in rows:
        key = CODEC.index_key_value(INDEX, (1, k, s), 1)[0]
        bounded = low is not None or high is not None
        wanted = k == first and (not bounded if s is None else inside(s.rstrip(" "), least, most, is_open, is_open))
        assert (start <= key < end) is wanted


@given(WORDS, st.none() | WORDS, st.none() | WORDS, st.booleans(), st.booleans())
def test_ranges_on_a_prefix_index_miss_nothing(value: str, low: Any, high: Any, lo: bool, ho: bool) -> None:
    start, end = CODEC.index_range(PREFIX, (), low, high, lo, ho)
    key = CODEC.index_key_value(PREFIX, (1, 2, value), 1)[0]
    least, most = (v if v is None else v.rstrip(" ") for v in (low, high))
    if inside(value.rstrip(" "), least, most, lo, ho):
        assert start <= key < end


@given(st.lists(st.tuples(st.integers(-3, 3), WORDS)), st.integers(-3, 3), WORDS, WORDS, st.booleans())
def test_common_handle_ranges(rows: Any, first: int, low: str, high: str, is_open: bool) -> None:
    codec = TableCodec(common_table(INT, varchar(9)))
    start, end = codec.common_handle_range((first,), low, high, is_open, is_open)
    for k, s in rows:
        key = codec.record_key(codec.common_handle((k, s)))
        bounds = (low.rstrip(" "), high.rstrip(" "), is_open, is_open)
        assert (start <= key < end) is (k == first and inside(s.rstrip(" "), *bounds))


def test_ranges_beyond_the_type_are_empty_or_open() -> None:
    start, end = CODEC.index_range(INDEX, (1 << 70,))
    assert start >= end
    start, end = CODEC.index_range(INDEX, (), 1 << 70)
    assert start >= end
    assert CODEC.index_range(INDEX, (), None, 1 << 70) == CODEC.index_range(INDEX, (), not_null=True)


def test_unique_key() -> None:
    index = IndexSchema(1, "u", (IndexColumn(1), IndexColumn(2)), unique=True)
    codec = TableCodec(int_table(indexes=(index,)))
    key, value, distinct = codec.index_key_value(index, (5, 1, "a"), 5)
    assert (codec.unique_key(index, (1, "a  ")), distinct) == (key, True)
    assert codec.handle_from_index(index, key, value) == 5
    assert codec.unique_key(index, (None, "a")) is None


def test_index_tells_its_columns() -> None:
    index = IndexSchema(1, "i", (IndexColumn(1), IndexColumn(2)), unique=False)
    codec = TableCodec(int_table(indexes=(index,)))
    key, _, _ = codec.index_key_value(index, (5, -7, "ab "), 5)
    assert codec.index_values(index, key) == (-7, "ab")
    assert codec.index_covers(index) == {0, 1}


def test_hidden_handles_are_given() -> None:
    codec = TableCodec(TableSchema(9, "h", (ColumnSchema(1, "a", BIGINT),)))
    assert codec.decode(3, codec.encode_record((1,), 3)[1]) == (1,)
    with pytest.raises(CodecError, match="hidden row ids"):
        codec.encode_record((1,))


def test_key_of_another_table_is_refused() -> None:
    other = TableCodec(TableSchema(9, "h", (ColumnSchema(1, "a", BIGINT),)))
    with pytest.raises(CodecError):
        CODEC.handle_of_key(other.record_key(1))
