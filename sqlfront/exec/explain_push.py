"""What EXPLAIN says of a pushed scan: a reader, and under it what the regions do, named as TiDB names it.

A reader is a task of `root`, which is this process; what stands under it is one of `cop[tikv]`, done once a region, or
of `batchCop[tiflash]`, done once a columnar store.
EXPLAIN ANALYZE tells of each executor there how many rows it gave, own writes included, and of the reader how many
requests there were, and what they took.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coprocessor.expr import Const, Expr, OrderKey
from sqlfront.plan.nodes import Aggregate, Scan

if TYPE_CHECKING:
    from sqlfront.exec.pushing import Asked, PushStats

Show = Callable[[Expr], str]
ROOT, COP, BATCH_COP, MPP = "root", "cop[tikv]", "batchCop[tiflash]", "mpp[tiflash]"
_UNITS = ((1 << 20, "MB"), (1 << 10, "KB"))


@dataclass(frozen=True, slots=True)
class PushLine:
    """One line, `depth` levels under the reader's. `rows` is the estimate, `actual` the rows that were counted."""

    name: str
    depth: int
    rows: float
    task: str
    obj: str
    info: str
    actual: int | None = None
    execution: str = ""


@dataclass(frozen=True, slots=True)
class _Executor:
    name: str
    rows: float
    info: str
    obj: str = ""


def reader_lines(node: Scan | Aggregate, names: Sequence[str], show: Show, stats: PushStats | None) -> list[PushLine]:
    """The lines of a pushed scan, or of the store's part of an aggregate; `names` are its table's and its index's."""
    scan = node if isinstance(node, Scan) else node.child
    assert isinstance(scan, Scan)
    assert scan.access is not None
    aggregate = node if isinstance(node, Aggregate) else None
    table, index = names
    if scan.access.kind != "index":
        chain = _chain(scan, aggregate, _Executor(scan.access.name, _scanned(scan), _keys(scan, show), table), show)
        return _reader("TableReader", chain, "", stats, BATCH_COP if scan.access.columnar else COP)
    entries = _Executor("IndexRangeScan" if _is_bounded(scan) else "IndexFullScan", scan.access.rows,
                        _keys(scan, show), f"{table}, {index}")  # fmt: skip
    if scan.access.cover:
        return _reader("IndexReader", _chain(scan, aggregate, entries, show), "", stats)
    build = [entries]
    assert scan.pushed is not None
    if scan.pushed.index_conds:
        build.append(_Executor("Selection", scan.access.rows, ", ".join(map(show, scan.pushed.index_conds))))
    rows = _Executor("TableRowIDScan", scan.access.rows, "keep order:false", table)
    return _lookup(build, _chain(scan, aggregate, rows, show), stats)


def _chain(scan: Scan, aggregate: Aggregate | None, leaf: _Executor, show: Show) -> list[_Executor]:
    """The executors over the scan's rows, leaf first."""
    pushed, access = scan.pushed, scan.access
    assert pushed is not None
    assert access is not None
    chain = [leaf]
    if pushed.conds:
        chain.append(_Executor("Selection", access.rows, ", ".join(map(show, pushed.conds))))
    if aggregate is not None:
        name = "StreamAgg" if aggregate.pushed == "stream" else "HashAgg"
        chain.append(_Executor(name, access.rows if aggregate.groups else 1.0, aggregate_info(aggregate, show)))
    if pushed.count is not None:
        count = show(pushed.count) if pushed.offset is None else f"{show(pushed.count)} + {show(pushed.offset)}"
        rows = min(access.rows, _known(pushed.count) + _known(pushed.offset))
        keys = ", ".join(_key(k, show) for k in pushed.keys)
        name, info = ("TopN", f"{keys}; count: {count}") if keys else ("Limit", f"count: {count}")
        chain.append(_Executor(name, rows, info))
    return chain


def aggregate_info(node: Aggregate, show: Show) -> str:
    """What an aggregate groups by and computes."""
    groups, aggs = (", ".join(map(show, exprs)) for exprs in (node.groups, node.aggs))
    return "; ".join(p for p in (f"group by: {groups}" if groups else "", f"funcs: {aggs}" if aggs else "") if p)


def _known(expr: Expr | None) -> float:
    if expr is None:
        return 0.0
    return float(str(expr.value or 0)) if isinstance(expr, Const) else float("inf")


def _key(key: OrderKey, show: Show) -> str:
    return show(key.expr) + (" desc" if key.desc else "")


def _is_bounded(scan: Scan) -> bool:
    return scan.access is not None and scan.access.is_bounded


def _scanned(scan: Scan) -> float:
    access = scan.access
    assert access is not None
    return access.rows if _is_bounded(scan) else access.table_rows


def _keys(scan: Scan, show: Show) -> str:
    """The ranges of an access path, and whether its order is kept."""
    assert scan.access is not None
    keyed = [show(c) for c in scan.where if c in scan.access.used]
    order = scan.pushed.order if scan.pushed is not None else ""
    parts = [f"range: {', '.join(keyed)}"] if keyed else []
    kept = {"": "keep order:false", "forward": "keep order:true", "reverse": "keep order:true, desc"}
    return "; ".join([*parts, kept[order]])


def _reader(
    name: str, chain: Sequence[_Executor], role: str, stats: PushStats | None, task: str = COP
) -> list[PushLine]:
    asked = None if stats is None else stats.rows
    top = chain[-1]
    execution = "" if asked is None else f"cop_task: {tasks(asked)}"
    actual = _given(asked, len(chain))
    return [
        PushLine(name, 0, top.rows, ROOT, "", f"data:{top.name}", actual, execution),
        *_executors(chain, 1, role, asked, task),
    ]


def _lookup(build: Sequence[_Executor], probe: Sequence[_Executor], stats: PushStats | None) -> list[PushLine]:
    entries, rows = (None, None) if stats is None else (stats.entries, stats.rows)
    execution = ""
    if entries is not None and rows is not None:
        execution = f"index_task: {tasks(entries)}, table_task: {tasks(rows)}"
    return [
        PushLine("IndexLookUp", 0, probe[-1].rows, ROOT, "", "", _given(rows, len(probe)), execution),
        *_executors(build, 1, "(Build)", entries),
        *_executors(probe, 1, "(Probe)", rows),
    ]


def _executors(
    chain: Sequence[_Executor], depth: int, role: str, asked: Asked | None, task: str = COP
) -> list[PushLine]:
    """A chain from its top down; the role stands at the top."""
    out = []
    for i in reversed(range(len(chain))):
        at = chain[i]
        name = at.name + (role if i == len(chain) - 1 else "")
        level = depth + len(chain) - 1 - i
        out.append(PushLine(name, level, at.rows, task, at.obj, at.info, _given(asked, i + 1)))
    return out


def _given(asked: Asked | None, count: int) -> int | None:
    """The rows of the executor `count` from the leaf, as far as servers told."""
    if asked is None:
        return None
    if asked.columnar:
        return None
    return asked.rows[count - 1] if len(asked.rows) >= count else 0


def tasks(asked: Asked) -> str:
    """What the requests of a chain took."""
    if not asked.tasks:
        return "{num: 0}"
    average = asked.seconds / asked.tasks
    return (
        f"{{num: {asked.tasks}, max: {asked.seconds_max * 1e3:.2f}ms, avg: {average * 1e3:.2f}ms, "
        f"bytes: {_size(asked.wire_bytes)}, cache hits: {asked.cache_hits}"
        f"{f', columnar: {asked.columnar}' if asked.columnar else ''}}}"
    )


def _size(size: int) -> str:
    return next((f"{size / unit:.1f} {name}" for unit, name in _UNITS if size >= unit), f"{size} Bytes")
