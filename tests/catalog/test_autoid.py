"""AUTO_INCREMENT ranges: unique over threads and kills, handed back on close."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlfront.catalog.autoid import RANGE_IDS
from sqlfront.catalog.meta import MetaReader, auto_increment_field, row_id_field
from sqlfront.errors import Error
from tests.catalog.harness import FakeSession


@pytest.fixture
def counted(session: FakeSession) -> FakeSession:
    session.ddl("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY)")
    return session


def _stored(session: FakeSession, field: bytes) -> int:
    return MetaReader(session.database.storage.snapshot()).auto_id(session.table("t").db_id, field)


def test_the_range_is_stored_before_its_first_id(counted: FakeSession) -> None:
    table = counted.table("t")
    assert counted.database.autoids.allocate(table) == 1
    assert _stored(counted, auto_increment_field(table.id)) == RANGE_IDS
    assert counted.database.autoids.allocate(table, 3) == 2
    assert counted.database.autoids.allocate(table) == 5


def test_a_kill_never_gives_an_id_twice(counted: FakeSession) -> None:
    counted.database.autoids.allocate(counted.table("t"), 10)
    again = counted.database.reopen()
    assert again.autoids.allocate(counted.table("t")) == RANGE_IDS + 1


def test_close_hands_the_rest_back(counted: FakeSession) -> None:
    counted.database.autoids.allocate(counted.table("t"), 10)
    counted.database.autoids.close()
    assert _stored(counted, auto_increment_field(counted.table("t").id)) == 10
    assert counted.database.reopen().autoids.allocate(counted.table("t")) == 11


def test_explicit_values_move_it_on(counted: FakeSession) -> None:
    table, ids = counted.table("t"), counted.database.autoids
    ids.rebase(table, 3)
    assert ids.allocate(table) == 4
    ids.rebase(table, 2)
    assert ids.allocate(table) == 5
    ids.rebase(table, 1_000_000)
    assert counted.database.reopen().autoids.allocate(table) > 1_000_000
    assert ids.allocate(table) == 1_000_001


def test_more_than_a_range_at_once(counted: FakeSession) -> None:
    table, ids = counted.table("t"), counted.database.autoids
    assert ids.allocate(table, 3 * RANGE_IDS) == 1
    assert ids.allocate(table) == 3 * RANGE_IDS + 1


def test_the_types_end_is_the_end(session: FakeSession) -> None:
    session.ddl("CREATE TABLE t (id TINYINT AUTO_INCREMENT PRIMARY KEY)")
    table, ids = session.table("t"), session.database.autoids
    ids.rebase(table, 125)
    assert [ids.allocate(table), ids.allocate(table)] == [126, 127]
    with pytest.raises(Error) as caught:
        ids.allocate(table)
    assert caught.value.code == 1467


def test_row_ids_are_apart_from_values(session: FakeSession) -> None:
    session.ddl("CREATE TABLE t (id INT AUTO_INCREMENT, UNIQUE (id))")
    table, ids = session.table("t"), session.database.autoids
    assert [ids.allocate(table), ids.allocate_row_ids(table, 5), ids.allocate_row_ids(table)] == [1, 1, 6]
    assert _stored(session, row_id_field(table.id)) == RANGE_IDS


def test_threads_get_different_ids(counted: FakeSession) -> None:
    table, ids = counted.table("t"), counted.database.autoids
    seen: list[list[int]] = []

    def work() -> None:
        mine = [ids.allocate(table) for _ in range(5000)]
        seen.append(mine)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = [i for mine in seen for i in mine]
    assert len(set(every)) == 20_000
    assert all(mine == sorted(mine) for mine in seen)


def test_two_processes_share_a_counter(counted: FakeSession) -> None:
    table = counted.table("t")
    other = counted.database.reopen()
    first = {counted.database.autoids.allocate(table) for _ in range(2 * RANGE_IDS)}
    second = {other.autoids.allocate(table) for _ in range(2 * RANGE_IDS)}
    third = {counted.database.autoids.allocate(table) for _ in range(3 * RANGE_IDS)}
    assert not first & second
    assert not second & third
    assert not first & third


def test_the_next_id_is_cheap(counted: FakeSession) -> None:
    table, allocate = counted.table("t"), counted.database.autoids.allocate
    allocate(table)
    best = 1.0
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(500):
            allocate(table)
        best = min(best, (time.perf_counter() - start) / 500)
    assert best < 20e-6


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.one_of(st.tuples(st.just("a"), st.integers(1, 9000)), st.tuples(st.just("r"), st.integers(1, 50_000))))
)
def test_ids_are_new_and_above_explicit_values(steps: list[tuple[str, int]]) -> None:
    session = FakeSession()
    session.ddl("CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY)")
    table, ids = session.table("t"), session.database.autoids
    highest = 0
    for kind, n in steps:
        if kind == "a":
            first = ids.allocate(table, n)
            assert first > highest
            highest = first + n - 1
        else:
            ids.rebase(table, n)
            highest = max(highest, n)
    session.database.storage.close()
