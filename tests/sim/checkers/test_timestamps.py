"""The timestamp checker, against histories right and wrong and a naive twin."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.sim.checkers.timestamps import AllocId, Draw, TimestampEvent, check_timestamps
from tests.sim.history import Event, Outcome


def draw(last: int, called: int, returned: int, count: int = 1) -> TimestampEvent:
    return Event("c", Draw(count), called, returned, Outcome.OK, last)


def kinds(*events: TimestampEvent) -> list[str]:
    return [anomaly.kind for anomaly in check_timestamps(events)]


def test_timestamps() -> None:
    assert kinds(draw(5, 1, 2), draw(9, 3, 4, 4)) == []
    assert kinds(draw(5, 1, 2), draw(9, 3, 4, 5)) == ["twice", "back"]
    assert kinds(draw(5, 1, 2), draw(4, 3, 4)) == ["back"]
    assert kinds(draw(5, 1, 3), draw(4, 2, 4)) == []
    assert kinds(draw(5, 1, 3), draw(5, 2, 4)) == ["twice"]


def test_ids() -> None:
    def alloc(called: int, outcome: Outcome, result: int | None = None) -> TimestampEvent:
        return Event("c", AllocId(), called, called + 1, outcome, result)

    first = alloc(1, Outcome.OK, 7)
    assert kinds(first, alloc(3, Outcome.OK, 6)) == []
    assert kinds(first, alloc(3, Outcome.OK, 7)) == ["id twice"]
    assert kinds(first, alloc(3, Outcome.FAILED)) == []


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 3)), max_size=6), st.randoms(use_true_random=False))
def test_agrees_with_comparing_all_pairs(drawn: list[tuple[int, int]], rng: object) -> None:
    places = list(range(2 * len(drawn)))
    rng.shuffle(places)  # type: ignore[attr-defined]
    events = []
    for number, (last, count) in enumerate(drawn):
        called, returned = sorted(places[2 * number : 2 * number + 2])
        events.append(draw(last + count, called, returned, count))
    wrong = False
    for one, other in itertools.permutations(events, 2):
        assert one.result is not None
        assert other.result is not None
        assert isinstance(one.action, Draw)
        assert isinstance(other.action, Draw)
        mine = set(range(one.result - one.action.count + 1, one.result + 1))
        theirs = set(range(other.result - other.action.count + 1, other.result + 1))
        wrong |= bool(mine & theirs) or (one.before(other) and max(mine) >= min(theirs))
    assert bool(check_timestamps(events)) == wrong
