"""Executables of queries: a point get, a direct plan, or a DuckDB residual over the access paths' relations."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from coprocessor.duck import query_errors
from coprocessor.errors import CoprocessorError, Unsupported
from coprocessor.evaluate import Env
from coprocessor.expr import Call, Column, Const, Expr, Param, Subquery, walk
from coprocessor.functions.telling import call_tells
from coprocessor.types import FieldType, Tp
from kvstore.client.api import Reader
from sqlfront.errors import ER_SUBQUERY_NO_1_ROW, error
from sqlfront.exec.context import environment, rows_of_limit
from sqlfront.exec.direct import DirectPlan, compile_direct
from sqlfront.exec.print_sql import PrintedQuery, Relation, print_query
from sqlfront.exec.reading import ScanReader
from sqlfront.exec.sources import TooManyRows
from sqlfront.plan.access import Estimator
from sqlfront.plan.lookups import LOOKUP_KEYS_MAX, Lookup, find_lookups, narrowed
from sqlfront.plan.nodes import (
    Aggregate,
    Filter,
    Join,
    Limit,
    Node,
    Project,
    QueryPlan,
    Scan,
    Virtual,
    node_exprs,
    plan_of,
    walk_nodes,
)
from sqlfront.result import ListSource, Result, ResultColumn, Row

if TYPE_CHECKING:
    import pyarrow as pa

    from coprocessor.columnar.view import View
    from coprocessor.duck import DuckQuery
    from sqlfront.exec.push_reader import PushReader
    from sqlfront.exec.streamed import Streamed
    from sqlfront.exec.whole import WholePlan
    from sqlfront.session import Session


STREAMED_SHARE = 2
"""A relation that takes more than such a part of the quota, or than is left, is read while the query runs."""
TEXT_BYTES = 24
"""What a text is thought to take in Arrow, at least."""


def result_columns(plan: QueryPlan) -> tuple[ResultColumn, ...]:
    return tuple(ResultColumn(n, c.type, c.nullable) for n, c in zip(plan.names, plan.root.cols, strict=True))


def compile_query(plan: QueryPlan, tz: dt.tzinfo) -> PointQuery | DirectQuery | ResidualQuery:
    """Chooses the executable of an optimized query."""
    columns = result_columns(plan)
    if plan.lock is None:
        point = compile_point(plan, columns, tz)
        if point is not None:
            return point
    direct = compile_direct(plan.root, tz)
    if direct is not None:
        return DirectQuery(plan, columns, direct, tz)
    try:
        return compile_residual(plan, columns, tz)
    except Unsupported:
        # What DuckDB cannot hold (decimals over 38 digits) Python can, if the query is simple enough.
        direct = compile_direct(plan.root, tz, force=True)
        if direct is None:
            raise
        return DirectQuery(plan, columns, direct, tz)


def compile_residual(plan: QueryPlan, columns: tuple[ResultColumn, ...], tz: dt.tzinfo) -> ResidualQuery:
    """Compiles a query for DuckDB. Raises Unsupported for what it cannot hold.

    Sums of over 38 digits are made there, but cannot be handed in: then the store's part of the grouping is taken back.
    """
    residual = ResidualQuery(plan, columns, tz)
    try:
        residual.printed(None, wide=False)
    except Unsupported:
        if not any(isinstance(n, Aggregate) and n.pushed for n in walk_nodes(plan.root)):
            raise
        from sqlfront.plan.push_down import without_parts

        residual = ResidualQuery(replace(plan, root=without_parts(plan.root)), columns, tz)
        residual.printed(None, wide=False)
    return residual


def is_point(node: Node) -> Scan | None:
    """The scan of a projection of plain columns over one get by the clustered key, None for anything else."""
    while isinstance(node, Project) and all(isinstance(e, Column) for e in node.exprs):
        node = node.child
    if not isinstance(node, Scan) or node.access is None:
        return None
    access = node.access
    if access.kind != "primary" or not access.point or any(len(p) != 1 for p in access.prefix):
        return None
    if any(c not in access.used for c in node.where):
        return None
    return node


def compile_point(plan: QueryPlan, columns: tuple[ResultColumn, ...], tz: dt.tzinfo) -> PointQuery | None:
    """Compiles the point get: no planning, no environment, one get and one compiled decode per execution."""
    scan = is_point(plan.root)
    if scan is None or scan.table.handle_offset < 0:
        return None
    value = scan.access.prefix[0][0] if scan.access is not None else None
    if not isinstance(value, Param) or not value.type.is_integer:
        return None
    offsets = _final_offsets(plan.root, scan)
    return PointQuery(plan, columns, scan, offsets, value.index, tz)


def _final_offsets(node: Node, scan: Scan) -> tuple[int, ...]:
    """The table offsets of the query's output columns."""
    places = {c.id: o for c, o in zip(scan.cols, scan.offsets, strict=True)}
    chain: list[Project] = []
    while isinstance(node, Project):
        chain.append(node)
        node = node.child
    for project in reversed(chain):
        places = {c.id: places[e.id] for c, e in zip(project.cols, project.exprs, strict=True) if isinstance(e, Column)}
        out = tuple(places[c.id] for c in project.cols)
    return out if chain else tuple(scan.offsets)


class PointQuery:
    """SELECT columns FROM t WHERE pk = ?: the hot path."""

    any_integer = True

    def __init__(
        self,
        plan: QueryPlan,
        columns: tuple[ResultColumn, ...],
        scan: Scan,
        offsets: tuple[int, ...],
        param: int,
        tz: dt.tzinfo,
    ) -> None:
        self.plan = plan
        self.columns = columns
        self._param = param
        codec = scan.table.codec
        self._key = codec.record_key
        self._decode = codec.decoder(offsets, tz)
        self._low, self._high = (0, (1 << 64) - 1) if codec.schema.unsigned_handle else (-(1 << 63), (1 << 63) - 1)

    def run(self, session: Session, params: tuple[Any, ...]) -> Result:
        handle = params[self._param]
        if handle is None or not self._low <= handle <= self._high:
            session.found_nothing()
            return Result(self.columns)
        txn = session.txn
        if txn is None:
            value = session.get_latest(self._key(handle))
        else:
            value = session.reader().get(self._key(handle))
        if value is None:
            session.found_nothing()
            return Result(self.columns)
        row = self._decode(handle, value)
        return Result(self.columns, row=row)


class DirectQuery:
    """A small query in Python; one that turns out large is run as a residual."""

    any_integer = False

    def __init__(self, plan: QueryPlan, columns: tuple[ResultColumn, ...], direct: DirectPlan, tz: dt.tzinfo) -> None:
        self.plan = plan
        self.columns = columns
        self.direct = direct
        self._tz = tz
        self._residual: ResidualQuery | None = None

    @property
    def residual(self) -> ResidualQuery:
        if self._residual is None:
            self._residual = compile_residual(self.plan, self.columns, self._tz)
        return self._residual

    def run(self, session: Session, params: tuple[Any, ...]) -> Result:
        env = environment(session, params)
        reader = session.reader() if self.direct.scan is not None else None
        pushing = session.pushing(env)
        warned = len(session.warnings)
        try:
            rows = list(self.direct.run(reader, env, pushing=pushing))
        except TooManyRows:
            del session.warnings[warned:]  # its rows are read again
            return self.residual.run_at(session, params, reader)
        finally:
            if pushing is not None:
                pushing.close()
        session.found_rows = len(rows)
        return Result(self.columns, ListSource(self.columns, rows))


class ResidualQuery:
    """A query in DuckDB over the relations that its access paths give."""

    any_integer = False

    def __init__(self, plan: QueryPlan, columns: tuple[ResultColumn, ...], tz: dt.tzinfo) -> None:
        self.plan = plan
        self.columns = columns
        self.tz = tz
        self.padded_literals = any(_ends_in_space(e) for n in walk_nodes(plan.root) for e in node_exprs(n))
        self._lookups: dict[int, Lookup] | None = None
        self._columnar: dict[str, Scan] | None = None
        self._printed: dict[tuple[frozenset[int] | None, bool, bool], PrintedQuery] = {}
        self._readers: dict[str, ScanReader] = {}
        self._push_readers: dict[str, PushReader] = {}

    def printed(self, padded: frozenset[int] | None, *, wide: bool, telling: bool = False) -> PrintedQuery:
        """The query as DuckDB's; `padded`, `wide` and `telling` are `print_query`'s."""
        key = (padded, wide, telling)
        found = self._printed.get(key)
        if found is None:
            found = print_query(self.plan.root, padded=padded, wide=wide, telling=telling)
            self._printed[key] = found
        return found

    def run(self, session: Session, params: tuple[Any, ...]) -> Result:
        return Result(self.columns, self.source(session, params))

    def source(self, session: Session, params: tuple[Any, ...], *, measuring: bool = False) -> DuckSource:
        """Starts the query on what a plain SELECT of the session sees; `measuring` counts what stores did for it."""
        env = environment(session, params)
        columnar = self.columnar(session.database.statistics)
        if session.txn is None and columnar:
            # the replica is cheapest to read at a timestamp that it chooses itself
            view = session.columnar_view(columnar.values(), None)
            if view is not None:
                return DuckSource(self, session, env, session.storage.snapshot(view.ts), view)
            return DuckSource(self, session, env, session.reader_if(self.scans()), None)
        return self.source_at(session, env, session.reader_if(self.scans()), measuring=measuring)

    def scans(self) -> bool:
        return any(not isinstance(r, Virtual) for r in self.printed(None, wide=False).relations.values())

    def run_at(self, session: Session, params: tuple[Any, ...], reader: Reader | None) -> Result:
        return Result(self.columns, self.source_at(session, environment(session, params), reader))

    def source_at(self, session: Session, env: Env, reader: Reader | None, *, measuring: bool = False) -> DuckSource:
        """Starts the query on what `reader` sees."""
        columnar = self.columnar(session.database.statistics)
        view = session.columnar_view(columnar.values(), reader.ts) if columnar and reader is not None else None
        return DuckSource(self, session, env, reader, view, measuring=measuring)

    def columnar(self, estimator: Estimator) -> dict[str, Scan]:
        """The relations that are read from the replica when it is there.

        One that is looked up by the keys of another's rows is not, unless those are in the replica as well.
        """
        if self._columnar is None:
            relations = self.printed(None, wide=False).relations
            scans = {n: r for n, r in relations.items() if isinstance(r, Scan) and r.access is not None}
            # what is pushed down asks the stores' replicas by its requests
            chosen = {n: r for n, r in scans.items() if r.access is not None and r.access.columnar and r.pushed is None}
            if chosen:
                # what small tables cost apart is more than DuckDB takes to read them along
                chosen |= {n: r for n, r in scans.items() if _goes_along(r)}
            lookups = self.lookups(estimator)
            nodes = {id(scan) for scan in chosen.values()}

            def by_rows(scan: Scan) -> bool:
                lookup = lookups.get(id(scan))
                return lookup is not None and id(lookup.driver) not in nodes and scan.engine != "tiflash"

            self._columnar = {name: scan for name, scan in chosen.items() if not by_rows(scan)}
        return self._columnar

    @cached_property
    def counts(self) -> tuple[Param, ...]:
        """The parameters that say how many rows are wanted."""
        limits = [n for n in walk_nodes(self.plan.root) if isinstance(n, Limit)]
        return tuple(e for n in limits for e in (n.count, n.offset) if isinstance(e, Param))

    @cached_property
    def whole(self) -> WholePlan | None:
        """The query for one columnar store that has all of its tables; None where there can be none."""
        from sqlfront.exec.whole import compile_whole

        return compile_whole(self.plan.root, self.tz)

    def lookups(self, estimator: Estimator) -> dict[int, Lookup]:
        """The scans that are read by another's keys, by the identity of their nodes."""
        if self._lookups is None:
            self._lookups = {id(found.target): found for found in find_lookups(self.plan.root, estimator)}
        return self._lookups

    def scan_reader(self, name: str, scan: Scan) -> ScanReader:
        found = self._readers.get(name)
        if found is None:
            found = self._readers[name] = ScanReader(scan, self.tz)
        return found

    def push_reader(self, name: str, node: Scan | Aggregate) -> PushReader:
        from sqlfront.exec.push_reader import PushReader

        found = self._push_readers.get(name)
        if found is None:
            found = self._push_readers[name] = PushReader(node, self.tz)
        return found


class DuckSource:
    """The rows of a residual query. Relations are read when it is made, so later commits do not show.

    With a view, what the query wants from the columnar replica is read there by DuckDB itself.
    """

    def __init__(
        self,
        query: ResidualQuery,
        session: Session,
        env: Env,
        reader: Reader | None,
        view: View | None,
        *,
        measuring: bool = False,
    ) -> None:
        self._query = query
        self._session = session
        self._env = env
        for expr in query.counts:
            rows_of_limit(expr, env)
        self.pushing = session.pushing(env, measuring=measuring)
        self.measures: dict[int, tuple[int, float]] = {}
        printed = query.printed(None, wide=False)
        self._lookups = query.lookups(session.database.statistics)
        self._read: dict[int, pa.Table] = {}
        self._relations: dict[str, pa.Table | Streamed] = {}
        self._streams: list[Streamed] = []
        self._sources: dict[str, str] = {}
        self._view = view
        self._columnar = {}
        if view is not None:
            wanted = query.columnar(session.database.statistics)
            self._columnar = {name: scan for name, scan in wanted.items() if view.has(scan.table.codec)}
        self._reader = reader
        self._running: DuckQuery | None = None
        self._wide = False
        self._rows: list[Row] | None = None
        try:
            self._whole = self._ask_whole()
            if self._whole is not None:
                self._start_whole(self._whole)
                session.found_rows = 0
                return
            self._read_relations({n: r for n, r in printed.relations.items() if n not in self._columnar})
            padded = [c for name, table in self._relations.items() for c in _padded(table, printed.relations[name])]
            if view is not None:
                for scan in self._columnar.values():
                    may = view.may_pad(scan.table.codec, scan.offsets)
                    padded += [column.id for column, pads in zip(scan.cols, may, strict=True) if pads]
            self._padded = frozenset(padded) if padded or query.padded_literals else None
            self._start()
            session.found_rows = 0  # counted as they are fetched; the query may have asked how many there were before
        except BaseException:
            self._end_view()
            raise

    def _ask_whole(self) -> pa.Table | None:
        """The result of the query where one columnar store computes it."""
        session, reader, pushing = self._session, self._reader, self.pushing
        push_down = session.storage.push_down if may_compute_whole(session) else None
        if push_down is None or reader is None or pushing is None:
            return None
        if self._env.writing and _tells(self._query.plan.root):
            return None  # a store would not
        plan = self._query.whole
        return None if plan is None else plan.ask(session, push_down, pushing, self._env, reader)

    @property
    def is_whole(self) -> bool:
        """Whether one columnar store has computed the query."""
        return self._whole is not None

    def _start_whole(self, result: pa.Table) -> None:
        """Goes on with a result that is there."""
        names = [f"c{at}" for at in range(len(self._query.columns))]
        if not result.num_columns:
            result = _empty(names, [c.type for c in self._query.columns])
        relations = {"whole_answer": result.rename_columns(names)}
        self._running = self._session.start_duck("SELECT * FROM whole_answer", {}, relations, {}, self._env, None)

    def _read_relations(self, relations: Mapping[str, Relation]) -> None:
        # Tables that are looked up by another's keys are read after it.
        for name, relation in sorted(relations.items(), key=lambda item: id(item[1]) in self._lookups):
            self._relations[name] = self._relation(name, relation, self._reader)

    def _lay_sources(self, view: View) -> dict[str, pa.Table]:
        """Notes the subqueries that read the replica; returns the relations that these read besides."""
        besides: dict[str, pa.Table] = {}
        for name, scan in self._columnar.items():
            self._sources[name], more = view.source(scan.table.codec, scan.offsets, self._query.tz, name)
            besides |= more
        return besides

    def _end_view(self) -> None:
        view, self._view = self._view, None
        if view is not None:
            view.close()

    def _renew_view(self) -> None:
        """Opens a view at the same timestamp, after an error ended the transaction; else the rows are read."""
        assert self._reader is not None
        self._view = self._session.columnar_view(self._columnar.values(), self._reader.ts)
        if self._view is None:
            self._read_rows()

    def _read_rows(self) -> None:
        """Reads by rows what was to be read from the replica."""
        scans, self._columnar, self._sources = self._columnar, {}, {}
        self._read_relations(scans)

    def _relation(self, name: str, relation: Relation, reader: Reader | None) -> pa.Table | Streamed:
        import pyarrow as pa

        if isinstance(relation, Virtual):
            return self._session.virtual_relation(relation)
        assert reader is not None
        begun = time.perf_counter()
        quota = self._env.quota
        scan = relation if isinstance(relation, Scan) and self._may_stream(relation) else None
        fits = min(quota.limit // STREAMED_SHARE, quota.rest)
        if scan is not None and _bytes_of(scan) > fits:
            return self._streamed(name, scan, reader)
        batches: list[pa.RecordBatch] = []
        size = 0
        for batch in self._batches(name, relation, reader):
            size += batch.nbytes
            if scan is None:
                quota.hold(batch.nbytes)
            elif size > fits:
                return self._streamed(name, scan, reader)
            batches.append(batch)
        if scan is not None:
            quota.hold(size)
        self.measures[id(relation)] = (sum(b.num_rows for b in batches), time.perf_counter() - begun)
        names = [f"c{c.id}" for c in relation.cols]
        if not batches:
            return _empty(names, [c.type for c in relation.cols])
        first = batches[0]
        if first.schema.names != names:
            batches = [pa.RecordBatch.from_arrays(b.columns, names=names) for b in batches]
        table = self._read[id(relation)] = pa.Table.from_batches(batches)
        return table

    def _may_stream(self, scan: Scan) -> bool:
        """Whether a scan can be read while the query runs: there is a quota that it could exceed, its rows are not
        wanted before, and the transaction has no writes of its own to it."""
        session, lookups = self._session, self._lookups
        if self._env.quota.limit < 0 or session.storage.push_down is not None or scan.table.temporary:
            return False
        wanted_before = id(scan) in lookups or any(lookup.driver is scan for lookup in lookups.values())
        return not wanted_before and not session.dirty_writes(*scan.table.codec.record_range)

    def _streamed(self, name: str, scan: Scan, reader: Reader) -> Streamed:
        """The scan, to be read while the query runs."""
        from sqlfront.exec.streamed import Streamed

        plain, ts, begun = self._query.scan_reader(name, scan), reader.ts, time.perf_counter()
        storage, env, measures, key = self._session.storage, self._env, self.measures, id(scan)

        def read() -> Iterator[pa.RecordBatch]:
            measures[key] = (0, 0.0)
            return plain.batches(storage.snapshot(ts), env, None, ())

        def note(rows: int) -> None:
            measures[key] = (measures[key][0] + rows, time.perf_counter() - begun)

        schema = _empty([f"c{c.id}" for c in scan.cols], [c.type for c in scan.cols]).schema
        stream = Streamed(schema, read, note)
        self._streams.append(stream)
        return stream

    def _batches(self, name: str, relation: Scan | Aggregate, reader: Reader) -> Iterator[pa.RecordBatch]:
        """What a relation's access path gives, or what the store makes of it."""
        session, scan = self._session, relation
        if isinstance(relation, Scan):
            found = self._narrowed(relation)
            scan = relation if found is None else found
            if scan.pushed is None or (scan.access is not None and scan.access.point):
                plain = self._query.scan_reader(name, relation) if found is None else ScanReader(found, self._query.tz)
                is_kept = session.storage.push_down is None and not relation.table.temporary
                segments = session.database.segments if is_kept else None
                writes = session.dirty_writes(*relation.table.codec.record_range)
                return plain.batches(reader, self._env, segments, writes)
        return self._asked(name, relation, scan, reader)

    def _asked(
        self, name: str, relation: Scan | Aggregate, node: Scan | Aggregate, reader: Reader
    ) -> Iterator[pa.RecordBatch]:
        """The batches of requests; `node` is the relation, or its scan by another access path."""
        from sqlfront.exec.push_reader import PushReader

        pushing = self.pushing
        assert pushing is not None
        pushed = self._query.push_reader(name, node) if node is relation else PushReader(node, self._query.tz)
        with closing(pushed.batches(reader, self._env, pushing, pushing.stats_of(relation))) as asked:
            yield from asked

    def _narrowed(self, relation: Scan) -> Scan | None:
        """The scan by the keys that its driver's rows hold, if they are few; None for the scan as planned."""
        lookup = self._lookups.get(id(relation))
        driver = None if lookup is None else self._read.get(id(lookup.driver))
        if lookup is None or driver is None or relation.engine == "tiflash":
            return None
        values = driver.column(f"c{lookup.column}").unique().drop_null()
        return narrowed(lookup, values.to_pylist()) if len(values) <= LOOKUP_KEYS_MAX else None

    def _start(self) -> None:
        """Starts the query in DuckDB; a decimal overflow makes it go on in the next form that can hold the numbers."""
        printed = self._query.printed(self._padded, wide=self._wide, telling=self._env.writing)
        params = printed.values(self._env)
        try:
            if self._columnar and self._view is None:
                self._renew_view()
            view, self._view = self._view, None
            relations = self._relations if view is None else self._relations | self._lay_sources(view)
            self._running = self._session.start_duck(
                printed.sql(self._sources), params, relations, printed.udfs, self._env, view
            )
        except query_errors() as exc:
            self._overflowed(exc)

    def _overflowed(self, exc: Exception) -> None:
        """Goes from 18-digit decimals to 38 digits, and from there to Python's; any other error is raised.

        When the replica turns out to be damaged, the rows are read.
        """
        from coprocessor.duck_expr import is_decimal_overflow

        self._stop()
        self._raise_failure()
        if self._columnar and self._session.database.columnar.failed(exc):
            self._read_rows()
            self._start()
            return
        if not is_decimal_overflow(exc):
            _raise(exc)
        if not self._wide:
            self._wide = True
            self._start()
            return
        direct = compile_direct(self._query.plan.root, self._query.tz, force=True)
        if direct is None:
            _raise(exc)
        self._rows = list(self._env.quota.rows(direct.run(self._reader, self._env, pushing=self.pushing)))

    def rows(self) -> Iterator[Sequence[Row]]:
        fix = _row_fixer([c.type for c in self._query.columns])
        for batch in self._fetch(lambda q: q.tuples()):
            self._session.found_rows += len(batch)
            yield batch if fix is None else [fix(r) for r in batch]
        if self._rows is not None:
            self._session.found_rows += len(self._rows)
            yield self._rows

    def batches(self) -> Iterator[pa.RecordBatch]:
        from coprocessor.arrow import rows_to_batch, to_edge

        names = [c.name for c in self._query.columns]
        types = [c.type for c in self._query.columns]
        streamed = _streams(self._query.plan.root)
        for batch in self._fetch(lambda q: q.batches(streamed=streamed)):
            self._session.found_rows += batch.num_rows
            yield to_edge(batch, names, types)
        if self._rows is not None:
            self._session.found_rows += len(self._rows)
            yield rows_to_batch(self._rows, names, types)

    def _fetch(self, read: Callable[[DuckQuery], Iterator[Any]]) -> Iterator[Any]:
        """Yields what DuckDB gives; nothing when the rows are in `_rows`."""
        first: Any = None
        source: Iterator[Any] = iter(())
        while self._running is not None:
            source = read(self._running)
            try:
                first = next(source, None)
                break
            except query_errors() as exc:
                self._overflowed(exc)
        try:
            while first is not None:
                yield first
                try:
                    first = next(source, None)
                except query_errors() as exc:
                    self._raise_failure()
                    if self._columnar:
                        self._session.database.columnar.failed(exc)
                    _raise(exc)
        finally:
            self._stop()

    def _raise_failure(self) -> None:
        """Raises what a relation met while the query read it: DuckDB makes an error of its own of that."""
        for stream in self._streams:
            if stream.failure is not None:
                raise stream.failure

    def _stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.close()
            self._session.end_duck(running)

    def close(self) -> None:
        self._stop()
        self._end_view()
        self._relations = {}
        self._read = {}


def _goes_along(scan: Scan) -> bool:
    """Whether a whole table may be read from the replica when the query reads it anyway."""
    return (
        scan.access is not None
        and scan.access.kind == "scan"
        and scan.table.columnar
        and not (scan.engine == "tikv" or scan.use_index or scan.pushed is not None)
    )


def _ends_in_space(expr: Expr) -> bool:
    return any(isinstance(p, Param) or (isinstance(p, Const) and str(p.value).endswith(" ")) for p in walk(expr)
               if isinstance(p, (Const, Param)) and p.type.is_text)  # fmt: skip


def _tells(root: Node) -> bool:
    """Whether a query may have something to tell of the values that it meets."""
    parts = [part for node in walk_nodes(root) for expr in node_exprs(node) for part in walk(expr)]
    return any(_tells(plan_of(p)) if isinstance(p, Subquery) else isinstance(p, Call) and call_tells(p) for p in parts)


def _streams(node: Node) -> bool:
    """Whether the query's rows come as its inputs are read, with nothing that has to see them all first."""
    while isinstance(node, (Project, Filter)):
        node = node.child
    return isinstance(node, (Scan, Join))


def _raise(exc: Exception) -> NoReturn:
    """Raises an error of the running query; what DuckDB alone can name is translated by the session's edge."""
    if "More than one row returned by a subquery" in str(exc):
        raise error(ER_SUBQUERY_NO_1_ROW, "Subquery returns more than 1 row") from exc
    cause = exc.__cause__
    if isinstance(cause, CoprocessorError):
        raise cause
    raise exc


def may_compute_whole(session: Session) -> bool:
    """Whether the session's queries may be computed whole by a columnar store, where they can be."""
    return session.storage.push_down is not None and bool(session.variables.get("tidb_allow_mpp"))


def _empty(names: Sequence[str], types: Sequence[FieldType]) -> pa.Table:
    """No rows, in types that DuckDB reads."""
    import pyarrow as pa

    from coprocessor.arrow import arrow_schema

    fields = []
    for field in arrow_schema(names, types, inside=True):
        is_wide = pa.types.is_decimal256(field.type)
        fields.append(field.with_type(pa.decimal128(38, field.type.scale)) if is_wide else field)
    return pa.schema(fields).empty_table()


def _padded(table: pa.Table | Streamed, relation: Relation) -> list[int]:
    """The ids of text columns with a value that ends in a space, as far as is known: comparisons have to trim it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keep = (Tp.VARCHAR, Tp.VAR_STRING, Tp.BLOB, Tp.TINY_BLOB, Tp.MEDIUM_BLOB, Tp.LONG_BLOB)
    texts = [(at, c.id) for at, c in enumerate(relation.cols) if c.type.tp in keep and c.type.is_text]
    if not isinstance(table, pa.Table):
        return [id_ for _, id_ in texts]
    return [id_ for at, id_ in texts if pc.any(pc.ends_with(table.column(at), " ")).as_py()]


def _bytes_of(scan: Scan) -> float:
    """About what the columns of a scan take in Arrow, at least."""
    access = scan.access
    assert access is not None
    rows = access.table_rows if access.kind == "scan" else access.rows
    return rows * sum(TEXT_BYTES if c.type.is_string else 8 for c in scan.cols)


def _row_fixer(types: Sequence[FieldType]) -> Callable[[Row], Row] | None:
    """Returns the function that turns DuckDB's Python values into ours; None when they are the same."""
    fixes: list[tuple[int, Callable[[Any], Any]]] = []
    for i, type_ in enumerate(types):
        if type_.tp == Tp.DURATION:
            fixes.append((i, lambda v: dt.timedelta(microseconds=v)))
        elif type_.is_decimal:
            fixes.append((i, _decimal_fix(max(type_.decimal, 0))))
        elif type_.is_integer:
            fixes.append((i, int))
        elif type_.is_real:
            fixes.append((i, float))
    if not fixes:
        return None

    def fix(row: Row) -> Row:
        out = list(row)
        for i, convert in fixes:
            if out[i] is not None:
                out[i] = convert(out[i])
        return tuple(out)

    return fix


def _decimal_fix(scale: int) -> Callable[[Any], Any]:
    unit = Decimal(1).scaleb(-scale)

    def fix(value: Any) -> Any:
        exact = value if isinstance(value, Decimal) else Decimal(value)
        return exact if exact.as_tuple().exponent == -scale else exact.quantize(unit)

    return fix
