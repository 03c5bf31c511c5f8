"""Requests as the SQL layer makes them: scans from a table's schema, and what is done above with regions' answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

import pyarrow as pa

from coprocessor.dag.plan import (
    HANDLE_ID,
    Aggregation,
    Dag,
    IndexScan,
    Limit,
    Projection,
    ScanColumn,
    Step,
    TableScan,
    TopN,
    partial_types,
)
from coprocessor.dag.run import Execution
from coprocessor.duck import DuckEngine
from coprocessor.env import Env
from coprocessor.expr import Agg, Call, Column, Const, Expr
from coprocessor.functions import cast_to, resolve_agg
from coprocessor.schema import HANDLE_OFFSET, IndexSchema, TableSchema
from coprocessor.table import KeyRange
from coprocessor.types import BIGINT, DOUBLE, FieldType


def scan_table(schema: TableSchema, offsets: Sequence[int], *, desc: bool = False) -> TableScan:
    """Returns the scan of a table's columns at `offsets` (HANDLE_OFFSET is the hidden row id)."""
    primary = tuple(schema.columns[part.offset].id for part in schema.common_handle)
    cut = tuple(schema.columns[part.offset].id for part in schema.common_handle if part.prefix >= 0)
    return TableScan(schema.table_id, tuple(_column(schema, o) for o in offsets), desc, primary, cut)


def scan_index(
    schema: TableSchema, index: IndexSchema, *, desc: bool = False, unique: bool = False
) -> tuple[IndexScan, tuple[int, ...]]:
    """Returns the scan of an index's entries, and the offsets of the columns that it gives: the index's, then the
    handle's.

    `unique` tells that all ranges are whole keys.
    """
    offsets = [part.offset for part in index.columns]
    columns = [_column(schema, offset) for offset in offsets]
    columns = [ScanColumn(c.id, c.type, c.not_null) for c in columns]
    if schema.common_handle:
        handle = [part.offset for part in schema.common_handle]
    else:
        handle = [schema.handle_offset if schema.handle_offset >= 0 else HANDLE_OFFSET]
    columns += [_column(schema, offset) for offset in handle]
    primary = tuple(schema.columns[part.offset].id for part in schema.common_handle)
    return IndexScan(schema.table_id, index.id, tuple(columns), desc, unique, primary), (*offsets, *handle)


def _column(schema: TableSchema, offset: int) -> ScanColumn:
    if offset == HANDLE_OFFSET:
        return ScanColumn(HANDLE_ID, BIGINT, True, True)
    column = schema.columns[offset]
    return ScanColumn(column.id, column.type, column.not_null, offset == schema.handle_offset, column.default)


# Above the regions


def merge_steps(step: Step) -> tuple[Step, ...]:
    """Returns what is done with the rows of `step` from many regions, so that they are what one region would give.

    An aggregation's come out complete: each aggregate's own result, then the groups.
    """
    match step:
        case TopN() | Limit():
            return (step,)
        case Aggregation(partial=True):
            return _merged(step)
        case _:
            return ()


def _merged(step: Aggregation) -> tuple[Step, ...]:
    aggs: list[Agg] = []
    results: list[Expr] = []
    at = 0
    for agg in step.aggs:
        parts = []
        for ft in partial_types(agg):
            name = "sum" if agg.func in ("count", "sum", "avg") else agg.func
            parts.append(len(aggs))
            aggs.append(resolve_agg(name, (Column(at, ft),)))
            at += 1
        results.append(_result(agg, [Column(i, aggs[i].type) for i in parts]))
    groups = tuple(Column(at + i, expr.type) for i, expr in enumerate(step.groups))
    shown = [Column(len(aggs) + i, expr.type) for i, expr in enumerate(step.groups)]
    return Aggregation(groups, tuple(aggs), partial=False), Projection((*results, *shown))


def _result(agg: Agg, parts: Sequence[Column]) -> Expr:
    if agg.func == "count":
        # No part at all has no sum of its counts.
        counted = Call("coalesce", (parts[0], Const(Decimal(0), parts[0].type)), parts[0].type)
        return cast_to(counted, agg.type)
    if agg.func == "avg":
        count, total = parts
        divisor = cast_to(count, DOUBLE) if agg.type.is_real else count
        return Call("div", (total, divisor), agg.type)
    return cast_to(parts[0], agg.type)


class _Given:
    """Batches that are there already, in the place of a scan."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._batches = batches
        self.batches_read = 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            self.batches_read += 1
            yield batch

    def scanned(self) -> KeyRange | None:
        return None


def run_steps(
    batches: Sequence[pa.RecordBatch], types: Sequence[FieldType], steps: Sequence[Step], engine: DuckEngine, env: Env
) -> list[pa.RecordBatch]:
    """Runs steps over batches of rows of `types`, by the executors that stores run. Raises EvalError."""
    scan = TableScan(0, tuple(ScanColumn(i, ft) for i, ft in enumerate(types)))
    return list(Execution(Dag(scan, tuple(steps)), lambda: _Given(batches), engine, env).batches())
