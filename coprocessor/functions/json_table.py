"""What JSON_TABLE is made of: the rows of a document, and the value of a column in one of them;
JSON_VALUE with its clauses.

A row is a JSON array of its cells. A cell is null where a sibling's NESTED PATH made the row, else an array of what the
column's path found; so whoever reads it can tell nothing, one value and several.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from coprocessor.errors import EvalError, InvalidArgument
from coprocessor.expr import Call, Const, Expr
from coprocessor.functions.json import SUBJECT, document, path_of
from coprocessor.functions.json_value import dump_json, parse_json, walk_path
from coprocessor.functions.registry import Function, Inferred, Kernel, add
from coprocessor.schema import ColumnSchema
from coprocessor.types import BIGINT, TEXT, FieldType, Tp
from coprocessor.values import compile_caster

ROW_SEPARATOR = "\x1e"
"""Between rows; JSON text has no control characters."""

ERROR = "error"
"""ERROR ON EMPTY and ERROR ON ERROR, which no JSON text is: a default is one."""


def _rows(value: Any, spec: dict[str, Any], width: int) -> Iterator[list[Any]]:
    """The rows of one path: each item it finds with the rows of its nested paths, one after the other, or alone.

    A spec is {"path", "columns": [[index, kind, path]], "nested": [spec]}.
    """
    for number, item in enumerate(walk_path(value, path_of(spec["path"])), 1):
        row: list[Any] = [None] * width
        for index, kind, path in spec["columns"]:
            if kind == "ordinality":
                row[index] = [number]
            else:
                found = list(walk_path(item, path_of(path)))
                row[index] = [int(bool(found))] if kind == "exists" else found
        below = [inner for nested in spec["nested"] for inner in _rows(item, nested, width)]
        for inner in below:
            yield [own if own is not None else other for own, other in zip(row, inner, strict=True)]
        if not below:
            yield row


def _constant(arg: Expr) -> Any:
    assert isinstance(arg, Const), arg
    return arg.value


def _rows_kernel(call: Call) -> Kernel:
    spec = json.loads(_constant(call.args[1]))

    def rows(doc: str, _: str) -> str | None:
        try:
            value = parse_json(doc)
        except InvalidArgument as e:
            reason = str(e).removeprefix("Invalid JSON text: ")
            message = f"Invalid JSON text in argument 1 to function json_table: {reason}"
            raise InvalidArgument(message, code=3141, sqlstate="22032") from e
        return ROW_SEPARATOR.join(map(dump_json, _rows(value, spec, spec["width"]))) or None

    return rows


def _rows_infer(args: Sequence[Expr]) -> Inferred:
    return (document(args[0]), None), TEXT


def stored_as(ft: FieldType, name: str) -> Callable[[Any], Any]:
    """Returns the function from a JSON value to that of a column. Raises EvalError for one that it cannot have."""
    if ft.tp == Tp.JSON:
        return dump_json
    cast = compile_caster(ColumnSchema(0, name, ft))

    def convert(value: Any) -> Any:
        if isinstance(value, (list, dict)):
            message = f"Can't store an array or an object in the scalar JSON_TABLE column '{name}'."
            raise InvalidArgument(message, code=3666, sqlstate="22035")
        if not isinstance(value, str) and value is not None and ft.is_string:
            value = dump_json(value)
        try:
            return cast(int(value) if isinstance(value, bool) else value)
        except EvalError as e:
            message = f"Value is out of range for JSON_TABLE's column '{name}'"
            raise InvalidArgument(message, code=3669, sqlstate="22003") from e

    return convert


def _missing(name: str) -> InvalidArgument:
    return InvalidArgument(f"Missing value for JSON_TABLE column '{name}'", code=3665, sqlstate="22035")


def _cell_kernel(call: Call) -> Kernel:
    index, name, on_empty, on_error = map(_constant, call.args[1:])
    convert = stored_as(call.type, name)
    empty, wrong = (None if on in (None, ERROR) else convert(parse_json(on)) for on in (on_empty, on_error))

    def cell(row: str | None, *_: Any) -> Any:
        found = None if row is None else json.loads(row)[index]
        if found is None:
            return None
        if not found:
            if on_empty == ERROR:
                raise _missing(name)
            return empty
        try:
            return convert(found[0] if len(found) == 1 else found)
        except EvalError:
            if on_error == ERROR:
                raise
            return wrong

    return cell


def cell_of(row: Expr, index: int, name: str, on_empty: str | None, on_error: str | None, ft: FieldType) -> Call:
    """The value of a column of type `ft` in a row. `on_empty` and `on_error` are JSON text, ERROR, or None for NULL."""
    texts = (Const(text, TEXT) for text in (name, on_empty, on_error))
    return Call("json_table_cell", (row, Const(index, BIGINT), *texts), ft)


def _value_kernel(call: Call) -> Kernel:
    path, on_empty, on_error = map(_constant, call.args[1:])
    legs, convert = path_of(path), stored_as(call.type, "json_value")
    read = parse_json if call.type.tp == Tp.JSON else str
    empty, wrong = (None if on in (None, ERROR) else convert(read(on)) for on in (on_empty, on_error))

    def value(doc: str | None, *_: Any) -> Any:
        if doc is None:
            return None
        found = list(walk_path(parse_json(doc), legs))
        if not found:
            if on_empty == ERROR:
                message = "No value was found by 'json_value' on the specified path."
                raise InvalidArgument(message, code=3966, sqlstate="22035")
            return empty
        try:
            if len(found) > 1:
                message = "More than one value was found by 'json_value' on the specified path."
                raise InvalidArgument(message, code=3967, sqlstate="22034")
            return convert(found[0])
        except EvalError as e:
            if on_error != ERROR:
                return wrong
            if e.code == 3967:
                raise
            message = "Invalid JSON value for CAST to the type that json_value returns"
            raise InvalidArgument(message, code=3156, sqlstate="22018") from e

    return value


def value_of(doc: Expr, path: str, on_empty: str | None, on_error: str | None, ft: FieldType) -> Call:
    """JSON_VALUE of type `ft`; `on_empty` and `on_error` are text, ERROR, or None for NULL."""
    from coprocessor.functions.casting import cast_to

    path_of(path)
    texts = (Const(text, TEXT) for text in (path, on_empty, on_error))
    return Call("json_value_as", (doc if document(doc) is None else cast_to(doc, TEXT), *texts), ft)


add(Function("json_value_as", 4, 4, lambda args: ((document(args[0]), TEXT, TEXT, TEXT), TEXT), SUBJECT,
             kernel=_value_kernel, nulls=True, syntax="JSON_VALUE(doc, path RETURNING ...)"))  # fmt: skip
add(Function("json_table_rows", 2, 2, _rows_infer, SUBJECT, kernel=_rows_kernel, syntax="JSON_TABLE: the rows"))
add(Function("json_table_cell", 5, 5, lambda args: ((TEXT, BIGINT, TEXT, TEXT, TEXT), TEXT), SUBJECT,
             kernel=_cell_kernel, nulls=True, syntax="JSON_TABLE: a column of a row"))  # fmt: skip


__all__ = ["ERROR", "ROW_SEPARATOR", "cell_of", "stored_as", "value_of"]
