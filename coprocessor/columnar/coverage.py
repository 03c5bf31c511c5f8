"""Which key ranges of a table a columnar store has, and from which timestamp on each can be read.

Ranges are [start, end) of record keys, never without an end, and never overlap.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import NamedTuple

KeyRange = tuple[bytes, bytes]

_start = itemgetter(0)


class Covered(NamedTuple):
    """A range whose rows are there, for readers at or above `from_ts`."""

    start: bytes
    end: bytes
    from_ts: int


class Coverage:
    """Ranges in the order of their keys."""

    def __init__(self) -> None:
        self._parts: list[Covered] = []

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def parts(self) -> list[Covered]:
        return list(self._parts)

    def holds(self, key: bytes) -> bool:
        at = bisect_right(self._parts, key, key=_start) - 1
        return at >= 0 and key < self._parts[at].end

    def add(self, start: bytes, end: bytes, from_ts: int) -> None:
        """Takes a range in, which takes the place of what was known of it; neighbours of one age become one."""
        assert start < end, (start, end)
        self.cut(start, end)
        at = bisect_right(self._parts, start, key=_start)
        if at < len(self._parts) and self._parts[at].start == end and self._parts[at].from_ts == from_ts:
            end = self._parts.pop(at).end
        if at and self._parts[at - 1].end == start and self._parts[at - 1].from_ts == from_ts:
            at -= 1
            start = self._parts.pop(at).start
        self._parts.insert(at, Covered(start, end, from_ts))

    def cut(self, start: bytes, end: bytes) -> None:
        """Forgets a range."""
        kept: list[Covered] = []
        for part in self._parts:
            if part.end <= start or end <= part.start:
                kept.append(part)
                continue
            if part.start < start:
                kept.append(part._replace(end=start))
            if end < part.end:
                kept.append(part._replace(start=end))
        self._parts = kept

    def clear(self) -> None:
        self._parts = []

    def gaps(self, ranges: Iterable[KeyRange]) -> list[KeyRange]:
        """The parts of ranges that are not there."""
        out: list[KeyRange] = []
        for start, end in ranges:
            for part in self._parts:
                if part.end <= start:
                    continue
                if end <= part.start or start >= end:
                    break
                if start < part.start:
                    out.append((start, part.start))
                start = part.end
            if start < end:
                out.append((start, end))
        return out

    def readable_from(self, ranges: Iterable[KeyRange]) -> int:
        """The timestamp from which on all that is there of the ranges can be read."""
        met = (p.from_ts for start, end in ranges for p in self._parts if p.start < end and start < p.end)
        return max(met, default=0)


def joined(ranges: Iterable[KeyRange]) -> list[KeyRange]:
    """The ranges in order, neighbours and overlaps as one; empty ones are left out."""
    out: list[KeyRange] = []
    for start, end in sorted(ranges):
        if start >= end:
            continue
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out


def is_within(ranges: Sequence[KeyRange], key: bytes) -> bool:
    """Whether a key is in one of ranges that are `joined`."""
    at = bisect_right(ranges, key, key=_start) - 1
    return at >= 0 and key < ranges[at][1]
