"""Time on the wire: TiDB's packed u64 for DATE, DATETIME and TIMESTAMP, nanoseconds for TIME, and zone conversion.

packed = ((year*13 + month) << 5 | day) << 17 | hour << 12 | minute << 6 | second, all << 24 | microsecond. A TIMESTAMP
is packed in UTC; codecs see naive UTC datetimes, and `to_utc` and `from_utc` convert at the edge.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from coprocessor.errors import CodecError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DATE_SHIFT = 41
NANOS_PER_MICRO = 1000
MICROS_PER_SECOND = 1_000_000
MICROS_PER_DAY = 86_400 * MICROS_PER_SECOND
CACHED_DATES_MAX = 65536

_MICRO = dt.timedelta(microseconds=1)


def pack_date(value: dt.date) -> int:
    return ((value.year * 13 + value.month) << 5 | value.day) << DATE_SHIFT


def pack_datetime(value: dt.datetime) -> int:
    return (
        (((value.year * 13 + value.month) << 5 | value.day) << 17)
        | (value.hour << 12 | value.minute << 6 | value.second)
    ) << 24 | value.microsecond


def unpack_date(packed: int) -> dt.date | None:
    """Returns the date; None for the zero date and for dates with a zero part, which Python has no value for."""
    ymd = packed >> DATE_SHIFT
    year_month = ymd >> 5
    try:
        return dt.date(year_month // 13, year_month % 13, ymd & 31)
    except ValueError:
        _check_zero_date(packed)
        return None


def unpack_datetime(packed: int) -> dt.datetime | None:
    """Returns the naive datetime; None for zero and for dates with a zero part."""
    ymdhms = packed >> 24
    ymd = ymdhms >> 17
    year_month = ymd >> 5
    try:
        return dt.datetime(
            year_month // 13,
            year_month % 13,
            ymd & 31,
            ymdhms >> 12 & 31,
            ymdhms >> 6 & 63,
            ymdhms & 63,
            packed & 0xFFFFFF,
        )
    except ValueError:
        _check_zero_date(packed)
        return None


def _check_zero_date(packed: int) -> None:
    """A date with a zero part reads as NULL; anything else that is no date is corruption."""
    ymd = packed >> DATE_SHIFT
    if (ymd >> 5) % 13 == 0 or ymd & 31 == 0 or ymd >> 5 < 13:
        return
    raise CodecError(f"packed time {packed:#x} is not a date")


def duration_nanos(value: dt.timedelta) -> int:
    return ((value.days * 86_400 + value.seconds) * MICROS_PER_SECOND + value.microseconds) * NANOS_PER_MICRO


def duration_of_nanos(nanos: int) -> dt.timedelta:
    return dt.timedelta(microseconds=nanos // NANOS_PER_MICRO)


def duration_micros(value: dt.timedelta) -> int:
    return value // _MICRO


class PackedDates(dict[bytes, "dt.date | None"]):
    """Row bytes of a DATE to the date: a table holds few distinct dates, so most look-ups hit."""

    def __missing__(self, data: bytes) -> dt.date | None:
        value = unpack_date(int.from_bytes(data, "little"))
        if len(self) >= CACHED_DATES_MAX:
            self.clear()
        self[data] = value
        return value


DATES = PackedDates()


def to_utc(value: dt.datetime, tz: dt.tzinfo | None) -> dt.datetime:
    """Converts a naive datetime in zone `tz` (None: UTC) to naive UTC.

    A time that a DST gap skips moves forward; of two that are called the same, it is the earlier (`fold` says nothing).
    """
    if tz is None or tz is dt.UTC:
        return value
    return value.replace(tzinfo=tz, fold=0).astimezone(dt.UTC).replace(tzinfo=None)


def from_utc(value: dt.datetime, tz: dt.tzinfo | None) -> dt.datetime:
    """Converts a naive UTC datetime to naive time in zone `tz` (None: UTC)."""
    if tz is None or tz is dt.UTC:
        return value
    return value.replace(tzinfo=dt.UTC).astimezone(tz).replace(tzinfo=None, fold=0)


@lru_cache(maxsize=256)
def arrow_zone(tz: dt.tzinfo) -> str | None:
    """Returns the zone's name as Arrow knows it; None for zones that must be converted value by value."""
    key = getattr(tz, "key", None)
    if isinstance(key, str):
        return key
    offset = tz.utcoffset(None)
    if offset is None or offset % dt.timedelta(minutes=1):
        return None
    minutes = offset // dt.timedelta(minutes=1)
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def vector_from_utc(column: Any, tz: dt.tzinfo | None) -> Any:
    """Converts an Arrow timestamp[us] array from naive UTC to naive time in `tz`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if tz is None or tz is dt.UTC or len(column) == column.null_count:
        return column
    zone = arrow_zone(tz)
    if zone is None:
        values = [None if v is None else from_utc(v, tz) for v in column.to_pylist()]
        return pa.array(values, pa.timestamp("us"))
    return pc.local_timestamp(column.cast(pa.timestamp("us", tz="UTC")).cast(pa.timestamp("us", tz=zone)))


def vector_to_utc(column: Any, tz: dt.tzinfo | None) -> Any:
    """Converts an Arrow timestamp[us] array from naive time in `tz` to naive UTC, as `to_utc` does value by value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if tz is None or tz is dt.UTC or len(column) == column.null_count:
        return column
    zone = arrow_zone(tz)
    if zone is not None:
        try:
            aware = pc.assume_timezone(column, zone, ambiguous="earliest", nonexistent="raise")
            return aware.cast(pa.timestamp("us", tz="UTC")).cast(pa.timestamp("us"))
        except pa.ArrowInvalid:
            # Some time falls into a DST gap: rare enough to go value by value.
            zone = None
    values = [None if v is None else to_utc(v, tz) for v in column.to_pylist()]
    return pa.array(values, pa.timestamp("us"))


def days_from_civil(
    year: npt.NDArray[np.int64], month: npt.NDArray[np.int64], day: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Days since 1970-01-01 of proleptic Gregorian dates (the well-known era algorithm)."""
    y = year - (month <= 2)
    era = y // 400
    yoe = y - era * 400
    doy = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days: npt.NDArray[np.int64] = era * 146_097 + yoe * 365 + yoe // 4 - yoe // 100 + doy - 719_468
    return days


NO_DAY = -(1 << 31)
_YEAR_MONTHS = 10_000 * 13


@lru_cache(maxsize=1)
def _month_tables() -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """By packed year*13 + month: the days before the month since the epoch, and the days in it (0: no such month)."""
    import numpy as np

    year_month = np.arange(_YEAR_MONTHS, dtype=np.int64)
    year, month = year_month // 13, year_month % 13
    last = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])[month]
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    last = np.where(year < 1, 0, last + (leap & (month == 2)))
    before = days_from_civil(year, month, np.zeros_like(year))
    return before.astype(np.int32), last.astype(np.int32)


def packed_to_days(packed: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
    """Packed times to days since the epoch; `NO_DAY` where the value is no date (zero dates)."""
    import numpy as np

    before, last = _month_tables()
    ymd = (packed >> np.uint64(DATE_SHIFT)).astype(np.int64)
    year_month = ymd >> 5
    if len(ymd) and int(year_month.max()) >= _YEAR_MONTHS:
        raise CodecError("packed time beyond the year 9999")
    day = (ymd & 31).astype(np.int32)
    days: npt.NDArray[np.int32] = before[year_month] + day
    wrong = (day == 0) | (day > last[year_month])
    if wrong.any():
        days[wrong] = NO_DAY
    return days


def packed_to_micros(packed: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Packed times to microseconds since the epoch, and which of them are no date."""
    import numpy as np

    days = packed_to_days(packed)
    signed = packed.astype(np.int64)
    seconds = (signed >> 36 & 31) * 3600 + (signed >> 30 & 63) * 60 + (signed >> 24 & 63)
    micros = days.astype(np.int64) * MICROS_PER_DAY + seconds * MICROS_PER_SECOND + (signed & 0xFFFFFF)
    return micros, days == NO_DAY


def _civil_ymd(days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Days since the epoch to packed (year*13 + month) << 5 | day."""
    import numpy as np

    shifted = days + 719_468
    era = shifted // 146_097
    doe = shifted - era * 146_097
    yoe = (doe - doe // 1460 + doe // 36_524 - doe // 146_096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    day = doy - (153 * mp + 2) // 5 + 1
    month = np.where(mp < 10, mp + 3, mp - 9)
    year = yoe + era * 400 + (month <= 2)
    ymd: npt.NDArray[np.int64] = (year * 13 + month) << 5 | day
    return ymd


def days_to_packed(days: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Days since the epoch (years 1 to 9999) to packed times."""
    import numpy as np

    if not len(days):
        return np.empty(0, np.uint64)
    first, last = int(days.min()), int(days.max())
    if last - first < len(days):
        # Few distinct days: compute each once.
        ymd = _civil_ymd(np.arange(first, last + 1, dtype=np.int64))[days - first]
    else:
        ymd = _civil_ymd(days)
    return (ymd << DATE_SHIFT).astype(np.uint64)


def micros_to_packed(micros: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Microseconds since the epoch to packed times."""
    import numpy as np

    days = micros // MICROS_PER_DAY
    rest = micros - days * MICROS_PER_DAY
    seconds = rest // MICROS_PER_SECOND
    hms = (seconds // 3600) << 12 | (seconds // 60 % 60) << 6 | seconds % 60
    return days_to_packed(days) | (hms << 24 | rest % MICROS_PER_SECOND).astype(np.uint64)
