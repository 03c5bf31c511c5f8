"""Views in sessions: plans that have read one, prepared statements, errors and their places, locks."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from sqlfront.errors import DatabaseError, Error
from sqlfront.session import Session
from tests.session.statements import error_code, rows, run, value


def raised(session: Session, sql: str) -> DatabaseError:
    with pytest.raises(Error) as caught:
        session.execute(sql).fetch_all()
    assert isinstance(caught.value, DatabaseError)
    return caught.value


@pytest.fixture
def views(a: Session) -> Session:
    run(a, "create view w as select id, v from t where id > 1", "create view over_w as select sum(v) s from w")
    return a


# Plans


CHANGES = [
    (["create or replace view w as select id, v * 2 as v from t"], [(120,)]),
    (["alter view w as select 1 as id, 7 as v"], [(7,)]),
    (["drop view w", "create view w as select 3 as id, 4 as v"], [(4,)]),
    (["drop view w", "create table w (id int, v int)", "insert into w values (1, 9)"], [(9,)]),
    (["rename table w to gone", "create view w as select id, v + 1 as v from gone"], [(52,)]),
    (["drop table t", "create table t (id int primary key, v int)", "insert into t values (5, 6)"], [(6,)]),
    (["alter table t modify column v bigint"], [(50,)]),
    (["truncate table t"], [(None,)]),
]


@pytest.mark.parametrize(("changes", "expected"), CHANGES, ids=[c[0][0] for c in CHANGES])
def test_a_plan_is_made_anew_when_the_view_or_what_is_beneath_changes(
    views: Session, b: Session, changes: list[str], expected: list[tuple[object]]
) -> None:
    for session in (views, b):
        assert rows(session, "select s from over_w") == [(50,)]
        assert "select s from over_w" in session._plans
    run(views, *changes)
    for session in (b, views):
        assert rows(session, "select s from over_w") == expected


def test_a_plan_over_a_view_is_kept(views: Session) -> None:
    sql = "select v from w where id = ?"
    assert value(views, sql, (2,)) == 20
    plan = views._plans[sql]
    assert value(views, sql, (3,)) == 30
    assert rows(views, sql, (1,)) == []
    assert views._plans[sql] is plan


def test_prepared_statements_follow(views: Session, b: Session) -> None:
    run(b, "prepare s from 'select v from w where id = ?'", "set @two = 2")
    assert value(b, "execute s using @two") == 20
    run(views, "create or replace view w as select id, concat(s, '!') as v from t")
    assert value(b, "execute s using @two") == "b!"
    run(views, "drop view w")
    assert error_code(b, "execute s using @two") == 1146
    run(b, "prepare make from 'create view made as select id from t where v = 10'", "execute make")
    assert value(views, "select id from made") == 1


def test_the_settings_of_the_reader_count(views: Session) -> None:
    run(views, "create view loose as select v, max(id) m from t group by v")
    run(views, "set sql_mode = ''", "create view looser as select v, s from t group by v")
    assert len(rows(views, "select * from looser")) == 3
    run(views, "set sql_mode = 'ONLY_FULL_GROUP_BY'")
    assert len(rows(views, "select * from loose")) == 3
    assert error_code(views, "select * from looser") == 1055


def test_a_transaction_reads_the_view_at_its_snapshot(views: Session, b: Session) -> None:
    run(b, "begin", "select * from t")
    run(views, "insert into t values (4, 40, 'd')")
    assert value(b, "select s from over_w") == 50
    run(b, "insert into t values (5, 1, 'e')")
    assert value(b, "select s from over_w") == 51
    run(b, "commit")
    assert value(b, "select s from over_w") == 91


# Names


def test_names_are_those_of_when_it_was_made(views: Session, b: Session) -> None:
    run(b, "create database other", "use other", "create table t (id int, v int)", "insert into t values (8, 80)")
    assert rows(b, "select * from test.w order by id") == [(2, 20), (3, 30)]
    run(b, "create view mine as select t.id, w.v from t join test.w on w.id = 2")
    assert rows(views, "select * from other.mine") == [(8, 20)]
    run(views, "create view other.theirs as select max(id) from t")
    assert rows(b, "select * from theirs") == [(3,)]


def test_a_view_sees_nothing_of_the_statement_around_it(views: Session) -> None:
    assert rows(views, "with t as (select 9 id, 90 v) select w.id from w, t order by w.id") == [(2,), (3,)]
    assert value(views, "select (select count(*) from w where w.id = o.id) from t o where o.id = 2") == 1
    run(views, "create view free as select id from t where v = 10")
    views.register("t", pa.table({"id": [77], "v": [10]}))
    assert rows(views, "select id from free") == [(1,)]
    assert rows(views, "select id from t") == [(77,)]
    views.unregister("t")


def test_registered_tables_are_nothing_for_a_view(views: Session) -> None:
    views.register("arrow", pa.table({"n": [1, 2]}))
    exc = raised(views, "create view x as select n from arrow")
    assert (exc.code, exc.position) == (1352, len("create view x as select n from "))
    run(views, "create view x as with arrow as (select 5 as n) select n from arrow")
    assert value(views, "select n from x") == 5


def test_parameters_are_none_for_a_view(views: Session) -> None:
    assert error_code(views, "create view x as select id from t where v = ?", (1,)) == 1351
    with pytest.raises(Error, match="variable or parameter"):
        views.execute("create view x as select id from t where v = :v", {"v": 1})


# Errors


@pytest.mark.parametrize(
    ("sql", "code", "place"),
    [
        ("create view x as select id, nosuch from t", 1054, "nosuch"),
        ("create view x as\n  select id from t join nosuch", 1146, "nosuch"),
        ("create view w as select 1", 1050, "w as"),
        ("create view x (a, b) as select 1", 1353, "x ("),
        ("create view x as select id, v as id from t", 1060, "x as"),
        ("create view x as select id from t where v = @me", 1351, "v ="),
        ("create or replace view w as select * from over_w", 1146, "over_w"),
        ("insert into w values (1, 1)", 1105, "w values"),
        ("delete from w where id = 2", 1105, "w where"),
        ("drop view t", 1347, "t"),
    ],
)
def test_errors_have_their_place(views: Session, sql: str, code: int, place: str) -> None:
    exc = raised(views, sql)
    assert exc.code == code
    assert sql[exc.position :].startswith(place)


def test_an_error_of_a_views_query_is_at_the_views_name(views: Session) -> None:
    run(views, "create view a_long_way_down as select id, v from over_w, w", "alter table t drop column v")
    sql = "select s\n  from over_w"
    exc = raised(views, sql)
    assert exc.code == 1356
    assert sql[exc.position :] == "over_w"
    assert exc.message == (
        "View 'test.w' references invalid table(s) or column(s) or function(s): Unknown column 't.v' in 'field list'"
    )
    sql = "select 1 from t where id in (select id from a_long_way_down)"
    assert sql[raised(views, sql).position :] == "a_long_way_down)"
    assert error_code(views, "explain select * from w") == 1356
    assert error_code(views, "describe w") == 1356
    run(views, "show create view w", "show tables", "drop view w")


def test_views_nested_too_deeply(views: Session) -> None:
    run(views, "create view n0 as select id from t")
    for i in range(1, 32):
        run(views, f"create view n{i} as select id from n{i - 1}")
    assert rows(views, "select id from n31 where id = 2") == [(2,)]
    assert error_code(views, "create view n32 as select id from n31") == 1436


def test_the_columns_of_views_that_cannot_be_bound(views: Session) -> None:
    run(views, "create view broken as select s from t", "alter table t drop column s")
    found = rows(
        views,
        "select table_name, column_name from information_schema.columns where table_schema = 'test' order by 1, 2",
    )
    assert found == [("over_w", "s"), ("t", "id"), ("t", "v"), ("w", "id"), ("w", "v")]
    assert [(level, code) for level, code, _ in views.warnings] == [("Warning", 1356)]


# Locks


def test_for_update_locks_the_rows_beneath(views: Session, b: Session) -> None:
    run(b, "set innodb_lock_wait_timeout = 1")
    run(views, "begin", "select * from w where id = 2 for update")
    assert error_code(b, "update t set v = 0 where id = 2") == 1205
    run(b, "update t set v = 0 where id = 1")
    run(views, "rollback", "begin", "select w.id from w join t x using (id) where w.id = 3 for update of w")
    assert error_code(b, "update t set v = 0 where id = 3") == 1205
    run(views, "rollback")


def test_a_write_through_a_join_is_refused_in_every_place(views: Session) -> None:
    for sql in (
        "update over_w set s = 1",
        "update t, w set w.v = 1 where w.id = t.id",
        "delete w from t join w using (id)",
        "delete from w using w join t using (id)",
        "replace into over_w values (1)",
    ):
        assert error_code(views, sql) in (1105, 1288), sql
    assert rows(views, "select id, v from t order by id") == [(1, 10), (2, 20), (3, 30)]


def test_a_table_may_have_the_alias_that_a_view_has_elsewhere(views: Session) -> None:
    run(views, "create view inner_alias as select x.id from w x where x.v > 20")
    run(views, "delete x from t x join inner_alias on x.id = inner_alias.id")
    assert rows(views, "select id from t order by id") == [(1,), (2,)]
    run(views, "delete x from t x where x.id in (select x.id from w x)")
    assert rows(views, "select id from t order by id") == [(1,)]


def test_other_ways_to_write(views: Session, tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("1,2\n")
    assert error_code(views, f"import into w from '{tmp_path}/w.csv'") == 1347
    assert error_code(views, "delete from w order by id limit 1") == 1105
    assert error_code(views, "with q as (select 2 id) delete w from w join q using (id)") == 1105
    assert error_code(views, "with q as (select 2 id) update w join q using (id) set w.v = 1") == 1288
    assert error_code(views, "explain insert into w values (1, 1)") == 1105
