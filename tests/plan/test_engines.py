"""Which engine every scan must read: READ_FROM_STORAGE, tidb_isolation_read_engines, and what overrules both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sqlfront import parse
from sqlfront.database import Database
from sqlfront.errors import Error
from sqlfront.exec.statement import bind_context, plan_query
from sqlfront.plan.nodes import Node, Scan, node_exprs, walk_nodes
from sqlfront.session import Session


@pytest.fixture
def session() -> Iterator[Session]:
    database = Database.open(None)
    session = database.session()
    for sql in (
        "use test",
        "create table t (id int primary key, v int)",
        "create table u (id int primary key, v int)",
        "create table off (id int primary key, v int)",
        "alter table off set tiflash replica 0",
        "create table mysql.s (id int primary key, v int)",
        "create database d",
        "create table d.t (id int primary key, v int)",
    ):
        session.execute(sql)
    yield session
    session.close()
    database.close()


def engines(session: Session, sql: str) -> str:
    """The engines of all scans, those of subqueries too, as `alias=engine`, by alias."""
    parsed = parse.parse(sql)
    assert isinstance(parsed.statement, parse.Query)
    ctx = bind_context(session, parsed, ())
    plan = plan_query(session, ctx, parsed.statement)
    session.warnings = [("Warning", code, message) for code, message in ctx.warnings]
    return " ".join(sorted(f"{s.alias}={s.engine}" for s in _scans(plan.root)))


def _scans(root: Node) -> Iterator[Scan]:
    from coprocessor.expr import Subquery, walk

    for node in walk_nodes(root):
        if isinstance(node, Scan):
            yield node
        for expr in node_exprs(node):
            for part in walk(expr):
                if isinstance(part, Subquery):
                    yield from _scans(part.plan)


HINTS = [
    ("select 1 from t", "t="),
    ("select /*+ READ_FROM_STORAGE(TIFLASH[t]) */ 1 from t", "t=tiflash"),
    ("select /*+ read_from_storage(tikv[T], tiflash[b]) */ 1 from t, u as B", "B=tiflash t=tikv"),
    ("select /*+ read_from_storage(tiflash[test.t]) */ 1 from t", "t=tiflash"),
    ("select /*+ read_from_storage(tiflash[d.t]) */ 1 from t, d.t x, d.t", "t= t=tiflash x="),
    ("select /*+ read_from_storage(tikv[a, b]) */ 1 from (t a left join u b on a.id = b.id)", "a=tikv b=tikv"),
    ("select /*+ read_from_storage(tiflash[t]) */ 1 from t where id in (select id from t x)", "t=tiflash x="),
    ("select 1 from t where id in (select /*+ read_from_storage(tiflash[u]) */ id from u)", "t= u=tiflash"),
    ("select 1 from (select /*+ read_from_storage(tiflash[t]) */ * from t) q", "t=tiflash"),
    ("select /*+ read_from_storage(tikv[t]) */ 1 from t union select /*+ read_from_storage(tiflash[u]) */ 1 from u",
     "t=tikv u=tiflash"),
    ("with c as (select /*+ read_from_storage(tiflash[t]) */ * from t) select * from c, u", "t=tiflash u="),
    ("select /*+ hash_join(t) no_such() */ 1 from t", "t="),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), HINTS, ids=[h[0] for h in HINTS])
def test_hints(session: Session, sql: str, expected: str) -> None:
    assert engines(session, sql) == expected
    assert session.warnings == []


WARNED = [
    ("select /*+ read_from_storage(tiflash[x, d.u]) */ 1 from t", "t=", 1815,
     "There are no matching table names for (x, d.u) in optimizer hint READ_FROM_STORAGE"),
    ("select /*+ read_from_storage(tiflash[t]) */ 1 from t a", "a=", 1815, "There are no matching table names for (t)"),
    ("select /*+ read_from_storage(tiflash[u]) */ 1 from t where id in (select id from u)", "t= u=", 1815,
     "There are no matching table names for (u)"),
    ("select /*+ read_from_storage(tiflash[q]) */ 1 from (select * from t) q", "t=", 1815, "There are no matching"),
    ("select /*+ read_from_storage(tiflash[t], tikv[t]) */ 1 from t", "t=", 1815, "Storage hints are conflict"),
    ("select /*+ read_from_storage(tiflash[off]) */ 1 from off", "off=", 1815, "No available path for table test.off"),
    ("select /*+ read_from_storage(tiflash[t]) */ 1 from t for update", "t=tikv", 1815, "No available path for table"),
    ("select /*+ read_from_storage(tiflash(t)) */ 1 from t", "t=", 1064, "Optimizer hint syntax error near"),
    ("select /*+ read_from_storage(@q tiflash[t]) */ 1 from t", "t=", 8061, "Optimizer hint READ_FROM_STORAGE with"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected", "code", "message"), WARNED, ids=[w[0] for w in WARNED])
def test_hints_that_come_to_nothing(session: Session, sql: str, expected: str, code: int, message: str) -> None:
    assert engines(session, sql) == expected
    ((level, found, text),) = session.warnings
    assert (level, found) == ("Warning", code)
    assert text.startswith(message)


def test_warnings_come_with_every_execution(session: Session) -> None:
    sql = "select /*+ read_from_storage(tiflash[x]) */ id from t where id = 1"
    for _ in range(3):
        session.execute(sql).fetch_all()
        assert [w[1] for w in session.warnings] == [1815]
    assert sql in session._plans
    session.execute("select id from t").fetch_all()
    assert session.warnings == []
    session.execute("explain " + sql).fetch_all()
    assert [w[1] for w in session.warnings] == [1815]
    session.execute("insert into u select /*+ read_from_storage(tiflash[x]) */ * from t")
    assert [w[1] for w in session.warnings] == [1815]


def test_isolation_without_the_replica(session: Session) -> None:
    session.execute("set tidb_isolation_read_engines = 'tikv,tidb'")
    assert engines(session, "select 1 from t, u") == "t=tikv u=tikv"
    assert engines(session, "select /*+ read_from_storage(tikv[t]) */ 1 from t") == "t=tikv"
    assert session.warnings == []
    assert engines(session, "select /*+ read_from_storage(tiflash[t]) */ 1 from t") == "t=tikv"
    assert session.warnings[0][2].endswith("tidb_isolation_read_engines(tidb,tikv)")


def test_isolation_without_the_rows(session: Session) -> None:
    session.execute("set tidb_isolation_read_engines = ' TiFlash'")
    assert engines(session, "select 1 from t where id in (select id from u)") == "t=tiflash u=tiflash"
    assert engines(session, "select 1 from t, mysql.s") == "s=tikv t=tiflash"
    assert engines(session, "select /*+ read_from_storage(tikv[t]) */ 1 from t") == "t=tiflash"
    assert len(session.warnings) == 1


def test_what_locks_reads_rows(session: Session) -> None:
    session.execute("set tidb_isolation_read_engines = 'tiflash'")
    assert engines(session, "select 1 from t where id in (select id from u) for update") == "t=tikv u=tikv"
    session.execute("insert into t values (1, 1), (2, 2)")
    session.execute("update t set v = 7 where id = 1 or id in (select id from off)")
    session.execute("delete t from t join off on t.id = off.id")
    assert session.execute("delete from t where v = 7").affected_rows == 1


@pytest.mark.parametrize("allowed", ["tidb", "tiflash"])
def test_no_way_to_read(session: Session, allowed: str) -> None:
    session.execute(f"set tidb_isolation_read_engines = '{allowed}'")
    with pytest.raises(Error) as caught:
        engines(session, "select 1 from off")
    assert caught.value.code == 1815
    assert session.execute("select 1 from information_schema.tables limit 1").fetch_all() == [(1,)]


@pytest.mark.parametrize("value", ["''", "'tikv,'", "'tikv,innodb'", "null"])
def test_wrong_values(session: Session, value: str) -> None:
    with pytest.raises(Error) as caught:
        session.execute(f"set tidb_isolation_read_engines = {value}")
    assert caught.value.code == 1231
    assert engines(session, "select 1 from t") == "t="


def test_values_are_kept_in_small_letters_and_default_is_all(session: Session) -> None:
    session.execute("set tidb_isolation_read_engines = 'TiKV , TiDB'")
    assert session.variables.get("tidb_isolation_read_engines") == "tikv,tidb"
    session.execute("set tidb_isolation_read_engines = default")
    assert engines(session, "select 1 from t") == "t="


def test_rows_that_are_long_are_sooner_read_in_the_replica(session: Session) -> None:
    many = ", ".join(f"c{i} smallint not null" for i in range(64))
    session.execute(f"create table l (id int primary key, {many})")
    for name, columnar in (("t", False), ("l", True)):
        schema = session.database.catalog.schema
        session.database.statistics.set_rows(schema.need_relation("test", name).id, 300_000)
        parsed = parse.parse(f"select count(*) from {name} where id between 1 and 5000")
        assert isinstance(parsed.statement, parse.Query)
        root = plan_query(session, bind_context(session, parsed, ()), parsed.statement).root
        (scan,) = _scans(root)
        assert scan.access is not None
        assert scan.access.columnar == columnar
