"""Connections over a session that only remembers, and what `connect` takes for a path."""

import gc
import subprocess
import sys
import time

import pyarrow as pa
import pytest

import sqlfront
from sqlfront.dbapi import read_target
from sqlfront.result import Result
from tests.dbapi.fakes import open_fake


def options():
    return {"autocommit": False, "synchronous": True, "database": "test"}


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (":memory:", None),
        ("shop.db", "shop.db"),
        ("/srv/shop.db", "/srv/shop.db"),
        ("a:b.db", "a:b.db"),
        ("C:\\shop.db", "C:\\shop.db"),
        ("sqlfront:///srv/shop.db", "/srv/shop.db"),
        ("sqlfront:///srv/my%20shop.db", "/srv/my shop.db"),
        ("sqlfront:shop.db", "shop.db"),
        ("sqlfront:///:memory:", None),
        ("sqlfront::memory:", None),
    ],
)
def test_where(target, path):
    assert read_target(target, options()) == path


def test_url_options():
    found = options()
    assert read_target("sqlfront:///x?database=shop&autocommit=on&synchronous=off", found) == "/x"
    assert found == {"autocommit": True, "synchronous": False, "database": "shop"}


@pytest.mark.parametrize(
    "target",
    [
        "",
        "sqlfront://",
        "sqlfront:///",
        "sqlfront://host:4000/x",
        "tikv://",
        "tikv://pd",
        "tikv://pd:2379/a/b",
        "tikv://pd:2379/?ca=x",
        "tikv://pd:2379/?synchronous=off",
        "tikv://pd:2379/?chair=x",
        "mysql://root@localhost/test",
        "postgres://x",
        "sqlfront:///x?autocomit=on",
        "sqlfront:///x?autocommit=perhaps",
    ],
)
def test_refused_targets(target):
    with pytest.raises(sqlfront.InterfaceError):
        read_target(target, options())


def test_exceptions_are_attributes():
    con, _, _ = open_fake()
    for name in ("Warning", "Error", "InterfaceError", "DatabaseError", "DataError", "OperationalError"):
        assert getattr(con, name) is getattr(sqlfront, name)
    for name in ("IntegrityError", "InternalError", "ProgrammingError", "NotSupportedError"):
        assert getattr(con, name) is getattr(sqlfront, name)


def test_block_commits_and_closes():
    con, session, database = open_fake()
    with con as inside:
        assert inside is con
        con.execute("INSERT")
    assert session.calls[-1] == ("commit",)
    assert con.closed
    assert database.closed == 1


def fail_with(error):
    raise error


def test_block_rolls_back_when_it_raises():
    con, session, _ = open_fake()
    with pytest.raises(ZeroDivisionError), con:
        fail_with(ZeroDivisionError)
    assert session.calls[-1] == ("rollback",)
    assert con.closed


def test_block_may_close_itself():
    con, session, _ = open_fake()
    with con:
        con.close()
    assert ("commit",) not in session.calls


def test_transaction_blocks_nest():
    con, session, _ = open_fake()
    session.in_transaction = True
    with con.transaction():
        with con.transaction():
            con.execute("A")
        with pytest.raises(KeyError), con.transaction():
            fail_with(KeyError)
    name = "SAVEPOINT sqlfront_block_1"
    inner = [name, "A", f"RELEASE {name}", name, f"ROLLBACK TO {name}"]
    assert session.statements == ["BEGIN", *inner, "COMMIT"]
    session.calls.clear()
    with pytest.raises(KeyError), con.transaction():
        fail_with(KeyError)
    assert session.statements == ["BEGIN", "ROLLBACK"]


def test_transaction_block_whose_transaction_is_over():
    con, session, _ = open_fake()
    session.in_transaction = True

    def deadlock():
        session.in_transaction = False
        raise KeyError

    with pytest.raises(KeyError), con.transaction(), con.transaction():
        deadlock()
    assert session.statements == ["BEGIN", "SAVEPOINT sqlfront_block_1", "ROLLBACK"]


def test_register_takes_what_speaks_arrow():
    con, session, _ = open_fake()
    table = pa.table({"a": [1, 2]})
    polars, pandas = pytest.importorskip("polars"), pytest.importorskip("pandas")
    for data in (
        table,
        table.to_batches()[0],
        table.to_reader(),
        pandas.DataFrame({"a": [1, 2]}),
        polars.DataFrame(table),
    ):
        con.register("x", data)
        assert session.tables["x"].to_pydict() == {"a": [1, 2]}
    con.unregister("x")
    assert session.tables == {}
    with pytest.raises(sqlfront.InterfaceError):
        con.register("x", 5)


def test_a_forgotten_connection_closes():
    con, session, database = open_fake()
    session.answers = [Result()]
    cur = con.execute("s")
    del con, cur
    gc.collect()
    wait_for(lambda: database.closed == 1)
    assert session.closed


def test_the_collector_may_find_a_connection_anywhere(tmp_path):
    """Also in a thread that holds what closing a database takes."""
    from sqlfront import database

    con = sqlfront.connect(str(tmp_path / "db"))
    con.execute("create table t (a int)")
    cycle = [con]
    cycle.append(cycle)
    del con
    with database._open_mutex:
        del cycle
        gc.collect()
        assert any(str(tmp_path) in path for path in database._open)
    wait_for(lambda: not any(str(tmp_path) in path for path in database._open))


def wait_for(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_script_need_not_close(tmp_path):
    code = (
        "import sqlfront, sys\n"
        "con = sqlfront.connect(sys.argv[1])\n"
        "con.execute('CREATE TABLE IF NOT EXISTS t (id INT PRIMARY KEY AUTO_INCREMENT)')\n"
        "con.execute('INSERT INTO t VALUES (NULL)')\n"
        "con.commit()\n"
        "con.execute('INSERT INTO t VALUES (NULL)')\n"
        "print(con.execute('SELECT COUNT(*) FROM t').fetchone()[0])"
    )
    for shown in ("2", "3"):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "db")], capture_output=True, text=True)
        assert (done.stdout.strip(), done.stderr, done.returncode) == (shown, "", 0)


def test_import_is_light():
    code = (
        "import sys, sqlfront\n"
        "heavy = {'duckdb', 'pyarrow', 'numpy', 'pandas', 'polars', 'rocksdict', 'sqlglot'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
