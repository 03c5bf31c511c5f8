"""Row-wise range reads: visible (key, value) pairs of a range at a timestamp, ascending or descending."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kvstore.engine.api import CF_WRITE, Engine
from kvstore.mvcc.keys import AFTER_OLDEST, data_range, ts_suffix, user_key
from kvstore.mvcc.point import NeedsDefault, short_or_default

FIRST_PAIRS = 16
PAIRS_MAX = 4096
STALE_PAIRS_MAX = 64
"""After so many records in a row that belong to one decided key, the scan seeks past the key."""

_PUT = ord("P")
_DELETE = ord("D")

LoadDefault = Callable[[bytes, int], bytes]
"""Fetches a long value: (data key, start_ts) -> value."""
Check = Callable[[], None]
"""Raises when versions the scan needs may be gone; called after an iterator was made, which from then on keeps them."""


def scan(
    engine: Engine, start: bytes, end: bytes, ts: int, load: LoadDefault, check: Check, *, reverse: bool = False
) -> Iterator[tuple[bytes, bytes]]:
    """Yields visible (user key, value) with start <= key < end; an empty `end` means no bound."""
    low, high = data_range(start, end)
    if low >= high:
        return iter(())
    walk = _scan_reverse if reverse else _scan_forward
    return walk(engine, low, high, ts, load, check)


def _value(record: bytes, ts: int, data_key: bytes, load: LoadDefault) -> bytes | None:
    try:
        return short_or_default(record, ts, data_key)
    except NeedsDefault as need:
        return load(data_key, need.start_ts)


def _scan_forward(
    engine: Engine, low: bytes, high: bytes, ts: int, load: LoadDefault, check: Check
) -> Iterator[tuple[bytes, bytes]]:
    suffix = ts_suffix(ts)
    decided = b""
    pairs = FIRST_PAIRS
    scanner = engine.scanner(CF_WRITE, low, high)
    try:
        check()
        while True:
            flat = scanner.take(pairs)
            stale = 0
            for at in range(0, len(flat), 2):
                key = flat[at]
                prefix = key[:-8]
                if prefix == decided or key[-8:] < suffix:
                    stale += 1
                    continue
                record = flat[at + 1]
                kind = record[0]
                if kind != _PUT:
                    stale += 1
                    if kind == _DELETE:
                        decided = prefix
                    continue
                stale = 0
                decided = prefix
                value = _value(record, ts, prefix, load)
                if value is not None:
                    yield user_key(prefix), value
            if len(flat) < 2 * pairs:
                return
            if stale >= STALE_PAIRS_MAX and flat[-2][:-8] == decided:
                scanner.release()
                scanner = engine.scanner(CF_WRITE, decided + AFTER_OLDEST, high)
                check()
            elif stale >= STALE_PAIRS_MAX and flat[-2][-8:] < suffix:
                scanner.release()
                scanner = engine.scanner(CF_WRITE, flat[-2][:-8] + suffix, high)
                check()
            pairs = min(pairs * 4, PAIRS_MAX)
    finally:
        scanner.release()


def _scan_reverse(
    engine: Engine, low: bytes, high: bytes, ts: int, load: LoadDefault, check: Check
) -> Iterator[tuple[bytes, bytes]]:
    """Descending: versions of a key come oldest first, so a key is decided when the next one begins."""
    suffix = ts_suffix(ts)
    current = b""
    best: bytes | None = None  # newest record at or below ts that is a put or a delete
    pairs = FIRST_PAIRS
    scanner = engine.scanner(CF_WRITE, low, high, reverse=True)
    try:
        check()
        while True:
            flat = scanner.take(pairs)
            for at in range(0, len(flat), 2):
                key = flat[at]
                prefix = key[:-8]
                if prefix != current:
                    if best is not None and best[0] == _PUT:
                        value = _value(best, ts, current, load)
                        if value is not None:
                            yield user_key(current), value
                    current, best = prefix, None
                if key[-8:] >= suffix and flat[at + 1][0] in (_PUT, _DELETE):
                    best = flat[at + 1]
            if len(flat) < 2 * pairs:
                break
            pairs = min(pairs * 4, PAIRS_MAX)
    finally:
        scanner.release()
    if best is not None and best[0] == _PUT:
        value = _value(best, ts, current, load)
        if value is not None:
            yield user_key(current), value
