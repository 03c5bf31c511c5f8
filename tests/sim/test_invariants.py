"""Each invariant holds for what may be and is broken by what may not."""

from __future__ import annotations

import pytest

from tests.sim.invariants import Broken, Invariants, RegionView


def view(
    region_id: int, start: bytes, end: bytes, version: int = 1, conf_ver: int = 1, store: str = "s1"
) -> RegionView:
    return RegionView(store, region_id, start, end, version, conf_ver)


def test_one_leader_a_term() -> None:
    invariants = Invariants()
    invariants.leader(1, 5, 11)
    invariants.leader(1, 5, 11)
    invariants.leader(1, 6, 12)
    invariants.leader(2, 5, 12)
    with pytest.raises(Broken, match="two leaders in term 5"):
        invariants.leader(1, 5, 12)


def test_committed_entries_are_one_and_stay() -> None:
    invariants = Invariants()
    invariants.committed("s1", 1, 7, 2, b"a")
    invariants.committed("s2", 1, 7, 2, b"a")
    with pytest.raises(Broken, match="entry 7"):
        invariants.committed("s2", 1, 7, 3, b"a")
    with pytest.raises(Broken, match="entry 7"):
        invariants.committed("s3", 1, 7, 2, b"b")


def test_new_leader_has_what_was_committed() -> None:
    invariants = Invariants()
    invariants.committed("s1", 1, 7, 2, b"a")
    invariants.leader_log(1, 3, 11, 7)
    with pytest.raises(Broken, match="ends at 6"):
        invariants.leader_log(1, 3, 11, 6)


def test_epochs_only_grow() -> None:
    invariants = Invariants()
    invariants.region(view(1, b"", b"", version=3, conf_ver=2))
    invariants.region(view(1, b"", b"", version=2, conf_ver=2, store="s2"))
    with pytest.raises(Broken, match="went back"):
        invariants.region(view(1, b"", b"", version=3, conf_ver=1))
    invariants.destroyed("s1", 1)
    invariants.region(view(1, b"", b"", version=1, conf_ver=1))


def test_regions_tile_the_key_space() -> None:
    invariants = Invariants()
    whole = [view(1, b"", b"m", 2), view(2, b"m", b"", 2)]
    invariants.tiles(whole, at_rest=True)
    lagging = [*whole, view(1, b"", b"", 1, store="s2")]
    invariants.tiles(lagging, at_rest=True)
    for holes in ([whole[0]], [whole[1]], [view(1, b"", b"k", 2), whole[1]], []):
        with pytest.raises(Broken, match="nobody has"):
            invariants.tiles(holes, at_rest=False)
    overlap = [view(1, b"", b"n", 2), whole[1]]
    invariants.tiles(overlap, at_rest=False)
    with pytest.raises(Broken, match="overlaps"):
        invariants.tiles(overlap, at_rest=True)
    with pytest.raises(Broken, match="without end"):
        invariants.tiles([view(1, b"", b""), view(3, b"x", b"")], at_rest=True)


def test_timestamps_only_grow() -> None:
    invariants = Invariants()
    before = invariants.newest_timestamp
    invariants.timestamp(before, 10)
    invariants.timestamp(before, 9)
    with pytest.raises(Broken, match="after 10"):
        invariants.timestamp(invariants.newest_timestamp, 10)
    with pytest.raises(Broken, match="twice"):
        invariants.timestamp(before, 9)
