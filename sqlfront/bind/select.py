"""One SELECT, bound in the order it means: FROM, WHERE, GROUP BY, aggregates, HAVING, windows, the select list,
DISTINCT, ORDER BY, LIMIT.

Group columns keep their ids through the aggregation where they are plain columns, so that subqueries above it may go on
referring to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from coprocessor import functions as fn
from coprocessor import types as t
from coprocessor.evaluate import fold
from coprocessor.expr import (
    Agg,
    Call,
    Column,
    Const,
    Context,
    Expr,
    OrderKey,
    Param,
    Subquery,
    Window,
    children,
    columns,
    transform,
    walk,
)
from sqlfront.bind.aggregates import aggregates, computes
from sqlfront.bind.expr import ExprBinder
from sqlfront.bind.messages import position_of, refuse, text_of
from sqlfront.bind.scope import Scope
from sqlfront.errors import (
    ER_BAD_FIELD,
    ER_BAD_TABLE,
    ER_INVALID_GROUP_FUNC_USE,
    ER_WRONG_FIELD_WITH_GROUP,
    DatabaseError,
    error,
    unsupported,
)
from sqlfront.parse import FUNCTION_MARK
from sqlfront.plan.nodes import (
    Aggregate,
    Distinct,
    Filter,
    Join,
    Limit,
    Node,
    PlanColumn,
    Project,
    Scan,
    Sort,
    WindowNode,
    map_exprs,
    plan_of,
    whole_scan,
    with_children,
)

if TYPE_CHECKING:
    from sqlfront.bind.query import QueryBinder


class SelectBinder:
    """One SELECT; see the module's docstring for the order."""

    def __init__(self, queries: QueryBinder, node: exp.Select, scope: Scope) -> None:
        self.queries = queries
        self.ctx = queries.ctx
        self.node = node
        self.scope = scope
        self.groups: list[tuple[Expr, PlanColumn]] = []
        self.aggs: list[tuple[Agg, PlanColumn]] = []
        self.dependent: set[int] = set()
        self.in_having: dict[int, exp.Column] = {}

    def bind(self, item_texts: Sequence[str]) -> Node:
        node = self.node
        plan = self.queries._from(node, self.scope)
        if self.scope.storage is not None:
            self.scope.storage.warn_unmatched()
        where = node.args.get("where")
        if where is not None:
            plan = Filter(plan, tuple(self._binder("where clause").bind_condition(where.this)))
        items = self._items(item_texts)
        having, order = self._having(items), self._order(items)
        group = node.args.get("group")
        used = {a.func for e in (*(e for _, e in items), *having, *(k.expr for k in order)) for a in aggregates(e)}
        within = self.scope.aggregates
        if (
            group is None and used == {"any_value"} and not within
        ):  # which makes no group of the rows: it is each row's value
            items = [(name, transform(e, _as_it_is)) for name, e in items]
            having = [transform(e, _as_it_is) for e in having]
            order = [OrderKey(transform(k.expr, _as_it_is), k.desc) for k in order]
        elif group is not None or used or within:
            plan, items, having, order = self._aggregate(plan, group, items, having, order)
        for expr, column in self.scope.named.items():
            plan = Project(plan, (*plan.cols, column), (*(c.ref() for c in plan.cols), expr))
        if having:
            plan = Filter(plan, tuple(having))
        plan, items, order = self._windows(plan, items, order)
        return self._output(plan, items, order)

    def _binder(self, clause: str, *, aggregates: bool = False, windows: bool = False) -> ExprBinder:
        binder = ExprBinder(self.ctx, self.scope, self.queries)
        binder.clause = clause
        binder.allow_aggregates, binder.allow_windows = aggregates, windows
        if windows:
            binder.windows = {w.name.casefold(): w for w in self.node.args.get("windows") or []}
        return binder

    # Clauses

    def _items(self, item_texts: Sequence[str]) -> list[tuple[str, Expr]]:
        binder = self._binder("field list", aggregates=True, windows=not self.scope.compares_row)
        around = self.scope.parent.parent if self.scope.compares_row and self.scope.parent is not None else None
        if around is not None and around.binder is not None:
            binder.clause = around.binder.clause  # where the row stands
        nodes = self.node.expressions
        if not nodes:
            raise error(1064, "You have an error in your SQL syntax: SELECT lists nothing")
        named: dict[str, Expr | None] = {i.alias.casefold(): None for i in nodes if isinstance(i, exp.Alias)}
        binder.items = named
        texts = item_texts if len(item_texts) == len(nodes) else [""] * len(nodes)
        out: list[tuple[str, Expr]] = []
        for node, text in zip(nodes, texts, strict=True):
            star = self._star(node)
            if star is not None:
                out.extend((c.name, c.ref()) for c in star)
                continue
            expr = binder.bind(node)
            out.append((item_name(node, text), expr))
            if isinstance(node, exp.Alias) and named[node.alias.casefold()] is None:
                named[node.alias.casefold()] = expr
        return out

    def _star(self, node: exp.Expression) -> Sequence[PlanColumn] | None:
        if isinstance(node, exp.Star):
            if any(node.args.values()):
                raise refuse(node)
            columns = self.scope.shown
            if not self.scope.relations:
                raise error(1096, "No tables used")
            if self.ctx.written is not None:
                self.ctx.written.expand(node, self.scope.qualified())
            return columns
        if isinstance(node, exp.Column) and isinstance(node.this, exp.Star):
            table = node.table
            for relation in self.scope.relations:
                if relation.alias.casefold() == table.casefold():
                    if self.ctx.written is not None:
                        self.ctx.written.expand(node, [(*_qualifiers(node), c.name) for c in relation.cols])
                    return relation.cols
            raise error(ER_BAD_TABLE, f"Unknown table '{table}'", position=position_of(node))
        return None

    def _having(self, items: Sequence[tuple[str, Expr]]) -> list[Expr]:
        clause = self.node.args.get("having")
        if clause is None:
            return []
        binder = self._binder("having clause", aggregates=True)
        group = self.node.args.get("group")
        binder.items = _aliases(self.node, items)
        # of an item and a column with one name the column counts where it is grouped by, else the item
        binder.aliases = self._selected_of_several(items) | binder.items
        binder.shared = _shared_names(items)
        for name, found in self._grouped_columns(group).items():
            binder.aliases.pop(name, None)
            if len(found) == 1:  # the name of several is ambiguous
                binder.aliases[name] = found[0]
        self.in_having = binder.named
        return binder.bind_condition(clause.this)

    def _grouped_columns(self, group: exp.Group | None) -> dict[str, list[Column]]:
        """The columns of GROUP BY by their names, which HAVING may use without a qualifier: what FROM has besides of a
        name does not count.
        """
        out: dict[str, list[Column]] = {}
        for node in group.expressions if group else ():
            if not isinstance(node, exp.Column) or isinstance(node.this, exp.Star):
                continue
            if node.table or not self.scope.is_ambiguous(node.name):  # else it is one of the select list
                column = self.scope.local(node.db, node.table, node.name, position_of(node), "group statement")
                if column is not None and column.ref() not in out.setdefault(column.name.casefold(), []):
                    out[column.name.casefold()].append(column.ref())
        return out

    def _selected_of_several(self, items: Sequence[tuple[str, Expr]]) -> dict[str, Expr]:
        """Of the columns that FROM has several of by a name, those that the select list has the only one of."""
        found: dict[str, set[Expr]] = {}
        for name, expr in items:
            if isinstance(expr, Column) and self.scope.is_ambiguous(name):
                found.setdefault(name.casefold(), set()).add(expr)
        return {name: next(iter(exprs)) for name, exprs in found.items() if len(exprs) == 1}

    def _order(self, items: Sequence[tuple[str, Expr]]) -> list[OrderKey]:
        clause = self.node.args.get("order")
        if clause is None:
            return []
        binder = self._binder("order clause", aggregates=True, windows=True)
        binder.aliases = binder.items = _aliases(self.node, items)
        binder.shared = _shared_names(items)
        selected = self._selected_of_several(items)
        keys = []
        for item in clause.expressions:
            expr = self._key(item.this, items, selected, binder, "order clause")
            keys.append(OrderKey(expr, bool(item.args.get("desc"))))
        return keys

    def _key(
        self,
        node: exp.Expression,
        items: Sequence[tuple[str, Expr]],
        selected: Mapping[str, Expr],
        binder: ExprBinder,
        clause: str,
    ) -> Expr:
        """What is grouped or ordered by: an item by its place, a selected column by its name, or any other."""
        index = ordinal(node, len(items), clause)
        if index is not None:
            return items[index][1]
        name = node.name.casefold() if isinstance(node, exp.Column) and not node.table else ""
        if name in binder.shared:
            raise self.scope.ambiguous(node.name, position_of(node), clause)
        of_several = binder.aliases.get(name, selected.get(name)) if name and self.scope.is_ambiguous(name) else None
        return binder.bind(node) if of_several is None else of_several

    # Aggregation

    def _aggregate(
        self,
        plan: Node,
        group: exp.Group | None,
        items: list[tuple[str, Expr]],
        having: list[Expr],
        order: list[OrderKey],
    ) -> tuple[Node, list[tuple[str, Expr]], list[Expr], list[OrderKey]]:
        rollup = False
        if group is not None:
            rollup = self._rollup(group)
            self._bind_groups(group, items)
        # A rollup makes group columns NULL that the input has not: then a plain column needs an id of its own.
        if rollup:
            self.groups = [(e, replace(c, id=self.ctx.new_id(), nullable=True)) for e, c in self.groups]
        self._find_dependent(plan)
        self.aggs.extend(self.scope.aggregates.values())
        new_items = []
        for i, (name, expr) in enumerate(items):
            new_items.append((name, self._lift(expr, f"Expression #{i + 1} of SELECT list", name)))
        new_having = [self._lift(e, "HAVING clause", "") for e in having]
        new_order = [
            OrderKey(self._lift(k.expr, f"Expression #{i + 1} of ORDER BY", ""), k.desc) for i, k in enumerate(order)
        ]
        for expr in list(self.scope.named):
            number = next(i for i, (_, e) in enumerate(items, 1) if e == expr)
            column = self.scope.named.pop(expr)
            self.scope.named[self._lift(expr, f"Expression #{number} of SELECT list", "")] = column
        self._check_grouping(rollup)
        cols = tuple(c for _, c in self.groups) + tuple(c for _, c in self.aggs)
        node = Aggregate(plan, cols, tuple(e for e, _ in self.groups), tuple(a for a, _ in self.aggs), rollup)
        return node, new_items, new_having, new_order

    def _check_grouping(self, rollup: bool) -> None:
        """GROUPING tells totals from groups: it needs WITH ROLLUP, and what is grouped by."""
        grouped = [e for e, _ in self.groups]
        for agg, _ in self.aggs:
            if agg.func != "grouping":
                continue
            if not rollup:
                raise error(ER_INVALID_GROUP_FUNC_USE, "Invalid use of group function")
            for i, arg in enumerate(agg.args):
                if arg not in grouped or isinstance(arg, Const):
                    raise error(3602, f"Argument #{i} of GROUPING function is not in GROUP BY")

    def _rollup(self, group: exp.Group) -> bool:
        rollup = group.args.get("rollup")
        for key in ("cube", "grouping_sets", "totals", "all"):
            if group.args.get(key):
                raise refuse(group)
        return bool(rollup)

    def _bind_groups(self, group: exp.Group, items: list[tuple[str, Expr]]) -> None:
        binder = self._binder("group statement")
        binder.aliases = _aliases(self.node, items)
        binder.shared = _shared_names(items)
        selected = self._selected_of_several(items)
        for node in group.expressions:
            expr = self._key(node, items, selected, binder, "group statement")
            if computes(self.scope, expr):
                raise error(1056, f"Can't group on '{text_of(node)}'", position=position_of(node))
            if any(e == expr for e, _ in self.groups):
                continue
            if isinstance(expr, Column):
                self.groups.append((expr, PlanColumn(expr.id, expr.name, expr.type)))
            else:
                self.groups.append((expr, self.ctx.column("", expr.type)))

    def _find_dependent(self, plan: Node) -> None:
        """Which columns the group columns determine."""
        self.dependent = _determined(plan, {e.id for e, _ in self.groups if isinstance(e, Column)})

    def _lift(self, expr: Expr, where: str, text: str) -> Expr:
        """Rewrites an expression over the input into one over the groups and aggregates."""
        for grouped, col in self.groups:
            if expr in (grouped, fn.precise(grouped)):
                return col.ref()
        match expr:
            case Agg():
                return self._agg_column(expr)
            case Column():
                return self._ungrouped(expr, where)
            case Const() | Param() | Context():
                return expr
            case Subquery():
                args = tuple(self._lift(a, where, text) for a in expr.args)
                for missing in sorted((expr.outer & self.scope.ids()) - {c.id for _, c in (*self.groups, *self.aggs)}):
                    self._keep(missing, where)
                return replace(expr, args=args)
            case Window():
                return _rebuild_window(expr, [self._lift(c, where, text) for c in children(expr)])
            case Call():
                reached = _without_unreached(expr)
                if not isinstance(reached, Call):
                    return reached
                return replace(reached, args=tuple(self._lift(a, where, text) for a in reached.args))
        raise AssertionError(expr)

    def _agg_column(self, agg: Agg) -> Column:
        for known, col in self.aggs:
            if known == agg:
                return col.ref()
        col = self.ctx.column("", agg.type)
        self.aggs.append((agg, col))
        return col.ref()

    def _ungrouped(self, column: Column, where: str) -> Expr:
        """A column that is not grouped: of an outer query, determined by the groups, or an error."""
        if column.id not in self.scope.ids():
            return column
        if column.id not in self.dependent and self.ctx.full_group_by:
            if where == "HAVING clause":
                node = self.in_having.get(column.id)
                outer = node and self.scope.around(node.db, node.table, node.name, position_of(node), "having clause")
                if outer is not None:
                    return outer.ref()
                raise error(ER_BAD_FIELD, f"Unknown column '{column.name}' in 'having clause'")
            raise self._not_grouped(column, where)
        return self._agg_column(fn.resolve_agg("any_value", [column]))

    def _keep(self, id_: int, where: str) -> None:
        """Leaves a column that is not grouped its id above the groups, where a subquery reads it by that."""
        column = next(c for r in self.scope.relations for c in (*r.cols, *r.invisible) if c.id == id_)
        grouped = any(isinstance(e, Column) and e.id == id_ for e, _ in self.groups)
        if grouped:
            raise unsupported("a subquery that reads a column of GROUP BY ... WITH ROLLUP")
        if id_ not in self.dependent and self.ctx.full_group_by:
            raise self._not_grouped(column.ref(), where)
        value = fn.resolve_agg("any_value", [column.ref()])
        self.aggs.append((value, PlanColumn(id_, column.name, column.type)))

    def _not_grouped(self, column: Column, where: str) -> DatabaseError:
        shown = next(
            (
                f"{c.db}.{c.table}.{c.name}".lstrip(".")
                for r in self.scope.relations
                for c in r.cols
                if c.id == column.id
            ),
            column.name,
        )
        if self.groups:
            return error(
                ER_WRONG_FIELD_WITH_GROUP,
                f"{where} is not in GROUP BY clause and contains nonaggregated column '{shown}' "
                "which is not functionally dependent on columns in GROUP BY clause; "
                "this is incompatible with sql_mode=only_full_group_by",
            )
        return error(
            1140,
            f"In aggregated query without GROUP BY, {where[0].lower() + where[1:]} contains nonaggregated column "
            f"'{shown}'; this is incompatible with sql_mode=only_full_group_by",
            sqlstate="42000",
        )

    # Windows and output

    def _windows(
        self, plan: Node, items: list[tuple[str, Expr]], order: list[OrderKey]
    ) -> tuple[Node, list[tuple[str, Expr]], list[OrderKey]]:
        found: dict[Window, PlanColumn] = {}
        for expr in (*(e for _, e in items), *(k.expr for k in order)):
            for part in walk(expr):
                if isinstance(part, Window) and part not in found:
                    found[part] = self.ctx.column("", part.type)
        if not found:
            return plan, items, order
        plan = WindowNode(plan, tuple(found.values()), tuple(found))

        def swap(expr: Expr) -> Expr:
            if isinstance(expr, Window):
                return found[expr].ref()
            if isinstance(expr, (Call, Subquery)):
                return replace(expr, args=tuple(swap(a) for a in expr.args))
            return expr

        items = [(n, swap(e)) for n, e in items]
        return plan, items, [OrderKey(swap(k.expr), k.desc) for k in order]

    def _output(self, plan: Node, items: list[tuple[str, Expr]], order: list[OrderKey]) -> Node:
        nullable = {c.id: c.nullable for c in plan.cols}
        cols: list[PlanColumn] = []
        by_id = {c.id: c for c in plan.cols}
        for name, expr in items:
            null = nullable.get(expr.id, True) if isinstance(expr, Column) else expr.type.tp == t.Tp.NULL or True
            if isinstance(expr, Const):
                null = expr.value is None
            origin = by_id.get(expr.id) if isinstance(expr, Column) else None
            cols.append(PlanColumn(self.ctx.new_id(), name, expr.type, null, origin.table if origin else ""))
        exprs = [e for _, e in items]
        distinct = self.node.args.get("distinct") is not None
        if distinct and self.node.args["distinct"].args.get("on") is not None:
            raise refuse(self.node)
        selected = {e: c.ref() for c, e in zip(cols, exprs, strict=True)} if distinct else None
        keys, hidden = self._order_keys(order, cols, exprs, selected, {c.id for c in plan.cols})
        beside = tuple(c for c, _ in hidden), tuple(e for _, e in hidden)
        out: Node
        if distinct:
            out = Distinct(Project(plan, tuple(cols), tuple(exprs)))
            if hidden:
                out = Project(out, (*cols, *beside[0]), (*(c.ref() for c in cols), *beside[1]))
        else:
            out = Project(plan, (*cols, *beside[0]), (*exprs, *beside[1]))
        if keys:
            out = Sort(out, tuple(keys))
        out = self.queries.limited(out, self.node)
        if hidden:
            final = tuple(replace(c, id=self.ctx.new_id()) for c in cols)
            out = Project(out, final, tuple(c.ref() for c in cols))
        return out

    def _order_keys(
        self,
        order: list[OrderKey],
        cols: list[PlanColumn],
        exprs: list[Expr],
        selected: Mapping[Expr, Column] | None,
        read: set[int],
    ) -> tuple[list[OrderKey], list[tuple[PlanColumn, Expr]]]:
        """Sort keys as columns of the projection; what is not selected becomes a hidden column. With DISTINCT it is
        computed of what DISTINCT gives, `selected`, and of nothing that was read before.
        """
        keys: list[OrderKey] = []
        hidden: list[tuple[PlanColumn, Expr]] = []
        items = {} if selected is None else self._read_by_subqueries(selected)
        for i, key in enumerate(order):
            if isinstance(key.expr, Const):
                continue
            if key.expr in exprs:
                keys.append(OrderKey(cols[exprs.index(key.expr)].ref(), key.desc))
                continue
            expr = key.expr if selected is None else _above(key.expr, selected, items)
            if selected is not None and columns(expr) & read:
                raise error(
                    3065,
                    f"Expression #{i + 1} of ORDER BY clause is not in SELECT list, references column which is "
                    "not in SELECT list; this is incompatible with DISTINCT",
                )
            col = self.ctx.column("", expr.type)
            hidden.append((col, expr))
            keys.append(OrderKey(col.ref(), key.desc))
        return keys, hidden

    def _read_by_subqueries(self, selected: Mapping[Expr, Column]) -> dict[int, Column]:
        """The columns of a select list by the ids under which subqueries read what they are."""
        out: dict[int, Column] = {}
        for expr, column in selected.items():
            if isinstance(expr, Column):
                out[expr.id] = column
            elif expr in self.scope.named:
                out[self.scope.named[expr].id] = column
        return out


def _above(expr: Expr, selected: Mapping[Expr, Column], items: Mapping[int, Column]) -> Expr:
    """An expression over the columns of a select list, where it has parts that are items; `items` are these by the ids
    under which subqueries read them."""
    if expr in selected:
        return selected[expr]
    if isinstance(expr, (Call, Subquery)):
        expr = replace(expr, args=tuple(_above(a, selected, items) for a in expr.args))
    return _reading(expr, items) if isinstance(expr, Subquery) else expr


def _reading(subquery: Subquery, columns: Mapping[int, Column]) -> Subquery:
    """The subquery with other columns in the place of those that it reads of a query around it."""
    if not subquery.outer & columns.keys():
        return subquery

    def instead(expr: Expr) -> Expr:
        match expr:
            case Column():
                return columns.get(expr.id, expr)
            case Subquery():
                return _reading(expr, columns)
        return expr

    def within(node: Node) -> Node:
        return map_exprs(with_children(node, within), lambda e: transform(e, instead))

    outer = frozenset(columns[i].id if i in columns else i for i in subquery.outer)
    return replace(subquery, plan=within(plan_of(subquery)), outer=outer)


def _qualifiers(node: exp.Column) -> tuple[str, ...]:
    return (node.db, node.table) if node.db else (node.table,)


def item_name(node: exp.Expression, text: str = "") -> str:
    """What the column of an item of a select list is called, whose text is known in outermost ones."""
    if isinstance(node, exp.Alias):
        return str(node.alias)
    if isinstance(node, exp.Column):
        return str(node.name)
    if isinstance(node, exp.Literal) and node.is_string:
        return str(node.this)
    if isinstance(node, exp.Anonymous) and str(node.this).lower() == f"{FUNCTION_MARK}name_const" and node.expressions:
        return str(node.expressions[0].name)
    return text or text_of(node)


def _aliases(node: exp.Select, items: Sequence[tuple[str, Expr]]) -> dict[str, Expr]:
    """The names that the select list gives with AS, and the plain columns in it."""
    out: dict[str, Expr] = {}
    position = 0
    for item in node.expressions:
        if isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star)):
            position = -1
            break
        if isinstance(item, exp.Alias):
            key, expr = item.alias.casefold(), items[position][1]
            if isinstance(out.setdefault(key, expr), Column) and not isinstance(expr, Column):
                out[key] = expr
        position += 1
    if position < 0:
        # With a star, positions shift: match the aliases from the names alone.
        aliased = {i.alias.casefold() for i in node.expressions if isinstance(i, exp.Alias)}
        for name, expr in items:
            if name.casefold() in aliased:
                out.setdefault(name.casefold(), expr)
    return out


def _shared_names(items: Sequence[tuple[str, Expr]]) -> frozenset[str]:
    """The names that columns of a select list have which are not the same; an expression before the second of them
    would be what is meant."""
    first: dict[str, Expr] = {}
    shared: set[str] = set()
    for name, expr in items:
        key = name.casefold()
        before = first.setdefault(key, expr)
        if before != expr and isinstance(before, Column):
            if isinstance(expr, Column):
                shared.add(key)
            elif key not in shared:
                first[key] = expr
    return frozenset(shared)


def ordinal(node: exp.Expression, count: int, clause: str) -> int | None:
    """ORDER BY 2: the index it stands for, None when it is no ordinal."""
    if not isinstance(node, exp.Literal) or node.is_string or not node.this.isdigit():
        return None
    index = int(node.this)
    if not 1 <= index <= count:
        raise error(ER_BAD_FIELD, f"Unknown column '{node.this}' in '{clause}'", position=position_of(node))
    return index - 1


def _determined(node: Node, given: set[int], *, weak: bool = False) -> set[int]:
    """The columns of FROM's tables that have one value where those of `given` have: of tables whose primary key (or a
    unique NOT NULL key) is among them, also below derived tables and views.

    With `weak` an outer join may make all columns of the node NULL: what is constant in it is not so above.
    """
    if not weak:
        given = given | _equated(node, given)
    out: set[int] = set()
    for source, outer in _sources(node, weak):
        ids = {c.id for c in source.cols}
        out |= ids & given
        if isinstance(source, Scan):
            out |= ids if _has_key(source, given) else set()
        elif isinstance(source, Aggregate):
            grouped = {c.id for c in source.cols[: len(source.groups)]}
            out |= ids if grouped <= given and not outer else set()
        else:
            renamed = {c.id: e.id for c, e in zip(source.cols, source.exprs, strict=True) if isinstance(e, Column)}
            below = _determined(source.child, {renamed[id_] for id_ in given & renamed.keys()}, weak=outer)
            out |= {id_ for id_, inner in renamed.items() if inner in below}
    return out


def _has_key(scan: Scan, given: set[int]) -> bool:
    by_offset = dict(zip(scan.offsets, scan.cols, strict=True))
    keys = [scan.table.primary_key] if scan.table.primary_key else []
    for index in scan.table.indexes:
        offsets = tuple(c.offset for c in index.columns)
        if index.unique and all(scan.table.columns[o].not_null for o in offsets):
            keys.append(offsets)
    return any(all(o in by_offset and by_offset[o].id in given for o in key) for key in keys)


def _sources(node: Node, weak: bool) -> list[tuple[Scan | Project | Aggregate, bool]]:
    """What gives the columns that reach this node unchanged: scans, derived tables, and what groups them; with whether
    an outer join may make them NULL.
    """
    scan = whole_scan(node)
    if scan is not None:
        return [(scan, weak)]
    match node:
        case Join():
            return _sources(node.left, weak) + _sources(node.right, weak or node.kind != "inner")
        case Filter() | Sort() | Limit() | Distinct():
            return _sources(node.child, weak)
        case Project():
            return [(node, weak)]
        case Aggregate() if node.groups and not node.rollup:
            return [(node, weak)]
        case _:
            return []


def _as_it_is(expr: Expr) -> Expr:
    return expr.args[0] if isinstance(expr, Agg) and expr.func == "any_value" else expr


def _equated(node: Node, grouped: set[int]) -> set[int]:
    """Columns that an inner join or filter makes equal to a group column or to one value."""
    constants: set[int] = set()
    pairs: list[tuple[int, int]] = []
    stack = [node]
    while stack:
        current = stack.pop()
        conds: tuple[Expr, ...] = ()
        if isinstance(current, Filter):
            conds = current.conds
            stack.append(current.child)
        elif isinstance(current, Join):
            conds = current.on if current.kind == "inner" else ()
            stack += [current.left, current.right] if current.kind == "inner" else [current.left]
        for cond in conds:
            if isinstance(cond, Call) and cond.func == "eq":
                a, b = cond.args
                if isinstance(a, Column) and isinstance(b, Column):
                    pairs.append((a.id, b.id))
                elif isinstance(a, Column) and isinstance(b, (Const, Param)):
                    constants.add(a.id)
                elif isinstance(b, Column) and isinstance(a, (Const, Param)):
                    constants.add(b.id)
    out = grouped | constants
    changed = True
    while changed:
        changed = False
        for a_id, b_id in pairs:
            if (a_id in out) != (b_id in out):
                out |= {a_id, b_id}
                changed = True
    return out


def _without_unreached(call: Call) -> Expr:
    """A conditional call without what constants rule out: columns there decide on nothing, grouped or not."""
    if call.func not in ("coalesce", "ifnull", "case", "if"):
        return call
    args = [fold(a) for a in call.args]
    kept: list[Expr] = []
    if call.func in ("coalesce", "ifnull"):
        last = next((i for i, a in enumerate(args) if isinstance(a, Const) and a.value is not None), len(args))
        kept = args[: last + 1]
    else:
        for condition, value in zip(args[::2], args[1::2], strict=False):
            if not isinstance(condition, Const):
                kept += [condition, value]
            elif condition.value:
                kept.append(value)
                break
        else:
            kept += args[-1:] if len(args) % 2 else []
    if len(kept) == len(args):
        return call
    if not kept:
        return Const(None, call.type)
    return replace(call, func="case" if len(kept) > 1 and call.func in ("case", "if") else "coalesce", args=tuple(kept))


def _rebuild_window(window: Window, parts: list[Expr]) -> Window:
    """Puts rewritten children back, in the order `children` gives them."""
    n, p, o = len(window.args), len(window.partition_by), len(window.order_by)
    args, partition, order, rest = parts[:n], parts[n : n + p], parts[n + p : n + p + o], parts[n + p + o :]
    frame = window.frame
    if frame is not None:
        bounds = iter(rest)
        start = (frame.start[0], None if frame.start[1] is None else next(bounds))
        end = (frame.end[0], None if frame.end[1] is None else next(bounds))
        frame = replace(frame, start=start, end=end)
    keys = tuple(OrderKey(e, k.desc) for e, k in zip(order, window.order_by, strict=True))
    return replace(window, args=tuple(args), partition_by=tuple(partition), order_by=keys, frame=frame)
