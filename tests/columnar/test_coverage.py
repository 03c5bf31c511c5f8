"""The covered ranges of a columnar store, beside a naive twin that knows every key."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from coprocessor.columnar.coverage import Coverage, is_within, joined

KEYS = 24
_range = st.tuples(st.integers(0, KEYS), st.integers(0, KEYS)).filter(lambda r: r[0] < r[1])


def key(at: int) -> bytes:
    return bytes([at])


@given(st.lists(st.tuples(_range, st.one_of(st.none(), st.integers(1, 3)))), st.lists(_range, max_size=4))
def test_as_a_map_of_keys(changes: list[tuple[tuple[int, int], int | None]], asked: list[tuple[int, int]]) -> None:
    coverage = Coverage()
    twin: dict[int, int] = {}
    for (start, end), from_ts in changes:
        if from_ts is None:
            coverage.cut(key(start), key(end))
        else:
            coverage.add(key(start), key(end), from_ts)
        for at in range(start, end):
            twin.pop(at, None)
            if from_ts is not None:
                twin[at] = from_ts
        parts = coverage.parts
        assert all(a.end <= b.start for a, b in itertools.pairwise(parts))
    assert [coverage.holds(key(at)) for at in range(KEYS)] == [at in twin for at in range(KEYS)]
    ranges = joined((key(start), key(end)) for start, end in asked)
    wanted = {at for start, end in asked for at in range(start, end)}
    gaps = coverage.gaps(ranges)
    assert {at for start, end in gaps for at in range(start[0], end[0])} == wanted - twin.keys()
    assert coverage.readable_from(ranges) == max((twin[at] for at in wanted if at in twin), default=0)


@given(st.lists(_range))
def test_joined_ranges_hold_the_same_keys(ranges: list[tuple[int, int]]) -> None:
    made = joined((key(start), key(end)) for start, end in ranges)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(made))
    for at in range(KEYS):
        assert is_within(made, key(at)) == any(start <= at < end for start, end in ranges)
