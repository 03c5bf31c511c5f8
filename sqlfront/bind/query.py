"""Queries: FROM clauses, set operations, VALUES and common table expressions; one SELECT is `select.py`'s."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from coprocessor import functions as fn
from coprocessor import types as t
from coprocessor.expr import (
    Call,
    Column,
    Const,
    Expr,
    OrderKey,
)
from sqlfront.bind.collations import settled, type_of_both
from sqlfront.bind.engines import scan_engine, storage_hints
from sqlfront.bind.expr import ExprBinder
from sqlfront.bind.json_table import bind_json_table, is_json_table
from sqlfront.bind.messages import position_of, refuse
from sqlfront.bind.row_values import COMPARES_ROW
from sqlfront.bind.scope import BindContext, Relation, Scope
from sqlfront.catalog.model import Table
from sqlfront.catalog.partitions import find_definitions
from sqlfront.errors import (
    ER_BAD_FIELD,
    DatabaseError,
    error,
    unsupported,
)
from sqlfront.plan.nodes import (
    HANDLE_OFFSET,
    NO_INDEX,
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
    columns_read,
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
        lock = self._lock(ast)
        self.ctx.locking |= lock is not None
        root = self.query(ast, None, item_texts)
        if lock is not None:
            beneath = (alias for name in lock.tables for alias in self.ctx.beneath.get(name, ()))
            lock = replace(lock, tables=(*lock.tables, *beneath))
        return QueryPlan(root, tuple(c.name for c in root.cols), lock, tuple(self.ctx.tables.values()))

    def subquery(self, node: exp.Expression, parent: Scope) -> tuple[Node, set[int]]:
        """Binds a subquery inside an expression; returns its plan and the outer column ids it refers to."""
        scope = Scope(parent)
        plan = self.query(node, scope)
        parent.outer |= scope.outer - parent.has()
        return plan, scope.outer

    def query(self, node: exp.Expression, scope: Scope | None, item_texts: Sequence[str] = ()) -> Node:
        """Binds SELECT, a set operation, VALUES or a parenthesised one. `scope` is the (empty) scope around it."""
        around = scope if scope is not None else Scope()
        definitions = self.definitions(node, around)
        match node:
            case exp.Subquery() if _only_ordered(node):
                plan = self._select(_with_tail(node), around, item_texts)
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

    def definitions(self, node: exp.Expression, scope: Scope) -> tuple[Cte, ...]:
        """Binds the WITH of a statement and puts what it defines into scope."""
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
            if recursive:
                out += self._recursive(item, name, columns, scope)
            else:
                out.append(self._plain_cte(item, name, columns, scope))
            scope.ctes[name.casefold()] = out[-1]
        return tuple(out)

    def _plain_cte(self, item: exp.CTE, name: str, columns: Sequence[str], scope: Scope) -> Cte:
        inner = Scope(scope)
        plan = settled(self.ctx, self.query(item.this, inner))
        scope.outer |= inner.outer
        self.ctx.next_cte += 1
        return Cte(self.ctx.next_cte, name, _renamed(plan.cols, columns, position_of(item)), plan)

    def _recursive(self, item: exp.CTE, name: str, columns: Sequence[str], scope: Scope) -> list[Cte]:
        """What the union's own WITH defines, the recursion, and with LIMIT a second one over it, which has the name."""
        union = item.this
        first, members = _recursive_members(union, name)
        if not members or _reads(first, name):
            raise _no_recursion(union, name, position_of(item))
        around, scope = scope, Scope(scope)
        own = self.definitions(union, scope)
        seed = self.query(first, Scope(scope))
        self.ctx.next_cte += 1
        cte_id = self.ctx.next_cte
        # What the seed calls a short string or a small integer may grow: MySQL widens nothing, but strings need room.
        types = [_roomy(c.type) for c in seed.cols]
        cols, step, inner = self._recursion_over(item, name, columns, scope, cte_id, seed, types, members)
        if any(ty.tp == t.Tp.NULL for ty in types) and len(step.cols) == len(cols):
            # of a column of NULLs the recursive members tell the type
            types = [_roomy(c.type) if ty.tp == t.Tp.NULL else ty for ty, c in zip(types, step.cols, strict=True)]
            cols, step, inner = self._recursion_over(item, name, columns, scope, cte_id, seed, types, members)
        if len(step.cols) != len(cols):
            raise error(
                1222, "The used SELECT statements have a different number of columns", position=position_of(item)
            )
        seed, step = self._cast_all(seed, cols), self._cast_all(self._as_stored(step, cols), cols)
        recursion = Cte(cte_id, name, cols, seed, step, bool(members[0].args["distinct"]))
        if union.args.get("order") is not None:
            raise unsupported("ORDER BY over UNION in recursive Common Table Expression")
        every = CteRef(cte_id, name, tuple(replace(c, id=self.ctx.new_id()) for c in cols))
        limited = self.limited(every, union)
        if not isinstance(limited, Limit):
            around.outer |= scope.outer
            return [*own, recursion]
        if inner.outer or scope.outer or around.outer:
            raise unsupported("LIMIT in a recursive Common Table Expression that reads an outer query")
        self.ctx.next_cte += 1
        enough = [n for n in (limited.count, limited.offset) if n is not None]
        recursion = replace(recursion, enough=fn.resolve("plus", enough) if len(enough) > 1 else enough[0])
        return [*own, recursion, Cte(self.ctx.next_cte, name, every.cols, limited)]

    def _recursion_over(
        self,
        item: exp.CTE,
        name: str,
        columns: Sequence[str],
        scope: Scope,
        cte_id: int,
        seed: Node,
        types: Sequence[t.FieldType],
        members: Sequence[exp.Union],
    ) -> tuple[tuple[PlanColumn, ...], Node, Scope]:
        """The columns of a recursion, of these types; what its members make of them, and the scope that they see."""
        typed = tuple(replace(c, type=ty) for c, ty in zip(seed.cols, types, strict=True))
        named = _renamed(typed, columns, position_of(item))
        cols = tuple(replace(c, id=self.ctx.new_id(), nullable=True) for c in named)
        inner = Scope(scope)
        inner.ctes[name.casefold()] = Cte(cte_id, name, cols, seed)
        return cols, self._recursive_step(members, name, inner), inner

    def _recursive_step(self, members: Sequence[exp.Union], name: str, around: Scope) -> Node:
        """What the recursive members make of the last rows; raises 3575 and 3577 for what MySQL forbids them."""
        plan: Node | None = None
        for member in members:
            if bool(member.args["distinct"]) != bool(members[0].args["distinct"]):
                raise unsupported("UNION and UNION ALL between the recursive members of a Common Table Expression")
            block = f"recursive query block of Recursive Common Table Expression '{name}'"
            read = [table for table in member.expression.find_all(exp.Table) if _is_named(table, name)]
            if len(read) > 1 or read[0].find_ancestor(exp.Select) is not member.expression.unnest():
                message = f"In {block}, the recursive table must be referenced only once, and not in any subquery"
                raise error(3577, message, position=position_of(read[-1]))
            right = self.query(member.expression, _sibling(around))
            if _aggregates(right):
                message = f"Recursive Common Table Expression '{name}' can contain neither aggregation nor window "
                raise error(3575, f"{message}functions in recursive query block", position=position_of(read[0]))
            plan = right if plan is None else self._combine(member, plan, right)
        assert plan is not None
        return plan

    def _as_stored(self, plan: Node, cols: Sequence[PlanColumn]) -> Node:
        """What recursive members give, with text for columns of other types converted as it would be to store it."""
        exprs: list[Expr] = []
        for given, wanted in zip(plan.cols, cols, strict=True):
            value: Expr = given.ref()
            if given.type.is_text and not wanted.type.is_string and wanted.type.tp != t.Tp.JSON:
                value = Call("recursive_value", (value, Const(wanted.name, t.TEXT)), wanted.type)
            exprs.append(value)
        if all(isinstance(e, Column) for e in exprs):
            return plan
        out = (PlanColumn(self.ctx.new_id(), c.name, e.type) for c, e in zip(plan.cols, exprs, strict=True))
        return Project(plan, tuple(out), tuple(exprs))

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
            current = current.this
        plan = self.query(current, Scope(scope) if scope.parent is None else _sibling(scope), item_texts)
        for op in reversed(chain):
            right = self.query(op.expression, _sibling(scope))
            plan = self._combine(op, plan, right)
        return self._ordered(plan, node, Scope(scope))

    def _combine(self, node: exp.SetOperation, left: Node, right: Node) -> Node:
        if len(left.cols) != len(right.cols):
            raise error(
                1222, "The used SELECT statements have a different number of columns", position=position_of(node)
            )
        kind = {exp.Union: "union", exp.Except: "except", exp.Intersect: "intersect"}[type(node)]
        cols = tuple(
            PlanColumn(self.ctx.new_id(), a.name, type_of_both(left, a, right, b), a.nullable or b.nullable)
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
        plan = self.joined(clause.this, node.args.get("joins") or [], scope)
        for lateral in node.args.get("laterals") or []:
            raise refuse(lateral)
        return plan

    def joined(self, first: exp.Expression, joins: Sequence[exp.Join], scope: Scope) -> Node:
        """Binds an item of a FROM clause and what is joined to it. A comma binds less than JOIN: what is joined behind
        it, by its ON and USING, are the tables from there on.
        """
        joins = [*(first.args.get("joins") or []), *joins]
        start = _Mark.of(scope)
        plan = self._item(first, scope)
        before: Node | None = None
        for i, join in enumerate(joins):
            if _is_comma(join):
                behind = itertools.takewhile(lambda j: not _is_comma(j), joins[i + 1 :])
                if before is not None:
                    plan, before = Join("inner", before, plan, ()), None
                start = _Mark.of(scope)
                if any((j.side or "").upper() == "RIGHT" for j in behind):
                    # what it keeps without partners has partners beyond the comma
                    before, plan = plan, self.table_item(join.this, scope)
                    continue
            plan = self._join(plan, join, scope, start)
        return plan if before is None else Join("inner", before, plan, ())

    def table_item(self, node: exp.Expression, scope: Scope) -> Node:
        """Binds one item of a FROM clause (with the joins that hang on it) and puts its relations into scope."""
        return self.joined(node, [], scope)

    def _item(self, node: exp.Expression, scope: Scope) -> Node:
        """An item of a FROM clause without what is joined to it."""
        match node:
            case exp.Table():
                plan = self._table(node, scope)
            case exp.Subquery() if not node.alias and isinstance(node.this, exp.Subquery):
                plan = self.table_item(node.this, scope)  # parentheses around what is in parentheses
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
        return plan

    def _table(self, node: exp.Table, scope: Scope) -> Node:
        name, db, alias = node.name, node.db, node.alias or node.name
        position = position_of(node)
        for key in ("pivots", "sample", "when", "only", "version"):
            if node.args.get(key):
                raise refuse(node)
        if is_json_table(node):
            return bind_json_table(self, node, scope)
        if isinstance(node.this, exp.Anonymous):
            raise refuse(node)
        if not db and name.casefold() in scope.ctes:
            return self._cte_ref(scope.ctes[name.casefold()], alias, node, scope)
        written = self.ctx.written
        if not db and name.casefold() in self.ctx.registered:
            if written is not None:
                written.refuse_private(node)
            columns = self.ctx.registered[name.casefold()]
            return self._virtual(name.casefold(), alias, "", ("registered", name.casefold()), columns, scope)
        if (db or self.ctx.current_db).casefold() == "information_schema":
            from sqlfront.catalog import infoschema

            virtual = infoschema.table(name)
            if virtual is None:
                raise error(1109, f"Unknown table '{name}' in information_schema", position=position)
            self.ctx.cacheable = False
            if written is not None:
                written.qualify(node, "information_schema")
            source = ("information_schema", name.lower())
            return self._virtual(name, alias, "information_schema", source, virtual.columns, scope)
        table = self.ctx.find_relation(db, name, position)
        if written is not None:
            if table.temporary:
                written.refuse_private(node)
            written.qualify(node, table.db)
        if table.view is not None:
            from sqlfront.bind.views import bind_view

            return bind_view(self, table, alias, node, scope)
        named = partition_names(table, node.args.get("partition"), position)
        cols = tuple(
            self.ctx.column(c.name, c.type, nullable=not (c.not_null and c.stored), table=alias, db=table.db)
            for c in table.columns
        )
        hidden: tuple[PlanColumn, ...] = ()
        offsets = tuple(c.offset for c in table.columns)
        if table.codec.is_hidden_handle:
            hidden = (self.ctx.column("_tidb_rowid", t.BIGINT, nullable=False, table=alias, db=table.db),)
            offsets += (HANDLE_OFFSET,)
        shown = cols[: len(table.visible)]
        scope.add(Relation(alias, table.db, shown, invisible=hidden, stored=table.visible), position)
        use, ignore = index_hints(node, table.name, {i.name.casefold() for i in table.indexes})
        engine = scan_engine(self.ctx, table, alias, scope.storage)
        scan = Scan(table, alias, cols + hidden, offsets, use_index=use, ignore_index=ignore, engine=engine)
        if table.parts:
            from sqlfront.bind.partitions import partitioning_of

            scan = replace(scan, partitions=partitioning_of(table), named=named)
        if table.shows_virtual:
            return _with_virtual(scan)
        return scan if len(table.visible) == len(table.columns) else replace(scan, virtual=_keyed_exprs(scan))

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
        if self.ctx.written is not None:
            self.ctx.written.quote_all(node)
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
            scope.outer |= inner.outer - scope.has()
        else:
            plan = self.query(query, inner)
            scope.outer |= inner.outer
        plan = settled(self.ctx, plan)
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

    def _join(self, left: Node, node: exp.Join, scope: Scope, start: _Mark) -> Node:
        side, method = (node.side or "").upper(), (node.method or "").upper()
        kind = (node.kind or "").upper()
        if (
            side == "FULL"
            or kind not in ("", "INNER", "CROSS", "OUTER", "STRAIGHT_JOIN")
            or method not in ("", "NATURAL")
        ):
            raise refuse(node)
        middle = _Mark.of(scope)
        lateral = isinstance(node.this, exp.Lateral) or is_json_table(node.this)
        right = self.table_item(node.this, scope)
        on: list[Expr] = []
        using = [i.name for i in node.args.get("using") or []]
        if method == "NATURAL":
            names = {c.name.casefold() for c in scope.shown[middle.shown :]}
            using = [c.name for c in scope.shown[start.shown : middle.shown] if c.name.casefold() in names]
            if self.ctx.written is not None:
                self.ctx.written.join_by(node, using)
        if using:
            on = self._using(using, side, scope, start, middle, position_of(node))
        elif node.args.get("on") is not None:
            both = scope.part(start.relations, start.shown)
            binder = ExprBinder(self.ctx, both, self)
            binder.clause = "on clause"
            on = binder.bind_condition(node.args["on"])
            scope.outer |= both.outer
        elif side and method != "NATURAL":
            raise error(
                1064,
                "You have an error in your SQL syntax: an outer join needs ON or USING",
                position=position_of(node),
            )
        if side == "RIGHT":
            if lateral and {c.id for c in left.cols} & columns_read(right):
                message = f"INNER or LEFT JOIN must be used for LATERAL references made by '{node.this.alias}'"
                raise error(3668, message, position=position_of(node))
            joined: Node = Join("left", right, left, tuple(on))
        else:
            joined = Join("left" if side == "LEFT" else "inner", left, right, tuple(on), lateral)
        self._refresh(scope, joined)
        return joined

    def _using(
        self, names: Sequence[str], side: str, scope: Scope, start: _Mark, middle: _Mark, position: int
    ) -> list[Expr]:
        """The equalities of USING. Each name is shown once, as the column of the preserved side, before the others."""
        left_scope, right_scope = Scope(), Scope()
        left_scope.show(scope.shown[start.shown : middle.shown])
        right_scope.show(scope.shown[middle.shown :])
        # of a right join the preserved side's columns come first, as if it were a left join written the other way round
        first, second = (right_scope, left_scope) if side == "RIGHT" else (left_scope, right_scope)
        on: list[Expr] = []
        common: list[PlanColumn] = []
        dropped: set[int] = set()
        places = {col.name.casefold(): i for i, col in enumerate(first.shown)}
        for name in sorted(dict.fromkeys(names), key=lambda name: places.get(name.casefold(), -1)):
            a = left_scope.local("", "", name, position, "from clause")
            b = right_scope.local("", "", name, position, "from clause")
            if a is None or b is None:
                raise error(ER_BAD_FIELD, f"Unknown column '{name}' in 'from clause'", position=position)
            on.append(fn.resolve("eq", [a.ref(), b.ref()]))
            common.append(b if side == "RIGHT" else a)
            dropped |= {a.id, b.id}
        rest = [c for c in (*first.shown, *second.shown) if c.id not in dropped]
        scope.merged |= {c.id for c in common}
        scope.show([*common, *rest], start.shown)
        return on

    def _refresh(self, scope: Scope, plan: Node) -> None:
        """After an outer join, the columns of the other side may be NULL."""
        nullable = {c.id for c in plan.cols if c.nullable}
        for relation in scope.relations:
            if any(c.id in nullable and not c.nullable for c in relation.cols):
                relation.cols = tuple(replace(c, nullable=True) if c.id in nullable else c for c in relation.cols)

    # SELECT

    def _select(self, node: exp.Select, around: Scope, item_texts: Sequence[str]) -> Node:
        from sqlfront.bind.select import SelectBinder

        for key, value in node.args.items():
            if value and key not in _SELECT_ARGS:
                raise refuse(node)
        scope = Scope(around)
        if COMPARES_ROW in node.meta:
            scope.compares_row = around.compares_row = True
        scope.storage = storage_hints(self.ctx, node)
        try:
            return SelectBinder(self, node, scope).bind(item_texts)
        finally:
            around.outer |= scope.outer - around.has()

    def _ordered(self, plan: Node, node: exp.Expression, scope: Scope) -> Node:
        """ORDER BY and LIMIT on a set operation, VALUES or parentheses: over the output columns alone."""
        from sqlfront.bind.select import ordinal

        scope.add(Relation("", "", plan.cols))
        order = node.args.get("order")
        if order is not None:
            binder = ExprBinder(self.ctx, scope, self)
            binder.clause = "order clause"
            keys = []
            for item in order.expressions:
                index = ordinal(item.this, len(plan.cols), "order clause")
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

    def take_limit(self, tree: exp.Expression) -> tuple[Expr | None, Expr | None]:
        """Takes LIMIT and OFFSET off a query, and returns them."""
        limit, offset = tree.args.pop("limit", None), tree.args.pop("offset", None)
        if limit is not None and not isinstance(limit, exp.Limit):
            raise refuse(limit)
        return self._count(limit), self._count(offset)

    def _count(self, node: exp.Expression | None) -> Expr | None:
        if node is None:
            return None
        value = node.expression
        if isinstance(value, exp.Placeholder):
            return ExprBinder(self.ctx, Scope(), self).bind(value)
        if (
            not isinstance(value, exp.Literal)
            or value.is_string
            or not value.this.isdigit()
            or int(value.this) >= 1 << 64
        ):
            raise error(
                1064, "You have an error in your SQL syntax: LIMIT takes whole numbers", position=position_of(node)
            )
        return Const(int(value.this), t.UBIGINT)

    def _lock(self, ast: exp.Expression) -> Lock | None:
        locks = ast.args.get("locks") or []
        if not locks:
            return None
        if len(locks) > 1:
            raise unsupported("several locking clauses", position=position_of(locks[1]))
        lock = locks[0]
        wait = lock.args.get("wait")
        if isinstance(wait, exp.Expression):
            raise refuse(lock)
        how = {True: "nowait", False: "skip locked", None: ""}[wait]
        named = tuple(_locked_name(ast, table) for table in lock.expressions)
        return Lock(how, named, not lock.args.get("update"))


def _locked_name(query: exp.Expression, table: exp.Expression) -> str:
    """What FROM calls a table that FOR UPDATE OF names. Raises 3568 for one that is not in it."""
    while isinstance(query, exp.Subquery):
        query = query.this
    for part in (query.args.get("from_"), *(query.args.get("joins") or ())):
        for source in part.find_all(exp.Table, exp.Subquery) if part is not None else ():
            known = source.alias_or_name
            if source.find_ancestor(exp.Select) is query and known.casefold() == table.name.casefold():
                return str(known)
    message = f"Unresolved table name '{table.name}' in locking clause."
    raise error(3568, message, position=position_of(table), sqlstate="HY000")


def _sibling(scope: Scope) -> Scope:
    """A fresh scope with the same surroundings, for another branch of a set operation."""
    out = Scope(scope)
    out.ctes = dict(scope.ctes)
    return out


def _has_tail(node: exp.Expression) -> bool:
    return any(node.args.get(k) is not None for k in ("order", "limit", "offset", "with_"))


def _only_ordered(node: exp.Subquery) -> bool:
    """Whether ORDER BY and LIMIT stand behind parentheses round one SELECT that has none: they are its own."""
    inner = node.this
    while isinstance(inner, exp.Subquery) and not _has_tail(inner):
        inner = inner.this
    return node.args.get("order") is not None and isinstance(inner, exp.Select) and not _has_tail(inner)


def _with_tail(node: exp.Subquery) -> exp.Select:
    inner = node.this
    while not isinstance(inner, exp.Select):
        inner = inner.this
    select = inner.copy()
    for key in ("order", "limit", "offset"):
        select.set(key, node.args.get(key))
    return select


def _reads(node: exp.Expression, name: str) -> bool:
    return any(_is_named(table, name) for table in node.find_all(exp.Table))


def _is_named(table: exp.Table, name: str) -> bool:
    return not table.db and table.name.casefold() == name.casefold()


def _recursive_members(query: exp.Expression, name: str) -> tuple[exp.Expression, list[exp.Union]]:
    """Cuts a chain of UNIONs: what stands before its recursive members, and the UNIONs whose right these are."""
    members: list[exp.Union] = []
    current = query
    while isinstance(current, exp.Union) and not (members and _has_tail(current)) and _reads(current.expression, name):
        members.append(current)
        current = current.this
    return current, members[::-1]


def _roomy(type_: t.FieldType) -> t.FieldType:
    return type_.with_(flen=t.UNSPECIFIED) if type_.is_text else type_


def _no_recursion(query: exp.Expression, name: str, position: int) -> DatabaseError:
    cte = f"Recursive Common Table Expression '{name}'"
    if not isinstance(query, exp.Union):
        return error(3573, f"{cte} should contain a UNION", position=position)
    message = "should have one or more non-recursive query blocks followed by one or more recursive ones"
    return error(3574, f"{cte} {message}", position=position)


def _aggregates(node: Node) -> bool:
    """Whether a query's own rows are groups, or have window functions."""
    while isinstance(node, (Project, Sort, Limit, Filter, Distinct)):
        node = node.child
    return isinstance(node, (Aggregate, WindowNode))


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


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where the tables of a join begin in their scope."""

    relations: int
    shown: int

    @classmethod
    def of(cls, scope: Scope) -> _Mark:
        return cls(len(scope.relations), len(scope.shown))


def _is_comma(join: exp.Join) -> bool:
    """Whether tables are joined by a comma: the parser is given CROSS JOIN for every JOIN that stands alone."""
    return not (join.kind or join.side or join.method or join.args.get("on") or join.args.get("using"))


def index_hints(node: exp.Table, table: str, known: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The indexes that hints of a table's reference leave, and those that they leave out; USE INDEX () leaves none."""
    use: list[str] = []
    ignore: list[str] = []
    for hint in node.args.get("hints") or []:
        if not isinstance(hint, exp.IndexTableHint):
            raise refuse(node)
        names = [e.name.casefold() for e in hint.expressions]
        for name in names:
            if name not in known and name != "primary":
                raise error(1176, f"Key '{name}' doesn't exist in table '{table}'", position=position_of(hint))
        kind = str(hint.this).upper()
        if not names and not kind.startswith("USE"):
            raise error(
                1064, "You have an error in your SQL syntax: the hint names no index", position=position_of(hint)
            )
        (ignore if kind.startswith("IGNORE") else use).extend(names or (NO_INDEX,))
    return tuple(use), tuple(ignore)


def partition_names(table: Table, node: exp.Expression | None, position: int) -> tuple[str, ...]:
    """The partitions that PARTITION (...) names, in lower case; none without it."""
    if node is None:
        return ()
    if not table.parts:
        raise error(1747, "PARTITION () clause on non partitioned table", position=position)
    names = [item.name for item in node.expressions]
    find_definitions(table.info, names, position)
    return tuple(name.lower() for name in names)


def _with_virtual(scan: Scan) -> Project:
    """The scan of what is stored of a table's columns, under a projection that computes the virtual ones."""
    from sqlfront.bind.generated import virtual_exprs

    table = scan.table
    by_offset = dict(zip(scan.offsets, scan.cols, strict=True))
    virtual = frozenset(c.offset for c in table.generated if not c.stored)
    stored = [(offset, col) for offset, col in by_offset.items() if offset not in virtual]
    computed = virtual_exprs(table, {offset: col.ref() for offset, col in stored})
    below = replace(
        scan,
        cols=tuple(col for _, col in stored),
        offsets=tuple(offset for offset, _ in stored),
        virtual=_keyed_exprs(scan),
    )
    exprs = tuple(computed.get(offset) or col.ref() for offset, col in by_offset.items())
    return Project(below, scan.cols, exprs)


def _keyed_exprs(scan: Scan) -> tuple[tuple[int, Expr], ...]:
    """What the virtual columns that indexes have are of a scan's columns, by offset.

    A hidden one has the type of its expression, which is what conditions name: there is nothing to be cast.
    """
    from sqlfront.bind.generated import virtual_exprs

    table = scan.table
    keyed = {part.offset for index in table.indexes for part in index.columns}
    columns = {o: c.ref() for o, c in zip(scan.offsets, scan.cols, strict=True) if o < 0 or table.columns[o].stored}
    computed = {o: e for o, e in virtual_exprs(table, columns).items() if o in keyed}
    return tuple((o, _uncast(e) if table.columns[o].hidden else e) for o, e in computed.items())


def _uncast(expr: Expr) -> Expr:
    """An expression without a cast to text of the same collation."""
    if isinstance(expr, Call) and expr.func == "cast" and expr.type.is_text:
        inner = expr.args[0]
        return inner if inner.type.is_text and inner.type.collate == expr.type.collate else expr
    return expr
