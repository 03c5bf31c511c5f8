"""JSON values: parsing, MySQL's normal text, ordering, and paths."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from coprocessor.convert import to_text
from coprocessor.errors import InvalidArgument
from coprocessor.expr import Call, Expr
from coprocessor.types import JSON, FieldType, Tp

Path = tuple[tuple[str, Any], ...]


def parse_json(text: str | bytes) -> Any:
    """Parses JSON text; raises InvalidArgument 3141."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as e:
        raise InvalidArgument(f'Invalid JSON text: "{e}"', code=3140, sqlstate="22032") from e


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def is_json(text: str) -> bool:
    """True for valid JSON text."""
    try:
        parse_json(text)
    except InvalidArgument:
        return False
    return True


def dump_json(value: Any) -> str:
    """Prints a value in MySQL's normal form: keys by length, then bytes; `, ` and `: ` between."""
    if isinstance(value, dict):
        keys = ordered_keys(value)
        return "{" + ", ".join(f"{json.dumps(k, ensure_ascii=False)}: {dump_json(value[k])}" for k in keys) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(dump_json(v) for v in value) + "]"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, float):
        return repr(value).replace("e+", "e")
    return json.dumps(value, ensure_ascii=False)


def ordered_keys(value: dict[str, Any]) -> list[str]:
    """The keys in MySQL's order."""
    return sorted(value, key=lambda k: (len(k.encode()), k.encode()))


def json_text(ft: FieldType) -> Callable[[Any], str]:
    """Returns the function from a non-NULL value of a type to the JSON text that it is inside JSON_ARRAY and
    friends.
    """
    if ft.tp == Tp.JSON:
        return lambda v: v
    if ft.tp == Tp.LONGLONG and ft.flen == 1:
        return lambda v: "true" if v else "false"
    if ft.is_numeric:
        return dump_json
    if ft.tp in (Tp.DATETIME, Tp.TIMESTAMP, Tp.DURATION):
        full = ft.with_(decimal=6)
        return lambda v: json.dumps(to_text(v, full))
    return lambda v: json.dumps(to_text(v, ft), ensure_ascii=False)


def as_json(expr: Expr) -> Expr:
    """Returns the call that makes a JSON value of an SQL value (not parsing text)."""
    return Call("json_of", (expr,), JSON)


_RANK = {"NULL": 0, "NUMBER": 1, "STRING": 2, "OBJECT": 3, "ARRAY": 4, "BOOLEAN": 5}


def json_key(text: str) -> Any:
    """Returns what JSON texts compare by: the precedence of types, then the value."""
    return json_order(parse_json(text))


def json_order(v: Any) -> tuple[int, Any]:
    """Returns what parsed values compare by."""
    if v is None:
        return 0, 0
    if isinstance(v, bool):
        return 5, v
    if isinstance(v, int | float):
        return 1, v
    if isinstance(v, str):
        return 2, v
    if isinstance(v, dict):
        return 3, tuple(sorted((k, json_order(x)) for k, x in v.items()))
    return 4, tuple(json_order(x) for x in v)


def json_sort_key(text: str) -> bytes:
    """Returns what JSON texts are ordered by: bytes in the order of `json_key`, except between objects."""
    return _sort_key(parse_json(text))


def _sort_key(v: Any) -> bytes:
    rank, value = json_order(v)
    head = bytes((rank,))
    if rank == _RANK["NUMBER"]:
        near = float(value)
        bits = int.from_bytes(struct.pack(">d", near + 0.0), "big")
        bits = bits ^ 0xFFFFFFFFFFFFFFFF if bits >> 63 else bits | 1 << 63
        rest = value - int(near) if isinstance(value, int) else 0  # what a double of so large a number leaves out
        return head + bits.to_bytes(8, "big") + (rest + (1 << 31)).to_bytes(4, "big")
    if rank == _RANK["STRING"]:
        return head + str(value).encode("utf-8", "surrogatepass")
    if rank == _RANK["OBJECT"]:
        return head + dump_json(v).encode("utf-8", "surrogatepass")
    if rank == _RANK["ARRAY"]:
        items = (_sort_key(item).replace(b"\0", b"\0\xff") + b"\0\0" for item in v)
        return head + b"".join(b"\x01" + item for item in items)
    return head + bytes((bool(value),))


def type_name(v: Any) -> str:
    """JSON_TYPE's name."""
    if v is None:
        return "NULL"
    if isinstance(v, bool):
        return "BOOLEAN"
    if isinstance(v, int):
        return "INTEGER" if v < 2**63 else "UNSIGNED INTEGER"
    if isinstance(v, float):
        return "DOUBLE"
    return "STRING" if isinstance(v, str) else "OBJECT" if isinstance(v, dict) else "ARRAY"


# --- paths --------------------------------------------------------------------------------------------------------

_LEG = re.compile(
    r"""\s*(?:\.\s*(?:(?P<any>\*)|(?P<key>[^\s.\[*"]+)|(?P<quoted>"(?:[^"\\]|\\.)*"))
    |\[\s*(?:(?P<all>\*)|(?P<cell>\d+|last(?:\s*-\s*\d+)?)(?:\s+to\s+(?P<to>\d+|last(?:\s*-\s*\d+)?))?)\s*\]
    |(?P<deep>\*\*))""",
    re.VERBOSE,
)

_PLAIN_KEY = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


def parse_path(text: str) -> Path:
    """Parses a JSON path such as $.a[0].*; raises InvalidArgument 3143."""
    source = text.strip()
    legs: list[tuple[str, Any]] = []
    at = 1
    if not source.startswith("$"):
        raise _bad_path(text)
    while at < len(source):
        m = _LEG.match(source, at)
        if m is None:
            raise _bad_path(text)
        at = m.end()
        legs.append(_leg(m, text))
    if legs and legs[-1][0] == "deep":
        raise _bad_path(text)
    return tuple(legs)


def _leg(m: re.Match[str], text: str) -> tuple[str, Any]:
    if m["any"]:
        return "any", None
    if m["key"]:
        return "key", m["key"]
    if m["quoted"]:
        return "key", json.loads(m["quoted"])
    if m["all"]:
        return "all", None
    if m["deep"]:
        return "deep", None
    first = _cell(m["cell"])
    if not m["to"]:
        return first
    last = _cell(m["to"])
    backwards = first[1] > last[1] if first[0] == "index" else first[1] < last[1]
    if first[0] == last[0] and backwards:
        raise _bad_path(text)
    return "range", (first, last)


def _cell(text: str) -> tuple[str, int]:
    """A cell of an array: ("index", n) from its start, ("last", n) from its end."""
    if text.startswith("last"):
        return "last", int(text[4:].replace("-", "") or 0)
    return "index", int(text)


def cells(leg: tuple[str, Any], length: int) -> range:
    """Which cells of an array a leg `index`, `last`, `range` or `all` finds."""
    kind, arg = leg
    if kind == "all":
        return range(length)
    if kind == "range":
        (first, n), (last, m) = arg
        low = n if first == "index" else max(length - 1 - n, 0)
        high = m if last == "index" else length - 1 - m
        return range(low, min(high + 1, length))
    i = arg if kind == "index" else length - 1 - arg
    return range(i, i + 1) if 0 <= i < length else range(0)


def path_leg(key: str) -> str:
    """A member's leg in a path, quoted where it has to be."""
    return f".{key}" if _PLAIN_KEY.fullmatch(key) else f".{json.dumps(key, ensure_ascii=False)}"


def _bad_path(text: str) -> InvalidArgument:
    return InvalidArgument(f"Invalid JSON path expression: {text!r}.", code=3143, sqlstate="42000")


def is_single(path: Path) -> bool:
    """True for a path without wildcards and ranges."""
    return all(kind not in ("any", "all", "deep", "range") for kind, _ in path)


def walk_path(value: Any, path: Path) -> Iterator[Any]:
    """Yields the values that a path finds."""
    if not path:
        yield value
        return
    (kind, arg), rest = path[0], path[1:]
    if kind == "deep":
        yield from walk_path(value, rest)
        for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from walk_path(child, path)
    elif kind == "key":
        if isinstance(value, dict) and arg in value:
            yield from walk_path(value[arg], rest)
    elif kind == "any":
        for child in value.values() if isinstance(value, dict) else ():
            yield from walk_path(child, rest)
    elif kind == "all":
        for child in value if isinstance(value, list) else ():
            yield from walk_path(child, rest)
    else:
        items = value if isinstance(value, list) else [value]
        for i in cells(path[0], len(items)):
            yield from walk_path(items[i], rest)


def contains(target: Any, candidate: Any) -> bool:
    """JSON_CONTAINS: arrays contain each of an array's members, objects each key with a contained value."""
    if isinstance(target, list):
        if isinstance(candidate, list):
            return all(any(contains(t, c) for t in target) for c in candidate)
        return any(contains(t, candidate) for t in target)
    if isinstance(target, dict):
        return isinstance(candidate, dict) and all(k in target and contains(target[k], v) for k, v in candidate.items())
    return not isinstance(candidate, dict | list) and json_order(target) == json_order(candidate)
