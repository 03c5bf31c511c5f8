"""Control flow: if, ifnull, nullif, coalesce, case, greatest, least, interval."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from coprocessor.env import Env
from coprocessor.errors import InvalidArgument
from coprocessor.expr import Call, Const, Expr
from coprocessor.functions.inference import collate_type, comparable, kind, refine, unify
from coprocessor.functions.operators import compare_key, truth_type
from coprocessor.functions.registry import Closure, DuckPrinter, Function, Inferred, add, fixed
from coprocessor.schema import ColumnSchema
from coprocessor.types import BIGINT, BYTES, DOUBLE, FieldType, Tp
from coprocessor.values import Caster, compile_caster

SUBJECT = "control flow"


_KINDS = ("int", "real", "decimal", "string", "time", "duration")


def _tipb(prefix: str, kinds: Sequence[str] = (*_KINDS, "json")) -> dict[str, str]:
    return {k: f"{prefix}{k.capitalize()}" for k in kinds}


def _unified(args: Sequence[Expr]) -> FieldType:
    ft = unify(a.type for a in args)
    if ft.is_text:
        return ft.with_(collate=collate_type(args).collate or ft.collate)
    return ft


def _if_infer(args: Sequence[Expr]) -> Inferred:
    ft = _unified(args[1:])
    return (truth_type(args[0]), ft, ft), ft


def _if_build(call: Call, args: Sequence[Closure]) -> Closure:
    test, yes, no = args
    return lambda row, env: yes(row, env) if test(row, env) else no(row, env)


def _if_duck(p: DuckPrinter, call: Call) -> str:
    test, yes, no = call.args
    return f"CASE WHEN {p.condition(test)} THEN {p.value(yes)} ELSE {p.value(no)} END"


def _coalesce_infer(args: Sequence[Expr]) -> Inferred:
    ft = _unified(args)
    return tuple(ft for _ in args), ft


def _coalesce_build(call: Call, args: Sequence[Closure]) -> Closure:
    def coalesce(row: Sequence[Any], env: Env) -> Any:
        for arg in args:
            v = arg(row, env)
            if v is not None:
                return v
        return None

    return coalesce


def _nullif_infer(args: Sequence[Expr]) -> Inferred:
    ft = args[0].type
    return (None, None), ft


def _nullif_rewrite(args: Sequence[Expr]) -> Expr:
    """NULLIF(a, b) is CASE WHEN a = b THEN NULL ELSE a END, with the comparison's own casts."""
    from coprocessor.functions.registry import FUNCTIONS

    equal = FUNCTIONS["eq"].refine
    assert equal is not None
    a = args[0]
    return Call("case", (equal(args), Const(None, a.type), a), a.type)


def _case_infer(args: Sequence[Expr]) -> Inferred:
    values = [a for i, a in enumerate(args) if i % 2 or i == len(args) - 1]
    ft = _unified(values)
    last = len(args) - 1
    types = tuple(truth_type(a) if i % 2 == 0 and i != last else ft for i, a in enumerate(args))
    return types, ft


def _case_build(call: Call, args: Sequence[Closure]) -> Closure:
    pairs = [(args[i], args[i + 1]) for i in range(0, len(args) - 1, 2)]
    default = args[-1] if len(args) % 2 else None

    def case(row: Sequence[Any], env: Env) -> Any:
        for test, value in pairs:
            if test(row, env):
                return value(row, env)
        return None if default is None else default(row, env)

    return case


def _case_duck(p: DuckPrinter, call: Call) -> str:
    args = call.args
    whens = "".join(f" WHEN {p.condition(args[i])} THEN {p.value(args[i + 1])}" for i in range(0, len(args) - 1, 2))
    otherwise = f" ELSE {p.value(args[-1])}" if len(args) % 2 else ""
    return f"CASE{whens}{otherwise} END"


add(Function("if", 3, 3, _if_infer, SUBJECT, build=_if_build, duck=_if_duck, tipb=_tipb("If")))
add(Function("ifnull", 2, 2, _coalesce_infer, SUBJECT, build=_coalesce_build, duck="coalesce({args})",
             tipb=_tipb("IfNull")), "nvl")  # fmt: skip
add(Function("coalesce", 1, None, _coalesce_infer, SUBJECT, build=_coalesce_build, duck="coalesce({args})",
             tipb=_tipb("Coalesce")))  # fmt: skip
add(Function("nullif", 2, 2, _nullif_infer, SUBJECT, rewrite=_nullif_rewrite))
add(Function("case", 2, None, _case_infer, SUBJECT, build=_case_build, duck=_case_duck, tipb=_tipb("CaseWhen"),
             syntax="CASE WHEN a THEN b … [ELSE c] END"))  # fmt: skip


def _extreme_refine(name: str) -> Callable[[Sequence[Expr]], Expr]:
    """Literals that are dates become such beside dates: LEAST(a date, '2026-01-01') is a date, not midnight."""

    def refined(args: Sequence[Expr]) -> Expr:
        from coprocessor.functions.casting import cast_to

        temporal = next((a.type for a in args if kind(a.type) in ("time", "duration")), None)
        if temporal is not None:
            args = [(refine(a, temporal) or a) if isinstance(a, Const) else a for a in args]
        types, result = _extreme_infer(args)
        return Call(name, tuple(a if t is None else cast_to(a, t) for a, t in zip(args, types, strict=True)), result)

    return refined


def _extreme_infer(args: Sequence[Expr]) -> Inferred:
    """GREATEST and LEAST: one common type; strings among numbers make it a string, among dates a date."""
    ft = unify(a.type for a in args)
    kinds = {kind(a.type) for a in args} - {"null"}
    if "string" in kinds and len(kinds) > 1:
        common = args[0].type
        for arg in args[1:]:
            common = comparable(common, arg.type)
        if common.is_temporal:
            ft = common
    if ft.is_string:
        ft = collate_type(args)
    if ft.is_integer and ft.tp != Tp.LONGLONG:
        ft = BIGINT.with_(unsigned=ft.unsigned)
    return tuple(ft for _ in args), ft


def _extreme(pick: Callable[..., Any]) -> Callable[[Call], Callable[..., Any]]:
    def make(call: Call) -> Callable[..., Any]:
        key = compare_key(call.args)
        return lambda *values: pick(values, key=key)

    return make


def _extreme_duck(name: str) -> Callable[[DuckPrinter, Call], str | None]:
    def form(p: DuckPrinter, call: Call) -> str | None:
        if call.type.tp == Tp.JSON or (compare_key(call.args) is not None and not _plain_bin(call.args)):
            return None
        args = [p.value(a) for a in call.args]
        nulls = " OR ".join(f"{a} IS NULL" for a in args)
        return f"CASE WHEN {nulls} THEN NULL ELSE {name}({', '.join(args)}) END"

    return form


def _plain_bin(args: Sequence[Expr]) -> bool:
    ft = collate_type(args)
    return ft == BYTES


for _name, _pick in (("greatest", max), ("least", min)):
    add(
        Function(
            _name, 2, None, _extreme_infer, SUBJECT, refine=_extreme_refine(_name),
            kernel=_extreme(_pick), duck=_extreme_duck(_name), tipb=_tipb(_name.capitalize(), _KINDS),
        )
    )  # fmt: skip


def _interval_infer(args: Sequence[Expr]) -> Inferred:
    exact = all(kind(a.type) in ("int", "null") for a in args)
    return tuple(BIGINT if exact else DOUBLE for _ in args), BIGINT


def _interval(*values: Any) -> int:
    if values[0] is None:
        return -1
    bounds = [float("-inf") if v is None else v for v in values[1:]]
    return bisect_right(bounds, values[0])


add(Function("interval", 2, None, _interval_infer, SUBJECT, py=_interval, nulls=True,
             tipb={"int": "IntervalInt", "real": "IntervalReal"}, syntax="INTERVAL(n, a, b, …)"))  # fmt: skip


# --- recursion ----------------------------------------------------------------------------------------------------


def _recursion_goes_on(env: Env, cte: int, wanted: int | None, rows: int) -> int:
    """Asked before every iteration of a recursive query, with the rows of the last one: 0 once there are enough."""
    iterations, total = env.recursions.get(cte, (0, 0))
    iterations, total = iterations + 1, total + rows
    env.recursions[cte] = iterations, total
    if wanted is not None and total >= wanted:
        return 0
    if iterations > env.recursion_depth_max:
        raise InvalidArgument(
            f"Recursive query aborted after {iterations} iterations. "
            "Try increasing @@cte_max_recursion_depth to a larger value.",
            code=3636,
        )
    return 1


def _recursive_value_kernel(call: Call) -> Callable[[Env, Any, str], Any]:
    """What a recursive member gives for a column of the first one, converted as it would be to store it."""
    name = call.args[1]
    assert isinstance(name, Const), name
    column = ColumnSchema(0, str(name.value), call.type)
    strict = compile_caster(column)
    lenient: tuple[Env, Caster] | None = None  # of the execution that asked last

    def convert(env: Env, value: Any, name: str) -> Any:
        nonlocal lenient
        if env.strict:
            return strict(value, 1)
        found = lenient
        if found is None or found[0] is not env:
            found = lenient = env, compile_caster(column, strict=False, warn=env.warn, tz=env.tz)
        return found[1](value, 1)

    return convert


add(Function("recursive_value", 2, 2, lambda args: ((None, None), args[0].type), SUBJECT, env=True,
             kernel=_recursive_value_kernel, deterministic=False,
             syntax="text for another type in WITH RECURSIVE"))  # fmt: skip
add(Function("recursion_goes_on", 3, 3, fixed([BIGINT], BIGINT), SUBJECT, py=_recursion_goes_on, env=True, nulls=True,
             deterministic=False, syntax="WITH RECURSIVE"))  # fmt: skip
