"""Alternatives over different columns: each is found by its own key, and the rows of all of them are read by theirs.

`a = 1 OR b = 2` scans the table unless keys lead with a and with b. Then the union of the record keys that each of them
gives is read, and the conditions are asked of those rows again.
"""

from __future__ import annotations

from dataclasses import replace

from coprocessor.expr import Call
from sqlfront.plan.access import LOOKUP_COST, ROW_COST, Access, Costs, Estimator, conditions_of, flat, paths
from sqlfront.plan.nodes import Scan

ALTERNATIVES_MAX = 16
"""Alternatives of one condition that are looked at."""


def index_merge(scan: Scan, estimator: Estimator, costs: Costs) -> Access | None:
    """The cheapest union of paths for a condition with alternatives; None where some alternative has no path."""
    if scan.engine == "tiflash":
        return None
    found = [
        _union(scan, cond, estimator, costs) for cond in scan.where if isinstance(cond, Call) and cond.func == "or"
    ]
    return min((f for f in found if f is not None), key=lambda f: f.cost, default=None)


def _union(scan: Scan, cond: Call, estimator: Estimator, costs: Costs) -> Access | None:
    alternatives = list(flat(cond, "or"))
    if len(alternatives) > ALTERNATIVES_MAX:
        return None
    others = tuple(c for c in scan.where if c is not cond)
    parts: list[Access] = []
    for alternative in alternatives:
        one = replace(scan, where=(*flat(alternative, "and"), *others))
        fitting = [p for p in paths(one, conditions_of(one, estimator), estimator, costs) if p.is_bounded]
        if not fitting:
            return None
        # of an index only entries are read here
        entries = [replace(p, cover=p.kind == "index" and not p.point, cost=_cost(p, costs)) for p in fitting]
        parts.append(min(entries, key=lambda p: p.cost))
    rows = sum(p.rows for p in parts)
    cost = sum(p.cost for p in parts) + costs.point + rows * (LOOKUP_COST - ROW_COST)
    return Access("merge", rows=rows, table_rows=parts[0].table_rows, cost=cost, parts=tuple(parts))


def _cost(path: Access, costs: Costs) -> float:
    """What it costs to find the record keys of a path; of a whole primary key that needs no read."""
    if path.point and path.kind == "primary":
        return 0.0
    return (costs.point if path.point else costs.path) + path.rows * ROW_COST
