"""JSON functions. Values are normalised JSON text; DuckDB calls the closures, whose path and printing rules are
MySQL's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

from coprocessor.codec.json_binary import encode_text
from coprocessor.errors import InvalidArgument, ResolveError
from coprocessor.expr import Call, Expr
from coprocessor.functions.json_value import (
    Path,
    cells,
    contains,
    dump_json,
    is_json,
    is_single,
    json_order,
    json_sort_key,
    json_text,
    ordered_keys,
    parse_json,
    parse_path,
    path_leg,
    type_name,
    walk_path,
)
from coprocessor.functions.patterns import like_matcher
from coprocessor.functions.registry import Function, Inferred, Kernel, add, fixed
from coprocessor.types import BIGINT, BOOL, BYTES, JSON, TEXT, Tp, varchar

SUBJECT = "JSON"


@lru_cache(maxsize=512)
def path_of(text: str) -> Path:
    """Parses a path once."""
    return parse_path(text)


def _single(text: str) -> Path:
    """Parses a path that finds one value at most. Raises InvalidArgument 3149 for others."""
    path = path_of(text)
    if not is_single(path):
        raise InvalidArgument(
            "In this situation, path expressions may not contain the * and ** tokens or an array range.",
            code=3149,
            sqlstate="42000",
        )
    return path


def document(arg: Expr) -> Any:
    """The type of an argument that is a JSON document: text is parsed by the function, JSON stays."""
    return None if arg.type.tp == Tp.JSON else TEXT


def _doc_infer(result: Any, *rest: Any) -> Callable[[Sequence[Expr]], Inferred]:
    def infer(args: Sequence[Expr]) -> Inferred:
        more = [rest[min(i, len(rest) - 1)] for i in range(len(args) - 1)] if rest else []
        return (document(args[0]), *more), result

    return infer


def _extract(doc: str, *paths: str) -> str | None:
    value = parse_json(doc)
    parsed = [path_of(p) for p in paths]
    found = [v for path in parsed for v in walk_path(value, path)]
    if not found:
        return None
    single = len(parsed) == 1 and is_single(parsed[0])
    return dump_json(found[0] if single else found)


def _unquote(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        try:
            value = json.loads(text, strict=False)
        except ValueError as e:
            raise InvalidArgument(f"Invalid JSON text: {e}", code=3141, sqlstate="22032") from e
        return value if isinstance(value, str) else text
    return text


def _arrow_text(doc: str, path: str) -> str | None:
    found = _extract(doc, path)
    return None if found is None else _unquote(found)


add(Function("json_extract", 2, None, _doc_infer(JSON, TEXT), SUBJECT, py=_extract, tipb="JsonExtractSig"))
add(Function("json_unquote", 1, 1, _doc_infer(TEXT), SUBJECT, py=_unquote, tipb="JsonUnquoteSig"))
add(Function("json_extract_text", 2, 2, _doc_infer(TEXT, TEXT), SUBJECT, py=_arrow_text,
             syntax="doc->>path"), "json_unquote_extract")  # fmt: skip
add(Function("json_quote", 1, 1, fixed([TEXT], TEXT), SUBJECT, py=lambda s: json.dumps(s, ensure_ascii=False),
             tipb="JsonQuoteSig"))  # fmt: skip


# --- making -------------------------------------------------------------------------------------------------------


def _array_kernel(call: Call) -> Kernel:
    makers = [json_text(a.type) for a in call.args]

    def array(*values: Any) -> str:
        return "[" + ", ".join("null" if v is None else m(v) for v, m in zip(values, makers, strict=True)) + "]"

    return array


def _object_infer(args: Sequence[Expr]) -> Inferred:
    if len(args) % 2:
        raise ResolveError("Incorrect parameter count in the call to native function 'json_object'", code=1582)
    return tuple(None if i % 2 else TEXT for i in range(len(args))), JSON


def _object_kernel(call: Call) -> Kernel:
    makers = [json_text(a.type) for a in call.args]

    def make(*values: Any) -> str:
        out: dict[str, Any] = {}
        for i in range(0, len(values), 2):
            if values[i] is None:
                raise InvalidArgument("JSON documents may not contain NULL member names.", code=3158, sqlstate="22032")
            out[values[i]] = None if values[i + 1] is None else parse_json(makers[i + 1](values[i + 1]))
        return dump_json(out)

    return make


def _of_kernel(call: Call) -> Kernel:
    return json_text(call.args[0].type)


add(Function("json_array", 0, None, lambda args: (tuple(None for _ in args), JSON), SUBJECT, kernel=_array_kernel,
             nulls=True, tipb="JsonArraySig"))  # fmt: skip
add(Function("json_object", 0, None, _object_infer, SUBJECT, kernel=_object_kernel, nulls=True, tipb="JsonObjectSig"))
add(Function("json_of", 1, 1, lambda args: ((None,), JSON), SUBJECT, kernel=_of_kernel, syntax="(a value as JSON)"))


# --- asking -------------------------------------------------------------------------------------------------------


def _valid_infer(args: Sequence[Expr]) -> Inferred:
    return (None,), BOOL


def _valid_kernel(call: Call) -> Kernel:
    ft = call.args[0].type
    if ft.tp == Tp.JSON:
        return lambda v: 1
    if not ft.is_text:
        return lambda v: 0
    return lambda v: int(is_json(v))


def _at(doc: str, path: str | None) -> tuple[bool, Any]:
    value = parse_json(doc)
    if path is None:
        return True, value
    found = list(walk_path(value, _single(path)))
    return bool(found), found[0] if found else None


def _length(doc: str, path: str | None = None) -> int | None:
    there, value = _at(doc, path)
    if not there:
        return None
    return len(value) if isinstance(value, dict | list) else 1


def _depth(value: Any) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max((_depth(c) for c in children), default=0)


def _keys(doc: str, path: str | None = None) -> str | None:
    there, value = _at(doc, path)
    if not there or not isinstance(value, dict):
        return None
    return dump_json(ordered_keys(value))


def _contains(doc: str, candidate: str, path: str | None = None) -> int | None:
    there, value = _at(doc, path)
    return int(contains(value, parse_json(candidate))) if there else None


def _check_mode(name: str, mode: str) -> None:
    if mode.lower() not in ("one", "all"):
        raise InvalidArgument(f"The oneOrAll argument to {name} may take these values: 'one' or 'all'.", code=3154)


def _contains_path(doc: str, mode: str, *paths: str) -> int:
    value = parse_json(doc)
    _check_mode("json_contains_path", mode)
    hits = [any(True for _ in walk_path(value, path_of(p))) for p in paths]
    return int(any(hits) if mode.lower() == "one" else all(hits))


def _member_of_kernel(call: Call) -> Kernel:
    make = json_text(call.args[0].type)

    def member(v: Any, doc: str) -> int:
        value, array = parse_json(make(v)), parse_json(doc)
        items = array if isinstance(array, list) else [array]
        return int(any(value == i and isinstance(value, bool) == isinstance(i, bool) for i in items))

    return member


def _overlaps(a: str, b: str) -> int:
    """Two arrays share an element, two objects a member; another value counts as an array of one."""
    left, right = parse_json(a), parse_json(b)
    if isinstance(left, dict) and isinstance(right, dict):
        return int(any(k in right and _same(v, right[k]) for k, v in left.items()))
    ours = left if isinstance(left, list) else [left]
    theirs = right if isinstance(right, list) else [right]
    return int(any(_same(x, y) for x in ours for y in theirs))


def _same(a: Any, b: Any) -> bool:
    return json_order(a) == json_order(b)


def _found_strings(value: Any, path: Path, at: str) -> Iterator[tuple[str, str]]:
    """Yields the strings at and below what a path finds, each with its own path."""
    if path:
        (kind, arg), rest = path[0], path[1:]
        if kind == "deep":
            yield from _found_strings(value, rest, at)
            for child, where in _children(value, at):
                yield from _found_strings(child, path, where)
        elif isinstance(value, dict) and kind in ("key", "any"):
            for key in [arg] if kind == "key" else value:
                if key in value:
                    yield from _found_strings(value[key], rest, at + path_leg(key))
        elif isinstance(value, list) and kind == "all":
            for child, where in _children(value, at):
                yield from _found_strings(child, rest, where)
        elif kind in ("index", "last", "range"):
            items = value if isinstance(value, list) else [value]
            for i in cells(path[0], len(items)):
                yield from _found_strings(items[i], rest, f"{at}[{i}]" if isinstance(value, list) else at)
    elif isinstance(value, str):
        yield at, value
    else:
        for child, where in _children(value, at):
            yield from _found_strings(child, (), where)


def _children(value: Any, at: str) -> Iterator[tuple[Any, str]]:
    if isinstance(value, list):
        yield from ((child, f"{at}[{i}]") for i, child in enumerate(value))
    elif isinstance(value, dict):
        yield from ((value[key], at + path_leg(key)) for key in ordered_keys(value))


def _search(
    doc: str | None, mode: str | None, wanted: str | None, escape: str | None = "\\", *paths: str | None
) -> str | None:
    """JSON_SEARCH: the path, or the array of paths, of the strings that are LIKE the wanted one."""
    if doc is None or mode is None or wanted is None or None in paths:
        return None
    value = parse_json(doc)
    _check_mode("json_search", mode)
    if escape is not None and len(escape) > 1:
        raise InvalidArgument("Incorrect arguments to ESCAPE", code=1210)
    match = like_matcher(wanted, escape or "\\")
    found: dict[str, None] = {}
    for path in paths or ("$",):
        for where, text in _found_strings(value, path_of(str(path)), "$"):
            if match(text):
                found[where] = None
                if mode.lower() == "one":
                    return dump_json(where)
    if not found:
        return None
    return dump_json(next(iter(found)) if len(found) == 1 else list(found))


def _storage_free(doc: str) -> int:
    """Nothing: a document is stored anew whenever it changes."""
    parse_json(doc)
    return 0


def _value(doc: str, path: str) -> str | None:
    """JSON_VALUE without its clauses: a scalar as text; NULL for what is not there and for what is no scalar."""
    parsed = path_of(path)
    found = list(walk_path(parse_json(doc), parsed))
    if not is_single(parsed) or len(found) != 1 or isinstance(found[0], dict | list) or found[0] is None:
        return None
    return found[0] if isinstance(found[0], str) else dump_json(found[0])


add(Function("json_valid", 1, 1, _valid_infer, SUBJECT, kernel=_valid_kernel, tipb="JsonValidStringSig"))
add(
    Function(
        "json_type", 1, 1, _doc_infer(TEXT), SUBJECT, py=lambda doc: type_name(parse_json(doc)), tipb="JsonTypeSig"
    )
)
add(Function("json_length", 1, 2, _doc_infer(BIGINT, TEXT), SUBJECT, py=_length, tipb="JsonLengthSig"))
add(
    Function(
        "json_depth", 1, 1, _doc_infer(BIGINT), SUBJECT, py=lambda doc: _depth(parse_json(doc)), tipb="JsonDepthSig"
    )
)
add(Function("json_keys", 1, 2, _doc_infer(JSON, TEXT), SUBJECT, py=_keys, tipb="JsonKeysSig"))
add(Function("json_contains", 2, 3, lambda args: ((document(args[0]), document(args[1]), TEXT)[: len(args)], BOOL),
             SUBJECT, py=_contains, tipb="JsonContainsSig"))  # fmt: skip
add(Function("json_contains_path", 3, None, _doc_infer(BOOL, TEXT), SUBJECT, py=_contains_path,
             tipb="JsonContainsPathSig"))  # fmt: skip
add(Function("json_member_of", 2, 2, lambda args: ((None, document(args[1])), BOOL), SUBJECT, kernel=_member_of_kernel,
             tipb="JsonMemberOfSig", syntax="v MEMBER OF (doc)"))  # fmt: skip
add(Function("json_sort_key", 1, 1, fixed([JSON], BYTES), SUBJECT, py=json_sort_key, syntax="ORDER BY a document"))
add(Function("json_overlaps", 2, 2, lambda args: ((document(args[0]), document(args[1])), BOOL), SUBJECT, py=_overlaps))
add(Function("json_search", 3, None, _doc_infer(JSON, TEXT), SUBJECT, py=_search, nulls=True))
add(Function("json_value", 2, 2, _doc_infer(varchar(512), TEXT), SUBJECT, py=_value))
add(Function("json_storage_size", 1, 1, _doc_infer(BIGINT), SUBJECT, py=lambda doc: len(encode_text(doc))))
add(Function("json_storage_free", 1, 1, _doc_infer(BIGINT), SUBJECT, py=_storage_free))


# --- changing -----------------------------------------------------------------------------------------------------


def _change(value: Any, path: Path, new: Any, *, insert: bool, replace: bool) -> Any:
    """Returns the value with what is at the path set, inserted or replaced."""
    if not path:
        return new if replace else value
    (kind, arg), rest = path[0], path[1:]
    if kind == "key" and isinstance(value, dict):
        if arg in value:
            value[arg] = _change(value[arg], rest, new, insert=insert, replace=replace)
        elif not rest and insert:
            value[arg] = new
    elif kind in ("index", "last"):
        items = value if isinstance(value, list) else [value]
        i = arg if kind == "index" else len(items) - 1 - arg
        if 0 <= i < len(items):
            items[i] = _change(items[i], rest, new, insert=insert, replace=replace)
            return items if isinstance(value, list) else items[0]
        if not rest and insert and i >= 0:
            return [*items, new]
    return value


def _changer(into: Callable[[Any, Path, Any], Any]) -> Callable[[Call], Kernel]:
    """A function of a document and of pairs of a path and a value, which it puts `into` it one after the other."""

    def make(call: Call) -> Kernel:
        makers = [json_text(a.type) for a in call.args]

        def change(*args: Any) -> str | None:
            if args[0] is None or None in args[1::2]:
                return None
            value = parse_json(args[0])
            for i in range(1, len(args), 2):
                path = _single(args[i])
                new = None if args[i + 1] is None else parse_json(makers[i + 1](args[i + 1]))
                value = into(value, path, new)
            return dump_json(value)

        return change

    return make


def _change_infer(args: Sequence[Expr]) -> Inferred:
    if len(args) % 2 == 0:
        raise ResolveError("Incorrect parameter count in the call to native function", code=1582)
    return tuple(document(a) if i == 0 else TEXT if i % 2 else None for i, a in enumerate(args)), JSON


for _name, _insert, _replace in (("json_set", True, True), ("json_insert", True, False), ("json_replace", False, True)):
    add(Function(_name, 3, None, _change_infer, SUBJECT, nulls=True,
                 kernel=_changer(partial(_change, insert=_insert, replace=_replace)),
                 tipb=f"Json{_name[5:].capitalize()}Sig"))  # fmt: skip


def _append(value: Any, path: Path, new: Any) -> Any:
    found = list(walk_path(value, path))
    if not found:
        return value
    grown = [*found[0], new] if isinstance(found[0], list) else [found[0], new]
    return _change(value, path, grown, insert=False, replace=True)


def _insert_cell(value: Any, path: Path, new: Any) -> Any:
    if not path or path[-1][0] not in ("index", "last"):
        raise InvalidArgument("A path expression is not a path to a cell in an array.", code=3165, sqlstate="42000")
    found = list(walk_path(value, path[:-1]))
    if found and isinstance(found[0], list):
        kind, arg = path[-1]
        at = arg if kind == "index" else max(len(found[0]) - 1 - arg, 0)
        found[0].insert(at, new)
    return value


for _name, _into in (("json_array_append", _append), ("json_array_insert", _insert_cell)):
    add(Function(_name, 3, None, _change_infer, SUBJECT, kernel=_changer(_into), nulls=True))


def _remove_at(value: Any, path: Path) -> None:
    parents = list(walk_path(value, path[:-1]))
    kind, arg = path[-1]
    for parent in parents:
        if kind == "key" and isinstance(parent, dict):
            parent.pop(arg, None)
        elif kind in ("index", "last") and isinstance(parent, list):
            i = arg if kind == "index" else len(parent) - 1 - arg
            if 0 <= i < len(parent):
                del parent[i]


def _remove(doc: str, *paths: str) -> str:
    value = parse_json(doc)
    for text in paths:
        path = _single(text)
        if not path:
            raise InvalidArgument(
                "The path expression '$' is not allowed in this context.", code=3153, sqlstate="42000"
            )
        _remove_at(value, path)
    return dump_json(value)


def _merge_patch(a: Any, b: Any) -> Any:
    if not isinstance(b, dict):
        return b
    out = dict(a) if isinstance(a, dict) else {}
    for k, v in b.items():
        if v is None:
            out.pop(k, None)
        else:
            out[k] = _merge_patch(out.get(k), v)
    return out


def _merge_preserve(a: Any, b: Any) -> Any:
    if isinstance(a, dict) and isinstance(b, dict):
        return a | {k: _merge_preserve(a[k], v) if k in a else v for k, v in b.items()}
    return [*(a if isinstance(a, list) else [a]), *(b if isinstance(b, list) else [b])]


def _merged(merge: Callable[[Any, Any], Any]) -> Callable[..., str]:
    def run(*docs: str) -> str:
        value, *rest = (parse_json(d) for d in docs)
        for other in rest:
            value = merge(value, other)
        return dump_json(value)

    return run


def _docs(args: Sequence[Expr]) -> Inferred:
    return tuple(document(a) for a in args), JSON


add(Function("json_remove", 2, None, _doc_infer(JSON, TEXT), SUBJECT, py=_remove, tipb="JsonRemoveSig"))
add(Function("json_merge_patch", 2, None, _docs, SUBJECT, py=_merged(_merge_patch), tipb="JsonMergePatchSig"))
add(Function("json_merge_preserve", 2, None, _docs, SUBJECT, py=_merged(_merge_preserve),
             tipb="JsonMergePreserveSig"), "json_merge")  # fmt: skip
add(
    Function(
        "json_pretty",
        1,
        1,
        _doc_infer(TEXT),
        SUBJECT,
        py=lambda doc: json.dumps(parse_json(doc), indent=2, ensure_ascii=False),
        tipb="JsonPrettySig",
    )
)
