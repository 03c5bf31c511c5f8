"""What the session supplies to an execution: the clock, names, user variables, by `Context.key`."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from coprocessor.convert import converter
from coprocessor.env import Env
from coprocessor.expr import Const, Expr, Param
from coprocessor.quota import Quota
from coprocessor.types import FieldType
from sqlfront.bind.literals import type_of
from sqlfront.errors import error

if TYPE_CHECKING:
    from sqlfront.session import Session

LIMIT_MAX = (1 << 64) - 1
"""What LIMIT and OFFSET count to."""

VERSION = "8.0.11-TiDB-sqlfront-0.1.0"


class StatementContext(dict[tuple[object, ...], object]):
    """Computes a value when it is first asked for; the clock stands still within one statement."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._now = time.time_ns()
        self.read: Callable[[str, object], object] = lambda name, value: value
        """What those who read a user variable get for its value."""

    def __missing__(self, key: tuple[object, ...]) -> object:
        value = self[key] = self._value(key)
        return value

    def _value(self, key: tuple[object, ...]) -> object:
        session = self._session
        match key[0]:
            case "now":
                return self._clock(session.variables.zone, int(key[1]))  # type: ignore[call-overload]
            case "sysdate":
                return _moment(self._now, session.variables.zone, int(key[1]))  # type: ignore[call-overload]
            case "unix_timestamp":
                return (session.variables.timestamp_ns or self._now) // 1_000_000_000
            case "utc_timestamp":
                return self._clock(dt.UTC, int(key[1]))  # type: ignore[call-overload]
            case "curdate":
                return self._clock(session.variables.zone, 0).date()
            case "utc_date":
                return self._clock(dt.UTC, 0).date()
            case "curtime":
                return _time_of(self._clock(session.variables.zone, int(key[1])))  # type: ignore[call-overload]
            case "utc_time":
                return _time_of(self._clock(dt.UTC, int(key[1])))  # type: ignore[call-overload]
            case "database":
                return session.current_db or None
            case "user":
                return "root@localhost"
            case "connection_id":
                return session.id
            case "last_insert_id":
                return session.last_insert_id
            case "row_count":
                return session.rows_of_last("row_count")
            case "found_rows":
                return session.rows_of_last("found_rows")
            case "group_concat_max_len":
                return min(session.variables.group_concat_max_len, (1 << 63) - 1)
            case "block_encryption_mode":
                return session.variables.get("block_encryption_mode")
            case "version":
                return VERSION
            case "tidb_version":
                return f"Release Version: {VERSION}"
            case "user_locks":
                return session.user_locks
            case "assign":
                return self.assign
            case "uservar":
                return self.read(str(key[1]), session.user_variables.get(str(key[1]), (None, None))[0])
        raise KeyError(key)

    def assign(self, name: str, value: object) -> None:
        """Gives a user variable a value, which the rest of the statement sees."""
        self["uservar", name] = self.read(name, value)
        self._session.user_variables[name] = (value, type_of(value))

    def _clock(self, zone: dt.tzinfo, fsp: int) -> dt.datetime:
        """The time of the statement: the clock's, or what SET timestamp says."""
        return _moment(self._session.variables.timestamp_ns or self._now, zone, fsp)


def read_variables_as(env: Env, types: Mapping[str, FieldType]) -> None:
    """Gives user variables one type for those who read them in an execution, whatever they are assigned."""
    assert isinstance(env.context, StatementContext)

    def read(name: str, value: object) -> object:
        wanted = types.get(name)
        if value is None or wanted is None:
            return value
        has = type_of(value)
        same = has.tp == wanted.tp or (has.is_integer and wanted.is_integer)
        return value if same else converter(has, wanted)(env, value)

    env.context.read = read


def _moment(now_ns: int, zone: dt.tzinfo, fsp: int) -> dt.datetime:
    seconds, nanos = divmod(now_ns, 1_000_000_000)
    unit = 10 ** (6 - fsp)
    micros = nanos // 1000 // unit * unit
    return dt.datetime.fromtimestamp(seconds, zone).replace(tzinfo=None, microsecond=micros)


def _time_of(now: dt.datetime) -> dt.timedelta:
    return dt.timedelta(hours=now.hour, minutes=now.minute, seconds=now.second, microseconds=now.microsecond)


@contextmanager
def storing(session: Session, *, ignore: bool = False) -> Iterator[None]:
    """While it lasts, a query that is planned or begun is one whose rows are stored."""
    session.storing = "ignore" if ignore else "strict"
    try:
        yield
    finally:
        session.storing = ""


def environment(session: Session, params: tuple[object, ...], *, writing: bool = False, ignore: bool = False) -> Env:
    """Returns the environment of one execution; IGNORE makes warnings of the errors that strict mode has."""
    variables = session.variables
    writing = writing or session.storing != ""
    ignore = ignore or session.storing == "ignore"
    return Env(
        params=params,
        context=StatementContext(session),
        tz=variables.zone,
        strict=variables.strict and not ignore,
        error_for_division_by_zero=variables.error_for_division_by_zero,
        writing=writing,
        warn=session.warn,
        remember_id=lambda value: setattr(session, "last_insert_id", value),
        pause=session.cancel.wait,
        is_interrupted=session.cancel.is_set,
        div_precision_increment=variables.div_precision_increment,
        recursion_depth_max=variables.recursion_depth_max,
        quota=Quota(variables.mem_quota, session.database.holdings, session.id),
    )


def rows_of_limit(expr: Expr, env: Env) -> int:
    """What LIMIT or OFFSET says in one execution, 0 for NULL. Raises 1210 for a parameter that is no whole number."""
    assert isinstance(expr, (Const, Param))
    value = expr.value if isinstance(expr, Const) else env.params[expr.index]
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if value is None:
        return 0
    if not isinstance(value, int) or not 0 <= value <= LIMIT_MAX:
        raise error(1210, "Incorrect arguments to LIMIT")
    return value
