"""How a columnar store lays a table out in DuckDB: the columns that requests have asked for, and the handle.

A store knows no schema: what it is to hold, the scans of requests tell, each column by its id, its type and what rows
have that were written before it. Rows are found again by `_handle`, the bytes behind the prefix of the record's key
where the table has a common handle, else the integer. TIMESTAMPs are in UTC.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from coprocessor.arrow import duckdb_type
from coprocessor.codec.datum import SIGN
from coprocessor.codec.keys import RECORD_PREFIX_LEN, record_prefix
from coprocessor.codec.vector import decode_handles
from coprocessor.columnar.coverage import KeyRange
from coprocessor.columnar.layout import HANDLE, blob, local_time
from coprocessor.dag.plan import HANDLE_ID, ScanColumn, TableScan
from coprocessor.dag.scan import Decode, record_decoder
from coprocessor.types import Tp
from kvstore.client.api import PackedBatch
from kvstore.mvcc.packed import pack_pairs

_INT_BYTES = 8
_HIGHEST = (1 << 63) - 1


class StoredTable:
    """The form of one table; `version` tells its name from those of earlier forms. Raises Unsupported."""

    def __init__(self, table_id: int, scan: TableScan, version: int) -> None:
        self.table_id = table_id
        self.name = f"replica.main.t{table_id}_{version}"
        self.version = version
        # a column that is gone is not in new rows, whatever was said of it
        wanted = {c.id: replace(c, not_null=False) for c in scan.columns if c.id != HANDLE_ID}
        self.scan = replace(scan, columns=tuple(wanted.values()), desc=False)
        self._columns = wanted
        self.is_common = bool(scan.primary_columns)
        self._types = {column.id: duckdb_type(column.type) for column in wanted.values()}
        self._decode: Decode = record_decoder(self.scan, dt.UTC)
        self.names = [*(f"c{column_id}" for column_id in wanted), HANDLE]
        self.prefix = record_prefix(table_id)

    def has(self, scan: TableScan) -> bool:
        """Whether every column of a scan is here, in its form."""
        same_key = (scan.primary_columns, scan.primary_prefixes) == (
            self.scan.primary_columns,
            self.scan.primary_prefixes,
        )
        return same_key and all(
            c.id == HANDLE_ID or self._columns.get(c.id) == replace(c, not_null=False) for c in scan.columns
        )

    def with_columns_of(self, scan: TableScan) -> TableScan:
        """The scan, and those of these columns that it does not name, as far as they may stand beside it."""
        if scan.primary_columns != self.scan.primary_columns:
            return scan
        named = {column.id for column in scan.columns}
        return replace(scan, columns=(*scan.columns, *(c for c in self.scan.columns if c.id not in named)))

    def create_sql(self) -> str:
        columns = [f"c{column_id} {type_}" for column_id, type_ in self._types.items()]
        return f"CREATE TABLE {self.name} ({', '.join([*columns, f'{HANDLE} {self.handle_type}'])})"

    @property
    def handle_type(self) -> str:
        return "BLOB" if self.is_common else "BIGINT"

    def rows(self, packed: PackedBatch) -> pa.RecordBatch:
        """Records as rows. Raises CodecError for damaged ones."""
        return pa.RecordBatch.from_arrays([*self._decode(packed).columns, self._handles(packed)], names=self.names)

    def keys(self, keys: Sequence[bytes]) -> pa.RecordBatch:
        """The handles of records."""
        return pa.RecordBatch.from_arrays([self._handles(pack_pairs([(key, b"") for key in keys], 0))], names=[HANDLE])

    def _handles(self, packed: PackedBatch) -> Any:
        if not self.is_common:
            return pa.array(decode_handles(packed), pa.int64())
        keys = packed.keys.tobytes()
        spans = zip(packed.key_starts.tolist(), packed.key_ends.tolist(), strict=True)
        return pa.array([keys[start + RECORD_PREFIX_LEN : end] for start, end in spans], pa.binary())

    def select_list(self, columns: Sequence[ScanColumn], tz: dt.tzinfo) -> str:
        """The columns of a scan as c0, c1, …, TIMESTAMPs in zone `tz`; `one` where there are none."""
        out = []
        for i, column in enumerate(columns):
            name = HANDLE if column.id == HANDLE_ID else f"c{column.id}"
            out.append(f"{local_time(name, tz) if column.type.tp == Tp.TIMESTAMP else name} AS c{i}")
        return ", ".join(out) or "1 AS one"

    def within_sql(self, ranges: Sequence[KeyRange]) -> str:
        """The condition that a row's key is in one of the ranges."""
        return " OR ".join(f"({self._between(*one)})" for one in ranges) or "FALSE"

    def _between(self, start: bytes, end: bytes) -> str:
        low, high = self.bound(start), self.bound(end)
        parts = [f"{HANDLE} >= {low}"] if low is not None else []
        if high is not None:
            parts.append(f"{HANDLE} < {high}")
        return " AND ".join(parts) or "TRUE"

    def bound(self, key: bytes) -> str | None:
        """The least handle whose key is not below `key`, as DuckDB's; None where no handle bounds."""
        if key <= self.prefix or not key.startswith(self.prefix):
            return None
        suffix = key[RECORD_PREFIX_LEN:]
        if self.is_common:
            return blob(suffix)
        handle = int.from_bytes(suffix[:_INT_BYTES].ljust(_INT_BYTES, b"\0"), "big") - SIGN
        handle += len(suffix) > _INT_BYTES
        return f"({handle})::{'HUGEINT' if handle > _HIGHEST else 'BIGINT'}"
