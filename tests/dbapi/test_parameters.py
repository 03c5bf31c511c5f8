"""What may be bound, and what it becomes."""

import datetime as dt
import enum
import math
import uuid
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sqlfront
from sqlfront.parameters import check, check_rows

BERLIN = dt.timezone(dt.timedelta(hours=2))


def zone():
    return BERLIN


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


class Name(str):
    __slots__ = ()


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.integers(-(2**63), 2**64 - 1),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(),
            st.binary(),
            st.dates(),
            st.datetimes(),
            st.timedeltas(),
            st.decimals(allow_nan=False, allow_infinity=False),
        )
    )
)
def test_plain_values_pass_unchanged(values):
    found = check(tuple(values), zone)
    assert list(found) == values
    assert [type(v) for v in found] == [type(v) for v in values]


def test_nothing_is_built_for_plain_values():
    params = (1, "a", b"b", 1.5, None, dt.date(2024, 1, 1), dt.datetime(2024, 1, 1), dt.timedelta(1))
    assert check(params, zone) is params


MOMENT = dt.datetime(2024, 2, 29, 10, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("given_value", "bound"),
    [
        (True, 1),
        (False, 0),
        (Level.HIGH, 3),
        (Name("x"), "x"),
        (bytearray(b"x"), b"x"),
        (memoryview(b"x"), b"x"),
        (2**64, Decimal(2**64)),
        (-(2**63) - 1, Decimal(-(2**63) - 1)),
        (MOMENT, dt.datetime(2024, 2, 29, 12, 0)),
        (dt.time(1, 2, 3, 4), dt.timedelta(hours=1, minutes=2, seconds=3, microseconds=4)),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (np.int8(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.float32(1.5), 1.5),
        (np.float64(1.5), 1.5),
        (np.bool_(True), 1),
        (np.str_("x"), "x"),
        (np.bytes_(b"x"), b"x"),
        (np.datetime64("2024-02-29"), dt.date(2024, 2, 29)),
        (np.datetime64("2024-02-29T10:00:00.123456789"), dt.datetime(2024, 2, 29, 10, 0, 0, 123456)),
        (np.datetime64("NaT"), None),
        (np.timedelta64(90, "m"), dt.timedelta(minutes=90)),
    ],
)
def test_near_types_are_made_plain(given_value, bound):
    (found,) = check((given_value,), zone)
    assert found == bound
    assert type(found) is type(bound)


def test_pandas_scalars():
    pd = pytest.importorskip("pandas")
    values = (pd.Timestamp("2024-02-29 10:00:00.5"), pd.NaT, pd.NA, pd.Timedelta(minutes=3))
    found = check(values, zone)
    assert found == (dt.datetime(2024, 2, 29, 10, 0, 0, 500000), None, None, dt.timedelta(minutes=3))
    assert type(found[0]) is dt.datetime
    assert type(found[3]) is dt.timedelta


@pytest.mark.parametrize(
    "value",
    [
        object(),
        [1],
        {"a": 1},
        {1},
        1j,
        math.nan,
        math.inf,
        Decimal("NaN"),
        Decimal("-Infinity"),
        np.float64("nan"),
        np.array([1, 2]),
        dt.time(1, tzinfo=dt.UTC),
        Color.RED,
    ],
)
def test_refused_values_tell_their_place(value):
    with pytest.raises(sqlfront.InterfaceError, match="parameter 2"):
        check((1, value), zone)
    with pytest.raises(sqlfront.InterfaceError, match="parameter who"):
        check({"who": value}, zone)


def test_shapes():
    assert check([1, True], zone) == (1, 1)
    assert check({"a": True}, zone) == {"a": 1}
    assert check(range(3), zone) == (0, 1, 2)
    for wrong in ("abc", b"abc", {1, 2}, 5, {1: 2}):
        with pytest.raises(sqlfront.InterfaceError):
            check(wrong, zone)
    with pytest.raises(sqlfront.InterfaceError, match="row 3: parameter 1"):
        list(check_rows([(1,), (2,), (object(),)], zone))
