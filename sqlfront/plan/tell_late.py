"""Above a LIMIT: what may tell something of its values and is only selected, for a statement that stores its rows.

DuckDB computes a select list for all rows before it sorts and cuts them. What a row that is cut would have told must
not be an error, so such expressions are computed of the rows that are left.
"""

from __future__ import annotations

from dataclasses import replace

from coprocessor.expr import columns
from coprocessor.functions.telling import tells
from sqlfront.plan.nodes import Limit, Node, Project, Sort, with_children


def tell_late(node: Node) -> Node:
    """Returns the plan with such expressions moved up; subqueries inside expressions stay as they are."""
    node = with_children(node, tell_late)
    if not isinstance(node, Limit):
        return node
    sort = node.child if isinstance(node.child, Sort) else None
    project = node.child if sort is None else sort.child
    if not isinstance(project, Project):
        return node
    ordered = set() if sort is None else {i for key in sort.keys for i in columns(key.expr)}
    pairs = list(zip(project.cols, project.exprs, strict=True))
    late = {c.id for c, e in pairs if c.id not in ordered and tells(e)}
    if not late:
        return node
    read = {i for c, e in pairs if c.id in late for i in columns(e)}
    through = [c for c in project.child.cols if c.id in read]
    early = [(c, e) for c, e in pairs if c.id not in late and all(c.id != t.id for t in through)]
    cols = (*(c for c, _ in early), *through)
    below: Node = Project(project.child, cols, (*(e for _, e in early), *(c.ref() for c in through)))
    if sort is not None:
        below = replace(sort, child=below)
    exprs = tuple(e if c.id in late else c.ref() for c, e in pairs)
    return Project(replace(node, child=below), project.cols, exprs)
