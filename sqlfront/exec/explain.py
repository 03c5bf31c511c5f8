"""EXPLAIN and EXPLAIN ANALYZE: the plan as a table, one line a node, with the access path of every table.

`task` says who runs the node: `kv` is an access path over keys, `direct` our own executor, `duckdb` the residual;
`root` and `cop[tikv]` are what is pushed down (explain_push.py), `mpp[tiflash]` what one columnar store computes.
ANALYZE runs the statement and adds what each access path really read and how long that took.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from coprocessor.expr import Agg, Call, Column, Const, Context, Expr, OrderKey, Param, Subquery, Window, walk
from sqlfront import parse
from sqlfront.errors import error, unsupported
from sqlfront.exec.changing import JoinedChange, TableChange
from sqlfront.exec.context import environment
from sqlfront.exec.direct import DirectPlan
from sqlfront.exec.dml import InsertChange, make_change
from sqlfront.exec.explain_formats import FORMATS, Line
from sqlfront.exec.explain_push import MPP, ROOT, aggregate_info, reader_lines, tasks
from sqlfront.exec.query import DirectQuery, PointQuery, ResidualQuery, compile_query, may_compute_whole
from sqlfront.exec.sources import TooManyRows
from sqlfront.exec.statement import bind_context, plan_query, tell
from sqlfront.plan.access import Access
from sqlfront.plan.lookups import Lookup
from sqlfront.plan.nodes import (
    Aggregate,
    CteRef,
    Distinct,
    Filter,
    Join,
    Limit,
    Node,
    Parts,
    Project,
    Scan,
    SetOp,
    Sort,
    TextRows,
    Values,
    Virtual,
    WindowNode,
    With,
    node_children,
    node_exprs,
    plan_of,
    with_children,
)
from sqlfront.result import Result

if TYPE_CHECKING:
    from sqlfront.exec.pushing import PushStats
    from sqlfront.session import Session


@dataclass(slots=True)
class Measured:
    """What one run showed: rows and seconds of each scan (by identity of its node), and of the whole."""

    scans: dict[int, tuple[int, float]] = field(default_factory=dict)
    pushes: Mapping[int, PushStats] = field(default_factory=dict)
    is_whole: bool = False
    """Whether one columnar store computed the query."""
    rows: int = 0
    seconds: float = 0.0


def explain(session: Session, parsed: parse.Parsed, statement: parse.Explain, params: Sequence[object]) -> Result:
    """Returns the plan of a statement as rows."""
    show = FORMATS.get(statement.format)
    if show is None:
        raise error(1791, f"Unknown EXPLAIN format name: '{statement.format}'", sqlstate="HY000")
    inner = statement.statement
    if isinstance(inner, parse.Query):
        lines = _explain_query(session, parsed, inner, params, statement.analyze)
    elif isinstance(inner, (parse.Insert, parse.Update, parse.Delete)):
        lines = _explain_change(session, parsed, inner, params, statement.analyze)
    else:
        raise unsupported("EXPLAIN of this statement")
    return show(lines, statement.analyze)


# Queries


def _explain_query(
    session: Session, parsed: parse.Parsed, statement: parse.Query, params: Sequence[object], analyze: bool
) -> list[Line]:
    ctx = bind_context(session, parsed, params)
    plan = plan_query(session, ctx, statement)
    tell(session, ctx.warnings)
    query = compile_query(plan, session.variables.zone)
    measured = _measure(session, query, tuple(params)) if analyze else None
    task = "duckdb" if isinstance(query, ResidualQuery) else "direct"
    notes = _Notes()
    if isinstance(query, ResidualQuery):
        notes.lookups = query.lookups(session.database.statistics)
        for scan in query.columnar(session.database.statistics).values():
            notes.columnar[id(scan)] = _replica_note(session, scan)
    root = query.plan.root
    if isinstance(query, DirectQuery) and query.direct.scan is not None:
        direct = query.direct
        if direct.sort is not None:
            notes.reverse[id(query.direct.scan.scan)] = direct.reverse
        root = _with_scan(root, direct, measured, notes)
    for scan in _all_scans(root):
        if id(scan) not in notes.columnar and (scan.engine == "tiflash" or (scan.access and scan.access.columnar)):
            notes.remarks[id(scan)] = _replica_note(session, scan)
    notes.pushes = None if measured is None else measured.pushes
    whole = _whole_of(session, query, measured, notes)
    if whole is not None:
        lines = _whole_lines(whole, notes)
    else:
        lines = list(_lines(root, 0, task, measured, notes))
    if measured is not None and lines:
        lines[0].actual = (measured.rows, measured.seconds)
    return lines


def _whole_of(
    session: Session, query: PointQuery | DirectQuery | ResidualQuery, measured: Measured | None, notes: _Notes
) -> Node | None:
    """The plan of a query that one columnar store computes: as it was, or as it will be if some store has all of it."""
    if not isinstance(query, ResidualQuery) or (measured is not None and not measured.is_whole):
        return None
    if measured is None and (any(notes.remarks.values()) or not may_compute_whole(session)):
        return None
    return None if query.whole is None else query.whole.root


def _whole_lines(root: Node, notes: _Notes) -> list[Line]:
    """A reader, and under it what the store does."""
    stats = None if notes.pushes is None else notes.pushes.get(id(root))
    told = "" if stats is None else f"mpp_task: {tasks(stats.rows)}"
    reader = Line("WholeReader", 0, _estimate(root), ROOT, "", "by a columnar store that has all of it", None, told)
    inner = _Notes()
    inner.columnar = {id(scan): "" for scan in _all_scans(root)}
    lines = list(_lines(root, 1, MPP, None, inner))
    for line in lines:
        line.task = MPP
    return [reader, *lines]


def _with_scan(node: Node, direct: DirectPlan, measured: Measured | None, notes: _Notes) -> Node:
    """The plan with the scan that the direct executor really reads, and without a Sort whose order that has; of several
    partitions, and of the ends of paths, each is as it was planned."""
    assert direct.scan is not None
    if isinstance(node, Scan):
        scan = direct.scan.scan
        if measured is not None and id(node) in measured.scans:
            measured.scans[id(scan)] = measured.scans[id(node)]
        return scan
    if isinstance(node, Aggregate) and node.ends and direct.ordered:
        notes.ends.add(id(node))
        notes.reverse |= {id(end.scan): end.reverse for end in node.ends}
        return node
    if isinstance(node, Parts):
        return node
    if node is direct.sort:
        return _with_scan(direct.sort.child, direct, measured, notes)
    return with_children(node, lambda child: _with_scan(child, direct, measured, notes))


def _measure(session: Session, query: PointQuery | DirectQuery | ResidualQuery, params: tuple[Any, ...]) -> Measured:
    """Runs the query and counts."""
    out = Measured()
    begun = time.perf_counter()
    match query:
        case PointQuery():
            out.rows = len(query.run(session, params).fetch_all())
            for scan in _all_scans(query.plan.root):
                out.scans[id(scan)] = (out.rows, time.perf_counter() - begun)
        case DirectQuery():
            env = environment(session, params)
            reader = session.reader() if query.direct.scan is not None else None
            counter = _Counter()
            pushing = session.pushing(env, measuring=True)
            try:
                out.rows = len(list(query.direct.run(reader, env, counter.tap, pushing)))
            except TooManyRows:
                return _measure(session, query.residual, params)
            scans = list(_all_scans(query.plan.root))
            if len(scans) == 1:
                out.scans[id(scans[0])] = (counter.rows, time.perf_counter() - begun)
            out.pushes = {} if pushing is None else pushing.stats
        case ResidualQuery():
            source = query.source(session, params, measuring=True)
            out.scans = dict(source.measures)
            out.pushes = {} if source.pushing is None else source.pushing.stats
            out.is_whole = source.is_whole
            out.rows = sum(len(batch) for batch in source.rows())
    out.seconds = time.perf_counter() - begun
    return out


class _Counter:
    """Counts the rows that pass."""

    def __init__(self) -> None:
        self.rows = 0

    def tap(self, rows: Iterable[Any]) -> Iterator[Any]:
        for row in rows:
            self.rows += 1
            yield row


def _all_scans(node: Node) -> Iterator[Scan]:
    if isinstance(node, Scan):
        yield node
    for child in node_children(node):
        yield from _all_scans(child)


class _Notes:
    """How the residual reads its scans, by the identity of their nodes."""

    def __init__(self) -> None:
        self.lookups: Mapping[int, Lookup] = {}
        self.columnar: dict[int, str] = {}
        self.remarks: dict[int, str] = {}
        self.pushes: Mapping[int, PushStats] | None = None
        self.reverse: dict[int, bool] = {}
        """The scans whose path's order is kept, and whether they are read backwards."""
        self.ends: set[int] = set()
        """The aggregates that are made of the first rows of their ends."""


def _replica_note(session: Session, scan: Scan) -> str:
    """What is to be known of a replica that a scan would read; nothing when it is there."""
    status = session.database.replica_status(scan.table)
    if status is not None and status.available:
        return ""
    state = "not built yet" if status is None else status.reason or f"{status.state}, {status.progress:.0%}"
    return f"replica: {state}; rows are read until it is there"


def _lines(node: Node, depth: int, task: str, measured: Measured | None, notes: _Notes) -> Iterator[Line]:
    if isinstance(node, Scan) and node.pushed is not None and id(node) not in notes.lookups:
        left = [c for c in node.left if node.access is None or c not in node.access.used]
        if left:
            yield Line("Selection", depth, _estimate(node), task, "", ", ".join(map(show, left)))
        yield from _pushed_lines(node, node, depth + bool(left), measured, notes)
        return
    if isinstance(node, Aggregate) and id(node) in notes.ends:
        yield Line("Aggregate", depth, _estimate(node), task, "", _info(node))
        for end in node.ends:
            yield Line("Limit", depth + 1, 1.0, task, "", "count: 1")
            yield from _lines(end.scan, depth + 2, task, measured, notes)
        return
    if isinstance(node, Aggregate) and node.pushed:
        assert isinstance(node.child, Scan)
        yield Line("HashAgg", depth, _estimate(node), ROOT, "", _info(node), _actual(node, measured))
        yield from _pushed_lines(node, node.child, depth + 1, measured, notes)
        return
    if isinstance(node, Scan):
        line = _scan_line(node, depth, measured)
        kept = {None: "", False: "keep order:true", True: "keep order:true, desc"}[notes.reverse.get(id(node))]
        line.info = "; ".join(part for part in (line.info, kept, notes.remarks.get(id(node), "")) if part)
        lookup = notes.lookups.get(id(node))
        note = notes.columnar.get(id(node))
        if note is not None:
            line.name, line.task = "ColumnarScan", "columnar"
            filters = ", ".join(show(c) for c in node.where)
            rows = 0.0 if node.access is None else node.access.table_rows
            line.info = "; ".join(
                p for p in (f"filter: {filters}" if filters else "", f"of {rows:.0f} rows", note) if p
            )
        elif lookup is not None:
            line.name = "TableLookUp" if lookup.index is None else "IndexLookUp"
            line.info = f"by the keys of {lookup.driver.alias}; " + line.info
            line.rows = lookup.driver.access.rows if lookup.driver.access is not None else None
            if lookup.index is not None:
                line.obj += f", index:{lookup.index.name}"
        yield line
        yield from _part_lines(node, depth + 1)
        return
    yield Line(_name(node), depth, _estimate(node), task, _object(node), _info(node))
    for child in node_children(node):
        yield from _lines(child, depth + 1, task, measured, notes)
    for expr in node_exprs(node):
        for part in walk(expr):
            if isinstance(part, Subquery):
                plan = plan_of(part)
                outer = " (correlated)" if part.outer else ""
                yield Line(f"Subquery {part.kind}{outer}", depth + 1, _estimate(plan), task, "", "")
                yield from _lines(plan, depth + 2, task, measured, notes)


def _actual(node: Node, measured: Measured | None) -> tuple[int, float | None] | None:
    return None if measured is None else measured.scans.get(id(node))


def _pushed_lines(
    node: Scan | Aggregate, scan: Scan, depth: int, measured: Measured | None, notes: _Notes
) -> Iterator[Line]:
    """A reader and what stands under it."""
    pushes = notes.pushes
    stats = None if pushes is None else pushes.get(id(node))
    table, index = _scan_objects(scan)
    seconds = _actual(node, measured)
    shown = node
    if isinstance(node, Scan) and node.pushed is not None and id(node) in notes.reverse:
        order = "reverse" if notes.reverse[id(node)] else "forward"
        shown = replace(node, pushed=replace(node.pushed, order=order))
    for line in reader_lines(shown, (table, index), show, stats):
        took = seconds[1] if seconds is not None and line.depth == 0 else None
        actual = None if line.actual is None else (line.actual, took)
        remark = "" if line.depth else notes.remarks.get(id(scan), "")
        info = "; ".join(part for part in (line.info, remark) if part)
        yield Line(line.name, depth + line.depth, line.rows, line.task, line.obj, info, actual, line.execution)


def _name(node: Node) -> str:
    match node:
        case Aggregate():
            return "Aggregate"
        case Join():
            return {"inner": "InnerJoin", "left": "LeftOuterJoin"}[node.kind] if node.on else "CrossJoin"
        case WindowNode():
            return "Window"
        case SetOp():
            return node.kind.capitalize() + ("" if node.distinct else "All")
        case Project():
            return "Projection"
        case Filter():
            return "Selection"
        case Values():
            return "TableDual" if not node.cols else "Values"
        case CteRef():
            return "CTEScan"
        case With():
            return "CTE"
        case Virtual():
            return "MemTableScan"
        case TextRows():
            return "TableFunction"
        case Parts():
            return "PartitionUnion"
        case _:
            return type(node).__name__


def _scan_object(scan: Scan) -> str:
    """The table that a scan reads, and its index."""
    return ", ".join(filter(None, _scan_objects(scan)))


def _scan_objects(scan: Scan) -> tuple[str, str]:
    access = scan.access
    assert access is not None
    alias = "" if scan.alias == scan.table.name else f" {scan.alias}"
    obj = f"table:{scan.table.name}{alias}"
    if scan.table.partition:
        obj += f", partition:{scan.table.partition}"
    if access.index is None:
        return obj, ""
    parts = (scan.table.columns[part.offset] for part in access.index.columns)
    columns = ", ".join(column.generated if column.hidden and column.generated else column.name for column in parts)
    return obj, f"index:{access.index.name}({columns})"


def _scan_line(scan: Scan, depth: int, measured: Measured | None) -> Line:
    access = scan.access
    assert access is not None
    info = _access_info(scan, access)
    return Line(access.name, depth, access.rows, "kv", _scan_object(scan), info, _actual(scan, measured))


def _part_lines(scan: Scan, depth: int) -> Iterator[Line]:
    """The paths of which a scan reads the union."""
    assert scan.access is not None
    for part in scan.access.parts:
        one = replace(scan, access=part, where=part.used)
        yield Line(part.name, depth, part.rows, "kv", _scan_object(one), _access_info(one, part))


def _access_info(scan: Scan, access: Access) -> str:
    parts = []
    keyed = [c for c in scan.where if c in access.used]
    if keyed:
        parts.append("range: " + ", ".join(show(c) for c in keyed))
    rest = [c for c in scan.where if c not in access.used]
    if rest:
        parts.append("filter: " + ", ".join(show(c) for c in rest))
    if access.kind == "scan":
        parts.append(f"of {access.table_rows:.0f} rows")
    return "; ".join(parts)


def _estimate(node: Node) -> float | None:
    match node:
        case Scan():
            return node.access.rows if node.access is not None else None
        case Limit() if isinstance(node.count, Const):
            below = _estimate(node.child)
            count = float(node.count.value or 0)  # type: ignore[arg-type]
            return count if below is None else min(below, count)
        case Aggregate() if not node.groups:
            return 1.0
        case Values():
            return float(len(node.rows))
        case Parts():
            return sum(_estimate(scan) or 0.0 for scan in node.scans)
        case Filter() | Project() | Sort() | Distinct() | WindowNode() | With() | Aggregate() | Limit():
            return _estimate(node.child)
        case Join():
            left, right = _estimate(node.left), _estimate(node.right)
            if left is None or right is None:
                return None
            return max(left, right) if node.on else left * right
        case _:
            return None


def _object(node: Node) -> str:
    match node:
        case CteRef():
            return f"CTE:{node.name}"
        case Virtual():
            return f"table:{node.name}"
        case _:
            return ""


def _info(node: Node) -> str:
    match node:
        case Filter():
            return ", ".join(show(c) for c in node.conds)
        case Project():
            return ", ".join(show(e) for e in node.exprs)
        case Join():
            return ", ".join(show(e) for e in node.on)
        case Aggregate():
            return aggregate_info(node, show)
        case WindowNode():
            return ", ".join(show(w) for w in node.windows)
        case Sort():
            return ", ".join(_show_key(k) for k in node.keys)
        case Limit():
            offset = f"offset: {show(node.offset)}, " if node.offset is not None else ""
            return f"{offset}count: {show(node.count) if node.count is not None else 'all'}"
        case _:
            return ""


def _show_key(key: OrderKey) -> str:
    return show(key.expr) + (" desc" if key.desc else "")


_INFIX = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "plus": "+", "minus": "-", "mul": "*",
          "div": "/", "and": "and", "or": "or", "like": "like", "nulleq": "<=>"}  # fmt: skip


def show(expr: Expr) -> str:
    """An expression as a person reads it."""
    match expr:
        case Const():
            return (
                "NULL" if expr.value is None else repr(expr.value) if isinstance(expr.value, str) else str(expr.value)
            )
        case Column():
            return expr.name or f"c{expr.id}"
        case Param():
            return f"?{expr.index + 1}"
        case Context():
            return str(expr.key[0])
        case Call() if expr.func in _INFIX and len(expr.args) >= 2:
            return f"({show(expr.args[0])} {_INFIX[expr.func]} {show(expr.args[1])})"
        case Call() if expr.func == "cast":
            return f"cast({show(expr.args[0])} as {expr.type.tp.name.lower()})"
        case Call():
            return f"{expr.func}({', '.join(show(a) for a in expr.args)})"
        case Agg():
            inner = ", ".join(show(a) for a in expr.args) or "*"
            return f"{expr.func}({'distinct ' if expr.distinct else ''}{inner})"
        case Window():
            return f"{expr.func}({', '.join(show(a) for a in expr.args)}) over (...)"
        case Subquery():
            return f"<{expr.kind} subquery>"


# Changes


def _explain_change(
    session: Session,
    parsed: parse.Parsed,
    statement: parse.Insert | parse.Update | parse.Delete,
    params: Sequence[object],
    analyze: bool,
) -> list[Line]:
    ctx = bind_context(session, parsed, params)
    change = make_change(session, ctx, statement)
    tell(session, ctx.warnings)
    verb = {parse.Insert: "Insert", parse.Update: "Update", parse.Delete: "Delete"}[type(statement)]
    match change:
        case InsertChange():
            below = None if change.query is None else change.query.plan.root
            lines = [Line(verb, 0, None, "direct", f"table:{change.table.name}", "")]
            if below is not None:
                task = "duckdb" if isinstance(change.query, ResidualQuery) else "direct"
                lines += _lines(below, 1, task, None, _Notes())
        case TableChange():
            notes, scans = _Notes(), change.scans
            if change.ordered is not None:
                scans = [change.ordered.scan]
                notes.reverse[id(scans[0])] = change.ordered.reverse
            lines = [
                Line(verb, 0, None, "direct", f"table:{change.table.name}", ""),
                *(line for scan in scans for line in _lines(scan, 1, "kv", None, notes)),
            ]
        case JoinedChange():
            names = ", ".join(target.table.name for target in change.plan.targets)
            lines = [Line(verb, 0, None, "direct", f"table:{names}", "")]
            lines += _lines(change.query.plan.root, 1, "duckdb", None, _Notes())
    if analyze:
        begun = time.perf_counter()
        result = change.run(session, tuple(params))
        lines[0].actual = (result.affected_rows, time.perf_counter() - begun)
    return lines
