"""Views in the catalog: what is stored of them, those that TiDB stored, and what is left after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sqlfront import Connection, connect
from sqlfront.catalog.info import Action, TableInfo, UserIdentity, ViewInfo
from sqlfront.catalog.meta import Meta, MetaReader
from sqlfront.errors import DatabaseError, Error
from tests.catalog.test_foreign import stored


@pytest.fixture
def db(tmp_path: Path) -> Connection:
    connection = connect(str(tmp_path / "db"), autocommit=True)
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE t (a INT PRIMARY KEY, b VARCHAR(10), c DATETIME)")
    cursor.execute("INSERT INTO t VALUES (1, 'x', '2026-01-02 03:04:05'), (2, 'it''s', NULL)")
    return connection


def rows(db: Connection, sql: str) -> list[tuple[Any, ...]]:
    cursor = db.cursor()
    cursor.execute(sql)
    return [tuple(row) for row in cursor.fetchall()]


def run(db: Connection, *statements: str) -> None:
    for sql in statements:
        db.cursor().execute(sql)


def code(db: Connection, sql: str) -> int:
    with pytest.raises(Error) as caught:
        db.cursor().execute(sql).fetchall()
    return caught.value.code


def record(db: Connection, name: str) -> TableInfo:
    """What is stored of a table or view of `test`."""
    reader = MetaReader(db._database.storage.snapshot())
    (database,) = [d for d in reader.databases() if d.name == "test"]
    (found,) = [t for t in reader.tables(database.id) if t.name == name]
    return found


def reopened_with(db: Connection, path: Path, *views: TableInfo) -> Connection:
    """The database with more records in it, as another server would have put them there."""
    txn = db._database.storage.begin(pessimistic=False)
    meta = Meta(txn)
    (test,) = [d for d in meta.databases() if d.name == "test"]
    for view in views:
        view.id = meta.new_id()
        meta.put_table(test.id, view)
    txn.commit()
    db.close()
    return connect(str(path / "db"), autocommit=True)


def of_tidb(name: str, select: str, *columns: str) -> TableInfo:
    """A view as TiDB stores it since 3.0: no types, no names of the query's columns."""
    info = stored("view")
    assert info.view is not None
    info.name = name
    info.view.select, info.view.columns = select, None
    column = info.columns[0]
    info.columns = []
    for offset, text in enumerate(columns):
        one = column.copy()
        one.id = one.offset = offset
        one.name = text
        one.type.tp = one.type.flen = 0
        info.columns.append(one)
    return info


# What is stored


def test_the_record_is_that_of_tidb(db: Connection) -> None:
    run(
        db, "CREATE ALGORITHM = MERGE SQL SECURITY INVOKER VIEW v (x, Yy) AS SELECT a, b FROM t WITH LOCAL CHECK OPTION"
    )
    info = record(db, "v").to_json()
    assert info["view"] == {
        "view_algorithm": 1,
        "view_definer": {
            "Username": "root",
            "Hostname": "localhost",
            "CurrentUser": False,
            "AuthUsername": "root",
            "AuthHostname": "localhost",
            "AuthPlugin": "",
        },
        "view_security": 1,
        "view_select": "SELECT `t`.`a`, `t`.`b` FROM `test`.`t`",
        "view_checkoption": 0,
        "view_cols": None,
    }
    assert [(c["id"], c["name"], c["offset"], c["state"]) for c in info["cols"]] == [
        (1, {"O": "x", "L": "x"}, 0, 5),
        (2, {"O": "Yy", "L": "yy"}, 1, 5),
    ]
    assert set(info) == set(stored("view").to_json()) - {"affinity"}
    assert (info["index_info"], info["charset"], info["collate"]) == ([], "utf8mb4", "utf8mb4_bin")
    assert (info["auto_id_cache"], info["max_col_id"], info["state"]) == (0, 2, 5)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("SELECT * FROM t", "SELECT `t`.`a`, `t`.`b`, `t`.`c` FROM `test`.`t`"),
        ("TABLE t", "SELECT `t`.`a`, `t`.`b`, `t`.`c` FROM `test`.`t`"),
        ("SELECT\n  b -- the name\n FROM test.t /* all */", "SELECT `t`.`b` FROM `test`.`t`"),
        ("SELECT x.*, 1 AS one FROM t x", "SELECT `x`.`a`, `x`.`b`, `x`.`c`, 1 AS `one` FROM `test`.`t` `x`"),
        (
            'SELECT "a \'quoted\' ""word""" q, \'it\'\'s\' r, ";" s FROM t',
            "SELECT 'a ''quoted'' \"word\"' `q`, 'it''s' `r`, ';' `s` FROM `test`.`t`",
        ),
        (
            "WITH q AS (SELECT a FROM t) SELECT q.a n, COUNT(*) FROM q, t AS q2 WHERE q.a = q2.a GROUP BY n",
            (
                "WITH `q` AS (SELECT `t`.`a` FROM `test`.`t`) SELECT `q`.`a` `n`, COUNT(*) FROM `q`, `test`.`t` AS "
                "`q2` WHERE `q`.`a` = `q2`.`a` GROUP BY `n`"
            ),
        ),
        (
            "SELECT a FROM t WHERE EXISTS (SELECT * FROM t u WHERE u.a * 2 = t.a) UNION SELECT 3 * 4",
            (
                "SELECT `t`.`a` FROM `test`.`t` WHERE EXISTS (SELECT `u`.`a`, `u`.`b`, `u`.`c` FROM `test`.`t` `u` "
                "WHERE `u`.`a` * 2 = `t`.`a`) UNION SELECT 3 * 4"
            ),
        ),
        (
            "SELECT * FROM t JOIN (SELECT a, 1 one FROM t) d USING (a)",
            (
                "SELECT `a`, `t`.`b`, `t`.`c`, `d`.`one` FROM `test`.`t` JOIN (SELECT `t`.`a`, 1 `one` FROM "
                "`test`.`t`) `d` USING (`a`)"
            ),
        ),
        (
            "SELECT * FROM t NATURAL LEFT JOIN (SELECT b, a x FROM t) d, (SELECT 1 one) e WHERE one = 1",
            (
                "SELECT `b`, `t`.`a`, `t`.`c`, `d`.`x`, `e`.`one` FROM `test`.`t` LEFT JOIN (SELECT `t`.`b`, `t`.`a` "
                "`x` FROM `test`.`t`) `d` USING (`b`), (SELECT 1 `one`) `e` WHERE `e`.`one` = 1"
            ),
        ),
        (
            "SELECT e.b FROM t NATURAL JOIN (SELECT 5 n) e2 NATURAL JOIN t e",
            "SELECT `e`.`b` FROM `test`.`t` JOIN (SELECT 5 `n`) `e2` JOIN `test`.`t` `e` USING (`a`, `b`, `c`)",
        ),
        (
            "SELECT TIMESTAMPDIFF(day, c, now()) day, CONVERT(b USING utf8mb4) COLLATE utf8mb4_bin x FROM t",
            (
                "SELECT TIMESTAMPDIFF(day, `t`.`c`, now()) `day`, CONVERT(`t`.`b` USING utf8mb4) COLLATE utf8mb4_bin "
                "`x` FROM `test`.`t`"
            ),
        ),
        (
            "SELECT table_name FROM information_schema.tables",
            "SELECT `tables`.`table_name` FROM `information_schema`.`tables`",
        ),
        (
            "SELECT a, (SELECT MAX(u.c) FROM t u WHERE b < t.b) m FROM t GROUP BY t.b, a HAVING m > a ORDER BY m, b",
            (
                "SELECT `t`.`a`, (SELECT MAX(`u`.`c`) AS `MAX(u.c)` FROM `test`.`t` `u` WHERE `u`.`b` < `t`.`b`) `m` "
                "FROM `test`.`t` GROUP BY `t`.`b`, `t`.`a` HAVING `m` > `t`.`a` ORDER BY `m`, `t`.`b`"
            ),
        ),
        (
            "SELECT (SELECT 1 FROM t WHERE a = x) o FROM (SELECT 1 x) d JOIN (SELECT 2 x) e USING (x)",
            (
                "SELECT (SELECT 1 FROM `test`.`t` WHERE `t`.`a` = `x`) `o` FROM (SELECT 1 `x`) `d` JOIN (SELECT 2 `x`) "
                "`e` USING (`x`)"
            ),
        ),
        (
            "WITH q AS (SELECT MAX(a), 1 + 1 FROM t) SELECT * FROM q, (SELECT 2*`b` FROM t LIMIT 1) d",
            (
                "WITH `q` AS (SELECT MAX(`t`.`a`) AS `MAX(a)`, 1 + 1 FROM `test`.`t`) SELECT `q`.`MAX(a)`, `q`.`1 + 1`,"
                " `d`.`2 * ``b``` FROM `q`, (SELECT 2*`t`.`b` AS `2 * ``b``` FROM `test`.`t` LIMIT 1) `d`"
            ),
        ),
    ],
)
def test_the_query_is_stored_with_its_names_spelled_out(db: Connection, query: str, text: str) -> None:
    run(db, f"CREATE VIEW v AS {query}")
    view = record(db, "v").view
    assert view is not None
    assert view.select == text
    assert sorted(map(repr, rows(db, "SELECT * FROM v"))) == sorted(map(repr, rows(db, query.replace("test.t", "t"))))
    # What is stored is a query that makes the same view, from any database.
    run(db, "CREATE DATABASE away", "USE away", f"CREATE VIEW v AS {text}", "USE test")
    assert rows(db, "SHOW CREATE VIEW v") == rows(db, "SHOW CREATE VIEW away.v")


def test_long_names_of_expressions(db: Connection) -> None:
    run(db, f"CREATE VIEW v AS SELECT a, {' + '.join(['a'] * 30)} FROM t")
    assert [c.name for c in record(db, "v").columns] == ["a", "name_exp_2"]
    assert code(db, f"CREATE VIEW w ({'n' * 65}) AS SELECT a FROM t") == 1059
    assert code(db, f"CREATE VIEW {'n' * 65} AS SELECT a FROM t") == 1059
    assert code(db, "CREATE VIEW w (`a `) AS SELECT a FROM t") == 1166


# What TiDB stored


def test_views_of_tidb(db: Connection, tmp_path: Path) -> None:
    db = reopened_with(
        db,
        tmp_path,
        of_tidb(
            "v",
            "SELECT `test`.`t`.`a` AS `a`,COUNT(1) AS `COUNT(1)`,_UTF8MB4'x' AS `x` FROM `test`.`t` "
            "WHERE `test`.`t`.`a`>0 GROUP BY `test`.`t`.`a`",
            "a",
            "n",
            "x",
        ),
        of_tidb(
            "joined",
            "SELECT `x`.`a` AS `a`,`y`.`b` AS `b` FROM (`test`.`t` AS `x`) JOIN `test`.`t` AS `y` ON `x`.`a`=`y`.`a` "
            "WHERE `x`.`a` IN (1,2) AND `y`.`b` LIKE _UTF8MB4'%x%' ORDER BY `x`.`a` DESC LIMIT 0,10",
            "a",
            "b",
        ),
        of_tidb(
            "dates",
            "SELECT DATE_ADD(`c`, INTERVAL 1 DAY) AS `d`,CASE WHEN `a` IS NULL THEN 1 ELSE CAST(`a` AS SIGNED) END AS "
            "`s`,EXTRACT(YEAR FROM `c`) AS `y`,GROUP_CONCAT(`b` ORDER BY `b` SEPARATOR ',') OVER () AS `g` "
            "FROM `test`.`t`",
            *"dsyg",
        ),
        of_tidb(
            "cte",
            "WITH `q` AS (SELECT `a` FROM `test`.`t`) SELECT `a`,ROW_NUMBER() OVER (ORDER BY `a` DESC) AS `r` FROM `q` "
            "UNION SELECT 7,(SELECT MAX(`a`) FROM `test`.`t`)",
            *"ar",
        ),
        of_tidb("over", "SELECT `test`.`v`.`n` AS `n` FROM `test`.`v`", "n"),
    )
    assert rows(db, "SELECT * FROM v ORDER BY a") == [(1, 1, "x"), (2, 1, "x")]
    assert rows(db, "SELECT * FROM joined") == [(1, "x")]
    assert rows(db, "SELECT * FROM cte ORDER BY a") == [(1, 2), (2, 1), (7, 2)]
    assert rows(db, "SELECT SUM(n) FROM over") == [(2,)]
    assert rows(db, "DESCRIBE v")[1][:3] == ("n", "bigint", "YES")
    ((_, text, charset, collation),) = rows(db, "SHOW CREATE VIEW over")
    assert text == (
        "CREATE ALGORITHM=UNDEFINED DEFINER=`root`@`%` SQL SECURITY DEFINER VIEW `over` (`n`) AS "
        "SELECT `test`.`v`.`n` AS `n` FROM `test`.`v`"
    )
    assert (charset, collation) == ("utf8mb4", "utf8mb4_bin")
    # What is not there yet is refused with its reason, and leaves the rest alone.
    assert code(db, "SELECT * FROM dates") == 1235
    run(db, "RENAME TABLE v TO v2", "DROP VIEW joined, cte")
    assert code(db, "SELECT * FROM over") == 1356
    run(db, "DROP DATABASE test")
    db.close()


def test_views_of_tidb_before_3(db: Connection, tmp_path: Path) -> None:
    old = of_tidb("old", "SELECT `b` AS `second`,`a` AS `first` FROM `test`.`t`", "first", "renamed")
    assert old.view is not None
    old.view.columns = [{"O": "first", "L": "first"}, {"O": "second", "L": "second"}]
    wrong = old.copy()
    assert wrong.view is not None
    wrong.name = "wrong"
    wrong.view.columns = [{"O": "first", "L": "first"}, {"O": "gone", "L": "gone"}]
    db = reopened_with(db, tmp_path, old, wrong)
    assert rows(db, "SELECT * FROM old ORDER BY first") == [(1, "x"), (2, "it's")]
    assert rows(db, "SELECT renamed FROM old WHERE first = 1") == [("x",)]
    assert code(db, "SELECT * FROM wrong") == 1356
    db.close()


def test_views_that_are_not_read(db: Connection, tmp_path: Path) -> None:
    dropping = of_tidb("dropping", "SELECT 1 AS `a`", "a")
    dropping.state = 2
    future = of_tidb("future", "SELECT 1 AS `a`", "a")
    assert future.view is not None
    future.view.extra["view_rows"] = "kept"
    wide = of_tidb("wide", "SELECT 1 AS `a`,2 AS `b`", "a")
    change = of_tidb("change", "DELETE FROM `test`.`t`", "a")
    broken = of_tidb("broken", "SELECT FROM WHERE", "a")
    variable = of_tidb("variable", "SELECT @x AS `a`", "a")
    db = reopened_with(db, tmp_path, dropping, future, wide, change, broken, variable)
    assert code(db, "SELECT * FROM dropping") == 8200
    assert code(db, "SELECT * FROM future") == 8200
    for name, reason in (
        ("wide", "its query gives 2 columns, not 1"),
        ("change", "it is not a query"),
        ("broken", "You have an error in your SQL syntax"),
        ("variable", "View's SELECT contains a variable or parameter"),
    ):
        with pytest.raises(Error) as caught:
            db.cursor().execute(f"SELECT *\nFROM {name}")
        exc = caught.value
        assert isinstance(exc, DatabaseError)
        assert (exc.code, exc.position) == (1356, len("SELECT *\nFROM "))
        expected = f"View 'test.{name}' references invalid table(s) or column(s) or function(s): {reason}"
        assert exc.message.startswith(expected)
    assert len(rows(db, "SELECT * FROM t")) == 2
    assert len(rows(db, "SHOW FULL TABLES WHERE table_type = 'VIEW'")) == 6
    assert record(db, "future").to_json()["view"]["view_rows"] == "kept"
    db.close()


def test_words_that_are_not_known_mean_the_default(db: Connection, tmp_path: Path) -> None:
    odd = of_tidb("odd", "SELECT 1 AS `a`", "a")
    odd.view = ViewInfo(7, UserIdentity("joe", "%", auth_username="j", auth_hostname="h"), 5, "SELECT 1 AS `a`", 9)
    nobodys = of_tidb("nobodys", "SELECT 1 AS `a`", "a")
    assert nobodys.view is not None
    nobodys.view.definer = None
    db = reopened_with(db, tmp_path, odd, nobodys)
    head = "CREATE ALGORITHM=UNDEFINED DEFINER=`j`@`h` SQL SECURITY DEFINER VIEW `odd` (`a`) AS "
    assert rows(db, "SHOW CREATE VIEW odd")[0][1] == head + "SELECT 1 AS `a`"
    assert "DEFINER=``@``" in rows(db, "SHOW CREATE VIEW nobodys")[0][1]
    sql = "SELECT definer, security_type, check_option FROM information_schema.views WHERE table_name = 'odd'"
    assert rows(db, sql) == [("j@h", "DEFINER", "CASCADED")]
    db.close()


# What is left


def test_views_are_there_after_a_restart(db: Connection, tmp_path: Path) -> None:
    run(db, "CREATE VIEW v AS SELECT a, b FROM t", "CREATE VIEW w AS SELECT COUNT(*) n FROM v")
    shown = rows(db, "SHOW CREATE VIEW v")
    db.close()
    db = connect(str(tmp_path / "db"), autocommit=True)
    assert rows(db, "SHOW CREATE VIEW v") == shown
    assert rows(db, "SELECT n FROM w") == [(2,)]
    run(db, "DROP VIEW v", "CREATE TABLE v (a INT, b INT)")
    db.close()
    db = connect(str(tmp_path / "db"), autocommit=True)
    assert rows(db, "SELECT n FROM w") == [(0,)]
    assert rows(db, "SHOW FULL TABLES LIKE 'v'") == [("v", "BASE TABLE")]
    db.close()


def test_a_view_leaves_no_ranges_and_no_statistics(db: Connection) -> None:
    catalog = db._database.catalog
    run(db, "CREATE VIEW v AS SELECT a FROM t", "CREATE OR REPLACE VIEW v AS SELECT b FROM t")
    view = catalog.schema.table("test", "v")
    assert view is not None
    assert db._database.statistics.table(view.id) is None
    assert not view.columnar
    run(db, "DROP VIEW v", "CREATE DATABASE d", "CREATE VIEW d.v AS SELECT a FROM t", "DROP DATABASE d")
    assert catalog.pending_ranges() == []


def test_jobs_and_diffs_are_those_of_tidb(db: Connection) -> None:
    run(db, "CREATE VIEW v AS SELECT a FROM t")
    first = record(db, "v").id
    run(db, "CREATE OR REPLACE VIEW v AS SELECT b FROM t")
    second = record(db, "v").id
    reader = MetaReader(db._database.storage.snapshot())
    diff = reader.diff(reader.schema_version())
    assert diff is not None
    assert first != second
    assert (diff.action, diff.table_id, diff.old_table_id) == (Action.CREATE_VIEW, second, first)
    run(db, "DROP VIEW v")
    jobs = rows(db, "ADMIN SHOW DDL JOBS 3")
    assert [(job[2], job[3], job[6]) for job in jobs] == [
        ("v", "drop view", second),
        ("v", "create view", second),
        ("v", "create view", first),
    ]


def test_appending_to_a_view_is_refused(db: Connection) -> None:
    run(db, "CREATE VIEW v AS SELECT a, b FROM t")
    with pytest.raises(Error, match=r"'test\.v' is not BASE TABLE"):
        db.append("v", pa.table({"a": [3], "b": ["z"]}))


def test_all_or_nothing(db: Connection) -> None:
    run(db, "CREATE VIEW v AS SELECT a FROM t", "CREATE VIEW w AS SELECT a FROM t")
    for sql, expected in (("DROP VIEW v, nosuch", 1051), ("DROP VIEW v, t", 1347), ("DROP TABLE t, v", 1051)):
        assert code(db, sql) == expected
    run(db, "DROP VIEW IF EXISTS v, nosuch, w")
    assert rows(db, "SHOW WARNINGS") == [("Note", 1051, "Unknown table 'test.nosuch'")]
    assert rows(db, "SHOW TABLES") == [("t",)]
    assert code(db, "RENAME TABLE t TO u, nosuch TO v") == 1146
    assert rows(db, "SHOW TABLES") == [("t",)]
