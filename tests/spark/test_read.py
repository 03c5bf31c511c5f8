"""What driver and executors do, over a cluster in this process and without Spark: planning, filters, parts, types."""

from __future__ import annotations

import datetime as dt
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from coprocessor.dag.codec import decode_dag
from coprocessor.dag.plan import EncodeType, Selection
from kvstore.client.cluster.push import RegionPart
from kvstore.client.cluster.storage import ClusterStorage
from sqlfront.cluster import ClusterTarget
from sqlfront.dbapi import Connection
from sqlfront.errors import Error, InterfaceError, OperationalError, ProgrammingError
from sqlfront.spark.columns import ddl_of, spark_type
from sqlfront.spark.filters import Comparison, Condition, Membership, Negation, NullTest, Pattern
from sqlfront.spark.options import HOLD_S, ReadOptions, read_options
from sqlfront.spark.planning import (
    Part,
    begin_read,
    chosen_columns,
    group_regions,
    plan_parts,
    push_conditions,
    record_range,
    request_for,
    table_at,
    translated,
)
from sqlfront.spark.reading import read_part
from tests.cluster_sql.world import World

TARGET = ClusterTarget(("pd1:2379",))
ROWS = 6000


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.fixture(scope="module")
def db(world: World) -> Iterator[Connection]:
    connection = world.connect()
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE big (id BIGINT PRIMARY KEY, pad VARCHAR(100), n INT, d DECIMAL(10, 2))")
    rows = [(i, f"{i:060d}", None if i % 7 == 0 else i % 100, Decimal(i) / 100) for i in range(ROWS)]
    for first in range(0, ROWS, 1000):
        cursor.executemany("INSERT INTO big VALUES (?, ?, ?, ?)", rows[first : first + 1000])
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def storage(world: World, db: Connection) -> Iterator[ClusterStorage]:
    made = world.storage()
    yield made
    made.close()


@contextmanager
def through(world: World, target: ClusterTarget) -> Iterator[ClusterStorage]:
    """An executor's own client of the cluster."""
    assert target == TARGET
    storage = world.storage()
    try:
        yield storage
    finally:
        storage.close()


def parts_of(
    storage: ClusterStorage,
    table: str,
    names: Sequence[str] = (),
    conditions: Sequence[Condition] = (),
    *,
    ts: int = 0,
    wanted: int = 0,
) -> list[Part]:
    read = begin_read(storage, TARGET, "test", table, ts, HOLD_S)
    names = names or [column.name for column in read.table.columns]
    return plan_parts(storage, read, names, conditions, wanted)


def rows_of(world: World, parts: Sequence[Part]) -> list[dict[str, Any]]:
    """The rows of parts that went to another process and back."""
    sent = [Part(**pickle.loads(pickle.dumps(part.plain()))) for part in parts]
    return [row for part in sent for batch in read_part(part, lambda t: through(world, t)) for row in batch.to_pylist()]


def selected(db: Connection, sql: str) -> list[tuple[Any, ...]]:
    cursor = db.cursor()
    cursor.execute(sql)
    return [tuple(row) for row in cursor.fetchall()]


# Parts


def test_a_part_a_region_gives_all_rows_once(world: World, db: Connection, storage: ClusterStorage) -> None:
    parts = parts_of(storage, "big")
    assert len(parts) > 3
    assert len({part.ts for part in parts}) == 1
    found = rows_of(world, parts)
    assert sorted(tuple(row.values()) for row in found) == selected(db, "SELECT * FROM big ORDER BY id")


def test_parts_hold_plain_data_alone(storage: ClusterStorage) -> None:
    for value in parts_of(storage, "big")[0].plain().values():
        assert type(value) in (str, int, bytes, list, dict)


@pytest.mark.parametrize("wanted", [1, 2, 3, 1000])
def test_fewer_parts_than_regions(world: World, storage: ClusterStorage, wanted: int) -> None:
    regions = len(parts_of(storage, "big"))
    parts = parts_of(storage, "big", ["id"], wanted=wanted)
    assert len(parts) == min(wanted, regions)
    assert sorted(row["id"] for row in rows_of(world, parts)) == list(range(ROWS))


def test_groups_are_of_one_store_where_it_can_be() -> None:
    bounds = [bytes([i]) for i in range(7)]
    regions = [RegionPart(i, i % 2 + 1, [(bounds[i], bounds[i + 1])]) for i in range(6)]
    assert group_regions(regions, 2) == [
        [(b"\0", b"\1"), (b"\2", b"\3"), (b"\4", b"\5")],
        [(b"\1", b"\2"), (b"\3", b"\4"), (b"\5", b"\6")],
    ]
    assert group_regions(regions, 1) == [[(b"\0", b"\6")]]
    assert group_regions([], 4) == []


def test_regions_that_split_after_planning_are_read_to_the_end(
    world: World, db: Connection, storage: ClusterStorage
) -> None:
    parts = parts_of(storage, "big", ["id"], wanted=1)
    table = table_at(storage, "test", "big", storage.now_ts())
    storage.run(storage.cluster.split([table.codec.record_key(n) for n in (100, 2500, 2501)]))
    assert sorted(row["id"] for row in rows_of(world, parts)) == list(range(ROWS))


# Time


def test_all_parts_are_of_one_timestamp(world: World, db: Connection, storage: ClusterStorage) -> None:
    cursor = db.cursor()
    cursor.execute("CREATE TABLE moving (id INT PRIMARY KEY, v INT)")
    cursor.execute("INSERT INTO moving VALUES (1, 10), (2, 20)")
    before = storage.now_ts()
    parts = parts_of(storage, "moving")
    cursor.execute("UPDATE moving SET v = v + 1")
    cursor.execute("ALTER TABLE moving ADD COLUMN late INT DEFAULT 5")
    assert [row["v"] for row in rows_of(world, parts)] == [10, 20]
    assert rows_of(world, parts_of(storage, "moving", ts=before)) == [{"id": 1, "v": 10}, {"id": 2, "v": 20}]
    assert [tuple(row.values()) for row in rows_of(world, parts_of(storage, "moving"))] == [(1, 11, 5), (2, 21, 5)]
    with pytest.raises(Error) as caught:
        parts_of(storage, "moving", ts=storage.now_ts() + (1 << 40))
    assert caught.value.code == 8055


def test_a_table_written_anew_is_not_there_before(db: Connection, storage: ClusterStorage) -> None:
    cursor = db.cursor()
    cursor.execute("CREATE TABLE anew (id INT PRIMARY KEY)")
    cursor.execute("INSERT INTO anew VALUES (1)")
    before = storage.now_ts()
    cursor.execute("TRUNCATE TABLE anew")
    assert table_at(storage, "test", "anew", before).id != table_at(storage, "test", "anew", storage.now_ts()).id


def test_versions_are_kept_while_parts_are_read(world: World, db: Connection, storage: ClusterStorage) -> None:
    cursor = db.cursor()
    cursor.execute("CREATE TABLE kept (id INT PRIMARY KEY, v INT)")
    cursor.execute("INSERT INTO kept VALUES (1, 1)")
    parts = parts_of(storage, "kept")
    cursor.execute("UPDATE kept SET v = 2")
    held = storage.gc(storage.now_ts())["safe_point"]
    assert held <= parts[0].ts
    assert rows_of(world, parts) == [{"id": 1, "v": 1}]
    for service in {part.service for part in parts}:
        storage.keep_versions(service, parts[0].ts, 0)


# Filters

NUMBERS = [
    (1, 1, "1.50", 0.5, "a", b"\x01", "2024-01-02", "2024-01-02 03:04:05", "2024-01-02 03:04:05", "x"),
    (2, None, "-3.25", -1.5, "a  ", b"", "2023-12-31", "2023-12-31 00:00:00", "2023-12-31 00:00:00", "y"),
    (3, 300, None, None, "A%_\\", b"\xff\x00", None, None, None, None),
    (4, -5, "0.00", 0.0, "b", None, "1970-01-01", "1970-01-01 00:00:00", "1970-01-01 10:00:00", "x"),
    (5, 2147483647, "99999.99", 1e300, None, b"a", "9999-12-31", "9999-12-31 23:59:59", "2030-01-01 00:00:00", "z"),
    (6, 0, "1.50", 2.5, "a\x01", b"\x01\x00", "2024-01-02", "2024-01-02 03:04:06", "2024-01-02 03:04:05", "x"),
]  # fmt: skip
UTC_TIME = dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
FILTERS: list[tuple[Condition, str, bool | None]] = [
    (Comparison("eq", "n", 300), "n = 300", True),
    (Comparison("gt", "N", -5), "n > -5", True),
    (Comparison("nulleq", "n", 0), "n <=> 0", True),
    (Negation(Comparison("eq", "n", 300)), "n <> 300", True),
    (Membership("n", (0, 1, 12345678901)), "n IN (0, 1, 12345678901)", True),
    (Negation(Membership("n", (0, 1))), "n NOT IN (0, 1)", True),
    (NullTest("n", True), "n IS NULL", True),
    (NullTest("n", False), "n IS NOT NULL", True),
    (Comparison("le", "d", Decimal("1.5")), "d <= 1.5", True),
    (Comparison("lt", "f", 0.5), "f < 0.5", True),
    (Comparison("lt", "f", float("nan")), "", None),
    (Comparison("eq", "s", "a"), "s = 'a'", False),
    (Membership("s", ("b", "A%_\\")), "s IN ('b', 'A%_\\\\')", False),
    (Comparison("gt", "s", "a"), "", None),
    (Negation(Comparison("eq", "s", "a")), "", None),
    (NullTest("s", True), "s IS NULL", True),
    (Pattern("s", "a", before=False, after=True), "s LIKE 'a%'", False),
    (Pattern("s", "%_\\", before=True, after=False), "s LIKE '%\\%\\_\\\\\\\\'", False),
    (Comparison("ge", "b", b"\x01"), "b >= x'01'", True),
    (Comparison("ge", "day", dt.date(2024, 1, 2)), "day >= '2024-01-02'", False),
    (NullTest("day", True), "", None),
    (NullTest("day", False), "day IS NOT NULL", False),
    (Comparison("lt", "at", dt.datetime(2024, 1, 2, 3, 4, 6)), "at < '2024-01-02 03:04:06'", False),
    (Comparison("eq", "ts", UTC_TIME), "ts = '2024-01-02 03:04:05'", False),
    (Comparison("eq", "e", "x"), "", None),
    (Comparison("eq", "missing", 1), "", None),
    (Membership("n", (1, None)), "", None),
]


@pytest.fixture(scope="module")
def filtered(db: Connection) -> None:
    cursor = db.cursor()
    cursor.execute("SET time_zone = '+00:00'")
    cursor.execute(
        "CREATE TABLE filtered (id INT PRIMARY KEY, n INT, d DECIMAL(7, 2), f DOUBLE, s VARCHAR(20), b VARBINARY(20), "
        "day DATE, at DATETIME, ts TIMESTAMP NULL, e ENUM('x', 'y', 'z'))"
    )
    cursor.executemany(f"INSERT INTO filtered VALUES ({', '.join('?' * 10)})", NUMBERS)


@pytest.mark.parametrize(("condition", "sql", "exact"), FILTERS, ids=[str(one[0])[:50] for one in FILTERS])
def test_filters(
    world: World,
    db: Connection,
    storage: ClusterStorage,
    filtered: None,
    condition: Condition,
    sql: str,
    exact: bool | None,
) -> None:
    table = table_at(storage, "test", "filtered", storage.now_ts())
    (pushed,) = push_conditions(table, [condition])
    assert (None if pushed is None else pushed.is_exact) == exact
    if pushed is not None:
        found = rows_of(world, parts_of(storage, "filtered", ["id"], [condition]))
        assert sorted((row["id"],) for row in found) == selected(db, f"SELECT id FROM filtered WHERE {sql} ORDER BY id")


KEYED: list[tuple[list[Condition], range]] = [
    ([Comparison("eq", "ID", 77)], range(77, 78)),
    ([Comparison("gt", "id", 5990)], range(5991, ROWS)),
    ([Comparison("ge", "id", 10), Comparison("lt", "id", 20)], range(10, 20)),
    ([Comparison("le", "id", -1)], range(0)),
    ([Comparison("lt", "id", 5), Comparison("gt", "id", 4)], range(0)),
    ([Membership("id", (3, 1, 2))], range(1, 4)),
    ([Comparison("ge", "id", -(1 << 63)), Comparison("le", "id", (1 << 63) - 1)], range(ROWS)),
    ([Comparison("gt", "id", (1 << 63) - 1)], range(0)),
    ([Negation(Comparison("eq", "id", 0))], range(1, ROWS)),
]


@pytest.mark.parametrize(("conditions", "ids"), KEYED, ids=[str(one[0])[:60] for one in KEYED])
def test_conditions_over_the_key_narrow_the_ranges(
    world: World, db: Connection, storage: ClusterStorage, conditions: list[Condition], ids: range
) -> None:
    parts = parts_of(storage, "big", ["id"], conditions)
    assert sorted(row["id"] for row in rows_of(world, parts)) == list(ids)
    if len(ids) < 10:
        assert len(parts) <= 2


def test_keys_that_are_no_signed_integers_narrow_nothing(db: Connection, storage: ClusterStorage) -> None:
    cursor = db.cursor()
    cursor.execute("CREATE TABLE unsigned_key (id BIGINT UNSIGNED PRIMARY KEY)")
    cursor.execute("CREATE TABLE text_key (id VARCHAR(9), PRIMARY KEY (id) CLUSTERED)")
    for name in ("unsigned_key", "text_key"):
        table = table_at(storage, "test", name, storage.now_ts())
        assert record_range(table, [Comparison("eq", "id", 5)]) == table.codec.record_range


def test_the_request_reads_what_is_asked_for_and_what_filters_need(storage: ClusterStorage, db: Connection) -> None:
    part = parts_of(storage, "big", ["d", "id"], [Comparison("lt", "n", 5)])[0]
    dag = decode_dag(part.dag)
    table = table_at(storage, "test", "big", part.ts)
    ids = {column.name: column.id for column in table.columns}
    assert [column.id for column in dag.scan.columns] == [ids["d"], ids["id"], ids["n"]]
    assert isinstance(dag.steps[0], Selection)
    assert dag.output_offsets == (0, 1)
    assert dag.encode == EncodeType.ARROW
    assert request_for(table, ["d"], [], arrow=False).encode == EncodeType.CHUNK


def test_answers_of_a_store_without_arrow_are_the_same(world: World, storage: ClusterStorage, db: Connection) -> None:
    from coprocessor.dag.codec import encode_dag

    parts = parts_of(storage, "big")
    table = table_at(storage, "test", "big", parts[0].ts)
    chunked = encode_dag(request_for(table, parts[0].names, [], arrow=False)).SerializeToString()
    plain = [Part(**(part.plain() | {"dag": chunked})) for part in parts]
    assert rows_of(world, plain) == rows_of(world, parts)


# Types

TYPES = {
    "t1": ("TINYINT", "-128", "TINYINT", -128),
    "t2": ("TINYINT UNSIGNED", "255", "SMALLINT", 255),
    "s1": ("SMALLINT", "-5", "SMALLINT", -5),
    "s2": ("SMALLINT UNSIGNED", "65535", "INT", 65535),
    "m2": ("MEDIUMINT UNSIGNED", "16777215", "INT", 16777215),
    "i1": ("INT", "-7", "INT", -7),
    "i2": ("INT UNSIGNED", "4294967295", "BIGINT", 4294967295),
    "b1": ("BIGINT", "-9", "BIGINT", -9),
    "b2": ("BIGINT UNSIGNED", "18446744073709551615", "DECIMAL(20,0)", Decimal("18446744073709551615")),
    "y": ("YEAR", "2024", "SMALLINT", 2024),
    "bit1": ("BIT(9)", "511", "BIGINT", 511),
    "bit2": ("BIT(64)", "18446744073709551615", "DECIMAL(20,0)", Decimal("18446744073709551615")),
    "d1": ("DECIMAL(10, 3)", "-1.5", "DECIMAL(10,3)", Decimal("-1.500")),
    "d2": ("DECIMAL(50, 2)", "123456789012345678901234567890123456789012345678.25", "STRING",
           "123456789012345678901234567890123456789012345678.25"),
    "f": ("FLOAT", "0.5", "FLOAT", 0.5),
    "g": ("DOUBLE", "1.25", "DOUBLE", 1.25),
    "c": ("CHAR(5)", "'é'", "STRING", "é"),
    "v": ("VARCHAR(9)", "'a  '", "STRING", "a  "),
    "bin": ("VARBINARY(9)", "x'00ff'", "BINARY", b"\x00\xff"),
    "day": ("DATE", "'2024-02-29'", "DATE", dt.date(2024, 2, 29)),
    "at": ("DATETIME(6)", "'2024-02-29 01:02:03.000004'", "TIMESTAMP_NTZ", dt.datetime(2024, 2, 29, 1, 2, 3, 4)),
    "ts": ("TIMESTAMP", "'2024-02-29 01:02:03'", "TIMESTAMP", dt.datetime(2024, 2, 29, 1, 2, 3, tzinfo=dt.UTC)),
    "span": ("TIME", "'-100:00:01'", "INTERVAL DAY TO SECOND", -dt.timedelta(hours=100, seconds=1)),
    "e": ("ENUM('x', 'y')", "'y'", "STRING", "y"),
    "st": ("SET('x', 'y')", "'x,y'", "STRING", "x,y"),
    "j": ("JSON", "'{\"a\": [1, null]}'", "STRING", '{"a": [1, null]}'),
}  # fmt: skip


def test_types(world: World, db: Connection, storage: ClusterStorage) -> None:
    cursor = db.cursor()
    cursor.execute("SET time_zone = '+00:00'")
    columns = ", ".join(f"{name} {sql}" for name, (sql, *_) in TYPES.items())
    cursor.execute(f"CREATE TABLE typed (id INT PRIMARY KEY, {columns})")
    cursor.execute(f"INSERT INTO typed VALUES (1, {', '.join(literal for _, literal, *_ in TYPES.values())})")
    cursor.execute("INSERT INTO typed (id) VALUES (2)")
    parts = parts_of(storage, "typed", list(TYPES))
    first, second = rows_of(world, parts)
    assert first == {name: value for name, (_, _, _, value) in TYPES.items()}
    assert set(second.values()) == {None}
    table = table_at(storage, "test", "typed", storage.now_ts())
    made = [f"`{name}` {ddl}" for name, (_, _, ddl, _) in TYPES.items()]
    assert ddl_of(table.columns) == ", ".join(["`id` INT NOT NULL", *made])
    dag = decode_dag(parts[0].dag)
    for name, told in zip(TYPES, dag.output_types, strict=True):
        column = table.column(name)
        assert column is not None
        assert spark_type(told) == spark_type(column.type), name


def test_a_common_handle_and_a_hidden_one(world: World, db: Connection, storage: ClusterStorage) -> None:
    cursor = db.cursor()
    cursor.execute("CREATE TABLE keyed (a VARCHAR(9), b INT, c INT, PRIMARY KEY (a, b) CLUSTERED)")
    cursor.execute("INSERT INTO keyed VALUES ('x ', 1, 2), ('y', 3, 4)")
    cursor.execute("CREATE TABLE heap (a VARCHAR(9))")
    cursor.execute("INSERT INTO heap VALUES ('p'), ('q')")
    assert [tuple(row.values()) for row in rows_of(world, parts_of(storage, "keyed"))] == [("x ", 1, 2), ("y", 3, 4)]
    assert [row["a"] for row in rows_of(world, parts_of(storage, "heap"))] == ["p", "q"]


def test_an_empty_table_has_a_part_without_rows(world: World, db: Connection, storage: ClusterStorage) -> None:
    db.cursor().execute("CREATE TABLE nothing (id INT PRIMARY KEY)")
    assert rows_of(world, parts_of(storage, "nothing")) == []


# Options and names


def test_options() -> None:
    found = read_options({"path": "tikv://pd1:2379/shop", "dbTable": "item"})
    assert found == ReadOptions(TARGET, "shop", "item")
    found = read_options({
        "path": "tikv://pd1:2379/shop", "dbtable": "`other`.`my t`", "snapshot": "1970-01-01T00:00:01+00:00",
        "partitions": "8", "columns": "a, `b`", "hold_s": "60", "pushdown": "TRUE",
    })  # fmt: skip
    assert found == ReadOptions(TARGET, "other", "my t", 1000 << 18, 8, ("a", "b"), 60, True)
    assert read_options({"path": "tikv://pd1:2379", "dbtable": "t", "snapshot": "77"}).snapshot == 77


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dbtable": "t"}, "'path' is missing"),
        ({"path": "tikv://pd1:2379"}, "'dbtable' is missing"),
        ({"path": "/srv/shop.db", "dbtable": "t"}, "is a directory, which one process owns"),
        ({"path": ":memory:", "dbtable": "t"}, "is a directory, which one process owns"),
        ({"path": "tikv://pd1:2379", "dbtable": "a.b.c"}, "is no DATABASE.TABLE"),
        ({"path": "tikv://pd1:2379", "dbtable": "t", "snapshot": "yesterday"}, "'snapshot' is a timestamp"),
        ({"path": "tikv://pd1:2379", "dbtable": "t", "partitions": "-1"}, "'partitions' is a number"),
        ({"path": "tikv://pd1:2379", "dbtable": "t", "pushdown": "maybe"}, "'pushdown' is true or false"),
        ({"path": "tikv://pd1:2379", "dbtable": "t", "partition": "1"}, "did you mean 'partitions'?"),
    ],
)
def test_options_that_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InterfaceError, match=message.replace("?", "\\?")):
        read_options(options)


def test_names_that_are_not_there(storage: ClusterStorage, db: Connection) -> None:
    now = storage.now_ts()
    with pytest.raises(ProgrammingError, match="Unknown database 'tset'; did you mean 'test'"):
        table_at(storage, "tset", "big", now)
    with pytest.raises(ProgrammingError, match=r"Table 'test\.bug' doesn't exist"):
        table_at(storage, "test", "bug", now)
    table = table_at(storage, "TEST", "Big", now)
    with pytest.raises(ProgrammingError, match="Unknown column 'paid'"):
        chosen_columns(table, ["paid"])
    with pytest.raises(InterfaceError, match="asked for twice"):
        chosen_columns(table, ["id", "ID"])


def test_versions_that_are_gone() -> None:
    world = World(stores=1)
    storage = world.storage()
    try:
        old = storage.now_ts()
        storage.gc(storage.now_ts())
        with pytest.raises(OperationalError) as caught, translated():
            begin_read(storage, TARGET, "test", "any", old, HOLD_S)
        assert caught.value.code == 9006
    finally:
        storage.close()
        world.close()


def test_batches_have_sparks_arrow_types(world: World, storage: ClusterStorage, db: Connection) -> None:
    part = parts_of(storage, "big")[0]
    batch = next(read_part(part, lambda t: through(world, t)))
    assert batch.schema == pa.schema(
        [("id", pa.int64()), ("pad", pa.string()), ("n", pa.int32()), ("d", pa.decimal128(10, 2))]
    )
