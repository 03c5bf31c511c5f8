"""Timestamps over crashes, failures to save, and clocks that do as they like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pd.oracle import LocalOracle
from pd.tso import LOGICAL_BITS, LOGICAL_MAX, WINDOW_MS, Timeline

Event = tuple[str, int]
events = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, LOGICAL_MAX + 1)),
        st.tuples(st.just("clock"), st.integers(-100_000, 100_000)),
        st.tuples(st.just("crash"), st.just(0)),
        st.tuples(st.just("unsaved"), st.just(0)),
    ),
    max_size=60,
)


@given(events)
def test_never_back_and_never_twice(happenings: list[Event]) -> None:
    now_ms, saved_ms, last = 1_000_000, 0, 0
    line = Timeline.starting_at(saved_ms)
    for what, value in happenings:
        if what == "clock":
            now_ms = max(0, now_ms + value)
        elif what == "crash":
            line = Timeline.starting_at(saved_ms)
        elif what == "take":
            largest = line.propose(now_ms, value)
            if not line.covered(largest):
                saved_ms = line.bound_ms = (largest >> LOGICAL_BITS) + WINDOW_MS
            line.give(largest)
            smallest = largest - value + 1
            assert smallest > last
            assert smallest >> LOGICAL_BITS == largest >> LOGICAL_BITS
            last = largest
        else:
            # the save reached the disk and the process died before it gave anything out
            saved_ms = (line.propose(now_ms, 1) >> LOGICAL_BITS) + WINDOW_MS
            line = Timeline.starting_at(saved_ms)


def test_what_is_not_covered_is_not_given() -> None:
    line = Timeline.starting_at(0)
    with pytest.raises(AssertionError):
        line.give(line.propose(5, 1))
    for count in (0, -1, LOGICAL_MAX + 2):
        with pytest.raises(ValueError, match="timestamps"):
            line.propose(5, count)


class Window:
    """A saved bound that outlives the oracle."""

    bound = 0

    def load(self) -> int:
        return self.bound

    def save(self, bound_ms: int) -> None:
        assert bound_ms > 0
        self.bound = bound_ms


def test_the_embedded_oracle_goes_on_where_it_stopped() -> None:
    window, clock = Window(), [1000]
    oracle = LocalOracle(window, lambda: clock[0])
    first = oracle.get_ts(10)
    assert first == (1000 << LOGICAL_BITS) + 9
    oracle.close()
    assert window.bound == 1001
    clock[0] = 500
    assert LocalOracle(window, lambda: clock[0]).get_ts() > first
    assert window.bound >= 1001 + WINDOW_MS
