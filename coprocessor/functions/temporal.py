"""Date and time functions: the clock, parts of dates, arithmetic with intervals, differences, day numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Any

from coprocessor.convert import (
    MAX_DURATION,
    complain,
    format_datetime,
    format_duration,
    parse_datetime,
    parse_duration,
    read_datetime,
)
from coprocessor.convert_text import has_clock
from coprocessor.env import Env
from coprocessor.errors import InvalidArgument, ResolveError
from coprocessor.expr import Call, Const, Context, Expr
from coprocessor.functions import calendar
from coprocessor.functions.casting import cast_to
from coprocessor.functions.inference import fsp, kind
from coprocessor.functions.registry import DuckPrinter, Function, Inferred, Kernel, add, fixed
from coprocessor.types import (
    BIGINT,
    DATE,
    DATETIME,
    DATETIME6,
    DURATION,
    TEXT,
    FieldType,
    Tp,
    decimal_type,
    varchar,
)

SUBJECT = "date and time"
MICROSECOND = timedelta(microseconds=1)
DURATION6 = DURATION.with_(decimal=6, flen=17)


def datetime_type(frac: int) -> FieldType:
    """Returns DATETIME(frac)."""
    return DATETIME.with_(decimal=frac, flen=19 + (frac + 1 if frac else 0))


def duration_type(frac: int) -> FieldType:
    """Returns TIME(frac)."""
    return DURATION.with_(decimal=frac, flen=10 + (frac + 1 if frac else 0))


def as_time(arg: Expr) -> FieldType | None:
    """The type of an argument that must be a date or date with time: itself, or DATETIME(6) of anything else."""
    if kind(arg.type) == "time":
        return None
    return datetime_type(fsp(arg.type)) if kind(arg.type) == "duration" else DATETIME6


def as_clock(arg: Expr) -> FieldType | None:
    """The type of an argument that has a time of day: itself, or TIME(6) of strings and numbers."""
    return None if kind(arg.type) in ("time", "duration") else DURATION6


# --- the clock ----------------------------------------------------------------------------------------------------


def _clock(key: str, make: Callable[[int], FieldType], with_fsp: bool) -> Callable[[Sequence[Expr]], Expr]:
    def rewrite(args: Sequence[Expr]) -> Expr:
        frac = 0
        if args:
            arg = args[0]
            if not isinstance(arg, Const) or not isinstance(arg.value, int) or not 0 <= arg.value <= 6:
                raise ResolveError(f"Incorrect precision specified for '{key}'; maximum is 6", code=1426)
            frac = arg.value
        return Context((key, frac) if with_fsp else (key,), make(frac))

    return rewrite


def _add_clock(name: str, key: str, make: Callable[[int], FieldType], with_fsp: bool, *aliases: str) -> None:
    add(Function(name, 0, 1 if with_fsp else 0, fixed([None], make(0)), SUBJECT,
                 rewrite=_clock(key, make, with_fsp)), *aliases)  # fmt: skip


_add_clock("now", "now", datetime_type, True, "current_timestamp", "localtime", "localtimestamp")
_add_clock("sysdate", "sysdate", datetime_type, True)
_add_clock("utc_timestamp", "utc_timestamp", datetime_type, True)
_add_clock("curdate", "curdate", lambda _: DATE, False, "current_date")
_add_clock("utc_date", "utc_date", lambda _: DATE, False)
_add_clock("curtime", "curtime", duration_type, True, "current_time")
_add_clock("utc_time", "utc_time", duration_type, True)


def context_value(key: tuple[object, ...], now: datetime, tz: tzinfo) -> object:
    """Returns the value of a clock Context at `now` (an aware datetime): the session fills its context with these."""
    name = key[0]
    frac = key[1] if len(key) > 1 and isinstance(key[1], int) else 0
    utc = name in ("utc_timestamp", "utc_date", "utc_time")
    local = now.astimezone(UTC if utc else tz).replace(tzinfo=None)
    local = local.replace(microsecond=local.microsecond // 10 ** (6 - frac) * 10 ** (6 - frac))
    match name:
        case "now" | "sysdate" | "utc_timestamp":
            return local
        case "curdate" | "utc_date":
            return local.date()
        case "curtime" | "utc_time":
            return local - datetime.combine(local.date(), time())
        case "unix_timestamp":
            return int(now.timestamp())
    raise KeyError(key)


# --- parts --------------------------------------------------------------------------------------------------------


def _part(name: str, py: Callable[[Any], Any], duck: Any, result: FieldType, *aliases: str, tipb: str = "") -> None:
    add(Function(name, 1, 1, lambda args: ((as_time(args[0]),), result), SUBJECT, py=py, duck=duck,
                 tipb=tipb or None), *aliases)  # fmt: skip


_part("year", lambda v: v.year, "year({0})", BIGINT, tipb="Year")
_part("month", lambda v: v.month, "month({0})", BIGINT, tipb="Month")
_part("dayofmonth", lambda v: v.day, "day({0})", BIGINT, "day", tipb="DayOfMonth")
_part("quarter", lambda v: (v.month + 2) // 3, "quarter({0})", BIGINT, tipb="Quarter")
_part("weekday", lambda v: v.weekday(), "(isodow({0}) - 1)", BIGINT, tipb="WeekDay")
_part("dayofweek", lambda v: v.isoweekday() % 7 + 1, "(dayofweek({0}) + 1)", BIGINT, tipb="DayOfWeek")
_part("dayofyear", lambda v: v.timetuple().tm_yday, "dayofyear({0})", BIGINT, tipb="DayOfYear")
_part("weekofyear", lambda v: v.isocalendar()[1], "weekofyear({0})", BIGINT, tipb="WeekOfYear")
_part("to_days", calendar.day_number, "(date_diff('day', DATE '0001-01-01', {0}) + 366)", BIGINT, tipb="ToDays")
_part("to_seconds", lambda v: calendar.day_number(v) * 86400 + _clock_micros(v) // 1_000_000, None, BIGINT,
      tipb="ToSeconds")  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip
_part("dayname", lambda v: _DAYS[v.weekday()], "dayname({0})", varchar(9), tipb="DayName")
_part("monthname", lambda v: _MONTHS[v.month - 1], "monthname({0})", varchar(9), tipb="MonthName")
_part("last_day", lambda v: date(v.year, v.month, calendar.month_days(v.year, v.month)), "last_day({0})", DATE,
      tipb="LastDay")  # fmt: skip


def _clock_micros(v: date | datetime | timedelta) -> int:
    """Returns the microseconds of the time of day (or of a TIME, with its sign)."""
    if isinstance(v, timedelta):
        return v // MICROSECOND
    if isinstance(v, datetime):
        return ((v.hour * 60 + v.minute) * 60 + v.second) * 1_000_000 + v.microsecond
    return 0


def _clock_part(name: str, divisor: int, modulus: int, tipb: str) -> None:
    """Defines hour, minute, second or microsecond of a time of day."""

    def py(v: Any) -> int:
        n = abs(_clock_micros(v)) // divisor
        return n % modulus if modulus else n

    def duck(p: DuckPrinter, call: Call) -> str:
        arg = call.args[0]
        text = p.value(arg)
        if arg.type.tp == Tp.DURATION:
            part = f"(abs({text}) // {divisor})"
            return f"({part} % {modulus})" if modulus else part
        if arg.type.tp == Tp.DATE:
            return f"CASE WHEN {text} IS NULL THEN NULL ELSE CAST(0 AS BIGINT) END"
        return f"({name}({text}) % 1000000)" if name == "microsecond" else f"{name}({text})"

    add(Function(name, 1, 1, lambda args: ((as_clock(args[0]),), BIGINT), SUBJECT, py=py, duck=duck, tipb=tipb))


_clock_part("hour", 3_600_000_000, 0, "Hour")
_clock_part("minute", 60_000_000, 60, "Minute")
_clock_part("second", 1_000_000, 60, "Second")
_clock_part("microsecond", 1, 1_000_000, "MicroSecond")


def _week_infer(args: Sequence[Expr]) -> Inferred:
    return (as_time(args[0]), BIGINT)[: len(args)], BIGINT


def _week(v: date, mode: int = 0) -> int:
    return calendar.week(v, mode & 7)[1]


def _yearweek(v: date, mode: int = 0) -> int:
    year, number = calendar.week(v, (mode | 2) & 7)
    return year * 100 + number


def _week_duck(p: DuckPrinter, call: Call) -> str | None:
    if len(call.args) > 1 and isinstance(call.args[1], Const) and call.args[1].value == 3:
        return f"weekofyear({p.value(call.args[0])})"
    return None


add(Function("week", 1, 2, _week_infer, SUBJECT, py=_week, duck=_week_duck, tipb="WeekWithMode"))
add(Function("yearweek", 1, 2, _week_infer, SUBJECT, py=_yearweek, tipb="YearWeekWithMode"))


# --- conversions --------------------------------------------------------------------------------------------------


def _rewrite_cast(target: Callable[[Expr], FieldType]) -> Callable[[Sequence[Expr]], Expr]:
    return lambda args: cast_to(args[0], target(args[0]))


def string_fsp(arg: Expr) -> int:
    """The fractional digits that a temporal value read from the expression has."""
    if arg.type.is_temporal:
        return fsp(arg.type)
    if isinstance(arg, Const) and isinstance(arg.value, str):
        return min(len(arg.value.rpartition(".")[2]), 6) if "." in arg.value else 0
    return 0 if arg.type.is_integer else min(max(arg.type.decimal, 0), 6) if arg.type.is_decimal else 6


add(Function("date", 1, 1, fixed([None], DATE), SUBJECT, rewrite=_rewrite_cast(lambda a: DATE)))
add(Function("time", 1, 1, fixed([None], DURATION), SUBJECT,
             rewrite=_rewrite_cast(lambda a: duration_type(string_fsp(a)))))  # fmt: skip


def _timestamp_rewrite(args: Sequence[Expr]) -> Expr:
    first = cast_to(args[0], datetime_type(string_fsp(args[0])))
    if len(args) == 1:
        return first
    return Call("addtime", (first, cast_to(args[1], duration_type(string_fsp(args[1])))),
                datetime_type(max(string_fsp(a) for a in args)))  # fmt: skip


add(Function("timestamp", 1, 2, fixed([None], DATETIME), SUBJECT, rewrite=_timestamp_rewrite))


# --- intervals ----------------------------------------------------------------------------------------------------


def unit_of(arg: Expr) -> str:
    """Returns the unit of a Const unit argument, in lower case."""
    unit = str(arg.value).lower() if isinstance(arg, Const) else ""
    unit = unit.removeprefix("sql_tsi_")
    if unit not in calendar.UNITS:
        raise ResolveError(f"unknown interval unit {unit!r}", code=1064)
    return unit


def _amount_type(arg: Expr, unit: str) -> FieldType | None:
    if unit in calendar.COMPOUND_UNITS:
        return None if arg.type.is_text else TEXT
    if unit == "second" and not arg.type.is_integer:
        return decimal_type(30, 6)
    return None if arg.type.is_integer else BIGINT


def _interval_infer(args: Sequence[Expr]) -> Inferred:
    base, amount, unit_arg = args
    unit = unit_of(unit_arg)
    ft = base.type
    frac = fsp(ft)
    if unit.endswith("microsecond"):
        frac = 6
    elif unit == "second" and not amount.type.is_integer:
        frac = max(frac, min(max(amount.type.decimal, 0), 6) if amount.type.is_decimal else 6)
    wanted: FieldType | None = None
    if ft.tp == Tp.DATE and unit in calendar.DATE_UNITS:
        result = DATE
    elif ft.tp == Tp.DURATION and unit not in calendar.DATE_UNITS:
        result = duration_type(frac)
    elif kind(ft) == "time":
        wanted, result = datetime_type(fsp(ft)), datetime_type(frac)
    elif ft.is_string:
        wanted, result = TEXT, varchar(29)
    else:
        wanted, result = DATETIME6, datetime_type(frac)
    return (wanted, _amount_type(amount, unit), None), result


def _interval_literal(name: str) -> Callable[[Sequence[Expr]], Expr]:
    def refine(args: Sequence[Expr]) -> Expr:
        types, result = _interval_infer(args)
        typed = tuple(a if t is None else cast_to(a, t) for a, t in zip(args, types, strict=True))
        return Call(name, typed, result)

    return refine


def _interval_kernel(sign: int) -> Callable[[Call], Kernel]:
    def make(call: Call) -> Kernel:
        unit = unit_of(call.args[2])
        textual = call.args[0].type.is_string
        date_unit = unit in calendar.DATE_UNITS

        def shift(env: Env, base: Any, amount: Any, _: object) -> Any:
            try:
                months, delta = calendar.interval_of(amount, unit)
            except OverflowError:
                return _overflow(env, "datetime")
            if textual:
                return _shift_text(env, base, sign * months, sign * delta, date_unit)
            if isinstance(base, timedelta):
                total = base + sign * delta
                return total if abs(total) <= MAX_DURATION else _overflow(env, "time")
            return shifted(env, base, sign * months, sign * delta)

        return shift

    return make


def _overflow(env: Env, what: str) -> None:
    complain(env, 1441, f"Datetime function: {what} field overflow")


def shifted(env: Env, base: Any, months: int, delta: timedelta) -> Any:
    """Adds months and time to a date or datetime; NULL with warning 1441 out of the calendar."""
    try:
        moved = calendar.add_months(base, months) if months else base
        return moved + delta
    except (ValueError, OverflowError):
        return _overflow(env, "datetime")


def _shift_text(env: Env, text: str, months: int, delta: timedelta, date_unit: bool) -> str | None:
    base = read_datetime(env, text)
    if base is None:
        complain(env, 1292, f"Incorrect datetime value: '{text}'")
        return None
    moved = shifted(env, base, months, delta)
    if moved is None:
        return None
    if date_unit and not has_clock(text):
        return f"{moved.year:04d}-{moved.month:02d}-{moved.day:02d}"
    return format_datetime(moved, 6 if moved.microsecond else 0)


_NATIVE_MAX = {"second": 10**9, "minute": 10**7, "hour": 10**5, "day": 10**4, "week": 10**3,
               "month": 10**3, "quarter": 300, "year": 90}  # fmt: skip


def _interval_duck(op: str) -> Callable[[DuckPrinter, Call], str | None]:
    def form(p: DuckPrinter, call: Call) -> str | None:
        base, amount, unit_arg = call.args
        unit = unit_of(unit_arg)
        if base.type.is_string or base.type.tp == Tp.DURATION or unit in calendar.COMPOUND_UNITS:
            return None
        if not amount.type.is_integer or unit == "microsecond":
            return None
        if not isinstance(amount, Const) or not isinstance(amount.value, int) or abs(amount.value) > _NATIVE_MAX[unit]:
            return None  # may leave the calendar: NULL, not an error
        text = f"({p.value(base)} {op} INTERVAL ({amount.value}) {unit.upper()})"
        native = f"CAST({text} AS DATE)" if call.type.tp == Tp.DATE else text
        edge = f"{p.value(base)} > DATE '9900-01-01' OR {p.value(base)} < DATE '0100-01-01'"
        return f"CASE WHEN {edge} THEN {p.udf(call)} ELSE {native} END"

    return form


for _name, _sign, _op in (("interval_add", 1, "+"), ("interval_sub", -1, "-")):
    add(Function(_name, 3, 3, _interval_infer, SUBJECT, kernel=_interval_kernel(_sign), env=True,
                 duck=_interval_duck(_op), syntax=f"d {_op} INTERVAL n unit"))  # fmt: skip


def _date_add(name: str) -> Callable[[Sequence[Expr]], Expr]:
    def rewrite(args: Sequence[Expr]) -> Expr:
        parts = [*args, Const("day", varchar(3))] if len(args) == 2 else args
        return _interval_literal(name)(parts)

    return rewrite


add(Function("date_add", 2, 3, _interval_infer, SUBJECT, rewrite=_date_add("interval_add")), "adddate")
add(Function("date_sub", 2, 3, _interval_infer, SUBJECT, rewrite=_date_add("interval_sub")), "subdate")
add(Function("timestampadd", 3, 3, _interval_infer, SUBJECT,
             rewrite=lambda args: _interval_literal("interval_add")((args[2], args[1], args[0]))))  # fmt: skip


# --- extract ------------------------------------------------------------------------------------------------------

_EXTRACT_FIELDS = {
    "microsecond": ("microsecond",), "second": ("second",), "minute": ("minute",), "hour": ("hour",), "day": ("day",),
    "month": ("month",), "year": ("year",), **calendar.COMPOUND_UNITS,
}  # fmt: skip
_CLOCK_FIELDS = frozenset({"hour", "minute", "second", "microsecond"})


def _extract_infer(args: Sequence[Expr]) -> Inferred:
    unit = unit_of(args[0])
    clock = set(_EXTRACT_FIELDS.get(unit, ("day",))) <= _CLOCK_FIELDS
    if unit.startswith("day_") and (args[1].type.is_text or args[1].type.tp == Tp.DURATION):
        return (None, None), BIGINT  # a day of the month or none, as the value is
    return (None, as_clock(args[1]) if clock else as_time(args[1])), BIGINT


def _field(v: Any, name: str) -> int:
    if name in _CLOCK_FIELDS:
        micros = abs(_clock_micros(v))
        match name:
            case "hour":
                return micros // 3_600_000_000
            case "minute":
                return micros // 60_000_000 % 60
            case "second":
                return micros // 1_000_000 % 60
        return micros % 1_000_000
    return int(getattr(v, name)) if not isinstance(v, timedelta) else 0


def _extract_kernel(call: Call) -> Kernel:
    unit = unit_of(call.args[0])
    if unit == "week":
        return lambda _, v: _week(v)
    if unit == "quarter":
        return lambda _, v: (v.month + 2) // 3
    fields = _EXTRACT_FIELDS[unit]

    def extract(_: object, v: Any) -> int:
        n = 0
        for name in fields:
            n = n * (1_000_000 if name == "microsecond" else 100) + _field(v, name)
        return -n if isinstance(v, timedelta) and v < timedelta() else n

    if call.args[1].type.is_text:
        return lambda _, v: None if (read := _date_or_clock(v)) is None else extract(None, read)
    return extract


def _date_or_clock(text: str) -> Any:
    """Reads what has a date as a datetime, else a TIME; None for what is neither."""
    if "-" in text.strip()[1:]:
        return parse_datetime(text)
    return parse_duration(text)


def _extract_duck(p: DuckPrinter, call: Call) -> str | None:
    unit = unit_of(call.args[0])
    arg = call.args[1]
    text = p.value(arg)
    if arg.type.tp == Tp.DURATION or arg.type.is_text:
        return None
    if unit in ("year", "month", "quarter", "day"):
        return f"{unit}({text})"
    if arg.type.tp == Tp.DATE or unit == "week":
        return None
    if unit in ("hour", "minute", "second"):
        return f"{unit}({text})"
    if unit == "year_month":
        return f"(year({text}) * 100 + month({text}))"
    return None


add(Function("extract", 2, 2, _extract_infer, SUBJECT, kernel=_extract_kernel, duck=_extract_duck,
             tipb="ExtractDatetime", syntax="EXTRACT(unit FROM d)"))  # fmt: skip


# --- differences --------------------------------------------------------------------------------------------------

add(
    Function(
        "datediff",
        2,
        2,
        lambda args: ((DATE, DATE), BIGINT),
        SUBJECT,
        py=lambda a, b: a.toordinal() - b.toordinal(),
        duck="date_diff('day', {1}, {0})",
        tipb="DateDiff",
    )
)


def _timestampdiff_kernel(call: Call) -> Kernel:
    unit = unit_of(call.args[0])
    if unit in calendar.MONTH_UNITS:
        size = calendar.MONTH_UNITS[unit]

        def months(_: object, a: datetime, b: datetime) -> int:
            n = calendar.month_difference(a, b)
            return n // size if n >= 0 else -(-n // size)

        return months
    step = calendar.SIMPLE_UNITS[unit]

    def elapsed(_: object, a: datetime, b: datetime) -> int:
        return (b - a) // step if b >= a else -((a - b) // step)

    return elapsed


def _timestampdiff_infer(args: Sequence[Expr]) -> Inferred:
    if unit_of(args[0]) in calendar.COMPOUND_UNITS:
        raise ResolveError("TIMESTAMPDIFF takes a simple unit", code=1064)
    wanted = [None if a.type.tp in (Tp.DATETIME, Tp.TIMESTAMP) else as_time(a) or DATETIME for a in args[1:]]
    return (None, *wanted), BIGINT


def _timestampdiff_duck(p: DuckPrinter, call: Call) -> str | None:
    unit = unit_of(call.args[0])
    if unit in calendar.MONTH_UNITS:
        return None
    step = calendar.SIMPLE_UNITS[unit] // MICROSECOND
    a, b = p.value(call.args[1]), p.value(call.args[2])
    return f"((epoch_us({b}) - epoch_us({a})) // {step})"


add(Function("timestampdiff", 3, 3, _timestampdiff_infer, SUBJECT, kernel=_timestampdiff_kernel,
             duck=_timestampdiff_duck, tipb="TimestampDiff", syntax="TIMESTAMPDIFF(unit, a, b)"))  # fmt: skip


def _clock_or_datetime(arg: Expr) -> FieldType | None:
    """ADDTIME's and TIMEDIFF's first argument: a string is a date with time if it reads as one, else a time."""
    ft = arg.type
    if ft.tp == Tp.DATE:
        return DATETIME
    if kind(ft) in ("time", "duration"):
        return None
    if isinstance(arg, Const) and isinstance(arg.value, str):
        frac = string_fsp(arg)
        return datetime_type(frac) if looks_like_datetime(arg.value) else duration_type(frac)
    return DURATION6


def looks_like_datetime(text: str) -> bool:
    """True for text that has a date in it (not only a time)."""
    return text.count("-") >= 2 and parse_datetime(text) is not None


def _timediff_infer(args: Sequence[Expr]) -> Inferred:
    types = [_clock_or_datetime(a) for a in args]
    frac = max(fsp(t or a.type) for t, a in zip(types, args, strict=True))
    return tuple(types), duration_type(frac)


def _timediff(env: Env, a: Any, b: Any) -> timedelta | None:
    if isinstance(a, datetime) != isinstance(b, datetime):
        return None
    return clamp_duration(env, a - b)


def clamp_duration(env: Env, v: timedelta) -> timedelta:
    """Keeps a TIME in its range, with warning 1292."""
    if abs(v) <= MAX_DURATION:
        return v
    complain(env, 1292, f"Truncated incorrect time value: '{format_duration(v)}'")
    return MAX_DURATION if v > timedelta() else -MAX_DURATION


add(Function("timediff", 2, 2, _timediff_infer, SUBJECT, py=_timediff, env=True))


def _addtime_infer(args: Sequence[Expr]) -> Inferred:
    first = _clock_or_datetime(args[0])
    second = None if kind(args[1].type) == "duration" else duration_type(string_fsp(args[1]))
    if args[0].type.is_string and not isinstance(args[0], Const):
        return (TEXT, second), varchar(29)
    base = first or args[0].type
    frac = max(fsp(base), fsp(second or args[1].type))
    return (first, second), duration_type(frac) if base.tp == Tp.DURATION else datetime_type(frac)


def _addtime(sign: int) -> Callable[..., Any]:
    def add_time(env: Env, a: Any, b: timedelta) -> Any:
        if isinstance(a, str):
            return _addtime_text(env, a, sign * b)
        if isinstance(a, timedelta):
            return clamp_duration(env, a + sign * b)
        return shifted(env, a, 0, sign * b)

    return add_time


def _addtime_text(env: Env, text: str, delta: timedelta) -> str | None:
    if looks_like_datetime(text):
        dt = parse_datetime(text)
        moved = None if dt is None else shifted(env, dt, 0, delta)
        return None if moved is None else format_datetime(moved, 6 if moved.microsecond else 0)
    td = parse_duration(text)
    if td is None:
        return None
    total = clamp_duration(env, td + delta)
    return format_duration(total, 6 if total.microseconds else 0)


add(Function("addtime", 2, 2, _addtime_infer, SUBJECT, py=_addtime(1), env=True))
add(Function("subtime", 2, 2, _addtime_infer, SUBJECT, py=_addtime(-1), env=True))


# --- numbers ------------------------------------------------------------------------------------------------------

add(Function("from_days", 1, 1, fixed([BIGINT], DATE), SUBJECT, py=calendar.from_day_number, tipb="FromDays"))


def _makedate(year: int, day: int) -> date | None:
    if day < 1 or not 0 <= year <= 9999:
        return None
    year = year + (2000 if year < 70 else 1900) if year < 100 else year
    try:
        return date(year, 1, 1) + timedelta(days=day - 1)
    except (OverflowError, ValueError):
        return None


def _maketime_infer(args: Sequence[Expr]) -> Inferred:
    frac = 0 if args[2].type.is_integer else 6 if not args[2].type.is_decimal else min(args[2].type.decimal, 6)
    return (BIGINT, BIGINT, decimal_type(30, frac)), duration_type(frac)


def _maketime(env: Env, hour: int, minute: int, second: Decimal) -> timedelta | None:
    if not 0 <= minute < 60 or not 0 <= second < 60:
        return None
    hours = min(abs(hour), 1000)
    td = timedelta(hours=hours, minutes=minute, microseconds=int(second * 1_000_000))
    return clamp_duration(env, -td if hour < 0 else td)


def _sec_to_time_infer(args: Sequence[Expr]) -> Inferred:
    frac = string_fsp(args[0])
    return (decimal_type(40, frac),), duration_type(frac)


def _sec_to_time(env: Env, v: Decimal) -> timedelta:
    if abs(v) > 100_000_000:
        v = Decimal(100_000_000).copy_sign(v)
    return clamp_duration(env, timedelta(microseconds=int(v * 1_000_000)))


def _time_to_sec(v: Any) -> int:
    micros = _clock_micros(v)
    return micros // 1_000_000 if micros >= 0 else -(-micros // 1_000_000)


def _time_to_sec_duck(p: DuckPrinter, call: Call) -> str | None:
    if call.args[0].type.tp == Tp.DURATION:
        return f"({p.value(call.args[0])} // 1000000)"
    return None


def _months_of(period: int, name: str) -> int:
    if not (0 < period < 1_000_000 and 1 <= period % 100 <= 12):
        raise InvalidArgument(f"Incorrect arguments to {name}")
    return calendar.period_months(period)


def _period_add(period: int, months: int) -> int:
    total = _months_of(period, "period_add") + months
    if not 0 <= total < 120_000_000:
        raise InvalidArgument("Incorrect arguments to period_add")
    return total // 12 * 100 + total % 12 + 1


add(Function("makedate", 2, 2, fixed([BIGINT], DATE), SUBJECT, py=_makedate, tipb="MakeDate"))
add(Function("maketime", 3, 3, _maketime_infer, SUBJECT, py=_maketime, env=True, tipb="MakeTime"))
add(Function("sec_to_time", 1, 1, _sec_to_time_infer, SUBJECT, py=_sec_to_time, env=True, tipb="SecToTime"))
add(Function("time_to_sec", 1, 1, lambda args: ((as_clock(args[0]),), BIGINT), SUBJECT, py=_time_to_sec,
             duck=_time_to_sec_duck, tipb="TimeToSec"))  # fmt: skip
add(Function("period_add", 2, 2, fixed([BIGINT], BIGINT), SUBJECT, py=_period_add, tipb="PeriodAdd"))
add(
    Function(
        "period_diff",
        2,
        2,
        fixed([BIGINT], BIGINT),
        SUBJECT,
        py=lambda a, b: _months_of(a, "period_diff") - _months_of(b, "period_diff"),
        tipb="PeriodDiff",
    )
)

__all__ = ["as_time", "context_value", "datetime_type", "duration_type"]
