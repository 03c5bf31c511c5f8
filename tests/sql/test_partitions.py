"""Partitioned tables beside plain ones that are told the same, and beside writers."""

from __future__ import annotations

import datetime as dt
import random
import threading
from pathlib import Path
from typing import Any

import pytest

import sqlfront
from sqlfront import parse
from sqlfront.exec.statement import bind_context, plan_query
from sqlfront.plan.nodes import Scan, walk_nodes
from tests.conftest import Connect

FORMS = {
    "range": "range (a) (partition p0 values less than (-3), partition p1 values less than (0), partition p2 values"
    " less than (6), partition p3 values less than maxvalue)",
    "list": f"list (a) (partition p0 values in (null, {', '.join(map(str, range(-9, 0)))}), partition p1 values in"
    f" ({', '.join(map(str, range(10)))}))",
    "hash": "hash (a + 2) partitions 3",
    "range columns": "range columns (d, a) (partition p0 values less than ('2020-01-10', 0), partition p1 values less"
    " than ('2020-01-10', maxvalue), partition p2 values less than ('2020-01-20', 3), partition p3 values less than"
    " (maxvalue, maxvalue))",
    "list columns": f"list columns (s) (partition p0 values in ('', 'a', null), partition p1 values in"
    f" ({', '.join(repr(c) for c in 'bcdef')}))",
    "range of days": "range (to_days(d)) (partition p0 values less than (to_days('2020-01-05')), partition p1 values"
    " less than (to_days('2020-01-15')), partition p2 values less than maxvalue)",
}


class Twins:
    """A partitioned table and a plain one, changed and asked alike."""

    def __init__(self, con: Any, form: str, seed: int) -> None:
        self.con = con
        self.rng = random.Random(seed)
        columns = "id int, a int, d date, s varchar(5), key (a), key (s, d)"
        con.execute(f"create table p ({columns}) partition by {FORMS[form]}")
        con.execute(f"create table q ({columns})")

    def value(self, column: str) -> Any:
        rng = self.rng
        if rng.random() < 0.15:
            return None
        if column == "a":
            return rng.randint(-9, 9)
        return (
            dt.date(2020, 1, rng.randint(1, 28)) if column == "d" else rng.choice(("", "a", "b", "c ", "d", "e", "f"))
        )

    def condition(self) -> tuple[str, list[Any]]:
        parts: list[str] = []
        values: list[Any] = []
        for column in self.rng.sample(("a", "d", "s"), self.rng.randint(1, 2)):
            form = self.rng.choice(("{} = ?", "{} > ?", "{} <= ?", "{} between ? and ?", "{} in (?, ?)", "{} is null"))
            parts.append(form.format(column))
            values += [self.value(column) for _ in range(form.count("?"))]
        return self.rng.choice((" and ", " or ")).join(parts), values

    def both(self, sql: str, values: list[Any]) -> None:
        """Tells both, with literals or with parameters."""
        if self.rng.random() < 0.5:
            for value in values:
                sql = sql.replace("?", "null" if value is None else repr(str(value) if value != value // 1 else value)
                                  if isinstance(value, int) else f"'{value}'", 1)  # fmt: skip
            values = []
        counts = [self.con.execute(sql.format(table), tuple(values)).rowcount for table in "pq"]
        assert counts[0] == counts[1], sql

    def compare(self) -> None:
        where, values = self.condition()
        for what in ("count(*), sum(a), min(d)", "id, a, d, s"):
            sql = f"select {what} from {{}} where {where}"
            found = [sorted(self.con.execute(sql.format(t), tuple(values)).fetchall(), key=repr) for t in "pq"]
            assert found[0] == found[1], (sql, values)
        everything = [sorted(self.con.execute(f"select * from {t}").fetchall(), key=repr) for t in "pq"]
        assert everything[0] == everything[1]

    def step(self, number: int) -> None:
        kind = self.rng.choice(("insert", "insert", "insert", "update", "update", "delete"))
        if kind == "insert":
            row = [number, *(self.value(c) for c in "ads")]
            self.both("insert into {} values (?, ?, ?, ?)", row)
            return
        where, values = self.condition()
        if kind == "delete":
            self.both(f"delete from {{}} where ({where}) and id % 3 = 0", values)
        else:
            column = self.rng.choice("ads")
            self.both(f"update {{}} set {column} = ? where {where}", [self.value(column), *values])


@pytest.mark.parametrize("form", FORMS)
def test_partitioned_like_plain(con: Any, form: str) -> None:
    twins = Twins(con, form, seed=len(form))
    for number in range(120):
        twins.step(number)
        if number == 60:
            con.execute("update p set s = null where s not in ('', 'a', 'b', 'c', 'd', 'e', 'f') or d is null")
            con.execute("update q set s = null where s not in ('', 'a', 'b', 'c', 'd', 'e', 'f') or d is null")
            forms = list(FORMS)
            con.execute(f"alter table p partition by {FORMS[forms[forms.index(form) - 1]]}")
        if number % 3 == 0:
            twins.compare()
    con.execute("admin check table p, q")


@pytest.mark.parametrize("form", FORMS)
def test_literals_leave_partitions_out(con: Any, form: str) -> None:
    Twins(con, form, seed=0)
    wanted = {
        "range": ("a = 7", {"p3"}),
        "list": ("a in (-4, -9)", {"p0"}),
        "hash": ("a = 4 and s = 'x'", {"p0"}),
        "range columns": ("d > '2020-01-20'", {"p3"}),
        "list columns": ("s = 'b '", {"p1"}),
        "range of days": ("d >= '2020-01-06' and d < '2020-01-10'", {"p1"}),
    }
    where, parts = wanted[form]
    plan = con.execute(f"explain select * from p where {where}").fetchall()
    shown = {row[3].partition("partition:")[2].partition(",")[0] for row in plan if "partition:" in row[3]}
    assert shown == parts


def test_parameters_leave_partitions_out(tmp_path: Path) -> None:
    with sqlfront.connect(str(tmp_path / "db"), autocommit=True) as con:
        Twins(con, "range", seed=0)
        for where, params, parts in (("a = ?", (7,), [3]), ("a < ?", (-5,), [0]), ("a between ? and ?", (1, 5), [2])):
            parsed = parse.parse(f"select * from p where {where}")
            assert isinstance(parsed.statement, parse.Query)
            plan = plan_query(con._session, bind_context(con._session, parsed, params), parsed.statement)
            scans = [node for node in walk_nodes(plan.root) if isinstance(node, Scan)]
            assert len(scans) == 4
            assert scans[0].partitions is not None
            pruned = scans[0].partitions.pruned_by(scans[0])
            assert pruned is not None
            assert list(pruned(params)) == parts


def test_beside_writers(connect: Connect) -> None:
    """Indexes come and go, and a partition is emptied, while rows move between partitions."""
    con = connect()
    con.execute("create table p (id int primary key, n int, key (n)) partition by hash (id) partitions 4")
    con.executemany("insert into p values (?, ?)", [(i, i) for i in range(200)])
    stop = threading.Event()
    failures: list[BaseException] = []

    def write(seed: int) -> None:
        rng = random.Random(seed)
        own = connect()
        while not stop.is_set():
            try:
                if rng.random() < 0.5:
                    own.execute("update p set id = id + 1000, n = n + 1 where id = ?", (rng.randrange(200),))
                else:
                    own.execute("replace into p values (?, ?)", (rng.randrange(200), rng.randrange(1000)))
            except sqlfront.DatabaseError as exc:
                if exc.code not in (1062, 1205, 1213, 8028):
                    failures.append(exc)
                    return

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            con.execute("alter table p add index later (n, id)")
            con.execute("alter table p truncate partition p1")
            con.execute("alter table p drop index later")
            con.execute("alter table p add partition partitions 1")
            con.execute("alter table p coalesce partition 1")
        con.execute("alter table p add index last_one (n)")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    con.execute("admin check table p")
    assert (
        con.execute("select count(*) from p where id % 4 = 1").fetchall()
        == con.execute("select count(*) from p partition (p1)").fetchall()
    )


def test_the_past_of_a_cleared_partition_is_gone(connect: Connect) -> None:
    con, other = connect(), connect()
    con.execute("create table p (id int primary key) partition by hash (id) partitions 2")
    con.execute("insert into p values (1), (2)")
    other.execute("begin")
    assert other.execute("select count(*) from p").fetchall() == [(2,)]
    con.execute("alter table p truncate partition p1")
    with pytest.raises(sqlfront.DatabaseError) as raised:
        other.execute("select count(*) from p")
    assert raised.value.code == 1412
    other.execute("rollback")
    assert other.execute("select * from p").fetchall() == [(2,)]
