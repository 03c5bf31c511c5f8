"""Expressions: sqlglot trees to typed nodes. Whatever has no entry here is refused with its position."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from coprocessor import functions as fn
from coprocessor import types as t
from coprocessor.convert_text import parse_datetime, parse_duration
from coprocessor.errors import ResolveError
from coprocessor.expr import Column, Const, Context, Expr, Param, Subquery, Window, walk
from coprocessor.functions.inference import collated
from coprocessor.types import FieldType
from sqlfront.bind import literals
from sqlfront.bind.aggregates import bind_aggregate, bind_group_concat, computes
from sqlfront.bind.charset_names import charset_function, convert_using, introducer
from sqlfront.bind.collations import with_same_types
from sqlfront.bind.messages import position_of, refuse
from sqlfront.bind.row_values import compare_rows, row_in, row_items, row_subquery, wide_query, wrong_columns
from sqlfront.bind.scope import BindContext, Scope
from sqlfront.bind.types import cast_type
from sqlfront.bind.windows import bind_window
from sqlfront.catalog.charsets import check_charset
from sqlfront.errors import (
    ER_PARSE,
    error,
)
from sqlfront.parse import FUNCTION_MARK
from sqlfront.plan.nodes import PlanColumn
from sqlfront.variables import zone_of

if TYPE_CHECKING:
    from sqlfront.bind.query import QueryBinder
    from sqlfront.catalog.model import Column as CatalogColumn
    from sqlfront.plan.nodes import Node


class ExprBinder:
    """Binds expressions in one scope. `clause` names the place in messages; aggregates and windows only where
    allowed.
    """

    def __init__(self, ctx: BindContext, scope: Scope, queries: QueryBinder) -> None:
        self.ctx = ctx
        self.scope = scope
        self.queries = queries
        self.clause = "field list"
        self.allow_aggregates = False
        self.allow_windows = False
        self.aliases: dict[str, Expr] = {}
        self.shared: frozenset[str] = frozenset()
        """The names that several columns of the select list have, so that they mean none of them."""
        self.items: Mapping[str, Expr | None] = {}
        """What a subquery here may name of the select list; None for what stands behind it."""
        self.named: dict[int, exp.Column] = {}
        """How the columns that were bound are written."""
        self.windows: dict[str, exp.Expression] = {}
        self.values_row: dict[str, Column] | None = None
        self.default_of: Callable[[exp.Column], CatalogColumn] | None = None
        """Finds the column of DEFAULT(column) where rows are written; the scope does elsewhere."""
        self.inside_aggregate = False
        """Whether arguments of an aggregate are being bound."""

    def bind(self, node: exp.Expression) -> Expr:
        """Binds one scalar expression."""
        binder = _BINDERS.get(type(node))
        if binder is None:
            raise refuse(node)
        try:
            return binder(self, node)  # type: ignore[no-any-return]
        except ResolveError as exc:
            raise error(exc.code, str(exc), position=position_of(node), sqlstate=exc.sqlstate) from exc

    def bind_condition(self, node: exp.Expression) -> list[Expr]:
        """Binds a condition and cuts it at its ANDs."""
        if isinstance(node, exp.And):
            return self.bind_condition(node.left) + self.bind_condition(node.right)
        if isinstance(node, exp.Paren) and isinstance(node.this, exp.And):
            return self.bind_condition(node.this)
        return [self.bind(node)]

    def bind_all(self, nodes: Sequence[exp.Expression]) -> list[Expr]:
        return [self.bind(n) for n in nodes]

    # Names and literals

    def column(self, node: exp.Column) -> Expr:
        if isinstance(node.this, exp.Star):
            raise refuse(node)
        if self.ctx.written is not None:
            self.ctx.written.quote_all(node)
        name, table, db = node.name, node.table, node.db
        position = position_of(node)
        if self.aliases and not table:
            alias = self.aliases.get(name.casefold())
            first = self.clause in _ITEMS_FIRST and not self.inside_aggregate
            in_having = self.clause == "having clause" and not self.inside_aggregate
            if name.casefold() in self.shared and (in_having or self.scope.local("", "", name) is None):
                raise self.scope.ambiguous(name, position, self.clause)
            if alias is not None and (first or self.scope.local("", "", name) is None):
                if self.ctx.written is not None and self.clause == "having clause" and isinstance(alias, Column):
                    self.ctx.written.belongs(node, self.scope.qualifiers(name, alias))
                return alias
        found = None
        if self.scope.compares_row and not table and not self.inside_aggregate:
            found = self.scope.first_item(name)
        if found is None:
            found = self.scope.resolve(db, table, name, position, self.clause)
        if found is not None and not table and self.ctx.written is not None:
            self.ctx.written.belongs(node, self.scope.qualifiers(name, found))
        if found is not None:
            self.named.setdefault(found.id, node)
        if found is None:
            alias = self.aliases.get(name.casefold()) if not table else None
            if alias is not None:
                return alias
            raise self.scope.unknown(table, name, position, self.clause)
        return found.ref()

    def item(self, name: str, position: int, clause: str) -> PlanColumn | None:
        """The column that subqueries read an item of the select list as, by its name; None for no item. Raises 1247 for
        one that is not known where the subquery is computed, and for an aggregate, but in the subquery's HAVING.
        """
        key = name.casefold()
        if key not in self.items:
            return None
        if key in self.shared:
            raise self.scope.ambiguous(name, position, clause)
        expr = self.items[key]
        if expr is None or (computes(self.scope, expr) and clause != "having clause"):
            why = "forward reference in item list" if expr is None else "reference to group function"
            raise error(1247, f"Reference '{name}' not supported ({why})", position=position, sqlstate="42S22")
        if any(isinstance(e, Window) for e in walk(expr)):
            message = (
                f"You cannot use the alias '{name}' of an expression containing a window function in this context."
            )
            raise error(3594, message, position=position)
        return self._item_column(name, expr)

    def first_item(self, name: str) -> PlanColumn | None:
        """The same of what a name means here before any column is looked for; None for nothing."""
        expr = self.aliases.get(name.casefold())
        if expr is None or self.clause not in _ITEMS_FIRST or self.inside_aggregate:
            return None
        if name.casefold() in self.shared:
            raise self.scope.ambiguous(name, -1, self.clause)
        return None if any(isinstance(e, Window) for e in walk(expr)) else self._item_column(name, expr)

    def _item_column(self, name: str, expr: Expr) -> PlanColumn:
        if isinstance(expr, Column) and expr.id in self.scope.ids():
            return PlanColumn(expr.id, expr.name, expr.type)
        column = self.scope.named.get(expr)
        if column is None:
            column = self.scope.named[expr] = self.ctx.column(name, expr.type)
        return column

    def literal(self, node: exp.Literal) -> Expr:
        return literals.text(node.this) if node.is_string else literals.number(node.this)

    def null(self, node: exp.Null) -> Expr:
        return Const(None, t.NULL)

    def boolean(self, node: exp.Boolean) -> Expr:
        return Const(int(node.this), t.BOOL)

    def placeholder(self, node: exp.Placeholder) -> Expr:
        key: object = node.this
        if isinstance(key, str) and key.isdigit():
            key = int(key) - 1
        type_ = self.ctx.param_types.get(key)
        if type_ is None:
            raise error(1210, f"no value for parameter {node.this!r}")
        return Param(self.ctx.params.setdefault(key, len(self.ctx.params)), type_)

    def hex_string(self, node: exp.HexString) -> Expr:
        digits = node.this
        return Const(bytes.fromhex(digits if len(digits) % 2 == 0 else "0" + digits), t.BYTES)

    def bit_string(self, node: exp.BitString) -> Expr:
        digits = node.this
        return Const(int(digits or "0", 2).to_bytes((len(digits) + 7) // 8, "big"), t.BYTES)

    def national(self, node: exp.National) -> Expr:
        return literals.text(node.this)

    def adjacent(self, node: exp.Concat) -> Expr:
        """'a' 'b': adjacent string literals are one."""
        if all(isinstance(e, exp.Literal) and e.is_string for e in node.expressions):
            return literals.text("".join(e.this for e in node.expressions))
        raise refuse(node)

    def user_variable(self, node: exp.Parameter) -> Expr:
        name = node.name.casefold()
        self.ctx.cacheable = False
        _, type_ = self.ctx.user_variables.get(name, (None, t.NULL))
        return Context(("uservar", name), type_)

    def assignment(self, node: exp.PropertyEQ) -> Expr:
        """@name := value"""
        if self.ctx.assigned is None or not isinstance(node.this, exp.Parameter):
            raise refuse(node)
        name = node.this.name.casefold()
        value = self.bind(node.expression)
        known = self.ctx.assigned.get(name, value.type)
        self.ctx.assigned[name] = fn.unify([known, value.type]) if known != value.type else known
        return fn.resolve("assign_user_variable", [literals.text(name), value])

    def system_variable(self, node: exp.SessionParameter) -> Expr:
        name = node.name.lower()
        self.ctx.cacheable = False
        lookup = f"global.{name}" if (node.args.get("kind") or "").lower() == "global" else name
        value = self.ctx.variables[lookup]
        if isinstance(value, bool):
            return Const(int(value), t.BIGINT)
        if isinstance(value, (int, float)):
            return Const(value, literals.type_of(value))
        return Const(None, t.NULL) if value is None else literals.text(str(value))

    def paren(self, node: exp.Paren) -> Expr:
        return self.bind(node.this)

    def alias(self, node: exp.Alias) -> Expr:
        return self.bind(node.this)

    # Operators

    def binary(self, node: exp.Binary) -> Expr:
        return fn.resolve(_BINARY[type(node)], [self.number(node.left), self.number(node.right)])

    def number(self, node: exp.Expression) -> Expr:
        """Binds an operand of arithmetic, where a hexadecimal or bit literal is a number."""
        inner = _unparen(node)
        if isinstance(inner, (exp.HexString, exp.BitString)):
            return literals.integer(int(inner.this or "0", 16 if isinstance(inner, exp.HexString) else 2))
        return self.bind(node)

    def call(self, name: str, *args: exp.Expression) -> Expr:
        return fn.resolve(name, [self.bind(a) for a in args])

    def logic(self, node: exp.Connector) -> Expr:
        # A chain of ANDs is a left-deep tree as long as the text: unrolled, not recursed into.
        kind = type(node)
        parts: list[exp.Expression] = []
        current: exp.Expression = node
        while isinstance(current, kind):
            parts.append(current.right)
            current = current.left
        parts.append(current)
        out = self.bind(parts.pop())
        while parts:
            out = fn.resolve(_BINARY[kind], [out, self.bind(parts.pop())])
        return out

    def add(self, node: exp.Binary) -> Expr:
        interval = isinstance(node.right, exp.Interval), isinstance(node.left, exp.Interval)
        name = "interval_add" if isinstance(node, exp.Add) else "interval_sub"
        if interval[0] and (node.right.args.get("unit") is not None or not interval[1]):
            return self.interval(name, node.left, node.right)
        if interval[1]:
            if name == "interval_sub":
                raise refuse(node.left)
            # sqlglot takes a string after `INTERVAL 1 DAY +` for one more interval, without a unit
            base = node.right.this if interval[0] else node.right
            return self.interval(name, base, node.left)
        parts: list[exp.Binary] = []
        current: exp.Expression = node
        while isinstance(current, (exp.Add, exp.Sub)) and not isinstance(current.right, exp.Interval):
            if isinstance(current.left, exp.Interval):
                break
            parts.append(current)
            current = current.left
        out = self.number(current) if parts else self.bind(current)
        while parts:
            part = parts.pop()
            out = fn.resolve(_BINARY[type(part)], [out, self.number(part.right)])
        return out

    def interval(self, name: str, base: exp.Expression, interval: exp.Expression) -> Expr:
        unit = (interval.args["unit"].name if interval.args.get("unit") is not None else "").upper()
        amount_node = interval.this
        if not unit:
            raise refuse(interval)
        if isinstance(amount_node, exp.Literal) and amount_node.is_string:
            amount: Expr = literals.interval_amount(amount_node.this, unit)
        else:
            amount = self.bind(amount_node)
        return fn.resolve(name, [self.bind(base), amount, literals.text(unit.lower())])

    def compare(self, node: exp.Binary) -> Expr:
        name = _BINARY[type(node)]
        left, right = _unparen(node.left), _unparen(node.right)
        for side, other, flipped in ((right, left, name), (left, right, _FLIPPED.get(name, name))):
            quantifier = _quantifier(side)
            if quantifier is not None:
                return self.quantified(flipped, other, quantifier)
        if any(row_items(side) is not None or wide_query(side) for side in (left, right)):
            return compare_rows(self, name, node, left, right)
        first, second = self.bind(node.left), self.bind(node.right)
        if second.type.is_numeric:
            first = self.number(node.left)
        elif first.type.is_numeric:
            second = self.number(node.right)
        return fn.resolve(name, [first, second])

    def negate(self, node: exp.Neg) -> Expr:
        inner = self.bind(node.this)
        if isinstance(inner, Const):
            folded = literals.negate(inner)
            if folded is not None:
                return folded
        return fn.resolve("unaryminus", [inner])

    def invert(self, node: exp.Not) -> Expr:
        return fn.resolve("not", [self.bind(node.this)])

    def is_(self, node: exp.Is) -> Expr:
        what = node.expression
        negated = isinstance(what, exp.Not)
        if negated:
            what = what.this
        if isinstance(what, exp.Null):
            out = self.call("isnull", node.this)
        elif isinstance(what, exp.Boolean):
            out = self.call("istrue" if what.this else "isfalse", node.this)
        elif isinstance(what, exp.Column) and what.name.lower() == "unknown":
            out = self.call("isnull", node.this)
        else:
            raise refuse(node)
        return fn.resolve("not", [out]) if negated else out

    def like(self, node: exp.Like, escape: str = "\\") -> Expr:
        out = fn.resolve("like", [self.bind(node.this), self.bind(node.expression), literals.text(escape)])
        return fn.resolve("not", [out]) if node.args.get("negate") else out

    def escape(self, node: exp.Escape) -> Expr:
        mark = node.expression
        if not isinstance(node.this, exp.Like) or not isinstance(mark, exp.Literal):
            raise refuse(node)
        if len(mark.this) > 1:
            raise error(1210, "Incorrect arguments to ESCAPE", position=position_of(node))
        return self.like(node.this, mark.this)

    def regexp(self, node: exp.RegexpLike) -> Expr:
        out = self.call("regexp", node.this, node.expression)
        return fn.resolve("not", [out]) if node.args.get("negate") else out

    def between(self, node: exp.Between) -> Expr:
        args = self.bind_all([node.this, node.args["low"], node.args["high"]])
        out = fn.resolve("between", args)
        return fn.resolve("not", [out]) if node.args.get("negate") else out

    def in_(self, node: exp.In) -> Expr:
        query = node.args.get("query")
        left = _unparen(node.this)
        row = row_items(left)
        width = wide_query(left)
        if isinstance(left, exp.Subquery) and width:
            rest = {k: v.copy() if isinstance(v, exp.Expression) else [e.copy() for e in v]
                    for k, v in node.args.items() if k != "this" and v}  # fmt: skip
            return row_subquery(self, left, width, lambda row: exp.In(this=row, **rest))
        if query is not None:
            return self.in_subquery(row if row is not None else [node.this], query)
        if node.args.get("unnest") or node.args.get("field"):
            raise refuse(node)
        if row is not None:
            return row_in(self, row, node.expressions)
        return fn.resolve("in", self.bind_all([node.this, *node.expressions]))

    def case(self, node: exp.Case) -> Expr:
        args: list[Expr] = []
        operand = node.this
        for branch in node.args["ifs"]:
            condition = branch.this
            args.append(self.call("eq", operand, condition) if operand is not None else self.bind(condition))
            args.append(self.bind(branch.args["true"]))
        if node.args.get("default") is not None:
            args.append(self.bind(node.args["default"]))
        return fn.resolve("case", args)

    def cast(self, node: exp.Cast) -> Expr:
        target = node.to
        inner = self.number(node.this) if target.this not in _TEXT_TARGETS else self.bind(node.this)
        if target.this == exp.DataType.Type.CHARACTER_SET:
            converted = convert_using(inner, str(target.args.get("kind") or ""), node)
            if not target.expressions:
                return converted
            inner, target = converted, exp.DataType(this=exp.DataType.Type.CHAR, expressions=target.expressions)
        return fn.explicit_cast(inner, cast_type(target))

    def binary_call(self, name: str, args: Sequence[exp.Expression], node: exp.Expression) -> Expr:
        """BINARY before parentheses, which sqlglot takes for a call."""
        if len(args) != 1:
            raise error(ER_PARSE, "BINARY takes one operand", position=position_of(node))
        return self._to_binary(args[0])

    def get_format(self, name: str, args: Sequence[exp.Expression], node: exp.Expression) -> Expr:
        """GET_FORMAT(DATE, 'EUR'): its first argument is a word."""
        if len(args) != 2 or not isinstance(args[0], exp.Column) or args[0].name.upper() not in _FORMATTED:
            raise error(ER_PARSE, "GET_FORMAT takes DATE, TIME, DATETIME or TIMESTAMP, and a place",
                        position=position_of(node))  # fmt: skip
        return fn.resolve(name, [literals.text(args[0].name.upper()), self.bind(args[1])])

    def binary_operator(self, node: exp.Sqrt) -> Expr:
        """BINARY before another unary operator, see `mark_functions`."""
        return self._to_binary(node.this)

    def _to_binary(self, node: exp.Expression) -> Expr:
        return fn.explicit_cast(self.bind(node), cast_type(exp.DataType(this=exp.DataType.Type.BINARY)))

    def temporal_literal(self, name: str, args: Sequence[exp.Expression], node: exp.Expression) -> Expr:
        """DATE '...', TIME '...', TIMESTAMP '...': checked at once, the fraction kept."""
        text = args[0].this if isinstance(args[0], exp.Literal) else ""
        kind = name.removesuffix("_literal")
        fsp = min(6, len(text.rsplit(".", 1)[1])) if "." in text and kind != "date" else 0
        width = fsp + 1 if fsp else 0
        value: dt.datetime | dt.timedelta | None
        if kind == "time":
            value, type_ = parse_duration(text), t.DURATION.with_(decimal=fsp, flen=10 + width)
        else:
            value, type_ = parse_datetime(text), t.DATETIME.with_(decimal=fsp, flen=19 + width)
        if value is None or (kind == "timestamp" and ":" not in text and len(text) < 12):
            raise error(1525, f"Incorrect {'DATETIME' if kind == 'timestamp' else kind.upper()} value: '{text}'",
                        position=position_of(node))  # fmt: skip
        if kind == "date" and isinstance(value, dt.datetime):
            return Const(value.date(), t.DATE)
        return Const(value, type_)

    def collate(self, node: exp.Collate) -> Expr:
        inner = self.bind(node.this)
        collate = node.expression.name.lower()
        binary = inner.type.is_binary or not inner.type.is_string
        if binary and inner.type.is_string and collate == "binary":
            return inner
        if binary or collate == "binary":
            charset = "binary" if binary else "utf8mb4"
            message = f"COLLATION '{collate}' is not valid for CHARACTER SET '{charset}'"
            raise error(1253, message, position=position_of(node))
        _, stored = check_charset(None, collate, position=position_of(node))
        return collated(inner, stored)

    def weight_string(self, node: exp.WeightString) -> Expr:
        if node.args.get("to"):
            raise refuse(node)
        return self.call("weight_string", node.this)

    # Functions

    def anonymous(self, node: exp.Anonymous) -> Expr:
        name = str(node.this).removeprefix(FUNCTION_MARK).lower()
        args = node.expressions
        special = _SPECIAL.get(name)
        if special is not None:
            return special(self, name, args, node)
        if fn.is_aggregate(name):
            return self.aggregate(name, args, node)
        if fn.is_window(name):
            raise error(
                3593, f"You cannot use the window function '{name}' in this context.", position=position_of(node)
            )
        if not fn.is_function(name):
            raise error(1305, f"FUNCTION {name} does not exist", position=position_of(node))
        return fn.resolve(name, self.bind_all(args))

    def context(self, name: str, args: Sequence[exp.Expression], node: exp.Expression) -> Expr:
        """Functions whose value the session supplies."""
        if name in _CLOCK:
            fsp = 0
            if args:
                if not isinstance(args[0], exp.Literal) or args[0].is_string or int(args[0].this) > 6:
                    raise error(
                        1426, f"Too-big precision specified for '{name}'. Maximum is 6.", position=position_of(node)
                    )
                fsp = int(args[0].this)
            key, type_ = _CLOCK[name]
            return Context((key, fsp), type_.with_(decimal=fsp, flen=type_.flen + (fsp + 1 if fsp else 0)))
        if name == "last_insert_id" and args:
            return fn.resolve(name, self.bind_all(args))
        if args:
            raise error(
                1582, f"Incorrect parameter count in the call to native function '{name}'", position=position_of(node)
            )
        key, type_ = _SESSION_VALUES[name]
        if key in _OF_THE_LAST:
            self.ctx.cacheable = False
        return Context((key,), type_)

    def no_paren(self, node: exp.Expression) -> Expr:
        name = {
            exp.CurrentTimestamp: "now", exp.CurrentDate: "curdate", exp.CurrentTime: "curtime", exp.CurrentUser:
            "user", exp.Localtime: "now", exp.Localtimestamp: "now", exp.CurrentDatetime: "now",
        }[type(node)]  # fmt: skip
        return self.context(name, [node.this] if node.this is not None else [], node)

    def date_arithmetic(self, name: str, args: Sequence[exp.Expression], node: exp.Expression) -> Expr:
        if len(args) != 2:
            raise error(
                1582, f"Incorrect parameter count in the call to native function '{name}'", position=position_of(node)
            )
        op = "interval_add" if name in ("date_add", "adddate") else "interval_sub"
        if isinstance(args[1], exp.Interval):
            return self.interval(op, args[0], args[1])
        if name in ("date_add", "date_sub"):
            raise refuse(node)
        return fn.resolve(op, [self.bind(args[0]), self.bind(args[1]), literals.text("day")])

    def unit_first(self, name: str, args: Sequence[exp.Expression], node: exp.Expression) -> Expr:
        if len(args) != 3 or not isinstance(args[0], (exp.Column, exp.Var)):
            raise error(
                1582, f"Incorrect parameter count in the call to native function '{name}'", position=position_of(node)
            )
        unit = args[0].name.lower().removeprefix("sql_tsi_")
        return fn.resolve(name, [literals.text(unit), *self.bind_all(args[1:])])

    def extract(self, node: exp.Extract) -> Expr:
        return fn.resolve("extract", [literals.text(node.this.name.lower()), self.bind(node.expression)])

    def values_function(self, name: str, args: Sequence[exp.Expression], node: exp.Expression) -> Expr:
        """VALUES(col) in ON DUPLICATE KEY UPDATE: the value that would have been inserted."""
        column = None if self.values_row is None or len(args) != 1 else self.values_row.get(args[0].name.casefold())
        if column is None:
            raise refuse(node)
        return column

    def json_value_as(self, name: str, args: Sequence[exp.Expression], node: exp.Expression) -> Expr:
        """JSON_VALUE with clauses."""
        from sqlfront.bind.json_table import bind_json_value

        return bind_json_value(self, args)

    def default_function(self, name: str, args: Sequence[exp.Expression], node: exp.Expression) -> Expr:
        """DEFAULT(column)"""
        if len(args) != 1 or not isinstance(args[0], exp.Column):
            raise error(ER_PARSE, "DEFAULT takes the name of a column", position=position_of(node))
        column = self._stored_column(args[0])
        default = column.default
        match default.kind:
            case "const":
                zone = zone_of(str(self.ctx.variables["time_zone"])) if default.utc else None
                return Const(default.local(zone), column.type)
            case "now":
                return fn.cast_to(Context(("now", int(default.value or 0)), t.DATETIME6), column.type)
            case "expr":
                from sqlfront.bind.defaults import default_alone

                return fn.cast_to(default_alone(column.name, column.default.text), column.type)
            case "none" if column.auto_increment:
                return Const(0, column.type)
            case "none":
                raise error(1364, f"Field '{column.name}' doesn't have a default value", position=position_of(node))
        raise refuse(node)

    def _stored_column(self, node: exp.Column) -> CatalogColumn:
        if self.default_of is not None:
            return self.default_of(node)
        position = position_of(node)
        if self.ctx.written is not None:
            raise refuse(node)
        found = self.scope.resolve(node.db, node.table, node.name, position, self.clause)
        if found is None:
            raise self.scope.unknown(node.table, node.name, position, self.clause)
        stored = self.scope.stored_column(found)
        if stored is None:
            raise refuse(node)
        return stored

    def trim(self, node: exp.Trim) -> Expr:
        where = str(node.args.get("position") or "BOTH").lower()
        args = [self.bind(node.this)]
        if node.expression is not None:
            args.append(self.bind(node.expression))
        name = {"both": "trim", "leading": "ltrim", "trailing": "rtrim"}[where]
        return fn.resolve(name, args)

    def substring(self, node: exp.Substring) -> Expr:
        parts = [node.this, node.args.get("start"), node.args.get("length")]
        return fn.resolve("substring", self.bind_all([p for p in parts if p is not None]))

    def position(self, node: exp.StrPosition) -> Expr:
        parts = [node.args["substr"], node.this]
        if node.args.get("position") is not None:
            parts.append(node.args["position"])
        return fn.resolve("locate", self.bind_all(parts))

    def chr(self, node: exp.Chr) -> Expr:
        out = fn.resolve("char", [self.number(e) for e in node.expressions])
        return convert_using(out, node.args["charset"].name, node) if node.args.get("charset") else out

    def interval_function(self, node: exp.Interval) -> Expr:
        """INTERVAL(n, a, b, ...) is a function; INTERVAL n unit stands only beside a date."""
        if isinstance(node.this, exp.Tuple) and node.args.get("unit") is None:
            return fn.resolve("interval", self.bind_all(node.this.expressions))
        raise refuse(node)

    def json_path(self, node: exp.Binary) -> Expr:
        path = node.expression
        text = path.this if isinstance(path, exp.Literal) else path.sql("mysql").strip("'")
        out = fn.resolve("json_extract", [self.bind(node.this), literals.text(text)])
        return fn.resolve("json_unquote", [out]) if isinstance(node, exp.JSONExtractScalar) else out

    def arrow(self, node: exp.Lambda) -> Expr:
        """doc->'path' as a function's argument, where sqlglot takes the arrow for a lambda's."""
        names = node.expressions
        if len(names) != 1 or not isinstance(names[0], exp.Identifier):
            raise refuse(node)
        if not isinstance(node.this, exp.Literal) or not node.this.is_string:
            raise refuse(node)
        doc = self.bind(exp.Column(this=names[0]))
        return fn.resolve("json_extract", [doc, literals.text(node.this.this)])

    # Aggregates and windows

    def aggregate(self, name: str, args: Sequence[exp.Expression], node: exp.Expression) -> Expr:
        return bind_aggregate(self, name, args, node)

    def approx_count_distinct(self, name: str, args: Sequence[exp.Expression], node: exp.Expression) -> Expr:
        """Counted exactly."""
        return self.aggregate("count", [exp.Distinct(expressions=list(args))], node)

    def window(self, node: exp.Window) -> Expr:
        return bind_window(self, node)

    # Subqueries

    def _subquery(self, node: exp.Expression) -> tuple[Node, set[int]]:
        around, self.scope.binder = self.scope.binder, self
        try:
            return self.queries.subquery(node, self.scope)
        finally:
            self.scope.binder = around

    def scalar_subquery(self, node: exp.Expression) -> Expr:
        plan, scope = self._subquery(node)
        if len(plan.cols) != 1:
            raise wrong_columns(1, node)
        return Subquery("scalar", plan, plan.cols[0].type, outer=frozenset(scope))

    def exists(self, node: exp.Exists) -> Expr:
        plan, outer = self._subquery(node.this)
        return Subquery("exists", plan, t.BOOL, outer=frozenset(outer))

    def row(self, node: exp.Expression) -> Expr:
        """A row where a value is wanted."""
        raise wrong_columns(1, node)

    def in_subquery(self, items: Sequence[exp.Expression], query: exp.Expression) -> Expr:
        lefts = self.bind_all(items)
        plan, outer = self._subquery(query)
        if len(plan.cols) != len(lefts):
            raise wrong_columns(len(lefts), query)
        lefts, plan = with_same_types(self.ctx, lefts, plan)
        return Subquery("in", plan, t.BOOL, tuple(lefts), outer=frozenset(outer))

    def quantified(self, name: str, item: exp.Expression, quantifier: exp.Expression) -> Expr:
        """x op ANY|ALL (subquery)."""
        every = isinstance(quantifier, exp.All)
        if name == "nulleq":
            message = "You have an error in your SQL syntax: <=> takes no ANY or ALL"
            raise error(ER_PARSE, message, position=position_of(quantifier))
        row = row_items(item)
        if row is not None:
            if (every, name) not in ((False, "eq"), (True, "ne")):
                raise wrong_columns(1, item)
            found = self.in_subquery(row, quantifier.this)
            return fn.resolve("not", [found]) if every else found
        left = self.bind(item)
        plan, outer = self._subquery(quantifier.this)
        if len(plan.cols) != 1:
            raise wrong_columns(1, quantifier)
        lefts, plan = with_same_types(self.ctx, [left], plan)
        if not every and name == "eq":
            return Subquery("in", plan, t.BOOL, tuple(lefts), outer=frozenset(outer))
        if every and name == "ne":
            return fn.resolve("not", [Subquery("in", plan, t.BOOL, tuple(lefts), outer=frozenset(outer))])
        return Subquery("all" if every else "any", plan, t.BOOL, tuple(lefts), name, outer=frozenset(outer))


def _quantifier(node: exp.Expression) -> exp.Any | exp.All | None:
    """ANY or ALL before a subquery; sqlglot takes ALL before a set operation in parentheses of its own for a call."""
    if isinstance(node, exp.Anonymous) and str(node.this).upper() == "ALL" and len(node.expressions) == 1:
        return exp.All(this=exp.Subquery(this=node.expressions[0]))
    return node if isinstance(node, (exp.Any, exp.All)) else None


def _unparen(node: exp.Expression) -> exp.Expression:
    while isinstance(node, exp.Paren):
        node = node.this
    return node


_FLIPPED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le"}

_BINARY: dict[type, str] = {
    exp.Add: "plus", exp.Sub: "minus", exp.Mul: "mul", exp.Div: "div", exp.IntDiv: "intdiv", exp.Mod: "mod",
    exp.BitwiseAnd: "bitand", exp.BitwiseOr: "bitor", exp.BitwiseXor: "bitxor", exp.BitwiseLeftShift: "lshift",
    exp.BitwiseRightShift: "rshift", exp.EQ: "eq", exp.NullSafeEQ: "nulleq", exp.NEQ: "ne", exp.LT: "lt", exp.LTE: "le",
    exp.GT: "gt", exp.GTE: "ge", exp.And: "and", exp.Or: "or", exp.Xor: "xor",
}  # fmt: skip

_CLOCK: dict[str, tuple[str, FieldType]] = {
    "now": ("now", t.DATETIME), "current_timestamp": ("now", t.DATETIME), "localtime": ("now", t.DATETIME),
    "localtimestamp": ("now", t.DATETIME), "sysdate": ("sysdate", t.DATETIME), "utc_timestamp": ("utc_timestamp",
    t.DATETIME), "curtime": ("curtime", t.DURATION), "current_time": ("curtime", t.DURATION), "utc_time": ("utc_time",
    t.DURATION),
}  # fmt: skip

_SESSION_VALUES: dict[str, tuple[str, FieldType]] = {
    "curdate": ("curdate", t.DATE), "current_date": ("curdate", t.DATE), "utc_date": ("utc_date", t.DATE),
    "database": ("database", t.TEXT), "schema": ("database", t.TEXT), "user": ("user", t.TEXT),
    "current_user": ("user", t.TEXT), "session_user": ("user", t.TEXT), "system_user": ("user", t.TEXT),
    "connection_id": ("connection_id", t.UBIGINT), "last_insert_id": ("last_insert_id", t.UBIGINT),
    "row_count": ("row_count", t.BIGINT), "found_rows": ("found_rows", t.BIGINT), "version": ("version", t.TEXT),
    "tidb_version": ("tidb_version", t.TEXT),
}  # fmt: skip

_OF_THE_LAST = frozenset({"row_count", "found_rows"})
"""What a session tells of the statement before the one that asks."""

_FORMATTED = frozenset({"DATE", "TIME", "DATETIME", "TIMESTAMP"})

_TEXT_TARGETS = frozenset(
    {exp.DataType.Type.CHARACTER_SET, exp.DataType.Type.CHAR, exp.DataType.Type.VARCHAR, exp.DataType.Type.NCHAR,
     exp.DataType.Type.NVARCHAR, exp.DataType.Type.TEXT, exp.DataType.Type.BINARY, exp.DataType.Type.VARBINARY,
     exp.DataType.Type.JSON}
)  # fmt: skip
"""What a hexadecimal or bit literal is cast to as bytes; to anything else it is a number."""

_ITEMS_FIRST = ("order clause", "having clause")
"""Where a name is an item of the select list before it is a column."""

_Special = Callable[[ExprBinder, str, Sequence[exp.Expression], exp.Expression], Expr]

_SPECIAL: dict[str, _Special] = {
    **dict.fromkeys(_CLOCK, ExprBinder.context),
    **dict.fromkeys(_SESSION_VALUES, ExprBinder.context),
    **dict.fromkeys(("date_add", "date_sub", "adddate", "subdate"), ExprBinder.date_arithmetic),
    **dict.fromkeys(("timestampdiff", "timestampadd"), ExprBinder.unit_first),
    "approx_count_distinct": ExprBinder.approx_count_distinct,
    "binary": ExprBinder.binary_call,
    "row": lambda self, name, args, node: self.row(node),
    "get_format": ExprBinder.get_format,
    "values": ExprBinder.values_function,
    "default": ExprBinder.default_function,
    "json_value_as": ExprBinder.json_value_as,
    **dict.fromkeys(("charset", "collation", "coercibility"), charset_function),
    **dict.fromkeys(("date_literal", "time_literal", "timestamp_literal"), ExprBinder.temporal_literal),
}

_BINDERS: dict[type, Any] = {
    exp.Column: ExprBinder.column, exp.Literal: ExprBinder.literal, exp.Null: ExprBinder.null,
    exp.Boolean: ExprBinder.boolean, exp.Placeholder: ExprBinder.placeholder, exp.HexString: ExprBinder.hex_string,
    exp.BitString: ExprBinder.bit_string, exp.National: ExprBinder.national, exp.Introducer: introducer,
    exp.Concat: ExprBinder.adjacent, exp.Parameter: ExprBinder.user_variable,
    exp.PropertyEQ: ExprBinder.assignment, exp.SessionParameter: ExprBinder.system_variable,
    exp.Paren: ExprBinder.paren, exp.Alias: ExprBinder.alias,
    exp.And: ExprBinder.logic, exp.Or: ExprBinder.logic, exp.Xor: ExprBinder.binary, exp.Add: ExprBinder.add,
    exp.Sub: ExprBinder.add, exp.Mul: ExprBinder.binary, exp.Div: ExprBinder.binary, exp.IntDiv: ExprBinder.binary,
    exp.Mod: ExprBinder.binary, exp.BitwiseAnd: ExprBinder.binary, exp.BitwiseOr: ExprBinder.binary,
    exp.BitwiseXor: ExprBinder.binary, exp.BitwiseLeftShift: ExprBinder.binary,
    exp.BitwiseRightShift: ExprBinder.binary, exp.EQ: ExprBinder.compare, exp.NullSafeEQ: ExprBinder.compare,
    exp.NEQ: ExprBinder.compare, exp.LT: ExprBinder.compare, exp.LTE: ExprBinder.compare, exp.GT: ExprBinder.compare,
    exp.GTE: ExprBinder.compare, exp.Neg: ExprBinder.negate, exp.Not: ExprBinder.invert, exp.Is: ExprBinder.is_,
    exp.Like: ExprBinder.like, exp.Escape: ExprBinder.escape, exp.RegexpLike: ExprBinder.regexp,
    exp.Between: ExprBinder.between, exp.In: ExprBinder.in_, exp.Case: ExprBinder.case, exp.Cast: ExprBinder.cast,
    exp.Sqrt: ExprBinder.binary_operator, exp.Soundex: lambda self, node: self.call("soundex", node.this),
    exp.Collate: ExprBinder.collate, exp.WeightString: ExprBinder.weight_string,
    exp.Anonymous: ExprBinder.anonymous, exp.CurrentTimestamp: ExprBinder.no_paren,
    exp.CurrentDate: ExprBinder.no_paren, exp.CurrentTime: ExprBinder.no_paren, exp.CurrentUser: ExprBinder.no_paren,
    exp.Localtime: ExprBinder.no_paren, exp.Localtimestamp: ExprBinder.no_paren,
    exp.CurrentDatetime: ExprBinder.no_paren, exp.Extract: ExprBinder.extract, exp.Trim: ExprBinder.trim,
    exp.Substring: ExprBinder.substring, exp.StrPosition: ExprBinder.position, exp.Chr: ExprBinder.chr,
    exp.Interval: ExprBinder.interval_function, exp.JSONExtract: ExprBinder.json_path,
    exp.JSONArrayContains: lambda self, node: self.call("json_member_of", node.this, node.expression),
    exp.JSONExtractScalar: ExprBinder.json_path, exp.Lambda: ExprBinder.arrow, exp.GroupConcat: bind_group_concat,
    exp.Window: ExprBinder.window, exp.Subquery: ExprBinder.scalar_subquery, exp.Select: ExprBinder.scalar_subquery,
    exp.Exists: ExprBinder.exists, exp.Tuple: ExprBinder.row,
    exp.BitwiseNot: lambda self, node: self.call("bitneg", node.this),
}  # fmt: skip
