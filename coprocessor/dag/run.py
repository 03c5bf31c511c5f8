"""Running a request's steps over its scan.

Steps that pass rows on (selections, projections, limits) run batch by batch, so that a limit or a page ends the scan.
From the first step that has to see all rows (an aggregation, a topN) everything is one DuckDB query over the stream of
batches. What DuckDB cannot hold, decimals over 38 digits, and inputs so small that a query costs more than the rows,
run row by row in Python (rows.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa

from coprocessor.arrow import arrow_schema
from coprocessor.codec.vector import empty_columns
from coprocessor.dag.plan import Aggregation, Dag, Limit, Selection, Step, TopN, types_after
from coprocessor.dag.rows import run_rows
from coprocessor.dag.sql import COUNTED, RELATION, PrintedSteps, print_steps
from coprocessor.duck import DuckEngine, query_errors
from coprocessor.duck_expr import is_decimal_overflow, translate_error
from coprocessor.env import Env
from coprocessor.errors import OutOfRange, Unsupported
from coprocessor.table import KeyRange
from coprocessor.types import FieldType

DIRECT_ROWS_MAX = 512
"""A scan of no more rows than these is worked on in Python."""
QUOTA_BYTES = 256 << 20
"""What one query of DuckDB keeps in memory; it spills beyond."""


class Batches(Protocol):
    """Where the rows come from: a scan's `Source`, or what is there already."""

    batches_read: int

    def batches(self) -> Iterator[pa.RecordBatch]: ...
    def scanned(self) -> KeyRange | None: ...


class Execution:
    """One run of a request. Read `batches` once; then the counts of what each executor gave are known."""

    def __init__(
        self,
        dag: Dag,
        make_source: Callable[[], Batches],
        engine: DuckEngine,
        env: Env,
        *,
        direct_rows: int = DIRECT_ROWS_MAX,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.dag = dag
        self.source = make_source()
        self._make_source = make_source
        self._engine = engine
        self._env = env
        self._direct_rows = direct_rows
        self._clock_ns = clock_ns
        self._scan_types = tuple(column.type for column in dag.scan.columns)
        self.produced = [0] * (1 + len(dag.steps))
        self.scan_ns = 0
        self.batches_given = 0
        self._failure: BaseException | None = None
        self._blocking = next((i for i, s in enumerate(dag.steps) if isinstance(s, Aggregation | TopN)), None)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yields the last executor's rows, in Arrow types of `arrow_type(inside=True)`.

        Raises what the reader does and EvalError for what cannot be computed.
        """
        schema = arrow_schema([f"c{i}" for i in range(len(self.dag.types))], self.dag.types, inside=True)
        made = self._streamed(len(self.dag.steps)) if self._blocking is None else self._blocked(self._blocking)
        try:
            for batch in made:
                self.batches_given += 1
                yield as_schema(batch, schema)
        except (pa.ArrowException, ArithmeticError) as error:
            raise OutOfRange(f"a value does not fit the type of its column: {error}", code=1690) from error

    # Batch by batch

    def _scanned(self) -> Iterator[pa.RecordBatch]:
        """The scan's batches, counted and timed."""
        batches = self.source.batches()
        while True:
            begun = self._clock_ns()
            batch = next(batches, None)
            self.scan_ns += self._clock_ns() - begun
            if batch is None:
                return
            self.produced[0] += batch.num_rows
            yield batch

    def _streamed(self, stop: int) -> Iterator[pa.RecordBatch]:
        """The rows after the first `stop` steps, none of which has to see all rows."""
        runs = _Runs(self, self.dag.steps[:stop])
        for batch in self._scanned():
            out = runs.apply(batch)
            if out.num_rows:
                yield out
            if runs.is_full:
                return

    # All rows

    def _blocked(self, at: int) -> Iterator[pa.RecordBatch]:
        split = at if self._must_split(at) else 0
        return self._all_rows(split)

    def _must_split(self, at: int) -> bool:
        """Whether the steps below the blocking one run apart: they hold a limit, or their rows are to be counted."""
        below, first = self.dag.steps[:at], self.dag.steps[at]
        return any(isinstance(s, Limit) for s in below) or (self.dag.summaries and isinstance(first, TopN) and at > 0)

    def _all_rows(self, split: int) -> Iterator[pa.RecordBatch]:
        """Runs the steps from `split` on over all rows that those before give."""
        steps = self.dag.steps[split:]
        types = self._scan_types
        for step in self.dag.steps[:split]:
            types = types_after(step, types)
        stream = self._streamed(split) if split else self._scanned()
        first = _first_rows(stream, self._direct_rows)
        if first.done and first.rows <= self._direct_rows:
            yield from self._direct(first.batches, types, steps, split)
            return
        yield from self._in_duckdb(_chained(first.batches, stream), types, steps, split)

    def _direct(
        self, batches: Sequence[pa.RecordBatch], types: tuple[FieldType, ...], steps: Sequence[Step], split: int
    ) -> Iterator[pa.RecordBatch]:
        counts = [0] * len(steps)
        batch = run_rows(batches, types, steps, self._env, counts, desc=self.dag.scan.desc)
        self.produced[split + 1 :] = counts
        if batch.num_rows:
            yield batch

    def _in_duckdb(
        self, stream: Iterator[pa.RecordBatch], types: tuple[FieldType, ...], steps: Sequence[Step], split: int
    ) -> Iterator[pa.RecordBatch]:
        wide = False
        while True:
            try:
                printed = self._printed(types, steps, wide=wide, counted=True)
                made = self._query(printed, _relation(stream, types, self))
                break
            except Unsupported:
                made = []
                stream = self._again(split)
                yield from self._direct(list(stream), types, steps, split)
                return
            except query_errors() as error:
                self._raise_failure(error)
                if not is_decimal_overflow(error):
                    raise translate_error(error) from error
                stream = self._again(split)
                if wide:
                    yield from self._direct(list(stream), types, steps, split)
                    return
                wide = True
        yield from self._counted(made, steps, split)

    def _printed(
        self, types: tuple[FieldType, ...], steps: Sequence[Step], *, wide: bool, counted: bool
    ) -> PrintedSteps:
        for type_ in types:
            if type_.is_decimal:
                from coprocessor.arrow import duckdb_type

                duckdb_type(type_)  # refuses what DuckDB cannot hold
        not_null = [i for i, c in enumerate(self.dag.scan.columns) if c.not_null] if types is self._scan_types else []
        counted = counted and self.dag.summaries
        return print_steps(types, steps, not_null=not_null, desc=self.dag.scan.desc, wide=wide, counted=counted)

    def _again(self, split: int) -> Iterator[pa.RecordBatch]:
        """Scans once more, for another form of the query."""
        self.source = self._make_source()
        self.produced = [0] * len(self.produced)
        return self._streamed(split) if split else self._scanned()

    def _counted(self, batches: list[pa.RecordBatch], steps: Sequence[Step], split: int) -> Iterator[pa.RecordBatch]:
        at = next((i for i, s in enumerate(steps) if isinstance(s, Aggregation | TopN)), 0)
        rows = sum(batch.num_rows for batch in batches)
        self.produced[split + at + 1 :] = [rows] * (len(steps) - at)
        for batch in batches:
            if COUNTED in batch.schema.names:
                column = batch.schema.names.index(COUNTED)
                if at:  # what selections below gave is known from the groups alone
                    more = sum(batch.column(column).to_pylist())
                    self.produced[split + 1 : split + at + 1] = [self.produced[split + at] + more] * at
                batch = pa.RecordBatch.from_arrays(batch.columns[:column], names=batch.schema.names[:column])
            yield batch

    def _query(self, printed: PrintedSteps, relation: Any) -> list[pa.RecordBatch]:
        """Runs a query over `scan` to its end. Raises DuckDB's errors, or what the scan raised."""
        query = self._engine.query(printed.sql, {}, {RELATION: relation}, printed.udfs, self._env, quota=QUOTA_BYTES)
        query.start()
        return list(query.batches(streamed=False))

    def _raise_failure(self, error: BaseException) -> None:
        """DuckDB tells of a failed scan in its own words: what failed is raised instead."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure from error


class _Runs:
    """The steps that pass rows on, over one batch after the other."""

    def __init__(self, execution: Execution, steps: Sequence[Step]) -> None:
        self._execution = execution
        self._groups = list(_grouped(steps))
        self._left: dict[int, int] = {i: s.limit for i, s in enumerate(steps) if isinstance(s, Limit)}
        self._printed: dict[int, PrintedSteps | None] = {}

    @property
    def is_full(self) -> bool:
        """Whether a limit is reached, so that no further row can come."""
        return any(left <= 0 for left in self._left.values())

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        types = self._execution._scan_types
        for first, steps in self._groups:
            if isinstance(steps[0], Limit):
                batch = batch.slice(0, max(0, self._left[first]))
                self._left[first] -= batch.num_rows
                self._execution.produced[first + 1] += batch.num_rows
            else:
                batch = self._computed(first, steps, batch, types)
            for step in steps:
                types = types_after(step, types)
        return batch

    def _computed(
        self, first: int, steps: Sequence[Step], batch: pa.RecordBatch, types: tuple[FieldType, ...]
    ) -> pa.RecordBatch:
        execution = self._execution
        out = self._in_duckdb(first, steps, batch, types) if batch.num_rows > execution._direct_rows else None
        counts = [0] * len(steps)
        if out is None:
            out = run_rows([batch], types, steps, execution._env, counts)
        else:
            counts = [out.num_rows] * len(steps)
        for i, count in enumerate(counts):
            execution.produced[first + 1 + i] += count
        return out

    def _in_duckdb(
        self, first: int, steps: Sequence[Step], batch: pa.RecordBatch, types: tuple[FieldType, ...]
    ) -> pa.RecordBatch | None:
        """The batch after `steps`; None where DuckDB cannot compute it."""
        execution = self._execution
        try:
            for wide in (False, True):
                printed = execution._printed(types, steps, wide=wide, counted=False)
                try:
                    made = execution._query(printed, pa.Table.from_batches([with_columns(batch)]))
                except query_errors() as error:
                    if not is_decimal_overflow(error):
                        raise translate_error(error) from error
                    continue
                after = types
                for step in steps:
                    after = types_after(step, after)
                return joined(made, after)
        except Unsupported:
            pass
        return None


def _grouped(steps: Sequence[Step]) -> Iterator[tuple[int, list[Step]]]:
    """Splits steps into limits and runs of others: [(number of the first, steps)]."""
    run: list[Step] = []
    for i, step in enumerate(steps):
        # rows of each selection are counted, so only what follows it at once shares a query
        if isinstance(step, Limit) or (run and isinstance(run[-1], Selection)):
            if run:
                yield i - len(run), run
            run = []
        if isinstance(step, Limit):
            yield i, [step]
        else:
            run.append(step)
    if run:
        yield len(steps) - len(run), run


class _First:
    """The first rows of a stream, and whether they are all."""

    def __init__(self) -> None:
        self.batches: list[pa.RecordBatch] = []
        self.rows = 0
        self.done = False


def _first_rows(stream: Iterator[pa.RecordBatch], count: int) -> _First:
    first = _First()
    while first.rows <= count:
        batch = next(stream, None)
        if batch is None:
            first.done = True
            return first
        first.batches.append(batch)
        first.rows += batch.num_rows
    return first


def _chained(first: list[pa.RecordBatch], rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from first
    yield from rest


def _relation(stream: Iterator[pa.RecordBatch], types: Sequence[FieldType], execution: Execution) -> Any:
    """The stream as DuckDB reads it, once; what it raises is kept."""
    schema = arrow_schema([f"c{i}" for i in range(len(types))], types, inside=True)
    if not types:
        schema = with_columns(empty_columns(0)).schema

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for batch in stream:
                yield as_schema(batch, schema) if types else with_columns(batch)
        except GeneratorExit:
            raise  # the query was over before the rows
        except BaseException as error:
            execution._failure = error
            raise

    return pa.RecordBatchReader.from_batches(schema, batches())


def with_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch that has at least one column: DuckDB knows no relation without."""
    if batch.num_columns:
        return batch
    return pa.RecordBatch.from_arrays([pa.nulls(batch.num_rows, pa.bool_())], names=["one"])


def as_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Brings a batch's columns to a schema's types and names."""
    if batch.schema.equals(schema):
        return batch
    if not len(schema):
        return empty_columns(batch.num_rows)
    columns = batch.columns[: len(schema)]
    arrays = [c if c.type == f.type else c.cast(f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def joined(batches: Sequence[pa.RecordBatch], types: Sequence[FieldType]) -> pa.RecordBatch:
    """Puts batches of rows of `types` together."""
    schema = arrow_schema([f"c{i}" for i in range(len(types))], types, inside=True)
    whole = [as_schema(batch, schema) for batch in batches]
    if len(whole) == 1:
        return whole[0]
    if not types:
        return empty_columns(sum(batch.num_rows for batch in whole))
    columns = [pa.concat_arrays([b.column(i) for b in whole]) if whole else pa.nulls(0, f.type)
               for i, f in enumerate(schema)]  # fmt: skip
    return pa.RecordBatch.from_arrays(columns, schema=schema)
