"""Bank, set and long fork: right and wrong histories; and cycles against a naive search."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sim.checkers.bank import BankEvent, ReadAll, Transfer, check_bank
from tests.sim.checkers.graph import components, cycle, path
from tests.sim.checkers.long_fork import ReadGroup, WriteOne, check_long_fork
from tests.sim.checkers.sets import Add, ReadSet, check_set
from tests.sim.history import Event, Outcome

OK, FAILED, UNKNOWN = Outcome.OK, Outcome.FAILED, Outcome.UNKNOWN


def turn(*calls: tuple[Any, Outcome, Any]) -> list[Event[Any, Any]]:
    """Calls one after another."""
    return [
        Event("c", action, 2 * at, None if outcome is UNKNOWN else 2 * at + 1, outcome, result)
        for at, (action, outcome, result) in enumerate(calls)
    ]


def at_once(*calls: tuple[Any, Outcome, Any]) -> list[Event[Any, Any]]:
    return [Event("c", action, at, 100 + at, outcome, result) for at, (action, outcome, result) in enumerate(calls)]


def read_bank(balances: Mapping[bytes, int]) -> list[BankEvent]:
    return turn((Transfer(b"a", b"b", 1), UNKNOWN, None), (ReadAll(), OK, balances))


@pytest.mark.parametrize(
    ("balances", "expected"),
    [
        ({b"a": 5, b"b": 5}, []),
        ({b"a": 0, b"b": 10}, []),
        ({b"a": 5, b"b": 4}, ["wrong total"]),
        ({b"a": 10}, ["wrong accounts"]),
        ({b"a": 5, b"b": 5, b"c": 0}, ["wrong accounts"]),
        ({b"a": -1, b"b": 11}, ["overdrawn"]),
    ],
)
def test_bank(balances: Mapping[bytes, int], expected: list[str]) -> None:
    assert [anomaly.kind for anomaly in check_bank(read_bank(balances), [b"a", b"b"], 10)] == expected


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([(Add(1), OK, None), (Add(2), UNKNOWN, None), (Add(3), FAILED, None), (ReadSet(), OK, (1,))], []),
        ([(Add(1), OK, None), (Add(2), UNKNOWN, None), (ReadSet(), OK, (1, 2))], []),
        ([(Add(1), OK, None), (ReadSet(), OK, ())], ["lost"]),
        ([(Add(1), OK, None), (ReadSet(), FAILED, None)], []),
        ([(Add(1), OK, None), (ReadSet(), OK, ()), (ReadSet(), OK, (1,))], ["stale read"]),
        ([(Add(1), FAILED, None), (ReadSet(), OK, (1,))], ["failed add seen"]),
        ([(ReadSet(), OK, (4,))], ["unexpected"]),
        ([(Add(1), OK, None), (ReadSet(), OK, (1, 1))], ["duplicate"]),
        ([(Add(1), UNKNOWN, None), (ReadSet(), OK, (1,)), (ReadSet(), OK, ())], ["vanished"]),
    ],
)
def test_set(calls: Sequence[tuple[Any, Outcome, Any]], expected: list[str]) -> None:
    assert [anomaly.kind for anomaly in check_set(turn(*calls))] == expected


XY = ReadGroup((b"x", b"y"))
X, Y = WriteOne(b"x"), WriteOne(b"y")


def seen(x: bool, y: bool) -> Mapping[bytes, bool]:
    return {b"x": x, b"y": y}


def test_long_fork() -> None:
    both = [(X, OK, None), (Y, OK, None)]
    assert check_long_fork(at_once(*both, (XY, OK, seen(True, False)), (XY, OK, seen(True, True)))) == []
    forked = check_long_fork(at_once(*both, (XY, OK, seen(True, False)), (XY, OK, seen(False, True))))
    assert [anomaly.kind for anomaly in forked] == ["long fork"]
    unknown = check_long_fork(at_once((X, UNKNOWN, None), (XY, OK, seen(True, False))))
    assert unknown == []


def test_long_fork_sees_stale_and_invented_reads() -> None:
    assert [a.kind for a in check_long_fork(turn((X, OK, None), (XY, OK, seen(False, False))))] == ["stale read"]
    assert [a.kind for a in check_long_fork(turn((XY, OK, seen(False, True))))] == ["unexpected"]
    assert [a.kind for a in check_long_fork(turn((X, FAILED, None), (XY, OK, seen(True, False))))] == ["unexpected"]


graphs = st.dictionaries(st.integers(0, 6), st.sets(st.integers(0, 6), max_size=4), max_size=7)


def reachable(graph: Mapping[int, set[int]], start: int) -> set[int]:
    """What one or more edges lead to."""
    found: set[int] = set()
    work = [start]
    while work:
        for target in graph.get(work.pop(), ()):
            if target not in found:
                found.add(target)
                work.append(target)
    return found


@given(graphs)
def test_components_and_cycles_against_reachability(graph: dict[int, set[int]]) -> None:
    reach = {node: reachable(graph, node) for node in range(7)}
    on_cycle = {node for node in range(7) if node in reach[node]}
    assert {node for component in components(graph) for node in component} == on_cycle
    for component in components(graph):
        assert all(other in reach[node] for node in component for other in component)
    found = cycle(graph)
    assert (found is not None) == bool(on_cycle)
    if found is not None:
        assert found[0] == found[-1]
        assert all(later in graph[earlier] for earlier, later in itertools.pairwise(found))


@given(graphs, st.integers(0, 6), st.integers(0, 6))
def test_path_against_reachability(graph: dict[int, set[int]], start: int, end: int) -> None:
    steps = path(graph, start, end)
    assert (steps is not None) == (end in reachable(graph, start))
    if steps is not None:
        assert (steps[0], steps[-1]) == (start, end)
        assert all(later in graph[earlier] for earlier, later in itertools.pairwise(steps))
