"""The classes that PySpark calls: thin, over `planning` and `reading`. Needs pyspark 4.1 or later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlfront.errors import InterfaceError
from sqlfront.spark import FORMAT
from sqlfront.spark.columns import ddl_of, spark_type
from sqlfront.spark.filters import Comparison, Condition, Membership, Negation, NullTest, Pattern
from sqlfront.spark.options import read_options
from sqlfront.spark.planning import (
    Part,
    Read,
    begin_read,
    chosen_columns,
    connected,
    plan_parts,
    push_conditions,
    table_at,
)
from sqlfront.spark.reading import read_part

try:
    from pyspark.sql import datasource as ds
    from pyspark.sql.types import StructType
except ImportError as exc:
    raise ImportError("sqlfront.spark needs PySpark: pip install 'sqlfront[spark]'") from exc
if not hasattr(ds, "EqualTo"):
    raise ImportError("sqlfront.spark needs PySpark 4.1 or later")

if TYPE_CHECKING:
    import pyarrow as pa

_COMPARISONS = {
    ds.EqualTo: "eq",
    ds.EqualNullSafe: "nulleq",
    ds.LessThan: "lt",
    ds.LessThanOrEqual: "le",
    ds.GreaterThan: "gt",
    ds.GreaterThanOrEqual: "ge",
}
_PATTERNS = {
    ds.StringStartsWith: (False, True),
    ds.StringEndsWith: (True, False),
    ds.StringContains: (True, True),
}


class SqlfrontDataSource(ds.DataSource):
    """The format "sqlfront"; see `options.NAMES` for what it takes. Reads only."""

    pushdown = False
    """Whether filters are taken when the option `pushdown` says nothing: Spark has to be told of that too."""

    @classmethod
    def name(cls) -> str:
        return FORMAT

    def schema(self) -> str:
        options = read_options(self.options)
        with connected(options.target) as storage:
            ts = options.snapshot or storage.now_ts()
            table = table_at(storage, options.db, options.table, ts)
            return ddl_of(chosen_columns(table, options.columns))

    def reader(self, schema: StructType) -> ds.DataSourceReader:
        options = read_options(self.options)
        wanted = self.pushdown if options.pushdown is None else options.pushdown
        return (FilteringReader if wanted else TableReader)(dict(self.options), schema)


class FilteringDataSource(SqlfrontDataSource):
    """The same for a session that gives filters to data sources written in Python."""

    pushdown = True


class TableReader(ds.DataSourceReader):
    """Reads the columns of a schema, which may be fewer than the table's: the way to read only some of them."""

    def __init__(self, options: dict[str, str], schema: StructType) -> None:
        self._options = options
        self._fields = [(field.name, field.dataType.simpleString()) for field in schema.fields]
        self._conditions: list[Condition] = []
        self._ts = 0

    def partitions(self) -> Sequence[ds.InputPartition]:
        options = read_options(self._options)
        with connected(options.target) as storage:
            ts = self._ts or options.snapshot
            read = begin_read(storage, options.target, options.db, options.table, ts, options.hold_s)
            self._check_types(read)
            names = [name for name, _ in self._fields]
            parts = plan_parts(storage, read, names, self._conditions, options.partitions)
        return [ds.InputPartition(part.plain()) for part in parts]

    def _check_types(self, read: Read) -> None:
        """Raises InterfaceError where the schema does not fit the table as it was at the timestamp."""
        columns = chosen_columns(read.table, [name for name, _ in self._fields])
        for (name, given), column in zip(self._fields, columns, strict=True):
            there = spark_type(column.type)[0].lower()
            if given != there:
                raise InterfaceError(f"column {name!r} is {there} in the table, not {given}")

    def read(self, partition: ds.InputPartition | None) -> Iterator[pa.RecordBatch]:
        """Spark makes a task without a partition where there is none."""
        return iter(()) if partition is None else read_part(Part(**partition.value))


class FilteringReader(TableReader):
    """The same with filters that stores evaluate."""

    def pushFilters(self, filters: list[ds.Filter]) -> Iterable[ds.Filter]:
        options = read_options(self._options)
        conditions = [_condition(one) for one in filters]
        with connected(options.target) as storage:
            self._ts = options.snapshot or storage.now_ts()
            table = table_at(storage, options.db, options.table, self._ts)
        known = [condition for condition in conditions if condition is not None]
        pushed = dict(zip(map(id, known), push_conditions(table, known), strict=True))
        for one, condition in zip(filters, conditions, strict=True):
            made = None if condition is None else pushed[id(condition)]
            if made is not None and condition is not None:
                self._conditions.append(condition)
            if made is None or not made.is_exact:
                yield one


def _condition(given: ds.Filter) -> Condition | None:
    """Spark's filter as ours; None for one that is not known, or of a part of a column."""
    if isinstance(given, ds.Not):
        inner = _condition(given.child)
        return None if inner is None else Negation(inner)
    path: Any = getattr(given, "attribute", ())
    if len(path) != 1:
        return None
    column, kind = path[0], type(given)
    if kind in _COMPARISONS:
        return Comparison(_COMPARISONS[kind], column, given.value)
    if kind in _PATTERNS:
        return Pattern(column, given.value, *_PATTERNS[kind])
    if isinstance(given, ds.In):
        return Membership(column, tuple(given.value))
    if isinstance(given, ds.IsNull | ds.IsNotNull):
        return NullTest(column, isinstance(given, ds.IsNull))
    return None
