"""CREATE TABLE: types, defaults, keys and every refusal."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from coprocessor.types import Tp
from sqlfront.catalog.column_types import type_text
from sqlfront.errors import Error
from tests.catalog.harness import FakeSession

TYPES = [
    ("INT(11)", "int"),
    ("INTEGER UNSIGNED", "int unsigned"),
    ("TINYINT(1)", "tinyint(1)"),
    ("BOOL", "tinyint(1)"),
    ("BOOLEAN", "tinyint(1)"),
    ("SMALLINT", "smallint"),
    ("MEDIUMINT", "mediumint"),
    ("INT8", "bigint"),
    ("BIGINT(20) UNSIGNED ZEROFILL", "bigint(20) unsigned zerofill"),
    ("DEC(5,2)", "decimal(5,2)"),
    ("NUMERIC", "decimal(10,0)"),
    ("FIXED(65,30) UNSIGNED", "decimal(65,30) unsigned"),
    ("REAL", "double"),
    ("DOUBLE PRECISION", "double"),
    ("FLOAT", "float"),
    ("FLOAT(30)", "double"),
    ("CHAR", "char(1)"),
    ("CHARACTER VARYING(5)", "varchar(5)"),
    ("NVARCHAR(5)", "varchar(5)"),
    ("NATIONAL CHAR(5)", "char(5)"),
    ("CHAR BYTE", "binary(1)"),
    ("TEXT", "text"),
    ("TEXT(10)", "tinytext"),
    ("LONG VARCHAR", "mediumtext"),
    ("LONG VARBINARY", "mediumblob"),
    ("LONGTEXT", "longtext"),
    ("BINARY(3)", "binary(3)"),
    ("VARBINARY(300)", "varbinary(300)"),
    ("BLOB", "blob"),
    ("DATE", "date"),
    ("DATETIME(6)", "datetime(6)"),
    ("TIMESTAMP(3) NULL", "timestamp(3)"),
    ("TIME(2)", "time(2)"),
    ("YEAR(4)", "year"),
    ("BIT(10)", "bit(10)"),
    ("ENUM('a','it''s')", "enum('a','it''s')"),
    ("SET('x','y')", "set('x','y')"),
    ("JSON", "json"),
]


@pytest.mark.parametrize(("written", "printed"), TYPES)
def test_type_is_read_and_printed(session: FakeSession, written: str, printed: str) -> None:
    session.ddl(f"CREATE TABLE t (a {written})")
    column = session.table("t").columns[0]
    assert type_text(column.type, zerofill=column.zerofill) == printed
    again = session.database.reopen().catalog.schema.table("test", "t")
    assert again.columns == session.table("t").columns


DEFAULTS = [
    ("INT DEFAULT -5", -5),
    ("INT DEFAULT '7'", 7),
    ("BIGINT UNSIGNED DEFAULT 18446744073709551615", 18446744073709551615),
    ("BOOL DEFAULT TRUE", 1),
    ("DECIMAL(6,2) DEFAULT 1.5", Decimal("1.50")),
    ("DOUBLE DEFAULT 1e3", 1000.0),
    ("VARCHAR(5) DEFAULT 'it''s'", "it's"),
    ("VARCHAR(5) DEFAULT _utf8mb4'x'", "x"),
    ("VARBINARY(4) DEFAULT 0xff00", b"\xff\x00"),
    ("DATE DEFAULT '2020-02-29'", dt.date(2020, 2, 29)),
    ("DATETIME(3) DEFAULT '2020-01-01 10:00:00.1234'", dt.datetime(2020, 1, 1, 10, 0, 0, 123000)),
    ("TIME DEFAULT '-10:00:01'", -dt.timedelta(hours=10, seconds=1)),
    ("YEAR DEFAULT 1999", 1999),
    ("BIT(4) DEFAULT b'1010'", 10),
    ("ENUM('a','b') DEFAULT 'b'", "b"),
    ("SET('x','y') DEFAULT 'y,x'", "x,y"),
    ("INT DEFAULT (3)", 3),
    ("INT DEFAULT NULL", None),
    ("INT", None),
]


@pytest.mark.parametrize(("written", "value"), DEFAULTS)
def test_default_value(session: FakeSession, written: str, value: object) -> None:
    session.ddl(f"CREATE TABLE t (a {written})")
    default = session.database.reopen().catalog.schema.table("test", "t").columns[0].default
    assert (default.kind, default.value) == ("const", value)


def test_timestamp_default_is_kept_in_utc(session: FakeSession) -> None:
    session.variables.zone = ZoneInfo("Asia/Tokyo")
    session.ddl("CREATE TABLE t (a TIMESTAMP DEFAULT '2020-01-01 09:00:00')")
    default = session.table("t").columns[0].default
    assert default.value == dt.datetime(2020, 1, 1)
    assert default.local(session.variables.zone) == dt.datetime(2020, 1, 1, 9)
    assert "DEFAULT '2020-01-01 09:00:00'" in session.query("SHOW CREATE TABLE t")[0][1]


def test_current_timestamp(session: FakeSession) -> None:
    session.ddl("CREATE TABLE t (a DATETIME(3) DEFAULT NOW(3) ON UPDATE CURRENT_TIMESTAMP(3), b INT NOT NULL)")
    a, b = session.table("t").columns
    assert (a.default.kind, a.default.value, a.on_update_now) == ("now", 3, True)
    assert b.default.kind == "none"


def test_keys_and_handles(session: FakeSession) -> None:
    session.ddl("CREATE TABLE a (x INT PRIMARY KEY, y INT UNIQUE, z INT, KEY (z), KEY (z, y))")
    a = session.table("a")
    assert (a.handle_offset, a.primary_key, a.clustered) == (0, (0,), True)
    assert [(i.name, i.unique) for i in a.indexes] == [("y", True), ("z", False), ("z_2", False)]
    session.ddl("CREATE TABLE b (x VARCHAR(5), y INT, PRIMARY KEY (y, x))")
    b = session.table("b")
    assert (b.handle_offset, b.primary_key, [c.offset for c in b.common_handle]) == (-1, (1, 0), [1, 0])
    assert all(c.not_null for c in b.columns)
    assert b.indexes == ()
    session.ddl("CREATE TABLE c (x INT PRIMARY KEY NONCLUSTERED, y INT)")
    c = session.table("c")
    assert (c.clustered, c.primary_key, c.indexes[0].name, c.indexes[0].primary) == (False, (0,), "PRIMARY", True)
    assert c.codec.is_hidden_handle
    session.ddl("CREATE TABLE d (id SERIAL, v INT)")
    d = session.table("d")
    assert d.auto_increment is not None
    assert (d.auto_increment.type.tp, d.auto_increment.type.unsigned) == (Tp.LONGLONG, True)
    assert [(i.name, i.unique) for i in d.indexes] == [("id", True)]


def test_expressions_of_keys_are_stored_as_tidb_does(session: FakeSession) -> None:
    session.ddl(
        'CREATE TABLE t (id INT PRIMARY KEY, A INT, s VARCHAR(9), UNIQUE KEY k (id, (A *-2), (CONCAT( s ,"\'") )))'
    )
    info = session.table("t").info
    hidden = [c for c in info.columns if c.hidden]
    assert [(c.name, c.generated_expr_string, c.generated_stored, c.dependences) for c in hidden] == [
        ("_V$_k_1", "`A` * -2", False, {"a": {}}),
        ("_V$_k_2", "concat(`s`, '''')", False, {"s": {}}),
    ]
    types = [(c.type.tp, c.type.flag, c.type.charset, c.type.collate) for c in hidden]
    assert types == [(8, 128, "binary", "binary"), (253, 0, "utf8mb4", "utf8mb4_bin")]
    (index,) = info.indexes
    assert [(part.name, part.offset) for part in index.columns] == [("id", 0), ("_V$_k_1", 3), ("_V$_k_2", 4)]
    session.ddl("ALTER TABLE t ADD COLUMN late INT, RENAME KEY k TO other")
    info = session.table("t").info
    assert [c.name for c in info.columns][3:] == ["_V$_other_1", "_V$_other_2", "late"]
    assert [c.name for c in session.table("t").columns] == ["id", "A", "s", "late", "_V$_other_1", "_V$_other_2"]


def test_feature_comment_is_read(session: FakeSession) -> None:
    session.ddl("CREATE TABLE t (a INT, PRIMARY KEY (a) /*T![clustered_index] NONCLUSTERED */)")
    assert not session.table("t").clustered


def test_like_copies_the_definition_only(session: FakeSession) -> None:
    session.ddl("CREATE TABLE a (x INT AUTO_INCREMENT PRIMARY KEY, y INT DEFAULT 3, UNIQUE u (y)) AUTO_INCREMENT = 50")
    session.ddl("CREATE TABLE b LIKE a")
    a, b = session.table("a"), session.table("b")
    assert (b.columns, b.indexes) == (a.columns, a.indexes)
    assert a.id != b.id
    assert session.database.autoids.allocate(a) == 50
    assert session.database.autoids.allocate(b) == 1


REFUSED = [
    ("CREATE TABLE t (a INT, A INT)", 1060),
    ("CREATE TABLE t (a INT, KEY k (a), KEY K (a))", 1061),
    ("CREATE TABLE t (a INT PRIMARY KEY, b INT, PRIMARY KEY (b))", 1068),
    ("CREATE TABLE t (a INT, KEY (b))", 1072),
    ("CREATE TABLE t (a INT AUTO_INCREMENT)", 1075),
    ("CREATE TABLE t (a INT AUTO_INCREMENT PRIMARY KEY, b INT AUTO_INCREMENT UNIQUE)", 1075),
    ("CREATE TABLE t (a VARCHAR(5) AUTO_INCREMENT PRIMARY KEY)", 1063),
    ("CREATE TABLE t (a INT DEFAULT 'x')", 1067),
    ("CREATE TABLE t (a TINYINT DEFAULT 300)", 1067),
    ("CREATE TABLE t (a INT NOT NULL DEFAULT NULL)", 1067),
    ("CREATE TABLE t (a INT DEFAULT NULL PRIMARY KEY)", 1067),
    ("CREATE TABLE t (a INT NULL PRIMARY KEY)", 1171),
    ("CREATE TABLE t (a DATETIME DEFAULT NOW(3))", 1067),
    ("CREATE TABLE t (a INT DEFAULT NOW())", 1067),
    ("CREATE TABLE t (a DATE ON UPDATE NOW())", 1294),
    ("CREATE TABLE t (a TEXT DEFAULT 'x')", 1101),
    ("CREATE TABLE t (a JSON DEFAULT '{}')", 1101),
    ("CREATE TABLE t (a TEXT, KEY (a))", 1170),
    ("CREATE TABLE t (a JSON, KEY (a))", 3152),
    ("CREATE TABLE t (a INT, KEY (a(3)))", 1089),
    ("CREATE TABLE t (a VARCHAR(5), KEY (a(6)))", 1089),
    ("CREATE TABLE t (a VARCHAR(5), KEY (a(0)))", 1391),
    ("CREATE TABLE t (a VARCHAR(769), KEY (a))", 1071),
    ("CREATE TABLE t (a VARCHAR(99999))", 1074),
    ("CREATE TABLE t (a CHAR(256))", 1074),
    ("CREATE TABLE t (a VARCHAR)", 1064),
    ("CREATE TABLE t (a NOTATYPE)", 1064),
    ("ALTER TABLE t ADD a NATIONAL NOTATYPE", 1064),
    ("CREATE TABLE t (id INT PRIMARY KEY, g POINT)", 1235),
    ("CREATE TABLE t (a DECIMAL(66))", 1426),
    ("CREATE TABLE t (a DECIMAL(5,6))", 1427),
    ("CREATE TABLE t (a DATETIME(7))", 1426),
    ("CREATE TABLE t (a BIT(65))", 1439),
    ("CREATE TABLE t (a ENUM('x','x'))", 1291),
    ("CREATE TABLE t (`a ` INT)", 1166),
    (f"CREATE TABLE t ({'x' * 65} INT)", 1059),
    (f"CREATE TABLE {'x' * 65} (a INT)", 1059),
    ("CREATE TABLE t (" + ",".join(f"c{i} INT" for i in range(1018)) + ")", 1117),
    ("CREATE TABLE t (a INT, KEY `primary` (a))", 1280),
    ("CREATE TABLE nowhere.t (a INT)", 1049),
    ("CREATE TABLE information_schema.t (a INT)", 1044),
    ("CREATE TABLE t (a INT) CHARSET = nonsense", 1115),
    ("CREATE TABLE t (a INT) COLLATE = nonsense", 1273),
    ("CREATE TABLE t LIKE nowhere", 1146),
    ("CREATE GLOBAL TEMPORARY TABLE t (a INT) ON COMMIT DELETE ROWS", 1235),
    ("CREATE TABLE t (a INT, FOREIGN KEY (a) REFERENCES x (y))", 1824),
    ("CREATE TABLE t (a INT, CONSTRAINT c FOREIGN KEY (a) REFERENCES t (y))", 3734),
    ("CREATE TABLE t (a INT, FOREIGN KEY (a) REFERENCES t (a))", 1822),
    ("CREATE TABLE t (a INT, b INT, FOREIGN KEY (a) REFERENCES t (a, b))", 1239),
    ("CREATE TABLE t (a INT, FOREIGN KEY (x) REFERENCES t (a))", 1072),
    ("CREATE TABLE t (a INT, FOREIGN KEY (a, a) REFERENCES t (a, a))", 1060),
    ("CREATE TABLE t (a INT PRIMARY KEY, b BIGINT, FOREIGN KEY (b) REFERENCES t (a))", 3780),
    ("CREATE TABLE t (a INT PRIMARY KEY, b INT UNSIGNED, FOREIGN KEY (b) REFERENCES t (a))", 3780),
    ("CREATE TABLE t (a DECIMAL(5, 2) PRIMARY KEY, b DECIMAL(6, 2), FOREIGN KEY (b) REFERENCES t (a))", 3780),
    ("CREATE TABLE t (a INT PRIMARY KEY, b INT NOT NULL, FOREIGN KEY (b) REFERENCES t (a) ON DELETE SET NULL)", 1830),
    ("CREATE TABLE t (a INT PRIMARY KEY, b INT AS (a), FOREIGN KEY (b) REFERENCES t (a))", 3733),
    (
        "CREATE TABLE t (a INT PRIMARY KEY, b INT AS (a) STORED, FOREIGN KEY (b) REFERENCES t (a) ON DELETE SET NULL)",
        3104,
    ),
    (
        "CREATE TABLE t (a INT KEY, b INT, FOREIGN KEY f (b) REFERENCES t (a), FOREIGN KEY F (b) REFERENCES t (a))",
        1826,
    ),
    ("CREATE TABLE t (a INT PRIMARY KEY, b INT, FOREIGN KEY (b) REFERENCES t (a)) PARTITION BY HASH (a)", 1506),
    ("CREATE TABLE t (a INT, FOREIGN KEY (a) REFERENCES t (a) ON DELETE NONSENSE)", 1064),
    ("CREATE TABLE t (a INT, FOREIGN KEY (a) REFERENCES t)", 1239),
    ("CREATE TABLE t (a INT REFERENCES x ON DELETE)", 1064),
    ("CREATE TABLE t (a INT CHECK a > 1)", 1064),
    ("CREATE TABLE t (a INT, CHECK (b > 1))", 3820),
    ("CREATE TABLE t (a INT, CHECK (a))", 3812),
    ("CREATE TABLE t (a INT, CHECK (a + 1))", 3812),
    ("CREATE TABLE t (a INT CHECK (b > 1), b INT)", 3813),
    ("CREATE TABLE t (a INT, CHECK (a > RAND()))", 3814),
    ("CREATE TABLE t (a DATETIME, CHECK (a > NOW()))", 3814),
    ("CREATE TABLE t (a INT, CHECK (a > (SELECT 1)))", 3815),
    ("CREATE TABLE t (a INT, CHECK (a > ?))", 3815),
    ("CREATE TABLE t (a INT, CHECK (a > @x))", 3816),
    ("CREATE TABLE t (a INT, CHECK (a > @@autocommit))", 3816),
    ("CREATE TABLE t (a INT PRIMARY KEY AUTO_INCREMENT, CHECK (a > 1))", 3818),
    ("CREATE TABLE t (a INT, CONSTRAINT c CHECK (a > 1), CONSTRAINT C CHECK (a > 2))", 3822),
    (
        "CREATE TABLE t (a INT PRIMARY KEY, b INT CHECK (b > 1), FOREIGN KEY (b) REFERENCES t (a) ON UPDATE CASCADE)",
        3823,
    ),
    ("CREATE TABLE t (a TIMESTAMP, b DATE AS (DATE(a)), KEY (b))", 1235),
    ("CREATE TABLE t (a INT, b INT AS (a + 1), PRIMARY KEY (b))", 3106),
    ("CREATE TABLE t (a INT, b INT AS (b + 1))", 3107),
    ("CREATE TABLE t (a INT, b INT AS (c + 1), c INT AS (a))", 3107),
    ("CREATE TABLE t (a INT PRIMARY KEY AUTO_INCREMENT, b INT AS (a + 1))", 3109),
    ("CREATE TABLE t (a INT, b INT AS (x + 1))", 1054),
    ("CREATE TABLE t (a INT, b INT AS (a + t.a))", 1054),
    ("CREATE TABLE t (a INT, b DATETIME AS (NOW()))", 3102),
    ("CREATE TABLE t (a INT, b DOUBLE AS (RAND()) STORED)", 3102),
    ("CREATE TABLE t (a INT, b INT AS (@x))", 3102),
    ("CREATE TABLE t (a INT, b INT AS ((SELECT 1)))", 3102),
    ("CREATE TABLE t (a INT, b INT AS (SUM(a)))", 1111),
    ("CREATE TABLE t (a INT, b INT AS (a + 1) DEFAULT 3)", 1221),
    ("CREATE TABLE t (a INT, b INT AS (a + 1) AUTO_INCREMENT PRIMARY KEY)", 1221),
    ("CREATE TABLE t (a INT, b INT AS ())", 1064),
    ("CREATE TABLE t (a INT, b INT AS (a + 1)", 1064),
    ("CREATE TABLE t (a INT, b INT AS (a +))", 1064),
    ("CREATE TABLE t (a INT, b INT AS a)", 1064),
    ("CREATE TABLE t (a INT, b INT GENERATED AS (a))", 1064),
    ("CREATE TABLE t (a INT) PARTITION BY LINEAR KEY (a) PARTITIONS 4", 1235),
    ("CREATE TABLE t (a INT) PARTITION BY HASH (a) SUBPARTITION BY HASH (a)", 1235),
    ("CREATE TABLE t (a INT) PARTITION BY RANGE (a) (PARTITION p VALUES LESS THAN (1) TABLESPACE x)", 1235),
    ("CREATE TABLE t (a INT) PARTITION BY RANGE (a) (PARTITION p VALUES LESS (1))", 1064),
    ("CREATE TABLE t (a INT) PARTITION BY RANGE (a) (PARTITION p VALUES LESS THAN (1)", 1064),
    ("CREATE TABLE t (a INT) PARTITION BY NOTHING (a)", 1064),
    ("CREATE TABLE t (a VARCHAR(5) COLLATE utf8mb4_0900_as_cs)", 1235),
    ("CREATE TABLE t (a VARCHAR(5)) CHARSET = gbk", 1235),
    ("CREATE TABLE t (a INT, FULLTEXT KEY (a))", 1235),
    ("CREATE TABLE t (a INT, KEY ((NULL)))", 3761),
    ("CREATE TABLE t (a DATETIME, KEY ((UNIX_TIMESTAMP(a))))", 1235),
    ("CREATE TABLE t (a INT, b DATETIME AS (FROM_UNIXTIME(a)), c YEAR AS (YEAR(b)), KEY (c))", 1235),
    ("CREATE TABLE t (a TIME, KEY ((YEAR(CAST(a AS DATE)))))", 1235),
    ("CREATE TABLE t (a INT DEFAULT (NOPE(1)))", 1305),
    ("CREATE TABLE t (a INT DEFAULT (@x))", 3772),
    ("CREATE TABLE t (a INT DEFAULT ((SELECT 1)))", 3770),
    ("CREATE TABLE t (a INT DEFAULT (1 +))", 1064),
    ("CREATE TABLE t (a INT, b INT DEFAULT (c + 1))", 1054),
    ("CREATE TABLE t (a GEOMETRY)", 1235),
    ("CREATE TABLE t (a INT) ENGINE = MEMORY", 1235),
    ("CREATE OR REPLACE TABLE v (a INT)", 1235),
    ("CREATE VIEW v", 1064),
    ("CREATE ALGORITHM = v VIEW v AS SELECT 1", 1064),
    ("CREATE SQL SECURITY NOBODY VIEW v AS SELECT 1", 1064),
    ("CREATE VIEW v () AS SELECT 1", 1064),
    ("DROP VIEW", 1064),
    ("CREATE TABLE t (a INT,)", 1064),
    ("CREATE TABLE t (a INT", 1064),
    ("CREATE TABLE t ()", 1064),
]


@pytest.mark.parametrize(("text", "code"), REFUSED, ids=[t[:60] for t, _ in REFUSED])
def test_refused(session: FakeSession, text: str, code: int) -> None:
    version = session.database.catalog.schema.version
    with pytest.raises(Error) as caught:
        session.ddl(text)
    assert caught.value.code == code
    assert session.database.catalog.schema.version == version
    assert session.database.catalog.schema.table("test", "t") is None


def test_error_has_position_and_near_match(session: FakeSession) -> None:
    text = "CREATE TABLE t (price INT, KEY (prise))"
    with pytest.raises(Error, match="did you mean 'price'") as caught:
        session.ddl(text)
    assert caught.value.position == text.index("prise")


def test_exists_already(session: FakeSession) -> None:
    session.ddl("CREATE TABLE t (a INT)")
    with pytest.raises(Error, match="already exists"):
        session.ddl("CREATE TABLE T (b INT)")
    session.ddl("CREATE TABLE IF NOT EXISTS t (b INT)")
    assert session.warnings == [("Note", 1050, "Table 't' already exists")]
    assert session.table("t").column("b") is None


def test_databases(session: FakeSession) -> None:
    session.ddl("CREATE DATABASE IF NOT EXISTS d DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    for text, code in (
        ("CREATE SCHEMA D", 1007),
        ("DROP DATABASE e", 1008),
        ("DROP DATABASE information_schema", 1044),
        ("DROP DATABASE mysql", 3552),
    ):
        with pytest.raises(Error) as caught:
            session.ddl(text)
        assert caught.value.code == code
    session.ddl("CREATE TABLE d.t (a INT)")
    session.current_db = "d"
    assert session.ddl("DROP DATABASE d").affected_rows == 1
    assert session.current_db == ""
    session.ddl("DROP DATABASE IF EXISTS d")
    assert session.warnings[0][1] == 1008
    with pytest.raises(Error) as caught:
        session.ddl("CREATE TABLE t (a INT)")
    assert caught.value.code == 1046


ROUND_TRIP = """CREATE TABLE `t``x` (
  `id` bigint unsigned NOT NULL AUTO_INCREMENT COMMENT 'it''s',
  `a` int DEFAULT '-5',
  `b` varchar(20) NOT NULL DEFAULT 'x\\\\y',
  `c` datetime(3) DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
  `d` enum('a','b''c') DEFAULT 'b''c',
  `e` set('x','y') NOT NULL,
  `f` bit(3) DEFAULT b'101',
  `g` decimal(10,2) unsigned DEFAULT '1.50',
  `h` tinyint(1) NOT NULL DEFAULT '1',
  `i` text,
  `j` json DEFAULT NULL,
  `k` timestamp NULL DEFAULT NULL,
  `l` varbinary(4) DEFAULT 0xFF00,
  `m` year DEFAULT '1999',
  `n` time(2) DEFAULT '-10:00:01.50',
  PRIMARY KEY (`id`) /*T![clustered_index] CLUSTERED */,
  UNIQUE KEY `uk` (`a`,`b`(10)),
  KEY `c` (`c`) COMMENT 'index',
  KEY `i` (`i`(5))
) ENGINE=InnoDB AUTO_INCREMENT=100 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='a table'"""


def test_show_create_table_round_trip(session: FakeSession) -> None:
    session.ddl(ROUND_TRIP)
    shown = session.query("SHOW CREATE TABLE `t``x`")[0][1]
    assert shown == ROUND_TRIP
    session.ddl("CREATE DATABASE other")
    session.current_db = "other"
    session.ddl(shown)
    assert session.query("SHOW CREATE TABLE `t``x`")[0][1] == ROUND_TRIP


@pytest.mark.parametrize(("written", "printed"), TYPES)
def test_every_type_round_trips(session: FakeSession, written: str, printed: str) -> None:
    session.ddl(f"CREATE TABLE t (a {written} COMMENT 'c')")
    shown = session.query("SHOW CREATE TABLE t")[0][1]
    first = session.table("t").columns
    session.ddl("DROP TABLE t")
    session.ddl(shown)
    assert session.table("t").columns == first
