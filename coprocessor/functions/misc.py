"""Encodings, digests, sets, networks, identifiers and what the session knows (database(), user(), …)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import itertools
import os
import time
import uuid
import zlib
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from coprocessor.convert import quantize
from coprocessor.env import Env
from coprocessor.errors import InvalidArgument, ResolveError
from coprocessor.expr import Call, Const, Context, Expr, Param
from coprocessor.functions.inference import collate_type, collation_of, explicit_collation, kind, numeric_type
from coprocessor.functions.operators import compare_key
from coprocessor.functions.registry import Closure, Function, Inferred, Kernel, add, fixed
from coprocessor.types import BIGINT, BOOL, BYTES, DOUBLE, TEXT, UBIGINT, FieldType, Tp, decimal_type, varchar
from kvstore.client.api import LOGICAL_BITS
from kvstore.errors import Cancelled

SUBJECT = "miscellaneous"
U64 = 2**64
GREGORIAN_100NS = 0x01B21DD213814000
"""From where UUIDs of versions 1 and 6 count, 1582-10-15, to 1970."""
ROUNDS_BETWEEN_LOOKS = 1024
"""How often BENCHMARK computes its expression before it looks whether it is to stop."""
UNCOMPRESSED_BYTES_MAX = 64 << 20
"""What UNCOMPRESS unpacks to at most (max_allowed_packet); more is NULL."""


# --- encodings ----------------------------------------------------------------------------------------------------


def _hex_infer(args: Sequence[Expr]) -> Inferred:
    ft = args[0].type
    if ft.is_numeric:
        return (UBIGINT,), TEXT
    return (BYTES,), TEXT


def _hex(v: int | bytes) -> str:
    return f"{v:X}" if isinstance(v, int) else v.hex().upper()


def _unhex(s: str) -> bytes | None:
    try:
        return bytes.fromhex(s if len(s) % 2 == 0 else f"0{s}") if " " not in s else None
    except ValueError:
        return None


def _to_base(n: int, base: int) -> str:
    if n == 0:
        return "0"
    digits = []
    while n:
        n, r = divmod(n, base)
        digits.append("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[r])
    return "".join(reversed(digits))


def _conv(text: str, source: int, target: int) -> str | None:
    """CONV: 64-bit unsigned arithmetic; a negative target base prints a signed number."""
    signed_in, base = source < 0, abs(source)
    if not (2 <= base <= 36 and 2 <= abs(target) <= 36):
        return None
    text = text.strip()
    negative = text.startswith("-")
    n = 0
    for c in text.lstrip("+-").upper():
        d = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ".find(c)
        if not 0 <= d < base:
            break
        n = n * base + d
    if signed_in:
        n = min(n, 2**63) if negative else min(n, 2**63 - 1)
    else:
        n = min(n, U64 - 1)
    n = (-n) % U64 if negative else n
    if target < 0 and n >= 2**63:
        return "-" + _to_base(U64 - n, -target)
    return _to_base(n, abs(target))


add(Function("hex", 1, 1, _hex_infer, SUBJECT, py=_hex,
             duck=lambda p, c: None if c.args[0].type.is_numeric else f"hex({p.value(c.args[0])})",
             tipb={"int": "HexIntArg", "string": "HexStrArg"}))  # fmt: skip
add(Function("unhex", 1, 1, fixed([TEXT], BYTES), SUBJECT, py=_unhex, tipb="UnHex"))
add(Function("bin", 1, 1, fixed([TEXT], TEXT), SUBJECT, py=lambda text: _conv(text, 10, 2)))
add(Function("oct", 1, 1, fixed([TEXT], TEXT), SUBJECT, py=lambda text: _conv(text, 10, 8), tipb="OctString"))
add(Function("conv", 3, 3, fixed([TEXT, BIGINT, BIGINT], TEXT), SUBJECT, py=_conv, tipb="Conv"))
add(Function("bit_count", 1, 1, fixed([UBIGINT], BIGINT), SUBJECT, py=int.bit_count,
             duck="CAST(bit_count(CAST({0} AS HUGEINT)) AS BIGINT)", tipb="BitCount"))  # fmt: skip


def _char(*codes: int | None) -> bytes:
    out = bytearray()
    for code in codes:
        if code is not None:
            n = code & 0xFFFFFFFF
            out += n.to_bytes(max((n.bit_length() + 7) // 8, 1), "big")
    return bytes(out)


add(Function("char", 1, None, fixed([BIGINT], BYTES), SUBJECT, py=_char, nulls=True, tipb="Char"))


def _to_base64(v: bytes) -> str:
    text = base64.b64encode(v).decode()
    return "\n".join(text[i : i + 76] for i in range(0, len(text), 76))


def _from_base64(s: str) -> bytes | None:
    text = "".join(s.split())
    if len(text) % 4:
        return None  # as binascii finds too, but for a sign of filling too much
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _compress(v: bytes) -> bytes:
    """MySQL's form: the length in four bytes, zlib's stream, and a point where that ends in a space."""
    if not v:
        return b""
    packed = (len(v) & 0x3FFFFFFF).to_bytes(4, "little") + zlib.compress(v)
    return packed + b"." if packed.endswith(b" ") else packed


def _uncompress(v: bytes) -> bytes | None:
    if not v:
        return b""
    length = _uncompressed_length(v)
    if len(v) <= 4 or length > UNCOMPRESSED_BYTES_MAX:
        return None
    try:
        unpacked = zlib.decompressobj().decompress(v[4:], length + 1)
    except zlib.error:
        return None
    return unpacked if len(unpacked) == length else None


def _uncompressed_length(v: bytes) -> int:
    return int.from_bytes(v[:4], "little") & 0x3FFFFFFF if len(v) > 4 else 0


add(Function("compress", 1, 1, fixed([BYTES], BYTES), SUBJECT, py=_compress))
add(Function("uncompress", 1, 1, fixed([BYTES], BYTES), SUBJECT, py=_uncompress))
add(Function("uncompressed_length", 1, 1, fixed([BYTES], BIGINT), SUBJECT, py=_uncompressed_length))


def _random_bytes(count: int) -> bytes:
    if not 1 <= count <= 1024:
        raise InvalidArgument("length value is out of range in 'random_bytes'", code=1690, sqlstate="22003")
    return os.urandom(count)


add(Function("random_bytes", 1, 1, fixed([BIGINT], BYTES), SUBJECT, py=_random_bytes, deterministic=False))
add(Function("to_base64", 1, 1, fixed([BYTES], TEXT), SUBJECT, py=_to_base64, tipb="ToBase64"))
add(Function("from_base64", 1, 1, fixed([TEXT], BYTES), SUBJECT, py=_from_base64, tipb="FromBase64"))


# --- digests ------------------------------------------------------------------------------------------------------


def _sha2(v: bytes, bits: int) -> str | None:
    name = {0: "sha256", 224: "sha224", 256: "sha256", 384: "sha384", 512: "sha512"}.get(bits)
    return None if name is None else hashlib.new(name, v).hexdigest()


add(Function("md5", 1, 1, fixed([BYTES], varchar(32)), SUBJECT,
             py=lambda v: hashlib.md5(v, usedforsecurity=False).hexdigest(), duck="md5({0})", tipb="MD5"))  # fmt: skip
add(Function("sha1", 1, 1, fixed([BYTES], varchar(40)), SUBJECT,
             py=lambda v: hashlib.sha1(v, usedforsecurity=False).hexdigest(), tipb="SHA1"), "sha")  # fmt: skip
add(Function("sha2", 2, 2, fixed([BYTES, BIGINT], varchar(128)), SUBJECT, py=_sha2, tipb="SHA2"))


# --- lists --------------------------------------------------------------------------------------------------------


def _field_infer(args: Sequence[Expr]) -> Inferred:
    kinds = {kind(a.type) for a in args} - {"null"}
    if kinds == {"string"}:
        ft = collate_type(args)
        return tuple(BYTES if ft.is_binary else None for _ in args), BIGINT
    if kinds == {"int"}:
        return tuple(None for _ in args), BIGINT
    return tuple(DOUBLE for _ in args), BIGINT


def _field_kernel(call: Call) -> Kernel:
    key = compare_key(call.args) or (lambda v: v)

    def field(x: Any, *values: Any) -> int:
        if x is None:
            return 0
        wanted = key(x)
        for i, v in enumerate(values, 1):
            if v is not None and key(v) == wanted:
                return i
        return 0

    return field


add(Function("field", 2, None, _field_infer, SUBJECT, kernel=_field_kernel, nulls=True,
             tipb={"int": "FieldInt", "real": "FieldReal", "string": "FieldString"}))  # fmt: skip


def _elt_infer(args: Sequence[Expr]) -> Inferred:
    ft = collate_type(args[1:]) if any(a.type.is_string for a in args[1:]) else TEXT
    each = BYTES if ft.is_binary else TEXT
    return (BIGINT, *(each for _ in args[1:])), ft


def _elt(n: int | None, *values: Any) -> Any:
    return values[n - 1] if n is not None and 1 <= n <= len(values) else None


def _make_set(bits: int | None, *values: str | None) -> str | None:
    if bits is None:
        return None
    return ",".join(v for i, v in enumerate(values) if v is not None and bits >> i & 1)


def _export_set(bits: int, on: str, off: str, separator: str = ",", count: int = 64) -> str:
    count = count if 0 <= count <= 64 else 64
    return separator.join(on if bits >> i & 1 else off for i in range(count))


add(Function("elt", 2, None, _elt_infer, SUBJECT, py=_elt, nulls=True, tipb="Elt"))
add(Function("make_set", 2, None, fixed([BIGINT, TEXT], TEXT), SUBJECT, py=_make_set, nulls=True, tipb="MakeSet"))
add(Function("export_set", 3, 5, fixed([BIGINT, TEXT, TEXT, TEXT, BIGINT], TEXT), SUBJECT, py=_export_set,
             tipb="ExportSet5Arg"))  # fmt: skip


# --- printing numbers ---------------------------------------------------------------------------------------------


def _format_infer(args: Sequence[Expr]) -> Inferred:
    number = numeric_type(args[0])
    return (DOUBLE if number.is_real else number, BIGINT, TEXT)[: len(args)], TEXT


_POINTS_OF_THOUSANDS = frozenset(
    """
    da_dk de_be de_de de_lu es_ar es_cl es_es fo_fo id_id is_is it_it nb_no nl_nl no_no pt_br ro_ro tr_tr vi_vn
    """.split()
)


def _format(v: Any, places: int | None, locale: str | None = "en_US") -> str | None:
    if v is None or places is None:
        return None
    locale = locale or "en_US"
    exact = Decimal(repr(v)) if isinstance(v, float) else Decimal(v)
    text = f"{quantize(exact, min(max(places, 0), 30)):,f}"
    if locale.lower() in _POINTS_OF_THOUSANDS:
        return text.translate(str.maketrans(",.", ".,"))
    return text


add(Function("format", 2, 3, _format_infer, SUBJECT, py=_format, nulls=True, tipb="Format"))


def _format_bytes(v: float) -> str:
    for unit, size in (("EiB", 2**60), ("PiB", 2**50), ("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(v) >= size:
            return f"{v / size:.2f} {unit}"
    return f"{int(v):4d} bytes"


add(Function("format_bytes", 1, 1, fixed([DOUBLE], TEXT), SUBJECT, py=_format_bytes))


# --- networks and identifiers -------------------------------------------------------------------------------------


def _inet_aton(s: str) -> int | None:
    parts = s.split(".")
    if not 1 <= len(parts) <= 4 or not all(p.isascii() and p.isdigit() and int(p) < 256 for p in parts):
        return None
    *head, last = (int(p) for p in parts)
    n = 0
    for i, part in enumerate(head):
        n |= part << (24 - 8 * i)
    return n | last


def _inet_ntoa(n: int) -> str | None:
    return str(ipaddress.IPv4Address(n)) if 0 <= n < 2**32 else None


def _octets_without_zeros(s: str) -> str:
    """An address whose IPv4 part has no leading zeros, which MySQL allows in numbers of up to three digits."""
    head, colon, octets = s.rpartition(":")
    if not s.isascii() or "." not in octets:
        return s
    parts = octets.split(".")
    return head + colon + ".".join(str(int(p)) if p.isdigit() and len(p) <= 3 else p for p in parts)


def _inet6_aton(s: str) -> bytes | None:
    try:
        return ipaddress.ip_address(_octets_without_zeros(s)).packed
    except ValueError:
        return None


_COMPATIBLE, _MAPPED = bytes(12), bytes(10) + b"\xff\xff"
"""How IPv6 addresses begin that embed one of IPv4."""


def _inet6_ntoa(v: bytes) -> str | None:
    """An address as inet_ntop prints it: one that embeds an IPv4 address shows that with its points."""
    if len(v) not in (4, 16):
        return None
    if len(v) == 16 and v.startswith(_MAPPED):
        return f"::ffff:{ipaddress.IPv4Address(v[12:])}"
    if len(v) == 16 and v.startswith(_COMPATIBLE) and any(v[12:14]):
        return f"::{ipaddress.IPv4Address(v[12:])}"
    return str(ipaddress.ip_address(v))


def _is_ip(cls: Callable[[str], object]) -> Callable[[str], int]:
    def check(s: str) -> int:
        try:
            cls(_octets_without_zeros(s))
        except ValueError:
            return 0
        return 1

    return check


add(Function("inet_aton", 1, 1, fixed([TEXT], BIGINT), SUBJECT, py=_inet_aton, tipb="InetAton"))
add(Function("inet_ntoa", 1, 1, fixed([BIGINT], varchar(15)), SUBJECT, py=_inet_ntoa, tipb="InetNtoa"))
add(Function("inet6_aton", 1, 1, fixed([TEXT], BYTES), SUBJECT, py=_inet6_aton, tipb="Inet6Aton"))
add(Function("inet6_ntoa", 1, 1, fixed([BYTES], varchar(45)), SUBJECT, py=_inet6_ntoa, tipb="Inet6Ntoa"))
add(Function("is_ipv4", 1, 1, fixed([TEXT], BOOL), SUBJECT, py=_is_ip(ipaddress.IPv4Address), tipb="IsIPv4"))
add(Function("is_ipv6", 1, 1, fixed([TEXT], BOOL), SUBJECT, py=_is_ip(ipaddress.IPv6Address), tipb="IsIPv6"))


def _is_embedded_ipv4(prefix: bytes) -> Callable[[bytes], int]:
    return lambda v: int(len(v) == 16 and v.startswith(prefix))


add(Function("is_ipv4_compat", 1, 1, fixed([BYTES], BOOL), SUBJECT, py=_is_embedded_ipv4(_COMPATIBLE)))
add(Function("is_ipv4_mapped", 1, 1, fixed([BYTES], BOOL), SUBJECT, py=_is_embedded_ipv4(_MAPPED)))
add(Function("uuid", 0, 0, fixed([], varchar(36)), SUBJECT, py=lambda: str(uuid.uuid1()),
             duck="CAST(uuid() AS VARCHAR)",             deterministic=False))  # fmt: skip


def _is_uuid(s: str) -> int:
    body = s[1:-1] if s[:1] == "{" and s[-1:] == "}" else s
    hexes = body.replace("-", "")
    plain = len(body) == 32 or (len(body) == 36 and [i for i, c in enumerate(body) if c == "-"] == [8, 13, 18, 23])
    return int(plain and len(hexes) == 32 and all(c in "0123456789abcdefABCDEF" for c in hexes))


_SHORT_UUIDS = itertools.count(int(time.time()) << 24 | (os.getpid() & 0xFF) << 56)
"""MySQL's server id, time of start and counter, with the process for the server."""


def _uuid_version(s: str) -> int:
    if not _is_uuid(s):
        raise InvalidArgument(f"Incorrect string value: '{s}' for function uuid_version", code=1411)
    return int(s.strip("{}").replace("-", "")[12], 16)


def _uuid_timestamp(s: str) -> Decimal | None:
    """Seconds since 1970 of a UUID that has them: of versions 1, 6 and 7."""
    version = _uuid_version(s)
    value = uuid.UUID(s)
    if version == 7:
        return Decimal(value.int >> 80).scaleb(-3)
    if version not in (1, 6):
        return None
    whole = value.time if version == 1 else value.int >> 80 << 12 | value.int >> 64 & 0xFFF
    return Decimal((whole - GREGORIAN_100NS) // 10).scaleb(-6)


add(Function("uuid_short", 0, 0, fixed([], UBIGINT), SUBJECT, py=lambda: next(_SHORT_UUIDS), deterministic=False))
add(Function("uuid_version", 1, 1, fixed([TEXT], BIGINT), SUBJECT, py=_uuid_version))
add(Function("uuid_timestamp", 1, 1, fixed([TEXT], decimal_type(18, 6)), SUBJECT,
             py=lambda s: None if (v := _uuid_timestamp(s)) is None else quantize(v, 6)))  # fmt: skip


def _uuid_to_bin(s: str, swap: int = 0) -> bytes | None:
    if not _is_uuid(s):
        return None
    raw = uuid.UUID(s).bytes
    return raw[6:8] + raw[4:6] + raw[:4] + raw[8:] if swap else raw


def _bin_to_uuid(v: bytes, swap: int = 0) -> str | None:
    if len(v) != 16:
        return None
    return str(uuid.UUID(bytes=v[4:8] + v[2:4] + v[:2] + v[8:] if swap else v))


add(Function("is_uuid", 1, 1, fixed([TEXT], BOOL), SUBJECT, py=_is_uuid, tipb="IsUUID"))
add(Function("uuid_to_bin", 1, 2, fixed([TEXT, BIGINT], BYTES), SUBJECT, py=_uuid_to_bin))
add(Function("bin_to_uuid", 1, 2, fixed([BYTES, BIGINT], varchar(36)), SUBJECT, py=_bin_to_uuid))


_TIME_UNITS = (("d", 86_400e12), ("h", 3_600e12), ("min", 60e12), ("s", 1e12), ("ms", 1e9), ("us", 1e6), ("ns", 1e3))


def _format_pico_time(v: float) -> str:
    for unit, size in _TIME_UNITS:
        if abs(v) >= size:
            return f"{v / size:.2f} {unit}"
    return f"{int(v):3d} ps"


def _format_nano_time(v: float) -> str:
    return _format_pico_time(v * 1000) if abs(v) >= 1000 else f"{int(v):3d} ns"


add(Function("format_pico_time", 1, 1, fixed([DOUBLE], TEXT), SUBJECT, py=_format_pico_time))
add(Function("format_nano_time", 1, 1, fixed([DOUBLE], TEXT), SUBJECT, py=_format_nano_time))


add(Function("tidb_parse_tso_logical", 1, 1, fixed([BIGINT], BIGINT), SUBJECT,
             py=lambda ts: ts & ((1 << LOGICAL_BITS) - 1) if ts > 0 else None))  # fmt: skip


def _type_word(word: Callable[[FieldType], str]) -> Callable[[Sequence[Expr]], Expr]:
    return lambda args: Const(word(args[0].type), varchar(64))


add(Function("charset", 1, 1, fixed([None], varchar(64)), SUBJECT,
             rewrite=_type_word(lambda ft: "utf8mb4" if ft.is_text else "binary")))  # fmt: skip
add(Function("collation", 1, 1, fixed([None], varchar(64)), SUBJECT,
             rewrite=lambda args: Const(collation_of(args[0]) or "binary", varchar(64))))  # fmt: skip


def _coercibility(expr: Expr) -> int:
    """How firmly the collation of an expression is its own: 0 is said by COLLATE, 6 is NULL's."""
    if isinstance(expr, Const) and expr.value is None:
        return 6
    if isinstance(expr, Context):
        return 2 if expr.key[0] == "uservar" else 3 if expr.type.is_string else 5
    if not expr.type.is_string and expr.type.tp != Tp.JSON:
        return 5
    if isinstance(expr, Const | Param):
        return 4
    if explicit_collation(expr):
        return 0
    if isinstance(expr, Call) and expr.func not in ("cast", "convert_using"):
        return min([4, *(_coercibility(_uncast(a)) for a in expr.args)])
    return 2


def _uncast(expr: Expr) -> Expr:
    """An argument without the cast that its function has put around it."""
    implied = isinstance(expr, Call) and expr.func == "cast" and not explicit_collation(expr)
    return expr.args[0] if isinstance(expr, Call) and implied else expr


add(Function("coercibility", 1, 1, fixed([None], BIGINT), SUBJECT,
             rewrite=lambda args: Const(_coercibility(args[0]), BIGINT)))  # fmt: skip


def _name_const(args: Sequence[Expr]) -> Expr:
    name, value = args
    inner = value.args[0] if isinstance(value, Call) and explicit_collation(value) else value
    if not isinstance(name, Const) or not isinstance(name.value, str) or not isinstance(inner, Const):
        raise ResolveError("Incorrect arguments to NAME_CONST", code=1210, sqlstate="HY000")
    return value


add(Function("name_const", 2, 2, fixed([None], TEXT), SUBJECT, rewrite=_name_const))


def _benchmark(call: Call, args: Sequence[Closure]) -> Closure:
    count, expr = args

    def run(row: Sequence[Any], env: Env) -> int | None:
        times = count(row, env)
        if times is None or times < 0:
            if times is not None:
                env.warn(1411, f"Incorrect count value: '{times}' for function benchmark")
            return None
        for i in range(times):
            if i % ROUNDS_BETWEEN_LOOKS == 0 and env.pause(0.0):
                raise Cancelled
            expr(row, env)
        return 0

    return run


add(Function("benchmark", 2, 2, fixed([BIGINT, None], BIGINT), SUBJECT, build=_benchmark, env=True,
             deterministic=False))  # fmt: skip


def _sleep(env: Env, seconds: float) -> int:
    return int(env.pause(max(seconds, 0.0)))


add(Function("sleep", 1, 1, fixed([DOUBLE], BIGINT), SUBJECT, py=_sleep, env=True, deterministic=False, tipb="Sleep"))


# --- the session --------------------------------------------------------------------------------------------------


def _session(name: str, ft: FieldType, *aliases: str) -> None:
    add(Function(name, 0, 0, fixed([], ft), "session", rewrite=lambda args: Context((name,), ft)), *aliases)


_session("database", TEXT, "schema")
_session("version", TEXT)
_session("user", TEXT, "session_user", "system_user")
_session("current_user", TEXT)
add(Function("current_role", 0, 0, fixed([], TEXT), "session", rewrite=lambda args: Const("NONE", TEXT)))
_session("connection_id", UBIGINT)
_session("found_rows", BIGINT)
_session("row_count", BIGINT)


def _assign(env: Env, name: str, value: Any) -> Any:
    """Gives a user variable a value; whoever reads it after that sees it."""
    env.value(("assign",))(name, value)  # type: ignore[operator]
    return value


add(Function("assign_user_variable", 2, 2, lambda args: ((None, None), args[1].type), "session", py=_assign, env=True,
             nulls=True, deterministic=False, syntax="@name := value"))  # fmt: skip


def _last_insert_id(args: Sequence[Expr]) -> Expr:
    from coprocessor.functions.casting import cast_to

    if args:
        return Call("last_insert_id_of", (cast_to(args[0], UBIGINT),), UBIGINT)
    return Context(("last_insert_id",), UBIGINT)


def _remember_id(env: Env, value: int | None) -> int | None:
    env.remember_id(value or 0)
    return value


add(Function("last_insert_id_of", 1, 1, fixed([UBIGINT], UBIGINT), "session", py=_remember_id, nulls=True, env=True,
             deterministic=False, syntax="LAST_INSERT_ID(n)"))  # fmt: skip
add(Function("last_insert_id", 0, 1, fixed([UBIGINT], UBIGINT), "session", rewrite=_last_insert_id))
