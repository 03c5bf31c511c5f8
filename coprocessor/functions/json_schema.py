"""JSON_SCHEMA_VALID: JSON Schema, draft 4, as MySQL has it: no `format`, and `$ref` only within the schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from coprocessor.errors import InvalidArgument, Unsupported
from coprocessor.expr import Expr
from coprocessor.functions.json import SUBJECT, document
from coprocessor.functions.json_value import json_order, parse_json
from coprocessor.functions.registry import Function, Inferred, add
from coprocessor.types import BOOL

REFERENCES_MAX = 64
"""How many references may follow from one another before the schema is taken for one that ends nowhere."""

_Check = Callable[["_Schema", Any, Any, Any], bool]


class _Schema:
    """A schema and its root, to which references are relative."""

    def __init__(self, root: Any, followed: int = 0) -> None:
        self.root = root
        self.followed = followed

    def allows(self, schema: Any, value: Any) -> bool:
        if not isinstance(schema, dict):
            return True
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return self._target(reference)(value)
        return all(check(self, schema[name], schema, value) for name, check in _CHECKS.items() if name in schema)

    def _target(self, reference: str) -> Callable[[Any], bool]:
        if not reference.startswith("#"):
            raise Unsupported("references to other documents in a JSON schema")
        if self.followed >= REFERENCES_MAX:
            raise InvalidArgument("The JSON schema refers to itself without end.", code=3141, sqlstate="22032")
        target = self.root
        for part in reference[1:].split("/")[1:]:
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(target, list) and key.isdigit() and int(key) < len(target):
                target = target[int(key)]
            elif isinstance(target, dict) and key in target:
                target = target[key]
            else:
                return lambda value: True
        inner = _Schema(self.root, self.followed + 1)
        return lambda value: inner.allows(target, value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "number": _is_number,
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
}


def _type(s: _Schema, wanted: Any, schema: Any, value: Any) -> bool:
    names = wanted if isinstance(wanted, list) else [wanted]
    return any(_TYPES[name](value) for name in names if name in _TYPES)


def _same(a: Any, b: Any) -> bool:
    return bool(json_order(a) == json_order(b))


def _minimum(s: _Schema, low: Any, schema: Any, value: Any) -> bool:
    return not _is_number(value) or (value > low if schema.get("exclusiveMinimum") is True else value >= low)


def _maximum(s: _Schema, high: Any, schema: Any, value: Any) -> bool:
    return not _is_number(value) or (value < high if schema.get("exclusiveMaximum") is True else value <= high)


def _multiple(s: _Schema, step: Any, schema: Any, value: Any) -> bool:
    if not _is_number(value) or not step:
        return True
    return bool(value % step == 0) if isinstance(value, int) and isinstance(step, int) else (value / step).is_integer()


@lru_cache(maxsize=256)
def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as exc:
        raise InvalidArgument(f"Illegal argument to a regular expression: {exc}", code=3685) from exc


def _size(kind: type[str | list[Any] | dict[str, Any]], least: bool) -> _Check:
    def check(s: _Schema, limit: Any, schema: Any, value: Any) -> bool:
        return not isinstance(value, kind) or (len(value) >= limit if least else len(value) <= limit)

    return check


def _unique(s: _Schema, wanted: Any, schema: Any, value: Any) -> bool:
    if wanted is not True or not isinstance(value, list):
        return True
    return not any(_same(value[i], value[j]) for i in range(len(value)) for j in range(i))


def _items(s: _Schema, items: Any, schema: Any, value: Any) -> bool:
    if not isinstance(value, list):
        return True
    if isinstance(items, dict):
        return all(s.allows(items, v) for v in value)
    more = schema.get("additionalItems", True)
    rest = value[len(items) :]
    fits = all(s.allows(item, v) for item, v in zip(items, value, strict=False))
    return fits and (not rest if more is False else all(s.allows(more, v) for v in rest))


def _properties(s: _Schema, _: Any, schema: Any, value: Any) -> bool:
    """`properties`, `patternProperties` and `additionalProperties`, which depend on each other."""
    if not isinstance(value, dict):
        return True
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    more = schema.get("additionalProperties", True)
    for key, member in value.items():
        matched = [sub for pattern, sub in patterns.items() if _pattern(pattern).search(key)]
        wanted = [named[key], *matched] if key in named else matched
        if not wanted and more is False:
            return False
        if not all(s.allows(sub, member) for sub in wanted or [more]):
            return False
    return True


def _dependencies(s: _Schema, dependencies: Any, schema: Any, value: Any) -> bool:
    if not isinstance(value, dict):
        return True
    for key, wanted in dependencies.items():
        if key in value:
            if not (all(k in value for k in wanted) if isinstance(wanted, list) else s.allows(wanted, value)):
                return False
    return True


_CHECKS: dict[str, _Check] = {
    "type": _type,
    "enum": lambda s, members, schema, v: any(_same(v, m) for m in members),
    "minimum": _minimum,
    "maximum": _maximum,
    "multipleOf": _multiple,
    "minLength": _size(str, True),
    "maxLength": _size(str, False),
    "pattern": lambda s, p, schema, v: not isinstance(v, str) or _pattern(p).search(v) is not None,
    "minItems": _size(list, True),
    "maxItems": _size(list, False),
    "uniqueItems": _unique,
    "items": _items,
    "minProperties": _size(dict, True),
    "maxProperties": _size(dict, False),
    "required": lambda s, keys, schema, v: not isinstance(v, dict) or all(k in v for k in keys),
    "properties": _properties,
    "patternProperties": _properties,
    "additionalProperties": _properties,
    "dependencies": _dependencies,
    "allOf": lambda s, all_of, schema, v: all(s.allows(sub, v) for sub in all_of),
    "anyOf": lambda s, any_of, schema, v: any(s.allows(sub, v) for sub in any_of),
    "oneOf": lambda s, one_of, schema, v: sum(s.allows(sub, v) for sub in one_of) == 1,
    "not": lambda s, sub, schema, v: not s.allows(sub, v),
}


@lru_cache(maxsize=64)
def _schema_of(text: str) -> Any:
    schema = parse_json(text)
    if not isinstance(schema, dict):
        raise InvalidArgument("Invalid JSON type in argument 1 to function json_schema_valid; an object is required.",
                              code=3853, sqlstate="22032")  # fmt: skip
    return schema


def _valid(schema: str, doc: str) -> int:
    root = _schema_of(schema)
    try:
        return int(_Schema(root).allows(root, parse_json(doc)))
    except (TypeError, AttributeError, KeyError) as exc:  # a keyword with a value of another type than it has
        raise InvalidArgument("Invalid value of a keyword in a JSON schema.", code=3853, sqlstate="22032") from exc


def _infer(args: Sequence[Expr]) -> Inferred:
    return (document(args[0]), document(args[1])), BOOL


add(Function("json_schema_valid", 2, 2, _infer, SUBJECT, py=_valid))
