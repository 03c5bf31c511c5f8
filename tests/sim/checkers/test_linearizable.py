"""The register checker, against histories made right or wrong, and against trying every order."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.checkers import linearizable
from tests.sim.checkers.linearizable import Action, Cas, Read, RegisterEvent, Result, Write, check_linearizable
from tests.sim.history import Event, Outcome

K = b"k"


def event(
    action: Action, called: int, returned: int | None, result: Result = None, *, failed: bool = False
) -> RegisterEvent:
    outcome = Outcome.UNKNOWN if returned is None else Outcome.FAILED if failed else Outcome.OK
    return Event("c", action, called, returned, outcome, result)


def kinds(*events: RegisterEvent) -> list[str]:
    return [anomaly.kind for anomaly in check_linearizable(events)]


BAD = ["not linearizable"]


def test_reads_between_writes() -> None:
    assert (
        kinds(
            event(Read(K), 1, 2, None),
            event(Write(K, b"1"), 3, 4),
            event(Read(K), 5, 6, b"1"),
            event(Write(K, None), 7, 8),
            event(Read(K), 9, 10, None),
        )
        == []
    )


def test_stale_read() -> None:
    assert kinds(event(Write(K, b"1"), 1, 2), event(Write(K, b"2"), 3, 4), event(Read(K), 5, 6, b"1")) == BAD


def test_read_of_nothing_written() -> None:
    assert kinds(event(Read(K), 1, 2, b"9")) == BAD


def test_concurrent_reads_may_see_either_but_not_go_back() -> None:
    write = event(Write(K, b"1"), 1, 10)
    assert kinds(write, event(Read(K), 2, 3, None), event(Read(K), 4, 5, b"1")) == []
    assert kinds(write, event(Read(K), 2, 3, b"1"), event(Read(K), 4, 5, None)) == BAD


def test_unknown_write_comes_late_or_never() -> None:
    lost = event(Write(K, b"1"), 1, None)
    assert kinds(lost, event(Read(K), 2, 3, None)) == []
    assert kinds(lost, event(Read(K), 2, 3, None), event(Read(K), 4, 5, b"1")) == []
    assert kinds(lost, event(Read(K), 2, 3, b"1"), event(Read(K), 4, 5, None)) == BAD


def test_unknown_write_does_not_come_before_its_call() -> None:
    assert kinds(event(Read(K), 1, 2, b"1"), event(Write(K, b"1"), 3, None)) == BAD


def test_failed_write_is_never_seen() -> None:
    assert kinds(event(Write(K, b"1"), 1, 2, failed=True), event(Read(K), 3, 4, b"1")) == BAD
    assert kinds(event(Write(K, b"1"), 1, 2, failed=True), event(Read(K), 3, 4, None)) == []


def test_two_swaps_of_one_value() -> None:
    first, second = event(Cas(K, None, b"1"), 1, 4, True), event(Cas(K, None, b"2"), 2, 3, True)
    assert kinds(first, second) == BAD
    assert kinds(first, event(Cas(K, None, b"2"), 2, 3, False)) == []
    assert kinds(event(Cas(K, None, b"1"), 1, None), event(Cas(K, None, b"2"), 2, 3, True)) == []
    assert kinds(event(Cas(K, None, b"1"), 1, None), event(Cas(K, None, b"2"), 2, 3, False)) == []
    assert kinds(event(Cas(K, b"0", b"1"), 1, None), event(Cas(K, None, b"2"), 2, 3, False)) == BAD


def test_registers_are_checked_each_by_itself() -> None:
    assert kinds(event(Write(b"a", b"1"), 1, 2), event(Read(b"b"), 3, 4, None), event(Read(b"a"), 5, 6, b"1")) == []
    assert (
        kinds(event(Write(b"a", b"1"), 1, 2), event(Read(b"a"), 3, 4, None), event(Read(b"b"), 5, 6, b"1")) == BAD * 2
    )


def test_search_that_takes_too_long_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linearizable, "STEPS_MAX", 50)
    writes = [event(Write(K, b"%d" % i), i + 1, 100 + i) for i in range(10)]
    assert kinds(*writes, event(Read(K), 200, 201, b"99")) == ["undecided"]


@st.composite
def histories(draw: st.DrawFn) -> list[RegisterEvent]:
    """A few calls at random places with random results, mostly near to possible ones."""
    count = draw(st.integers(1, 5))
    places = draw(st.permutations(range(1, 2 * count + 1)))
    values = st.sampled_from([None, b"1", b"2"])
    events = []
    for number in range(count):
        called, returned = sorted(places[2 * number : 2 * number + 2])
        action: Action = draw(
            st.one_of(
                st.just(Read(K)),
                st.builds(Write, st.just(K), values),
                st.builds(Cas, st.just(K), values, st.just(b"2")),
            )
        )
        result: Result = draw(values) if isinstance(action, Read) else draw(st.booleans())
        unknown = draw(st.integers(0, 3)) == 0
        events.append(event(action, called, None if unknown else returned, None if unknown else result))
    return sorted(events, key=lambda one: one.called)


def possible(events: Sequence[RegisterEvent]) -> bool:
    """Tries every subset of the unknown calls in every order."""
    certain = [one for one in events if one.outcome is Outcome.OK]
    unknown = [one for one in events if one.outcome is Outcome.UNKNOWN]
    for taken in range(len(unknown) + 1):
        for some in itertools.combinations(unknown, taken):
            if any(_runs(order) for order in itertools.permutations([*certain, *some])):
                return True
    return False


def _runs(order: Sequence[RegisterEvent]) -> bool:
    if any(later.before(earlier) for at, later in enumerate(order) for earlier in order[:at]):
        return False
    value: bytes | None = None
    for one in order:
        action = one.action
        if isinstance(action, Write):
            value = action.value
        elif isinstance(action, Read):
            if one.outcome is Outcome.OK and one.result != value:
                return False
        else:
            swaps = value == action.expected
            if one.outcome is Outcome.OK and one.result != swaps:
                return False
            value = action.value if swaps else value
    return True


@settings(max_examples=400)
@given(histories())
def test_agrees_with_trying_every_order(events: list[RegisterEvent]) -> None:
    assert (check_linearizable(events) == []) == possible(events)


def test_long_history_with_several_clients_is_decided() -> None:
    # five writers overlap all the time; the register moves on through the values in the order of their middles
    events = []
    for number in range(1000):
        start = 100 * number
        events.append(event(Write(K, b"%d" % number), start, start + 451))
        events.append(event(Read(K), start + 230, start + 270, b"%d" % number))
    assert check_linearizable(events) == []
    events[1501].result = b"700"
    assert [anomaly.kind for anomaly in check_linearizable(events)] == BAD
