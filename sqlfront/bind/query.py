"""Queries: SELECT, set operations, VALUES and common table expressions to plan nodes.

A SELECT is bound in the order it means: FROM, WHERE, GROUP BY, aggregates, HAVING, windows, the select list, DISTINCT,
ORDER BY, LIMIT. Group columns keep their ids through the aggregation where they are plain columns, so that subqueries
above it may go on referring to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from coprocessor import functions as fn
from coprocessor import types as t
from coprocessor.expr import (
    Agg,
    Call,
    Column,
    Const,
    Context,
    Expr,
    Frame,
    OrderKey,
    Param,
    Subquery,
    Window,
    children,
    walk,
)
from sqlfront.bind.expr import ExprBinder, has_aggregate, position_of, refuse, text_of
from sqlfront.bind.scope import BindContext, Relation, Scope
from sqlfront.errors import (
    ER_BAD_FIELD,
    ER_BAD_TABLE,
    ER_WRONG_FIELD_WITH_GROUP,
    DatabaseError,
    error,
)
from sqlfront.plan.nodes import (
    HANDLE_OFFSET,
    ONE_ROW,
    Aggregate,
    Cte,
    CteRef,
    Distinct,
    Filter,
    Join,
    Limit,
    Lock,
    Node,
    PlanColumn,
    Project,
    QueryPlan,
    Scan,
    SetOp,
    Sort,
    Values,
    Virtual,
    WindowNode,
    With,
)

_SELECT_ARGS = frozenset({"expressions", "from_", "joins", "where", "group", "having", "order", "limit", "offset",
"distinct",
                          "with_", "windows", "locks", "hint", "kind", "operation_modifiers", "laterals"})  # fmt: skip


class QueryBinder:
    """Binds queries of one statement."""

    def __init__(self, ctx: BindContext) -> None:
        self.ctx = ctx

    def bind(self, ast: exp.Expression, item_texts: Sequence[str] = ()) -> QueryPlan:
        """Binds a whole query; `item_texts` name the columns of its outermost select list."""
        root = self.query(ast, None, item_texts)
        lock = self._lock(ast)
        return QueryPlan(root, tuple(c.name for c in root.cols), lock, tuple(self.ctx.tables.values()))

    def subquery(self, node: exp.Expression, parent: Scope) -> tuple[Node, set[int]]:
        """Binds a subquery inside an expression; returns its plan and the outer column ids it refers to."""
        scope = Scope(parent)
        plan = self.query(node, scope)
        parent_ids = {c.id for r in parent.relations for c in (*r.cols, *r.invisible)}
        parent.outer |= scope.outer - parent_ids
        return plan, scope.outer

    def query(self, node: exp.Expression, scope: Scope | None, item_texts: Sequence[str] = ()) -> Node:
        """Binds SELECT, a set operation, VALUES or a parenthesised one. `scope` is the (empty) scope around it."""
        around = scope if scope is not None else Scope()
        definitions = self._with(node, around)
        match node:
            case exp.Subquery() | exp.Paren():
                inner = self.query(node.this, around, item_texts)
                plan = self._ordered(inner, node, Scope(around))
            case exp.Select():
                plan = self._select(node, around, item_texts)
            case exp.SetOperation():
                plan = self._set_operation(node, around, item_texts)
            case exp.Values():
                plan = self._ordered(self._values(node, around), node, Scope(around))
            case exp.Table():
                star = exp.Select(expressions=[exp.Star()])
                star.set("from_", exp.From(this=node.copy()))
                plan = self._select(star, around, ())
            case _:
                raise refuse(node)
        return With(definitions, plan) if definitions else plan

    # Common table expressions

    def _with(self, node: exp.Expression, scope: Scope) -> tuple[Cte, ...]:
        clause = node.args.get("with_")
        if clause is None:
            return ()
        out: list[Cte] = []
        names: set[str] = set()
        for item in clause.expressions:
            name = item.alias
            if name.casefold() in names:
                raise error(1066, f"Not unique table/alias: '{name}'", position=position_of(item))
            names.add(name.casefold())
            columns = [c.name for c in (item.args["alias"].args.get("columns") or [])]
            recursive = bool(clause.args.get("recursive")) and _reads(item.this, name)
            cte = (
                self._recursive(item, name, columns, scope)
                if recursive
                else self._plain_cte(item, name, columns, scope)
            )
            scope.ctes[name.casefold()] = cte
            out.append(cte)
        return tuple(out)

    def _plain_cte(self, item: exp.CTE, name: str, columns: Sequence[str], scope: Scope) -> Cte:
        inner = Scope(scope)
        plan = self.query(item.this, inner)
        scope.outer |= inner.outer
        self.ctx.next_cte += 1
        return Cte(self.ctx.next_cte, name, _renamed(plan.cols, columns, position_of(item)), plan)

    def _recursive(self, item: exp.CTE, name: str, columns: Sequence[str], scope: Scope) -> Cte:
        union = item.this
        if not isinstance(union, exp.Union) or _reads(union.left, name):
            raise error(
                3573, f"Recursive Common Table Expression '{name}' should contain a UNION", position=position_of(item)
            )
        seed = self.query(union.left, Scope(scope))
        self.ctx.next_cte += 1
        cte_id = self.ctx.next_cte
        # What the seed calls a short string or a small integer may grow: MySQL widens nothing, but strings need room.
        types = [c.type if not c.type.is_text else c.type.with_(flen=t.UNSPECIFIED) for c in seed.cols]
        wide = [replace(c, type=ty) for c, ty in zip(seed.cols, types, strict=True)]
        cols = tuple(
            replace(c, id=self.ctx.new_id(), nullable=True) for c in _renamed(tuple(wide), columns, position_of(item))
        )
        inner = Scope(scope)
        inner.ctes[name.casefold()] = Cte(cte_id, name, cols, seed)
        step = self.query(union.right, inner)
        if len(step.cols) != len(cols):
            raise error(
                1222, "The used SELECT statements have a different number of columns", position=position_of(item)
            )
        return Cte(
            cte_id, name, cols, self._cast_all(seed, cols), self._cast_all(step, cols), bool(union.args["distinct"])
        )

    def _cast_all(self, plan: Node, cols: Sequence[PlanColumn]) -> Node:
        """Projects a plan to the types of `cols`."""
        exprs = tuple(fn.cast_to(c.ref(), w.type) for c, w in zip(plan.cols, cols, strict=True))
        if all(isinstance(e, Column) for e in exprs):
            return plan
        out = tuple(PlanColumn(self.ctx.new_id(), w.name, w.type) for w in cols)
        return Project(plan, out, exprs)

    # Set operations

    def _set_operation(self, node: exp.SetOperation, scope: Scope, item_texts: Sequence[str]) -> Node:
        # Chains of UNION are left-deep: unrolled, so that a thousand branches need no thousand frames.
        chain: list[exp.SetOperation] = []
        current: exp.Expression = node
        while isinstance(current, exp.SetOperation) and not (current is not node and _has_tail(current)):
            chain.append(current)
            current = current.left
        plan = self.query(current, Scope(scope) if scope.parent is None else _sibling(scope), item_texts)
        for op in reversed(chain):
            right = self.query(op.right, _sibling(scope))
            plan = self._combine(op, plan, right)
        return self._ordered(plan, node, Scope(scope))

    def _combine(self, node: exp.SetOperation, left: Node, right: Node) -> Node:
        if len(left.cols) != len(right.cols):
            raise error(
                1222, "The used SELECT statements have a different number of columns", position=position_of(node)
            )
        kind = {exp.Union: "union", exp.Except: "except", exp.Intersect: "intersect"}[type(node)]
        cols = tuple(
            PlanColumn(self.ctx.new_id(), a.name, fn.unify([a.type, b.type]), a.nullable or b.nullable)
            for a, b in zip(left.cols, right.cols, strict=True)
        )
        distinct = node.args.get("distinct") is not False
        return SetOp(kind, distinct, self._cast_all(left, cols), self._cast_all(right, cols), cols)

    def _values(self, node: exp.Values, scope: Scope) -> Node:
        binder = ExprBinder(self.ctx, scope, self)
        rows: list[list[Expr]] = []
        for item in node.expressions:
            items = item.expressions if isinstance(item, exp.Tuple) else [item]
            if len(items) == 1 and isinstance(items[0], exp.Anonymous) and str(items[0].this).lower() == "row":
                items = items[0].expressions
            rows.append(binder.bind_all(items))
        width = len(rows[0])
        if any(len(r) != width for r in rows):
            raise error(1136, "Column count doesn't match value count at row 1", position=position_of(node))
        types = [fn.unify([r[i].type for r in rows]) for i in range(width)]
        cols = tuple(self.ctx.column(f"column_{i}", ty) for i, ty in enumerate(types))
        cast = tuple(tuple(fn.cast_to(e, ty) for e, ty in zip(r, types, strict=True)) for r in rows)
        return Values(cols, cast)

    # FROM

    def _from(self, node: exp.Select, scope: Scope) -> Node:
        clause = node.args.get("from_")
        if clause is None:
            return ONE_ROW
        if isinstance(clause.this, exp.Table) and clause.this.name.lower() == "dual" and not node.args.get("joins"):
            return ONE_ROW
        plan = self.table_item(clause.this, scope)
        for join in node.args.get("joins") or []:
            plan = self._join(plan, join, scope)
        for lateral in node.args.get("laterals") or []:
            raise refuse(lateral)
        return plan

    def table_item(self, node: exp.Expression, scope: Scope) -> Node:
        """Binds one item of a FROM clause (with the joins that hang on it) and puts its relations into scope."""
        match node:
            case exp.Table():
                plan = self._table(node, scope)
            case exp.Subquery() if isinstance(node.this, exp.Query):
                plan = self._derived(node, node.this, scope)
            case exp.Values():
                plan = self._derived(node, node, scope)
            case exp.Subquery() | exp.Paren():
                plan = self.table_item(node.this, scope)
            case exp.Lateral():
                plan = self._lateral(node, scope)
            case exp.Tuple():
                plan = self.table_item(node.expressions[0], scope)
                for item in node.expressions[1:]:
                    plan = Join("inner", plan, self.table_item(item, scope), ())
            case _:
                raise refuse(node)
        for join in node.args.get("joins") or []:
            plan = self._join(plan, join, scope)
        return plan

    def _table(self, node: exp.Table, scope: Scope) -> Node:
        name, db, alias = node.name, node.db, node.alias or node.name
        position = position_of(node)
        for key in ("pivots", "sample", "when", "only", "partition", "version"):
            if node.args.get(key):
                raise refuse(node)
        if isinstance(node.this, exp.Anonymous):
            raise refuse(node)
        if not db and name.casefold() in scope.ctes:
            return self._cte_ref(scope.ctes[name.casefold()], alias, node, scope)
        if not db and name.casefold() in self.ctx.registered:
            columns = self.ctx.registered[name.casefold()]
            return self._virtual(name.casefold(), alias, "", ("registered", name.casefold()), columns, scope)
        if (db or self.ctx.current_db).casefold() == "information_schema":
            from sqlfront.catalog import infoschema

            virtual = infoschema.table(name)
            if virtual is None:
                raise error(1109, f"Unknown table '{name}' in information_schema", position=position)
            self.ctx.cacheable = False
            source = ("information_schema", name.lower())
            return self._virtual(name, alias, "information_schema", source, virtual.columns, scope)
        table = self.ctx.find_table(db, name, position)
        cols = tuple(
            self.ctx.column(c.name, c.type, nullable=not c.not_null, table=alias, db=table.db) for c in table.columns
        )
        hidden: tuple[PlanColumn, ...] = ()
        offsets = tuple(c.offset for c in table.columns)
        if table.codec.is_hidden_handle:
            hidden = (self.ctx.column("_tidb_rowid", t.BIGINT, nullable=False, table=alias, db=table.db),)
            offsets += (HANDLE_OFFSET,)
        scope.add(Relation(alias, table.db, cols, invisible=hidden), position)
        use, ignore = _index_hints(node, table.name, {i.name.casefold() for i in table.indexes})
        return Scan(table, alias, cols + hidden, offsets, use_index=use, ignore_index=ignore)

    def _virtual(
        self,
        name: str,
        alias: str,
        db: str,
        source: tuple[str, str],
        columns: Sequence[tuple[str, t.FieldType]],
        scope: Scope,
    ) -> Node:
        cols = tuple(self.ctx.column(n, ty, table=alias, db=db) for n, ty in columns)
        scope.add(Relation(alias, db, cols))
        return Virtual(name, cols, source, tuple(n for n, _ in columns))

    def _cte_ref(self, cte: Cte, alias: str, node: exp.Table, scope: Scope) -> Node:
        names = [c.name for c in ((node.args["alias"].args.get("columns") if node.args.get("alias") else None) or [])]
        source = _renamed(cte.cols, names, position_of(node))
        cols = tuple(replace(c, id=self.ctx.new_id(), table=alias, db="") for c in source)
        scope.add(Relation(alias, "", cols), position_of(node))
        return CteRef(cte.id, cte.name, cols)

    def _derived(self, node: exp.Expression, query: exp.Expression, scope: Scope, *, lateral: bool = False) -> Node:
        alias = node.args.get("alias")
        name = alias.name if alias is not None else ""
        if not name:
            raise error(1248, "Every derived table must have its own alias", position=position_of(node))
        inner = Scope(scope if lateral else scope.parent)
        inner.ctes.update(scope.ctes)
        if lateral:
            plan = self.query(query, inner)
            scope.outer |= inner.outer - {c.id for r in scope.relations for c in r.cols}
        else:
            plan = self.query(query, inner)
            scope.outer |= inner.outer
        columns = [c.name for c in (alias.args.get("columns") or [])]
        renamed = _renamed(plan.cols, columns, position_of(node))
        seen: set[str] = set()
        for col in renamed:
            if col.name.casefold() in seen:
                raise error(1060, f"Duplicate column name '{col.name}'", position=position_of(node))
            seen.add(col.name.casefold())
        # New ids: the plan's own columns may be base columns that this FROM clause reads a second time.
        cols = tuple(replace(c, id=self.ctx.new_id(), table=name, db="") for c in renamed)
        scope.add(Relation(name, "", cols), position_of(node))
        return Project(plan, cols, tuple(c.ref() for c in plan.cols))

    def _lateral(self, node: exp.Lateral, scope: Scope) -> Node:
        inner = node.this
        if not isinstance(inner, exp.Subquery):
            raise refuse(node)
        return self._derived(node, inner.this, scope, lateral=True)

    def _join(self, left: Node, node: exp.Join, scope: Scope) -> Node:
        side, method = (node.side or "").upper(), (node.method or "").upper()
        kind = (node.kind or "").upper()
        if (
            side == "FULL"
            or kind not in ("", "INNER", "CROSS", "OUTER", "STRAIGHT_JOIN")
            or method not in ("", "NATURAL")
        ):
            raise refuse(node)
        before = list(scope.relations)
        lateral = isinstance(node.this, exp.Lateral)
        right = self.table_item(node.this, scope)
        added = scope.relations[len(before) :]
        on: list[Expr] = []
        using = [i.name for i in node.args.get("using") or []]
        if method == "NATURAL":
            using = _common_names(before, added, scope)
        if using:
            on = self._using(using, before, added, side, scope, position_of(node))
        elif node.args.get("on") is not None:
            binder = ExprBinder(self.ctx, scope, self)
            binder.clause = "on clause"
            on = binder.bind_condition(node.args["on"])
        elif side:
            raise error(
                1064,
                "You have an error in your SQL syntax: an outer join needs ON or USING",
                position=position_of(node),
            )
        if side == "RIGHT":
            joined: Node = Join("left", right, left, tuple(on))
        else:
            joined = Join("left" if side == "LEFT" else "inner", left, right, tuple(on), lateral)
        self._refresh(scope, joined)
        return joined

    def _using(
        self,
        names: Sequence[str],
        before: list[Relation],
        added: list[Relation],
        side: str,
        scope: Scope,
        position: int,
    ) -> list[Expr]:
        """The equalities of USING; each name stays once, as the column of the preserved side."""
        left_scope, right_scope = Scope(), Scope()
        left_scope.relations, right_scope.relations = before, added
        left_scope.merged = scope.merged
        on: list[Expr] = []
        for name in names:
            a = left_scope.local("", "", name, position, "from clause")
            b = right_scope.local("", "", name, position, "from clause")
            if a is None or b is None:
                raise error(ER_BAD_FIELD, f"Unknown column '{name}' in 'from clause'", position=position)
            on.append(fn.resolve("eq", [a.ref(), b.ref()]))
            key = name.casefold()
            for relation in (*before, *added):
                if key in relation.by_name:
                    relation.hidden.add(key)
            scope.merged[key] = b if side == "RIGHT" else a
        if side == "RIGHT":
            # The preserved side's columns come first, as if it were a left join written the other way round.
            scope.relations = [*added, *before]
        return on

    def _refresh(self, scope: Scope, plan: Node) -> None:
        """After an outer join, the columns of the other side may be NULL."""
        nullable = {c.id for c in plan.cols if c.nullable}
        for relation in scope.relations:
            if any(c.id in nullable and not c.nullable for c in relation.cols):
                relation.cols = tuple(replace(c, nullable=True) if c.id in nullable else c for c in relation.cols)

    # SELECT

    def _select(self, node: exp.Select, around: Scope, item_texts: Sequence[str]) -> Node:
        for key, value in node.args.items():
            if value and key not in _SELECT_ARGS:
                raise refuse(node)
        scope = Scope(around)
        try:
            return _SelectBinder(self, node, scope).bind(item_texts)
        finally:
            around.outer |= scope.outer - {c.id for r in around.relations for c in (*r.cols, *r.invisible)}

    def _ordered(self, plan: Node, node: exp.Expression, scope: Scope) -> Node:
        """ORDER BY and LIMIT on a set operation, VALUES or parentheses: over the output columns alone."""
        scope.relations = [Relation("", "", plan.cols)]
        order = node.args.get("order")
        if order is not None:
            binder = ExprBinder(self.ctx, scope, self)
            binder.clause = "order clause"
            keys = []
            for item in order.expressions:
                index = _ordinal(item.this, len(plan.cols), "order clause")
                expr = plan.cols[index].ref() if index is not None else binder.bind(item.this)
                keys.append(OrderKey(expr, bool(item.args.get("desc"))))
            plan = Sort(plan, tuple(keys))
        return self.limited(plan, node)

    def limited(self, plan: Node, node: exp.Expression) -> Node:
        limit, offset = node.args.get("limit"), node.args.get("offset")
        if limit is None and offset is None:
            return plan
        if limit is not None and not isinstance(limit, exp.Limit):
            raise refuse(limit)
        return Limit(plan, self._count(limit), self._count(offset))

    def _count(self, node: exp.Expression | None) -> Expr | None:
        if node is None:
            return None
        value = node.expression
        if isinstance(value, exp.Placeholder):
            return ExprBinder(self.ctx, Scope(), self).bind(value)
        if not isinstance(value, exp.Literal) or value.is_string or not value.this.isdigit():
            raise error(
                1064, "You have an error in your SQL syntax: LIMIT takes whole numbers", position=position_of(node)
            )
        return Const(int(value.this), t.UBIGINT)

    def _lock(self, ast: exp.Expression) -> Lock | None:
        locks = ast.args.get("locks") or []
        if not locks:
            return None
        lock = locks[-1]
        wait = lock.args.get("wait")
        if isinstance(wait, exp.Expression):
            raise refuse(lock)
        how = {True: "nowait", False: "skip locked", None: ""}[wait]
        return Lock(how, tuple(e.name for e in lock.expressions), not lock.args.get("update"))


class _SelectBinder:
    """One SELECT; see the module's docstring for the order."""

    def __init__(self, queries: QueryBinder, node: exp.Select, scope: Scope) -> None:
        self.queries = queries
        self.ctx = queries.ctx
        self.node = node
        self.scope = scope
        self.groups: list[tuple[Expr, PlanColumn]] = []
        self.aggs: list[tuple[Agg, PlanColumn]] = []
        self.dependent: dict[int, PlanColumn] = {}

    def bind(self, item_texts: Sequence[str]) -> Node:
        node = self.node
        plan = self.queries._from(node, self.scope)
        where = node.args.get("where")
        if where is not None:
            plan = Filter(plan, tuple(self._binder("where clause").bind_condition(where.this)))
        items = self._items(item_texts)
        having, order = self._having(items), self._order(items)
        group = node.args.get("group")
        aggregated = (
            group is not None
            or any(has_aggregate(e) for _, e in items)
            or any(has_aggregate(e) for e in (*having, *(k.expr for k in order)))
        )
        if aggregated:
            plan, items, having, order = self._aggregate(plan, group, items, having, order)
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
        binder = self._binder("field list", aggregates=True, windows=True)
        nodes = self.node.expressions
        if not nodes:
            raise error(1064, "You have an error in your SQL syntax: SELECT lists nothing")
        texts = item_texts if len(item_texts) == len(nodes) else [""] * len(nodes)
        out: list[tuple[str, Expr]] = []
        for node, text in zip(nodes, texts, strict=True):
            star = self._star(node)
            if star is not None:
                out.extend((c.name, c.ref()) for c in star)
                continue
            out.append((_item_name(node, text), binder.bind(node)))
        return out

    def _star(self, node: exp.Expression) -> Sequence[PlanColumn] | None:
        if isinstance(node, exp.Star):
            if any(node.args.values()):
                raise refuse(node)
            columns = self.scope.columns()
            if not self.scope.relations:
                raise error(1096, "No tables used")
            return columns
        if isinstance(node, exp.Column) and isinstance(node.this, exp.Star):
            table = node.table
            for relation in self.scope.relations:
                if relation.alias.casefold() == table.casefold():
                    return relation.cols
            raise error(ER_BAD_TABLE, f"Unknown table '{table}'", position=position_of(node))
        return None

    def _having(self, items: Sequence[tuple[str, Expr]]) -> list[Expr]:
        clause = self.node.args.get("having")
        if clause is None:
            return []
        binder = self._binder("having clause", aggregates=True)
        binder.aliases = _aliases(self.node, items)
        return binder.bind_condition(clause.this)

    def _order(self, items: Sequence[tuple[str, Expr]]) -> list[OrderKey]:
        clause = self.node.args.get("order")
        if clause is None:
            return []
        binder = self._binder("order clause", aggregates=True, windows=True)
        binder.aliases = _aliases(self.node, items)
        keys = []
        for item in clause.expressions:
            index = _ordinal(item.this, len(items), "order clause")
            expr = items[index][1] if index is not None else binder.bind(item.this)
            keys.append(OrderKey(expr, bool(item.args.get("desc"))))
        return keys

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
        new_items = []
        for i, (name, expr) in enumerate(items):
            new_items.append((name, self._lift(expr, f"Expression #{i + 1} of SELECT list", name)))
        new_having = [self._lift(e, "HAVING clause", "") for e in having]
        new_order = [
            OrderKey(self._lift(k.expr, f"Expression #{i + 1} of ORDER BY", ""), k.desc) for i, k in enumerate(order)
        ]
        cols = tuple(c for _, c in self.groups) + tuple(c for _, c in self.aggs)
        node = Aggregate(plan, cols, tuple(e for e, _ in self.groups), tuple(a for a, _ in self.aggs), rollup)
        return node, new_items, new_having, new_order

    def _rollup(self, group: exp.Group) -> bool:
        rollup = group.args.get("rollup")
        for key in ("cube", "grouping_sets", "totals", "all"):
            if group.args.get(key):
                raise refuse(group)
        return bool(rollup)

    def _bind_groups(self, group: exp.Group, items: list[tuple[str, Expr]]) -> None:
        binder = self._binder("group statement")
        binder.aliases = {n: e for n, e in _aliases(self.node, items).items() if not has_aggregate(e)}
        for node in group.expressions:
            index = _ordinal(node, len(items), "group statement")
            expr = items[index][1] if index is not None else binder.bind(node)
            if has_aggregate(expr):
                raise error(1056, f"Can't group on '{text_of(node)}'", position=position_of(node))
            if any(e == expr for e, _ in self.groups):
                continue
            if isinstance(expr, Column):
                self.groups.append((expr, PlanColumn(expr.id, expr.name, expr.type)))
            else:
                self.groups.append((expr, self.ctx.column("", expr.type)))

    def _find_dependent(self, plan: Node) -> None:
        """Which base tables have their whole primary key (or a unique NOT NULL key) among the group columns."""
        grouped = {e.id for e, _ in self.groups if isinstance(e, Column)}
        grouped |= _equated(plan, grouped)
        for scan in _scans(plan):
            by_offset = dict(zip(scan.offsets, scan.cols, strict=True))
            keys = [scan.table.primary_key] if scan.table.primary_key else []
            for index in scan.table.indexes:
                offsets = tuple(c.offset for c in index.columns)
                if index.unique and all(scan.table.columns[o].not_null for o in offsets):
                    keys.append(offsets)
            if any(all(o in by_offset and by_offset[o].id in grouped for o in key) for key in keys):
                self.dependent.update({c.id: c for c in scan.cols})

    def _lift(self, expr: Expr, where: str, text: str) -> Expr:
        """Rewrites an expression over the input into one over the groups and aggregates."""
        for grouped, col in self.groups:
            if expr == grouped:
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
                own = {c.id for r in self.scope.relations for c in r.cols}
                kept = {c.id for _, c in self.groups}
                for missing in (expr.outer & own) - kept:
                    column = next(c for r in self.scope.relations for c in r.cols if c.id == missing)
                    raise self._not_grouped(column.ref(), where)
                return replace(expr, args=args)
            case Window():
                return _rebuild_window(expr, [self._lift(c, where, text) for c in children(expr)])
            case Call():
                return replace(expr, args=tuple(self._lift(a, where, text) for a in expr.args))
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
        own = {c.id for r in self.scope.relations for c in (*r.cols, *r.invisible)} | {
            c.id for c in self.scope.merged.values()
        }
        if column.id not in own:
            return column
        if column.id not in self.dependent and self.ctx.full_group_by:
            if where == "HAVING clause":
                raise error(ER_BAD_FIELD, f"Unknown column '{column.name}' in 'having clause'")
            raise self._not_grouped(column, where)
        return self._agg_column(fn.resolve_agg("any_value", [column]))

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
        keys, hidden = self._order_keys(order, cols, exprs, distinct)
        out: Node = Project(plan, tuple(cols) + tuple(c for c, _ in hidden), tuple(exprs) + tuple(e for _, e in hidden))
        if distinct:
            out = Distinct(out)
        if keys:
            out = Sort(out, tuple(keys))
        out = self.queries.limited(out, self.node)
        if hidden:
            final = tuple(replace(c, id=self.ctx.new_id()) for c in cols)
            out = Project(out, final, tuple(c.ref() for c in cols))
        return out

    def _order_keys(
        self, order: list[OrderKey], cols: list[PlanColumn], exprs: list[Expr], distinct: bool
    ) -> tuple[list[OrderKey], list[tuple[PlanColumn, Expr]]]:
        """Sort keys as columns of the projection; what is not selected becomes a hidden column."""
        keys: list[OrderKey] = []
        hidden: list[tuple[PlanColumn, Expr]] = []
        for i, key in enumerate(order):
            if isinstance(key.expr, Const):
                continue
            if key.expr in exprs:
                keys.append(OrderKey(cols[exprs.index(key.expr)].ref(), key.desc))
                continue
            if distinct:
                raise error(
                    3065,
                    f"Expression #{i + 1} of ORDER BY clause is not in SELECT list, references column which is "
                    "not in SELECT list; this is incompatible with DISTINCT",
                )
            col = self.ctx.column("", key.expr.type)
            hidden.append((col, key.expr))
            keys.append(OrderKey(col.ref(), key.desc))
        return keys, hidden


def _sibling(scope: Scope) -> Scope:
    """A fresh scope with the same surroundings, for another branch of a set operation."""
    out = Scope(scope)
    out.ctes = dict(scope.ctes)
    return out


def _has_tail(node: exp.Expression) -> bool:
    return any(node.args.get(k) is not None for k in ("order", "limit", "offset", "with_"))


def _reads(node: exp.Expression, name: str) -> bool:
    return any(not t_.db and t_.name.casefold() == name.casefold() for t_ in node.find_all(exp.Table))


def _renamed(cols: tuple[PlanColumn, ...], names: Sequence[str], position: int) -> tuple[PlanColumn, ...]:
    if not names:
        return cols
    if len(names) != len(cols):
        raise error(
            1353,
            "In definition of view, derived table or common table expression, SELECT list and column names list "
            "have different column counts",
            position=position,
        )
    return tuple(replace(c, name=n) for c, n in zip(cols, names, strict=True))


def _item_name(node: exp.Expression, text: str) -> str:
    if isinstance(node, exp.Alias):
        return str(node.alias)
    if isinstance(node, exp.Column):
        return str(node.name)
    if isinstance(node, exp.Literal) and node.is_string:
        return str(node.this)
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
            out.setdefault(item.alias.casefold(), items[position][1])
        position += 1
    if position < 0:
        # With a star, positions shift: match the aliases from the names alone.
        aliased = {i.alias.casefold() for i in node.expressions if isinstance(i, exp.Alias)}
        for name, expr in items:
            if name.casefold() in aliased:
                out.setdefault(name.casefold(), expr)
    return out


def _ordinal(node: exp.Expression, count: int, clause: str) -> int | None:
    """ORDER BY 2: the index it stands for, None when it is no ordinal."""
    if not isinstance(node, exp.Literal) or node.is_string or not node.this.isdigit():
        return None
    index = int(node.this)
    if not 1 <= index <= count:
        raise error(ER_BAD_FIELD, f"Unknown column '{node.this}' in '{clause}'", position=position_of(node))
    return index - 1


def _common_names(before: Sequence[Relation], added: Sequence[Relation], scope: Scope) -> list[str]:
    right = {c.name.casefold() for r in added for c in r.cols}
    out: list[str] = []
    for relation in before:
        for col in relation.cols:
            if col.name.casefold() in right and col.name.casefold() not in (n.casefold() for n in out):
                out.append(col.name)
    return out


def _index_hints(node: exp.Table, table: str, known: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    use: list[str] = []
    ignore: list[str] = []
    for hint in node.args.get("hints") or []:
        if not isinstance(hint, exp.IndexTableHint):
            raise refuse(node)
        names = [e.name.casefold() for e in hint.expressions]
        for name in names:
            if name not in known and name != "primary":
                raise error(1176, f"Key '{name}' doesn't exist in table '{table}'", position=position_of(hint))
        (ignore if str(hint.this).upper().startswith("IGNORE") else use).extend(names)
    return tuple(use), tuple(ignore)


def _scans(node: Node) -> list[Scan]:
    """The scans whose columns reach this node unchanged and never null-extended twice."""
    match node:
        case Scan():
            return [node]
        case Join():
            return _scans(node.left) + _scans(node.right)
        case Filter() | Sort() | Limit():
            return _scans(node.child)
        case _:
            return []


def _equated(node: Node, grouped: set[int]) -> set[int]:
    """Columns that an inner join or filter makes equal to a group column."""
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
    out = set(grouped)
    changed = True
    while changed:
        changed = False
        for a_id, b_id in pairs:
            if (a_id in out) != (b_id in out):
                out |= {a_id, b_id}
                changed = True
    return out


def _rebuild_window(window: Window, parts: list[Expr]) -> Window:
    """Puts rewritten children back, in the order `children` gives them."""
    n, p, o = len(window.args), len(window.partition_by), len(window.order_by)
    args, partition, order, rest = parts[:n], parts[n : n + p], parts[n + p : n + p + o], parts[n + p + o :]
    frame = window.frame
    if frame is not None:
        bounds = iter(rest)
        start = (frame.start[0], None if frame.start[1] is None else next(bounds))
        end = (frame.end[0], None if frame.end[1] is None else next(bounds))
        frame = Frame(frame.unit, start, end)
    keys = tuple(OrderKey(e, k.desc) for e, k in zip(order, window.order_by, strict=True))
    return replace(window, args=tuple(args), partition_by=tuple(partition), order_by=keys, frame=frame)
