"""Tables of a cluster as a PySpark data source: `spark.read.format("sqlfront")` (docs/spark.md).

    import sqlfront.spark

    sqlfront.spark.register(spark)
    frame = spark.read.format("sqlfront").option("path", "tikv://127.0.0.1:2379/shop").option("dbtable", "item").load()

The driver reads the table's record at one timestamp, cuts the table at the bounds of regions, and hands every partition
plain data: key ranges, an encoded request, the timestamp. Executors send the request to the stores and pass the answers
on as Arrow batches; neither starts a SQL server. Only `source.py` imports pyspark (the extra `spark`).
"""

from __future__ import annotations

from typing import Any

FORMAT = "sqlfront"
FILTERS_SETTING = "spark.sql.python.filterPushdown.enabled"
"""Spark's switch for filters that a data source written in Python takes; off by default."""


def register(spark: Any, *, pushdown: bool = True) -> None:
    """Makes the format known to a SparkSession.

    `pushdown` also turns on that data sources in Python are given filters, for all of the session; without it every row
    of a table goes to Spark.
    """
    from sqlfront.spark.source import FilteringDataSource, SqlfrontDataSource

    if pushdown:
        spark.conf.set(FILTERS_SETTING, "true")
    spark.dataSource.register(FilteringDataSource if pushdown else SqlfrontDataSource)


def now_ts(path: str) -> int:
    """A fresh timestamp of the cluster at `path`, to read several tables at: `option("snapshot", ts)`."""
    from sqlfront.spark.options import read_options
    from sqlfront.spark.planning import connected

    with connected(read_options({"path": path, "dbtable": "any"}).target) as storage:
        return storage.now_ts()


def __getattr__(name: str) -> Any:
    if name == "SqlfrontDataSource":
        from sqlfront.spark.source import SqlfrontDataSource

        return SqlfrontDataSource
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
