"""Statement parameters: what a caller may pass, made into the row path's Python values.

Parameters stay typed values from here to the store; none is ever formatted into a statement's text. Values of the
plain types pass as they are; subclasses, numpy and pandas scalars are made plain; the rest is refused with its place.
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlfront.errors import InterfaceError

INT_MIN = -(1 << 63)
INT_MAX = (1 << 64) - 1

_PLAIN = frozenset({str, bytes, dt.date, dt.timedelta, type(None)})
Params = Sequence[object] | Mapping[str, object]


Zone = Callable[[], dt.tzinfo | None]


def check(params: Params, zone: Zone) -> Params:
    """Returns the parameters with every value plain; the same object when all already are.

    `zone` gives the session's time zone, into which aware datetimes are taken. Raises InterfaceError.
    """
    value: Any
    if type(params) is tuple or type(params) is list:
        for value in params:
            kind = type(value)
            if kind is int:
                if INT_MIN <= value <= INT_MAX:
                    continue
            elif (
                kind in _PLAIN
                or (kind is float and value - value == 0.0)
                or (kind is dt.datetime and value.tzinfo is None)
            ):
                continue
            return tuple([plain(v, i, zone) for i, v in enumerate(params, 1)])
        return params
    if isinstance(params, Mapping):
        return {_name(k): plain(v, k, zone) for k, v in params.items()}
    if isinstance(params, Sequence) and not isinstance(params, str | bytes | bytearray | memoryview):
        return tuple([plain(v, i, zone) for i, v in enumerate(params, 1)])
    raise InterfaceError(f"parameters must be a sequence or a mapping, not {type(params).__name__}")


def check_rows(rows: Iterable[Params], zone: Zone) -> Iterator[Params]:
    """Checks each row of parameters as it passes; an error tells the row, counted from 1."""
    for number, row in enumerate(rows, 1):
        try:
            yield check(row, zone)
        except InterfaceError as exc:
            raise InterfaceError(f"row {number}: {exc.message}") from exc


def _name(key: object) -> str:
    if not isinstance(key, str):
        raise InterfaceError(f"names of parameters must be str, not {type(key).__name__}")
    return key


def plain(value: object, place: object, zone: Zone) -> object:
    """Returns the plain form of one value: None, int, float, Decimal, str, bytes, date, naive datetime or timedelta."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, int):
        number = int(value)
        return number if INT_MIN <= number <= INT_MAX else Decimal(number)
    if isinstance(value, float):
        return _finite(float(value), place)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise _refused(place, f"{value} has no SQL value")
        return value
    if isinstance(value, dt.datetime):
        return _datetime(value, zone)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    return _from_other(value, place, zone)


def _finite(value: float, place: object) -> float:
    if not math.isfinite(value):
        raise _refused(place, f"{value} has no SQL value")
    return value


def _datetime(value: dt.datetime, zone: Zone) -> dt.datetime | None:
    if type(value) is not dt.datetime:
        if value != value:  # pandas' NaT
            return None
        value = dt.datetime.combine(value.date(), value.timetz(), value.tzinfo)
    if value.tzinfo is None:
        return value
    return value.astimezone(zone()).replace(tzinfo=None)


def _from_other(value: object, place: object, zone: Zone) -> object:
    if isinstance(value, dt.date):
        return dt.date(value.year, value.month, value.day)
    if isinstance(value, dt.time):
        if value.tzinfo is not None:
            raise _refused(place, "a time of day with a time zone has no SQL value")
        return dt.timedelta(
            hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond
        )
    if isinstance(value, dt.timedelta):
        return dt.timedelta(days=value.days, seconds=value.seconds, microseconds=value.microseconds)
    if isinstance(value, uuid.UUID):
        return str(value)
    module = type(value).__module__.partition(".")[0]
    if module == "numpy":
        return _from_numpy(value, place, zone)
    if module == "pandas" and type(value).__name__ in ("NAType", "NaTType"):
        return None
    raise _refused(place, f"type {type(value).__name__} cannot be bound")


def _from_numpy(value: object, place: object, zone: Zone) -> object:
    import numpy as np

    if isinstance(value, np.datetime64 | np.timedelta64):
        if np.isnat(value):
            return None
        unit = np.datetime_data(value.dtype)[0]
        if unit == "generic" or (isinstance(value, np.timedelta64) and unit in ("Y", "M")):
            raise _refused(place, f"{value.dtype} has no fixed unit")
        if unit in ("ns", "ps", "fs", "as", "h", "m", "s", "ms") or isinstance(value, np.timedelta64):
            kind = "datetime64[us]" if isinstance(value, np.datetime64) else "timedelta64[us]"
            return plain(value.astype(kind).item(), place, zone)
        return plain(value.item(), place, zone)
    if isinstance(value, np.generic):
        item = value.item()
        if not type(item).__module__.startswith("numpy"):
            return plain(item, place, zone)
    raise _refused(place, f"type {type(value).__name__} cannot be bound")


def _refused(place: object, why: str) -> InterfaceError:
    return InterfaceError(f"parameter {place}: {why}")
