"""Mathematical functions."""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Callable, Sequence
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal
from typing import Any

from coprocessor.convert import CTX, quantize
from coprocessor.errors import OutOfRange
from coprocessor.expr import Call, Const, Expr
from coprocessor.functions.decimal_sql import decimal_type_sql
from coprocessor.functions.inference import as_decimal, numeric_type, type_digits
from coprocessor.functions.registry import Closure, DuckPrinter, Function, Inferred, Kernel, add, fixed
from coprocessor.types import BIGINT, BYTES, DOUBLE, UBIGINT, FieldType, decimal_type

SUBJECT = "mathematics"


def number(arg: Expr) -> FieldType:
    """The numeric type an argument is taken as: integer, decimal or DOUBLE."""
    t = numeric_type(arg)
    return DOUBLE if t.is_real else t


def _widened(t: FieldType) -> FieldType:
    return t if not t.is_integer else UBIGINT if t.unsigned else BIGINT


# --- sign and rounding --------------------------------------------------------------------------------------------


def _abs_infer(args: Sequence[Expr]) -> Inferred:
    t = number(args[0])
    return (t,), _widened(t)


def _abs(v: Any) -> Any:
    if type(v) is int and v == -(2**63):
        raise OutOfRange(f"BIGINT value is out of range in 'abs({v})'", code=1690)
    return abs(v) if not isinstance(v, Decimal) else CTX.abs(v)


def _abs_duck(p: DuckPrinter, call: Call) -> str:
    return f"abs({p.operand(call.args[0])})"


add(Function("abs", 1, 1, _abs_infer, SUBJECT, py=_abs, duck=_abs_duck,
             tipb={"int": "AbsInt", "real": "AbsReal", "decimal": "AbsDecimal"}))  # fmt: skip


def _sign_duck(p: DuckPrinter, call: Call) -> str:
    return f"CAST(sign({p.value(call.args[0])}) AS BIGINT)"


add(Function("sign", 1, 1, lambda args: ((number(args[0]),), BIGINT), SUBJECT, py=lambda v: (v > 0) - (v < 0),
             duck=_sign_duck, tipb="Sign"))  # fmt: skip


def _whole_infer(args: Sequence[Expr]) -> Inferred:
    """CEIL and FLOOR of a decimal are BIGINT when they fit, else a decimal without fraction."""
    t = number(args[0])
    if not t.is_decimal:
        return (t,), _widened(t)
    precision, scale = type_digits(t)
    whole = precision - scale + (1 if scale else 0)
    return (t,), BIGINT if whole <= 18 else decimal_type(min(whole, 65), 0)


def _whole_kernel(rounding: str, real: Callable[[float], int]) -> Callable[[Call], Kernel]:
    def make(call: Call) -> Kernel:
        t = call.args[0].type
        if t.is_integer:
            return lambda v: v
        if t.is_real:
            return lambda v: float(real(v))
        as_int = call.type.is_integer

        def decimals(v: Decimal) -> int | Decimal:
            r = v.to_integral_value(rounding)
            return int(r) if as_int else Decimal(int(r))

        return decimals

    return make


def _whole_duck(name: str) -> Callable[[DuckPrinter, Call], str]:
    def form(p: DuckPrinter, call: Call) -> str:
        arg = call.args[0]
        text = p.operand(arg)
        if arg.type.is_integer:
            return text
        if arg.type.is_real:
            return f"({name}({text}) + 0)"
        out = "BIGINT" if call.type.is_integer else decimal_type_sql(call.type)
        return f"CAST({name}({text}) AS {out})"

    return form


add(Function("ceil", 1, 1, _whole_infer, SUBJECT, precise=True, kernel=_whole_kernel(ROUND_CEILING, math.ceil),
             duck=_whole_duck("ceil"), tipb={"int": "CeilIntToInt", "real": "CeilReal", "decimal": "CeilDecToInt"}),
    "ceiling")  # fmt: skip
add(
    Function(
        "floor",
        1,
        1,
        _whole_infer,
        SUBJECT,
        precise=True,
        kernel=_whole_kernel(ROUND_FLOOR, math.floor),
        duck=_whole_duck("floor"),
        tipb={"int": "FloorIntToInt", "real": "FloorReal", "decimal": "FloorDecToInt"},
    )
)


def _round_infer(args: Sequence[Expr]) -> Inferred:
    t = number(args[0])
    places = UBIGINT if args[-1].type.unsigned else BIGINT
    types: tuple[FieldType | None, ...] = (t, places)[: len(args)]
    if not t.is_decimal:
        return types, _widened(t)
    precision, scale = type_digits(t)
    if len(args) == 1:
        keep = 0
    elif isinstance(args[1], Const) and isinstance(args[1].value, int):
        keep = max(min(args[1].value, 30), 0)
    else:
        keep = scale
    carry = 1 if keep < scale or not isinstance(args[-1], Const) else 0
    return types, decimal_type(max(precision - scale + keep + carry, 1), keep)


def _round_kernel(call: Call) -> Kernel:
    t = call.args[0].type
    if t.is_integer:
        return lambda v, d=0: _round_int(v, d, call.type.unsigned)
    if t.is_real:
        return _round_real
    scale = call.type.decimal

    def decimals(v: Decimal, d: int = 0) -> Decimal:
        if d >= scale:
            return quantize(v, scale)
        return quantize(_round_decimal(v, d), scale)

    return decimals


def _round_decimal(v: Decimal, d: int) -> Decimal:
    if d >= 0:
        return quantize(v, min(d, 30))
    if -d > 65:
        return Decimal(0)
    return Decimal(int(quantize(v.scaleb(d, CTX), 0)) * 10**-d)


def _round_int(v: int, d: int, unsigned: bool) -> int:
    if d >= 0:
        return v
    if d < -20:
        return 0
    unit = 10**-d
    r: int = (abs(v) + unit // 2) // unit * unit
    r = -r if v < 0 else r
    if not (0 <= r < 2**64 if unsigned else -(2**63) <= r < 2**63):
        raise OutOfRange(f"BIGINT value is out of range in 'round({v},{d})'", code=1690)
    return r


def _round_real(v: float, d: int = 0) -> float:
    """Rounds a double as C's rint does on the scaled value: halves to even."""
    if d > 308 or v == 0 or not math.isfinite(v):
        return v
    if d < -308:
        return 0.0
    unit = 10.0 ** abs(d)
    scaled = v * unit if d >= 0 else v / unit
    if math.isinf(scaled):
        return v
    r = float(round(scaled))
    return r / unit if d >= 0 else r * unit


def _round_duck(p: DuckPrinter, call: Call) -> str | None:
    t = call.args[0].type
    if not t.is_decimal:
        if t.is_integer and (len(call.args) == 1 or _const_int(call.args[1], least=0) is not None):
            return p.operand(call.args[0])
        return _round_real_duck(p, call) if t.is_real else None
    text = p.value(call.args[0])
    if len(call.args) == 1:
        return f"CAST({text} AS {decimal_type_sql(call.type)})"
    if _const_int(call.args[1], least=0) is not None:
        return f"CAST({text} AS {decimal_type_sql(call.type)})"
    return None


def _round_real_duck(p: DuckPrinter, call: Call) -> str | None:
    """Scales, rounds halves to even and scales back, as the closure does; very large values are whole already."""
    places = 0 if len(call.args) == 1 else _const_int(call.args[1], least=0)
    if places is None or places > 15:
        return None
    text, unit = p.operand(call.args[0]), f"CAST(1e{places} AS DOUBLE)"
    return (
        f"CASE WHEN abs({text}) < 1e{30 - places} THEN round_even({text} * {unit}, 0) / {unit} ELSE {p.udf(call)} END"
    )


def _const_int(arg: Expr, least: int) -> int | None:
    ok = isinstance(arg, Const) and isinstance(arg.value, int) and arg.value >= least
    return arg.value if ok and isinstance(arg, Const) and isinstance(arg.value, int) else None


add(Function("round", 1, 2, _round_infer, SUBJECT, precise=True, kernel=_round_kernel, duck=_round_duck,
             tipb={"int": "RoundInt", "real": "RoundReal", "decimal": "RoundDec"}))  # fmt: skip


def _truncate_kernel(call: Call) -> Kernel:
    t = call.args[0].type
    if t.is_integer:
        return _truncate_int
    if t.is_real:
        return _truncate_real
    scale = call.type.decimal

    def decimals(v: Decimal, d: int) -> Decimal:
        if d >= 0:
            cut = v.quantize(Decimal(1).scaleb(-min(d, 30)), rounding=ROUND_DOWN, context=CTX)
        else:
            cut = Decimal(_truncate_int(int(v), d))
        return quantize(cut, scale)

    return decimals


def _truncate_int(v: int, d: int) -> int:
    if d >= 0:
        return v
    if d < -20:
        return 0
    unit = 10**-d
    r: int = abs(v) // unit * unit
    return -r if v < 0 else r


def _truncate_real(v: float, d: int) -> float:
    if d > 308:
        return v
    if d < -308:
        return 0.0
    unit = 10.0 ** abs(d)
    scaled = v * unit if d >= 0 else v / unit
    if math.isinf(scaled):
        return v
    return math.trunc(scaled) / unit if d >= 0 else math.trunc(scaled) * unit


def _truncate_infer(args: Sequence[Expr]) -> Inferred:
    types, result = _round_infer(args)
    if result.is_decimal:
        precision, scale = type_digits(as_decimal(args[0]))
        result = decimal_type(max(precision - scale + result.decimal, 1), result.decimal)
    return types, result


add(Function("truncate", 2, 2, _truncate_infer, SUBJECT, precise=True, kernel=_truncate_kernel,
             tipb={"int": "TruncateInt", "real": "TruncateReal", "decimal": "TruncateDecimal"}))  # fmt: skip


# --- powers and logarithms ----------------------------------------------------------------------------------------


def _real(name: str, py: Callable[..., Any], duck: Any = None, *aliases: str, args: int = 1, tipb: str = "") -> None:
    add(Function(name, args, args, fixed([DOUBLE], DOUBLE), SUBJECT, py=py, duck=duck, tipb=tipb or None), *aliases)


def _finite(name: str, fn: Callable[..., float]) -> Callable[..., float]:
    """A function of doubles whose overflow is MySQL's error 1690."""

    def checked(*args: float) -> float:
        try:
            r = fn(*args)
        except (OverflowError, ZeroDivisionError):
            r = math.inf
        except ValueError:
            r = math.nan
        if not math.isfinite(r):
            shown = ",".join(str(a) for a in args)
            raise OutOfRange(f"DOUBLE value is out of range in '{name}({shown})'", code=1690)
        return r

    return checked


def _domain(fn: Callable[[float], float], low: float, strict: bool = False) -> Callable[..., float | None]:
    """A function that is NULL below (or at, when strict) `low`."""
    return lambda v: None if v < low or (strict and v == low) else fn(v)


_real("sqrt", _domain(math.sqrt, 0), "CASE WHEN {0} < 0 THEN NULL ELSE sqrt({0}) END", tipb="Sqrt")
_CHECKED = (
    "CASE WHEN isfinite({0}) OR {0} IS NULL THEN {0} ELSE CAST(error('DOUBLE value is out of range') AS DOUBLE) END"
)
_real("pow", _finite("pow", math.pow), _CHECKED.format("pow({0}, {1})"), "power", args=2, tipb="Pow")
_real("exp", _finite("exp", math.exp), _CHECKED.format("exp({0})"), tipb="Exp")
_real("degrees", _finite("degrees", math.degrees), _CHECKED.format("({0} * (180 / pi()))"), tipb="Degrees")
_LOG = "CASE WHEN {{0}} <= 0 THEN NULL ELSE {name}({{0}}) END"
_real("ln", _domain(math.log, 0, True), _LOG.format(name="ln"), tipb="Log1Arg")
_real("log2", _domain(math.log2, 0, True), _LOG.format(name="log2"), tipb="Log2")
_real("log10", _domain(math.log10, 0, True), _LOG.format(name="log10"), tipb="Log10")


def _log(a: float, b: float | None = None) -> float | None:
    if b is None:
        return None if a <= 0 else math.log(a)
    if a <= 0 or b <= 0 or a == 1:
        return None
    return math.log(b) / math.log(a)


def _log_duck(p: DuckPrinter, call: Call) -> str:
    args = [p.value(a) for a in call.args]
    if len(args) == 1:
        return _LOG.format(name="ln").format(*args)
    a, b = args
    return f"CASE WHEN {a} <= 0 OR {b} <= 0 OR {a} = 1 THEN NULL ELSE ln({b}) / ln({a}) END"


add(Function("log", 1, 2, fixed([DOUBLE], DOUBLE), SUBJECT, py=_log, duck=_log_duck, tipb="Log1Arg"))


# --- trigonometry -------------------------------------------------------------------------------------------------

_real("sin", math.sin, "sin({0})", tipb="Sin")
_real("cos", math.cos, "cos({0})", tipb="Cos")
_real("tan", math.tan, "tan({0})", tipb="Tan")
_real("cot", _finite("cot", lambda v: 1 / math.tan(v)), None, tipb="Cot")
_real("asin", lambda v: None if abs(v) > 1 else math.asin(v), "CASE WHEN abs({0}) > 1 THEN NULL ELSE asin({0}) END",
      tipb="Asin")  # fmt: skip
_real("acos", lambda v: None if abs(v) > 1 else math.acos(v), "CASE WHEN abs({0}) > 1 THEN NULL ELSE acos({0}) END",
      tipb="Acos")  # fmt: skip
_real("radians", math.radians, "({0} * (pi() / 180))", tipb="Radians")
add(Function("atan", 1, 2, fixed([DOUBLE], DOUBLE), SUBJECT,
             py=lambda a, b=None: math.atan(a) if b is None else math.atan2(a, b),
             duck=lambda p, c: f"atan{'2' if len(c.args) == 2 else ''}({', '.join(p.value(a) for a in c.args)})",
             tipb="Atan1Arg"))  # fmt: skip
_real("atan2", math.atan2, "atan2({0}, {1})", args=2, tipb="Atan2Args")
add(Function("pi", 0, 0, fixed([], DOUBLE), SUBJECT, py=lambda: math.pi, duck="pi()", tipb="PI"))


def _rand_build(call: Call, args: Sequence[Closure]) -> Closure:
    """RAND() is new for each row; RAND(seed) with a constant seed is one repeatable sequence."""
    if not args:
        return lambda row, env: random.random()
    if isinstance(call.args[0], Const):
        value = call.args[0].value
        generator = MySqlRandom(value if isinstance(value, int) else 0)
        return lambda row, env: generator.next()
    seed = args[0]
    return lambda row, env: MySqlRandom(seed(row, env) or 0).next()


class MySqlRandom:
    """The documented linear generator of RAND(seed): two seeds modulo 2^30 - 1."""

    MODULUS = 0x3FFFFFFF

    def __init__(self, seed: int) -> None:
        low = seed & 0xFFFFFFFF
        self.a = (low * 0x10001 + 55555555) & 0xFFFFFFFF
        self.b = (low * 0x10000001) & 0xFFFFFFFF
        self.a %= self.MODULUS
        self.b %= self.MODULUS

    def next(self) -> float:
        self.a = (self.a * 3 + self.b) % self.MODULUS
        self.b = (self.a + self.b + 33) % self.MODULUS
        return self.a / self.MODULUS


def _rand_duck(p: DuckPrinter, call: Call) -> str | None:
    return None if call.args else "random()"


add(Function("rand", 0, 1, fixed([BIGINT], DOUBLE), SUBJECT, build=_rand_build, duck=_rand_duck, deterministic=False))
add(Function("crc32", 1, 1, fixed([BYTES], UBIGINT), SUBJECT, py=zlib.crc32, tipb="CRC32"))
