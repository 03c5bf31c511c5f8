"""LIKE: patterns compiled to string methods or regular expressions, and their DuckDB form."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from coprocessor.errors import InvalidArgument
from coprocessor.expr import Call, Const, Expr
from coprocessor.functions.collation import is_ci, sorts_by_alike, weights
from coprocessor.functions.inference import collate_type
from coprocessor.functions.registry import DuckPrinter, Function, Inferred, Kernel, add
from coprocessor.types import BOOL, BYTES, TEXT

SUBJECT = "operators"


@lru_cache(maxsize=512)
def like_matcher(pattern: str, escape: str, collate: str = "") -> Callable[[str], object]:
    """Compiles a LIKE pattern; plain prefixes, suffixes and substrings become string methods.

    With a `_ci` collation the strings to match are to be given as their `Weights.classes`.
    """
    parts = _like_parts(pattern, escape)
    if is_ci(collate):
        parts = [weights(collate).classes(p) if isinstance(p, str) else p for p in parts]
    literal = "".join(p for p in parts if isinstance(p, str))
    shape = [p if isinstance(p, int) else None for p in parts]
    if 0 not in shape:
        if shape == [None]:
            return literal.__eq__
        if shape == [None, 1]:
            return lambda s: s.startswith(literal)
        if shape == [1, None]:
            return lambda s: s.endswith(literal)
        if shape == [1, None, 1]:
            return lambda s: literal in s
    source = "".join((re.escape(p) if isinstance(p, str) else (".", ".*")[p]) for p in parts)
    return re.compile(source, re.DOTALL).fullmatch


def _like_parts(pattern: str, escape: str) -> list[str | int]:
    """Splits a pattern into literal runs, 0 for `_` and 1 for `%`."""
    parts: list[str | int] = []
    run: list[str] = []
    i = 0
    while i < len(pattern):
        c = pattern[i]
        if c == escape and i + 1 < len(pattern):
            i += 1
            run.append(pattern[i])
        elif c in "_%" and c != escape:
            if run:
                parts.append("".join(run))
                run = []
            if not (c == "%" and parts and parts[-1] == 1):
                parts.append(int(c == "%"))
        else:
            run.append(c)
        i += 1
    if run or not parts:
        parts.append("".join(run))
    return parts


def _like_infer(args: Sequence[Expr]) -> Inferred:
    text = tuple(None if a.type.is_string else TEXT for a in args)
    if any(a.type.is_binary for a in args[:2]):
        text = tuple(BYTES for _ in args[:2]) + text[2:]
    return text, BOOL


def _escape_of(call: Call) -> str | None:
    if len(call.args) < 3:
        return "\\"
    arg = call.args[2]
    if isinstance(arg, Const):
        if arg.value is None:
            return "\\"
        text = arg.value.decode("latin-1") if isinstance(arg.value, bytes) else str(arg.value)
        if len(text) > 1:
            raise InvalidArgument("Incorrect arguments to ESCAPE")
        return text
    return None


def _like_kernel(call: Call) -> Kernel:
    escape = _escape_of(call)
    if escape is None:
        raise InvalidArgument("Incorrect arguments to ESCAPE")
    binary = call.args[0].type.is_binary
    collate = "" if binary else collate_type(call.args[:2]).collate
    classes = weights(collate).classes if is_ci(collate) else None

    def like(s: Any, pattern: Any, *_: object) -> int:
        if binary:
            s, pattern = s.decode("latin-1"), pattern.decode("latin-1")
        elif classes is not None:
            s = classes(s)
        return 1 if like_matcher(pattern, escape, collate)(s) else 0

    return like


def _like_duck(p: DuckPrinter, call: Call) -> str | None:
    s, pattern = call.args[:2]
    escape = _escape_of(call)
    if s.type.is_binary or pattern.type.is_binary or escape is None:
        return None
    collate = collate_type(call.args[:2]).collate
    if is_ci(collate) and not isinstance(pattern, Const):
        return None
    if not isinstance(pattern, Const):
        text = p.value(pattern)
        plain = f"{p.value(s)} LIKE {text}"
        if not escape:
            return f"({plain})"
        return f"CASE WHEN contains({text}, {p.string(escape)}) THEN {p.udf(call)} = 1 ELSE {plain} END"
    if not isinstance(pattern.value, str):
        return None
    parts = _like_parts(pattern.value, escape)
    value = text_of = p.value(s)
    if is_ci(collate):
        parts = [weights(collate).classes(x) if isinstance(x, str) else x for x in parts]
        text_of = f"{'upper' if sorts_by_alike(collate) else 'lower'}({value})"
    has_special = any(isinstance(x, str) and ("%" in x or "_" in x) for x in parts)
    quote = ""
    if has_special:
        quote = next(c for c in "\\|~^`\x01" if not any(isinstance(x, str) and c in x for x in parts))
    out = "".join(_quote_like(x, quote) if isinstance(x, str) else "_%"[x] for x in parts)
    text = out.replace("'", "''")
    if "\0" in text:
        return None
    suffix = f" ESCAPE '{quote}'" if has_special else ""
    plain = f"({text_of} LIKE '{text}'{suffix})"
    if not is_ci(collate):
        return plain
    return f"CASE WHEN strlen({value}) = length({value}) THEN {plain} ELSE {p.udf(call)} = 1 END"


def _quote_like(text: str, quote: str) -> str:
    return text.replace("%", f"{quote}%").replace("_", f"{quote}_") if quote else text


add(Function("like", 2, 3, _like_infer, SUBJECT, kernel=_like_kernel, duck=_like_duck, duck_bool=True,
             tipb="LikeSig", syntax="s LIKE pattern [ESCAPE c]"))  # fmt: skip
