"""Running a request's steps over its scan.

Steps that pass rows on (selections, projections, limits) run batch by batch, so that a limit or a page ends the scan.
From the first step that has to see all rows (an aggregation, a topN) everything is one DuckDB query over the stream of
batches. What DuckDB cannot hold, decimals over 38 digits, and inputs so small that a query costs more than the rows,
run row by row in Python (rows.py).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa

from coprocessor.arrow import arrow_schema, duckdb_type
from coprocessor.codec.vector import empty_columns
from coprocessor.dag.plan import Aggregation, Dag, Limit, Projection, Selection, Step, TopN
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
        self.direct_rows = direct_rows
        self._clock_ns = clock_ns
        self.produced = [0] * (1 + len(dag.steps))
        self.scan_ns = 0
        self.batches_given = 0
        self._is_full = False
        self._failure: BaseException | None = None
        self._blocking = next((i for i, s in enumerate(dag.steps) if isinstance(s, Aggregation | TopN)), None)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yields the last executor's rows, in Arrow types of `arrow_type(inside=True)`.

        Raises what the reader does and EvalError for what cannot be computed.
        """
        schema = _schema(self.dag.types)
        made = self._streamed(len(self.dag.steps)) if self._blocking is None else self._all_rows(self._blocking)
        try:
            for batch in made:
                self.batches_given += 1
                yield as_schema(batch, schema)
        except (pa.ArrowException, ArithmeticError) as error:
            raise OutOfRange(f"a value does not fit the type of its column: {error}", code=1690) from error

    def scanned(self) -> KeyRange | None:
        """The part of the ranges that the rows so far came from; None when there will be no others."""
        return None if self._is_full or self._blocking is not None else self.source.scanned()

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
        runs = [self._run(first, steps) for first, steps in _grouped(self.dag.steps[:stop])]
        for batch in self._scanned():
            for run in runs:
                batch = run.apply(batch)
            self._is_full = any(run.is_full for run in runs)
            if batch.num_rows:
                yield batch
            if self._is_full:
                return

    def _run(self, first: int, steps: Sequence[Step]) -> _Limited | _Computed:
        return _Limited(self, first, steps[0].limit) if isinstance(steps[0], Limit) else _Computed(self, first, steps)

    # All rows

    def _must_split(self, at: int) -> bool:
        """Whether the steps below the blocking one run apart: they hold a limit, or their rows are to be counted."""
        below, first = self.dag.steps[:at], self.dag.steps[at]
        return any(isinstance(s, Limit) for s in below) or (self.dag.summaries and isinstance(first, TopN) and at > 0)

    def _all_rows(self, at: int) -> Iterator[pa.RecordBatch]:
        """The rows of a request whose step `at` has to see all rows."""
        split = at if self._must_split(at) else 0
        stream = self._below(split)
        first: list[pa.RecordBatch] = []
        rows = 0
        while rows <= self.direct_rows:
            batch = next(stream, None)
            if batch is None:
                yield from self._direct(first, split)
                return
            first.append(batch)
            rows += batch.num_rows
        yield from self._in_duckdb(itertools.chain(first, stream), split)

    def _below(self, split: int) -> Iterator[pa.RecordBatch]:
        return self._streamed(split) if split else self._scanned()

    def _direct(self, batches: Iterable[pa.RecordBatch], split: int) -> Iterator[pa.RecordBatch]:
        steps = self.dag.steps[split:]
        counts = [0] * len(steps)
        batch = run_rows(batches, self.dag.types_at(split), steps, self._env, counts, desc=self.dag.scan.desc)
        self.produced[split + 1 :] = counts
        if batch.num_rows:
            yield batch

    def _in_duckdb(self, stream: Iterator[pa.RecordBatch], split: int) -> Iterator[pa.RecordBatch]:
        for wide in (False, True):
            try:
                printed = self.printed(split, self.dag.steps[split:], wide=wide, counted=self.dag.summaries)
                made = self.query(printed, self._relation(stream, self.dag.types_at(split)))
            except Unsupported:  # before anything was read
                break
            except query_errors() as error:
                self._raise_failure(error)
                if not is_decimal_overflow(error):
                    raise translate_error(error) from error
                stream = self._again(split)
                continue
            yield from self._counted(made, split)
            return
        yield from self._direct(stream, split)

    def _again(self, split: int) -> Iterator[pa.RecordBatch]:
        """Scans once more, for another form of the query."""
        self.source = self._make_source()
        self.produced = [0] * len(self.produced)
        return self._below(split)

    def _counted(self, batches: list[pa.RecordBatch], split: int) -> Iterator[pa.RecordBatch]:
        assert self._blocking is not None
        at = self._blocking
        self.produced[at + 1 :] = [sum(batch.num_rows for batch in batches)] * (len(self.dag.steps) - at)
        for batch in batches:
            if COUNTED in batch.schema.names:
                column = batch.schema.names.index(COUNTED)
                if at > split:  # what selections below gave is known from the groups alone
                    more = sum(batch.column(column).to_pylist())
                    self.produced[split + 1 : at + 1] = [self.produced[at] + more] * (at - split)
                batch = pa.RecordBatch.from_arrays(batch.columns[:column], names=batch.schema.names[:column])
            yield batch

    def _relation(self, stream: Iterator[pa.RecordBatch], types: Sequence[FieldType]) -> Any:
        """The stream as DuckDB reads it, once; what it raises is kept."""
        schema = _schema(types) if types else with_columns(empty_columns(0)).schema

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                for batch in stream:
                    yield as_schema(batch, schema) if types else with_columns(batch)
            except GeneratorExit:
                raise  # the query was over before the rows
            except BaseException as error:  # DuckDB would make an error of its own of whatever it is
                self._failure = error
                raise

        return pa.RecordBatchReader.from_batches(schema, batches())

    def _raise_failure(self, error: BaseException) -> None:
        """DuckDB tells of a failed scan in its own words: what failed is raised instead."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure from error

    # For both

    def run_direct(self, batch: pa.RecordBatch, first: int, steps: Sequence[Step], counts: list[int]) -> pa.RecordBatch:
        return run_rows([batch], self.dag.types_at(first), steps, self._env, counts)

    def printed(self, first: int, steps: Sequence[Step], *, wide: bool, counted: bool = False) -> PrintedSteps:
        """The query of `steps`, the first of which is step `first`. Raises Unsupported for what DuckDB cannot hold."""
        dag = self.dag
        types = dag.types_at(first)
        is_scan = not any(isinstance(step, Projection | Aggregation) for step in dag.steps[:first])
        not_null = [i for i, column in enumerate(dag.scan.columns) if column.not_null] if is_scan else []
        for type_ in types:
            duckdb_type(type_)
        return print_steps(types, steps, not_null=not_null, desc=dag.scan.desc, wide=wide, counted=counted)

    def query(self, printed: PrintedSteps, relation: Any) -> list[pa.RecordBatch]:
        """Runs a query over `scan` to its end. Raises DuckDB's errors, Unsupported for UDFs of what it cannot hold."""
        query = self._engine.query(printed.sql, {}, {RELATION: relation}, printed.udfs, self._env, quota=QUOTA_BYTES)
        query.start()
        return list(query.batches(streamed=False))


class _Limited:
    """A limit, over one batch after the other."""

    def __init__(self, execution: Execution, at: int, limit: int) -> None:
        self._execution = execution
        self._at = at
        self._left = limit

    @property
    def is_full(self) -> bool:
        """Whether no further row can come."""
        return self._left <= 0

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        batch = batch.slice(0, self._left)
        self._left -= batch.num_rows
        self._execution.produced[self._at + 1] += batch.num_rows
        return batch


class _Computed:
    """Selections and projections, over one batch after the other."""

    is_full = False

    def __init__(self, execution: Execution, first: int, steps: Sequence[Step]) -> None:
        self._execution = execution
        self._first = first
        self._steps = steps
        self._schema = _schema(execution.dag.types_at(first + len(steps)))
        self._printed: dict[bool, PrintedSteps] = {}

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        execution, first = self._execution, self._first
        out = self._in_duckdb(batch) if batch.num_rows > execution.direct_rows else None
        counts = [0] * len(self._steps)
        if out is None:
            out = execution.run_direct(batch, first, self._steps, counts)
        else:
            counts = [out.num_rows] * len(counts)
        for i, count in enumerate(counts, first + 1):
            execution.produced[i] += count
        return out

    def _in_duckdb(self, batch: pa.RecordBatch) -> pa.RecordBatch | None:
        """The batch after the steps; None where DuckDB cannot compute it."""
        for wide in (False, True):
            try:
                if wide not in self._printed:
                    self._printed[wide] = self._execution.printed(self._first, self._steps, wide=wide)
                made = self._execution.query(self._printed[wide], pa.Table.from_batches([with_columns(batch)]))
            except Unsupported:
                return None
            except query_errors() as error:
                if not is_decimal_overflow(error):
                    raise translate_error(error) from error
                continue
            return joined(made, self._schema)
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


def _schema(types: Sequence[FieldType]) -> pa.Schema:
    return arrow_schema([f"c{i}" for i in range(len(types))], types, inside=True)


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


def joined(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    """Puts batches together, brought to a schema's types and names."""
    whole = [as_schema(batch, schema) for batch in batches]
    if len(whole) == 1:
        return whole[0]
    if not len(schema):
        return empty_columns(sum(batch.num_rows for batch in whole))
    columns = [pa.concat_arrays([b.column(i) for b in whole]) if whole else pa.nulls(0, f.type)
               for i, f in enumerate(schema)]  # fmt: skip
    return pa.RecordBatch.from_arrays(columns, schema=schema)
