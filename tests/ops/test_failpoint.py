"""Failpoints: the syntax, the chains, what each task does, and what a point costs when it is off."""

from __future__ import annotations

import asyncio
import random
import timeit
from collections.abc import Iterator
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore import failpoint
from kvstore.failpoint import Action, FailpointError, FailpointPanic, Failpoints, parse_actions

TEXTS = st.text(st.characters(exclude_characters=">", exclude_categories=("Cs",)), max_size=20)
PERCENTS = st.one_of(st.just(100.0), st.integers(0, 100 * 1000).map(lambda n: n / 1000))
COUNTS = st.one_of(st.none(), st.integers(0, 10**9))
MILLISECONDS = st.integers(0, failpoint.WAIT_MS_MAX).map(str)
ACTIONS = st.one_of(
    st.builds(Action, st.sampled_from(["return", "panic", "print"]), st.none() | TEXTS, PERCENTS, COUNTS),
    st.builds(Action, st.sampled_from(["sleep", "delay"]), MILLISECONDS, PERCENTS, COUNTS),
    st.builds(Action, st.sampled_from(["off", "pause", "yield"]), st.none(), PERCENTS, COUNTS),
)


class Effects:
    """Stands for what a failpoint does to the process: waits, lines and panics are written down."""

    def __init__(self) -> None:
        self.blocked: list[float] = []
        self.lines: list[str] = []

    def points(self, seed: int = 0) -> Failpoints:
        return Failpoints(random.Random(seed), self.blocked.append, self.lines.append)


@pytest.fixture
def process_points() -> Iterator[None]:
    yield
    failpoint.clear()


@given(st.lists(ACTIONS, min_size=1, max_size=6))
def test_what_is_printed_is_read_back(actions: list[Action]) -> None:
    assert parse_actions("->".join(map(str, actions))) == tuple(actions)


@given(st.text(max_size=60) | st.text("%*()->.0123456789 offreturnsleep", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        actions = parse_actions(text)
    except FailpointError:
        return
    assert parse_actions("->".join(map(str, actions))) == actions


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is none of off, return"),
        ("explode", "'explode' is none of"),
        ("off->", "is none of"),
        ("return(x", "parenthesis is not closed"),
        ("150%off", "no percentage between 0 and 100"),
        ("-1%off", "no percentage"),
        ("nan%off", "no percentage"),
        ("x*off", "'x' is no count"),
        ("٣*off", "is no count"),
        ("sleep", "needs milliseconds"),
        ("sleep(soon)", "'soon' is no wait in milliseconds"),
        ("sleep(99999999)", "between 0 and 3600000"),
        ("pause(1)", "takes no argument"),
        ("off" + " " * 5000, "at most 4096"),
    ],
)
def test_refused_actions_are_quoted(text: str, complaint: str) -> None:
    with pytest.raises(FailpointError, match=complaint.replace("(", r"\(")):
        parse_actions(text)


def test_a_chain_goes_on_where_a_count_is_used_up() -> None:
    points = Effects().points()
    points.configure("a", "2*return(x)->1*return->off")
    assert [points.evaluate("a") for _ in range(5)] == ["x", "x", "", None, None]


def test_a_chance_that_does_not_come_up_passes_to_the_next() -> None:
    points = Effects().points(seed=7)
    points.configure("a", "30%return(first)->return(second)")
    found = [points.evaluate("a") for _ in range(2000)]
    assert set(found) == {"first", "second"}
    assert 500 < found.count("first") < 700


def test_chances_follow_the_seed() -> None:
    def draw(seed: int) -> list[str | None]:
        points = Effects().points(seed)
        points.configure("a", "50%return")
        return [points.evaluate("a") for _ in range(64)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_tasks_in_synchronous_code() -> None:
    effects = Effects()
    points = effects.points()
    points.configure("a", "1*sleep(20)->1*delay(5)->1*print->1*print(hello)->1*yield->1*panic(broken)->panic")
    assert [points.evaluate("a") for _ in range(5)] == [None] * 5
    assert effects.blocked == [0.02, 0.005]
    assert effects.lines == ["failpoint a executed.", "hello"]
    with pytest.raises(FailpointPanic, match="broken"):
        points.evaluate("a")
    with pytest.raises(FailpointPanic, match="failpoint a panic"):
        points.evaluate("a")
    points.configure("a", "pause")
    with pytest.raises(FailpointError, match="cannot pause"):
        points.evaluate("a")


def test_panic_is_what_the_process_makes_of_it() -> None:
    class Ended(BaseException):
        pass

    def end(message: str) -> NoReturn:
        raise Ended(message)

    points = Failpoints(random.Random(0), panic=end)
    points.configure("a", "panic(now)")
    with pytest.raises(Ended, match="now"):
        points.evaluate("a")


async def _paused_at(points: Failpoints, name: str) -> asyncio.Task[str | None]:
    task = asyncio.create_task(points.evaluate_async(name))
    await asyncio.sleep(0)
    assert not task.done()
    return task


def test_a_pause_ends_when_the_point_is_set_anew_or_removed() -> None:
    async def main() -> None:
        points = Effects().points()
        points.configure("a", "pause")
        first = await _paused_at(points, "a")
        points.configure("a", "pause")
        assert await first is None
        second = await _paused_at(points, "a")
        third = await _paused_at(points, "a")
        third.cancel()
        await asyncio.sleep(0)
        assert points.remove("a")
        assert await second is None
        assert third.cancelled()
        assert not points.remove("a")

    asyncio.run(main())


def test_waits_in_a_coroutine_leave_the_loop_to_others() -> None:
    async def main() -> list[str]:
        effects = Effects()
        points = effects.points()
        points.configure("slow", "sleep(5)")
        points.configure("polite", "yield")
        points.configure("busy", "delay(7)")
        order: list[str] = []

        async def run(name: str) -> None:
            await points.evaluate_async(name)
            order.append(name)

        await asyncio.gather(run("slow"), run("polite"), run("busy"), run("none"))
        assert effects.blocked == [0.007]
        return order

    assert asyncio.run(main()) == ["busy", "none", "polite", "slow"]


def test_the_environment_is_taken_whole_or_not_at_all() -> None:
    points = Effects().points()
    points.setup_from_env({"FAILPOINTS": " a=50%return(x=1)->off ; raft::before_save=panic;; "})
    assert points.list_all() == [("a", "50%return(x=1)->off"), ("raft::before_save", "panic")]
    for wrong in ("c=off;b=explode", "c=off;b", "c=off;b c=off"):
        with pytest.raises(FailpointError):
            points.setup_from_env({"FAILPOINTS": wrong})
    points.setup_from_env({})
    assert [name for name, _ in points.list_all()] == ["a", "raft::before_save"]


def test_there_is_a_limit_to_points() -> None:
    points = Effects().points()
    for n in range(failpoint.POINTS_MAX):
        points.configure(f"p{n}", "off")
    with pytest.raises(FailpointError, match="1024 failpoints"):
        points.configure("one_more", "off")
    points.configure("p0", "return")
    points.clear()
    assert points.list_all() == []


@pytest.mark.usefixtures("process_points")
def test_the_process_has_one_set() -> None:
    async def both() -> tuple[str | None, str | None]:
        return failpoint.fail_point("a"), await failpoint.fail_point_async("a")

    assert asyncio.run(both()) == (None, None)
    failpoint.configure("a", "return(x)")
    assert asyncio.run(both()) == ("x", "x")
    failpoint.configure("b", "off")
    failpoint.remove("a")
    assert asyncio.run(both()) == (None, None)


def test_a_point_that_is_off_costs_next_to_nothing() -> None:
    """At most 50 ns where a call of an empty function takes 25; both are measured, as the machine may be busy."""

    def empty(name: str) -> None:
        return None

    scope = {"fail_point": failpoint.fail_point, "empty": empty}
    calls = 20_000
    point = min(timeit.repeat("fail_point('x')", globals=scope, number=calls, repeat=15)) / calls
    plain = min(timeit.repeat("empty('x')", globals=scope, number=calls, repeat=15)) / calls
    assert point < max(50e-9, 3 * plain)
