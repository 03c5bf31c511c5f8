"""ANALYZE TABLE's work: one pass over the rows as Arrow batches, counts over all of them, distributions from a sample.

Up to `SAMPLE_ROWS` rows are all kept and everything is exact; beyond, every 2nd, 4th, ... row is, and distinct counts
are estimated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coprocessor.scan import scan_table
from coprocessor.types import FieldType, Tp
from kvstore.errors import Cancelled
from sqlfront.catalog.histogram import KEY_LENGTH_MAX, ColumnStats, count_keys, estimate_distinct, fill_buckets
from sqlfront.catalog.stats import TableStats

if TYPE_CHECKING:
    from kvstore.client.api import CancelToken, Reader
    from sqlfront.catalog.model import Table

SAMPLE_ROWS = 262_144


class _Sample:
    """Rows kept so far: every `stride`-th of the table."""

    def __init__(self) -> None:
        self.batches: list[pa.RecordBatch] = []
        self.kept = 0
        self.stride = 1
        self.seen = 0

    def add(self, batch: pa.RecordBatch) -> None:
        taken = self._every(batch, -self.seen % self.stride, self.stride)
        self.seen += batch.num_rows
        self.batches.append(taken)
        self.kept += taken.num_rows
        if self.kept > SAMPLE_ROWS:
            self._halve()

    def _halve(self) -> None:
        kept = []
        before = 0
        for batch in self.batches:
            kept.append(self._every(batch, before % 2, 2))
            before += batch.num_rows
        self.batches = kept
        self.kept = sum(b.num_rows for b in kept)
        self.stride *= 2

    @staticmethod
    def _every(batch: pa.RecordBatch, first: int, step: int) -> pa.RecordBatch:
        return batch if step == 1 else batch.take(pa.array(np.arange(first, batch.num_rows, step)))


class _Totals:
    """What is counted over all rows of one column."""

    def __init__(self, ft: FieldType) -> None:
        self.type = ft
        self.nulls = 0
        self.bytes = 0
        self.low: Any = None
        self.high: Any = None

    def add(self, column: Any) -> None:
        self.nulls += column.null_count
        if _is_bytes(column.type):
            self.bytes += pc.sum(pc.binary_length(column)).as_py() or 0
        keys = _keys(column, self.type)
        if keys is None or keys.null_count == len(keys):
            return
        bounds = pc.min_max(keys)
        low, high = bounds["min"].as_py(), bounds["max"].as_py()
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)


def analyze(
    reader: Reader, table: Table, cancel: CancelToken | None = None, batches: Iterable[pa.RecordBatch] | None = None
) -> TableStats:
    """Reads the table at the reader's timestamp and returns its statistics.

    `batches` are all its columns' values at that timestamp, TIMESTAMPs in UTC, where somebody else has read them.
    """
    types = [c.type for c in table.columns]
    totals = [_Totals(ft) for ft in types]
    sample = _Sample()
    if batches is None:
        batches = scan_table(reader, table.codec, range(len(types)))
    for batch in batches:
        if cancel is not None and cancel.is_set():
            raise Cancelled
        for column, total in zip(batch.columns, totals, strict=True):
            total.add(column)
        sample.add(batch)
    stats = TableStats(table.id, sample.seen, sample.seen, reader.ts)
    if not sample.kept:
        return stats
    kept = pa.Table.from_batches(sample.batches).combine_chunks()
    for offset, total in enumerate(totals):
        column = table.columns[offset]
        stats.columns[column.id] = _column_stats(column.id, _one_chunk(kept.column(offset)), total, sample)
    codes: dict[int, Any] = {}
    keys = [(i.id, [p.offset for p in i.columns]) for i in table.indexes]
    if table.clustered:
        keys.append((0, list(table.primary_key)))
    for index_id, offsets in keys:
        stats.indexes[index_id] = _prefix_distinct(kept, offsets, codes, sample)
    return stats


def _one_chunk(column: Any) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _is_bytes(arrow: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(arrow)
        or pa.types.is_large_string(arrow)
        or pa.types.is_binary(arrow)
        or pa.types.is_large_binary(arrow)
    )


def _keys(column: Any, ft: FieldType) -> Any | None:
    """The column in the histogram's domain: float64, text or binary; None for types without an order."""
    arrow = column.type
    if ft.tp == Tp.JSON or pa.types.is_null(arrow):
        return None
    if pa.types.is_string(arrow) or pa.types.is_large_string(arrow):
        return pc.utf8_slice_codeunits(column, 0, KEY_LENGTH_MAX)
    if _is_bytes(arrow):
        return pc.binary_slice(column, 0, KEY_LENGTH_MAX)
    if pa.types.is_dictionary(arrow):
        return _keys(column.dictionary_decode(), ft)
    if pa.types.is_date32(arrow):
        column = column.cast(pa.int32())
    elif pa.types.is_timestamp(arrow) or pa.types.is_duration(arrow):
        column = column.cast(pa.int64())
    return column.cast(pa.float64(), safe=False)


def _column_stats(column_id: int, column: Any, total: _Totals, sample: _Sample) -> ColumnStats:
    stats = ColumnStats(column_id, sample.seen, 0.0, total.nulls, total.low, total.high)
    present = sample.seen - total.nulls
    stats.average_width = total.bytes / present if _is_bytes(column.type) and present else _fixed_width(total.type)
    values = column.drop_null()
    if not len(values):
        return stats
    counted = pc.value_counts(values)
    counts = counted.field("counts").to_numpy(zero_copy_only=False)
    once = int(np.count_nonzero(counts == 1))
    stats.distinct = estimate_distinct(len(counts), once, len(values), present)
    keys = _keys(counted.field("values"), total.type)
    if keys is None:
        return stats
    order = pc.sort_indices(keys)
    sorted_keys = keys.take(order)
    merged: tuple[list[Any], list[int]] = (sorted_keys.to_pylist(), counts[order.to_numpy()].tolist())
    if pc.any(pc.equal(sorted_keys[1:], sorted_keys[:-1])).as_py():
        merged = _merge(*merged)
    scale = present / (len(values) * sample.seen)
    top, rest = count_keys(*merged, scale)
    stats.top = top
    fill_buckets(stats, rest, scale)
    return stats


def _merge(keys: list[Any], counts: list[int]) -> tuple[list[Any], list[int]]:
    """Adds up neighbours that became equal when they were cut or rounded."""
    out_keys: list[Any] = []
    out_counts: list[int] = []
    for key, count in zip(keys, counts, strict=True):
        if out_keys and out_keys[-1] == key:
            out_counts[-1] += count
        else:
            out_keys.append(key)
            out_counts.append(count)
    return out_keys, out_counts


def _fixed_width(ft: FieldType) -> float:
    return {Tp.TINY: 1.0, Tp.YEAR: 1.0, Tp.SHORT: 2.0, Tp.INT24: 3.0, Tp.LONG: 4.0, Tp.DATE: 4.0}.get(ft.tp, 8.0)


def _prefix_distinct(kept: pa.Table, offsets: Sequence[int], codes: dict[int, Any], sample: _Sample) -> list[float]:
    """Distinct counts of the first one, two, ... columns."""
    out: list[float] = []
    combined = None
    for offset in offsets:
        code = codes.get(offset)
        if code is None:
            encoded = pc.dictionary_encode(_one_chunk(kept.column(offset)), null_encoding="encode")
            code = codes[offset] = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        if combined is None:
            combined = code
        else:
            combined = combined * (int(code.max()) + 1) + code
        _, combined, counts = np.unique(combined, return_inverse=True, return_counts=True)
        once = int(np.count_nonzero(counts == 1))
        out.append(estimate_distinct(len(counts), once, sample.kept, sample.seen))
    return out
