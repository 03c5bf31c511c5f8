"""A real Spark over a cluster of processes, compared with SQL. Skipped where pyspark is not installed."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sqlfront
import sqlfront.spark
from tests.e2e.harness import ROOT, Cluster, run
from tests.e2e.test_stores import DRIVERS

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

STORES = """
[raftstore]
region-heartbeat-s = 0.3
store-heartbeat-s = 0.5
split-check-s = 0.2
region-max-bytes = 98304
region-split-bytes = 65536
split-check-bytes = 16384
"""
ROWS = 2000
TEST_S = 600.0


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    pytest.importorskip("pyspark")
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    session = (
        SparkSession.builder.master("local[2]")
        .appName("sqlfront")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )
    yield session
    session.stop()


def loaded(path: str) -> Any:
    """Fills the cluster; returns the connection."""
    db = sqlfront.connect(path, autocommit=True)
    cursor = db.cursor()
    cursor.execute("SET time_zone = '+00:00'")
    cursor.execute("CREATE DATABASE shop")
    cursor.execute(
        "CREATE TABLE shop.item (id BIGINT PRIMARY KEY, name VARCHAR(100), kind ENUM('a', 'b'), price DECIMAL(10, 2), "
        "big BIGINT UNSIGNED, made DATETIME(6), seen TIMESTAMP NULL, span TIME, raw VARBINARY(20), n INT)"
    )
    db.autocommit = False
    for first in range(0, ROWS, 1000):
        rows = [
            (i, f"name {i:060d}", "ab"[i % 2], f"{i}.25", 18446744073709551615 - i, "2024-01-02 03:04:05.000006",
             "2024-01-02 03:04:05", "-12:00:01", bytes([i % 256]), None if i % 10 == 0 else i % 50)
            for i in range(first, first + 1000)
        ]  # fmt: skip
        cursor.executemany("INSERT INTO shop.item VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        db.commit()
    db.autocommit = True
    return db


def test_spark_reads_what_sql_reads(tmp_path: Path, spark: Any) -> None:
    async def main() -> None:
        async with Cluster(tmp_path, 1, 3, STORES, DRIVERS) as cluster:
            path = f"tikv://{','.join(cluster.pd_addresses)}/test"
            await asyncio.to_thread(compare, path, spark)

    run(main, TEST_S)


def compare(path: str, spark: Any) -> None:
    db = loaded(path)
    try:
        check_frames(path, spark, db.cursor())
    finally:
        db.close()


def check_frames(path: str, spark: Any, cursor: Any) -> None:
    def sql(text: str) -> list[tuple[Any, ...]]:
        cursor.execute(text)
        return [tuple(row) for row in cursor.fetchall()]

    def frame(**options: Any) -> Any:
        reader = spark.read.format("sqlfront").option("path", path).option("dbtable", "shop.item")
        return reader.options(**{"partitions": 2} | options).load()

    # without filters the session's switch stays off
    sqlfront.spark.register(spark, pushdown=False)
    whole = frame(partitions=0)
    assert whole.count() == ROWS
    assert whole.rdd.getNumPartitions() > 2
    assert frame().rdd.getNumPartitions() == 2

    sqlfront.spark.register(spark)
    whole = frame()
    assert whole.schema.simpleString() == (
        "struct<id:bigint,name:string,kind:string,price:decimal(10,2),big:decimal(20,0),made:timestamp_ntz,"
        "seen:timestamp,span:interval day to second,raw:binary,n:int>"
    )
    wanted = [(row[0], row[1], row[2], row[3], int(row[4]), row[5], row[8], row[9])
              for row in sql("SELECT * FROM shop.item WHERE id < 500 AND n > 40 ORDER BY id")]  # fmt: skip
    filtered = whole.where("id < 500 AND n > 40").orderBy("id")
    found = [(r.id, r.name, r.kind, r.price, int(r.big), r.made, bytes(r.raw), r.n) for r in filtered.collect()]
    assert found == wanted
    first = whole.where("id = 7").collect()[0]
    assert first.span == -dt.timedelta(hours=12, seconds=1)
    assert first.seen.astimezone(dt.UTC) == dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    grouped = whole.where("name LIKE 'name 0%' AND kind = 'a'").groupBy("n").count().orderBy("n")
    assert [tuple(row) for row in grouped.collect()] == sql(
        "SELECT n, COUNT(*) FROM shop.item WHERE kind = 'a' GROUP BY n ORDER BY n"
    )
    # a column list and a schema read fewer columns
    assert frame(columns="n,id").columns == ["n", "id"]
    some = spark.read.format("sqlfront").schema("n INT, id BIGINT").options(path=path, dbtable="shop.item").load()
    assert some.where("id = 7").collect()[0].n == 7
    # one timestamp for two reads
    ts = sqlfront.spark.now_ts(path)
    cursor.execute("DELETE FROM shop.item WHERE id >= 100")
    then = frame(snapshot=ts)
    assert then.join(then.select("id"), "id").count() == ROWS
    assert frame().count() == 100
    with pytest.raises(Exception, match="doesn't exist"):
        spark.read.format("sqlfront").options(path=path, dbtable="shop.itme").load()
