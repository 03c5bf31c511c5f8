"""What a transaction reads by an index, at its snapshot, of rows that others have changed before it wrote them."""

from __future__ import annotations

import pytest

from sqlfront.session import Session
from tests.session.statements import Connect, rows, run

BY_INDEX = "select id, v, s from t use index (v) where v >= 10 order by id"
COVERED = "select id, v from t use index (v) where v >= 10 order by id"
BY_ROWS = "select id, v, s from t ignore index (v) where v >= 10 order by id"
MANY = "select count(*) from t use index (v) where v >= 10"


def same(session: Session) -> list[tuple[object, ...]]:
    """The rows by the index, which are those of a scan."""
    found = rows(session, BY_ROWS)
    assert rows(session, BY_INDEX) == found
    assert rows(session, COVERED) == [row[:2] for row in found]
    assert rows(session, MANY) == [(len(found),)]
    for v in (10, 11, 15, 20, 30, 99):
        wanted = [row for row in found if row[1] == v]
        assert rows(session, f"select id, v, s from t use index (v) where v = {v}") == wanted
    return found


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("mode", ["pessimistic", "optimistic"])
def test_a_row_that_was_deleted_and_is_inserted(a: Session, b: Session, mode: str, unique: bool) -> None:
    if unique:
        run(a, "alter table t drop index v, add unique index v (v)")
    run(b, f"begin {mode}")
    assert same(b) == [(1, 10, "a"), (2, 20, "b"), (3, 30, "c")]
    if mode == "pessimistic":
        run(a, "delete from t where id = 1")
        run(b, "insert into t values (1, 11, 'new')")
        assert same(b) == [(1, 11, "new"), (2, 20, "b"), (3, 30, "c")]
    else:
        run(b, "update t set v = 11 where id = 1")
        assert same(b)[0] == (1, 11, "a")
    run(b, "rollback")


def test_rows_that_were_changed_and_are_changed_again(a: Session, b: Session) -> None:
    run(b, "begin pessimistic")
    same(b)
    run(a, "update t set v = v + 1")
    run(b, "update t set s = 'mine' where id = 1")  # leaves the other's entry as it is
    assert same(b) == [(1, 11, "mine"), (2, 20, "b"), (3, 30, "c")]
    run(b, "delete from t where id = 2")
    assert same(b) == [(1, 11, "mine"), (3, 30, "c")]
    run(b, "savepoint p", "update t set v = 99 where id = 3")
    assert same(b) == [(1, 11, "mine"), (3, 99, "c")]
    run(b, "rollback to p")
    assert same(b) == [(1, 11, "mine"), (3, 30, "c")]
    # what is locked is read as it is now
    assert rows(b, "select id from t use index (v) where v >= 31 for update") == [(3,)]
    assert same(b) == [(1, 11, "mine"), (3, 30, "c")]
    run(b, "commit")
    assert rows(a, "select id, v, s from t order by id") == [(1, 11, "mine"), (3, 31, "c")]
    run(a, "admin check table t")


def test_a_unique_value_that_went_from_row_to_row(a: Session, b: Session) -> None:
    run(a, "alter table t drop index v, add unique index v (v)")
    run(b, "begin pessimistic")
    same(b)
    run(a, "update t set v = 15 where id = 1", "update t set v = 10 where id = 2")
    run(b, "delete from t where id = 2")  # with the entry of 10, which is row 1's at the snapshot
    assert same(b) == [(1, 10, "a"), (3, 30, "c")]
    run(b, "commit")
    assert rows(a, "select id, v from t order by id") == [(1, 15), (3, 30)]
    run(a, "admin check table t")


def test_read_committed_sees_what_is_there(a: Session, connect: Connect) -> None:
    b = connect()
    run(b, "set transaction isolation level read committed", "begin pessimistic")
    run(a, "update t set v = v + 1")
    run(b, "update t set s = 'mine' where id = 1")
    assert same(b) == [(1, 11, "mine"), (2, 21, "b"), (3, 31, "c")]
    run(b, "rollback")
