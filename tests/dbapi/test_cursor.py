"""Cursors over a session that only remembers: fetching, streaming, errors, the mutex."""

import decimal
import threading

import pyarrow as pa
import pytest

import sqlfront
from kvstore.errors import LockWaitTimeout
from sqlfront.errors import error
from sqlfront.result import Result, rows_result
from tests.dbapi.fakes import COLUMNS, MOMENT, ONE, BatchSource, open_fake, rows_of


def test_single_row_result_is_handed_out_once():
    con, session, _ = open_fake()
    session.answers = [Result(ONE, row=(7,))]
    cur = con.cursor()
    assert cur.execute("SELECT id FROM t WHERE id = ?", (7,)) is cur
    assert session.calls == [("execute", "SELECT id FROM t WHERE id = ?", (7,))]
    assert cur.fetchone() == (7,)
    assert cur.fetchone() is None
    assert cur.fetchall() == []


def test_single_row_result_without_a_row():
    con, session, _ = open_fake()
    session.answers = [Result(ONE), Result(ONE), Result(ONE)]
    cur = con.cursor()
    assert cur.execute("s").fetchone() is None
    assert cur.execute("s").fetchall() == []
    assert list(cur.execute("s")) == []


@pytest.mark.parametrize("how", ["fetchall", "fetchmany", "iterate"])
def test_single_row_by_every_fetch(how):
    con, session, _ = open_fake()
    session.answers = [Result(ONE, row=(7,))]
    cur = con.execute("s")
    got = {"fetchall": cur.fetchall, "fetchmany": lambda: cur.fetchmany(5), "iterate": lambda: list(cur)}[how]()
    assert got == [(7,)]
    assert cur.fetchone() is None


def test_batches_are_pulled_as_they_are_needed():
    con, session, _ = open_fake()
    source = BatchSource([rows_of(1, 2), rows_of(3), [], rows_of(4, 5)])
    session.answers = [Result(ONE, source)]
    cur = con.execute("s")
    assert source.pulled == 0
    assert cur.fetchone() == (1,)
    assert source.pulled == 1
    assert cur.fetchmany(2) == [(2,), (3,)]
    assert source.pulled == 2
    assert cur.fetchall() == [(4,), (5,)]
    assert source.closed == 1
    assert cur.fetchone() is None
    assert cur.fetchmany(3) == []


def test_fetchmany_follows_arraysize():
    con, session, _ = open_fake()
    session.answers = [rows_result(ONE, rows_of(*range(10)))]
    cur = con.execute("s")
    assert len(cur.fetchmany()) == 1
    cur.arraysize = 4
    assert len(cur.fetchmany()) == 4
    assert cur.fetchmany(0) == []
    assert len(cur.fetchmany()) == 4
    assert len(cur.fetchmany()) == 1
    with pytest.raises(sqlfront.InterfaceError):
        cur.fetchmany(-1)


def test_fetch_without_rows_is_an_error():
    con, session, _ = open_fake()
    cur = con.cursor()
    for fetch in (cur.fetchone, cur.fetchall, cur.fetchmany, cur.fetch_arrow_table, cur.fetch_record_batch):
        with pytest.raises(sqlfront.ProgrammingError):
            fetch()
    session.answers = [Result(affected_rows=3, last_insert_id=17, info="Records: 3")]
    cur.execute("INSERT")
    assert (cur.rowcount, cur.lastrowid, cur.info, cur.description) == (3, 17, "Records: 3", None)
    with pytest.raises(sqlfront.ProgrammingError):
        cur.fetchone()


def test_description():
    con, session, _ = open_fake()
    session.answers = [rows_result(COLUMNS, [])]
    cur = con.execute("s")
    names = [d[0] for d in cur.description]
    assert names == ["id", "name", "price", "raw", "at"]
    assert [len(d) for d in cur.description] == [7] * 5
    kinds = [d[1] for d in cur.description]
    wanted = [sqlfront.NUMBER, sqlfront.STRING, sqlfront.NUMBER, sqlfront.BINARY, sqlfront.DATETIME]
    assert kinds == wanted
    others = {sqlfront.NUMBER, sqlfront.STRING, sqlfront.BINARY, sqlfront.DATETIME, sqlfront.ROWID}
    for kind, right in zip(kinds, wanted, strict=True):
        assert all(kind != other for other in others if other is not right)
    assert cur.description[0][6] is False
    assert cur.description[1][3:7] == (20, None, None, True)
    assert cur.description[2][3:7] == (None, 10, 2, True)
    assert cur.rowcount == -1
    assert cur.lastrowid is None


def test_a_failed_statement_leaves_no_result():
    con, session, _ = open_fake()
    session.answers = [rows_result(ONE, rows_of(1)), error(1146, "Table 'test.x' doesn't exist")]
    cur = con.execute("s")
    with pytest.raises(sqlfront.ProgrammingError) as caught:
        cur.execute("s")
    assert caught.value.code == 1146
    assert cur.description is None
    with pytest.raises(sqlfront.ProgrammingError):
        cur.fetchone()


def test_errors_of_the_store_are_translated_and_keep_their_cause():
    con, session, _ = open_fake()
    session.answers = [LockWaitTimeout(b"k", 50), ZeroDivisionError("bug")]
    with pytest.raises(sqlfront.OperationalError) as caught:
        con.execute("s")
    assert caught.value.code == 1205
    assert isinstance(caught.value.__cause__, LockWaitTimeout)
    with pytest.raises(sqlfront.InternalError) as bug:
        con.execute("s")
    assert isinstance(bug.value.__cause__, ZeroDivisionError)
    assert [w[:2] for w in con.warnings] == [("Error", 1205), ("Error", 1105)]
    con.execute("s")  # the mutex is free again


def test_an_error_while_streaming_is_not_taken_for_the_end():
    con, session, _ = open_fake()
    session.answers = [Result(ONE, BatchSource([rows_of(1), rows_of(2)], 1, LockWaitTimeout(b"k", 5)))]
    cur = con.execute("s")
    assert cur.fetchone() == (1,)
    for fetch in (cur.fetchone, cur.fetchone, cur.fetchall, cur.fetchmany):
        with pytest.raises(sqlfront.OperationalError):
            fetch()


def test_a_new_statement_closes_the_old_result():
    con, session, _ = open_fake()
    source = BatchSource([rows_of(1), rows_of(2)])
    session.answers = [Result(ONE, source), Result()]
    cur = con.execute("s")
    cur.fetchone()
    cur.execute("t")
    assert source.closed == 1


def test_executemany_checks_rows_as_they_pass():
    con, session, _ = open_fake()
    cur = con.cursor()
    cur.executemany("INSERT", ((i, decimal.Decimal(i)) for i in range(3)))
    assert cur.rowcount == 3
    assert session.calls[-1] == ("execute_many", "INSERT", [(i, decimal.Decimal(i)) for i in range(3)])
    with pytest.raises(sqlfront.InterfaceError, match="row 2: parameter 1"):
        cur.executemany("INSERT", [(1,), (object(),)])
    with pytest.raises(sqlfront.InterfaceError):
        cur.executemany("INSERT", "abc")


def test_arrow_table_and_reader():
    con, session, _ = open_fake()
    rows = [(1, "a", decimal.Decimal("1.50"), b"x", MOMENT), (2, None, None, None, None)]
    session.answers = [
        rows_result(COLUMNS, rows),
        Result(ONE, BatchSource([rows_of(*range(5)), rows_of(9)])),
        Result(ONE),
    ]
    table = con.execute("s").fetch_arrow_table()
    assert table.to_pylist()[0] == dict(zip(["id", "name", "price", "raw", "at"], rows[0], strict=True))
    assert table.schema.field("price").type == pa.decimal128(10, 2)
    reader = con.execute("s").fetch_record_batch(rows_per_batch=2)
    assert [b.num_rows for b in reader] == [2, 2, 1, 1]
    empty = con.execute("s")
    assert empty.arrow_schema == pa.schema([("id", pa.int64())])
    assert empty.fetch_arrow_table().num_rows == 0


def test_arrow_of_a_single_row():
    con, session, _ = open_fake()
    session.answers = [Result(ONE, row=(7,)), Result(ONE, row=(8,))]
    assert con.execute("s").fetch_arrow_table().to_pydict() == {"id": [7]}
    assert pa.table(con.execute("s")).to_pydict() == {"id": [8]}


def test_frames():
    polars, pandas = pytest.importorskip("polars"), pytest.importorskip("pandas")
    con, session, _ = open_fake()
    session.answers = [rows_result(ONE, rows_of(1, 2)) for _ in range(3)]
    assert isinstance(con.execute("s").fetch_df(), pandas.DataFrame)
    assert con.execute("s").pl().rows() == [(1,), (2,)]
    assert polars.DataFrame(con.execute("s")).rows() == [(1,), (2,)]


def test_tuples_and_arrow_do_not_mix():
    con, session, _ = open_fake()
    session.answers = [
        rows_result(ONE, rows_of(1, 2)),
        Result(ONE, row=(1,)),
        rows_result(ONE, rows_of(1, 2)),
        Result(ONE, row=(1,)),
    ]
    for _ in range(2):
        cur = con.execute("s")
        cur.fetchone()
        with pytest.raises(sqlfront.InterfaceError, match="already read"):
            cur.fetch_arrow_table()
    for _ in range(2):
        cur = con.execute("s")
        cur.fetch_record_batch()
        with pytest.raises(sqlfront.InterfaceError, match="as Arrow"):
            cur.fetchone()
        with pytest.raises(sqlfront.InterfaceError, match="as Arrow"):
            cur.fetch_arrow_table()


def test_a_reader_fails_when_its_cursor_moves_on():
    con, session, _ = open_fake()
    session.answers = [Result(ONE, BatchSource([rows_of(1), rows_of(2)])), Result()]
    cur = con.execute("s")
    reader = cur.fetch_record_batch()
    assert reader.read_next_batch().num_rows == 1
    cur.execute("t")
    with pytest.raises((sqlfront.InterfaceError, pa.ArrowInvalid, OSError), match="closed or ran"):
        reader.read_next_batch()


def test_closed_cursor_and_connection():
    con, session, database = open_fake()
    session.answers = [Result(ONE, BatchSource([rows_of(1), rows_of(2)])), rows_result(ONE, rows_of(1))]
    streaming, closed = con.execute("s"), con.execute("s")
    streaming.fetchone()
    closed.close()
    closed.close()
    for call in (lambda: closed.execute("x"), closed.fetchone, closed.nextset, closed.fetch_arrow_table):
        with pytest.raises(sqlfront.InterfaceError, match="cursor is closed"):
            call()
    con.close()
    assert (session.closed, database.closed) == (True, 1)
    calls = [
        lambda: streaming.execute("x"),
        streaming.fetchone,
        con.cursor,
        con.commit,
        con.rollback,
        con.close,
        con.interrupt,
        con.__enter__,
        lambda: con.register("x", pa.table({"a": [1]})),
    ]
    for call in calls:
        with pytest.raises(sqlfront.InterfaceError, match="connection is closed"):
            call()
    assert streaming.closed


def test_two_threads_at_once_are_refused():
    con, session, _ = open_fake()
    inside, go = threading.Event(), threading.Event()

    def slow(_sql, _params):
        inside.set()
        assert go.wait(10)
        return Result()

    session.answers = [slow]
    thread = threading.Thread(target=con.execute, args=("slow",))
    thread.start()
    assert inside.wait(10)
    with pytest.raises(sqlfront.InterfaceError, match="another thread"):
        con.execute("s")
    with pytest.raises(sqlfront.InterfaceError, match="another thread"):
        con.commit()
    con.interrupt()
    go.set()
    thread.join()
    assert session.interrupts == 1
    con.execute("s")  # one after the other is fine, from any thread


def test_optional_methods():
    con, _, _ = open_fake()
    cur = con.cursor()
    with pytest.raises(sqlfront.NotSupportedError):
        cur.callproc("p", (1,))
    assert cur.nextset() is None
    cur.setinputsizes((25,))
    cur.setoutputsize(1000)
    cur.setoutputsize(1000, 0)
    assert cur.connection is con
    with con.cursor() as inner:
        inner.execute("s")
    assert inner.closed
