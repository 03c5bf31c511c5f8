"""Row-wise range reads: visible (key, value) pairs of a range at a timestamp, ascending or descending.

Raw pairs come in chunks that grow, and a chunk becomes rows in one of three gears:

    plain      nothing but short puts: `plain` cuts the whole chunk up at once
    mixed      row by row, with the common layouts recognised in place
    skipping   (ascending) one seek per key, after a chunk that was nearly all old versions
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

from kvstore.engine.api import CF_WRITE, Cursor, Engine
from kvstore.engine.failure import check_status
from kvstore.mvcc.chunks import Chunk
from kvstore.mvcc.keys import AFTER_OLDEST, data_range, ts_suffix, user_key
from kvstore.mvcc.plain import HEAD_BYTES, PLAIN_PAIRS_MIN, is_plain, newest_puts
from kvstore.mvcc.point import CONTINUES, DELETE, PUT, SHORT, NeedsDefault, short_or_default, u64_le

FIRST_PAIRS = 32
PAIRS_MAX = 4096
STALE_SHARE = 8
"""A chunk that shows less than one row in so many pairs makes an ascending scan skip."""
SKIPPED_KEYS_MIN = 64
SKIPPED_KEYS_MAX = 4096
"""How many keys are read by seeks before a chunk is tried again; doubles while skipping pays."""

_RECORD_KEY_BYTES = 36
_RECORD_KEY_MARKER = 0xFA

LoadDefault = Callable[[bytes, int], bytes]
"""Fetches a long value: (data key, start_ts) -> value."""
Check = Callable[[], None]
"""Raises when versions the scan needs may be gone; called after an iterator was made, which from then on keeps them."""
Rows = list[tuple[bytes, bytes]]


def scan_chunks(
    engine: Engine, start: bytes, end: bytes, ts: int, load: LoadDefault, check: Check, *, reverse: bool = False
) -> Iterator[Chunk]:
    """Yields chunks of visible rows with start <= key < end; an empty `end` means no bound."""
    low, high = data_range(start, end)
    if low >= high:
        return iter(())
    walk = _scan_reverse if reverse else _scan_forward
    return walk(engine, low, high, ts, load, check)


class _Mixed:
    """Resolves chunks in which anything may occur, ascending; knows which key is decided already."""

    __slots__ = ("decided", "has_long", "suffix", "ts")

    def __init__(self, ts: int) -> None:
        self.ts = ts
        self.suffix = ts_suffix(ts)
        self.decided = b""
        self.has_long = False

    def resolve(self, flat: list[bytes]) -> list[tuple[bytes, bytes | int]]:
        """The visible rows of the chunk; a long value is its data key and start_ts (then `has_long` is set)."""
        suffix, decided = self.suffix, self.decided
        rows: list[tuple[bytes, bytes | int]] = []
        append = rows.append
        entries = iter(flat)
        for key, record in zip(entries, entries, strict=True):
            prefix = key[:-8]
            if prefix == decided or key[-8:] < suffix:
                continue
            if record[0] != PUT:
                if record[0] == DELETE:
                    decided = prefix
                continue
            decided = prefix
            if (
                len(record) > 11
                and record[10] == SHORT
                and record[9] < 0x80
                and len(record) == 12 + record[11]
                and u64_le(record, 1)[0] & CONTINUES == CONTINUES
            ):
                if len(key) == _RECORD_KEY_BYTES and key[27] == _RECORD_KEY_MARKER:
                    append((key[1:9] + key[10:18] + key[19:22], record[12:]))
                else:
                    append((user_key(prefix), record[12:]))
                continue
            odd = self.odd_row(prefix, record)
            if odd is not None:
                append(odd)
        self.decided = decided
        return rows

    def odd_row(self, prefix: bytes, record: bytes) -> tuple[bytes, bytes | int] | None:
        """The row of a put record of any layout; None when its gc fence hides it."""
        try:
            value = short_or_default(record, self.ts, prefix)
        except NeedsDefault as need:
            self.has_long = True
            return prefix, need.start_ts
        return None if value is None else (user_key(prefix), value)


def _whole(row: tuple[bytes, bytes | int], load: LoadDefault) -> tuple[bytes, bytes]:
    """The row with its value, fetched if it is a long one."""
    key, value = row
    return (key, value) if isinstance(value, bytes) else (user_key(key), load(key, value))


def _scan_forward(engine: Engine, low: bytes, high: bytes, ts: int, load: LoadDefault, check: Check) -> Iterator[Chunk]:
    mixed = _Mixed(ts)
    suffix = mixed.suffix
    pairs, skipped = FIRST_PAIRS, SKIPPED_KEYS_MIN
    cursor: Cursor | None = None
    scanner = engine.scanner(CF_WRITE, low, high)
    try:
        check()
        while True:
            flat = scanner.take(pairs)
            count = len(flat) // 2
            if count >= PLAIN_PAIRS_MIN and flat[0][:-8] != mixed.decided:
                plain = newest_puts(flat[::2], flat[1::2], suffix)
                if plain is not None and len(plain[0]) * STALE_SHARE > count:
                    # a version that is too new decides nothing: the key may go on in the next chunk
                    mixed.decided = flat[-2][:-8] if flat[-2][-8:] >= suffix else b""
                    yield Chunk(None, plain[1], encoded=plain[0], skip=HEAD_BYTES)
                    if count < pairs:
                        return
                    pairs = min(pairs * 4, PAIRS_MAX)
                    continue
            rows = mixed.resolve(flat)
            if not mixed.has_long:
                yield Chunk.of(cast(Rows, rows))
            else:
                mixed.has_long = False
                yield Chunk.of([_whole(row, load) for row in rows])
            if count < pairs:
                return
            if len(rows) * STALE_SHARE > count:
                pairs, skipped = min(pairs * 4, PAIRS_MAX), SKIPPED_KEYS_MIN
                continue
            last = flat[-2][:-8]
            low = last + (AFTER_OLDEST if last == mixed.decided else suffix)
            scanner.release()
            if cursor is None:
                cursor = engine.cursor(CF_WRITE, high)
                check()
            for _ in range(skipped):
                found = _seek_visible(cursor, low, suffix)
                if found is None:
                    return
                key, record = found
                low = key + AFTER_OLDEST
                row = mixed.odd_row(key, record) if record[0] == PUT else None
                if row is not None:
                    yield Chunk.of((_whole(row, load),))
            mixed.has_long = False
            scanner = engine.scanner(CF_WRITE, low, high)
            check()
            pairs, skipped = FIRST_PAIRS, min(skipped * 2, SKIPPED_KEYS_MAX)
    finally:
        scanner.release()
        if cursor is not None:
            cursor.release()


def _seek_visible(cursor: Cursor, low: bytes, suffix: bytes) -> tuple[bytes, bytes] | None:
    """From `low` on, the data key and record of the first put or delete that a reader with this suffix may see."""
    # no iterator stays in a suspended generator: the engine could not close
    raw = cursor.raw if cursor.raw is not None else cursor.refresh()
    while True:
        raw.seek(low)
        key = raw.key()
        if key is None:
            check_status(raw)
            return None
        if key[-8:] < suffix:
            low = key[:-8] + suffix
            continue
        record = raw.value()
        assert record is not None
        if record[0] == PUT or record[0] == DELETE:
            return key[:-8], record
        low = key + b"\0"


def _scan_reverse(engine: Engine, low: bytes, high: bytes, ts: int, load: LoadDefault, check: Check) -> Iterator[Chunk]:
    """Descending: versions of a key come oldest first, so a key is decided when the next one begins."""
    mixed = _Mixed(ts)
    suffix = mixed.suffix
    current = best = b""  # the key in progress, and its newest put or delete at or below ts so far
    pairs, skipped = FIRST_PAIRS, SKIPPED_KEYS_MIN
    cursor: Cursor | None = None
    scanner = engine.scanner(CF_WRITE, low, high, reverse=True)
    try:
        check()
        while True:
            flat = scanner.take(pairs)
            count = len(flat) // 2
            keys, records = flat[::2], flat[1::2]
            plain = count >= PLAIN_PAIRS_MIN and keys[0][:-8] != current and is_plain(keys, records, suffix)
            winners: list[tuple[bytes, bytes]] = []
            if plain:
                if best:
                    winners.append((current, best))
                current, best = flat[-2][:-8], flat[-1]
            else:
                for key, record in zip(keys, records, strict=True):
                    prefix = key[:-8]
                    if prefix != current:
                        if best:
                            winners.append((current, best))
                        current, best = prefix, b""
                    if key[-8:] >= suffix and (record[0] == PUT or record[0] == DELETE):
                        best = record
            ended = count < pairs
            if ended and best and not plain:
                winners.append((current, best))
            rows = [mixed.odd_row(prefix, record) for prefix, record in winners if record[0] == PUT]
            if rows:
                yield Chunk.of([_whole(row, load) for row in rows if row is not None])
            if plain:
                whole = count if ended else count - 1
                yield Chunk(None, records[:whole], encoded=keys[:whole], skip=HEAD_BYTES)
            if ended:
                return
            if plain or len(winners) * STALE_SHARE > count:
                pairs, skipped = min(pairs * 4, PAIRS_MAX), SKIPPED_KEYS_MIN
                continue
            high = current + AFTER_OLDEST
            scanner.release()
            if cursor is None:
                cursor = engine.cursor(CF_WRITE, high)
                check()
            for _ in range(skipped):
                found = _seek_visible_before(cursor, high, low, suffix)
                if found is None:
                    return
                high, record = found
                row = mixed.odd_row(high, record) if record[0] == PUT else None
                if row is not None:
                    yield Chunk.of((_whole(row, load),))
            scanner = engine.scanner(CF_WRITE, low, high, reverse=True)
            check()
            current = best = b""
            pairs, skipped = FIRST_PAIRS, min(skipped * 2, SKIPPED_KEYS_MAX)
    finally:
        scanner.release()
        if cursor is not None:
            cursor.release()


def _seek_visible_before(cursor: Cursor, high: bytes, low: bytes, suffix: bytes) -> tuple[bytes, bytes] | None:
    """Down from `high`, the data key and record of the first key that has a put or delete for a reader with this
    suffix."""
    raw = cursor.raw if cursor.raw is not None else cursor.refresh()
    while True:
        raw.seek_for_prev(high)
        key = raw.key()
        if key is None:
            check_status(raw)
            return None
        if key < low:
            return None
        high = key[:-8]
        raw.seek(high + suffix)
        while (key := raw.key()) is not None and key[:-8] == high:
            record = raw.value()
            assert record is not None
            if record[0] == PUT or record[0] == DELETE:
                return high, record
            raw.next()
        if key is None:
            check_status(raw)
