"""INSERT, REPLACE, UPDATE and DELETE to typed changes: which rows, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from coprocessor import functions as fn
from coprocessor.expr import Column, Const, Expr, OrderKey, Subquery, walk
from coprocessor.types import FieldType
from sqlfront.bind.expr import ExprBinder
from sqlfront.bind.messages import position_of, refuse
from sqlfront.bind.query import QueryBinder, partition_names
from sqlfront.bind.scope import BindContext, Relation, Scope
from sqlfront.catalog.model import Column as CatalogColumn
from sqlfront.catalog.model import Table
from sqlfront.errors import (
    ER_BAD_FIELD,
    ER_PARSE,
    ER_UNKNOWN_ERROR,
    ER_WRONG_VALUE_COUNT_ON_ROW,
    DatabaseError,
    NotSupportedError,
    error,
    near_match,
    unsupported,
)
from sqlfront.parse import Delete, Insert, Update
from sqlfront.plan.nodes import (
    Cte,
    Filter,
    Join,
    Limit,
    Node,
    PlanColumn,
    Project,
    Scan,
    Sort,
    Values,
    With,
    whole_scan,
)
from sqlfront.plan.rules.push_filters import substitute


@dataclass(frozen=True, slots=True)
class DefaultValue:
    """DEFAULT in the place of a value."""


DEFAULT = DefaultValue()


@dataclass(frozen=True, slots=True)
class Assignment:
    """column = value; `value` sees the row's columns (of an existing row, and VALUES(c) of the new one)."""

    offset: int
    value: Expr | DefaultValue


@dataclass(frozen=True, slots=True)
class InsertPlan:
    """Rows for `targets` (column offsets), from literal rows or a query.

    `existing` and `new` are the column ids of the row in place and of the row that was to be inserted, for
    `on_duplicate`; `beside` are those of more columns that the query gives for it, after those of `targets`. With
    `reads_row`, literal rows have expressions over `new`: the values before them, and the defaults of those after.
    """

    table: Table
    targets: tuple[int, ...]
    rows: tuple[tuple[Expr | DefaultValue, ...], ...]
    query: Node | None
    replace: bool
    ignore: bool
    on_duplicate: tuple[Assignment, ...]
    existing: tuple[int, ...]
    new: tuple[int, ...]
    beside: tuple[int, ...] = ()
    reads_row: bool = False
    partitions: frozenset[int] = frozenset()
    """The numbers of the partitions that rows have to be of; none for all."""


@dataclass(frozen=True, slots=True)
class ChangePlan:
    """UPDATE (`assignments`) or DELETE of rows of one table, found by one scan."""

    scan: Scan
    assignments: tuple[Assignment, ...] | None
    order: tuple[OrderKey, ...]
    limit: Limit | None
    ignore: bool = False


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """One table that a joined UPDATE or DELETE changes.

    `key` are the positions, in the query's rows, of the values that name the record: its primary key's, or the hidden
    row id. `assigned` maps column offsets to positions, -1 for DEFAULT.
    """

    table: Table
    key: tuple[int, ...]
    assigned: tuple[tuple[int, int], ...] | None
    partition: tuple[tuple[int, int], ...] = ()
    """Column offsets and positions of the values that decide on the record's partition."""


@dataclass(frozen=True, slots=True)
class JoinedChangePlan:
    """UPDATE or DELETE whose rows a whole query finds: joins, subqueries."""

    query: Node
    targets: tuple[TargetPlan, ...]
    ignore: bool = False


# INSERT


def bind_insert(ctx: BindContext, statement: Insert) -> InsertPlan:
    """Binds INSERT and REPLACE."""
    ast = statement.ast
    for key in ("overwrite", "by_name", "returning", "partition", "with_", "where", "stored", "settings"):
        if ast.args.get(key):
            raise refuse(ast)
    target = ast.this.this if isinstance(ast.this, exp.Schema) else ast.this
    if not isinstance(target, exp.Table):
        raise refuse(ast)
    table = ctx.find_relation(target.db, target.name, position_of(target))
    if table.view is not None:
        verb = "replace" if statement.replace else "insert"
        raise _not_updatable(f"{verb} into view {table.name}", position_of(target))
    ctx.check_writable(table, position_of(target))
    parts = partition_names(table, target.args.get("partition"), position_of(target))
    names = ast.this.expressions if isinstance(ast.this, exp.Schema) else []
    targets = _targets(table, names, repeats=statement.repeats)
    existing = tuple(ctx.new_id() for _ in table.columns)
    new = tuple(ctx.new_id() for _ in table.columns)
    on_duplicate: tuple[Assignment, ...] = ()
    conflict = ast.args.get("conflict")
    scope = Scope() if conflict is None else _conflict_scope(conflict, table, existing, new, ast, targets)
    wanted = [] if conflict is None else _selected_beside(conflict, scope, ast.expression)
    rows, query = _source(ctx, ast, table, targets, new, wanted)
    beside = () if query is None else query.cols[len(targets) :]
    _check_generated(table, targets, rows, query)
    if conflict is not None:
        by_table: dict[tuple[str, str], list[PlanColumn]] = {}
        for column, node in zip(beside, wanted, strict=True):
            called = replace(column, name=node.name, nullable=True)
            by_table.setdefault((node.table.casefold(), node.db.casefold()), []).append(called)
        for (name, db), columns in by_table.items():
            scope.add(Relation(name, db, tuple(columns)))
        binder = _row_binder(ctx, scope, table)
        binder.values_row = {
            c.name.casefold(): Column(i, c.type, c.name) for i, c in zip(new, table.visible, strict=False)
        }
        on_duplicate = _assignments(conflict.expressions, table, binder)
    ignore = bool(ast.args.get("ignore"))
    return InsertPlan(
        table,
        targets,
        rows,
        query,
        statement.replace,
        ignore,
        on_duplicate,
        existing,
        new,
        tuple(c.id for c in beside),
        any(_reads(e, frozenset(new)) for row in rows for e in row),
        frozenset(number for number, part in enumerate(table.parts) if part.partition.lower() in parts),
    )


def _check_generated(
    table: Table, targets: tuple[int, ...], rows: Sequence[tuple[Expr | DefaultValue, ...]], query: Node | None
) -> None:
    """Raises 3105 when an INSERT gives a generated column more than DEFAULT."""
    for place, offset in enumerate(targets if table.generated else ()):
        column = table.columns[offset]
        if query is not None:
            _stays_generated(table, column, Const(None, column.type))
        for row in rows:
            _stays_generated(table, column, row[place])


def _targets(table: Table, names: Sequence[exp.Expression], *, repeats: bool) -> tuple[int, ...]:
    if not names:
        return tuple(c.offset for c in table.visible)
    out: list[int] = []
    for node in names:
        offset = _column(table, node).offset
        if offset in out and not repeats:
            raise error(1110, f"Column '{node.name}' specified twice", position=position_of(node))
        out.append(offset)
    return tuple(out)


def _column(table: Table, node: exp.Expression) -> CatalogColumn:
    column = table.column(node.name)
    if column is None:
        near = near_match(node.name, [c.name for c in table.visible])
        raise error(ER_BAD_FIELD, f"Unknown column '{node.name}' in 'field list'{near}", position=position_of(node))
    return column


def _source(
    ctx: BindContext,
    ast: exp.Insert,
    table: Table,
    targets: tuple[int, ...],
    new: tuple[int, ...],
    beside: Sequence[exp.Column],
) -> tuple[tuple[tuple[Expr | DefaultValue, ...], ...], Node | None]:
    source = ast.expression
    if source is None and ast.args.get("default"):
        return ((DEFAULT,) * len(targets),), None
    if isinstance(source, exp.Values):
        try:
            return _value_rows(_row_binder(ctx, Scope(), table), source, table, targets)
        except DatabaseError as exc:
            if exc.code != ER_BAD_FIELD:
                raise
        # Columns of the row itself are rare: looked for when there is a name to be found.
        scope = Scope()
        cols = (
            PlanColumn(i, c.name, c.type, True, table.name, table.db) for i, c in zip(new, table.visible, strict=False)
        )
        scope.add(Relation(table.name, table.db, tuple(cols)))
        return _value_rows(_row_binder(ctx, scope, table), source, table, targets)
    if source is None:
        raise refuse(ast)
    if beside:
        source = _unwrapped(source).copy()
        source.set("expressions", [*source.expressions, *(column.copy() for column in beside)])
    query = QueryBinder(ctx).bind(source).root
    if len(query.cols) != len(targets) + len(beside):
        raise error(ER_WRONG_VALUE_COUNT_ON_ROW, "Column count doesn't match value count at row 1")
    return (), _as_assigned(ctx, query, table, targets)


def _as_assigned(ctx: BindContext, query: Node, table: Table, targets: tuple[int, ...]) -> Node:
    """The query with the values that an assignment to the targets converts."""
    columns = [fn.for_column(c.ref(), table.columns[o].type) for c, o in zip(query.cols, targets, strict=False)]
    if all(isinstance(expr, Column) for expr in columns):
        return query
    columns += [c.ref() for c in query.cols[len(targets) :]]
    made = tuple(ctx.column(c.name, e.type) for c, e in zip(query.cols, columns, strict=True))
    return Project(query, made, tuple(columns))


def _value_rows(
    binder: ExprBinder, values: exp.Values, table: Table, targets: tuple[int, ...]
) -> tuple[tuple[tuple[Expr | DefaultValue, ...], ...], Node | None]:
    rows: list[tuple[Expr | DefaultValue, ...]] = []
    subqueries = False
    for number, item in enumerate(values.expressions, 1):
        nodes = item.expressions if isinstance(item, exp.Tuple) else [item]
        if len(nodes) == 1 and isinstance(nodes[0], exp.Anonymous) and str(nodes[0].this).lower() == "row":
            nodes = nodes[0].expressions
        if not nodes:
            rows.append((DEFAULT,) * len(targets))
            continue
        if len(nodes) != len(targets):
            raise error(ER_WRONG_VALUE_COUNT_ON_ROW, f"Column count doesn't match value count at row {number}")
        row = tuple(_stored(binder, n, table.columns[i].type) for n, i in zip(nodes, targets, strict=True))
        subqueries = subqueries or any(
            isinstance(p, Subquery) for e in row if not isinstance(e, DefaultValue) for p in walk(e)
        )
        rows.append(row)
    if not subqueries:
        return tuple(rows), None
    if any(isinstance(e, DefaultValue) for r in rows for e in r):
        raise unsupported("DEFAULT beside a subquery in VALUES")
    if binder.scope.relations:
        raise unsupported("columns beside a subquery in VALUES")
    first = rows[0]
    cols = tuple(binder.ctx.column("", table.columns[o].type if isinstance(e, DefaultValue) else e.type)
                 for o, e in zip(targets, first, strict=True))  # fmt: skip
    from coprocessor import functions as fn

    cast = tuple(
        tuple(fn.cast_to(e, c.type) for e, c in zip(r, cols, strict=True) if not isinstance(e, DefaultValue))
        for r in rows
    )
    return (), Values(cols, cast)


def _row_binder(ctx: BindContext, scope: Scope, table: Table) -> ExprBinder:
    binder = ExprBinder(ctx, scope, QueryBinder(ctx))
    binder.default_of = lambda node: _column(table, node)
    return binder


def _reads(expr: Expr | DefaultValue, ids: frozenset[int]) -> bool:
    return not isinstance(expr, DefaultValue) and any(isinstance(p, Column) and p.id in ids for p in walk(expr))


def _is_default(node: exp.Expression) -> bool:
    if isinstance(node, exp.Var):
        return bool(node.name.upper() == "DEFAULT")
    return bool(
        isinstance(node, exp.Column)
        and not node.table
        and node.name.upper() == "DEFAULT"
        and not node.this.args.get("quoted")
    )


def _conflict_scope(
    conflict: exp.Expression,
    table: Table,
    existing: tuple[int, ...],
    new: tuple[int, ...],
    ast: exp.Insert,
    targets: Sequence[int],
) -> Scope:
    """What ON DUPLICATE KEY UPDATE sees: the row in place, and the new one by its alias, perhaps with other names."""
    if not conflict.args.get("duplicate"):
        raise refuse(conflict)
    scope = Scope()
    old_cols = tuple(
        PlanColumn(i, c.name, c.type, True, table.name, table.db) for i, c in zip(existing, table.visible, strict=False)
    )
    scope.add(Relation(table.name, table.db, old_cols))
    alias = ast.args.get("alias") or (ast.expression.args.get("alias") if ast.expression is not None else None)
    if isinstance(alias, exp.TableAlias):
        names = {offset: c.name for offset, c in enumerate(table.visible)}
        renamed = [c.name for c in alias.args.get("columns") or []]
        if renamed:
            if len(renamed) != len(targets):
                raise error(1353, "In definition of view, derived table or common table expression, SELECT list and"
                                  " column names list have different column counts")  # fmt: skip
            names = dict(zip(targets, renamed, strict=True))
        new_cols = tuple(
            PlanColumn(new[at], name, table.columns[at].type, True, alias.name) for at, name in names.items()
        )
        relation = Relation(alias.name, "", new_cols)
        scope.add(relation, hidden={c.name.casefold() for c in table.visible})
    return scope


def _selected_beside(conflict: exp.Expression, scope: Scope, source: exp.Expression | None) -> list[exp.Column]:
    """The columns that ON DUPLICATE KEY UPDATE reads of the SELECT's tables, of which each row stands for one."""
    select = None if source is None else _unwrapped(source)
    if not isinstance(select, exp.Select) or any(select.args.get(key) for key in ("distinct", "group", "having")):
        return []
    out: dict[tuple[str, str, str], exp.Column] = {}
    for assignment in conflict.expressions:
        for node in assignment.find_all(exp.Column) if isinstance(assignment, exp.EQ) else ():
            inside = node.find_ancestor(exp.Select, exp.Insert)
            key = (node.db.casefold(), node.table.casefold(), node.name.casefold())
            if not isinstance(inside, exp.Select) and scope.local(node.db, node.table, node.name) is None:
                out.setdefault(key, node)
    return list(out.values())


def _unwrapped(source: exp.Expression) -> exp.Expression:
    while isinstance(source, exp.Subquery) and not source.alias:
        source = source.this
    return source


def _stored(binder: ExprBinder, node: exp.Expression, column: FieldType) -> Expr | DefaultValue:
    """Binds the value of a column: a number keeps the digits of a quotient that only a longer column shows, and a
    hexadecimal or bit literal is a number for a column of numbers.
    """
    if _is_default(node):
        return DEFAULT
    return fn.for_column(binder.number(node) if column.is_numeric else binder.bind(node), column)


def _assignments(nodes: Sequence[exp.Expression], table: Table, binder: ExprBinder) -> tuple[Assignment, ...]:
    out: list[Assignment] = []
    for node in nodes:
        if not isinstance(node, exp.EQ):
            raise refuse(node)
        of, db = node.left.text("table"), node.left.text("db")
        if of.casefold() not in ("", table.name.casefold()) or db.casefold() not in ("", table.db.casefold()):
            named = ".".join(filter(None, (db, of, node.left.name)))
            raise error(ER_BAD_FIELD, f"Unknown column '{named}' in 'field list'", position=position_of(node.left))
        column = _column(table, node.left)
        value = _stored(binder, node.right, column.type)
        if not _stays_generated(table, column, value, node):
            out.append(Assignment(column.offset, value))
    return tuple(out)


def _stays_generated(
    table: Table, column: CatalogColumn, value: Expr | DefaultValue, node: exp.Expression | None = None
) -> bool:
    """Whether DEFAULT is given to a generated column, which says nothing; any other value for one is error 3105."""
    if column.generated is None:
        return False
    if not isinstance(value, DefaultValue):
        message = f"The value specified for generated column '{column.name}' in table '{table.name}' is not allowed."
        raise error(3105, message, position=-1 if node is None else position_of(node))
    return True


# UPDATE and DELETE


def bind_update(ctx: BindContext, statement: Update) -> ChangePlan | JoinedChangePlan:
    """Binds UPDATE."""
    ast = statement.ast
    for key in ("returning", "from_"):
        if ast.args.get(key):
            raise refuse(ast)
    scope, plan, ctes = _from(ctx, ast.this, ast)
    queries = QueryBinder(ctx)
    binder = ExprBinder(ctx, scope, queries)
    by_table: dict[str, tuple[Scan, list[Assignment]]] = {}
    scans = _scans(plan)
    binder.default_of = lambda node: _column(_scan_of(scope, scans, node).table, node)
    for node in ast.expressions:
        if not isinstance(node, exp.EQ) or not isinstance(node.left, exp.Column):
            raise refuse(node)
        scan = _scan_of(scope, scans, node.left)
        ctx.check_writable(scan.table, position_of(node.left))
        column = _column(scan.table, node.left)
        value = _stored(binder, node.right, column.type)
        changes = by_table.setdefault(scan.alias.casefold(), (scan, []))[1]
        if not _stays_generated(scan.table, column, value, node):
            changes.append(Assignment(column.offset, value))
    plan, order, limit = _tail(ctx, queries, plan, ast, scope)
    simple = _single_change(plan, [a for _, aa in by_table.values() for a in aa], order, limit, statement.ignore)
    if simple is not None:
        return simple
    alone = _alone(plan, order, limit, "UPDATE")
    targets = [(s, _each_after(a, s) if alone else a) for s, a in by_table.values()]
    return _joined(ctx, _first_rows(plan, order, limit), ctes, targets, statement.ignore)


def bind_delete(ctx: BindContext, statement: Delete) -> ChangePlan | JoinedChangePlan:
    """Binds DELETE."""
    ast = statement.ast
    for key in ("returning", "cluster"):
        if ast.args.get(key):
            raise refuse(ast)
    using = ast.args.get("using")
    source = ast.this if not using else using[0]
    if not source:  # DELETE t WHERE ...
        raise error(ER_PARSE, "You have an error in your SQL syntax: DELETE without FROM", position=position_of(ast))
    scope, plan, ctes = _from(ctx, source, ast, also=using[1:] if using else ())
    queries = QueryBinder(ctx)
    plan, order, limit = _tail(ctx, queries, plan, ast, scope)
    named = ast.args.get("tables") or (_listed(ast.this) if using else [])
    _refuse_views(scope, named or [source])
    scans = _scans(plan)
    targets = [_target(scans, t) for t in named] if named else scans
    for scan, node in zip(targets, named, strict=False):
        if sum(scan is other for other in targets) > 1:
            raise error(1066, f"Not unique table/alias: '{node.name}'", position=position_of(node))
    for scan in targets:
        ctx.check_writable(scan.table)
    simple = _single_change(plan, None, order, limit, statement.ignore)
    if simple is not None:
        return simple
    _alone(plan, order, limit, "DELETE")
    if not named and len(targets) != 1:
        raise refuse(ast)
    return _joined(ctx, _first_rows(plan, order, limit), ctes, [(s, None) for s in targets], statement.ignore)


def _alone(plan: Node, order: tuple[OrderKey, ...], limit: Limit | None, verb: str) -> bool:
    """Whether the rows are those of one table, under whatever conditions. Raises 1221 for order and limit of joins."""
    while isinstance(plan, Filter):
        plan = plan.child
    if whole_scan(plan) is not None:
        return True
    if order or limit is not None:
        raise error(1221, f"Incorrect usage of {verb} and {'ORDER BY' if order else 'LIMIT'}")
    return False


def _first_rows(plan: Node, order: tuple[OrderKey, ...], limit: Limit | None) -> Node:
    if order:
        plan = Sort(plan, order)
    return plan if limit is None else replace(limit, child=plan)


def _each_after(assignments: Sequence[Assignment], scan: Scan) -> list[Assignment]:
    """Assignments of which each sees what those before it did, as those of an UPDATE of one table do."""
    ids = dict(zip(scan.offsets, scan.cols, strict=True))
    known: dict[int, Expr] = {}
    out: list[Assignment] = []
    for assignment in assignments:
        value, column = assignment.value, ids[assignment.offset]
        if not isinstance(value, DefaultValue):
            value = substitute(value, known)
            known[column.id] = fn.cast_to(value, column.type)
        else:
            default = scan.table.columns[assignment.offset].default
            if default.kind == "const" and not default.utc:
                known[column.id] = Const(default.value, column.type)
        out.append(Assignment(assignment.offset, value))
    return out


def _not_updatable(what: str, position: int) -> DatabaseError:
    """What TiDB says of a view whose rows are to be changed (but for UPDATE, which is 1288)."""
    return NotSupportedError(f"{what} is not supported now", ER_UNKNOWN_ERROR, "HY000", position)


def _refuse_views(scope: Scope, named: Sequence[exp.Expression]) -> None:
    """Refuses to delete from a view."""
    views = {relation.alias.casefold(): relation.view for relation in scope.relations if relation.view}
    for node in named:
        name = node.alias_or_name.casefold()
        if name in views:
            raise _not_updatable(f"delete view {views[name]}", position_of(node))


def _listed(first: exp.Expression) -> list[exp.Expression]:
    """The tables of DELETE FROM a, b USING ...: sqlglot hangs all but the first on it, as joins."""
    joined = first.args.get("joins") or []
    if any(set(join.args) - {"this"} and any(v for k, v in join.args.items() if k != "this") for join in joined):
        raise refuse(first)
    return [first, *(join.this for join in joined)]


def _from(
    ctx: BindContext,
    source: exp.Expression,
    ast: exp.Expression,
    also: Sequence[exp.Expression] = (),
) -> tuple[Scope, Node, tuple[Cte, ...]]:
    ctx.locking = True
    scope = Scope()
    queries = QueryBinder(ctx)
    ctes = queries.definitions(ast, scope)
    listed = [exp.Join(this=item.copy()) for item in also]
    plan = queries.joined(source, [*listed, *(ast.args.get("joins") or [])], scope)
    return scope, plan, ctes


def _tail(
    ctx: BindContext, queries: QueryBinder, plan: Node, ast: exp.Expression, scope: Scope
) -> tuple[Node, tuple[OrderKey, ...], Limit | None]:
    binder = ExprBinder(ctx, scope, queries)
    where = ast.args.get("where")
    if where is not None:
        binder.clause = "where clause"
        plan = Filter(plan, tuple(binder.bind_condition(where.this)))
    order: tuple[OrderKey, ...] = ()
    if ast.args.get("order") is not None:
        binder.clause = "order clause"
        items = ast.args["order"].expressions
        order = tuple(OrderKey(binder.bind(i.this), bool(i.args.get("desc"))) for i in items)
    limited = queries.limited(plan, ast)
    return plan, order, limited if isinstance(limited, Limit) else None


def _scans(plan: Node) -> list[Scan]:
    scan = whole_scan(plan)
    if scan is not None:
        return [scan]
    match plan:
        case Filter() | Sort() | Limit():
            return _scans(plan.child)
        case Join():
            return _scans(plan.left) + _scans(plan.right)
        case _:
            return []


def _scan_of(scope: Scope, scans: Sequence[Scan], node: exp.Column) -> Scan:
    found = scope.resolve(node.db, node.table, node.name, position_of(node))
    if found is None:
        raise scope.unknown(node.table, node.name, position_of(node), "field list")
    for scan in scans:
        if any(c.id == found.id for c in scan.cols):
            return scan
    raise error(
        1288, f"The target table {node.table or found.table} of the UPDATE is not updatable", position=position_of(node)
    )


def _target(scans: Sequence[Scan], node: exp.Table) -> Scan:
    for scan in scans:
        if scan.alias.casefold() == node.name.casefold():
            return scan
    raise error(1109, f"Unknown table '{node.name}' in MULTI DELETE", position=position_of(node))


def _single_change(
    plan: Node,
    assignments: Sequence[Assignment] | None,
    order: tuple[OrderKey, ...],
    limit: Limit | None,
    ignore: bool = False,
) -> ChangePlan | None:
    """The change of rows that one table alone finds, by one scan with its conditions; None for any other.

    The table's virtual columns are read as what they are computed by.
    """
    conds: tuple[Expr, ...] = ()
    while isinstance(plan, Filter):
        conds = plan.conds + conds
        plan = plan.child
    scan = whole_scan(plan)
    if scan is None or any(_has_subquery(e) for e in (*conds, *(a.value for a in assignments or ()))):
        return None
    virtual: dict[int, Expr] = {}
    if isinstance(plan, Project):
        virtual = {c.id: e for c, e in zip(plan.cols, plan.exprs, strict=True)}
    changes = None
    if assignments is not None:
        changes = tuple(
            a if isinstance(a.value, DefaultValue) else Assignment(a.offset, substitute(a.value, virtual))
            for a in assignments
        )
    return ChangePlan(
        replace(scan, where=tuple(substitute(c, virtual) for c in conds)),
        changes,
        tuple(OrderKey(substitute(k.expr, virtual), k.desc) for k in order),
        limit,
        ignore,
    )


def _has_subquery(expr: Expr | DefaultValue) -> bool:
    return not isinstance(expr, DefaultValue) and any(isinstance(p, Subquery) for p in walk(expr))


def _joined(
    ctx: BindContext,
    plan: Node,
    ctes: tuple[Cte, ...],
    changes: Sequence[tuple[Scan, Sequence[Assignment] | None]],
    ignore: bool = False,
) -> JoinedChangePlan:
    """A query whose rows hold, for every target, the key of its record and the assigned values."""
    exprs: list[Expr] = []
    cols: list[PlanColumn] = []

    def add(expr: Expr) -> int:
        exprs.append(expr)
        cols.append(ctx.column("", expr.type))
        return len(exprs) - 1

    targets: list[TargetPlan] = []
    for scan, assignments in changes:
        by_offset = dict(zip(scan.offsets, scan.cols, strict=True))
        table = scan.table
        if table.handle_offset >= 0:
            offsets: tuple[int, ...] = (table.handle_offset,)
        elif table.common_handle:
            offsets = tuple(c.offset for c in table.common_handle)
        else:
            offsets = (-1,)
        key = tuple(add(by_offset[o].ref()) for o in offsets)
        assigned = None
        if assignments is not None:
            assigned = tuple((a.offset, -1 if isinstance(a.value, DefaultValue) else add(a.value)) for a in assignments)
        deciding = () if scan.partitions is None else scan.partitions.offsets
        targets.append(TargetPlan(table, key, assigned, tuple((o, add(by_offset[o].ref())) for o in deciding)))
    query: Node = Project(plan, tuple(cols), tuple(exprs))
    return JoinedChangePlan(With(ctes, query) if ctes else query, tuple(targets), ignore)
