"""The index by which a few rows of a large columnar table are found, to be deleted.

A DELETE by a join probes the key column of the whole table, however few its keys are: 12 to 21 ms for six million rows.
DuckDB reads an index of its own only for a list of values of one column, so the index is over one integer column of the
key, the one with the most different values, and what else the key has is compared row by row.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from coprocessor.columnar.layout import Layout
from coprocessor.duck import RELATION, is_damage, query_errors

if TYPE_CHECKING:
    import duckdb

ROWS_MIN = 50_000
"""A smaller table is probed as quickly."""
ROWS_MAX = 100_000_000
"""A larger one has none: DuckDB keeps an index in memory, some 12 bytes a row."""
FAN_MAX = 64
"""A column with more rows to a value, on the average, is no help."""
ROWS_FOR_A_KEY = 6000
"""So many rows of a table are probed in the time in which one key is looked up."""
FOUND_MAX = 8192
"""DuckDB looks up no more rows than this by an index."""
LISTED_MAX = 250
"""So few keys are better listed in a statement than read from a relation."""
SETTINGS = f"SET index_scan_max_count = {FOUND_MAX}"

logger = logging.getLogger("sqlfront.columnar")


@dataclass(frozen=True, slots=True)
class KeyIndex:
    """An index over `column`, of whose values each has `fan` rows on the average."""

    column: str
    fan: float

    def keys_max(self, rows: int) -> int:
        """So many keys of a table of so many rows are found sooner by the index than by a join."""
        return min(rows // ROWS_FOR_A_KEY, int(FOUND_MAX / 2 / self.fan))

    def delete_sql(self, layout: Layout, keys: pa.RecordBatch) -> str:
        """Deletes the rows with these keys; to be run over them, where it reads RELATION."""
        sql = delete_listed_sql(layout, self.column, keys)
        names = layout.key_names
        if len(names) == 1:
            return sql
        if keys.num_rows <= LISTED_MAX and names == layout.integer_keys:
            values = zip(*(keys.column(name).to_pylist() for name in names), strict=True)
            listed = ";".join([":".join(map(str, value)) for value in values])
            row = ", ':', ".join(names)
            return f"{sql} AND contains(';{listed};', concat(';', {row}, ';'))"
        key = f"({', '.join(names)})"
        return f"{sql} AND {key} IN (SELECT {key} FROM {RELATION})"


def delete_listed_sql(layout: Layout, column: str, keys: pa.RecordBatch) -> str:
    """Deletes all rows whose integer `column` has one of the keys' values, which stand in the statement."""
    values = ", ".join(map(str, keys.column(column).unique().to_pylist()))
    return f"DELETE FROM {layout.name} WHERE {column} IN ({values})"


def create_index(connection: duckdb.DuckDBPyConnection, layout: Layout) -> KeyIndex | None:
    """Makes the index of a filled table, in a transaction of its own.

    None when it would be of no use, or there is no memory for it: the table goes without.
    """
    columns = layout.integer_keys
    if not columns:
        return None
    distinct = ", ".join(f"approx_count_distinct({column})" for column in columns)
    ((rows, *counts),) = connection.execute(f"SELECT count(*), {distinct} FROM {layout.name}").fetchall()
    most = max(counts)
    fan = 1.0 if len(layout.key_names) == 1 else rows / max(most, 1)
    if fan > FAN_MAX or rows > ROWS_MAX:
        return None
    column = columns[counts.index(most)]
    try:
        connection.execute(f"CREATE INDEX {layout.index_name} ON {layout.name} ({column})")
    except query_errors() as error:
        if is_damage(error):
            raise
        logger.warning("columnar table %s goes without an index of its key: %s", layout.codec.schema.name, error)
        return None
    return KeyIndex(column, max(fan, 1.0))


def to_json(index: KeyIndex | None, *, is_open: bool) -> str | None:
    """A table's index as text, None while whether it is to have one is open."""
    return None if is_open else json.dumps(None if index is None else asdict(index))


def from_json(text: str | None) -> tuple[KeyIndex | None, bool]:
    """What `to_json` was given."""
    values = None if text is None else json.loads(text)
    return None if values is None else KeyIndex(**values), text is None
