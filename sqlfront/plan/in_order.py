"""Scans that end early: ORDER BY and LIMIT by a path whose order is theirs, MIN and MAX by the ends of such paths.

What reads all rows of a scan, as DuckDB does, goes by `Scan.access`, and so does who finds out that the estimates were
wrong. Beside it a scan gets a second path here where that costs less: one which gives the rows in the wanted order, so
that it can be left as soon as there are enough of them.
"""

from __future__ import annotations

from dataclasses import replace

from coprocessor.expr import Call, Column, Const, Expr
from coprocessor.types import BOOL, Tp
from sqlfront.plan.access import (
    LOCAL,
    ROW_COST,
    SORT_ROW_COST,
    Access,
    Costs,
    Estimator,
    choose_access,
    conditions_of,
    cost_of,
    cost_of_all,
    costs_of,
    paths,
    whole_table,
)
from sqlfront.plan.nodes import Aggregate, Filter, Limit, Node, Ordered, Project, Scan, Sort, with_children
from sqlfront.plan.path_order import Keys, direction, wanted_keys
from sqlfront.plan.rules.push_filters import substitute

EXPECTED_ROWS_MAX = 2000.0
"""Rows of a path that are expected to be read, beyond which DuckDB reads all of them in less time."""
READ_ROWS_MIN, READ_ROWS_MAX = 5000.0, 100_000.0
"""So many rows are read whatever the other path costs, and not more: the last take about a second."""
LATE = 2.0
"""How many times more rows than expected a path with conditions on the way is charged for: those that pass need not lie
evenly along it."""
COUNT_GUESS = 100.0
"""The rows that a LIMIT is thought to take which only its parameter tells."""


def sorted_scan(node: Sort, estimator: Estimator, costs: Costs) -> Node:
    """The Sort over its scan by the path that costs least with the order in mind."""
    below, scan = _chain(node.child)
    keys = None if scan is None else wanted_keys(node, below, scan)
    if scan is None or keys is None or scan.access is None or scan.access.kind in ("scan", "merge"):
        return node
    table = scan.table
    access = choose_access(
        scan, estimator, costs_of(scan, costs), lambda path: direction(path, table, keys) is not None
    )
    return node if access == scan.access else _with_scan(node, replace(scan, access=access))


def limited_scan(node: Limit, estimator: Estimator, costs: Costs) -> Node:
    """The LIMIT over its scan, with a second path where the order that is wanted and the LIMIT make one cheaper."""
    if node.count is None:
        return node
    below = _under_projections(node.child)
    under, scan = _chain(below.child if isinstance(below, Sort) else below)
    if scan is None:
        return node
    costs = costs_of(scan, costs)
    keys = wanted_keys(below, under, scan) if isinstance(below, Sort) else ()
    if keys is None or (not keys and costs.by_requests):
        return node  # a store cuts rows in any order as it scans them
    found = ordered(scan, keys, expected_count(node.count, node.offset), estimator, costs)
    return node if found is None else _with_scan(node, replace(scan, in_order=found))


def by_ends(node: Aggregate, estimator: Estimator, costs: Costs) -> Aggregate:
    """MIN and MAX over one table, with the ends of paths that tell them where those cost less than all rows."""
    below, scan = _chain(node.child)
    if scan is None or scan.access is None or node.groups or any(isinstance(n, Filter) for n in below):
        return node
    columns: dict[tuple[int, bool], Column] = {}
    names: dict[int, Expr] = {}
    for project in reversed(below):
        assert isinstance(project, Project)
        here = zip(project.cols, project.exprs, strict=True)
        names |= {c.id: substitute(e, names) for c, e in here}
    for agg in node.aggs:
        column = substitute(agg.args[0], names) if agg.func in ("min", "max") else None
        if not isinstance(column, Column) or not _sorted_alike(column):
            return node
        columns[(column.id, agg.func == "max")] = column
    ends = []
    for (_, desc), column in columns.items():
        end = _end(scan, column, desc, estimator, costs)
        if end is None:
            return node
        ends.append(end)
    cost = sum(end.scan.access.cost for end in ends if end.scan.access is not None)
    return replace(node, ends=tuple(ends)) if ends and cost < cost_of_all(scan.access) else node


def _end(scan: Scan, column: Column, desc: bool, estimator: Estimator, costs: Costs) -> Ordered | None:
    """The scan of which the first row has the least or greatest value of a column."""
    at = next((i for i, c in enumerate(scan.cols) if c.id == column.id), None)
    if at is None:
        return None
    if not desc and scan.cols[at].nullable:
        no_null = Call("not", (Call("isnull", (column,), BOOL),), BOOL)
        scan = replace(scan, where=(*scan.where, no_null))
    return ordered(scan, ((scan.offsets[at], desc),), 1.0, estimator, costs_of(scan, costs))


def _sorted_alike(column: Column) -> bool:
    """Whether the aggregate and the key agree on the order: ENUM's keys are numbers, its MAX is a string's."""
    return column.type.tp not in (Tp.ENUM, Tp.SET, Tp.JSON, Tp.BIT)


def ordered(scan: Scan, keys: Keys, wanted: float, estimator: Estimator, costs: Costs = LOCAL) -> Ordered | None:
    """The cheapest path to the first `wanted` rows in an order that passes the conditions; None where to read all of
    them costs less."""
    access = scan.access
    if access is None or scan.engine == "tiflash":
        return None
    found = conditions_of(scan, estimator)
    candidates = paths(scan, found, estimator, costs, whole_indexes=True)
    if not scan.use_index and "primary" not in scan.ignore_index:
        candidates.insert(0, whole_table(scan, found, costs))
    best: Access | None = None
    way = ""
    for path in candidates:
        read = path.table_rows if path.kind == "scan" else path.rows
        share = max(1.0, read / found.passing)
        expected = min(read, max(1.0, wanted * share))
        given = direction(path, scan.table, keys)
        if given is None or expected > EXPECTED_ROWS_MAX:
            continue
        charged = expected if share < LATE else min(read, expected * LATE)
        path = replace(path, rows=expected, cost=_cost(path, charged, costs))
        if best is None or path.cost < best.cost:
            best, way = path, given
    all_rows = cost_of_all(access) + (found.passing * SORT_ROW_COST if keys else 0.0)
    if best is None or best.cost >= all_rows:
        return None
    each = _cost(best, 1.0, costs) - _cost(best, 0.0, costs)
    rows_max = min(max(READ_ROWS_MIN, all_rows / each), READ_ROWS_MAX)
    return Ordered(replace(scan, access=best), way == "reverse", best.rows, rows_max)


def _cost(path: Access, rows: float, costs: Costs) -> float:
    """What it costs to read so many rows until there are enough: records one by one, where they are read here."""
    if path.kind == "index" or costs.by_requests:
        return cost_of(path, rows, costs)
    return costs.path + rows * ROW_COST


def expected_count(*exprs: Expr | None) -> float:
    """The rows that a LIMIT and an OFFSET are thought to name together."""
    return sum(float(str(e.value or 0)) if isinstance(e, Const) else COUNT_GUESS for e in exprs if e is not None)


def _under_projections(node: Node) -> Node:
    """What stands under projections and filters."""
    while isinstance(node, (Project, Filter)):
        node = node.child
    return node


def _chain(node: Node) -> tuple[list[Project | Filter], Scan | None]:
    """The projections and filters over a scan, and that scan; None where anything else is there."""
    chain: list[Project | Filter] = []
    while isinstance(node, (Project, Filter)):
        chain.append(node)
        node = node.child
    return chain, node if isinstance(node, Scan) else None


def _with_scan(node: Node, scan: Scan) -> Node:
    return scan if isinstance(node, Scan) else with_children(node, lambda child: _with_scan(child, scan))
