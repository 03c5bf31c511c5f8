"""A pushed scan at work: its requests, made anew for each execution, and their rows as Arrow batches or tuples.

A `PushReader` is compiled once for a scan of a plan, or for an aggregate over one, and shared by all executions. An
index lookup is two requests: one for the handles of the index's entries, and then, for so many of these at a time, one
for their rows.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from coprocessor.arrow import batch_to_rows, duckdb_type
from coprocessor.codec.collation import needs_restored_data
from coprocessor.codec.keys import prefix_next
from coprocessor.dag.build import merge_steps, run_steps, scan_index, scan_table
from coprocessor.dag.expressions import at_offsets
from coprocessor.dag.plan import Aggregation, Dag, IndexScan, Limit, Selection, Step, TopN
from coprocessor.dag.plan import Scan as DagScan
from coprocessor.env import Env
from coprocessor.errors import Unsupported
from coprocessor.evaluate import compile_predicate
from coprocessor.expr import Agg, Expr, OrderKey
from coprocessor.schema import IndexSchema, TableSchema
from coprocessor.table import KeyRange, TableCodec
from coprocessor.types import BYTES, FieldType, Tp
from kvstore.client.api import Reader
from kvstore.mvcc.chunks import pairs_of
from sqlfront.exec.context import rows_of_limit
from sqlfront.exec.own_rows import show_own_rows
from sqlfront.exec.pushing import Asked, Batches, Order, Parts, Pushing, PushStats, stops_early
from sqlfront.exec.reading import ScanReader
from sqlfront.plan.nodes import Aggregate, Pushed, Scan
from sqlfront.plan.push_down import is_lookup

if TYPE_CHECKING:
    import pyarrow as pa

Row = tuple[Any, ...]

GUESS_MARGIN = 4
"""How many times more rows than estimated there may be before it was wrong to read them plainly."""
FIRST_LOOKUP_ROWS = 1024
"""Handles whose rows are asked for first; the next time it is twice as many, up to tidb_index_lookup_size."""
LIMIT_MAX = 1 << 62
_NO_HANDLE = frozenset({Tp.TIMESTAMP, Tp.ENUM, Tp.SET, Tp.BIT, Tp.FLOAT, Tp.DOUBLE})
"""Types whose values, read out of a key, are not brought back to the same bytes."""


class PushReader:
    """Reads one scan by requests, or the aggregate over it, whose parts it merges."""

    def __init__(self, node: Scan | Aggregate, tz: dt.tzinfo | None) -> None:
        scan = node if isinstance(node, Scan) else node.child
        assert isinstance(scan, Scan)
        assert scan.pushed is not None
        assert scan.access is not None
        self.node = node
        self.scan = scan
        self.cols = node.cols
        self.tz = tz
        self.pushed: Pushed = scan.pushed
        self.plain = ScanReader(scan, tz)
        """The same access path over a reader, for what requests are not for."""
        self._predicates = [
            compile_predicate(c, {col.id: i for i, col in enumerate(scan.cols)})
            for c in scan.left
            if c not in scan.access.used
        ]
        self._aggregate = node if isinstance(node, Aggregate) else None
        schema, self._codec = scan.table.codec.schema, scan.table.codec
        self._entries: _Entries | None = None
        desc = self.pushed.order == "reverse"
        self._scan: DagScan = scan_table(schema, scan.offsets, desc=desc)
        self._layout = {c.id: i for i, c in enumerate(scan.cols)}
        self._output: tuple[int, ...] | None = None
        index = scan.access.index
        self._index = None if index is None else index.schema
        if is_lookup(scan):
            assert index is not None
            self._entries = _Entries(schema, index.schema, scan)
        elif index is not None:
            self._scan, places = _entries_scan(schema, index.schema, desc=desc)
            self._layout = {c.id: places[o] for c, o in zip(scan.cols, scan.offsets, strict=True)}
            self._output = tuple(places[o] for o in scan.offsets)
        self._wide = with_all_columns(self._scan, schema) if scan.access.columnar else None
        """The scan as columnar replicas get it."""

    def has_few_rows(self, env: Env, pushing: Pushing) -> bool:
        """Whether the path's rows are so few that to read them takes less than a request that computes."""
        ranges = self.plain.ranges(env)
        if len(ranges) != 1:
            return not ranges
        most = self._codec.records_at_most(*ranges[0])
        if most is not None:
            return most <= pushing.few_rows
        access = self.scan.access
        assert access is not None
        return access.kind == "index" and access.rows * GUESS_MARGIN <= pushing.few_rows

    # Rows

    def batches(
        self, reader: Reader, env: Env, pushing: Pushing, stats: PushStats, *, order: str = "", early: bool = False
    ) -> Batches:
        """Yields the node's rows as batches with its columns called c{id}; `scan.left` is for whoever reads them.

        `order` "forward" or "reverse" keeps the access path's order; `early` is for whoever may stop before the end.
        Close it to stop what is under way.
        """
        import pyarrow as pa

        names = [f"c{c.id}" for c in self.cols]
        if self._index is not None:
            show_own_rows(reader, self._codec, self._index)
        run = _Run(reader, env, pushing, stats, order, early)
        with closing(self._scanned(run) if self._aggregate is None else self._merged(run)) as made:
            for batch in made:
                yield pa.RecordBatch.from_arrays(batch.columns, names=names)

    def row_chunks(
        self, reader: Reader, env: Env, pushing: Pushing, stats: PushStats, *, order: str = "", early: bool = False
    ) -> Generator[list[Row], None, None]:
        """Yields the rows as tuples, those that satisfy all the scan's conditions."""
        if self._index is not None:
            show_own_rows(reader, self._codec, self._index)
        if order and not self._keeps_order(env, pushing):
            yield from self.plain.row_chunks(reader, env, reverse=order == "reverse")
            return
        types = [c.type for c in self.cols]
        predicates = () if self._aggregate is not None else self._predicates
        with closing(self.batches(reader, env, pushing, stats, order=order, early=early)) as batches:
            for batch in batches:
                rows = batch_to_rows(batch, types)
                yield [row for row in rows if all(p(row, env) for p in predicates)] if predicates else rows

    def _keeps_order(self, env: Env, pushing: Pushing) -> bool:
        """Whether requests can give the path's order: not by way of an index, whose rows come by their own keys, and
        not with rows from two places."""
        return self._entries is None and not pushing.has_own_writes(self.plain.ranges(env))

    # Requests

    def _scanned(self, run: _Run) -> Batches:
        """The rows of the scan, or the parts of the aggregate."""
        wanted = self._wanted(run.pushing)
        if wanted == 0:
            return
        with closing(self._asked(run)) as batches:
            for batch in batches:
                yield batch
                if wanted is not None and not self.pushed.keys and not self.pushed.order:
                    wanted -= batch.num_rows
                    if wanted <= 0:  # any rows will do
                        return

    def _asked(self, run: _Run) -> Batches:
        pushing = run.pushing
        conds = self.pushed.conds
        if self._entries is not None and not self._entries.is_asked:
            conds += self.pushed.index_conds  # nobody else sees to them
        steps = self._steps(pushing, conds)
        if self._entries is not None:
            return self._looked_up(run, steps)
        scan = replace(self._scan, desc=True) if run.order == "reverse" else self._scan
        dag = pushing.dag(scan, steps, self.tz, None if self._aggregate else self._output)
        columnar = None if self._wide is None else replace(dag, scan=self._wide)
        parts = pushing.parts(dag, self.plain.ranges(run.env), run.reader, run.stats.rows, columnar)
        return parts.batches(Order(bool(run.order), pushing.page_rows if run.early or stops_early(steps) else 0))

    def _steps(self, pushing: Pushing, conds: Sequence[Expr]) -> list[Step]:
        """What is done with the rows where they are, columns as offsets into the scan's."""
        steps: list[Step] = []
        layout = self._layout
        if conds:
            steps.append(Selection(tuple(at_offsets(pushing.bound(c), layout) for c in conds)))
        if self._aggregate is not None:
            aggs = tuple(at_offsets(pushing.bound(a), layout) for a in self._aggregate.aggs)
            groups = tuple(at_offsets(pushing.bound(g), layout) for g in self._aggregate.groups)
            streamed = self._aggregate.pushed == "stream"
            steps.append(Aggregation(groups, tuple(a for a in aggs if isinstance(a, Agg)), streamed))
        wanted = self._wanted(pushing)
        if wanted is not None and self.pushed.keys:
            keys = tuple(OrderKey(at_offsets(pushing.bound(k.expr), layout), k.desc) for k in self.pushed.keys)
            steps.append(TopN(keys, wanted))
        elif wanted is not None:
            steps.append(Limit(wanted))
        return steps

    def _wanted(self, pushing: Pushing) -> int | None:
        """How many rows the limit above can use."""
        parts = [e for e in (self.pushed.count, self.pushed.offset) if e is not None]
        return min(sum(rows_of_limit(e, pushing.env) for e in parts), LIMIT_MAX) if parts else None

    # Aggregates

    def _merged(self, run: _Run) -> Batches:
        """The whole of the regions' parts: the groups, then the aggregates."""
        import pyarrow as pa

        pushing = run.pushing
        step = self._steps(pushing, ())[0]
        assert isinstance(step, Aggregation)
        parts = []
        with closing(self._scanned(run)) as batches:
            for batch in batches:
                pushing.hold(batch.nbytes)
                parts.append(batch)
        types = pushing.dag(self._scan, (step,), self.tz).types
        here = Env(tz=run.env.tz, warn=run.env.warn)
        aggs = len(step.aggs)
        for batch in run_steps(parts, types, merge_steps(step), pushing.engine, here):
            columns, names = batch.columns, batch.schema.names
            yield pa.RecordBatch.from_arrays([*columns[aggs:], *columns[:aggs]], [*names[aggs:], *names[:aggs]])

    # Lookups

    def _looked_up(self, run: _Run, steps: Sequence[Step]) -> Batches:
        """The rows that index entries point to, batch after batch of these, some of which are asked for at a time."""
        pushing = run.pushing
        dag = pushing.dag(self._scan, steps, self.tz)
        size = min(FIRST_LOOKUP_ROWS, pushing.lookup_rows)
        running: deque[Future[list[pa.RecordBatch]]] = deque()
        pool = ThreadPoolExecutor(pushing.lookup_concurrency, thread_name_prefix="lookup")
        try:
            with closing(self._record_keys(run, early=run.early or stops_early(steps))) as handles:
                while keys := list(islice(handles, size)):
                    size = min(size * 2, pushing.lookup_rows)
                    ranges = _points(keys, self._codec.is_common_handle)
                    parts = pushing.parts(dag, ranges, run.reader, run.stats.rows)
                    # A transaction's own writes are read by its own thread.
                    yield from parts.own_batches()
                    running.append(pool.submit(_all_remote, parts))
                    while len(running) >= pushing.lookup_concurrency or (running and running[0].done()):
                        yield from running.popleft().result()
            while running:
                yield from running.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _record_keys(self, run: _Run, *, early: bool) -> Generator[bytes, None, None]:
        """The record keys that the index's entries point to, in any order."""
        entries = self._entries
        assert entries is not None
        ranges = self.plain.ranges(run.env)
        if not entries.is_asked:
            key_of = self._codec.index_record_key(entries.index)
            for start, end in ranges:
                yield from (key_of(*pair) for pair in pairs_of(run.reader.scan_chunks(start, end)))
            return
        pushing = run.pushing
        dag = entries.dag(pushing, self.pushed.index_conds, self.tz)
        parts = pushing.parts(dag, ranges, run.reader, run.stats.entries)
        with closing(parts.batches(Order(page_rows=pushing.page_rows if early else 0))) as batches:
            for batch in batches:
                yield from entries.record_keys(batch)


@dataclass(frozen=True, slots=True)
class _Run:
    """One execution of a reader."""

    reader: Reader
    env: Env
    pushing: Pushing
    stats: PushStats
    order: str
    early: bool


class _Entries:
    """The index side of a lookup: entries to the keys of their records."""

    def __init__(self, schema: TableSchema, index: IndexSchema, scan: Scan) -> None:
        self.index = index
        self._scan, self._places = _entries_scan(schema, index)
        columns = self._scan.columns
        count = len(schema.common_handle) or 1
        self._types: list[FieldType] = [c.type for c in columns[-count:]]
        self._output = tuple(range(len(columns) - count, len(columns)))
        of_key = [schema.columns[part.offset].type for part in schema.common_handle]
        self.is_asked = not any(ft.tp in _NO_HANDLE for ft in of_key)
        self._codec = scan.table.codec
        self._key_codec = TableCodec(_as_in_keys(schema)) if schema.common_handle else self._codec
        self._layout = {c.id: self._places[o] for c, o in zip(scan.cols, scan.offsets, strict=True)
                        if o in self._places}  # fmt: skip

    def dag(self, pushing: Pushing, conds: Sequence[Expr], tz: dt.tzinfo | None) -> Dag:
        """The request for the handles of the entries that satisfy the conditions."""
        bound = tuple(at_offsets(pushing.bound(c), self._layout) for c in conds)
        return pushing.dag(self._scan, (Selection(bound),) if bound else (), tz, self._output)

    def record_keys(self, batch: pa.RecordBatch) -> Iterator[bytes]:
        """The record keys of an answer."""
        rows = batch_to_rows(batch, self._types)
        if self._codec.is_common_handle:
            return (self._codec.record_key(self._key_codec.common_handle(row)) for row in rows)
        return (self._codec.record_key(row[0]) for row in rows)


def _entries_scan(schema: TableSchema, index: IndexSchema, *, desc: bool = False) -> tuple[IndexScan, dict[int, int]]:
    """The scan of an index's entries, and where it gives the columns that entries tell.

    Text that keys do not tell is read as the bytes of its sort key, which nothing looks at but the next key.
    """
    scan, offsets = scan_index(schema, index, desc=desc)
    columns = tuple(replace(c, type=_in_keys(c.type)) for c in scan.columns)
    return replace(scan, columns=columns), {offset: i for i, offset in enumerate(offsets)}


def _in_keys(type_: FieldType) -> FieldType:
    return BYTES if needs_restored_data(type_) else type_


def _as_in_keys(schema: TableSchema) -> TableSchema:
    """The schema whose common handle is made of values as `_entries_scan` gives them: cut off, and as sort keys."""
    columns = tuple(replace(c, type=_in_keys(c.type)) for c in schema.columns)
    handle = tuple(replace(part, prefix=-1) for part in schema.common_handle)
    return replace(schema, columns=columns, common_handle=handle, indexes=())


def with_all_columns(scan: DagScan, schema: TableSchema) -> DagScan:
    """The scan with the table's other columns behind its own: a replica then has them at once, and reads what it needs.

    What DuckDB cannot hold is left out.
    """
    named = {column.id for column in scan.columns}
    others = [i for i, column in enumerate(schema.columns) if column.id not in named and _is_held(column.type)]
    return replace(scan, columns=(*scan.columns, *scan_table(schema, others).columns))


def _is_held(type_: FieldType) -> bool:
    try:
        duckdb_type(type_)
    except Unsupported:
        return False
    return True


def _points(keys: list[bytes], common: bool) -> list[KeyRange]:
    """The ranges of single record keys; neighbours are one range."""
    out: list[KeyRange] = []
    for key in sorted(set(keys)):
        end = key + b"\0" if common else prefix_next(key)
        if out and out[-1][1] == key:
            out[-1] = (out[-1][0], end)
        else:
            out.append((key, end))
    return out


def _all_remote(parts: Parts) -> list[pa.RecordBatch]:
    return list(parts.remote_batches())


def whole_table(
    pushing: Pushing, codec: TableCodec, offsets: Sequence[int], reader: Reader, tz: dt.tzinfo | None = None
) -> Batches:
    """Yields the columns at `offsets` of all rows of a table, TIMESTAMPs in `tz` (None for UTC)."""
    dag = pushing.dag(scan_table(codec.schema, offsets), (), tz)
    return pushing.parts(dag, [codec.record_range], reader, Asked()).batches()
