"""A view: the tables of one query at one timestamp, in a DuckDB transaction of its own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from coprocessor.columnar.layout import Layout, select_list
from coprocessor.duck import DuckEngine
from coprocessor.table import TableCodec
from kvstore.mvcc.packed import pack_pairs

if TYPE_CHECKING:
    import duckdb


class Overlay:
    """Rows laid over a table: for each key its value, None where there is no row."""

    def __init__(self, layout: Layout, values: dict[bytes, bytes | None]) -> None:
        self.layout = layout
        self.values = values

    def lay(self, values: Mapping[bytes, bytes | None]) -> None:
        self.values.update(values)

    def relations(self) -> tuple[pa.Table, pa.Table]:
        """The key columns of all keys, and the rows of those that have one."""
        rows = sorted((key, value) for key, value in self.values.items() if value is not None)
        keys, come = self.layout.keys(sorted(self.values)), self.layout.rows(pack_pairs(rows, 0))
        return pa.Table.from_batches([keys]), pa.Table.from_batches([come])


class View:
    """Closed once; `connection` is the transaction's. Used by one thread at a time."""

    def __init__(
        self,
        duck: DuckEngine,
        connection: duckdb.DuckDBPyConnection,
        ts: int,
        layouts: dict[int, Layout],
        overlays: dict[int, Overlay],
        padded: dict[int, frozenset[int]],
    ) -> None:
        self.ts = ts
        self.connection = connection
        self._duck = duck
        self._layouts = layouts
        self._overlays = overlays
        self._padded = padded
        self._closed = False

    def lay(self, codec: TableCodec, writes: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Lays a transaction's own writes over a table."""
        overlay = self._overlays.setdefault(codec.table_id, Overlay(self._layouts[codec.table_id], {}))
        overlay.lay(dict(writes))

    def source(
        self, codec: TableCodec, offsets: Sequence[int], tz: dt.tzinfo | None, name: str
    ) -> tuple[str, dict[str, pa.Table]]:
        """A subquery of the table's columns at `offsets`, and the relations it reads besides, named after `name`."""
        layout = self._layouts[codec.table_id]
        columns = ", ".join(select_list(codec, offsets, tz)) or "1"
        overlay = self._overlays.get(codec.table_id)
        if overlay is None:
            return f"(SELECT {columns} FROM {layout.name})", {}
        gone, come = f"{name}_gone", f"{name}_come"
        keys, rows = overlay.relations()
        sql = (
            f"(SELECT {columns} FROM {layout.name} AS t WHERE NOT EXISTS "
            f"(SELECT 1 FROM {gone} AS g WHERE {layout.same_key('t', 'g')}) UNION ALL SELECT {columns} FROM {come})"
        )
        return sql, {gone: keys, come: rows}

    def has(self, codec: TableCodec) -> bool:
        return codec.table_id in self._layouts

    def may_pad(self, codec: TableCodec, offsets: Sequence[int]) -> list[bool]:
        """For each offset, whether a value there may be text that ends in a space."""
        if codec.table_id in self._overlays:
            return [True] * len(offsets)
        padded = self._padded[codec.table_id]
        return [offset >= 0 and codec.schema.columns[offset].id in padded for offset in offsets]

    def close(self) -> None:
        """Ends the transaction and gives the connection back; harmless when it is over."""
        if not self._closed:
            self._closed = True
            self._duck.end(self.connection)
