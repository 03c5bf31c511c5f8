"""JSON_SCHEMA_VALID, keyword by keyword."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coprocessor.env import Env
from coprocessor.errors import InvalidArgument, Unsupported
from coprocessor.evaluate import compile_expr
from coprocessor.expr import Const
from coprocessor.functions import resolve
from coprocessor.types import TEXT


def valid(schema: Any, value: Any) -> Any:
    args = [Const(json.dumps(a), TEXT) for a in (schema, value)]
    return compile_expr(resolve("json_schema_valid", args), {})((), Env())


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({}, [1, None, {}], []),
        ({"type": "integer"}, [1], [1.5, True, "1", None]),
        ({"type": ["string", "null"]}, ["a", None], [1, []]),
        ({"enum": [1, "a", [1]]}, [1, "a", [1]], [2, "b", [2]]),
        ({"minimum": 1, "maximum": 3}, [1, 3, 2.5, "x"], [0, 3.1]),
        ({"minimum": 1, "exclusiveMinimum": True}, [1.1], [1]),
        ({"multipleOf": 3}, [9, 0, "x"], [10]),
        ({"minLength": 2, "maxLength": 3, "pattern": "^a"}, ["ab", "abc", 7], ["a", "abcd", "bb"]),
        ({"items": {"type": "string"}, "minItems": 1, "uniqueItems": True}, [["a"], {}], [[], [1], ["a", "a"]]),
        ({"items": [{"type": "string"}], "additionalItems": False}, [["a"], []], [["a", 1], [1]]),
        ({"required": ["a"], "maxProperties": 2}, [{"a": 1}, 5], [{}, {"a": 1, "b": 1, "c": 1}]),
        (
            {"properties": {"a": {"type": "number"}}, "patternProperties": {"^s_": {"type": "string"}},
             "additionalProperties": False},
            [{"a": 1, "s_x": "y"}, {}],
            [{"a": "1"}, {"s_x": 1}, {"b": 1}],
        ),
        ({"dependencies": {"a": ["b"], "c": {"required": ["d"]}}}, [{"a": 1, "b": 2}, {}], [{"a": 1}, {"c": 1}]),
        ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, [1], [0, 3]),
        ({"oneOf": [{"multipleOf": 2}, {"multipleOf": 3}]}, [2, 3], [6, 7]),
        ({"not": {"type": "string"}, "anyOf": [{"minimum": 5}, {"type": "null"}]}, [5, None], ["a", 4]),
        (
            {"definitions": {"tree": {"properties": {"next": {"$ref": "#/definitions/tree"}}, "required": ["v"]}},
             "$ref": "#/definitions/tree"},
            [{"v": 1}, {"v": 1, "next": {"v": 2}}],
            [{}, {"v": 1, "next": {}}],
        ),
    ],
)  # fmt: skip
def test_keywords(schema: Any, good: list[Any], bad: list[Any]) -> None:
    assert [valid(schema, value) for value in good] == [1] * len(good)
    assert [valid(schema, value) for value in bad] == [0] * len(bad)


def test_schemas_that_are_none() -> None:
    for schema in ([], {"required": 5}, {"properties": 1}, {"$ref": "#"}):
        with pytest.raises(InvalidArgument):
            valid(schema, {"a": 1})
    with pytest.raises(Unsupported):
        valid({"$ref": "http://example.com/x.json"}, 1)
