"""Parsing and printing of numbers, dates and times as MySQL writes them; no types, no warnings, only text and
values.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal

_NUMBER = re.compile(r"[ \t\n\r\f\v]*([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)")
_INTEGER = re.compile(r"[ \t\n\r\f\v]*([-+]?[0-9]+)")
_DATE_AND_CLOCK = (
    r"^\s*(\d{1,4})[^\w\s](\d{1,2})[^\w\s](\d{1,2})"
    r"(?:(?:[ \t]+|T|:)(\d{1,2})(?:[^\w\s](\d{1,2})(?:[^\w\s](\d{1,2})(?:\.(\d*))?)?)?)?"
)
_DATE_PARTS = re.compile(_DATE_AND_CLOCK + r"\s*(Z|[+-]\d{2}:\d{2})?\s*$")
_DATE_PREFIX = re.compile(_DATE_AND_CLOCK)
_COMPACT_PREFIX = re.compile(r"^\s*(\d{14}|\d{12}|\d{8}|\d{6})(?!\d)")
_COMPACT = re.compile(r"^\s*(\d{14}|\d{5,12})(?:\.(\d*))?\s*$")
_COMPACT_T = re.compile(r"^\s*(\d{8}|\d{6})T(\d{6})(?:\.(\d*))?\s*$")
_CLOCK = re.compile(r"^\s*(-)?(?:(\d+)[ \t]+)?(\d+)(?::(\d{1,2})(?::(\d{1,2}))?)?(?:\.(\d*))?\s*$")

MAX_DURATION = timedelta(hours=838, minutes=59, seconds=59)
_EXP_LIMIT = 400


def number_prefix(text: str, *, integer: bool = False) -> tuple[Decimal, bool]:
    """Returns the number that `text` starts with (0 if none) and whether the text is nothing else but blanks."""
    found = (_INTEGER if integer else _NUMBER).match(text)
    if found is None:
        return Decimal(0), False
    digits = found.group(1)
    mantissa, _, exponent = digits.lower().partition("e")
    if exponent and abs(int(exponent)) > _EXP_LIMIT:
        digits = f"{mantissa}e{_EXP_LIMIT if int(exponent) > 0 else -_EXP_LIMIT}"
    return Decimal(digits), not text[found.end() :].strip()


def float_prefix(text: str) -> tuple[float, bool]:
    """As number_prefix, in double precision."""
    found = _NUMBER.match(text)
    if found is None:
        return 0.0, False
    return float(found.group(1)), not text[found.end() :].strip()


def exact_number(text: str) -> Decimal | None:
    """Returns the number that the whole text is, without exponent and with at most 65 digits; else None."""
    found = _NUMBER.fullmatch(text.rstrip())
    if found is None or "e" in text.lower() or len(found.group(1)) > 64:
        return None
    return Decimal(found.group(1))


def float_to_str(v: float, *, single: bool = False) -> str:
    """Prints a double in the shortest form that reads back: plain between 1e-15 and 1e15, else with an exponent."""
    if single:
        import numpy as np

        text = str(np.float32(v))
    else:
        text = repr(v)
    if v == 0:
        return "0" if text[0] != "-" else "-0"
    if 1e-15 <= abs(v) < 1e15:
        if "e" in text:
            text = format(Decimal(text), "f")
        return text[:-2] if text.endswith(".0") else text
    if "e" not in text:
        text = format(Decimal(text).normalize(), "e")
    mantissa, _, exponent = text.partition("e")
    mantissa = mantissa[:-2] if mantissa.endswith(".0") else mantissa
    return f"{mantissa}e{int(exponent)}"


def format_datetime(v: datetime, fsp: int = 0) -> str:
    """YYYY-MM-DD hh:mm:ss[.ffffff] with `fsp` digits."""
    base = f"{v.year:04d}-{v.month:02d}-{v.day:02d} {v.hour:02d}:{v.minute:02d}:{v.second:02d}"
    return f"{base}.{v.microsecond:06d}"[: 20 + fsp] if fsp else base


def format_duration(v: timedelta, fsp: int = 0) -> str:
    """[-]hh:mm:ss[.ffffff] with `fsp` digits; hours may have three digits."""
    micros = v // timedelta(microseconds=1)
    sign = "-" if micros < 0 else ""
    seconds, frac = divmod(abs(micros), 1_000_000)
    text = f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{text}.{frac:06d}"[: len(text) + 1 + fsp] if fsp else text


def round_datetime(v: datetime, fsp: int) -> datetime:
    """Rounds half up to `fsp` fractional digits."""
    if fsp >= 6 or not v.microsecond:
        return v
    step = 10 ** (6 - fsp)
    down = v.microsecond // step * step
    rounded = v.replace(microsecond=down)
    if v.microsecond - down < (step + 1) // 2:
        return rounded
    try:
        return rounded + timedelta(microseconds=step)
    except OverflowError:
        return rounded


def round_duration(v: timedelta, fsp: int) -> timedelta:
    """Rounds half away from zero to `fsp` fractional digits."""
    if fsp >= 6 or not v.microseconds:
        return v
    micros = v // timedelta(microseconds=1)
    step = 10 ** (6 - fsp)
    rounded = (abs(micros) + step // 2) // step * step
    return timedelta(microseconds=rounded if micros >= 0 else -rounded)


def full_year(year: int) -> int:
    """Two-digit years: 70-99 are 1970-1999, 00-69 are 2000-2069."""
    return year + (2000 if year < 70 else 1900)


def _make(y: int, mo: int, d: int, h: int, mi: int, s: int, frac: str) -> datetime | None:
    try:
        base = datetime(y, mo, d, h, mi, s)
        return base + timedelta(microseconds=micros_of(frac)) if frac else base
    except (ValueError, OverflowError):
        return None


def micros_of(frac: str) -> int:
    """Returns the microseconds of the digits after the point, rounded half up."""
    return int(Decimal(f"0.{frac or 0}").scaleb(6).to_integral_value(ROUND_HALF_UP))


def parse_datetime(text: str) -> datetime | None:
    """Reads a date or date with time in MySQL's relaxed forms; None if it is neither or does not exist."""
    m = _DATE_PARTS.match(text)
    if m is not None:
        ys, mo, d, h, mi, s, frac, zone = m.groups()
        year = full_year(int(ys)) if len(ys) <= 2 else int(ys)
        dt = _make(year, int(mo), int(d), int(h or 0), int(mi or 0), int(s or 0), frac or "")
        return dt if dt is None or zone is None else _at_zone(dt, zone)
    m = _COMPACT_T.match(text)
    if m is not None:
        return _compact(m.group(1) + m.group(2), m.group(3) or "")
    m = _COMPACT.match(text)
    if m is None:
        return None
    return _compact(m.group(1), m.group(2) or "")


def datetime_prefix(text: str) -> datetime | None:
    """Reads the date, or date with time, that a text begins with; None if it begins with none."""
    m = _DATE_PREFIX.match(text)
    if m is not None:
        return parse_datetime(m.group())
    m = _COMPACT_PREFIX.match(text)
    return None if m is None else parse_datetime(m.group())


def has_clock(text: str) -> bool:
    """Whether a text that begins with a date has a time of day behind it."""
    m = _DATE_PREFIX.match(text)
    return ":" in text or len(text.strip()) > 10 if m is None else m[4] is not None


def _at_zone(dt: datetime, zone: str) -> datetime:
    """Reads an explicit offset; values are kept in UTC terms, the session's zone is the caller's."""
    if zone == "Z":
        return dt
    sign = 1 if zone[0] == "+" else -1
    offset = timezone(sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6])))
    return dt.replace(tzinfo=offset).astimezone(UTC).replace(tzinfo=None)


def _compact(digits: str, frac: str) -> datetime | None:
    """Digits alone: a year of four with 8 or 14 of them, else of two, then pairs. A point before the seconds is one of
    the marks that may stand between the parts: 970101.1205 is five past noon.
    """
    wide = 4 if len(digits) in (8, 14) else 2
    year = int(digits[:wide]) if wide == 4 else full_year(int(digits[:wide]))
    parts = [digits[i : i + 2] for i in range(wide, len(digits), 2)]
    if len(parts) < 5:
        parts += [frac[i : i + 2] for i in range(0, len(frac), 2)][: 5 - len(parts)]
        frac = ""
    month, day, hour, minute, second = (int(part) for part in (*parts, "0", "0", "0")[:5])
    return _make(year, month, day, hour, minute, second, frac)


def int_to_datetime(n: int) -> datetime | None:
    """Reads YYMMDD, YYYYMMDD, YYMMDDhhmmss or YYYYMMDDhhmmss as a number."""
    if n < 101:
        return None
    text = str(n)
    if len(text) <= 6:
        text = text.zfill(6)
    elif len(text) == 7:
        text = text.zfill(8)
    elif 9 <= len(text) <= 12:
        text = text.zfill(12)
    elif len(text) == 13:
        text = text.zfill(14)
    return _compact(text, "") if len(text) in (6, 8, 12, 14) else None


def parse_duration(text: str) -> timedelta | None:
    """Reads '[-][D ]hh[:mm[:ss]][.f]', 'hhmmss[.f]' or a datetime's time of day; None if it is none of them."""
    m = _CLOCK.match(text)
    if m is None:
        dt = parse_datetime(text)
        if dt is None:
            return None
        return timedelta(hours=dt.hour, minutes=dt.minute, seconds=dt.second, microseconds=dt.microsecond)
    sign, days, first, minutes, seconds, frac = m.groups()
    if minutes is None and days is None:
        if len(first) in (12, 14):
            dt = parse_datetime(text)
            if dt is not None:
                return timedelta(hours=dt.hour, minutes=dt.minute, seconds=dt.second, microseconds=dt.microsecond)
        hour, minute, second = int(first) // 10000, int(first) // 100 % 100, int(first) % 100
    else:
        hour, minute, second = int(first), int(minutes or 0), int(seconds or 0)
    if minute > 59 or second > 59:
        return None
    return _duration(sign is not None, int(days or 0) * 24 + hour, minute, second, micros_of(frac or ""))


def _duration(negative: bool, hours: int, minutes: int, seconds: int, micros: int) -> timedelta:
    if hours > 10_000_000:
        hours = 10_000_000
    td = timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=micros)
    return -td if negative else td


def int_to_duration(n: Decimal) -> timedelta | None:
    """Reads hhmmss[.f] as a number."""
    negative, n = n < 0, abs(n)
    whole = int(n)
    micros = int(((n - whole) * 1_000_000).to_integral_value(ROUND_HALF_UP))
    if whole > 8385959:
        dt = int_to_datetime(whole) if whole >= 10_000_000_000 else None
        if dt is None:
            return -MAX_DURATION - timedelta(seconds=1) if negative else MAX_DURATION + timedelta(seconds=1)
        return timedelta(hours=dt.hour, minutes=dt.minute, seconds=dt.second, microseconds=micros)
    hours, minutes, seconds = whole // 10000, whole // 100 % 100, whole % 100
    if minutes > 59 or seconds > 59:
        return None
    return _duration(negative, hours, minutes, seconds, micros)
