"""What requests are made of, and what becomes of them: pages, orders, limits, errors, warnings, quotas, interrupts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sqlfront
from coprocessor.dag.plan import EncodeType
from kvstore.client.api import CancelToken, PushAnswer, PushDown, PushRequest
from kvstore.errors import Cancelled, PushFailed
from kvstore.proto import tipb_pb2
from sqlfront.exec import own_writes, pushing
from tests.plan.test_scripts import fill
from tests.push.regions import Regions, connect

ROWS = 3000


@pytest.fixture
def con() -> Iterator[Any]:
    with connect(5) as connection:
        connection.execute(
            "create table t (id int primary key, a int, d decimal(12, 2), s varchar(10), e enum('x', 'y'), key ka (a))"
        )
        fill(connection, "t", ROWS, "i, i % 10, i, concat('s', i % 7), if(i % 100, 'x', 'y')")
        connection.execute("analyze table t")
        regions(connection).requests.clear()
        yield connection


def regions(con: Any) -> Regions:
    found = con._database.regions
    assert isinstance(found, Regions)
    return found


def asked(con: Any, sql: str, params: tuple[Any, ...] = ()) -> tuple[list[Any], list[PushRequest]]:
    """The rows of a statement, and its requests."""
    requests = regions(con).requests
    requests.clear()
    rows = con.execute(sql, params).fetchall()
    assert regions(con).open_requests == 0
    return rows, list(requests)


def dag_of(request: PushRequest) -> Any:
    return tipb_pb2.DAGRequest.FromString(request.data)


def test_the_settings_of_a_session_are_in_its_requests(con: Any) -> None:
    con.execute("set time_zone = 'Europe/Berlin', tidb_distsql_scan_concurrency = 3")
    _, (request,) = asked(con, "select count(*) from t")
    dag = dag_of(request)
    assert request.concurrency == 3
    assert (dag.time_zone_name, dag.time_zone_offset) == ("Europe/Berlin", 0)
    assert dag.flags == 2 | 32 | 128 | 256
    assert dag.sql_mode & 1 << 21, "STRICT_TRANS_TABLES"
    assert dag.div_precision_increment == 4
    assert not dag.collect_execution_summaries
    con.execute("set time_zone = '-03:30', sql_mode = ''")
    _, (request,) = asked(con, "select count(*) from t")
    dag = dag_of(request)
    assert (dag.time_zone_name, dag.time_zone_offset, dag.sql_mode) == ("", -12_600, 0)


def test_only_the_columns_that_are_read_are_asked_for(con: Any) -> None:
    _, (request,) = asked(con, "select id from t where d > 2990")
    assert [c.column_id for c in dag_of(request).executors[0].tbl_scan.columns] == [1, 3]


def test_gets_are_no_requests(con: Any) -> None:
    for sql in ("select * from t where id = 5", "select * from t where id in (5, 6)"):
        assert asked(con, sql)[1] == []


def test_who_may_stop_early_asks_by_pages(con: Any) -> None:
    rows, (request,) = asked(con, "select id from t limit 3")
    assert len(rows) == 3
    assert request.page_rows == 128
    _, (request,) = asked(con, "select id from t where e = 'x' limit 3")
    assert request.page_rows == 128, "the limit stays above, but it ends the scan"
    assert asked(con, "select sum(d) from t")[1][0].page_rows == 0
    con.execute("set tidb_min_paging_size = 7")
    assert asked(con, "select id from t limit 3")[1][0].page_rows == 7
    con.execute("set tidb_enable_paging = off")
    assert asked(con, "select id from t limit 3")[1][0].page_rows == 0


def test_an_order_of_the_path_is_kept(con: Any) -> None:
    rows, (request,) = asked(con, "select id from t where d >= 0 order by id desc limit 5")
    assert rows == [(ROWS - 1 - i,) for i in range(5)]
    assert (request.keep_order, request.desc) == (True, True)
    rows, (request,) = asked(con, "select id from t order by d limit 5")
    assert rows == [(i,) for i in range(5)]
    assert not request.keep_order


def test_no_rows_are_asked_for_when_none_are_wanted(con: Any) -> None:
    assert asked(con, "select id from t where d > 5 limit 0") == ([], [])


def test_lookups_ask_for_so_many_rows_at_a_time(con: Any) -> None:
    con.execute("set tidb_index_lookup_size = 100, tidb_index_lookup_concurrency = 2")
    rows, requests = asked(con, "select sum(d), count(*) from t force index (ka) where a < 5")
    assert rows[0][1] == ROWS / 2
    assert dag_of(requests[0]).executors[0].HasField("idx_scan")
    assert len(requests) == 1 + ROWS // 2 // 100
    assert all(dag_of(r).executors[0].HasField("tbl_scan") for r in requests[1:])


def test_an_aggregate_of_no_parts_at_all(con: Any) -> None:
    rows, requests = asked(con, "select count(*), min(s), sum(d), avg(d) from t force index (ka) where a > 100")
    assert rows == [(0, None, None, None)]
    assert len(requests) == 1, "there are no rows to ask for"


def test_neighbours_are_one_range(con: Any) -> None:
    con.execute("update t set a = 77 where id between 100 and 139")
    _, requests = asked(con, "select sum(d) from t force index (ka) where a = 77")
    assert len(requests[1].ranges) == 1


def test_own_writes_are_left_out_of_the_ranges(con: Any) -> None:
    con.execute("begin")
    con.execute("update t set d = 100000 where id = 7")
    con.execute("delete from t where id = 9")
    con.execute("insert into t values (5000, 1, 1, 's', 'x')")
    rows, (request,) = asked(con, "select count(*), max(d) from t")
    assert rows == [(ROWS, 100000)]
    assert len(request.ranges) == 4
    rows, _ = asked(con, "select id from t order by d desc limit 2")
    assert rows == [(7,), (ROWS - 1,)]
    rows, requests = asked(con, "select id from t order by id desc limit 2")
    assert rows == [(5000,), (ROWS - 1,)]
    assert requests == [], "rows from two places are in no order"
    con.execute("rollback")


def test_an_order_with_rows_that_others_changed_before_they_were_written(con: Any) -> None:
    with sqlfront.dbapi.Connection(con._database, con._database.session()) as other:
        other.execute("set autocommit = 1")
        con.execute("begin pessimistic")
        con.execute("select count(*) from t")
        other.execute("update test.t set a = 11 - id where id in (1, 2)")
        con.execute("update t set e = 'y' where id in (1, 2)")  # no write to the index, but another entry of it
        for order, first in (("desc", [10, 9, 9]), ("", [0, 0, 0])):
            rows, _ = asked(con, f"select a from t use index (ka) order by a {order} limit 3")
            assert rows == [(a,) for a in first]
        con.execute("rollback")


def test_conditions_on_entries_whose_handles_no_request_tells(con: Any) -> None:
    con.execute("create table f (id int, x double, a int, b int, c int, primary key (x, id), key ab (a, b))")
    fill(con, "f", 40, "i, i / 3, 1, i % 4, 1")
    query = "select count(*), sum(c) from f use index (ab) where a = 1 and b % 4 = 3"
    assert asked(con, query)[0] == [(10, 10)]
    assert asked(con, f"{query} and x > 0 and id > 4 limit 3")[0] == [(9, 9)]


def test_many_own_writes_are_answered_here(con: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "OWN_WRITES_MAX", 10)
    con.execute("begin")
    con.execute("update t set d = d + 1 where id < 20")
    rows, requests = asked(con, "select sum(d) from t where a >= 0")
    assert rows == [(sum(range(ROWS)) + 20,)]
    assert requests == []
    con.execute("rollback")


def test_ranges_around_keys() -> None:
    ranges = [(b"b", b"d"), (b"f", b"g")]
    writes = [(b"b", b"1"), (b"c", None), (b"f\0", b"1")]
    assert own_writes.without_keys(ranges, writes) == [
        (b"b\0", b"c"),
        (b"c\0", b"d"),
        (b"f", b"f\0"),
        (b"f\0\0", b"g"),
    ]
    assert own_writes.without_keys([(b"a", b"a\0")], [(b"a", None)]) == []


def test_parameters_are_literals_of_their_request(con: Any) -> None:
    sql = "select count(*) from t where d < ? and a = ?"
    assert asked(con, sql, (100, 3))[0] == [(10,)]
    assert asked(con, sql, (50, 4))[0] == [(5,)]
    assert asked(con, sql, (None, 4))[0] == [(0,)]


class _Answers:
    """A `PushDown` that lets the test have a say in every answer."""

    arrow = True
    few_rows = -1

    def __init__(self, regions: Regions, each: Callable[[PushAnswer], PushAnswer]) -> None:
        self._regions = regions
        self._each = each

    def run(self, request: PushRequest, cancel: CancelToken | None = None) -> Iterator[PushAnswer]:
        for answer in self._regions.run(request, cancel):
            yield self._each(answer)
            if cancel is not None and cancel.is_set():
                raise Cancelled


def through(con: Any, each: Callable[[PushAnswer], PushAnswer]) -> None:
    push_down: PushDown = _Answers(regions(con), each)
    con._session.storage.push_down = push_down


def test_warnings_of_stores_are_the_sessions(con: Any) -> None:
    def warned(answer: PushAnswer) -> PushAnswer:
        select = tipb_pb2.SelectResponse.FromString(answer.data)
        select.warnings.add(code=1292, msg="Truncated incorrect DOUBLE value: 'x'")
        return PushAnswer(select.SerializeToString(), answer.region_id, answer.store, answer.wire_bytes, 0.0)

    through(con, warned)
    con.execute("select sum(d) from t where id < 2").fetchall()
    assert ("Warning", 1292, "Truncated incorrect DOUBLE value: 'x'") in con.execute("show warnings").fetchall()


@pytest.mark.parametrize(
    ("failure", "code", "kind"),
    [
        (PushFailed(1690, "BIGINT value is out of range in 'a'"), 1690, sqlfront.DataError),
        (PushFailed(0, "signature 9999 is not supported"), 1105, sqlfront.Error),
    ],
)
def test_a_failure_has_mysqls_code(con: Any, failure: PushFailed, code: int, kind: type[sqlfront.Error]) -> None:
    def fail(answer: PushAnswer) -> PushAnswer:
        raise failure

    through(con, fail)
    for sql in ("select sum(d) from t", "select * from t where d > 1", "select * from t where a = 3"):
        with pytest.raises(kind) as caught:
            con.execute(sql).fetchall()
        assert caught.value.code == code
    assert regions(con).open_requests == 0


def test_an_evaluation_that_fails_has_its_own_error(con: Any) -> None:
    con.execute("create table big (id int primary key, n bigint)")
    con.execute("insert into big values (1, 9223372036854775807)")
    with pytest.raises(sqlfront.DataError) as caught:
        con.execute("select sum(n + 1) from big").fetchall()
    assert caught.value.code == 1690


def test_an_interrupt_reaches_the_requests(con: Any) -> None:
    def interrupt(answer: PushAnswer) -> PushAnswer:
        con._session.interrupt()
        return answer

    through(con, interrupt)
    for sql in ("select * from t where d > 1", "select s from t force index (ka) where a > 3", "select sum(d) from t"):
        with pytest.raises(sqlfront.Error) as caught:
            con.execute(sql).fetchall()
        assert caught.value.code == 1317
    assert regions(con).open_requests == 0


def test_a_quota_ends_what_is_read(con: Any) -> None:
    con.execute("set tidb_mem_quota_query = 20000")
    for sql in ("select * from t where d >= 0", "select id, count(*) from t group by id order by 2, 1 limit 1"):
        with pytest.raises(sqlfront.Error) as caught:
            con.execute(sql).fetchall()
        assert caught.value.code == 8175
    assert regions(con).open_requests == 0


def test_analyze_tells_what_regions_did(con: Any) -> None:
    cursor = con.execute("explain analyze select a, sum(d) from t where d > 100 group by a")
    assert [c[0] for c in cursor.description][-1] == "execution info"
    lines = {re.sub(r"\W+", "", row[0]): row for row in cursor.fetchall()}
    assert lines["TableFullScan"][2] == str(ROWS)
    assert lines["Selection"][2] == str(ROWS - 101)
    reader = lines["TableReader"]
    assert re.fullmatch(r"cop_task: {num: \d+, max: [\d.]+ms, avg: [\d.]+ms, bytes: .*, cache hits: 0}", reader[-1])
    plan = con.execute("explain analyze select s from t force index (ka) where a = 3 and d < 50").fetchall()
    assert [row[2] for row in plan][-2:] == ["5", "300"]
    assert "index_task: {num: " in plan[1][-1]
    assert "table_task: {num: " in plan[1][-1]


def test_statistics_are_read_by_a_request(con: Any) -> None:
    _, requests = asked(con, "analyze table t")
    assert len(requests) == 1


def test_variables_take_what_makes_sense() -> None:
    with connect() as con:
        for name, value in (("tidb_index_lookup_size", 5), ("tidb_index_lookup_concurrency", 3)):
            con.execute(f"set {name} = {value}")
            assert con.execute(f"select @@{name}").fetchall() == [(value,)]
        with pytest.raises(sqlfront.Error):
            con.execute("set tidb_enable_paging = 7")


@pytest.mark.parametrize("encode", EncodeType)
def test_sums_of_many_digits_are_made_in_either_place(encode: EncodeType) -> None:
    with connect(0, encode) as con:
        con.execute("create table n (a int primary key, n bigint)")
        con.executemany("insert into n values (?, ?)", [(i, 9 * 10**18) for i in range(30)])
        assert con.execute("select sum(n) from n").fetchall() == [(27 * 10**19,)]
        joined = "select x.s, n.a from (select sum(n) s from n) x join n on n.a = 3"
        assert con.execute(joined).fetchall() == [(27 * 10**19, 3)]
