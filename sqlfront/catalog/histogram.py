"""What is known of one column's values: counts, bounds, the most common values and an equal-depth histogram of the
rest.

Values are compared in one domain per column: numbers, dates and times as float (days of DATE, microseconds of DATETIME,
TIMESTAMP and TIME), text as str, binary as bytes, both cut to `KEY_LENGTH_MAX`. Fractions are of all rows, NULLs
included.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from coprocessor.types import FieldType, Tp

BUCKETS = 64
TOP_VALUES = 64
KEY_LENGTH_MAX = 64
EPOCH = dt.datetime(1970, 1, 1)
EPOCH_DAY = dt.date(1970, 1, 1)

PSEUDO_ROWS = 10_000
PSEUDO_EQUAL = 1 / 1000
PSEUDO_RANGE = 1 / 3
PSEUDO_BETWEEN = 1 / 40
PSEUDO_NULL = 1 / 1000

Key = float | str | bytes


def key_of(value: Any, ft: FieldType) -> Key | None:
    """The value in the column's domain, None when it has no place there."""
    match value:
        case None:
            return None
        case str() | bytes():
            if isinstance(value, bytes) and (ft.is_text or ft.tp in (Tp.ENUM, Tp.SET)):
                value = value.decode("utf-8", "replace")
            if ft.is_string:
                cut: str | bytes = value[:KEY_LENGTH_MAX]
                return cut
            return _number_of_text(str(value))
        case dt.datetime():
            micros: float = (value.replace(tzinfo=None) - EPOCH) / dt.timedelta(microseconds=1)
            return micros / 86_400e6 if ft.tp == Tp.DATE else micros
        case dt.date():
            days = (value - EPOCH_DAY).days
            return float(days) if ft.tp == Tp.DATE else days * 86_400e6
        case dt.timedelta():
            span: float = value / dt.timedelta(microseconds=1)
            return span
        case int() | float() | Decimal():
            return str(value)[:KEY_LENGTH_MAX] if ft.is_string else float(value)
        case _:
            return None


def _number_of_text(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@dataclass(slots=True)
class ColumnStats:
    """Statistics of one column over `rows` rows.

    `bounds[i]` is the greatest value of bucket i, `depths[i]` the share of rows in buckets 0 to i, `repeats[i]` the
    share that equals the bound; `top` maps the most common values to their share and is not in the buckets.
    """

    column_id: int
    rows: int
    distinct: float
    null_count: int
    low: Key | None = None
    high: Key | None = None
    average_width: float = 8.0
    top: dict[Key, float] = field(default_factory=dict)
    bounds: list[Key] = field(default_factory=list)
    depths: list[float] = field(default_factory=list)
    repeats: list[float] = field(default_factory=list)
    first: Key | None = None

    @property
    def null_fraction(self) -> float:
        return self.null_count / self.rows if self.rows else 0.0

    def equal_unknown(self) -> float:
        """The fraction that equals a value that is not known yet."""
        if not self.rows or not self.distinct:
            return 0.0
        return (1 - self.null_fraction) / max(self.distinct, 1.0)

    def equal(self, key: Key | None) -> float:
        """The fraction that equals a value."""
        if not self.rows or not self.distinct:
            return 0.0
        if key is None:
            return self.equal_unknown()
        found = self.top.get(key)
        if found is not None:
            return found
        if not _within(key, self.low, self.high):
            return 0.5 / self.rows
        at = _search(self.bounds, key)
        if at is not None and at < len(self.bounds) and self.bounds[at] == key:
            return self.repeats[at]
        rest = self.depths[-1] if self.depths else 0.0
        others = max(self.distinct - len(self.top), 1.0)
        return max(rest / others, 0.5 / self.rows)

    def between(self, low: Key | None, high: Key | None, *, low_open: bool = False, high_open: bool = False) -> float:
        """The fraction between two bounds (None: unbounded); NULLs are never inside."""
        if not self.rows:
            return 0.0
        share = sum(f for k, f in self.top.items() if _inside(k, low, high, low_open, high_open))
        below_high = self._below(high, inclusive=not high_open) if high is not None else self._whole()
        below_low = self._below(low, inclusive=low_open) if low is not None else 0.0
        return min(max(share + below_high - below_low, 0.0), 1.0)

    def _whole(self) -> float:
        return self.depths[-1] if self.depths else 0.0

    def _below(self, key: Key, *, inclusive: bool) -> float:
        """The share of the histogram below a value."""
        at = _search(self.bounds, key)
        if at is None:
            return self._whole() / 2
        if at >= len(self.bounds):
            return self._whole()
        before = self.depths[at - 1] if at else 0.0
        depth, repeat = self.depths[at] - before, self.repeats[at]
        if self.bounds[at] == key:
            return before + depth - (0.0 if inclusive else repeat)
        start = self.bounds[at - 1] if at else self.first
        return before + (depth - repeat) * _part(start, key, self.bounds[at])

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.column_id,
            "rows": self.rows,
            "distinct": self.distinct,
            "nulls": self.null_count,
            "width": round(self.average_width, 3),
            "low": _to_json(self.low),
            "high": _to_json(self.high),
            "first": _to_json(self.first),
            "top": [[_to_json(k), f] for k, f in self.top.items()],
            "bounds": [_to_json(k) for k in self.bounds],
            "depths": self.depths,
            "repeats": self.repeats,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ColumnStats:
        return cls(
            column_id=data["id"],
            rows=data["rows"],
            distinct=data["distinct"],
            null_count=data["nulls"],
            low=_from_json(data["low"]),
            high=_from_json(data["high"]),
            average_width=data["width"],
            top={k: f for raw, f in data["top"] if (k := _from_json(raw)) is not None},
            bounds=[k for raw in data["bounds"] if (k := _from_json(raw)) is not None],
            depths=data["depths"],
            repeats=data["repeats"],
            first=_from_json(data["first"]),
        )


def _to_json(key: Key | None) -> Any:
    return {"hex": key.hex()} if isinstance(key, bytes) else key


def _from_json(data: Any) -> Key | None:
    if isinstance(data, dict):
        return bytes.fromhex(data["hex"])
    if isinstance(data, str) or data is None:
        return data
    return float(data)


def _comparable(a: Key | None, b: Key | None) -> bool:
    return (
        a is not None
        and b is not None
        and isinstance(a, (str, bytes)) == isinstance(b, (str, bytes))
        and (not isinstance(a, (str, bytes)) or type(a) is type(b))
    )


def _less(a: Any, b: Any) -> bool:
    return bool(a < b)


def _within(key: Key, low: Key | None, high: Key | None) -> bool:
    if not _comparable(key, low) or not _comparable(key, high):
        return True
    return not _less(key, low) and not _less(high, key)


def _inside(key: Key, low: Key | None, high: Key | None, low_open: bool, high_open: bool) -> bool:
    if low is not None and _comparable(key, low) and (_less(key, low) or (low_open and key == low)):
        return False
    return not (high is not None and _comparable(key, high) and (_less(high, key) or (high_open and key == high)))


def _search(bounds: Sequence[Any], key: Any) -> int | None:
    """The first bucket whose bound is not below the key; None when they cannot be compared."""
    if bounds and not _comparable(bounds[0], key):
        return None
    return bisect_left(bounds, key)


def _part(start: Any, key: Any, end: Any) -> float:
    """How far along a bucket a value is, 0 to 1."""
    if start is None or isinstance(key, (str, bytes)):
        a, b, c = (_leading_number(x, start, end) for x in (start if start is not None else end, key, end))
    else:
        a, b, c = float(start), float(key), float(end)
    if c <= a:
        return 0.5
    return min(max((b - a) / (c - a), 0.0), 1.0)


def _leading_number(value: Any, low: Any, high: Any) -> float:
    """Text as a number, by the eight bytes after what the bucket's bounds have in common."""
    if not isinstance(value, (str, bytes)):
        return float(value)
    a, b = _raw(low if low is not None else high), _raw(high)
    common = 0
    while common < min(len(a), len(b)) and a[common] == b[common]:
        common += 1
    return float(int.from_bytes(_raw(value)[common : common + 8].ljust(8, b"\0"), "big"))


def _raw(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


def estimate_distinct(distinct: int, once: int, sample: int, rows: int) -> float:
    """Distinct values among `rows` from a sample with `once` values seen once (Haas and Stokes' Duj1, 1998)."""
    if sample >= rows or not sample:
        return float(distinct)
    estimate = sample * distinct / (sample - once + once * sample / rows)
    return float(min(max(estimate, distinct), rows))


def count_keys(keys: list[Key], counts: list[int], scale: float) -> tuple[dict[Key, float], list[Any]]:
    """Chooses the most common values of sorted (keys, counts); returns their shares and what is left for the
    buckets.
    """
    total = sum(counts)
    if not total:
        return {}, []
    if len(keys) <= TOP_VALUES:
        return {k: c * scale for k, c in zip(keys, counts, strict=True)}, []
    least = max(2.0, 1.25 * total / len(keys))
    ranked = sorted(range(len(keys)), key=counts.__getitem__, reverse=True)[:TOP_VALUES]
    chosen = {i for i in ranked if counts[i] >= least}
    top = {keys[i]: counts[i] * scale for i in chosen}
    return top, [(keys[i], counts[i]) for i in range(len(keys)) if i not in chosen]


def fill_buckets(stats: ColumnStats, rest: list[tuple[Key, int]], scale: float) -> None:
    """Makes the equal-depth histogram of sorted (value, count) pairs."""
    if not rest:
        return
    total = sum(count for _, count in rest)
    cumulative = []
    running = 0
    for _, count in rest:
        running += count
        cumulative.append(running)
    stats.first = rest[0][0]
    last = -1
    for number in range(1, BUCKETS + 1):
        at = min(bisect_right(cumulative, total * number / BUCKETS - 1e-9), len(rest) - 1)
        if at <= last:
            continue
        last = at
        key, count = rest[at]
        stats.bounds.append(key)
        stats.depths.append(cumulative[at] * scale)
        stats.repeats.append(count * scale)
