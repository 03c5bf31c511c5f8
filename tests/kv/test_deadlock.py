"""The wait-for graph of the record-level protocol, against a naive search for cycles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.errors import Deadlock
from kvstore.txn.deadlock import WaitForGraph

step = st.one_of(
    st.tuples(st.just("wait"), st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.just("stop"), st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.just("finish"), st.integers(1, 6), st.just(0)),
)


def reaches(edges: set[tuple[int, int]], start: int, goal: int) -> bool:
    seen, frontier = set(), [start]
    while frontier:
        node = frontier.pop()
        if node == goal:
            return True
        if node not in seen:
            seen.add(node)
            frontier.extend(holder for waiter, holder in edges if waiter == node)
    return False


@given(st.lists(step, max_size=40))
def test_refuses_exactly_the_waits_that_close_a_cycle(steps: list[tuple[str, int, int]]) -> None:
    graph = WaitForGraph()
    edges: set[tuple[int, int]] = set()
    for kind, first, second in steps:
        if kind == "stop":
            graph.stop_waiting(first, second)
            edges.discard((first, second))
        elif kind == "finish":
            graph.finish(first)
            edges = {edge for edge in edges if first not in edge}
        elif reaches(edges, second, first):
            with pytest.raises(Deadlock) as deadlock:
                graph.wait(first, second, b"k%d" % second)
            check_chain(deadlock.value, edges, first, second)
        else:
            graph.wait(first, second, b"k%d" % second)
            edges.add((first, second))
        assert [(waiter, holder) for waiter, holder, _, _ in graph.edges()] == sorted(edges)


def check_chain(deadlock: Deadlock, edges: set[tuple[int, int]], waiter: int, holder: int) -> None:
    """The chain begins with the refused wait, follows edges that are there and comes back to the victim."""
    chain = deadlock.wait_chain
    assert deadlock.start_ts == waiter
    assert chain[0] == (waiter, holder, b"k%d" % holder)
    assert all((before, after) in edges for before, after, _ in chain[1:])
    assert [after for _, after, _ in chain] == [*[before for before, _, _ in chain[1:]], waiter]


def test_a_wait_for_itself_is_a_deadlock() -> None:
    graph = WaitForGraph()
    with pytest.raises(Deadlock) as deadlock:
        graph.wait(7, 7, b"k")
    assert deadlock.value.wait_chain == ((7, 7, b"k"),)
    assert graph.edges() == []


def test_the_newest_key_of_a_repeated_wait_is_named() -> None:
    graph = WaitForGraph()
    graph.wait(1, 2, b"a")
    graph.wait(1, 2, b"b")
    assert graph.edges() == [(1, 2, b"a", b""), (1, 2, b"b", b"")]
    with pytest.raises(Deadlock) as deadlock:
        graph.wait(2, 1, b"c")
    assert deadlock.value.wait_chain == ((2, 1, b"c"), (1, 2, b"b"))


def test_a_wait_lasts_until_all_its_keys_are_had() -> None:
    graph = WaitForGraph()
    graph.wait(1, 2, b"a")
    graph.wait(1, 2, b"b")
    graph.stop_waiting(1, 2, b"b")
    with pytest.raises(Deadlock):
        graph.wait(2, 1, b"c")
    graph.stop_waiting(1, 2, b"a")
    graph.wait(2, 1, b"c")
