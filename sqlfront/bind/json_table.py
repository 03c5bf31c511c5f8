"""JSON_TABLE in FROM, what its COLUMNS say, and the plan that makes rows of a document; the clauses of JSON_VALUE."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from coprocessor import functions as fn
from coprocessor import types as t
from coprocessor.errors import EvalError
from coprocessor.expr import Const, Expr
from coprocessor.functions.json import path_of
from coprocessor.functions.json_table import ERROR, cell_of, stored_as, value_of
from coprocessor.functions.json_value import parse_json
from sqlfront.bind.expr import ExprBinder
from sqlfront.bind.messages import position_of
from sqlfront.bind.scope import Relation, Scope
from sqlfront.bind.type_reader import TypeReader
from sqlfront.bind.types import cast_type
from sqlfront.catalog.column_types import type_info
from sqlfront.catalog.model import field_type
from sqlfront.errors import error, unsupported
from sqlfront.parse import parse_expression
from sqlfront.parse.json_table import CALL
from sqlfront.plan.nodes import Node, PlanColumn, Project, TextRows

if TYPE_CHECKING:
    from sqlfront.bind.query import QueryBinder

NESTED_MAX = 16
"""Paths within each other, as in MySQL."""

_ORDINAL = t.BIGINT.with_(unsigned=True)


@dataclass(slots=True)
class _Column:
    """A column: its type, and what it has where its path finds nothing and where a value does not fit."""

    name: str
    type: t.FieldType
    on_empty: str | None = None
    on_error: str | None = None


@dataclass(slots=True)
class _Columns:
    """The columns in their order, through all nested paths."""

    found: list[_Column] = field(default_factory=list)

    def add(self, column: _Column) -> int:
        self.found.append(column)
        return len(self.found) - 1


def is_json_table(node: exp.Expression) -> bool:
    """Whether an item of FROM is a JSON_TABLE."""
    return isinstance(node, exp.Table) and isinstance(node.this, exp.Anonymous) and str(node.this.this) == CALL


def bind_json_table(binder: QueryBinder, node: exp.Table, scope: Scope) -> Node:
    """Binds one, and puts it into scope. The document may read the tables that stand before it."""
    position = position_of(node)
    if not node.alias:
        raise error(3667, "Every table function must have an alias", position=position)
    document, path, text = node.this.expressions
    if not isinstance(path, exp.Literal) or not path.is_string or node.args["alias"].args.get("columns"):
        raise error(1064, "You have an error in your SQL syntax: JSON_TABLE takes a path", position=position)
    reader, columns = _Reader(text.this), _Columns()
    reader.expect("COLUMNS")
    spec = reader.columns(str(path.this), columns, 1)
    reader.end()
    inner = Scope(scope)
    at = ExprBinder(binder.ctx, inner, binder)
    at.clause = "a table function argument"
    doc = at.bind(document)
    scope.outer |= inner.outer - scope.has()
    if not (doc.type.is_text or doc.type.tp in (t.Tp.JSON, t.Tp.NULL)):
        message = "Invalid data type for JSON data in argument 1 to function json_table; a JSON string or JSON type is"
        raise error(3146, f"{message} required.", position=position)
    spec["width"] = len(columns.found)
    rows = fn.resolve("json_table_rows", [doc, Const(json.dumps(spec), t.TEXT)])
    row = binder.ctx.column("", t.TEXT)
    exprs = tuple(cell_of(row.ref(), i, c.name, c.on_empty, c.on_error, c.type) for i, c in enumerate(columns.found))
    cols = tuple(PlanColumn(binder.ctx.new_id(), c.name, c.type, table=node.alias) for c in columns.found)
    seen: set[str] = set()
    for col in cols:
        if col.name.casefold() in seen:
            raise error(1060, f"Duplicate column name '{col.name}'", position=position)
        seen.add(col.name.casefold())
    scope.add(Relation(node.alias, "", cols), position)
    return Project(TextRows((row,), rows), cols, exprs)


def bind_json_value(binder: ExprBinder, args: Sequence[exp.Expression]) -> Expr:
    """JSON_VALUE(document, path [RETURNING type] [... ON EMPTY] [... ON ERROR])"""
    document, path, text = args
    reader = _Reader(str(text.this))
    answers: dict[str, str | None] = {}
    target = reader.returning() if reader.accept("RETURNING") else t.varchar(512)
    while not reader.ended:
        answer = reader.answer(target, "json_value", parse_json if target.tp == t.Tp.JSON else str)
        reader.expect("ON")
        answers[reader.accept_any("EMPTY", "ERROR") or reader.wrong_word()] = answer
    return value_of(binder.bind(document), str(path.this), answers.get("EMPTY"), answers.get("ERROR"), target)


class _Reader(TypeReader):
    """Reads COLUMNS, and the clauses of JSON_VALUE."""

    def returning(self) -> t.FieldType:
        """A type as CAST has it."""
        start = self.position
        while not self.ended and self.word() not in ("NULL", "ERROR", "DEFAULT"):
            self.take()
        cast = parse_expression(f"CAST(1 AS {self.text[start : self.position]})")
        assert isinstance(cast, exp.Cast)
        return cast_type(cast.to)

    def wrong_word(self) -> str:
        raise self.wrong()

    def columns(self, path: str, columns: _Columns, depth: int) -> dict[str, Any]:
        """(column, ...): what makes the rows of a path, as the function takes it."""
        if depth > NESTED_MAX:
            message = f"More than supported {NESTED_MAX} NESTED PATHs were found in JSON_TABLE"
            raise error(3670, message, position=self.position)
        path_of(path)
        spec: dict[str, Any] = {"path": path, "columns": [], "nested": []}
        self.expect("(")
        while True:
            if self.accept("NESTED"):
                self.accept("PATH")
                below = self.string()
                self.expect("COLUMNS")
                spec["nested"].append(self.columns(below, columns, depth + 1))
            else:
                spec["columns"].append(self._column(columns))
            if not self.accept(","):
                break
        self.expect(")")
        return spec

    def _column(self, columns: _Columns) -> list[Any]:
        name = self.name()
        if self.accept("FOR", "ORDINALITY"):
            return [columns.add(_Column(name, _ORDINAL)), "ordinality", ""]
        written = self.type_spec()
        column = _Column(name, field_type(type_info(written, name)))
        if column.type.tp in (t.Tp.ENUM, t.Tp.SET, t.Tp.BIT):
            raise unsupported(f"a column of type {written.name} in JSON_TABLE", position=written.position)
        exists = self.accept("EXISTS")
        self.expect("PATH")
        path = self.string()
        path_of(path)
        while not exists and self.word() in ("NULL", "ERROR", "DEFAULT"):
            answer = self.answer(column.type, column.name, parse_json)
            self.expect("ON")
            if self.accept("EMPTY"):
                column.on_empty = answer
            else:
                self.expect("ERROR")
                column.on_error = answer
        return [columns.add(column), "exists" if exists else "path", path]

    def answer(self, ft: t.FieldType, name: str, read: Callable[[str], Any]) -> str | None:
        """NULL, ERROR, or DEFAULT with text that `read` makes a value of. Raises 1067 for none of the type."""
        if self.accept("NULL"):
            return None
        if self.accept("ERROR"):
            return ERROR
        self.expect("DEFAULT")
        position = self.position
        text = ("-" if self.accept("-") else "") + (self.take().text if self.kind() == "number" else self.string())
        try:
            stored_as(ft, name)(read(text))
        except EvalError as e:
            raise error(1067, f"Invalid default value for '{name}'", position=position) from e
        return text
