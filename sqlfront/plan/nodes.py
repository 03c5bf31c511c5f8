"""Relational plan nodes: an immutable tree whose columns are known by statement-wide ids.

The binder makes the tree, the rules rewrite it, `access.py` gives each `Scan` its access path; the executors read it.
Run state (snapshots, parameter values, counters) is never in it, so a plan is cached and shared by all executions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from coprocessor.expr import Agg, Column, Const, Expr, OrderKey, Subquery, Window, columns
from coprocessor.schema import HANDLE_OFFSET as HANDLE_OFFSET
from coprocessor.types import FieldType

if TYPE_CHECKING:
    from sqlfront.catalog.model import Table
    from sqlfront.plan.access import Access
    from sqlfront.plan.partitions import Partitioning

_T = TypeVar("_T")

NO_INDEX = ""
"""Among the indexes that a scan may use it leaves only the whole table."""


@dataclass(frozen=True, slots=True)
class PlanColumn:
    """An output column of a node. `table` and `db` are the names it can be qualified with; `origin` the base
    column's name.
    """

    id: int
    name: str
    type: FieldType
    nullable: bool = True
    table: str = ""
    db: str = ""

    def ref(self) -> Column:
        return Column(self.id, self.type, self.name)


@dataclass(frozen=True, slots=True)
class Pushed:
    """What the store does beside the data for a scan, before its rows come over the wire.

    `index_conds` filter the entries of an index before their rows are fetched, `conds` the rows themselves. With `keys`
    every region gives its first `count` + `offset` rows in that order, else any so many of them, or the first in the
    order of the access path where `order` is "forward" or "reverse"; no `count` leaves them all. What is above the scan
    cuts the rows of all regions again.
    """

    conds: tuple[Expr, ...] = ()
    index_conds: tuple[Expr, ...] = ()
    keys: tuple[OrderKey, ...] = ()
    count: Expr | None = None
    offset: Expr | None = None
    order: str = ""


@dataclass(frozen=True, slots=True)
class Scan:
    """Rows of a stored table. `offsets[i]` is the table column of `cols[i]`, HANDLE_OFFSET the hidden row id.

    `where` holds the conjuncts over this table alone; they filter whatever the access path delivers. `engine` is where
    it must read: "tikv" the rows, "tiflash" the columnar replica, "" leaves it to the planner. `pushed` is what
    the store does of it (`plan/push_down.py`); None where the store is in this process.
    """

    table: Table
    alias: str
    cols: tuple[PlanColumn, ...]
    offsets: tuple[int, ...]
    where: tuple[Expr, ...] = ()
    access: Access | None = None
    use_index: tuple[str, ...] = ()
    ignore_index: tuple[str, ...] = ()
    engine: str = ""
    pushed: Pushed | None = None
    partitions: Partitioning | None = None
    """Of a partitioned table: how its rows are spread. Such a scan becomes scans of partitions (`Parts`)."""
    named: tuple[str, ...] = ()
    """The partitions that alone are to be read, where the query names some."""
    number: int = -1
    """Which partition it reads; -1 for all of them."""
    virtual: tuple[tuple[int, Expr], ...] = ()
    """The virtual columns that indexes have, by offset, and what they are of `cols`: conditions may name that. Hidden
    ones are among the `cols` as nobody's, and read as NULL there."""
    in_order: Ordered | None = None
    """The same rows by another path, for who stops early as the LIMIT above does; who reads all goes by `access`."""

    @property
    def left(self) -> tuple[Expr, ...]:
        """The conditions that whoever reads the scan has to apply: all but the pushed ones."""
        if self.pushed is None:
            return self.where
        below = self.pushed.conds + self.pushed.index_conds
        return tuple(c for c in self.where if c not in below)


@dataclass(frozen=True, slots=True)
class Ordered:
    """A scan whose path gives its rows in the order that is wanted of them, backwards if `reverse`.

    It is read until enough rows have passed the conditions, `expected` of the path if the estimates hold. Beyond
    `rows_max` of them to read all rows by the other path would have cost less.
    """

    scan: Scan
    reverse: bool
    expected: float
    rows_max: float


@dataclass(frozen=True, slots=True)
class Parts:
    """The rows of several partitions of a table, in no order; the scans have the same columns."""

    scans: tuple[Scan, ...]

    @property
    def cols(self) -> tuple[PlanColumn, ...]:
        return self.scans[0].cols


@dataclass(frozen=True, slots=True)
class Virtual:
    """Rows that no table stores: information_schema, or an Arrow table the user registered (`source` says which)."""

    name: str
    cols: tuple[PlanColumn, ...]
    source: tuple[str, str]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Values:
    """Literal rows; `rows` empty columns and one row is what SELECT without FROM reads."""

    cols: tuple[PlanColumn, ...]
    rows: tuple[tuple[Expr, ...], ...]


@dataclass(frozen=True, slots=True)
class TextRows:
    """A row for each piece of a text, of one column: what JSON_TABLE is made of. None where the text is NULL."""

    cols: tuple[PlanColumn, ...]
    text: Expr


@dataclass(frozen=True, slots=True)
class Filter:
    child: Node
    conds: tuple[Expr, ...]

    @property
    def cols(self) -> tuple[PlanColumn, ...]:
        return self.child.cols


@dataclass(frozen=True, slots=True)
class Project:
    child: Node
    cols: tuple[PlanColumn, ...]
    exprs: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Join:
    """`kind`: inner, left, full is refused; a right join is a left join with its sides exchanged."""

    kind: str
    left: Node
    right: Node
    on: tuple[Expr, ...]
    lateral: bool = False

    @property
    def cols(self) -> tuple[PlanColumn, ...]:
        if self.kind == "left":
            right = tuple(replace(c, nullable=True) for c in self.right.cols)
            return self.left.cols + right
        return self.left.cols + self.right.cols


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Groups by `groups` (one group over everything when empty); `cols` are the group columns, then the aggregates.

    `pushed` is "hash" or "stream" where every region aggregates its part of the scan below, by groups as they come or
    in the order of the access path, and the parts are merged here. The first rows of `ends`, scans like the one below,
    are enough for aggregates that are MIN and MAX.
    """

    child: Node
    cols: tuple[PlanColumn, ...]
    groups: tuple[Expr, ...]
    aggs: tuple[Agg, ...]
    rollup: bool = False
    pushed: str = ""
    ends: tuple[Ordered, ...] = ()


@dataclass(frozen=True, slots=True)
class WindowNode:
    """Adds a column for each window call to the child's columns."""

    child: Node
    added: tuple[PlanColumn, ...]
    windows: tuple[Window, ...]

    @property
    def cols(self) -> tuple[PlanColumn, ...]:
        return self.child.cols + self.added


@dataclass(frozen=True, slots=True)
class Distinct:
    child: Node

    @property
    def cols(self) -> tuple[PlanColumn, ...]:
        return self.child.cols


@dataclass(frozen=True, slots=True)
class Sort:
    child: Node
    keys: tuple[OrderKey, ...]

    @property
    def cols(self) -> tuple[PlanColumn, ...]:
        return self.child.cols


@dataclass(frozen=True, slots=True)
class Limit:
    """`count` and `offset` are constants or parameters; None is no limit."""

    child: Node
    count: Expr | None
    offset: Expr | None

    @property
    def cols(self) -> tuple[PlanColumn, ...]:
        return self.child.cols


@dataclass(frozen=True, slots=True)
class SetOp:
    """UNION, EXCEPT, INTERSECT over inputs already cast to the types of `cols`."""

    kind: str
    distinct: bool
    left: Node
    right: Node
    cols: tuple[PlanColumn, ...]


@dataclass(frozen=True, slots=True)
class CteRef:
    """Reads a common table expression; `source_cols` are the ids of the definition's columns, in the order of
    `cols`.
    """

    cte_id: int
    name: str
    cols: tuple[PlanColumn, ...]


@dataclass(frozen=True, slots=True)
class Cte:
    """A definition; a recursive one is `plan` UNION [ALL] `step`, which reads it by CteRef.

    A recursive one ends early once it has `enough` rows (a constant or an expression over parameters).
    """

    id: int
    name: str
    cols: tuple[PlanColumn, ...]
    plan: Node
    step: Node | None = None
    distinct: bool = False
    enough: Expr | None = None


@dataclass(frozen=True, slots=True)
class With:
    ctes: tuple[Cte, ...]
    child: Node

    @property
    def cols(self) -> tuple[PlanColumn, ...]:
        return self.child.cols


Node: TypeAlias = (
    Scan
    | Parts
    | Virtual
    | Values
    | TextRows
    | Filter
    | Project
    | Join
    | Aggregate
    | WindowNode
    | Distinct
    | Sort
    | Limit
    | SetOp
    | CteRef
    | With
)


@dataclass(frozen=True, slots=True)
class Lock:
    """FOR UPDATE or FOR SHARE: `wait` is "", "nowait" or "skip locked"; `tables` the aliases it is for, empty for
    all.
    """

    wait: str = ""
    tables: tuple[str, ...] = ()
    share: bool = False


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """A whole query: its tree, the columns the user sees, and what it must lock."""

    root: Node
    names: tuple[str, ...]
    lock: Lock | None = None
    tables: tuple[Table, ...] = field(default=())


def whole_scan(node: Node) -> Scan | None:
    """The scan of a stored table that a node of FROM is, its virtual columns among the others; None for any other
    node."""
    if isinstance(node, Scan):
        return node
    if not isinstance(node, Project) or not isinstance(node.child, Scan):
        return None
    table, stored = node.child.table, node.child.cols
    if not table.shows_virtual or not {c.id for c in stored} <= {c.id for c in node.cols}:
        return None
    offsets = (*(c.offset for c in table.columns), HANDLE_OFFSET)
    return replace(node.child, cols=node.cols, offsets=offsets[: len(node.cols)])


def node_children(node: Node) -> tuple[Node, ...]:
    """Returns the input nodes."""
    match node:
        case Join() | SetOp():
            return (node.left, node.right)
        case Parts():
            return node.scans
        case With():
            out = [node.child]
            for cte in node.ctes:
                out.append(cte.plan)
                if cte.step is not None:
                    out.append(cte.step)
            return tuple(out)
        case Scan() | Virtual() | Values() | TextRows() | CteRef():
            return ()
        case _:
            return (node.child,)


def with_children(node: Node, fn: Callable[[Node], Node]) -> Node:
    """Rebuilds a node with `fn` applied to its inputs; the same node when none changed."""
    match node:
        case Join() | SetOp():
            left, right = fn(node.left), fn(node.right)
            return node if left is node.left and right is node.right else replace(node, left=left, right=right)
        case Parts():
            return Parts(tuple(_same(fn(scan), Scan) for scan in node.scans))
        case With():
            return replace(node, ctes=map_ctes(node, fn), child=fn(node.child))
        case Scan() | Virtual() | Values() | TextRows() | CteRef():
            return node
        case _:
            child = fn(node.child)
            return node if child is node.child else replace(node, child=child)


def map_ctes(node: With, fn: Callable[[Node], Node]) -> tuple[Cte, ...]:
    """Returns the definitions with `fn` applied to their plans."""
    return tuple(replace(c, plan=fn(c.plan), step=None if c.step is None else fn(c.step)) for c in node.ctes)


def node_exprs(node: Node) -> tuple[Expr, ...]:
    """Returns the expressions of this node alone."""
    match node:
        case Scan():
            return node.where
        case Filter():
            return node.conds
        case Project():
            return node.exprs
        case Join():
            return node.on
        case Aggregate():
            return node.groups + node.aggs
        case WindowNode():
            return node.windows
        case Sort():
            return tuple(k.expr for k in node.keys)
        case Limit():
            return tuple(e for e in (node.count, node.offset) if e is not None)
        case Values():
            return tuple(e for row in node.rows for e in row)
        case TextRows():
            return (node.text,)
        case _:
            return ()


def columns_read(node: Node) -> set[int]:
    """What a tree reads anywhere, by id: of a LATERAL one some are the columns of what stands before it."""
    return set().union(*map(columns, node_exprs(node)), *map(columns_read, node_children(node)))


def map_exprs(node: Node, fn: Callable[[Expr], Expr]) -> Node:
    """Rebuilds a node with `fn` applied to each of its expressions."""
    match node:
        case Scan():
            if not node.where and not node.virtual:
                return node
            virtual = tuple((offset, fn(e)) for offset, e in node.virtual)
            return replace(node, where=tuple(fn(e) for e in node.where), virtual=virtual)
        case Filter():
            return replace(node, conds=tuple(fn(e) for e in node.conds))
        case Project():
            return replace(node, exprs=tuple(fn(e) for e in node.exprs))
        case Join():
            return replace(node, on=tuple(fn(e) for e in node.on)) if node.on else node
        case Aggregate():
            return replace(
                node,
                groups=tuple(fn(e) for e in node.groups),
                aggs=tuple(_same(fn(a), Agg) for a in node.aggs),
            )
        case WindowNode():
            return replace(node, windows=tuple(_same(fn(w), Window) for w in node.windows))
        case Sort():
            return replace(node, keys=tuple(OrderKey(fn(k.expr), k.desc) for k in node.keys))
        case Values():
            return replace(node, rows=tuple(tuple(fn(e) for e in row) for row in node.rows)) if node.cols else node
        case TextRows():
            return replace(node, text=fn(node.text))
        case _:
            return node


def _same(found: Expr | Node, kind: type[_T]) -> _T:
    assert isinstance(found, kind), found
    return found


def walk_nodes(node: Node) -> Iterator[Node]:
    """Yields the node and everything below it, subqueries inside expressions not included."""
    yield node
    for child in node_children(node):
        yield from walk_nodes(child)


def plan_of(expr: Subquery) -> Node:
    """The plan of a subquery, which is opaque to the coprocessor."""
    return expr.plan  # type: ignore[return-value]


ONE_ROW = Values((), ((),))


def is_true(expr: Expr) -> bool:
    """Whether an expression is a number other than zero; text is true by the number that it begins with, not here."""
    return isinstance(expr, Const) and expr.type.is_numeric and expr.value not in (None, 0, False)
