"""The list-append checker: each anomaly in its smallest history, and histories of a correct store."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sim.checkers.append import Append, AppendEvent, Lists, ReadList, Txn, check_append
from tests.sim.history import Event, Outcome


def txn(text: str, called: int, returned: int | None, *, failed: bool = False) -> AppendEvent:
    """`x+1 x=1,2 y=` is: append 1 to x, read [1, 2] of x, read [] of y."""
    steps: list[ReadList | Append] = []
    lists: list[tuple[int, ...] | None] = []
    for word in text.split():
        if "+" in word:
            key, _, element = word.partition("+")
            steps.append(Append(key.encode(), int(element)))
            lists.append(None)
        else:
            key, _, elements = word.partition("=")
            steps.append(ReadList(key.encode()))
            lists.append(tuple(int(element) for element in elements.split(",") if element))
    outcome = Outcome.UNKNOWN if returned is None else Outcome.FAILED if failed else Outcome.OK
    return Event("c", tuple(steps), called, returned, outcome, lists if outcome is Outcome.OK else None)


def together(*texts: str) -> list[AppendEvent]:
    """Transactions that all run at one time."""
    return [txn(text, number + 1, 100 + number) for number, text in enumerate(texts)]


def in_turn(*texts: str) -> list[AppendEvent]:
    return [txn(text, 2 * number + 1, 2 * number + 2) for number, text in enumerate(texts)]


def kinds(events: list[AppendEvent]) -> list[str]:
    return [anomaly.kind for anomaly in check_append(events)]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (in_turn("x+1", "x=1 x+2", "x=1,2"), []),
        (together("x+1 y+2", "x=1 y=2"), []),
        (together("x=1 x+2 x=1,2", "x+1"), []),
        (together("x=1,2,1", "x+1", "x+2"), ["duplicate"]),
        (together("x=7"), ["unexpected"]),
        (together("x+1", "x+2", "x=1,2", "x=2"), ["incompatible order"]),
        (together("x=1 x+2 x=1", "x+1"), ["internal"]),
        (together("x= x=1", "x+1"), ["internal"]),
        ([txn("x+1", 1, 2, failed=True), txn("x=1", 3, 4)], ["G1a"]),
        (together("x+1 x+2", "x=1"), ["G1b"]),
        # both wrote both keys, in opposite orders
        (together("x+1 y+1", "x+2 y+2", "x=1,2", "y=2,1"), ["G0"]),
        # each read the other's write
        (together("x+1 y=2", "y+2 x=1"), ["G1c"]),
        # the reader saw y after and x before the one transaction that wrote both
        (together("x+1 y+1", "x= y=1"), ["G-single"]),
        (together("x= x+1", "x= x+2", "x=1,2"), ["lost update", "G-single"]),
        # write skew: two rw in a row, which snapshot isolation allows
        (together("x= y+1", "y= x+1", "x=1", "y=1"), []),
        # two readers see the two writes in opposite orders: the two rw are apart
        (together("x+1", "y+1", "x=1 y=", "x= y=1"), ["G-nonadjacent"]),
        (in_turn("x+1", "x="), ["G-single", "missing"]),
        (in_turn("x+1", "x+2", "x=2,1"), ["G1c-realtime"]),
        ([txn("x+1", 1, None), txn("x=", 2, 3), txn("x=1", 4, 5)], []),
        ([txn("x+1", 1, None), txn("x=1", 2, 3), txn("x=", 4, 5)], ["G-single"]),
        (in_turn("x+1", "x+2", "x=1"), ["G-single", "missing"]),
    ],
)
def test_smallest_histories(events: list[AppendEvent], expected: list[str]) -> None:
    assert sorted(kinds(events)) == sorted(expected)


def test_without_real_time_old_snapshots_are_allowed() -> None:
    assert check_append(in_turn("x+1", "x="), realtime=False) == []


def snapshot_store(rng: random.Random, count: int, *, conflicts: bool, stale: int) -> list[AppendEvent]:
    """Transactions over a store with snapshots and first committer wins; `conflicts` off or `stale` break it."""
    versions: list[dict[bytes, tuple[int, ...]]] = [{}]
    open_txns: list[tuple[AppendEvent, int, dict[bytes, list[int]]]] = []
    events: list[AppendEvent] = []
    order = element = 0
    while len(events) < count or open_txns:
        order += 1
        if len(events) < count and (not open_txns or rng.random() < 0.5):
            steps: list[ReadList | Append] = []
            for _ in range(rng.randint(1, 4)):
                key = rng.choice([b"x", b"y", b"z"])
                element += 1
                steps.append(ReadList(key) if rng.random() < 0.5 else Append(key, element))
            event: AppendEvent = Event("c", tuple(steps), order)
            events.append(event)
            open_txns.append((event, max(0, len(versions) - 1 - rng.randint(0, stale)), {}))
            continue
        event, snapshot, appended = open_txns.pop(rng.randrange(len(open_txns)))
        event.returned = order
        event.result = _execute(event.action, versions[snapshot], appended)
        newest = dict(versions[-1])
        base = versions[snapshot]
        if conflicts and any(newest.get(key) != base.get(key) for key in appended):
            event.outcome = Outcome.FAILED
            continue
        for key, elements in appended.items():
            newest[key] = (*newest.get(key, ()), *elements)
        versions.append(newest)
        event.outcome = Outcome.OK
        if rng.random() < 0.1:
            event.outcome, event.returned, event.result = Outcome.UNKNOWN, None, None
    return events


def _execute(steps: Txn, base: dict[bytes, tuple[int, ...]], appended: dict[bytes, list[int]]) -> Lists:
    lists: list[tuple[int, ...] | None] = []
    for step in steps:
        if isinstance(step, Append):
            appended.setdefault(step.key, []).append(step.element)
            lists.append(None)
        else:
            lists.append((*base.get(step.key, ()), *appended.get(step.key, ())))
    return lists


@given(st.integers(0, 1 << 32))
def test_a_correct_store_shows_nothing(seed: int) -> None:
    assert check_append(snapshot_store(random.Random(seed), 60, conflicts=True, stale=0)) == []


def test_a_store_without_conflict_checks_is_caught() -> None:
    caught = [
        bool(check_append(snapshot_store(random.Random(seed), 60, conflicts=False, stale=0))) for seed in range(20)
    ]
    assert all(caught)


def test_a_store_with_stale_snapshots_is_caught() -> None:
    histories = [snapshot_store(random.Random(seed), 60, conflicts=True, stale=2) for seed in range(20)]
    assert all(check_append(events) for events in histories)
    assert not any(check_append(events, realtime=False) for events in histories)
