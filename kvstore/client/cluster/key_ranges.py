"""Lists of key ranges: the part that lies in a region, and what is left behind a page.

Ranges are [start, end) of user keys, ascending and disjoint; an empty `end` is no bound. A request that goes through
them in descending order begins at the end of the last.
"""

from __future__ import annotations

from collections.abc import Sequence

KeyRange = tuple[bytes, bytes]


def below(ranges: Sequence[KeyRange], bound: bytes) -> list[KeyRange]:
    """The parts below a key; an empty `bound` is the end of all keys."""
    if not bound:
        return list(ranges)
    return [(start, end if end and end < bound else bound) for start, end in ranges if start < bound]


def from_key(ranges: Sequence[KeyRange], bound: bytes) -> list[KeyRange]:
    """The parts at and behind a key."""
    return [(max(start, bound), end) for start, end in ranges if not end or end > bound]


def cut_front(
    ranges: Sequence[KeyRange], start: bytes, end: bytes, *, desc: bool
) -> tuple[list[KeyRange], list[KeyRange]]:
    """The part in the region [start, end), which holds the front of the ranges, and the rest behind it."""
    if desc:
        return from_key(ranges, start), below(ranges, start) if start else []
    return below(ranges, end), from_key(ranges, end) if end else []


def behind_page(ranges: Sequence[KeyRange], scanned: KeyRange, *, desc: bool) -> list[KeyRange]:
    """What is left when [start, end) of `scanned` was read, from the front."""
    start, end = scanned
    if desc:
        return below(ranges, start) if start else []
    return from_key(ranges, end) if end else []
