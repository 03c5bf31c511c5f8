"""Lists of ranges cut at regions and behind pages, against the keys that they hold."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kvstore.client.cluster.key_ranges import KeyRange, behind_page, cut_front

KEYS = [b"", *(bytes((a,)) for a in range(1, 6)), *(bytes((a, b)) for a in range(1, 6) for b in range(3))]
BOUNDS = sorted({b"", *KEYS})


def holds(ranges: list[KeyRange], key: bytes) -> bool:
    return any(start <= key and (not end or key < end) for start, end in ranges)


@st.composite
def key_ranges(draw: st.DrawFn) -> list[KeyRange]:
    """Ascending, disjoint ranges, none of them empty; the last may be without a bound."""
    bounds = sorted(draw(st.sets(st.sampled_from(BOUNDS), max_size=8)))
    made = list(zip(bounds[::2], bounds[1::2], strict=False))
    return [*made, (bounds[-1], b"")] if len(bounds) % 2 else made


@given(ranges=key_ranges(), cuts=st.sets(st.sampled_from(BOUNDS[1:]), max_size=5), desc=st.booleans())
def test_every_key_is_in_the_part_of_its_region_and_in_no_other(
    ranges: list[KeyRange], cuts: set[bytes], desc: bool
) -> None:
    bounds = [b"", *sorted(cuts), b""]
    regions = list(pairwise(bounds))
    left = ranges
    for start, end in regions[::-1] if desc else regions:
        here, left = cut_front(left, start, end, desc=desc)
        for key in KEYS:
            assert holds(here, key) == (holds(ranges, key) and holds([(start, end)], key))
        assert all(not high or low < high for low, high in here)
    assert left == []


@given(ranges=key_ranges(), at=st.sampled_from(BOUNDS), desc=st.booleans())
def test_what_is_left_behind_a_page_is_what_was_not_scanned(ranges: list[KeyRange], at: bytes, desc: bool) -> None:
    if not ranges:
        return
    scanned = (at, ranges[-1][1]) if desc else (ranges[0][0], at)
    left = behind_page(ranges, scanned, desc=desc)
    for key in KEYS:
        was_scanned = key >= at if desc else (not at or key < at)
        assert holds(left, key) == (holds(ranges, key) and not was_scanned)
    assert left == sorted(left)
