"""Typed expressions as tipb.Expr and back, by an allow-list of signatures (signatures.py).

A string signature compares by the collation of its *result* type, which is where TiKV looks. Conjunctions are binary
there, BETWEEN is two comparisons, and LIKE has its escape character as a number.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from coprocessor.codec.datum import SIGN
from coprocessor.dag.constants import decode_const, encode_const, is_const
from coprocessor.dag.field_types import collation_id, collation_name, field_type_of, wire_type
from coprocessor.dag.signatures import BY_NUMBER, CASE, PUSHED, TRUTHS, Signature, name_of, number_of
from coprocessor.errors import BadRequest, CoprocessorError, Unsupported
from coprocessor.expr import Agg, Call, Column, Const, Context, Expr, Param, nesting, transform
from coprocessor.functions import cast_to, resolve, resolve_agg
from coprocessor.functions.inference import as_decimal, collate_type, fsp, kind, type_digits
from coprocessor.functions.registry import AGGREGATES, FUNCTIONS
from coprocessor.types import BIGINT, BOOL, DATETIME, DOUBLE, TEXT, FieldType, Tp, decimal_type
from kvstore.proto import tipb_pb2

DEPTH_MAX = 200
"""Levels of nested expressions that are decoded."""
PUSHED_DEPTH_MAX = 64
"""Levels of an expression that is asked for: decoders of protobuf messages take a hundred in all."""
NODES_MAX = 100_000
_U64 = struct.Struct(">Q")
_ESCAPE = ord("\\")
_COLLATED = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "nulleq", "in", "like"})
_PUSHED_COLLATIONS = frozenset(
    {"", "utf8mb4_bin", "binary", "utf8mb4_0900_bin", "utf8mb4_general_ci", "utf8mb4_unicode_ci", "utf8mb4_0900_ai_ci"}
)
"""Under these servers compare, group and order texts as we do."""

_PUSHED_AGGREGATES = ("count", "sum", "avg", "min", "max", "any_value", "bit_and", "bit_or", "bit_xor")
_AGGREGATES = {name: AGGREGATES[name].tipb or "" for name in _PUSHED_AGGREGATES}
_AGGREGATE_NAMES = {tipb_pb2.ExprType.Value(tp): name for name, tp in _AGGREGATES.items()}
_EXTREMES = frozenset({"int", "real", "decimal", "time", "duration", "string"})


# Preparing


def at_offsets(expr: Expr, layout: Mapping[int, int]) -> Expr:
    """Returns the expression with statement-wide column ids replaced by offsets into the rows below."""
    return transform(expr, lambda e: replace(e, id=layout[e.id]) if isinstance(e, Column) else e)


# What may be pushed


def can_push(expr: Expr) -> bool:
    """Whether any server that speaks tipb computes the expression as we do; parameters count as literals."""
    if nesting(expr) > PUSHED_DEPTH_MAX:
        return False
    try:
        encode_expr(_literal(expr), dt.UTC)
    except CoprocessorError:
        return False
    return True


def can_push_agg(agg: Agg) -> bool:
    """Whether any server that speaks tipb computes the partial aggregate as we do."""
    if any(nesting(arg) > PUSHED_DEPTH_MAX for arg in agg.args):
        return False
    try:
        encode_agg(replace(agg, args=tuple(map(_literal, agg.args))), dt.UTC)
    except CoprocessorError:
        return False
    return True


def can_group_by(expr: Expr) -> bool:
    """Whether any server that speaks tipb groups by the expression, and orders by it, as we do."""
    return can_push(expr) and not isinstance(expr, Const) and _plain(expr.type)


def _literal(expr: Expr) -> Expr:
    return transform(expr, lambda e: Const(None, e.type) if isinstance(e, Param | Context) else e)


def _plain(type_: FieldType) -> bool:
    """Whether values of the type are compared on servers as here."""
    if type_.tp in (Tp.ENUM, Tp.SET, Tp.BIT, Tp.JSON):
        return False
    return not type_.is_text or type_.collate in _PUSHED_COLLATIONS


# Encoding


def encode_expr(expr: Expr, tz: dt.tzinfo) -> tipb_pb2.Expr:
    """Encodes an expression whose column ids are offsets. Raises Unsupported for what is not on the allow-list."""
    match expr:
        case Const():
            return encode_const(expr, tz)
        case Column():
            val = _U64.pack(expr.id + SIGN)
            return tipb_pb2.Expr(tp=tipb_pb2.ColumnRef, val=val, field_type=wire_type(expr.type))
        case Call():
            return _encode_call(expr, tz)
        case _:
            raise Unsupported(f"{type(expr).__name__} on the wire")


def _encode_call(call: Call, tz: dt.tzinfo) -> tipb_pb2.Expr:
    args = call.args
    if call.func == "between":
        low, high = Call("ge", (args[0], args[1]), BOOL), Call("le", (args[0], args[2]), BOOL)
        return _encode_call(Call("and", (low, high), BOOL), tz)
    if call.func in ("and", "or") and len(args) > 2:
        # halves, so that a long list does not nest deeply
        middle = len(args) // 2
        halves = [
            Call(call.func, part, call.type) if len(part) > 1 else part[0] for part in (args[:middle], args[middle:])
        ]
        return _encode_call(Call(call.func, tuple(halves), call.type), tz)
    if call.func == "like":
        args = (*args[:2], Const(_escape(call), BIGINT))
    elif call.func in _COLLATED or call.func == "intdiv":
        args = _of_one_kind(args)
    elif call.func in _CONDITIONS:
        args = _as_conditions(call.func, args)
    signature = _pushed(call, args)
    children = [encode_expr(arg, tz) for arg in args]
    field_type = wire_type(call.type)
    if call.func in _COLLATED and signature.args[0] == "string":
        field_type.collate = collation_id(collate_type(args[:2]))
    number = number_of(signature.name)
    return tipb_pb2.Expr(tp=tipb_pb2.ScalarFunc, sig=number, children=children, field_type=field_type)


def _of_one_kind(args: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """Integers among decimals as decimals: here the two are compared as they are."""
    kinds = {kind(arg.type) for arg in args} - {"null"}
    if kinds != {"int", "decimal"}:
        return args
    return tuple(cast_to(arg, as_decimal(arg)) if kind(arg.type) == "int" else arg for arg in args)


_CONDITIONS = frozenset({"and", "or", "xor", "if", "case"})


def _as_conditions(func: str, args: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """Conditions that are numbers of another kind than integers as comparisons with zero."""

    def whole(i: int, arg: Expr) -> Expr:
        is_condition = i % 2 == 0 and i != len(args) - 1 if func == "case" else func != "if" or i == 0
        zero = {"decimal": Const(Decimal(0), decimal_type(1, 0)), "real": Const(0.0, DOUBLE)}.get(kind(arg.type))
        return Call("ne", (arg, zero), BOOL) if is_condition and zero is not None else arg

    return tuple(whole(i, arg) for i, arg in enumerate(args))


def _escape(call: Call) -> int:
    if len(call.args) < 3:
        return _ESCAPE
    escape = call.args[2]
    if isinstance(escape, Const) and isinstance(escape.value, str) and len(escape.value) == 1:
        return ord(escape.value)
    raise Unsupported("this ESCAPE on the wire")


def _pushed(call: Call, args: Sequence[Expr]) -> Signature:
    """Returns the signature to ask for. Raises Unsupported where none is known to mean the same."""
    result = kind(call.type)
    found = CASE.get(result) if call.func == "case" else PUSHED.get((call.func, (_deciding_kind(call, args), result)))
    wanted = found.kinds(len(args)) if found else None
    if found is None or wanted is None:
        raise Unsupported(f"{call.func} of {', '.join(kind(a.type) for a in args)} on the wire")
    for arg, want in zip(args, wanted, strict=True):
        _check_argument(found, arg, want)
    if found.func == "in" and not all(isinstance(a, Const) for a in args[1:]):
        raise Unsupported("IN of what is no literal on the wire")
    if found.func == "cast" and not _cast_is_exact(args[0].type, call.type):
        raise Unsupported(f"a cast from {args[0].type.tp.name} to {call.type.tp.name} on the wire")
    return found


def _deciding_kind(call: Call, args: Sequence[Expr]) -> str:
    if call.func in ("if", "ifnull", "coalesce"):
        return kind(call.type)
    return next((k for k in (kind(a.type) for a in args) if k != "null"), "int")


def _check_argument(signature: Signature, arg: Expr, want: str) -> None:
    ft = arg.type
    if isinstance(arg, Const) and arg.value is None and kind(ft) in (want, "null"):
        return
    if kind(ft) != want or not _plain(ft):
        raise Unsupported(f"{signature.name} of a {kind(ft)} on the wire")
    if signature.signed and ft.unsigned:
        raise Unsupported(f"{signature.name} of unsigned integers on the wire")


def _cast_is_exact(src: FieldType, dst: FieldType) -> bool:
    """Casts that no value makes different: nothing is cut off, rounded or out of range."""
    if src.is_integer and dst.is_integer:
        return src.unsigned == dst.unsigned and dst.tp == Tp.LONGLONG
    if src.is_decimal and dst.is_integer:
        return False
    if dst.is_decimal:
        if src.is_real:
            return False
        (p1, s1), (p2, s2) = type_digits(src), type_digits(dst)
        return p2 - s2 >= p1 - s1 and s2 >= s1
    if dst.is_real:
        return dst.tp == Tp.DOUBLE
    if kind(src) == "time":
        return src.tp != Tp.TIMESTAMP and dst.tp in (Tp.DATETIME, src.tp) and fsp(dst) >= fsp(src)
    return kind(src) == "duration" and fsp(dst) >= fsp(src)


def encode_agg(agg: Agg, tz: dt.tzinfo) -> tipb_pb2.Expr:
    """Encodes a partial aggregate. Raises Unsupported for what servers do not compute as we do."""
    tp = _AGGREGATES.get(agg.func)
    if tp is None or agg.distinct or agg.order_by or len(agg.args) > 1:
        raise Unsupported(f"{agg.func.upper()} on the wire")
    arg = agg.args[0] if agg.args else Const(1, BIGINT)
    of = kind(arg.type)
    if agg.func in ("min", "max") and not (of in _EXTREMES and _plain(arg.type)):
        raise Unsupported(f"{agg.func.upper()} of {arg.type.tp.name} on the wire")
    if agg.func in ("sum", "avg") and not (of in ("int", "real", "decimal") and _plain(arg.type)):
        raise Unsupported(f"{agg.func.upper()} of {arg.type.tp.name} on the wire")
    if agg.func.startswith("bit_") and (of != "int" or not _plain(arg.type)):
        raise Unsupported(f"{agg.func.upper()} of {arg.type.tp.name} on the wire")
    mode = tipb_pb2.Partial1Mode
    children = [encode_expr(arg, tz)]
    return tipb_pb2.Expr(tp=tp, children=children, field_type=wire_type(agg.type), aggFuncMode=mode)


# Decoding


class Decoder:
    """Decodes the expressions of one executor, whose columns refer to rows of `types`."""

    def __init__(self, types: Sequence[FieldType], tz: dt.tzinfo) -> None:
        self._types = types
        self._tz = tz
        self._nodes = 0

    def expr(self, wire: tipb_pb2.Expr, depth: int = 0) -> Expr:
        """Decodes an expression. Raises Unsupported, naming the signature, or BadRequest."""
        self._nodes += 1
        if depth > DEPTH_MAX or self._nodes > NODES_MAX:
            raise BadRequest("an expression nested too deeply, or too large")
        if not wire.HasField("tp"):
            raise BadRequest("an expression of no known type")
        if wire.tp == tipb_pb2.ColumnRef:
            return self._column(wire)
        if wire.tp == tipb_pb2.ScalarFunc:
            return self._call(wire, depth)
        if is_const(wire):
            return decode_const(wire, self._tz)
        raise Unsupported(f"an expression of type {tipb_pb2.ExprType.Name(wire.tp)}")

    def _column(self, wire: tipb_pb2.Expr) -> Column:
        if len(wire.val) != 8:
            raise BadRequest(f"a column reference of {len(wire.val)} bytes")
        offset = _U64.unpack(wire.val)[0] - SIGN
        if not 0 <= offset < len(self._types):
            raise BadRequest(f"column {offset} of {len(self._types)}")
        return Column(offset, self._types[offset])

    def _call(self, wire: tipb_pb2.Expr, depth: int) -> Expr:
        args = tuple(self.expr(child, depth + 1) for child in wire.children)
        if wire.sig in TRUTHS and len(args) == 1:
            return resolve("ne", (args[0], Const(0, BIGINT)))
        signature = BY_NUMBER.get(wire.sig)
        if signature is None:
            raise Unsupported(f"{name_of(wire.sig)} is not supported")
        self._check(signature, args)
        if signature.func == "like":
            args = _like_arguments(args)
        args = _typed(signature, args)
        if signature.func in _COLLATED and signature.args[0] == "string":
            args = _collated(args, wire.field_type.collate)
        result = field_type_of(wire.field_type) if wire.field_type.tp else BOOL
        if kind(result) != signature.result or (result.is_decimal and result.flen <= 0):
            result = self._resolved(signature, args)
        return Call(signature.func, args, result)

    @staticmethod
    def _check(signature: Signature, args: Sequence[Expr]) -> None:
        wanted = signature.kinds(len(args))
        if wanted is None:
            raise BadRequest(f"{signature.name} of {len(args)} arguments")
        for i, (arg, want) in enumerate(zip(args, wanted, strict=True)):
            if kind(arg.type) not in (want, "null"):
                raise BadRequest(f"argument {i} of {signature.name} is a {kind(arg.type)}, not a {want}")

    @staticmethod
    def _resolved(signature: Signature, args: tuple[Expr, ...]) -> FieldType:
        """The type that the catalogue gives a call whose own says nothing."""
        if signature.func == "cast":
            raise BadRequest(f"{signature.name} to no type")
        found = resolve(signature.func, args).type
        if kind(found) not in (signature.result, "null"):
            raise BadRequest(f"{signature.name} of these arguments is a {kind(found)}")
        return found

    def agg(self, wire: tipb_pb2.Expr) -> Agg:
        """Decodes an aggregate call."""
        name = _AGGREGATE_NAMES.get(wire.tp) if wire.HasField("tp") else None
        if name is None or wire.has_distinct or wire.order_by:
            what = tipb_pb2.ExprType.Name(wire.tp) if wire.HasField("tp") else "of no known type"
            raise Unsupported(f"the aggregate {what}{' DISTINCT' if wire.has_distinct else ''}")
        if len(wire.children) != 1:
            raise BadRequest(f"{name} of {len(wire.children)} arguments")
        arg = self.expr(wire.children[0])
        if name == "count" and isinstance(arg, Const) and arg.value is not None:
            return resolve_agg("count", ())
        if name in ("sum", "avg") and kind(arg.type) in ("string", "json"):
            # TiKV's `rewrite_exp_for_sum_avg`
            if arg.type.tp in (Tp.ENUM, Tp.SET):
                raise Unsupported(f"{name} of {arg.type.tp.name}")
            arg = cast_to(arg, DOUBLE)
        if name in ("sum", "avg") and kind(arg.type) not in ("int", "real", "decimal"):
            raise BadRequest(f"{name} of a {kind(arg.type)}")
        if name in ("sum", "avg") and arg.type.tp == Tp.BIT:  # a double in TiDB
            raise Unsupported(f"{name} of a BIT")
        if name.startswith("bit_") and kind(arg.type) != "int":
            raise BadRequest(f"{name} of a {kind(arg.type)}")
        resolved = resolve_agg(name, (arg,))
        wanted = field_type_of(wire.field_type) if wire.field_type.tp else resolved.type
        if name in ("sum", "avg") and kind(wanted) == kind(resolved.type) and wanted.decimal >= resolved.type.decimal:
            if wanted.flen > 0:
                return replace(resolved, type=wanted)
        return resolved


_OF_BYTES = frozenset({"ascii", "bit_length", "crc32", "hex", "md5", "sha1", "sha2", "to_base64"})
_WANTS_TYPES = _OF_BYTES | {"bitand", "bitor", "bitxor", "bitneg", "lshift", "rshift", "datediff"}


def _typed(signature: Signature, args: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """Arguments as the catalogue's function takes them: bits are unsigned, text is bytes, and dates among times are
    times."""
    if signature.func in _WANTS_TYPES:
        types, _ = FUNCTIONS[signature.func].infer(args)
        return tuple(a if ft is None else cast_to(a, ft) for a, ft in zip(args, types, strict=True))
    tps = {arg.type.tp for arg in args if kind(arg.type) == "time"}
    if Tp.DATE in tps and len(tps) > 1:
        return tuple(cast_to(arg, DATETIME) if arg.type.tp == Tp.DATE else arg for arg in args)
    return args


def _like_arguments(args: tuple[Expr, ...]) -> tuple[Expr, ...]:
    escape = args[2]
    if not isinstance(escape, Const) or not isinstance(escape.value, int) or not 0 <= escape.value < 0x110000:
        raise BadRequest("LikeSig with an escape that is no character")
    return args[:2] if escape.value == _ESCAPE else (*args[:2], Const(chr(escape.value), TEXT))


def _collated(args: tuple[Expr, ...], number: int) -> tuple[Expr, ...]:
    """Arguments of a comparison of strings, compared as the request says."""
    collate = collation_name(number)
    if collate == "binary" and any(arg.type.is_text for arg in args):
        collate = "utf8mb4_0900_bin"  # text compared byte by byte
    return tuple(_retyped(arg, collate) if arg.type.is_text or arg.type.tp == Tp.ENUM else arg for arg in args)


def _retyped(expr: Expr, collate: str) -> Expr:
    if expr.type.collate == collate or isinstance(expr, Agg):
        return expr
    return replace(expr, type=expr.type.with_(collate=collate))
