"""Dates and times to and from text and Unix time, and time zones."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from coprocessor.convert import complain, quantize
from coprocessor.convert_text import full_year
from coprocessor.env import Env
from coprocessor.expr import Call, Const, Context, Expr
from coprocessor.functions import calendar
from coprocessor.functions.registry import DuckPrinter, Function, Inferred, Kernel, add
from coprocessor.functions.temporal import as_clock, as_time, datetime_type, duration_type, string_fsp
from coprocessor.types import BIGINT, DATE, DATETIME6, TEXT, FieldType, Tp, decimal_type, varchar

SUBJECT = "date and time"
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip


def _ordinal(n: int) -> str:
    suffix = "th" if 10 <= n % 100 <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"


def _hour12(v: datetime) -> int:
    return v.hour % 12 or 12


_FORMATS: dict[str, Callable[[datetime], str]] = {
    "a": lambda v: _DAYS[v.weekday()][:3],
    "b": lambda v: _MONTHS[v.month - 1][:3],
    "c": lambda v: str(v.month),
    "D": lambda v: _ordinal(v.day),
    "d": lambda v: f"{v.day:02d}",
    "e": lambda v: str(v.day),
    "f": lambda v: f"{v.microsecond:06d}",
    "H": lambda v: f"{v.hour:02d}",
    "h": lambda v: f"{_hour12(v):02d}",
    "I": lambda v: f"{_hour12(v):02d}",
    "i": lambda v: f"{v.minute:02d}",
    "j": lambda v: f"{v.timetuple().tm_yday:03d}",
    "k": lambda v: str(v.hour),
    "l": lambda v: str(_hour12(v)),
    "M": lambda v: _MONTHS[v.month - 1],
    "m": lambda v: f"{v.month:02d}",
    "p": lambda v: "AM" if v.hour < 12 else "PM",
    "r": lambda v: f"{_hour12(v):02d}:{v.minute:02d}:{v.second:02d} {'AM' if v.hour < 12 else 'PM'}",
    "S": lambda v: f"{v.second:02d}",
    "s": lambda v: f"{v.second:02d}",
    "T": lambda v: f"{v.hour:02d}:{v.minute:02d}:{v.second:02d}",
    "U": lambda v: f"{calendar.week(v, 0)[1]:02d}",
    "u": lambda v: f"{calendar.week(v, 1)[1]:02d}",
    "V": lambda v: f"{calendar.week(v, 2)[1]:02d}",
    "v": lambda v: f"{calendar.week(v, 3)[1]:02d}",
    "W": lambda v: _DAYS[v.weekday()],
    "w": lambda v: str(v.isoweekday() % 7),
    "X": lambda v: f"{calendar.week(v, 2)[0]:04d}",
    "x": lambda v: f"{calendar.week(v, 3)[0]:04d}",
    "Y": lambda v: f"{v.year:04d}",
    "y": lambda v: f"{v.year % 100:02d}",
}


def format_date(v: datetime, fmt: str) -> str:
    """DATE_FORMAT."""
    out: list[str] = []
    i = 0
    while i < len(fmt):
        c = fmt[i]
        if c == "%" and i + 1 < len(fmt):
            i += 1
            form = _FORMATS.get(fmt[i])
            out.append(fmt[i] if form is None else form(v))
        else:
            out.append(c)
        i += 1
    return "".join(out)


def _date_format(v: date, fmt: str) -> str | None:
    if not fmt:
        return None
    return format_date(v if isinstance(v, datetime) else datetime(v.year, v.month, v.day), fmt)


_STRFTIME = {
    "a": "%a", "b": "%b", "d": "%d", "H": "%H", "I": "%I", "h": "%I", "i": "%M", "j": "%j", "M": "%B", "m": "%m",
    "p": "%p", "S": "%S", "s": "%S", "T": "%H:%M:%S", "W": "%A", "w": "%w", "y": "%y", "f": "%f", "%": "%%",
}  # fmt: skip


def _date_format_duck(p: DuckPrinter, call: Call) -> str | None:
    """strftime for formats of plain specifiers; a four-digit year is padded apart, DuckDB's is not."""
    v, fmt = call.args
    if not isinstance(fmt, Const) or not isinstance(fmt.value, str) or not fmt.value:
        return None
    pieces: list[str] = []
    run = ""
    for spec in re.findall(r"%.|[^%]+|%$", fmt.value, re.DOTALL):
        if spec[0] != "%" or spec == "%":
            run += spec.replace("%", "%%")
        elif spec == "%Y":
            pieces += [run, "Y"]
            run = ""
        elif spec[1] in _STRFTIME:
            run += _STRFTIME[spec[1]]
        else:
            return None
    pieces.append(run)
    text = p.value(v)
    parts = []
    for i, piece in enumerate(pieces):
        if i % 2:
            parts.append(f"lpad(CAST(year({text}) AS VARCHAR), 4, '0')")
        elif piece:
            parts.append(f"strftime({text}, {p.string(piece)})")
    return "(" + " || ".join(parts) + ")"


add(Function("date_format", 2, 2, lambda args: ((as_time(args[0]), TEXT), TEXT), SUBJECT, py=_date_format,
             duck=_date_format_duck, tipb="DateFormatSig"))  # fmt: skip


def _time_format(v: Any, fmt: str) -> str | None:
    if not fmt:
        return None
    if not isinstance(v, timedelta):
        return format_date(v, fmt) if isinstance(v, datetime) else format_date(datetime(1, 1, 1), fmt)
    micros = abs(v // timedelta(microseconds=1))
    hours = micros // 3_600_000_000
    clock = datetime(1, 1, 1) + timedelta(microseconds=micros % 86_400_000_000)
    sign = "-" if v < timedelta() else ""
    wide = (
        fmt.replace("%H", f"{sign}{hours:02d}")
        .replace("%k", f"{sign}{hours}")
        .replace("%T", f"{sign}{hours:02d}:%i:%S")
    )
    return format_date(clock, wide)


add(Function("time_format", 2, 2, lambda args: ((as_clock(args[0]), TEXT), TEXT), SUBJECT, py=_time_format,
             tipb="TimeFormat"))  # fmt: skip


# --- str_to_date --------------------------------------------------------------------------------------------------

_NUMERIC = {
    "c": ("month", 2), "d": ("day", 2), "e": ("day", 2), "f": ("micro", 6), "H": ("hour", 2), "h": ("hour12", 2),
    "I": ("hour12", 2), "i": ("minute", 2), "j": ("yday", 3), "k": ("hour", 2), "l": ("hour12", 2), "m": ("month", 2),
    "S": ("second", 2), "s": ("second", 2), "Y": ("year", 4), "y": ("year2", 2), "w": ("weekday", 1),
    "U": ("week_U", 2), "u": ("week_u", 2), "V": ("week_V", 2), "v": ("week_v", 2),
    "X": ("year_X", 4), "x": ("year_x", 4),
}  # fmt: skip
_EXPANDED = {"r": "%I:%i:%S %p", "T": "%H:%i:%S"}
_DATE_SPECS, _TIME_SPECS = set("cdejmYyMbDUuVvXxWaw"), set("fHhIiklprSsT")


def _str_to_date_type(args: Sequence[Expr]) -> FieldType:
    fmt = args[1].value if isinstance(args[1], Const) else None
    if not isinstance(fmt, str):
        return DATETIME6
    specs = set(re.findall(r"%(.)", fmt))
    if not specs & _TIME_SPECS:
        return DATE
    frac = 6 if "f" in specs else 0
    return datetime_type(frac) if specs & _DATE_SPECS else duration_type(frac)


def parse_by_format(text: str, fmt: str) -> dict[str, int] | None:
    """Reads text by a DATE_FORMAT format, as much of that as there is text; None where it does not match."""
    for spec, expansion in _EXPANDED.items():
        fmt = fmt.replace(f"%{spec}", expansion)
    out: dict[str, int] = {}
    i = 0
    tokens = re.findall(r"%.|\s+|[^%\s]", fmt, re.DOTALL)
    for token in tokens:
        while i < len(text) and text[i].isspace():
            i += 1
        if i == len(text):
            break
        if token.isspace():
            continue
        if token[0] != "%":
            if text[i] != token:
                return None
            i += 1
            continue
        end = _read_spec(token[1], text, i, out)
        if end is None:
            return None
        i = end
    return out


def _read_spec(spec: str, text: str, i: int, out: dict[str, int]) -> int | None:
    """Reads one specifier at position i into `out`; returns the position after it, None where it does not match."""
    if spec in _NUMERIC:
        field, width = _NUMERIC[spec]
        m = re.compile(rf"\d{{1,{width}}}").match(text, i)
        if m is None:
            return None
        digits = m.group()
        out[field] = int(digits.ljust(6, "0")) if field == "micro" else int(digits)
        if spec == "Y" and len(digits) <= 2:
            out[field] = full_year(int(digits))
        return m.end()
    if spec in "MbWa":
        return _read_name(spec, text, i, out)
    if spec == "p":
        half = text[i : i + 2].upper()
        if half not in ("AM", "PM") or "hour12" not in out:
            return None
        out["pm"] = int(half == "PM")
        return i + 2
    if spec == "D":
        m = re.compile(r"(\d{1,2})(?:st|nd|rd|th)", re.IGNORECASE).match(text, i)
        if m is None:
            return None
        out["day"] = int(m.group(1))
        return m.end()
    if spec == "%":
        return i + 1 if text[i : i + 1] == "%" else None
    return None


def _read_name(spec: str, text: str, i: int, out: dict[str, int]) -> int | None:
    names = _MONTHS if spec in "Mb" else _DAYS
    for n, name in enumerate(names, 1):
        word = name if spec in "MW" else name[:3]
        if text[i : i + len(word)].lower() == word.lower():
            out["month" if spec in "Mb" else "weekday"] = n
            return i + len(word)
    return None


def _assemble(f: dict[str, int]) -> tuple[date | None, timedelta] | None:
    hour = f.get("hour", 0)
    if "hour12" in f:
        if not 1 <= f["hour12"] <= 12:
            return None
        hour = f["hour12"] % 12 + 12 * f.get("pm", 0)
    if hour > 23 or f.get("minute", 0) > 59 or f.get("second", 0) > 59:
        return None
    clock = timedelta(
        hours=hour, minutes=f.get("minute", 0), seconds=f.get("second", 0), microseconds=f.get("micro", 0)
    )
    year = full_year(f["year2"]) if "year2" in f else f.get("year")
    if year is None and "month" not in f and "day" not in f and "year_X" not in f and "year_x" not in f:
        return None, clock
    try:
        if "yday" in f and year is not None:
            return date(year, 1, 1) + timedelta(days=f["yday"] - 1), clock
        if f.get("weekday") is not None and any(f"week_{spec}" in f for spec in "UuVv"):
            return _day_of_week(f, year), clock
        return date(year or 0, f.get("month", 0), f.get("day", 0)), clock
    except (ValueError, OverflowError):
        return None


def _day_of_week(f: dict[str, int], year: int | None) -> date:
    """The day of a week of a year: %V goes with %X, %v with %x, %U and %u with %Y. Raises ValueError for others.

    Weeks begin on Sunday (%U, %V) or on Monday; the first is the one with that day, or with most of
    its days in the year.
    """
    spec = next(spec for spec in "UuVv" if f"week_{spec}" in f)
    week, weekday = f[f"week_{spec}"], f["weekday"] or 7
    other = {"year_X", "year_x"} & f.keys()
    named = {"V": "year_X", "v": "year_x"}.get(spec)
    if week > 53 or weekday > 7 or (named and (not week or other != {named})) or (not named and other):
        raise ValueError(f)
    first = date(f[named] if named else year or 0, 1, 1)
    if spec in "UV":
        start = -first.isoweekday() % 7
        return first + timedelta(days=start + (week - 1) * 7 + weekday % 7)
    start = (0 if first.weekday() <= 3 else 7) - first.weekday()
    return first + timedelta(days=start + (week - 1) * 7 + weekday - 1)


def _str_to_date_kernel(call: Call) -> Kernel:
    tp = call.type.tp

    def str_to_date(env: Env, text: str, fmt: str) -> Any:
        fields = parse_by_format(text, fmt)
        made = None if fields is None else _assemble(fields)
        if made is None or (tp != Tp.DURATION and made[0] is None):
            complain(env, 1411, f"Incorrect datetime value: '{text}' for function str_to_date")
            return None
        day, clock = made
        if tp == Tp.DURATION:
            return clock
        assert day is not None
        return day if tp == Tp.DATE else datetime(day.year, day.month, day.day) + clock

    return str_to_date


add(Function("str_to_date", 2, 2, lambda args: ((TEXT, TEXT), _str_to_date_type(args)), SUBJECT,
             kernel=_str_to_date_kernel, env=True, tipb="StrToDateDatetime"))  # fmt: skip


# --- Unix time and zones ------------------------------------------------------------------------------------------

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)
_MAX_UNIX = 32536771199


def _unix_infer(args: Sequence[Expr]) -> Inferred:
    frac = string_fsp(args[0])
    return (datetime_type(frac),), decimal_type(12 + frac, frac) if frac else BIGINT


def _unix_rewrite(args: Sequence[Expr]) -> Expr:
    if not args:
        return Context(("unix_timestamp",), BIGINT)
    types, result = _unix_infer(args)
    from coprocessor.functions.casting import cast_to

    assert types[0] is not None
    return Call("unix_timestamp_of", (cast_to(args[0], types[0]),), result)


def _unix_kernel(call: Call) -> Kernel:
    frac = max(call.type.decimal, 0) if call.type.is_decimal else 0

    def unix(env: Env, v: datetime) -> int | Decimal:
        micros = (v.replace(tzinfo=env.tz) - _EPOCH) // _MICRO
        if not 0 <= micros <= _MAX_UNIX * 1_000_000:
            return quantize(Decimal(0), frac) if frac else 0
        return quantize(Decimal(micros).scaleb(-6), frac) if frac else micros // 1_000_000

    return unix


add(Function("unix_timestamp", 0, 1, lambda args: ((None,), BIGINT), SUBJECT, rewrite=_unix_rewrite))
add(Function("unix_timestamp_of", 1, 1, _unix_infer, SUBJECT, kernel=_unix_kernel, env=True, tipb="UnixTimestampInt",
             syntax="UNIX_TIMESTAMP(d)"))  # fmt: skip


def _from_unix_infer(args: Sequence[Expr]) -> Inferred:
    frac = string_fsp(args[0])
    number = decimal_type(30, frac)
    if len(args) == 2:
        return (number, TEXT), TEXT
    return (number,), datetime_type(frac)


def _from_unix(env: Env, v: Decimal, fmt: str | None = None) -> Any:
    if not 0 <= v <= _MAX_UNIX:
        return None
    moment = (_EPOCH + timedelta(microseconds=int(v * 1_000_000))).astimezone(env.tz).replace(tzinfo=None)
    return moment if fmt is None else format_date(moment, fmt)


add(Function("from_unixtime", 1, 2, _from_unix_infer, SUBJECT, py=_from_unix, env=True, tipb="FromUnixTime1Arg"))

_OFFSET = re.compile(r"([+-])(\d{1,2}):(\d{2})")


def zone(name: str, session: tzinfo | None = None) -> tzinfo | None:
    """Returns a zone by MySQL's name: an offset, a name of the zone database, SYSTEM; None if there is none."""
    m = _OFFSET.fullmatch(name)
    if m is not None:
        sign = 1 if m.group(1) == "+" else -1
        offset = timedelta(hours=int(m.group(2)), minutes=int(m.group(3)))
        return timezone(sign * offset) if offset <= timedelta(hours=14) else None
    if name.upper() == "SYSTEM":
        return session
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def _convert_tz(env: Env, v: datetime, source: str, target: str) -> datetime | None:
    a, b = zone(source, env.tz), zone(target, env.tz)
    if a is None or b is None:
        return None
    try:
        return v.replace(tzinfo=a).astimezone(b).replace(tzinfo=None)
    except OverflowError:
        return v


def _convert_tz_infer(args: Sequence[Expr]) -> Inferred:
    frac = string_fsp(args[0])
    return (datetime_type(frac), TEXT, TEXT), datetime_type(frac)


add(Function("convert_tz", 3, 3, _convert_tz_infer, SUBJECT, py=_convert_tz, env=True, tipb="ConvertTz"))


def _get_format(kind: str, place: str) -> str | None:
    table = {
        "date": {"USA": "%m.%d.%Y", "JIS": "%Y-%m-%d", "ISO": "%Y-%m-%d", "EUR": "%d.%m.%Y", "INTERNAL": "%Y%m%d"},
        "datetime": {"USA": "%Y-%m-%d %H.%i.%s", "JIS": "%Y-%m-%d %H:%i:%s", "ISO": "%Y-%m-%d %H:%i:%s",
                     "EUR": "%Y-%m-%d %H.%i.%s", "INTERNAL": "%Y%m%d%H%i%s"},
        "time": {"USA": "%h:%i:%s %p", "JIS": "%H:%i:%s", "ISO": "%H:%i:%s", "EUR": "%H.%i.%s", "INTERNAL": "%H%i%s"},
    }  # fmt: skip
    table["timestamp"] = table["datetime"]
    return table.get(kind.lower(), {}).get(place.upper())


add(Function("get_format", 2, 2, lambda args: ((TEXT, TEXT), varchar(17)), SUBJECT, py=_get_format, tipb="GetFormat"))
