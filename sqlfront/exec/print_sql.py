"""Prints a typed plan as one DuckDB query over its access paths' relations.

A node becomes a block (FROM, WHERE, items, ...); what comes later in SQL's order of evaluation is added to the block,
what does not fit any more wraps it. Every column is called c{id}: ids are unique within the statement, so no name
needs a qualifier and a correlated reference means the column it names.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

from coprocessor.duck_expr import Printer, duck_type
from coprocessor.env import Env
from coprocessor.expr import Call, Column, Const, Context, Expr, Param, Subquery, columns, walk
from coprocessor.functions.inference import collate_type
from coprocessor.functions.json_table import ROW_SEPARATOR
from coprocessor.functions.telling import tells
from coprocessor.types import BIGINT, BOOL
from sqlfront.errors import unsupported
from sqlfront.plan.nodes import (
    Aggregate,
    Cte,
    CteRef,
    Distinct,
    Filter,
    Join,
    Limit,
    Node,
    Parts,
    PlanColumn,
    Project,
    Scan,
    SetOp,
    Sort,
    TextRows,
    Values,
    Virtual,
    WindowNode,
    With,
    plan_of,
)

_MARK = "\0"
"""Stands before and after the name of a relation in a template."""

_WORD = re.compile(r"\w+")

_FROM, _WHERE, _ITEMS, _DISTINCT, _ORDER, _LIMIT = range(6)


Relation: TypeAlias = Scan | Virtual | Aggregate
"""What is read before DuckDB begins; an aggregate where the store makes it."""


@dataclass(frozen=True, slots=True)
class PrintedQuery:
    """A query for DuckDB: text, the relations it reads, its named parameters and UDFs."""

    template: str
    relations: dict[str, Relation]
    params: dict[str, Param | Context]
    udfs: dict[str, Call]

    def sql(self, sources: Mapping[str, str] = MappingProxyType({})) -> str:
        """The text, with a subquery in the place of each relation that `sources` names."""
        parts = self.template.split(_MARK)
        parts[1::2] = [sources.get(name, name) for name in parts[1::2]]
        return "".join(parts)

    def pieces(self) -> tuple[list[str], list[str]]:
        """The text between the relations, and what stands in between."""
        parts = self.template.split(_MARK)
        return parts[0::2], parts[1::2]

    def values(self, env: Env) -> dict[str, Any]:
        """The parameters' values in one execution, as DuckDB takes them."""
        values: dict[str, Any] = {}
        for name, node in self.params.items():
            value = env.params[node.index] if isinstance(node, Param) else env.value(node.key)
            values[name] = value // dt.timedelta(microseconds=1) if isinstance(value, dt.timedelta) else value
        return values


@dataclass(slots=True)
class _Block:
    source: str
    stage: int = _FROM
    where: list[str] = field(default_factory=list)
    items: list[str] | None = None
    tail: str = ""
    distinct: str = ""
    order: str = ""
    limit: str = ""
    ctes: str = ""

    def sql(self, cols: Sequence[PlanColumn]) -> str:
        items = self.items
        if items is None:
            items = [f"c{c.id}" for c in cols] or ["1 AS one"]
        parts = [f"{self.ctes}SELECT {self.distinct}{', '.join(items)} FROM {self.source}"]
        if self.where:
            parts.append("WHERE " + " AND ".join(self.where))
        parts += [p for p in (self.tail, self.order, self.limit) if p]
        return " ".join(parts)


def print_query(
    root: Node, *, padded: frozenset[int] | None = None, wide: bool = False, telling: bool = False
) -> PrintedQuery:
    """Prints the plan; `wide` and `telling` are `duck_expr.Printer`'s.

    `padded` are the ids of scanned columns whose text values may end in a space; None tells that no text does.
    """
    printer = _PlanPrinter(padded, wide, telling)
    sql = printer.query(root)
    return PrintedQuery(sql, printer.relations, printer.expr.params, printer.expr.udfs)


class _PlanPrinter:
    def __init__(self, padded: frozenset[int] | None, wide: bool, telling: bool) -> None:
        self.expr = Printer(subquery=self._subquery, pad_safe=padded is not None, wide=wide, telling=telling)
        self._padded = padded or frozenset()
        self._trimmed: set[int] = set()
        self.expr.trimmed = self._trimmed
        self._trimmed_ctes: dict[int, list[bool]] = {}
        self.relations: dict[str, Relation] = {}
        self._aliases = 0

    def query(self, node: Node) -> str:
        """Prints a node as a SELECT with its columns in order."""
        return self._block(node).sql(node.cols)

    def _block(self, node: Node) -> _Block:
        match node:
            case Scan() | Virtual():
                return self._relation(node)
            case Parts():
                parts = " UNION ALL ".join(self._block(scan).sql(node.cols) for scan in node.scans)
                return _Block(f"({parts}) AS {self._alias(node.cols)}")
            case Values():
                return self._values(node)
            case TextRows():
                pieces = f"string_split({self.expr.value(node.text)}, chr({ord(ROW_SEPARATOR)}))"
                return _Block(f"(SELECT unnest({pieces})) AS {self._alias(node.cols)}")
            case Filter():
                block = self._at(node.child, _WHERE)
                block.where += self._conjuncts(node.conds)
                return block
            case Project():
                return self._project(node)
            case Join():
                return self._join(node)
            case Aggregate():
                return self._relation(node) if node.pushed else self._aggregate(node)
            case WindowNode():
                return self._window(node)
            case Distinct():
                return self._distinct(node)
            case Sort():
                return self._sorted(node)
            case Limit():
                block = self._at(node.child, _LIMIT)
                block.limit = self._limit(node)
                return block
            case SetOp():
                return self._set_operation(node)
            case CteRef():
                ends = self._trimmed_ctes.get(node.cte_id, ())
                self._trimmed.update(c.id for c, trimmed in zip(node.cols, ends, strict=False) if trimmed)
                return _Block(f"cte{node.cte_id} AS {self._alias(node.cols)}")
            case With():
                return self._with(node)

    def _at(self, child: Node, stage: int) -> _Block:
        """The child's block, ready to take something of `stage`: wrapped when it is past that."""
        block = self._block(child)
        # WHERE may be added to as long as nothing came after it; every later stage only once.
        if block.stage > stage or (block.stage == stage and stage != _WHERE):
            block = _Block(f"({block.sql(child.cols)}) AS {self._alias(child.cols)}")
        block.stage = stage
        return block

    def _alias(self, cols: Sequence[PlanColumn]) -> str:
        self._aliases += 1
        names = ", ".join(f"c{c.id}" for c in cols) or "one"
        return f"q{self._aliases}({names})"

    def _conjuncts(self, conds: Sequence[Expr]) -> list[str]:
        """Conditions that all have to hold; one that tells something is computed where those without do."""
        if self.expr.telling and len(conds) > 1:
            quiet = [c for c in conds if not tells(c)]
            told = [c for c in conds if tells(c)]
            if told:
                conds = [*quiet, Call("and", (*quiet, *told), BOOL)]
        return [f"({self.expr.condition(c)})" for c in conds]

    # Sources

    def _relation(self, node: Relation) -> _Block:
        if any(col.type.is_decimal for col in node.cols):
            from coprocessor.arrow import duckdb_type

            for col in node.cols:
                duckdb_type(col.type)  # refuses what DuckDB cannot hold
        name = f"r{len(self.relations)}"
        self.relations[name] = node
        self._trimmed.update(c.id for c in node.cols if c.id not in self._padded)
        names = ", ".join(f"c{c.id}" for c in node.cols)
        block = _Block(f"{_MARK}{name}{_MARK} AS {name}({names})")
        if isinstance(node, Scan) and node.left:
            block.where = self._conjuncts(node.left)
            block.stage = _WHERE
        return block

    def _values(self, node: Values) -> _Block:
        if not node.cols:
            return _Block("(SELECT 1) AS one_row(one)")
        if not node.rows:
            nulls = ", ".join(self.expr.value(Const(None, c.type)) for c in node.cols)
            return _Block(f"(SELECT {nulls} LIMIT 0) AS {self._alias(node.cols)}")
        rows = ", ".join("(" + ", ".join(self.expr.value(e) for e in row) + ")" for row in node.rows)
        return _Block(f"(VALUES {rows}) AS {self._alias(node.cols)}")

    def _join(self, node: Join) -> _Block:
        left = self._operand(node.left)
        right = self._operand(node.right, nested=True)
        if node.lateral:
            right = "LATERAL " + right
        if not node.on:
            if node.kind == "inner":
                return _Block(f"{left} CROSS JOIN {right}")
            return _Block(f"{left} LEFT JOIN {right} ON TRUE")
        on = " AND ".join(self._conjuncts(node.on))
        return _Block(f"{left} {'LEFT' if node.kind == 'left' else 'INNER'} JOIN {right} ON {on}")

    def _operand(self, node: Node, *, nested: bool = False) -> str:
        block = self._block(node)
        if block.stage == _FROM and block.items is None and not block.ctes:
            return f"({block.source})" if nested and isinstance(node, Join) else block.source
        return f"({block.sql(node.cols)}) AS {self._alias(node.cols)}"

    # Items

    def _project(self, node: Project) -> _Block:
        block = self._projected(node)
        self._hand_on(node.cols, node.exprs)
        return block

    def _hand_on(self, cols: Sequence[PlanColumn], exprs: Sequence[Expr]) -> None:
        """Notes which of a node's columns have no value that ends in a space."""
        for col, expr in zip(cols, exprs, strict=True):
            if col.type.is_string and self.expr.is_trimmed(expr):
                self._trimmed.add(col.id)

    def _projected(self, node: Project) -> _Block:
        sorted_block = self._sorted_source(node.child)
        if sorted_block is not None:  # the order must not be below another SELECT
            if self.expr.telling and sorted_block.limit and any(map(tells, node.exprs)):
                cut = f"({sorted_block.sql(node.child.cols)}) AS {self._alias(node.child.cols)}"
                sorted_block = _Block(cut, _ORDER, order=sorted_block.order)
            sorted_block.items = self._items(node) or ["1 AS one"]
            return sorted_block
        block = self._at(node.child, _ITEMS)
        with self.expr.sharing() as shared:
            items = self._items(node) or ["1 AS one"]
        if shared:
            block = self._computed(block, [f"c{c.id}" for c in node.child.cols], shared)
        block.items = items
        return block

    def _items(self, node: Project) -> list[str]:
        return [self._item(self.expr.value(e), c) for c, e in zip(node.cols, node.exprs, strict=True)]

    def _computed(self, block: _Block, names: list[str], shared: dict[str, str]) -> _Block:
        """Puts under a block what its items share: layer on layer, as one text has another's name."""
        left = dict(shared)
        while left:
            ready = {n: text for n, text in left.items() if not left.keys() & set(_WORD.findall(text))} or left
            block.items = [*(block.items or names), *(f"{text} AS {name}" for name, text in ready.items())]
            names = [*names, *ready]
            self._aliases += 1
            block = _Block(f"({block.sql(())}) AS q{self._aliases}", _ITEMS)
            left = {name: text for name, text in left.items() if name not in ready}
        return block

    def _sorted(self, node: Sort) -> _Block:
        block = self._at(node.child, _ORDER)
        named = all(self.expr.sort_value(k.expr) == f"c{k.expr.id}" for k in node.keys if isinstance(k.expr, Column))
        if block.items is not None and not named and _selects_subqueries(node.child):
            # DuckDB takes the name of an item with a subquery as a key, but not within one
            block = _Block(f"({block.sql(node.child.cols)}) AS {self._alias(node.child.cols)}", _ORDER)
        block.order = "ORDER BY " + ", ".join(self.expr.order_key(k.expr, k.desc) for k in node.keys)
        return block

    def _sorted_source(self, node: Node) -> _Block | None:
        """A projection over a sort is one block: the order of a derived table promises nothing about the query over
        it.
        """
        limit = node if isinstance(node, Limit) else None
        sort = limit.child if limit is not None else node
        if not isinstance(sort, Sort):
            return None
        inner = self._block(sort.child)
        block = _Block(f"({inner.sql(sort.child.cols)}) AS {self._alias(sort.child.cols)}", _LIMIT)
        block.order = "ORDER BY " + ", ".join(self.expr.order_key(k.expr, k.desc) for k in sort.keys)
        if limit is not None:
            block.limit = self._limit(limit)
        return block

    @staticmethod
    def _item(text: str, col: PlanColumn) -> str:
        name = f"c{col.id}"
        return text if text == name else f"{text} AS {name}"

    def _aggregate(self, node: Aggregate) -> _Block:
        block = self._aggregated(node)
        keys = [self.expr.group_key(e) for e in node.groups]
        if node.rollup:  # a bare constant would be an ordinal
            keys = [f"CAST({k} AS {duck_type(e.type)})" if isinstance(e, Const) else k
                    for k, e in zip(keys, node.groups, strict=True)]  # fmt: skip
        items: list[str] = []
        for col, key, expr in zip(node.cols, keys, node.groups, strict=False):
            value = self.expr.value(expr)
            if value != key:
                # Where strings that differ are equal to the collation, any of the group's may stand for it.
                value = f"any_value({value})"
                if node.rollup:
                    value = f"CASE WHEN grouping({key}) = 0 THEN {value} END"
            items.append(self._item(value, col))
        with self.expr.sharing() as shared:
            aggs = [self.expr.value(agg) for agg in node.aggs]
        # what reads shared texts alone is computed above the groups
        above = [bool(shared.keys() & set(_WORD.findall(text))) for text in aggs]
        cols = node.cols[len(node.groups) :]
        items += [self._item(t, c) for t, c, late in zip(aggs, cols, above, strict=True) if not late]
        block.items = items or (["count(*) AS one"] if not any(above) else [])
        if keys:
            block.tail = self._group_by(node, keys)
        if any(above):
            late_cols = {c.id for c, late in zip(cols, above, strict=True) if late}
            block = self._computed(block, [f"c{c.id}" for c in node.cols if c.id not in late_cols], shared)
            texts = {c.id: text for c, text in zip(cols, aggs, strict=True) if c.id in late_cols}
            block.items = [self._item(texts[c.id], c) if c.id in texts else f"c{c.id}" for c in node.cols]
        self._hand_on(node.cols, (*node.groups, *node.aggs))
        return block

    def _aggregated(self, node: Aggregate) -> _Block:
        """What is aggregated. Columns of an outer query become columns of it where aggregates read them: else DuckDB
        takes an aggregate of theirs for one of the outer query.
        """
        block = self._at(node.child, _ITEMS)
        here = [c.id for c in node.child.cols]
        read: set[int] = set().union(*(columns(a) for a in node.aggs))
        outer = sorted(read.difference(here))
        if not outer:
            return block
        names = ", ".join(f"c{id_}" for id_ in (*here, *outer))
        self._aliases += 1
        return _Block(
            f"(SELECT {names} FROM ({block.sql(node.child.cols)}) AS a{self._aliases}) AS b{self._aliases}", _ITEMS
        )

    def _group_by(self, node: Aggregate, keys: Sequence[str]) -> str:
        """GROUP BY, by the items' ordinals where they can stand: a constant key would be read as one."""
        if node.rollup:
            return f"GROUP BY ROLLUP ({', '.join(keys)})"
        listed = [
            str(i) if key == self.expr.value(e) else key
            for i, (key, e) in enumerate(zip(keys, node.groups, strict=True), 1)
        ]
        return f"GROUP BY {', '.join(listed)}"

    def _window(self, node: WindowNode) -> _Block:
        block = self._at(node.child, _ITEMS)
        block.items = [f"c{c.id}" for c in node.child.cols]
        block.items += [self._item(self.expr.value(w), c) for c, w in zip(node.added, node.windows, strict=True)]
        return block

    def _distinct(self, node: Distinct) -> _Block:
        block = self._at(node.child, _DISTINCT)
        if block.items is None:
            block.items = [f"c{c.id}" for c in node.cols]
        keys = [self.expr.group_key(c.ref()) for c in node.cols]
        if keys == [f"c{c.id}" for c in node.cols]:
            block.distinct = "DISTINCT "
            return block
        inner = _Block(f"({block.sql(node.cols)}) AS {self._alias(node.cols)}", _DISTINCT)
        inner.distinct = f"DISTINCT ON ({', '.join(keys)}) "
        return inner

    def _limit(self, node: Limit) -> str:
        parts = []
        if node.count is not None:
            parts.append(f"LIMIT {self._count(node.count)}")
        if node.offset is not None:
            parts.append(f"OFFSET {self._count(node.offset)}")
        return " ".join(parts)

    def _count(self, expr: Expr) -> str:
        # 2**64 - 1 is MySQL's way to say "all the rest"; DuckDB counts in signed 64 bits.
        if isinstance(expr, Const) and isinstance(expr.value, int):
            return str(min(expr.value, (1 << 62)))
        count = f"coalesce(CAST({self.expr.value(expr)} AS HUGEINT), 0)"
        return f"CAST(least({count}, {1 << 62}) AS BIGINT)"

    def _set_operation(self, node: SetOp) -> _Block:
        word = {"union": "UNION", "except": "EXCEPT", "intersect": "INTERSECT"}[node.kind]
        if not node.distinct:
            word += " ALL"
        operands = _operands(node)
        texts = [self.query(n) for n in operands]
        sides = [[c.id in self._trimmed for c in n.cols] for n in operands]
        self._trimmed.update(c.id for c, *ends in zip(node.cols, *sides, strict=True) if all(ends))
        if node.kind != "union" and any(
            self._side_keys(node, side) != [f"c{c.id}" for c in side.cols] for side in operands
        ):
            return self._found_among(node, *texts)
        listed = [f"SELECT * FROM ({text})" for text in texts]
        keys = [self.expr.group_key(c.ref()) for c in node.cols]
        if node.kind == "union" and node.distinct and keys != [f"c{c.id}" for c in node.cols]:
            block = _Block(f"({' UNION ALL '.join(listed)}) AS {self._alias(node.cols)}", _DISTINCT)
            block.distinct = f"DISTINCT ON ({', '.join(keys)}) "
            return block
        return _Block(f"({f' {word} '.join(listed)}) AS {self._alias(node.cols)}")

    def _side_keys(self, node: SetOp, side: Node) -> list[str]:
        """What tells which rows of one side of EXCEPT or INTERSECT are equal."""
        return [
            self.expr.group_key(Column(c.id, c.type.with_(collate=out.type.collate) if c.type.is_text else c.type))
            for c, out in zip(side.cols, node.cols, strict=True)
        ]

    def _found_among(self, node: SetOp, left: str, right: str) -> _Block:
        """EXCEPT and INTERSECT of rows that are equal to their collations without being the same."""
        left_keys, right_keys = self._side_keys(node, node.left), self._side_keys(node, node.right)
        left, right = self._numbered(node.left, left, left_keys), self._numbered(node.right, right, right_keys)
        alike = [f"{a} IS NOT DISTINCT FROM {b}" for a, b in zip(left_keys, right_keys, strict=True)]
        first = ["one.number = 1"] if node.distinct else []
        number = [] if node.distinct else ["other.number = one.number"]
        names = ", ".join(f"one.c{c.id}" for c in node.left.cols)
        found = f"EXISTS (SELECT 1 FROM ({right}) AS other WHERE {' AND '.join(alike + number)})"
        where = " AND ".join([*first, found if node.kind == "intersect" else f"NOT {found}"])
        return _Block(f"(SELECT {names} FROM ({left}) AS one WHERE {where}) AS {self._alias(node.cols)}")

    def _numbered(self, side: Node, text: str, keys: Sequence[str]) -> str:
        """One side of EXCEPT or INTERSECT with its rows numbered among their equals."""
        number = f"row_number() OVER (PARTITION BY {', '.join(keys)}) AS number"
        return f"SELECT *, {number} FROM ({text}) AS {self._alias(side.cols)}"

    def _comparable(self, left: Expr, sql: str, column: PlanColumn, op: str) -> tuple[str, str]:
        """What is compared with a subquery's column, and the subquery with what it is compared by."""
        ref = column.ref()
        if not (left.type.is_string and column.type.is_string):
            return self.expr.comparand(left, column.type), sql
        common = collate_type((left, ref))
        order = op not in ("eq", "ne")
        key = self.expr.comparand(ref, common, order=order)
        if key != f"c{column.id}":
            sql = f"SELECT {key} FROM ({sql}) AS {self._alias([column])}"
        return self.expr.comparand(left, common, order=order), sql

    # Common table expressions and subqueries

    def _with(self, node: With) -> _Block:
        recursive = any(c.step is not None for c in node.ctes)
        listed = ", ".join(self._definition(c) for c in node.ctes)
        block = self._block(node.child)
        if block.ctes:
            block = _Block(f"({block.sql(node.child.cols)}) AS {self._alias(node.child.cols)}")
        block.ctes = f"WITH {'RECURSIVE ' if recursive else ''}{listed} "
        return block

    def _definition(self, cte: Cte) -> str:
        names = ", ".join(f"c{c.id}" for c in cte.cols)
        body = self.query(cte.plan)
        if cte.step is None:
            self._trimmed_ctes[cte.id] = [c.id in self._trimmed for c in cte.plan.cols]
            return f"cte{cte.id}({names}) AS ({body})"
        # DuckDB computes a subquery without columns of the outer query once an iteration, its cte the last one's rows.
        enough = "NULL" if cte.enough is None else self.expr.value(cte.enough)
        goes_on = self.expr.udf(_GOES_ON, [str(cte.id), enough, f"(SELECT count(*) FROM cte{cte.id})"])
        step = f"SELECT step.* FROM ({self.query(cte.step)}) AS step, (SELECT {goes_on} AS goes_on) WHERE goes_on = 1"
        union = "UNION" if cte.distinct else "UNION ALL"
        # materialized, as the iterations are counted for the whole statement
        return f"cte{cte.id}({names}) AS MATERIALIZED (SELECT * FROM ({body}) {union} {step})"

    def _row_in(self, node: Subquery, plan: Node, sql: str) -> str:
        """(a, b) IN (SELECT x, y ...): true on a match, unknown where only NULLs stand in the way of one, else
        false.
        """
        pairs = [(a, c.ref()) for a, c in zip(node.args, plan.cols, strict=True)]
        lefts = [self.expr.comparand(a, collate_type((a, c)) if a.type.is_string else c.type) for a, c in pairs]
        rights = [self.expr.comparand(c, collate_type((a, c)) if a.type.is_string else c.type) for a, c in pairs]
        match = " AND ".join(f"{left} = {right}" for left, right in zip(lefts, rights, strict=True))
        maybe = " AND ".join(
            f"({left} = {right} OR {left} IS NULL OR {right} IS NULL)"
            for left, right in zip(lefts, rights, strict=True)
        )
        found = f"EXISTS (SELECT 1 FROM ({sql}) AS {self._alias(plan.cols)} WHERE {match})"
        unknown = f"EXISTS (SELECT 1 FROM ({sql}) AS {self._alias(plan.cols)} WHERE {maybe})"
        return f"(CASE WHEN {found} THEN TRUE WHEN {unknown} THEN CAST(NULL AS BOOLEAN) ELSE FALSE END)"

    def _subquery(self, node: Subquery) -> str:
        plan = plan_of(node)
        sql = self.query(plan)
        match node.kind:
            case "scalar":
                return f"({sql})"
            case "exists":
                return f"EXISTS ({sql})"
            case "in" if len(node.args) == 1:
                left, sql = self._comparable(node.args[0], sql, plan.cols[0], "eq")
                return f"({left} IN ({sql}))"
            case "in":
                return self._row_in(node, plan, sql)
            case "any" | "all":
                op = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}[node.op]
                left, sql = self._comparable(node.args[0], sql, plan.cols[0], node.op)
                return f"({left} {op} {node.kind.upper()} ({sql}))"
        raise unsupported(f"a subquery of kind {node.kind}")


_GOES_ON = Call("recursion_goes_on", tuple(Column(i, BIGINT) for i in range(3)), BIGINT)


def _selects_subqueries(node: Node) -> bool:
    while isinstance(node, Distinct):
        node = node.child
    return isinstance(node, Project) and any(isinstance(p, Subquery) for e in node.exprs for p in walk(e))


def _operands(node: SetOp) -> list[Node]:
    """The operands of a chain of one kind of UNION, which needs no nesting; the two of any other."""
    out: list[Node] = [node.right]
    current = node.left
    while (
        node.kind == "union"
        and isinstance(current, SetOp)
        and (current.kind, current.distinct) == ("union", node.distinct)
    ):
        out.append(current.right)
        current = current.left
    out.append(current)
    return out[::-1]
