"""Operators: arithmetic, bits, comparison, pattern match, tests and logic."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Any

from coprocessor.convert import CTX, WIDE, quantize
from coprocessor.division import div_precision_increment
from coprocessor.env import Env
from coprocessor.errors import DivisionByZero, OutOfRange
from coprocessor.expr import Call, Const, Expr, Param
from coprocessor.functions.casting import cast_to
from coprocessor.functions.collation import sort_key
from coprocessor.functions.decimal_sql import decimal_type_sql, divide_sql, unscaled_sql
from coprocessor.functions.inference import (
    as_decimal,
    collate_type,
    comparable,
    kind,
    numeric_type,
    refine,
    type_digits,
)
from coprocessor.functions.quotients import WORD_DIGITS, compared, quotient_scale
from coprocessor.functions.registry import Closure, Duck, DuckPrinter, Function, Infer, Inferred, Kernel, add
from coprocessor.functions.telling import tells
from coprocessor.types import BIGINT, BOOL, DATETIME, DOUBLE, JSON, UBIGINT, FieldType, Tp, decimal_type

SUBJECT = "operators"
_SYMBOL = {"plus": "+", "minus": "-", "mul": "*", "intdiv": "DIV", "mod": "%"}
PRODUCT_SCALE_MAX = 24  # leaves a product 14 of DuckDB's 38 digits before the point
I64_MIN, I64_MAX, U64_MAX = -(2**63), 2**63 - 1, 2**64 - 1


# --- arithmetic ---------------------------------------------------------------------------------------------------


def _arith_infer(name: str) -> Infer:
    def infer(args: Sequence[Expr]) -> Inferred:
        types = [numeric_type(a) for a in args]
        if all(t.is_integer for t in types):
            unsigned = types[0].unsigned if name == "mod" else any(t.unsigned for t in types)
            return tuple(t if t.is_integer else BIGINT for t in types), UBIGINT if unsigned else BIGINT
        if any(t.is_real for t in types):
            return (DOUBLE, DOUBLE), DOUBLE
        wanted = tuple(as_decimal(a) for a in args)
        return wanted, _decimal_result(name, wanted[0], wanted[1])

    return infer


def _decimal_result(name: str, a: FieldType, b: FieldType) -> FieldType:
    (p1, s1), (p2, s2) = type_digits(a), type_digits(b)
    if name == "mul":
        return decimal_type(p1 + p2, s1 + s2)
    scale = max(s1, s2)
    if name == "mod":
        return decimal_type(max(p1, p2), scale)
    return decimal_type(max(p1 - s1, p2 - s2) + 1 + scale, scale)


def _out_of_range(symbol: str, unsigned: bool, a: object, b: object) -> OutOfRange:
    name = "BIGINT UNSIGNED" if unsigned else "BIGINT"
    return OutOfRange(f"{name} value is out of range in '({a} {symbol} {b})'", code=1690)


def _arith_kernel(name: str, op: Callable[[Any, Any], Any]) -> Callable[[Call], Kernel]:
    symbol = _SYMBOL[name]

    def make(call: Call) -> Kernel:
        if call.type.is_integer:
            low, high = (0, U64_MAX) if call.type.unsigned else (I64_MIN, I64_MAX)

            def integers(a: int, b: int) -> int:
                r: int = op(a, b)
                if low <= r <= high:
                    return r
                raise _out_of_range(symbol, low == 0, a, b)

            return integers
        if call.type.is_real:

            def reals(a: float, b: float) -> float:
                r: float = op(a, b)
                if r - r == 0:
                    return r
                raise OutOfRange(f"DOUBLE value is out of range in '({a} {symbol} {b})'", code=1690)

            return reals
        return _decimal_kernel(name, call)

    return make


def _natural_scale(name: str, call: Call) -> int:
    """The digits after the point that the exact result has."""
    scales = [max(a.type.decimal, 0) for a in call.args]
    return sum(scales) if name == "mul" else max(scales)


def _decimal_kernel(name: str, call: Call) -> Kernel:
    scale = call.type.decimal
    exact = {"plus": CTX.add, "minus": CTX.subtract, "mul": CTX.multiply}[name]
    capped = _natural_scale(name, call) > scale
    zero = quantize(Decimal(0), scale)
    (p1, s1), (p2, s2) = (type_digits(a.type) for a in call.args)
    if not capped and name == "mul" and p1 + p2 <= 65:
        return lambda a, b: exact(a, b) or zero  # never a negative zero
    if not capped and name != "mul" and max(p1 - s1, p2 - s2) + 1 + scale <= 65:
        return exact
    limit = Decimal(10) ** (65 - scale)

    def decimals(a: Decimal, b: Decimal) -> Decimal:
        r = exact(a, b)
        if capped:
            r = quantize(r, scale)
        if -limit < r < limit:
            return r or zero
        raise OutOfRange(f"DECIMAL value is out of range in '({a} {_SYMBOL[name]} {b})'", code=1690)

    return decimals


def _arith_duck(name: str) -> Callable[[DuckPrinter, Call], str]:
    op = _SYMBOL[name]

    def form(p: DuckPrinter, call: Call) -> str:
        a, b = call.args
        if call.type.is_integer:
            if call.type.unsigned:
                return f"CAST(CAST({p.value(a)} AS HUGEINT) {op} CAST({p.value(b)} AS HUGEINT) AS UBIGINT)"
            if a.type.unsigned or b.type.unsigned:
                return f"CAST(CAST({p.value(a)} AS HUGEINT) {op} CAST({p.value(b)} AS HUGEINT) AS BIGINT)"
            return f"({p.operand(a)} {op} {p.operand(b)})"
        return _decimal_duck(p, call, name) if call.type.is_decimal else _real_duck(p, call)

    return form


def _real_duck(p: DuckPrinter, call: Call) -> str:
    """DuckDB computes on with infinities, MySQL refuses them: one look at the outcome of a chain of operations."""
    if p.telling and any(map(tells, call.args)):
        return p.udf(call)
    text = _real_chain(p, call)
    return f"CASE WHEN isfinite({text}) IS NOT FALSE THEN {text} ELSE error('{_REAL_OVERFLOW}') END"


_REAL_OVERFLOW = "[1690 22003] DOUBLE value is out of range"


def _real_chain(p: DuckPrinter, expr: Expr) -> str:
    if isinstance(expr, Call) and expr.func in ("plus", "minus", "mul", "div") and expr.type.is_real:
        a, b = (_real_chain(p, x) for x in expr.args)
        return f"({a} / nullif({b}, 0))" if expr.func == "div" else f"({a} {_SYMBOL[expr.func]} {b})"
    return p.operand(expr)


def _decimal_duck(p: DuckPrinter, call: Call, name: str) -> str:
    a, b = call.args
    op, natural = _SYMBOL[name], _natural_scale(name, call)
    hidden = natural > call.type.decimal
    if hidden and (p.wide or natural > PRODUCT_SCALE_MAX):
        return p.udf(call)
    if p.wide and type_digits(call.type)[0] > 18:
        left = f"CAST({p.value(a)} AS DECIMAL(38,{max(a.type.decimal, 0)}))"
        text = f"({left} {op} {p.operand(b)})"
    else:
        text = f"({p.operand(a)} {op} {p.operand(b)})"
    return f"CAST({text} AS {decimal_type_sql(call.type)})" if hidden else text


def _div_infer(args: Sequence[Expr]) -> Inferred:
    types = [numeric_type(a) for a in args]
    if any(t.is_real for t in types):
        return (DOUBLE, DOUBLE), DOUBLE
    a, b = (as_decimal(x) for x in args)
    (p1, s1), (_, s2) = type_digits(a), type_digits(b)
    scale = min(s1 + div_precision_increment(), 30)
    wanted = tuple(t if t.is_integer else d for t, d in zip(types, (a, b), strict=True))
    return wanted, decimal_type(max(p1 - s1 + s2, 1) + scale, scale)


def division_by_zero(env: Env) -> None:
    """NULL with warning 1365; an error while writing in strict mode."""
    if env.error_for_division_by_zero:
        if env.writing and env.strict:
            raise DivisionByZero("Division by 0")
        env.warn(1365, "Division by 0")


def _div_kernel(call: Call) -> Kernel:
    if call.type.is_real:

        def reals(env: Env, a: float, b: float) -> float | None:
            if b == 0:
                division_by_zero(env)
                return None
            r = a / b
            if r - r == 0:
                return r
            raise OutOfRange(f"DOUBLE value is out of range in '({a} / {b})'", code=1690)

        return reals
    scale = call.type.decimal
    rounding = ROUND_DOWN if _cut_off(call) else ROUND_HALF_UP
    unit, zero = Decimal(1).scaleb(-scale), Decimal(0).scaleb(-scale)

    def decimals(env: Env, a: Decimal | int, b: Decimal | int) -> Decimal | None:
        if b == 0:
            division_by_zero(env)
            return None
        return CTX.divide(Decimal(a), Decimal(b)).quantize(unit, rounding, CTX) or zero

    return decimals


def _cut_off(call: Call) -> bool:
    """True where the type has all the digits that MySQL computes, whole words: they are the quotient's first ones."""
    digits = call.type.decimal
    return digits % WORD_DIGITS == 0 and digits >= quotient_scale(*(max(a.type.decimal, 0) for a in call.args))


def _div_duck(p: DuckPrinter, call: Call) -> str:
    a, b = call.args
    if call.type.is_real:
        return _told_of_zero(p, call, _real_duck(p, call))
    digits = type_digits(a.type), type_digits(b.type)
    text = divide_sql(p.share, p.value(a), digits[0], p.value(b), digits[1], call.type, cut_off=_cut_off(call))
    return _told_of_zero(p, call, text)


def _told_of_zero(p: DuckPrinter, call: Call, text: str) -> str:
    return p.told(call, f"{p.value(call.args[1])} = 0", text) if p.telling else text


def _intdiv_infer(args: Sequence[Expr]) -> Inferred:
    types = tuple(numeric_type(a) for a in args)
    unsigned = any(t.unsigned for t in types)
    return types, UBIGINT if unsigned else BIGINT


def _exact(v: object) -> int | Decimal:
    return Decimal(repr(v)) if isinstance(v, float) else v  # type: ignore[return-value]


def _intdiv_kernel(call: Call) -> Kernel:
    low, high = (0, U64_MAX) if call.type.unsigned else (I64_MIN, I64_MAX)

    def divide(env: Env, a: Any, b: Any) -> int | None:
        if b == 0:
            division_by_zero(env)
            return None
        x, y = _exact(a), _exact(b)
        if type(x) is int and type(y) is int:
            r = abs(x) // abs(y)
            r = -r if (x < 0) != (y < 0) else r
        else:
            r = int(WIDE.divide_int(Decimal(x), Decimal(y)))
        if low <= r <= high:
            return r
        raise _out_of_range("DIV", low == 0, a, b)

    return divide


def _intdiv_duck(p: DuckPrinter, call: Call) -> str:
    if any(a.type.is_real for a in call.args):
        return p.udf(call)
    return _told_of_zero(p, call, _intdiv_native(p, call))


def _intdiv_native(p: DuckPrinter, call: Call) -> str:
    a, b = call.args
    out = "UBIGINT" if call.type.unsigned else "BIGINT"
    if a.type.is_integer and b.type.is_integer:
        if not (a.type.unsigned or b.type.unsigned):
            return f"({p.operand(a)} // nullif({p.operand(b)}, 0))"
        return f"CAST(CAST({p.value(a)} AS HUGEINT) // nullif(CAST({p.value(b)} AS HUGEINT), 0) AS {out})"
    s = max(type_digits(a.type)[1], type_digits(b.type)[1])
    n, d = (unscaled_sql(p.value(x), s, type_digits(x.type)) for x in (a, b))
    return f"CAST({n} // nullif({d}, 0) AS {out})"


def _mod_kernel(call: Call) -> Kernel:
    def mod(env: Env, a: Any, b: Any) -> Any:
        if b == 0:
            division_by_zero(env)
            return None
        if type(a) is int and type(b) is int:
            r = abs(a) % abs(b)
            return -r if a < 0 else r
        if isinstance(a, float):
            import math

            return math.fmod(a, b)
        return quantize(CTX.remainder(a, b), call.type.decimal)

    return mod


def _mod_duck(p: DuckPrinter, call: Call) -> str:
    return _told_of_zero(p, call, _mod_native(p, call))


def _mod_native(p: DuckPrinter, call: Call) -> str:
    a, b = call.args
    if call.type.is_integer and (a.type.unsigned or b.type.unsigned):
        out = "UBIGINT" if call.type.unsigned else "BIGINT"
        return f"CAST(CAST({p.value(a)} AS HUGEINT) % nullif(CAST({p.value(b)} AS HUGEINT), 0) AS {out})"
    if call.type.is_decimal:
        s = _natural_scale("mod", call)
        n, d = (unscaled_sql(p.value(x), s, type_digits(x.type)) for x in (a, b))
        text = f"(CAST({n} % nullif({d}, 0) AS DECIMAL(38,0)) * {Decimal(1).scaleb(-s):f})"
        return text if s == call.type.decimal else f"CAST({text} AS {decimal_type_sql(call.type)})"
    return f"({p.operand(a)} % nullif({p.operand(b)}, 0))"


def _neg_infer(args: Sequence[Expr]) -> Inferred:
    t = numeric_type(args[0])
    return (t,), BIGINT if t.is_integer else t.with_(unsigned=False) if t.is_decimal else DOUBLE


def _neg(v: Any) -> Any:
    if type(v) is int and not I64_MIN < v <= 2**63:
        raise OutOfRange(f"BIGINT value is out of range in '-({v})'", code=1690)
    return -v if not isinstance(v, Decimal) else CTX.minus(v)


def _neg_duck(p: DuckPrinter, call: Call) -> str:
    arg = call.args[0]
    if arg.type.is_integer and arg.type.unsigned:
        return f"CAST(-CAST({p.value(arg)} AS HUGEINT) AS BIGINT)"
    return f"(-{p.operand(arg)})"


for _name, _op in (("plus", operator.add), ("minus", operator.sub), ("mul", operator.mul)):
    _tipb = {"plus": "Plus", "minus": "Minus", "mul": "Multiply"}[_name]
    add(
        Function(
            _name, 2, 2, _arith_infer(_name), SUBJECT,
            kernel=_arith_kernel(_name, _op), duck=_arith_duck(_name),
            precise=True, tipb={"int": f"{_tipb}Int", "real": f"{_tipb}Real", "decimal": f"{_tipb}Decimal"},
            syntax=f"a {_SYMBOL[_name]} b",
        )
    )  # fmt: skip
add(Function("div", 2, 2, _div_infer, SUBJECT, precise=True, kernel=_div_kernel, env=True, duck=_div_duck,
             tipb={"real": "DivideReal", "decimal": "DivideDecimal"}, syntax="a / b"))  # fmt: skip
add(Function("intdiv", 2, 2, _intdiv_infer, SUBJECT, precise=True, kernel=_intdiv_kernel, env=True, duck=_intdiv_duck,
             tipb={"int": "IntDivideInt", "decimal": "IntDivideDecimal"}, syntax="a DIV b"))  # fmt: skip
add(
    Function(
        "mod",
        2,
        2,
        _arith_infer("mod"),
        SUBJECT,
        precise=True,
        kernel=_mod_kernel,
        env=True,
        duck=_mod_duck,
        tipb={"int": "ModIntSignedSigned", "real": "ModReal", "decimal": "ModDecimal"},
        syntax="a % b",
    )
)
add(
    Function(
        "unaryminus",
        1,
        1,
        _neg_infer,
        SUBJECT,
        py=_neg,
        duck=_neg_duck,
        tipb={"int": "UnaryMinusInt", "real": "UnaryMinusReal", "decimal": "UnaryMinusDecimal"},
        syntax="-a",
    )
)


# --- bits ---------------------------------------------------------------------------------------------------------


def _bits_infer(args: Sequence[Expr]) -> Inferred:
    return tuple(UBIGINT for _ in args), UBIGINT


def _bits_refine(name: str) -> Callable[[Sequence[Expr]], Expr]:
    """What is no integer is made a signed one first: the bits of -1.5 are those of -2."""

    def refine(args: Sequence[Expr]) -> Expr:
        from coprocessor.functions.casting import cast_to

        whole = (a if kind(a.type) in ("int", "null") or a.type.is_binary else cast_to(a, BIGINT) for a in args)
        return Call(name, tuple(cast_to(a, UBIGINT) for a in whole), UBIGINT)

    return refine


def _shift_duck(op: str) -> Callable[[DuckPrinter, Call], str]:
    def form(p: DuckPrinter, call: Call) -> str:
        a, b = p.value(call.args[0]), p.value(call.args[1])
        if op == ">>":
            return f"CASE WHEN {b} > 63 THEN {a} & CAST(0 AS UBIGINT) ELSE {a} >> {b} END"
        wide = f"((CAST({a} AS HUGEINT) % (CAST(1 AS HUGEINT) << (64 - CAST({b} AS HUGEINT)))) << CAST({b} AS HUGEINT))"
        return f"CASE WHEN {b} > 63 THEN {a} & CAST(0 AS UBIGINT) ELSE CAST({wide} AS UBIGINT) END"

    return form


def _lshift(a: int, b: int) -> int:
    return (a << b) & U64_MAX if b < 64 else 0


def _rshift(a: int, b: int) -> int:
    return a >> b if b < 64 else 0


def _add_bits(name: str, syntax: str, py: Kernel, duck: Duck, tipb: str) -> None:
    operands = 1 if name == "bitneg" else 2
    add(Function(name, operands, operands, _bits_infer, SUBJECT, refine=_bits_refine(name), py=py, duck=duck, tipb=tipb,
                 syntax=syntax))  # fmt: skip


_add_bits("bitand", "a & b", operator.and_, "({0} & {1})", "BitAndSig")
_add_bits("bitor", "a | b", operator.or_, "({0} | {1})", "BitOrSig")
_add_bits("bitxor", "a ^ b", operator.xor, "xor({0}, {1})", "BitXorSig")
_add_bits("bitneg", "~a", lambda a: a ^ U64_MAX, "(~{0})", "BitNegSig")
_add_bits("lshift", "a << b", _lshift, _shift_duck("<<"), "LeftShift")
_add_bits("rshift", "a >> b", _rshift, _shift_duck(">>"), "RightShift")


# --- comparison ---------------------------------------------------------------------------------------------------


def comparison_types(args: Sequence[Expr]) -> tuple[FieldType | None, ...]:
    """Returns what the first argument and each other one are compared as; None leaves exact numbers as they are."""
    kinds = {kind(a.type) for a in args} - {"null"}
    if kinds <= {"int", "decimal"}:
        return tuple(None for _ in args)
    if kinds == {"string"}:
        ft = collate_type(args)
        return tuple(ft if a.type.is_binary or ft.is_binary or kind(a.type) == "null" else None for a in args)
    common = args[0].type
    for arg in args[1:]:
        common = comparable(common, arg.type)
    return tuple(common for _ in args)


_TIME_OF_TEXT = DATETIME.with_(decimal=6, flen=26)


def _refined(args: Sequence[Expr]) -> list[Expr]:
    """Brings literals to the type of the one kind of non-literals that they are compared with; among times text that a
    parameter gives is one, as text of a literal would be."""
    given: list[Expr] = [a for a in args if not isinstance(a, Const | Param)]
    if {kind(a.type) for a in given} == {"time"}:
        args = [cast_to(a, _TIME_OF_TEXT) if isinstance(a, Param) and a.type.is_text else a for a in args]
    firm = [a for a in args if not isinstance(a, Const)]
    if len({kind(a.type) for a in firm}) != 1:
        return list(args)
    other = firm[0].type
    return [(refine(a, other) or a) if isinstance(a, Const) else a for a in args]


def _compare_rewrite(name: str) -> Callable[[Sequence[Expr]], Expr]:
    def rewrite(args: Sequence[Expr]) -> Expr:
        from coprocessor.functions.casting import cast_to

        refined = [compared(a) for a in _refined(args)]
        types = comparison_types(refined)
        if any(t is not None and t.tp == Tp.JSON for t in types):
            typed = tuple(_json_comparand(a) for a in refined)
        else:
            typed = tuple(a if t is None else cast_to(a, t) for a, t in zip(refined, types, strict=True))
        return Call(name, typed, BOOL)

    return rewrite


def _json_comparand(arg: Expr) -> Expr:
    """A value compared with JSON is a JSON scalar of its kind; a string is not parsed."""
    return arg if arg.type.tp in (Tp.JSON, Tp.NULL) else Call("json_of", (arg,), JSON)


def compare_key(args: Sequence[Expr]) -> Callable[[Any], Any] | None:
    """Returns the key that string arguments compare by, if their collation needs one."""
    if any(a.type.tp == Tp.JSON for a in args):
        from coprocessor.functions.json_value import json_key

        return json_key
    if all(kind(a.type) == "string" for a in args):
        return sort_key(collate_type(args))
    return None


def _compare_kernel(op: Callable[[Any, Any], bool]) -> Callable[[Call], Kernel]:
    def make(call: Call) -> Kernel:
        key = compare_key(call.args)
        if key is None:
            return lambda a, b: 1 if op(a, b) else 0
        return lambda a, b: 1 if op(key(a), key(b)) else 0

    return make


def _compare_duck(op: str) -> Callable[[DuckPrinter, Call], str | None]:
    def form(p: DuckPrinter, call: Call) -> str | None:
        if any(a.type.tp == Tp.JSON for a in call.args):
            return None
        a, b = (p.comparand(x, collate_type(call.args), order=op[0] in "<>" and op != "<>") for x in call.args)
        return f"({a} {op} {b})"

    return form


def _nulleq_kernel(call: Call) -> Kernel:
    key = compare_key(call.args)

    def nulleq(a: Any, b: Any) -> int:
        if a is None or b is None:
            return 1 if a is b else 0
        return 1 if (a == b if key is None else key(a) == key(b)) else 0

    return nulleq


_COMPARE = (
    ("eq", operator.eq, "=", "EQ"), ("ne", operator.ne, "<>", "NE"), ("lt", operator.lt, "<", "LT"),
    ("le", operator.le, "<=", "LE"), ("gt", operator.gt, ">", "GT"), ("ge", operator.ge, ">=", "GE"),
)  # fmt: skip
_EVAL = ("int", "real", "decimal", "string", "time", "duration", "json")


def _by_kind(prefix: str) -> dict[str, str]:
    return {k: f"{prefix}{k.capitalize()}" for k in _EVAL}


def _compare_infer(args: Sequence[Expr]) -> Inferred:
    return comparison_types(args), BOOL


for _name, _op, _sql, _tipb in _COMPARE:
    add(
        Function(
            _name,
            2,
            2,
            _compare_infer,
            SUBJECT,
            kernel=_compare_kernel(_op),
            duck=_compare_duck(_sql),
            duck_bool=True,
            tipb=_by_kind(_tipb),
            refine=_compare_rewrite(_name),
            syntax=f"a {_sql} b",
        )
    )
add(Function("nulleq", 2, 2, _compare_infer, SUBJECT, kernel=_nulleq_kernel, nulls=True,
             duck=_compare_duck("IS NOT DISTINCT FROM"), duck_bool=True, tipb=_by_kind("NullEQ"),
             refine=_compare_rewrite("nulleq"), syntax="a <=> b"))  # fmt: skip


def _between_build(call: Call, args: Sequence[Closure]) -> Closure:
    x, low, high = args
    key = compare_key(call.args) or (lambda v: v)

    def between(row: Sequence[Any], env: Env) -> int | None:
        v = x(row, env)
        if v is None:
            return None
        v = key(v)
        a = low(row, env)
        if a is not None and v < key(a):
            return 0
        b = high(row, env)
        if b is not None and v > key(b):
            return 0
        return None if a is None or b is None else 1

    return between


def _between_duck(p: DuckPrinter, call: Call) -> str | None:
    if any(a.type.tp == Tp.JSON for a in call.args):
        return None
    x, a, b = (p.comparand(e, collate_type(call.args), order=True) for e in call.args)
    return f"({x} BETWEEN {a} AND {b})"


def _between_refine(args: Sequence[Expr]) -> Expr:
    """BETWEEN of a string with a number among the bounds compares all as DOUBLE; else bounds of different kinds are
    compared each on its own, as AND.
    """
    refined = _refined(args)
    kinds = [kind(a.type) for a in refined if kind(a.type) != "null"]
    exact = all(k in ("int", "decimal") for k in kinds)
    if exact or len(set(kinds)) <= 1 or "time" in kinds or "duration" in kinds:
        return _compare_rewrite("between")(refined)
    x, low, high = refined
    if kind(x.type) == "string" and set(kinds) <= {"string", "int", "decimal", "real"}:
        return Call("between", tuple(cast_to(a, DOUBLE) for a in refined), BOOL)
    return Call("and", (_compare_rewrite("ge")((x, low)), _compare_rewrite("le")((x, high))), BOOL)


add(Function("between", 3, 3, _compare_infer, SUBJECT, build=_between_build, duck=_between_duck, duck_bool=True,
             refine=_between_refine, syntax="x BETWEEN a AND b"))  # fmt: skip


def _in_build(call: Call, args: Sequence[Closure]) -> Closure:
    x, rest = args[0], args[1:]
    key = compare_key(call.args) or (lambda v: v)
    if all(isinstance(a, Const) for a in call.args[1:]):
        values = [a.value for a in call.args[1:] if isinstance(a, Const)]
        members = frozenset(key(v) for v in values if v is not None)
        missing = None if any(v is None for v in values) else 0

        def in_constants(row: Sequence[Any], env: Env) -> int | None:
            v = x(row, env)
            return None if v is None else 1 if key(v) in members else missing

        return in_constants

    def in_list(row: Sequence[Any], env: Env) -> int | None:
        v = x(row, env)
        if v is None:
            return None
        v = key(v)
        result: int | None = 0
        for item in rest:
            w = item(row, env)
            if w is None:
                result = None
            elif key(w) == v:
                return 1
        return result

    return in_list


def _in_duck(p: DuckPrinter, call: Call) -> str | None:
    if any(a.type.tp == Tp.JSON for a in call.args):
        return None
    ft = collate_type(call.args)
    x, *rest = (p.comparand(e, ft) for e in call.args)
    return f"({x} IN ({', '.join(rest)}))"


def _in_refine(args: Sequence[Expr]) -> Expr:
    """IN compares with each member by the rules of =; members that need another type than the first's become ORs."""
    refined = _refined(args)
    types = comparison_types(refined)
    x = refined[0]
    alike = all(comparison_types((x, m))[0] == types[0] or kind(m.type) == "null" for m in refined[1:])
    if alike:
        return _compare_rewrite("in")(refined)
    tests: list[Expr] = [_compare_rewrite("eq")((x, m)) for m in refined[1:]]
    return tests[0] if len(tests) == 1 else Call("or", tuple(tests), BOOL)


add(Function("in", 2, None, _compare_infer, SUBJECT, build=_in_build, duck=_in_duck, duck_bool=True,
             tipb=_by_kind("In"), refine=_in_refine, syntax="x IN (a, …)"))  # fmt: skip


# --- tests and logic ----------------------------------------------------------------------------------------------


def truth_type(expr: Expr) -> FieldType | None:
    """Returns the numeric type in which the truth of an expression is decided; None when it is a number already."""
    match kind(expr.type):
        case "int" | "real" | "decimal":
            return None
        case "null":
            return BIGINT
        case _:
            t = numeric_type(expr)
            return t if not t.is_real else DOUBLE


def _logic_infer(args: Sequence[Expr]) -> Inferred:
    return tuple(truth_type(a) for a in args), BOOL


def _and_build(call: Call, args: Sequence[Closure]) -> Closure:
    if len(args) == 2:
        first, second = args

        def both(row: Sequence[Any], env: Env) -> int | None:
            a = first(row, env)
            if a is not None and not a:
                return 0
            b = second(row, env)
            if b is not None and not b:
                return 0
            return None if a is None or b is None else 1

        return both

    def every(row: Sequence[Any], env: Env) -> int | None:
        result: int | None = 1
        for arg in args:
            v = arg(row, env)
            if v is None:
                result = None
            elif not v:
                return 0
        return result

    return every


def _or_build(call: Call, args: Sequence[Closure]) -> Closure:
    def some(row: Sequence[Any], env: Env) -> int | None:
        result: int | None = 0
        for arg in args:
            v = arg(row, env)
            if v is None:
                result = None
            elif v:
                return 1
        return result

    return some


def _joined(op: str, ended_by: str = "") -> Callable[[DuckPrinter, Call], str]:
    """AND, OR and XOR; DuckDB computes operands in any order, so that those that tell something wait for the others
    where one ends it: only where these have not are they computed."""

    def form(p: DuckPrinter, call: Call) -> str:
        return joined(p, call.args)

    def joined(p: DuckPrinter, args: Sequence[Expr]) -> str:
        first = next((i for i, a in enumerate(args) if i and tells(a)), 0) if p.telling and ended_by else 0
        if not first:
            return "(" + f" {op} ".join(p.condition(a) for a in args) + ")"
        before, rest = joined(p, args[:first]), joined(p, args[first:])
        return f"(CASE WHEN {before} IS {ended_by} THEN {ended_by} ELSE ({before} {op} {rest}) END)"

    return form


add(Function("and", 2, None, _logic_infer, SUBJECT, build=_and_build, duck=_joined("AND", "FALSE"), duck_bool=True,
             tipb="LogicalAnd", syntax="a AND b"))  # fmt: skip
add(Function("or", 2, None, _logic_infer, SUBJECT, build=_or_build, duck=_joined("OR", "TRUE"), duck_bool=True,
             tipb="LogicalOr", syntax="a OR b"))  # fmt: skip
add(Function("xor", 2, 2, _logic_infer, SUBJECT, py=lambda a, b: int(bool(a) != bool(b)),
             duck=_joined("<>"), duck_bool=True, tipb="LogicalXor", syntax="a XOR b"))  # fmt: skip
add(
    Function(
        "not",
        1,
        1,
        _logic_infer,
        SUBJECT,
        py=lambda a: 0 if a else 1,
        duck=lambda p, call: f"(NOT {p.condition(call.args[0])})",
        duck_bool=True,
        tipb={"int": "UnaryNotInt", "real": "UnaryNotReal", "decimal": "UnaryNotDecimal"},
        syntax="NOT a",
    )
)
add(
    Function(
        "istrue",
        1,
        1,
        _logic_infer,
        SUBJECT,
        py=lambda a: 1 if a else 0,
        nulls=True,
        duck=lambda p, call: f"({p.condition(call.args[0])} IS TRUE)",
        duck_bool=True,
        tipb={"int": "IntIsTrue", "real": "RealIsTrue", "decimal": "DecimalIsTrue"},
        syntax="a IS TRUE",
    )
)
add(
    Function(
        "isfalse",
        1,
        1,
        _logic_infer,
        SUBJECT,
        py=lambda a: 1 if a is not None and not a else 0,
        nulls=True,
        duck=lambda p, call: f"({p.condition(call.args[0])} IS FALSE)",
        duck_bool=True,
        tipb={"int": "IntIsFalse", "real": "RealIsFalse", "decimal": "DecimalIsFalse"},
        syntax="a IS FALSE",
    )
)
add(Function("isnull", 1, 1, lambda args: ((None,), BOOL), SUBJECT, py=lambda a: 1 if a is None else 0, nulls=True,
             duck="({0} IS NULL)", duck_bool=True,
             tipb={k: f"{k.capitalize()}IsNull" for k in _EVAL}, syntax="a IS NULL"))  # fmt: skip

__all__ = ["comparison_types", "division_by_zero", "truth_type"]
