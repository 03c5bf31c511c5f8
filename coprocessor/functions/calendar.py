"""Calendar arithmetic on Python values: months, weeks, day numbers, INTERVAL amounts. No SQL types, no NULLs."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

D = TypeVar("D", date, datetime)

DAY0 = 365  # MySQL's day number of 0001-01-01 is 366, Python's ordinal is 1
SIMPLE_UNITS = {
    "microsecond": timedelta(microseconds=1), "second": timedelta(seconds=1), "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1),
}  # fmt: skip
MONTH_UNITS = {"month": 1, "quarter": 3, "year": 12}
COMPOUND_UNITS = {
    "year_month": ("year", "month"),
    "day_hour": ("day", "hour"),
    "day_minute": ("day", "hour", "minute"),
    "day_second": ("day", "hour", "minute", "second"),
    "day_microsecond": ("day", "hour", "minute", "second", "microsecond"),
    "hour_minute": ("hour", "minute"),
    "hour_second": ("hour", "minute", "second"),
    "hour_microsecond": ("hour", "minute", "second", "microsecond"),
    "minute_second": ("minute", "second"),
    "minute_microsecond": ("minute", "second", "microsecond"),
    "second_microsecond": ("second", "microsecond"),
}
UNITS = frozenset({*SIMPLE_UNITS, *MONTH_UNITS, *COMPOUND_UNITS})
DATE_UNITS = frozenset({"day", "week", "month", "quarter", "year", "year_month"})
Interval = tuple[int, timedelta]


def add_months(v: D, months: int) -> D:
    """Adds months, the day cut to the length of the month; raises ValueError out of the years 1 to 9999."""
    index = v.year * 12 + v.month - 1 + months
    year, month = index // 12, index % 12 + 1
    if not 1 <= year <= 9999:
        raise ValueError("year out of range")
    return v.replace(year=year, month=month, day=min(v.day, month_days(year, month)))


def month_days(year: int, month: int) -> int:
    """Returns the number of days in a month."""
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def interval_of(amount: int | Decimal | float | str, unit: str) -> Interval:
    """Returns the (months, time) that an INTERVAL amount of a unit is."""
    if unit in COMPOUND_UNITS:
        return _compound(str(amount), COMPOUND_UNITS[unit])
    if unit in MONTH_UNITS:
        return int(amount) * MONTH_UNITS[unit], timedelta()
    if unit == "second" and not isinstance(amount, int):
        return 0, timedelta(microseconds=int((Decimal(str(amount)) * 1_000_000).to_integral_value()))
    return 0, int(amount) * SIMPLE_UNITS[unit]


def _compound(text: str, parts: tuple[str, ...]) -> Interval:
    """Reads 'D H:M:S.f' and the like: any punctuation, missing parts are the leftmost, and microseconds are a
    fraction's digits.
    """
    sign = -1 if text.lstrip().startswith("-") else 1
    groups = re.findall(r"\d+", text)[: len(parts)]
    if groups and parts[-1] == "microsecond":
        groups[-1] = groups[-1].ljust(6, "0")
    months, delta = 0, timedelta()
    for part, digits in zip(reversed(parts), reversed(groups), strict=False):
        if part in MONTH_UNITS:
            months += int(digits) * MONTH_UNITS[part]
        else:
            delta += int(digits) * SIMPLE_UNITS[part]
    return sign * months, sign * delta


def day_number(v: date) -> int:
    """TO_DAYS: days since the year 0."""
    return v.toordinal() + DAY0


def from_day_number(n: int) -> date | None:
    """FROM_DAYS; None out of the calendar."""
    try:
        return date.fromordinal(n - DAY0)
    except (ValueError, OverflowError):
        return None


def week(v: date, mode: int) -> tuple[int, int]:
    """Returns MySQL's (year, week) of a date for WEEK's mode 0 to 7 (bit 0 Monday first, 1 week 1-53, 2 first
    weekday).
    """
    monday_first, year_week, first_weekday = bool(mode & 1), bool(mode & 2), bool(mode & 4)
    if not monday_first:
        first_weekday = not first_weekday
    day = v.toordinal()
    first = date(v.year, 1, 1).toordinal()
    weekday = _weekday(first, not monday_first)
    year = v.year
    days_in_year = 366 if month_days(year, 2) == 29 else 365
    if v.month == 1 and v.day <= 7 - weekday:
        if not year_week and ((first_weekday and weekday != 0) or (not first_weekday and weekday >= 4)):
            return year, 0
        year_week = True
        year -= 1
        days = 366 if year > 0 and month_days(year, 2) == 29 else 365
        first -= days
        weekday = (weekday + 53 * 7 - days) % 7
        days_in_year = days
    if (first_weekday and weekday != 0) or (not first_weekday and weekday >= 4):
        passed = day - (first + (7 - weekday))
    else:
        passed = day - (first - weekday)
    if year_week and passed >= 52 * 7:
        weekday = (weekday + days_in_year) % 7
        if (not first_weekday and weekday < 4) or (first_weekday and weekday == 0):
            return year + 1, 1
    return year, passed // 7 + 1


def _weekday(ordinal: int, sunday_first: bool) -> int:
    return (ordinal + 6 + (1 if sunday_first else 0)) % 7


def month_difference(a: datetime, b: datetime) -> int:
    """Returns the whole months from a to b."""
    if b < a:
        return -month_difference(b, a)
    months = (b.year - a.year) * 12 + b.month - a.month
    if (b.day, b.time()) < (a.day, a.time()):
        months -= 1
    return months


def period_months(period: int) -> int:
    """Returns the months of a YYMM or YYYYMM period since the year 0."""
    year, month = divmod(period, 100)
    if year < 70:
        year += 2000
    elif year < 100:
        year += 1900
    return year * 12 + month - 1
