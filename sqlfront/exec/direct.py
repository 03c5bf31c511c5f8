"""The direct executor: small and simple queries in Python, with closures compiled once for the plan.

It runs a chain of nodes over one scan, VALUES or one row: filters, projections, a plain aggregate, DISTINCT, ORDER BY,
LIMIT. What is pushed down to the store, a scan or an aggregate over one, is a source as well. Joins, windows,
subqueries and large inputs are DuckDB's; `compile_direct` returns None for them.
"""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

from coprocessor.codec.datum import number_of
from coprocessor.errors import Unsupported
from coprocessor.evaluate import (
    Env,
    compile_agg,
    compile_column_agg,
    compile_expr,
    compile_predicate,
    compile_row,
)
from coprocessor.expr import Agg, Column, Const, Expr, OrderKey, Subquery, Window, columns, walk
from coprocessor.functions.collation import is_ci, sort_key
from coprocessor.functions.json_value import json_sort_key
from coprocessor.quota import row_bytes
from coprocessor.types import STRING_TPS, Tp
from kvstore.client.api import Reader
from sqlfront.exec.context import rows_of_limit
from sqlfront.exec.reading import Row, ScanReader
from sqlfront.exec.sources import Source, TooManyRows, first_rows, in_order
from sqlfront.plan.nodes import (
    Aggregate,
    Distinct,
    Filter,
    Limit,
    Node,
    Ordered,
    Parts,
    PlanColumn,
    Project,
    Scan,
    Sort,
    Values,
    node_exprs,
)
from sqlfront.plan.path_order import path_direction

if TYPE_CHECKING:
    from sqlfront.exec.pushing import Pushing

Rows = Iterable[Row]
Step = Callable[[Rows, Env], Rows]
_OF_BYTES = STRING_TPS | {Tp.JSON}
_Source: TypeAlias = "Scan | Values | Aggregate | Parts"
LockRows = Callable[[Rows], Iterator[Row]]
Pair = tuple[bytes, bytes]

DIRECT_ROWS_MAX = 2000.0  # estimated rows up to which Python beats starting a DuckDB query


# Rows after which a scan that was thought small is left to DuckDB.
DIRECT_ROWS_CAP = 5000


LONG_BYTES = 1024
"""Rows of shorter values are not counted: there are no more than the cap."""


class DirectPlan:
    """A compiled chain: a source, then steps over its rows.

    `lazy` tells that a LIMIT ends the source early; any other source is refused beyond DIRECT_ROWS_CAP rows, since what
    was expected of it may be wrong, or unknown before the parameters were. `ordered` are the scans that are read
    instead of the plan's own, each until it has given enough, or gives up. `sort` needs no step, as the path's order is
    the wanted one, read backwards if `reverse`. `few` is the same plan over plain reads, for
    executions in which it turns out that a store has very little to compute. `long` tells that few rows may be many
    bytes: then they count against the quota.
    """

    def __init__(
        self,
        scan: ScanReader | None,
        source: Source,
        steps: Sequence[Step],
        lazy: bool = False,
        few: FewRows | None = None,
        long: bool = False,
        ordered: Sequence[Ordered] = (),
        sort: Sort | None = None,
        reverse: bool = False,
    ) -> None:
        self.scan = scan
        self.ordered = tuple(ordered)
        self.sort = sort
        self.reverse = reverse
        self._long = long
        self._source = source
        self._steps = tuple(steps)
        self._lazy = lazy
        self._few = few

    def run(
        self,
        reader: Reader | None,
        env: Env,
        tap: Callable[[Rows], Rows] | None = None,
        pushing: Pushing | None = None,
    ) -> Rows:
        """Returns the result's rows; `tap` sees the source's rows as they pass. Raises TooManyRows, OverQuota.

        `pushing` is needed where the plan's source is pushed down; what is measured always is.
        """
        few = self._few
        if few is not None and pushing is not None and not pushing.measuring and few.holds(env, pushing):
            return few.plan.run(reader, env, tap)
        chunks = self._source(reader, env, pushing)
        if self._long:
            chunks = _held(chunks, env)
        rows: Rows = itertools.chain.from_iterable(chunks) if self._lazy else _capped(chunks)
        if tap is not None:
            rows = tap(rows)
        for step in self._steps:
            rows = step(rows, env)
        return list(rows) if self.ordered else rows  # nobody may see a row of a source that then gives up


@dataclass(frozen=True, slots=True)
class FewRows:
    """A plan that reads rows itself, and when that is better than to have the stores compute."""

    plan: DirectPlan
    holds: Callable[[Env, Pushing], bool]


def _held(chunks: Iterator[list[Row]], env: Env) -> Iterator[list[Row]]:
    for chunk in chunks:
        env.quota.hold(sum(map(row_bytes, chunk)))
        yield chunk


def _may_be_long(cols: Iterable[PlanColumn]) -> bool:
    return any(not 0 <= col.type.flen <= LONG_BYTES for col in cols if col.type.tp in _OF_BYTES)


def _capped(chunks: Iterator[list[Row]]) -> list[Row]:
    rows: list[Row] = []
    for chunk in chunks:
        rows += chunk
        if len(rows) > DIRECT_ROWS_CAP:
            raise TooManyRows
    return rows


def compile_direct(root: Node, tz: dt.tzinfo | None, *, force: bool = False) -> DirectPlan | None:
    """Compiles the plan, None when the direct executor is not for it. `force` ignores the size of the input."""
    chain: list[Node] = []
    node = root
    while isinstance(node, (Filter, Project, Aggregate, Distinct, Sort, Limit)) and not _is_pushed(node):
        chain.append(node)
        node = node.child
    if any(not _simple(n) for n in (*chain, node)):
        return None
    if not force:
        early = _ends_early(chain, node, tz)
        if early is not None:
            return early
    if isinstance(node, Aggregate):
        return _compile(chain[::-1], node, tz, capped=not force)
    if not isinstance(node, (Scan, Values, Parts)):
        return None
    if isinstance(node, Parts) and any(scan.pushed is not None or not _simple(scan) for scan in node.scans):
        return None
    if isinstance(node, Parts) and not (force or all(_small(scan, ()) for scan in node.scans)):
        return None
    if isinstance(node, Scan) and not force and not _small(node, chain):
        return None
    try:
        return _compile(chain[::-1], node, tz, capped=not force)
    except Unsupported:
        return None


def _ends_early(chain: Sequence[Node], source: Node, tz: dt.tzinfo | None) -> DirectPlan | None:
    """The plan over paths that are left early, where the planner found some; `chain` stands over the source."""
    above = list(chain)
    while not isinstance(source, Scan) and isinstance(source, (Aggregate, Project)):
        above.append(source)
        source = source.child
    if not isinstance(source, Scan):
        return None
    nodes = above[::-1]
    ends = next((n.ends for n in nodes if isinstance(n, Aggregate)), ())
    if ends:
        steps, _, _ = _compile_steps(nodes, source)
        readers = [in_order(end, tz, is_sorted=True) for end in ends]
        rows = first_rows([read for _, read in readers])
        return DirectPlan(readers[0][0], rows, steps, lazy=True, long=_may_be_long(source.cols), ordered=ends)
    if source.in_order is None:
        return None
    scan = _narrowed(source.in_order.scan, nodes)
    assert isinstance(scan, Scan)
    steps, sort, _ = _compile_steps(nodes, scan)
    ordered = replace(source.in_order, scan=scan)
    reader, rows = in_order(ordered, tz, is_sorted=sort is not None)
    long, reverse = _may_be_long(scan.cols), ordered.reverse
    return DirectPlan(reader, rows, steps, lazy=True, long=long, ordered=(ordered,), sort=sort, reverse=reverse)


def _is_pushed(node: Node) -> bool:
    return isinstance(node, Aggregate) and bool(node.pushed)


class LockingPlan:
    """A chain over one scan whose rows carry their record keys until they are locked; `limited` when not all are."""

    def __init__(
        self, scan: ScanReader, reverse: bool, before: Sequence[Step], after: Sequence[Step], *, limited: bool
    ) -> None:
        self._scan = scan
        self._reverse = reverse
        self._before = tuple(before)
        self._after = tuple(after)
        self.limited = limited

    def points(self, env: Env) -> list[bytes] | None:
        """The record keys of the rows, where they are known and all are wanted."""
        return None if self.limited or self._reverse else self._scan.points(env)

    def pairs(self, reader: Reader, env: Env) -> Iterator[Pair]:
        """The records to choose from."""
        return self._scan.pairs(reader, env, reverse=self._reverse)

    def run(self, pairs: Iterable[Pair], env: Env, take: LockRows) -> Rows:
        """The query's rows from records; those that `take` passes on are locked."""
        rows: Rows = self._scan.keyed(pairs, env)
        for step in self._before:
            rows = step(rows, env)
        rows = (row[:-1] for row in take(rows))
        for step in self._after:
            rows = step(rows, env)
        return rows


def compile_locking(root: Node, tz: dt.tzinfo | None) -> LockingPlan | None:
    """Compiles a query that locks what it returns; None when its rows are not rows of one table."""
    chain: list[Node] = []
    node = root
    while isinstance(node, (Filter, Project, Sort, Limit)):
        chain.append(node)
        node = node.child
    if isinstance(node, Scan) and node.in_order is not None:
        node = node.in_order.scan
    if not isinstance(node, Scan) or any(not _simple(n) for n in (*chain, node)):
        return None
    chain.reverse()
    cut = next((i for i, n in enumerate(chain) if isinstance(n, Limit)), len(chain))
    layout = {c.id: i for i, c in enumerate(node.cols)}
    before: list[Step] = []
    after: list[Step] = []
    reverse = False
    for i, step in enumerate(chain):
        out = before if i < cut else after
        match step:
            case Filter():
                out.append(_filter_step(step, layout))
            case Project():
                out.append(_keyed_project(step.exprs, layout) if i < cut else _project_step(step.exprs, layout))
            case Sort():
                direction = path_direction(step, chain[:i], node)
                if direction is None:
                    out.append(_sort_step(step, layout, None, frozenset()))
                else:
                    reverse = direction == "reverse"
            case Limit():
                out.append(_limit_step(step))
        layout = {c.id: j for j, c in enumerate(step.cols)}
    # The record key is read with the row: an index alone does not give it.
    assert node.access is not None
    scan = ScanReader(replace(node, access=replace(node.access, cover=False)), tz)
    return LockingPlan(scan, reverse, before, after, limited=cut < len(chain))


def _keyed_project(exprs: Sequence[Expr], layout: dict[int, int]) -> Step:
    make = compile_row(exprs, layout)
    return lambda rows, env: ((*make(r, env), r[-1]) for r in rows)


def _simple(node: Node) -> bool:
    if isinstance(node, Aggregate) and node.rollup:
        return False
    return not any(isinstance(p, (Subquery, Window)) for e in node_exprs(node) for p in walk(e))


def _small(scan: Scan, chain: Sequence[Node]) -> bool:
    access = scan.access
    assert access is not None
    if scan.engine == "tiflash":
        return False
    if scan.pushed is not None and scan.pushed.count is not None:
        wanted = _wanted(scan.pushed.count, scan.pushed.offset)
        if wanted is not None and wanted <= DIRECT_ROWS_MAX:
            return True
    if access.kind == "scan" and scan.pushed is None:
        if access.table_rows <= DIRECT_ROWS_MAX:
            return True
        return not scan.where and _stops_early(scan, chain)
    return access.rows <= DIRECT_ROWS_MAX or _unknown_bounds(scan) or _stops_early(scan, chain)


def _wanted(count: Expr, offset: Expr | None) -> int | None:
    """How many rows a LIMIT takes, with those it skips; None when that is not known before the execution."""
    if not isinstance(count, Const) or not (offset is None or isinstance(offset, Const)):
        return None
    return int(str(count.value or 0)) + (0 if offset is None else int(str(offset.value or 0)))


def _unknown_bounds(scan: Scan) -> bool:
    """Whether a range's size depends on parameters: then it is tried here, and given up when it is large."""
    access = scan.access
    assert access is not None
    bounds = [b.expr for b in (access.low, access.high) if b is not None]
    return len(bounds) == 2 and any(not isinstance(e, Const) for e in bounds)


def _stops_early(scan: Scan, chain: Sequence[Node]) -> bool:
    """Whether a LIMIT ends the scan after few rows: nothing below it needs all of them, and any order is the path's
    own.
    """
    limit = next((n for n in chain if isinstance(n, Limit)), None)
    if limit is None or not isinstance(limit.count, Const):
        return False
    wanted = int(limit.count.value or 0) + (int(limit.offset.value or 0) if isinstance(limit.offset, Const) else 0)  # type: ignore[call-overload]
    below = list(chain[chain.index(limit) + 1 :])
    if any(isinstance(n, (Aggregate, Distinct)) for n in below):
        return False
    sorts = [i for i, n in enumerate(below) if isinstance(n, Sort)]
    if any(path_direction(below[i], below[i + 1 :], scan) is None for i in sorts):  # type: ignore[arg-type]
        return False
    access = scan.access
    assert access is not None
    whole = access.low is None and access.high is None and not access.prefix
    selectivity = max(access.rows, 1.0) / max(access.table_rows, 1.0) if whole else 1.0
    return bool(wanted / selectivity <= DIRECT_ROWS_MAX * 4)


def _compile(chain: Sequence[Node], source: _Source, tz: dt.tzinfo | None, *, capped: bool = True) -> DirectPlan:
    source = _narrowed(source, chain)
    steps, sort, way = _compile_steps(chain, source)
    if isinstance(source, Aggregate) or (isinstance(source, Scan) and source.pushed is not None):
        early = isinstance(source, Scan) and _stops_early(source, chain[::-1])
        plain = _without_pushing(chain, source, tz)
        return _pushed(source, tz, steps, sort, way, plain, early=early, lazy=early or not capped)
    if isinstance(source, Scan):
        scan = ScanReader(source, tz)

        def read(reader: Reader | None, env: Env, pushing: Pushing | None) -> Iterator[list[Row]]:
            assert reader is not None
            return scan.row_chunks(reader, env, reverse=reverse)

        reverse = way == "reverse"
        lazy = not capped or _stops_early(source, chain[::-1])
        return DirectPlan(scan, read, steps, lazy=lazy, long=_may_be_long(source.cols), sort=sort, reverse=reverse)
    if isinstance(source, Parts):
        scans = [ScanReader(part, tz) for part in source.scans]

        def read_all(reader: Reader | None, env: Env, pushing: Pushing | None) -> Iterator[list[Row]]:
            assert reader is not None
            for scan in scans:
                yield from scan.row_chunks(reader, env)

        return DirectPlan(scans[0], read_all, steps, lazy=not capped, long=_may_be_long(source.cols))
    makers = [compile_row(row, {}) for row in source.rows]
    return DirectPlan(None, lambda reader, env, _: iter(([make((), env) for make in makers],)), steps, lazy=True)


def _compile_steps(chain: Sequence[Node], source: _Source) -> tuple[list[Step], Sort | None, str]:
    """The steps over a source's rows; the Sort that is none of them, as the path's order is the wanted one, and whether
    that is "forward" or "reverse"."""
    layout = {c.id: i for i, c in enumerate(source.cols)}
    steps: list[Step] = []
    by_path: Sort | None = None
    way = ""
    trimmed = _stored_chars(source)
    for i, node in enumerate(chain):
        match node:
            case Filter():
                steps.append(_filter_step(node, layout))
            case Project():
                steps.append(_project_step(node.exprs, layout))
                named = zip(node.cols, node.exprs, strict=True)
                trimmed |= {c.id for c, e in named if isinstance(e, Column) and e.id in trimmed}
            case Aggregate():
                steps.append(_aggregate_step(node, layout, trimmed))
            case Distinct():
                steps.append(_distinct_step(node, trimmed))
            case Sort():
                direction = path_direction(node, chain[:i], source) if _has_order(source) else None
                if direction is not None and by_path is None:
                    way, by_path = direction, node
                else:
                    after = chain[i + 1] if i + 1 < len(chain) else None
                    steps.append(_sort_step(node, layout, after if isinstance(after, Limit) else None, trimmed))
            case Limit():
                steps.append(_limit_step(node))
        if isinstance(node, (Project, Aggregate)):
            layout = {c.id: i for i, c in enumerate(node.cols)}
    return steps, by_path, way


def _narrowed(source: _Source, chain: Sequence[Node]) -> _Source:
    """A scan without the columns that only the conditions of its access path name: no row has to show those."""
    if not isinstance(source, Scan) or source.pushed is not None or source.access is None:
        return source
    made = next((i for i, node in enumerate(chain) if isinstance(node, (Project, Aggregate, Distinct))), len(chain))
    if made == len(chain) or isinstance(chain[made], Distinct):
        return source
    exprs = [c for c in source.where if c not in source.access.used]
    exprs += (e for node in chain[: made + 1] for e in node_exprs(node))
    read = frozenset[int]().union(*map(columns, exprs))
    kept = [(c, offset) for c, offset in zip(source.cols, source.offsets, strict=True) if c.id in read]
    if not kept:
        return source
    return replace(source, cols=tuple(c for c, _ in kept), offsets=tuple(offset for _, offset in kept))


def _without_pushing(chain: Sequence[Node], source: Scan | Aggregate, tz: dt.tzinfo | None) -> DirectPlan | None:
    """The same plan with all of it done here; None where the direct executor cannot, or rows are never few."""
    scan = source if isinstance(source, Scan) else source.child
    assert isinstance(scan, Scan)
    assert scan.access is not None
    if scan.access.kind == "scan":
        return None
    above = [*chain] if source is scan else [source, *chain]
    try:
        return _compile(above, replace(scan, pushed=None), tz)
    except Unsupported:
        return None


def _has_order(source: _Source) -> TypeGuard[Scan]:
    """Whether rows can come in the order of an access path: not once regions have cut them by another one."""
    return isinstance(source, Scan) and not (source.pushed is not None and source.pushed.keys)


def _pushed(
    source: Scan | Aggregate,
    tz: dt.tzinfo | None,
    steps: Sequence[Step],
    sort: Sort | None,
    order: str,
    plain: DirectPlan | None,
    *,
    early: bool,
    lazy: bool,
) -> DirectPlan:
    """The plan over what the store gives of a scan or of an aggregate."""
    from sqlfront.exec.push_reader import PushReader

    pushed = PushReader(source, tz)

    def ask(reader: Reader | None, env: Env, pushing: Pushing | None) -> Iterator[list[Row]]:
        assert reader is not None
        assert pushing is not None
        return pushing.opened(
            pushed.row_chunks(reader, env, pushing, pushing.stats_of(source), order=order, early=early)
        )

    few = None if plain is None else FewRows(plain, pushed.has_few_rows)
    long, reverse = _may_be_long(source.cols), order == "reverse"
    return DirectPlan(pushed.plain, ask, steps, lazy=lazy, few=few, long=long, sort=sort, reverse=reverse)


def _stored_chars(source: _Source) -> frozenset[int]:
    """The columns that are stored without spaces at their ends: CHAR."""
    if not isinstance(source, (Scan, Parts)):
        return frozenset()
    return frozenset(c.id for c in source.cols if c.type.tp == Tp.STRING and not c.type.is_binary)


def _filter_step(node: Filter, layout: dict[int, int]) -> Step:
    predicates = [compile_predicate(c, layout) for c in node.conds]
    if len(predicates) == 1:
        only = predicates[0]
        return lambda rows, env: (r for r in rows if only(r, env))
    return lambda rows, env: (r for r in rows if all(p(r, env) for p in predicates))


def _project_step(exprs: Sequence[Expr], layout: dict[int, int]) -> Step:
    if exprs and all(isinstance(e, Column) for e in exprs):
        positions = [layout[e.id] for e in exprs if isinstance(e, Column)]
        if positions == list(range(len(layout))):
            return lambda rows, env: rows
        pick = itemgetter(*positions) if len(positions) > 1 else itemgetter(slice(positions[0], positions[0] + 1))
        # what is there as a list stays one, for steps that take all rows at a time
        return lambda rows, env: list(map(pick, rows)) if isinstance(rows, list) else map(pick, rows)
    make = compile_row(exprs, layout)
    return lambda rows, env: (make(r, env) for r in rows)


def _aggregate_step(node: Aggregate, layout: dict[int, int], trimmed: frozenset[int]) -> Step:
    factories = [compile_agg(a, layout) for a in node.aggs]
    if not node.groups:

        def whole(rows: Rows, env: Env) -> Rows:
            states = [f() for f in factories]
            adders = [s.add for s in states]
            for row in rows:
                for add in adders:
                    add(row, env)
            return [tuple(s.result() for s in states)]

        columns = [compile_column_agg(a, layout) for a in node.aggs]
        if node.aggs and None not in columns:

            def by_column(rows: Rows, env: Env) -> Rows:
                known = rows if isinstance(rows, list) else list(rows)
                return [tuple([c(known) for c in columns if c is not None])]

            return by_column
        if len(node.aggs) == 1 and _is_count_star(node.aggs[0]):
            return lambda rows, env: [(sum(1 for _ in rows),)]
        return whole
    make_key = compile_row(node.groups, layout)
    fold = _row_key(node.groups, trimmed)

    def grouped(rows: Rows, env: Env) -> Rows:
        groups: dict[Any, tuple[Row, list[Any]]] = {}
        for row in rows:
            values = make_key(row, env)
            key = values if fold is None else fold(values)
            found = groups.get(key)
            if found is None:
                found = groups[key] = (values, [f() for f in factories])
            for state in found[1]:
                state.add(row, env)
        return [(*values, *(s.result() for s in states)) for values, states in groups.values()]

    return grouped


def _is_count_star(agg: Agg) -> bool:
    return agg.func == "count" and not agg.args


def _row_key(exprs: Sequence[Expr], trimmed: frozenset[int]) -> Callable[[Row], Any] | None:
    """The function from a row to what its collations call equal; None when values are equal as they are."""
    keys = [_collation_key(e, trimmed) for e in exprs]
    if all(k is None for k in keys):
        return None
    if len(keys) == 1:
        (only,) = keys
        assert only is not None
        return lambda row: None if row[0] is None else only(row[0])

    def fold(row: Row) -> Row:
        return tuple([v if k is None or v is None else k(v) for v, k in zip(row, keys, strict=True)])

    return fold


def _collation_key(expr: Expr, trimmed: frozenset[int]) -> Callable[[Any], Any] | None:
    """What a value compares by; None for itself, as in columns whose values have no spaces at their ends."""
    if isinstance(expr, Column) and expr.id in trimmed and not is_ci(expr.type.collate):
        return None
    return sort_key(expr.type)


def _distinct_step(node: Distinct, trimmed: frozenset[int]) -> Step:
    fold = _row_key([Column(c.id, c.type) for c in node.cols], trimmed)

    def distinct(rows: Rows, env: Env) -> Iterator[Row]:
        seen: set[Any] = set()
        for row in rows:
            key = row if fold is None else fold(row)
            if key not in seen:
                seen.add(key)
                yield row

    if fold is None:
        return lambda rows, env: list(dict.fromkeys(rows)) if isinstance(rows, list) else distinct(rows, env)

    return distinct


def sort_rows(rows: Rows, keys: Sequence[tuple[Callable[[Row], Any], bool]]) -> list[Row]:
    """Sorts by several keys, NULLs lowest: one stable pass per key, the last key first."""
    out = list(rows)
    for key, desc in reversed(keys):
        out.sort(key=key, reverse=desc)
    return out


def order_key(
    expr: Expr,
    layout: dict[int, int],
    not_null: frozenset[int] = frozenset(),
    trimmed: frozenset[int] = frozenset(),
) -> Callable[[Row, Env], Any]:
    """The function to what a row is ordered by under one key: NULL lowest, text by its collation, ENUM by number."""
    value = compile_expr(expr, layout)
    convert = _order_value(expr, trimmed)
    if isinstance(expr, Column) and expr.id in not_null:
        at = layout[expr.id]
        if convert is None:
            return lambda row, env: row[at]
        return lambda row, env: convert(row[at])
    if convert is None:
        return lambda row, env: _null_first(value(row, env))
    return lambda row, env: _null_first(None if (v := value(row, env)) is None else convert(v))


def _null_first(value: Any) -> tuple[Any, ...]:
    return () if value is None else (value,)


def _order_value(expr: Expr, trimmed: frozenset[int]) -> Callable[[Any], Any] | None:
    if expr.type.tp in (Tp.ENUM, Tp.SET):
        return number_of(expr.type)
    if expr.type.tp == Tp.JSON:
        return json_sort_key
    return _collation_key(expr, trimmed)


def _plain_positions(node: Sort, layout: dict[int, int], trimmed: frozenset[int]) -> list[int]:
    """Where the keys stand, if they are columns whose values compare as they are, all in one direction; else empty."""
    keys = [k.expr for k in node.keys]
    if len({k.desc for k in node.keys}) != 1 or any(_order_value(e, trimmed) is not None for e in keys):
        return []
    positions = [layout[e.id] for e in keys if isinstance(e, Column)]
    return positions if len(positions) == len(keys) else []


def _sort_step(node: Sort, layout: dict[int, int], limit: Limit | None, trimmed: frozenset[int]) -> Step:
    not_null = frozenset(c.id for c in node.cols if not c.nullable)
    keys = [(order_key(k.expr, layout, not_null, trimmed), k.desc) for k in node.keys]
    same = len({k.desc for k in node.keys}) == 1
    top = limit is not None and same
    plain = _plain_positions(node, layout, trimmed)
    pick_plain = itemgetter(*plain) if plain else None

    def sort(rows: Rows, env: Env) -> Rows:
        if pick_plain is not None and not top:
            known = rows if isinstance(rows, list) else list(rows)
            if not any(None in map(itemgetter(at), known) for at in plain):
                return sorted(known, key=pick_plain, reverse=node.keys[0].desc)
            rows = known
        bound = [(_bind(key, env), desc) for key, desc in keys]
        if top and limit is not None:
            wanted = _count(limit.count, env)
            skip = _count(limit.offset, env) or 0
            if wanted is not None and wanted + skip <= 1000:
                pick = heapq.nlargest if bound[0][1] else heapq.nsmallest
                return pick(wanted + skip, rows, key=lambda r: [k(r) for k, _ in bound])
        if len(bound) == 1:
            return sorted(rows, key=bound[0][0], reverse=bound[0][1])
        if same:
            return sorted(rows, key=lambda r: [k(r) for k, _ in bound], reverse=bound[0][1])
        return sort_rows(rows, bound)

    return sort


def _bind(key: Callable[[Row, Env], Any], env: Env) -> Callable[[Row], Any]:
    return lambda row: key(row, env)


def _count(expr: Expr | None, env: Env) -> int | None:
    return None if expr is None else rows_of_limit(expr, env)


def _limit_step(node: Limit) -> Step:
    def limit(rows: Rows, env: Env) -> Rows:
        skip = _count(node.offset, env) or 0
        wanted = _count(node.count, env)
        stop = None if wanted is None or wanted + skip > (1 << 62) else wanted + skip
        return itertools.islice(rows, min(skip, 1 << 62), stop)

    return limit


def order_by(keys: Sequence[OrderKey], layout: dict[int, int]) -> Callable[[Rows, Env], list[Row]]:
    """Returns the function that sorts rows by ORDER BY keys (for UPDATE and DELETE with ORDER BY)."""
    compiled = [(order_key(k.expr, layout), k.desc) for k in keys]
    return lambda rows, env: sort_rows(rows, [(_bind(key, env), desc) for key, desc in compiled])
