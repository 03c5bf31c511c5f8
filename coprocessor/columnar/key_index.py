"""The index by which a few rows of a large columnar table are found, to be deleted or updated.

A join probes the key column of the whole table, however few its keys are: 12 to 21 ms for six million rows. DuckDB
reads an index of its own only for a list of values of one column, and only where the scan has no other filter, such as
the bounds that a join hands to it. So the index is over one integer column of the key, the one with the most different
values, which are listed in the statement, and the keys are joined as lists of one element, of which no bounds are made.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from coprocessor.columnar.layout import Layout
from coprocessor.duck import is_damage, is_interrupt, query_errors

if TYPE_CHECKING:
    import duckdb

ROWS_MIN = 50_000
"""Of a smaller table fewer than ten keys would be looked up."""
ROWS_MAX = 100_000_000
"""A larger one has none: DuckDB makes an index in memory, and it has some 12 bytes a row."""
FAN_MAX = 64
"""A column with more rows to a value, on the average, is no help."""
ROWS_FOR_A_KEY = 6000
"""So many rows of a table are probed in the time in which one key is looked up."""
FOUND_MAX = 8192
"""DuckDB looks up no more rows than this by an index."""
LISTED_MAX = 250
"""So few integer keys to be deleted are listed in the statement where there is no index: that spares the entries into
the interpreter that a relation costs."""
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

    def same_key(self, layout: Layout, keys: pa.RecordBatch) -> str:
        """What is true of rows t and g with these keys."""
        same = " AND ".join(f"[t.{name}] = [g.{name}]" for name in layout.key_names)
        return f"{_is_listed(self.column, keys)} AND {same}"


@dataclass(frozen=True, slots=True)
class Choice:
    """The index that a table has, None for none; `is_open` while that was not decided, as the table is small."""

    index: KeyIndex | None
    is_open: bool

    def is_due(self, layout: Layout, rows: int) -> bool:
        """Whether a table of so many rows should be looked at once more."""
        return self.is_open and rows >= ROWS_MIN and bool(layout.integer_keys)

    def without(self) -> Choice:
        """When the index was dropped: it is made again where there was one."""
        return Choice(None, self.is_open or self.index is not None)

    def delete_sql(self, layout: Layout, keys: pa.RecordBatch, rows: int) -> str:
        """How rows with these keys are deleted soonest, of a table of so many; to be run over them, where it reads
        RELATION."""
        indexed = self._indexed(keys, rows)
        if layout.key_names == layout.integer_keys[:1] and (indexed or keys.num_rows <= LISTED_MAX):
            return f"DELETE FROM {layout.name} AS t WHERE {_is_listed(layout.key_names[0], keys)}"
        return layout.delete_sql(None if indexed is None else indexed.same_key(layout, keys))

    def update_sql(self, layout: Layout, changed: pa.RecordBatch, rows: int) -> str:
        """How the columns of `changed` beside the keys are updated soonest; to be run over it."""
        indexed = self._indexed(changed, rows)
        same_key = None if indexed is None else indexed.same_key(layout, changed)
        return layout.update_sql(changed.schema.names, same_key)

    def _indexed(self, keys: pa.RecordBatch, rows: int) -> KeyIndex | None:
        """The index, if these keys of a table of so many rows are found sooner by it."""
        index = self.index
        return index if index is not None and keys.num_rows <= index.keys_max(rows) else None

    def to_json(self) -> str | None:
        """The choice as text, None while it is open."""
        return None if self.is_open else json.dumps(self.index and asdict(self.index))

    @classmethod
    def from_json(cls, text: str | None) -> Choice:
        """What `to_json` gave."""
        values = None if text is None else json.loads(text)
        return cls(None if values is None else KeyIndex(**values), text is None)


OPEN = Choice(None, True)
"""Of a table that nobody has looked at."""


def _is_listed(column: str, keys: pa.RecordBatch) -> str:
    """Whether an integer `column` has one of the keys' values, which stand in the statement."""
    return f"t.{column} IN ({', '.join(map(str, keys.column(column).unique().to_pylist()))})"


def create_index(connection: duckdb.DuckDBPyConnection, layout: Layout, rows: int) -> Choice:
    """Makes the index of a filled table of so many rows, in a transaction of its own.

    There is none when it would be of no use, or there is no memory for it. Raises DuckDB's error when its file is
    damaged, or somebody interrupts it.
    """
    if rows < ROWS_MIN:
        return OPEN
    columns = layout.integer_keys
    if not columns or rows > ROWS_MAX:
        return Choice(None, False)
    distinct = ", ".join(f"approx_count_distinct({column})" for column in columns)
    (counts,) = connection.execute(f"SELECT {distinct} FROM {layout.name}").fetchall()
    most = max(counts)
    fan = 1.0 if len(layout.key_names) == 1 else max(1.0, rows / max(most, 1))
    if fan > FAN_MAX:
        return Choice(None, False)
    column = columns[counts.index(most)]
    try:
        connection.execute(f"CREATE INDEX {layout.index_name} ON {layout.name} ({column})")
    except query_errors() as error:
        if is_damage(error) or is_interrupt(error):
            raise
        logger.warning("columnar table %s goes without an index of its key: %s", layout.codec.schema.name, error)
        return Choice(None, False)
    return Choice(KeyIndex(column, fan), False)
