"""Aggregate functions: their types, their running states on the direct path and their DuckDB forms."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from coprocessor.convert import CTX, quantize, to_text
from coprocessor.division import div_precision_increment
from coprocessor.env import Env
from coprocessor.errors import InvalidArgument, Unsupported
from coprocessor.expr import Agg, Call, Column, Const, Expr, Window
from coprocessor.functions.collation import is_ci, sort_key
from coprocessor.functions.decimal_sql import decimal_type_sql, divide_sql
from coprocessor.functions.group_concat import CONCAT_LIMIT, cut_concat
from coprocessor.functions.inference import as_decimal, digits, numeric_type, type_digits
from coprocessor.functions.registry import AGGREGATES, Aggregate, AggState, Closure, DuckPrinter, Inferred
from coprocessor.types import BIGINT, DOUBLE, JSON, TEXT, UBIGINT, FieldType, Tp, decimal_type

_NULL_NAME = "[3158 22032] JSON documents may not contain NULL member names."
StateFactory = Callable[[], AggState]


# --- types --------------------------------------------------------------------------------------------------------


def _sum_infer(args: Sequence[Expr]) -> Inferred:
    arg = args[0]
    t = numeric_type(arg)
    if t.is_real:
        return (DOUBLE,), DOUBLE
    wanted = t if t.is_integer else as_decimal(arg)
    precision, scale = digits(arg) if t is arg.type else type_digits(wanted)
    return (wanted,), decimal_type(precision + 22, scale)


def _avg_infer(args: Sequence[Expr]) -> Inferred:
    (wanted,), total = _sum_infer(args)
    if total.is_real:
        return (wanted,), total
    scale = min(max(total.decimal, 0) + div_precision_increment(), 30)
    return (wanted,), decimal_type(total.flen - 22 + div_precision_increment(), scale)


def _same(args: Sequence[Expr]) -> Inferred:
    ft = args[0].type
    return (None,), TEXT.with_(collate=ft.collate or TEXT.collate) if ft.tp in (Tp.ENUM, Tp.SET) else ft


def _real(args: Sequence[Expr]) -> Inferred:
    return (DOUBLE,), DOUBLE


def _bits(args: Sequence[Expr]) -> Inferred:
    return (UBIGINT,), UBIGINT


# --- running states -----------------------------------------------------------------------------------------------


class _CountAll:
    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0

    def add(self, row: Sequence[Any], env: Env) -> None:
        self.n += 1

    def result(self) -> int:
        return self.n


class _Fold:
    """A state of one value that non-NULL inputs are folded into; NULL while there was none."""

    __slots__ = ("arg", "step", "value")

    def __init__(self, arg: Closure, step: Callable[[Any, Any], Any], start: Any = None) -> None:
        self.arg, self.step, self.value = arg, step, start

    def add(self, row: Sequence[Any], env: Env) -> None:
        v = self.arg(row, env)
        if v is not None:
            self.value = v if self.value is None else self.step(self.value, v)

    def result(self) -> Any:
        return self.value


class _Collect:
    """A state that keeps the non-NULL values and computes at the end."""

    __slots__ = ("args", "finish", "rows", "seen")

    def __init__(
        self, args: Sequence[Closure], finish: Callable[[list[tuple[Any, ...]]], Any], key: Callable[..., Any] | None
    ) -> None:
        self.args, self.finish = args, finish
        self.rows: list[tuple[Any, ...]] = []
        self.seen: tuple[set[Any], Callable[..., Any]] | None = None if key is None else (set(), key)

    def add(self, row: Sequence[Any], env: Env) -> None:
        values = tuple([a(row, env) for a in self.args])
        if None in values:
            return
        if self.seen is not None:
            seen, key = self.seen
            k = key(values)
            if k in seen:
                return
            seen.add(k)
        self.rows.append(values)

    def result(self) -> Any:
        return self.finish(self.rows)


def _distinct_key(agg: Agg) -> Callable[[tuple[Any, ...]], Any]:
    keys = [sort_key(a.type) for a in agg.args]
    if not any(keys):
        return lambda values: values
    return lambda values: tuple(v if k is None else k(v) for v, k in zip(values, keys, strict=True))


def _collected(finish: Callable[[Agg], Callable[[list[tuple[Any, ...]]], Any]]) -> Callable[..., StateFactory]:
    def state(agg: Agg, args: Sequence[Closure]) -> StateFactory:
        end = finish(agg)
        key = _distinct_key(agg) if agg.distinct else None
        return lambda: _Collect(args, end, key)

    return state


def _count_state(agg: Agg, args: Sequence[Closure]) -> StateFactory:
    if not args:
        return _CountAll
    if agg.distinct or len(args) > 1:
        key = _distinct_key(agg) if agg.distinct else None
        return lambda: _Collect(args, len, key)
    arg = args[0]
    return lambda: _Count(arg)


class _Count:
    __slots__ = ("arg", "n")

    def __init__(self, arg: Closure) -> None:
        self.arg, self.n = arg, 0

    def add(self, row: Sequence[Any], env: Env) -> None:
        if self.arg(row, env) is not None:
            self.n += 1

    def result(self) -> int:
        return self.n


def _total(agg: Agg, values: list[tuple[Any, ...]]) -> Any:
    if not values:
        return None
    if agg.type.is_real:
        return math.fsum(v[0] for v in values)
    total: Any = 0
    for (v,) in values:
        total = total + v if type(v) is int else CTX.add(Decimal(total), v)
    return Decimal(total)


class _Sum:
    __slots__ = ("arg", "finish", "n", "total")

    def __init__(self, arg: Closure, finish: Callable[[Any, int], Any]) -> None:
        self.arg, self.finish = arg, finish
        self.total: Any = None
        self.n = 0

    def add(self, row: Sequence[Any], env: Env) -> None:
        v = self.arg(row, env)
        if v is None:
            return
        self.n += 1
        if self.total is None:
            self.total = v
        elif type(v) is Decimal:
            self.total = CTX.add(self.total, v)
        else:
            self.total += v

    def result(self) -> Any:
        return None if self.n == 0 else self.finish(self.total, self.n)


def _sum_finish(agg: Agg) -> Callable[[Any, int], Any]:
    if agg.type.is_real:
        return lambda total, n: float(total)
    scale = agg.type.decimal
    return lambda total, n: quantize(Decimal(total), scale)


def _avg_finish(agg: Agg) -> Callable[[Any, int], Any]:
    if agg.type.is_real:
        return lambda total, n: total / n
    scale = agg.type.decimal
    return lambda total, n: quantize(CTX.divide(Decimal(total), Decimal(n)), scale)


def _summed(finish: Callable[[Agg], Callable[[Any, int], Any]]) -> Callable[..., StateFactory]:
    def state(agg: Agg, args: Sequence[Closure]) -> StateFactory:
        end = finish(agg)
        if agg.distinct:
            return lambda: _Collect(
                args, lambda rows: end(_total(agg, rows), len(rows)) if rows else None, lambda values: values
            )
        arg = args[0]
        return lambda: _Sum(arg, end)

    return state


def _extreme(pick_larger: bool) -> Callable[..., StateFactory]:
    def state(agg: Agg, args: Sequence[Closure]) -> StateFactory:
        key = sort_key(agg.args[0].type)
        if agg.args[0].type.tp == Tp.JSON:
            from coprocessor.functions.json_value import json_key

            key = json_key
        arg = args[0]
        if key is None:
            step = max if pick_larger else min
        elif pick_larger:

            def step(a: Any, b: Any) -> Any:  # type: ignore[misc]
                return b if key(b) > key(a) else a
        else:

            def step(a: Any, b: Any) -> Any:  # type: ignore[misc]
                return b if key(b) < key(a) else a

        return lambda: _Fold(arg, step)

    return state


def column_form(agg: Agg) -> Callable[[list[Any]], Any] | None:
    """The aggregate as a function of all its argument's values but the NULLs; None where it has to go row by row."""
    if agg.distinct or len(agg.args) != 1:
        return None
    kind = agg.args[0].type
    if agg.func == "count":
        return len
    if agg.func in ("sum", "avg") and kind.is_integer:
        finish = _sum_finish(agg) if agg.func == "sum" else _avg_finish(agg)
        return lambda values: finish(sum(values), len(values)) if values else None
    if agg.func in ("min", "max") and (kind.is_integer or kind.is_decimal or kind.is_temporal):
        pick = min if agg.func == "min" else max
        return lambda values: pick(values, default=None)
    return None


def _bit_state(op: Callable[[int, int], int], start: int) -> Callable[..., StateFactory]:
    return lambda agg, args: lambda: _Fold(args[0], op, start)


def _spread(sample: bool, root: bool) -> Callable[[Agg], Callable[[list[tuple[Any, ...]]], float | None]]:
    def finish(rows: list[tuple[Any, ...]]) -> float | None:
        n = len(rows)
        if n <= int(sample):
            return None
        try:
            mean = math.fsum(r[0] for r in rows) / n
            v = math.fsum((r[0] - mean) ** 2 for r in rows) / (n - int(sample))
        except OverflowError:
            return None
        return math.sqrt(v) if root else v

    return lambda agg: finish


def _any_state(agg: Agg, args: Sequence[Closure]) -> StateFactory:
    return lambda: _Fold(args[0], lambda a, b: a)


class _Concat:
    """GROUP_CONCAT: values and order keys of each row, put together at the end."""

    __slots__ = ("agg", "alike", "args", "env", "keys", "rows", "seen")

    def __init__(self, agg: Agg, args: Sequence[Closure], keys: Sequence[Closure]) -> None:
        self.agg, self.args, self.keys = agg, args, keys
        self.rows: list[tuple[tuple[Any, ...], str]] = []
        self.seen: set[Any] = set()
        folds = agg.distinct and any(a.type.is_text and is_ci(a.type.collate) for a in agg.args)
        self.alike = _distinct_key(agg) if folds else None
        self.env: Env | None = None

    def add(self, row: Sequence[Any], env: Env) -> None:
        self.env = env
        values = tuple([a(row, env) for a in self.args])
        if None in values:
            return
        text = "".join(to_text(v, a.type) for v, a in zip(values, self.agg.args, strict=True))
        if self.agg.distinct:
            alike = self.alike(values) if self.alike is not None else text
            if alike in self.seen:
                return
            self.seen.add(alike)
        self.rows.append((tuple(k(row, env) for k in self.keys), text))

    def result(self) -> str | None:
        if not self.rows:
            return None
        for i in reversed(range(len(self.keys))):
            key = self.agg.order_by[i]
            self.rows.sort(key=functools.partial(_nth_key, i, order_value(key.expr.type)), reverse=key.desc)
        assert self.env is not None
        return cut_concat(self.env, self.agg.separator.join(text for _, text in self.rows))


def _nth_key(i: int, key: Callable[[Any], Any], entry: tuple[tuple[Any, ...], str]) -> Any:
    return key(entry[0][i])


def order_value(ft: FieldType) -> Callable[[Any], tuple[bool, Any]]:
    """Returns the function from a value to what it sorts by, ascending: NULLs first, ENUM by index, text by
    collation.
    """
    if ft.tp == Tp.ENUM:
        index = {e: i for i, e in enumerate(ft.elems)}
        return lambda v: (False, 0) if v is None else (True, index.get(v, -1))
    if ft.tp == Tp.SET:
        bit = {e: 1 << i for i, e in enumerate(ft.elems)}
        return lambda v: (False, 0) if v is None else (True, sum(bit.get(m, 0) for m in v.split(",")))
    key = sort_key(ft)
    if ft.tp == Tp.JSON:
        from coprocessor.functions.json_value import json_key

        key = json_key
    if key is None:
        return lambda v: (False, 0) if v is None else (True, v)
    return lambda v: (False, "") if v is None else (True, key(v))


def _concat_state(agg: Agg, args: Sequence[Closure]) -> StateFactory:
    n = len(agg.args)
    return lambda: _Concat(agg, args[:n], args[n:])


class _JsonArray:
    __slots__ = ("arg", "items", "to_json")

    def __init__(self, arg: Closure, to_json: Callable[[Any], str]) -> None:
        self.arg, self.to_json = arg, to_json
        self.items: list[str] = []

    def add(self, row: Sequence[Any], env: Env) -> None:
        v = self.arg(row, env)
        self.items.append("null" if v is None else self.to_json(v))

    def result(self) -> str | None:
        return "[" + ", ".join(self.items) + "]" if self.items else None


class _JsonObject:
    __slots__ = ("items", "key", "to_json", "value")

    def __init__(self, key: Closure, value: Closure, to_json: Callable[[Any], str]) -> None:
        self.key, self.value, self.to_json = key, value, to_json
        self.items: dict[str, str] = {}

    def add(self, row: Sequence[Any], env: Env) -> None:
        k, v = self.key(row, env), self.value(row, env)
        if k is None:
            raise InvalidArgument("JSON documents may not contain NULL member names.", code=3158, sqlstate="22032")
        self.items[k] = "null" if v is None else self.to_json(v)

    def result(self) -> str | None:
        from coprocessor.functions.json_value import dump_json, parse_json

        if not self.items:
            return None
        return dump_json({k: parse_json(v) for k, v in self.items.items()})


def _json_array_state(agg: Agg, args: Sequence[Closure]) -> StateFactory:
    from coprocessor.functions.json_value import json_text

    to_json = json_text(agg.args[0].type)
    return lambda: _JsonArray(args[0], to_json)


def _json_object_state(agg: Agg, args: Sequence[Closure]) -> StateFactory:
    from coprocessor.functions.json_value import json_text

    to_json = json_text(agg.args[1].type)
    return lambda: _JsonObject(args[0], args[1], to_json)


# --- DuckDB forms -------------------------------------------------------------------------------------------------


def over(p: DuckPrinter, node: Agg | Window) -> str:
    """Returns the OVER clause of a window node, nothing for an aggregate."""
    return p.over(node) if isinstance(node, Window) else ""


def _keyed(p: DuckPrinter, expr: Expr) -> str:
    return p.comparand(expr, expr.type)


def _distinct(node: Agg | Window) -> str:
    return "DISTINCT " if node.distinct else ""


def _never_null(p: DuckPrinter, expr: Expr) -> bool:
    """True for what cannot be NULL: not-null columns and sums, differences and products of them and literals."""
    if isinstance(expr, Column):
        return expr.id in p.not_null
    if isinstance(expr, Const):
        return expr.value is not None
    return (
        isinstance(expr, Call) and expr.func in ("plus", "minus", "mul") and all(_never_null(p, a) for a in expr.args)
    )


def _count_duck(p: DuckPrinter, node: Agg | Window) -> str:
    if not node.args or (len(node.args) == 1 and not node.distinct and _never_null(p, node.args[0])):
        return f"count(*){over(p, node)}"
    if len(node.args) == 1:
        arg = _keyed(p, node.args[0]) if node.distinct else p.value(node.args[0])
        return f"count({_distinct(node)}{arg}){over(p, node)}"
    args = [_keyed(p, a) for a in node.args]
    nulls = " OR ".join(f"{a} IS NULL" for a in args)
    return f"count({_distinct(node)}CASE WHEN {nulls} THEN NULL ELSE row({', '.join(args)}) END){over(p, node)}"


def _sum_duck(p: DuckPrinter, node: Agg | Window) -> str:
    text = f"sum({_distinct(node)}{p.value(node.args[0])}){over(p, node)}"
    if node.type.is_real:
        return text
    if node.args[0].type.is_decimal:
        exact = node.args[0].type.decimal == node.type.decimal
        return text if exact else f"CAST({text} AS {decimal_type_sql(node.type)})"
    return f"CAST({text} AS DECIMAL(38,0))"


def _avg_duck(p: DuckPrinter, node: Agg | Window) -> str:
    arg = p.value(node.args[0])
    if node.type.is_real:
        return f"avg({_distinct(node)}{arg}){over(p, node)}"
    scale = max(node.args[0].type.decimal, 0) if node.args[0].type.is_decimal else 0
    total = f"sum({_distinct(node)}{arg}){over(p, node)}"
    counted = "*" if not node.distinct and _never_null(p, node.args[0]) else f"{_distinct(node)}{arg}"
    count = f"count({counted}){over(p, node)}"
    precision = max(type_digits(node.args[0].type)[0] + 4, 24) if node.args[0].type.is_decimal else 24
    return divide_sql(p.share, total, (min(precision, 38), scale), count, (12, 0), node.type.with_(flen=38))


def _extreme_duck(name: str, arg_name: str) -> Callable[[DuckPrinter, Agg | Window], str]:
    def form(p: DuckPrinter, node: Agg | Window) -> str:
        arg = node.args[0]
        plain, keyed = p.value(arg), p.comparand(arg, arg.type, order=True)
        if plain == keyed:
            return f"{name}({plain}){over(p, node)}"
        return f"{arg_name}({plain}, {keyed}){over(p, node)}"

    return form


def _bits_duck(name: str, start: str) -> Callable[[DuckPrinter, Agg | Window], str]:
    return lambda p, node: f"coalesce({name}({p.value(node.args[0])}){over(p, node)}, CAST({start} AS UBIGINT))"


def _plain_duck(name: str) -> Callable[[DuckPrinter, Agg | Window], str]:
    return lambda p, node: f"{name}({_distinct(node)}{p.value(node.args[0])}){over(p, node)}"


def _no_rollup(node: Agg, closures: Sequence[Closure]) -> Callable[[], AggState]:
    raise Unsupported("WITH ROLLUP where DuckDB cannot compute the query")


def _grouping_duck(p: DuckPrinter, node: Agg | Window) -> str:
    """GROUPING: a bit for each argument that the row is a total over."""
    return f"CAST(grouping({', '.join(p.group_key(a) for a in node.args)}) AS BIGINT)"


def _concat_duck(p: DuckPrinter, node: Agg | Window) -> str:
    """What DuckDB puts together, cut where it is too long."""
    text = p.share(_concat_text(p, node))
    cut = p.udf(Call("cut_group_concat", (Column(0, TEXT),), TEXT), [text])
    return f"CASE WHEN strlen({text}) > {p.value(CONCAT_LIMIT)} THEN {cut} ELSE {text} END"


def _concat_text(p: DuckPrinter, node: Agg | Window) -> str:
    assert isinstance(node, Agg)
    from coprocessor.functions import cast_to

    parts = [p.value(cast_to(a, TEXT)) for a in node.args]
    text = parts[0] if len(parts) == 1 else "(" + " || ".join(parts) + ")"
    separator = p.string(node.separator)
    if node.distinct and any(a.type.is_text and is_ci(a.type.collate) for a in node.args):
        return _concat_alike(p, node, text, separator)
    if not node.order_by:
        return f"string_agg({_distinct(node)}{text}, {separator})"
    keys = ", ".join(p.order_key(k.expr, k.desc) for k in node.order_by)
    if not node.distinct:
        return f"string_agg({text}, {separator} ORDER BY {keys})"
    if len(node.order_by) == 1 and node.order_by[0].expr == node.args[0] and node.args[0].type.is_text:
        return f"string_agg(DISTINCT {text}, {separator} ORDER BY {keys})"
    return _concat_distinct(p, node, text, separator)


def _concat_alike(p: DuckPrinter, node: Agg, text: str, separator: str) -> str:
    """DISTINCT under a collation that ignores case: one text of those that are alike, in the order asked for.

    Only an order by what is distinct, or none, can be said.
    """
    if any(k.expr not in node.args for k in node.order_by) or len({k.desc for k in node.order_by}) > 1:
        raise Unsupported("GROUP_CONCAT(DISTINCT … ORDER BY …) of other values than its own under a _ci collation")
    first = [k.expr for k in node.order_by]
    keys = [p.sort_value(a) for a in (*first, *(a for a in node.args if a not in first))]
    packed = f"struct_pack(k := row({', '.join(keys)}), t := {text})"
    order = "'DESC', 'NULLS LAST'" if node.order_by and node.order_by[0].desc else "'ASC', 'NULLS FIRST'"
    rows = f"list_sort(list({packed}) FILTER ({text} IS NOT NULL), {order})"
    firsts = f"list_filter({rows}, lambda x, i: i = 1 OR x.k <> ({rows})[i - 1].k)"
    return f"array_to_string(list_transform({firsts}, lambda x: x.t), {separator})"


def _concat_distinct(p: DuckPrinter, node: Agg, text: str, separator: str) -> str:
    """DISTINCT with another order: DuckDB only orders distinct values by themselves, so pairs are collected and sorted.

    The first order key of each distinct text counts. One direction for all keys is needed by list_sort.
    """
    if len({k.desc for k in node.order_by}) > 1:
        raise Unsupported("GROUP_CONCAT(DISTINCT … ORDER BY …) with mixed directions")
    keys = ", ".join(f"k{i} := {p.sort_value(k.expr)}" for i, k in enumerate(node.order_by))
    packed = f"list(DISTINCT struct_pack({keys}, t := {text})) FILTER ({text} IS NOT NULL)"
    order = "'DESC', 'NULLS LAST'" if node.order_by[0].desc else "'ASC', 'NULLS FIRST'"
    texts = f"list_transform(list_sort({packed}, {order}), lambda x: x.t)"
    return f"array_to_string({texts}, {separator})"


def _json_array_duck(p: DuckPrinter, node: Agg | Window) -> str:
    arg = p.value(json_argument(node.args[0]))
    return f"('[' || string_agg(coalesce({arg}, 'null'), ', '){over(p, node)} || ']')"


def _json_object_duck(p: DuckPrinter, node: Agg | Window) -> str:
    """Members put together as text; the cast to JSON keeps the last of equal names and orders them."""
    key, value = node.args
    name = p.value(Call("json_quote", (key,), TEXT))
    member = f"{name} || ': ' || coalesce({p.value(json_argument(value))}, 'null')"
    named = f"CASE WHEN {p.value(key)} IS NULL THEN error('{_NULL_NAME}') ELSE {member} END"
    text = f"('{{' || string_agg({named}, ', '){over(p, node)} || '}}')"
    return p.udf(Call("cast", (Column(0, TEXT),), JSON), [text])


def json_argument(expr: Expr) -> Expr:
    """Returns the expression as JSON text."""
    from coprocessor.functions import cast_to
    from coprocessor.functions.json_value import as_json

    return as_json(expr) if expr.type.tp != Tp.JSON else cast_to(expr, JSON)


def _add(name: str, least: int, most: int | None, infer: Any, state: Any, duck: Any, tipb: str | None = None) -> None:
    AGGREGATES[name] = Aggregate(name, least, most, infer, state, duck, tipb)


_add("count", 0, None, lambda args: (tuple(None for _ in args), BIGINT), _count_state, _count_duck, "Count")
_add("sum", 1, 1, _sum_infer, _summed(_sum_finish), _sum_duck, "Sum")
_add("avg", 1, 1, _avg_infer, _summed(_avg_finish), _avg_duck, "Avg")
_add("min", 1, 1, _same, _extreme(False), _extreme_duck("min", "arg_min"), "Min")
_add("max", 1, 1, _same, _extreme(True), _extreme_duck("max", "arg_max"), "Max")
_add("grouping", 1, 64, lambda args: (tuple(None for _ in args), BIGINT), _no_rollup, _grouping_duck)
_add("any_value", 1, 1, _same, _any_state, _plain_duck("any_value"), "First")
_add(
    "bit_and",
    1,
    1,
    _bits,
    _bit_state(lambda a, b: a & b, 2**64 - 1),
    _bits_duck("bit_and", str(2**64 - 1)),
    "Agg_BitAnd",
)
_add("bit_or", 1, 1, _bits, _bit_state(lambda a, b: a | b, 0), _bits_duck("bit_or", "0"), "Agg_BitOr")
_add("bit_xor", 1, 1, _bits, _bit_state(lambda a, b: a ^ b, 0), _bits_duck("bit_xor", "0"), "Agg_BitXor")


def _spread_duck(name: str) -> Callable[[DuckPrinter, Agg | Window], str]:
    """What DuckDB computes; NULL where that is beyond a DOUBLE."""
    plain = _plain_duck(name)

    def duck(p: DuckPrinter, node: Agg | Window) -> str:
        text = plain(p, node)
        return f"CASE WHEN isfinite({text}) THEN {text} END"

    return duck


for _names, _sample, _root, _duck in (
    (("std", "stddev", "stddev_pop"), False, True, "stddev_pop"),
    (("stddev_samp",), True, True, "stddev_samp"),
    (("variance", "var_pop"), False, False, "var_pop"),
    (("var_samp",), True, False, "var_samp"),
):
    for _n in _names:
        _add(_n, 1, 1, _real, _collected(_spread(_sample, _root)), _spread_duck(_duck))
_add(
    "group_concat",
    1,
    None,
    lambda args: (tuple(TEXT if a.type.tp == Tp.BIT else None for a in args), TEXT),
    _concat_state,
    _concat_duck,
    "GroupConcat",
)
_add("json_arrayagg", 1, 1, lambda args: ((None,), JSON), _json_array_state, _json_array_duck, "JsonArrayAgg")
_add("json_objectagg", 2, 2, lambda args: ((TEXT, None), JSON), _json_object_state, _json_object_duck, "JsonObjectAgg")

__all__ = ["order_value", "over"]
