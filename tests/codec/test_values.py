"""MySQL's assignment conversion: what is stored, what is refused with which code and words, and what is clipped."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coprocessor.codec.vector_encode import BatchEncoder
from coprocessor.errors import CoprocessorError, InvalidArgument
from coprocessor.schema import ColumnSchema, TableSchema
from coprocessor.table import TableCodec
from coprocessor.types import BIGINT, FieldType, Tp, decimal_type, varchar
from coprocessor.values import cast_for_column, compile_caster
from tests.codec.samples import BINARY, TYPES, char, values_of

DATETIME = TYPES["datetime"]
MOMENT = dt.datetime(2013, 1, 1, 10, 0, 0)


def column(type_: FieldType) -> ColumnSchema:
    return ColumnSchema(1, "x", type_)


@given(st.data())
@settings(max_examples=200)
def test_what_is_right_stays(data: st.DataObject) -> None:
    type_ = TYPES[data.draw(st.sampled_from(sorted(TYPES)))]
    value = data.draw(st.none() | values_of(type_))
    stored = compile_caster(column(type_))(value)
    assert stored == value
    assert type(stored) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("int", True, 1),
        ("int", "12", 12),
        ("int", " -7 ", -7),
        ("int", 2.5, 2),
        ("int", Decimal("2.5"), 3),
        ("int", Decimal("-2.5"), -3),
        ("int", "1e2", 100),
        ("int", np.int64(5), 5),
        ("bigint", MOMENT, 20130101100000),
        ("bigint", dt.date(2013, 1, 1), 20130101),
        ("bigint", dt.timedelta(hours=1, seconds=2), 10002),
        ("year", 13, 2013),
        ("year", "70", 1970),
        ("year", "0", 2000),
        ("year", 0, 0),
        ("bit", b"\x01\x00", 256),
        ("dec15_2", "1.005", Decimal("1.01")),
        ("dec15_2", -1, Decimal("-1.00")),
        ("dec15_2", 0.1, Decimal("0.10")),
        ("dec15_2", Decimal("-0.001"), Decimal("0.00")),
        ("double", "1.5", 1.5),
        ("double", Decimal("0.1"), 0.1),
        ("float", 0.1, 0.10000000149011612),
        ("varchar", 5, "5"),
        ("varchar", 1.0, "1"),
        ("varchar", Decimal("1.50"), "1.50"),
        ("varchar", b"abc", "abc"),
        ("varchar", MOMENT, "2013-01-01 10:00:00"),
        ("varchar", "x" * 40 + "   ", "x" * 40),
        ("char", "ab  ", "ab"),
        ("blob", "äö", "äö".encode()),
        ("date", "2013-1-1", dt.date(2013, 1, 1)),
        ("date", "20130101", dt.date(2013, 1, 1)),
        ("date", 20130101, dt.date(2013, 1, 1)),
        ("date", MOMENT, dt.date(2013, 1, 1)),
        ("datetime", "2013-01-01T10:00:00", MOMENT),
        ("datetime", "2013-01-01 10:00", MOMENT),
        ("datetime", "13-1-1 10.00.00", MOMENT),
        ("datetime", 20130101100000, MOMENT),
        ("datetime", dt.date(2013, 1, 1), dt.datetime(2013, 1, 1)),
        ("datetime", "2013-01-01 09:59:59.5", MOMENT),
        ("datetime6", "2013-01-01 10:00:00.123456", MOMENT.replace(microsecond=123456)),
        ("time", "10:00:01", dt.timedelta(hours=10, seconds=1)),
        ("time", "-1 10:00:00", -dt.timedelta(hours=34)),
        ("time", 100001, dt.timedelta(hours=10, seconds=1)),
        ("time", dt.time(1, 2, 3), dt.timedelta(hours=1, minutes=2, seconds=3)),
        ("enum", "green ", "green"),
        ("enum", 2, "green"),
        ("set", "blue,red,blue", "red,blue"),
        ("set", 5, "red,blue"),
        ("set", "", ""),
        ("json", '{"b":1,"a":[1,2]}', '{"a": [1, 2], "b": 1}'),
        ("json", {"b": 1}, '{"b": 1}'),
        ("json", Decimal("1.5"), "1.5"),
    ],
)
def test_stored(name: str, value: Any, stored: Any) -> None:
    found = cast_for_column(value, column(TYPES[name]))
    assert found == stored
    assert type(found) is type(stored)


REFUSED = [
    (TYPES["tiny"], 128, 1264, "Out of range value for column 'x' at row 1", 127),
    (TYPES["utiny"], -1, 1264, "Out of range value for column 'x' at row 1", 0),
    (BIGINT, 1 << 63, 1264, "Out of range value for column 'x' at row 1", (1 << 63) - 1),
    (BIGINT, float("inf"), 1264, "Out of range value for column 'x' at row 1", (1 << 63) - 1),
    (BIGINT, "abc", 1366, "Incorrect integer value: 'abc' for column 'x' at row 1", 0),
    (BIGINT, "", 1366, "Incorrect integer value: '' for column 'x' at row 1", 0),
    (BIGINT, "12abc", 1265, "Data truncated for column 'x' at row 1", 12),
    (TYPES["year"], 2200, 1264, "Out of range value for column 'x' at row 1", 0),
    (FieldType(Tp.BIT, 4), 16, 1406, "Data too long for column 'x' at row 1", 15),
    (decimal_type(3, 1), "100", 1264, "Out of range value for column 'x' at row 1", Decimal("99.9")),
    (decimal_type(3, 1), Decimal("-1e400"), 1264, "Out of range value for column 'x' at row 1", Decimal("-99.9")),
    (decimal_type(3, 1), "abc", 1366, "Incorrect decimal value: 'abc' for column 'x' at row 1", Decimal("0.0")),
    (decimal_type(3, 1, unsigned=True), -1, 1264, "Out of range value for column 'x' at row 1", Decimal("0.0")),
    (TYPES["float"], 1e39, 1264, "Out of range value for column 'x' at row 1", 3.4028234663852886e38),
    (TYPES["double"], float("nan"), 1264, "Out of range value for column 'x' at row 1", 0.0),
    (varchar(3), "abcd", 1406, "Data too long for column 'x' at row 1", "abc"),
    (varchar(3), b"a\xff", 1366, "Incorrect string value: '\\xFF' for column 'x' at row 1", "a"),
    (FieldType(Tp.VARCHAR, 2, **BINARY), b"abc", 1406, "Data too long for column 'x' at row 1", b"ab"),
    (FieldType(Tp.TINY_BLOB, charset="utf8mb4"), "ä" * 128, 1406, "Data too long for column 'x' at row 1", "ä" * 127),
    (TYPES["date"], "2013-02-30", 1292, "Incorrect date value: '2013-02-30' for column 'x' at row 1", None),
    (TYPES["date"], "0000-00-00", 1292, "Incorrect date value: '0000-00-00' for column 'x' at row 1", None),
    (DATETIME, "never", 1292, "Incorrect datetime value: 'never' for column 'x' at row 1", None),
    (DATETIME, 0, 1292, "Incorrect datetime value: '0' for column 'x' at row 1", None),
    (TYPES["timestamp"], "1969-01-01", 1292, "Incorrect datetime value: '1969-01-01' for column 'x' at row 1", None),
    (TYPES["time"], "900:00:00", 1292, "Incorrect time value: '900:00:00' for column 'x' at row 1",
     dt.timedelta(hours=838, minutes=59, seconds=59)),
    (TYPES["enum"], "pink", 1265, "Data truncated for column 'x' at row 1", ""),
    (TYPES["enum"], 9, 1265, "Data truncated for column 'x' at row 1", ""),
    (TYPES["set"], "red,pink", 1265, "Data truncated for column 'x' at row 1", ""),
]  # fmt: skip


@pytest.mark.parametrize(("type_", "value", "code", "message", "clipped"), REFUSED)
def test_refused_in_strict_mode_clipped_otherwise(
    type_: FieldType, value: Any, code: int, message: str, clipped: Any
) -> None:
    with pytest.raises(CoprocessorError) as error:
        cast_for_column(value, column(type_))
    assert (error.value.code, str(error.value)) == (code, message)
    warnings: list[tuple[int, str]] = []
    stored = cast_for_column(value, column(type_), strict=False, warn=lambda c, m: warnings.append((c, m)))
    assert stored == clipped
    # What is too long is only truncated where it is not refused.
    assert warnings[0][0] == (1265 if code == 1406 else code)


def test_the_row_is_named() -> None:
    with pytest.raises(CoprocessorError, match="at row 7"):
        compile_caster(column(BIGINT))("abc", 7)


def test_aware_datetimes_come_to_the_session_zone() -> None:
    aware = dt.datetime(2024, 6, 1, 12, tzinfo=dt.UTC)
    assert cast_for_column(aware, column(DATETIME), tz=ZoneInfo("Europe/Berlin")) == dt.datetime(2024, 6, 1, 14)
    assert cast_for_column(aware, column(DATETIME)) == dt.datetime(2024, 6, 1, 12)


def test_fixed_binary_is_padded() -> None:
    assert cast_for_column(b"ab", column(FieldType(Tp.STRING, 4, **BINARY))) == b"ab\x00\x00"


def test_text_that_is_no_json() -> None:
    with pytest.raises(InvalidArgument) as error:
        cast_for_column("{", column(TYPES["json"]))
    assert error.value.code == 3140


def test_what_cannot_be_stored_is_named() -> None:
    with pytest.raises(InvalidArgument, match="cannot store a Python object into column 'x'"):
        cast_for_column(object(), column(BIGINT))


# In bulk


def load(type_: FieldType, source: pa.Array, *, not_null: bool = False, tz: Any = None) -> list[Any]:
    schema = TableSchema(1, "t", (ColumnSchema(1, "x", type_, not_null),))
    codec = TableCodec(schema)
    encoded = BatchEncoder(codec, tz).encode(pa.table({"x": source}), np.arange(len(source)), first_row=10)
    return [codec.decoder(tz=tz)(i, row)[0] for i, row in enumerate(encoded.values)]


@pytest.mark.parametrize(
    ("type_", "source", "stored"),
    [
        (TYPES["tiny"], pa.array([1, None, -128], pa.int64()), [1, None, -128]),
        (TYPES["tiny"], pa.array([True, False]), [1, 0]),
        (TYPES["int"], pa.array(["1", "2"]), [1, 2]),
        (TYPES["int"], pa.array(["1", "2"]).dictionary_encode(), [1, 2]),
        (TYPES["int"], pa.array([1.5, 2.5]), [2, 2]),
        (TYPES["dec15_2"], pa.array([Decimal("1.005"), Decimal("-1.005")]), [Decimal("1.01"), Decimal("-1.01")]),
        (TYPES["dec15_2"], pa.array([1, 2], pa.uint64()), [Decimal("1.00"), Decimal("2.00")]),
        (TYPES["dec15_2"], pa.array([0.1]), [Decimal("0.10")]),
        (TYPES["dec65_30"], pa.array([Decimal("1.5")]), [Decimal("1.5")]),
        (TYPES["double"], pa.array([1, 2], pa.int32()), [1.0, 2.0]),
        (TYPES["float"], pa.array([0.1]), [0.10000000149011612]),
        (TYPES["varchar"], pa.array(["ä"], pa.large_string()), ["ä"]),
        (TYPES["varchar"], pa.array([1]), ["1"]),
        (TYPES["char"], pa.array(["a  "]), ["a"]),
        (TYPES["blob"], pa.array(["a"]), [b"a"]),
        (FieldType(Tp.STRING, 3, **BINARY), pa.array([b"a"]), [b"a\x00\x00"]),
        (TYPES["date"], pa.array(["2024-1-2"]), [dt.date(2024, 1, 2)]),
        (TYPES["date"], pa.array([dt.date(2024, 1, 2)]), [dt.date(2024, 1, 2)]),
        (TYPES["date"], pa.array([MOMENT]), [MOMENT.date()]),
        (TYPES["datetime"], pa.array([MOMENT], pa.timestamp("ns")), [MOMENT]),
        (TYPES["datetime"], pa.array([MOMENT.replace(microsecond=500000)]), [MOMENT.replace(second=1)]),
        (TYPES["datetime"], pa.array([dt.date(2024, 1, 2)]), [dt.datetime(2024, 1, 2)]),
        (TYPES["time"], pa.array([dt.timedelta(seconds=-1)]), [dt.timedelta(seconds=-1)]),
        (TYPES["time"], pa.array([dt.time(1)]), [dt.timedelta(hours=1)]),
        (FieldType(Tp.DURATION, 10, 0), pa.array([dt.timedelta(seconds=-1.5)]), [dt.timedelta(seconds=-2)]),
        (TYPES["enum"], pa.array(["red", None, "blue"]), ["red", None, "blue"]),
        (TYPES["set"], pa.array(["blue,red"]), ["red,blue"]),
        (TYPES["json"], pa.array(['{"a":1}']), ['{"a": 1}']),
        (TYPES["year"], pa.array([2024], pa.int64()), [2024]),
        (TYPES["int"], pa.nulls(2), [None, None]),
    ],
)
def test_bulk_stores_as_insert_does(type_: FieldType, source: pa.Array, stored: list[Any]) -> None:
    assert load(type_, source) == stored


def test_bulk_timestamps_and_zones() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    naive = pa.array([dt.datetime(2024, 3, 31, 2, 30), dt.datetime(2024, 6, 1)])
    assert load(TYPES["timestamp"], naive, tz=berlin) == [dt.datetime(2024, 3, 31, 3, 30), dt.datetime(2024, 6, 1)]
    aware = pa.array([dt.datetime(2024, 6, 1, tzinfo=dt.UTC)])
    assert load(TYPES["timestamp"], aware, tz=berlin) == [dt.datetime(2024, 6, 1, 2)]
    assert load(TYPES["datetime"], aware, tz=berlin) == [dt.datetime(2024, 6, 1, 2)]


@pytest.mark.parametrize(
    ("type_", "source", "code", "message"),
    [
        (TYPES["tiny"], pa.array([1, 300]), 1264, "Out of range value for column 'x' at row 11"),
        (decimal_type(3, 1), pa.array([Decimal("99.96")]), 1264, "Out of range value for column 'x' at row 10"),
        (varchar(2), pa.array(["ab", "abc"]), 1406, "Data too long for column 'x' at row 11"),
        (char(2), pa.array(["ab  ", "äöü"]), 1406, "Data too long for column 'x' at row 11"),
        (TYPES["double"], pa.array([1.0, float("nan")]), 1264, "Out of range value for column 'x' at row 11"),
        (TYPES["enum"], pa.array(["pink"]), 1265, "Data truncated for column 'x' at row 10"),
        (TYPES["date"], pa.array(["x"]), 1292, "Incorrect date value: 'x' for column 'x' at row 10"),
        (TYPES["timestamp"], pa.array([dt.datetime(1960, 1, 1)]), 1292,
         "Incorrect datetime value: '1960-01-01 00:00:00' for column 'x' at row 10"),
    ],
)  # fmt: skip
def test_bulk_refuses_as_insert_does(type_: FieldType, source: pa.Array, code: int, message: str) -> None:
    with pytest.raises(CoprocessorError) as error:
        load(type_, source)
    assert (error.value.code, str(error.value)) == (code, message)


def test_bulk_refuses_null() -> None:
    with pytest.raises(InvalidArgument) as error:
        load(BIGINT, pa.array([1, None]), not_null=True)
    assert (error.value.code, str(error.value)) == (1048, "Column 'x' cannot be null")
