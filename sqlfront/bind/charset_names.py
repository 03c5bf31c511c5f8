"""Where an expression names a character set: introducers, CONVERT ... USING, CHARSET() and COLLATION() of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from coprocessor import functions as fn
from coprocessor import types as t
from coprocessor.charsets import CODECS, decode
from coprocessor.expr import Agg, Const, Expr, walk
from sqlfront.bind import literals
from sqlfront.bind.messages import position_of, refuse
from sqlfront.catalog.charsets import check_charset
from sqlfront.errors import error

if TYPE_CHECKING:
    from sqlfront.bind.expr import ExprBinder


def introducer(binder: ExprBinder, node: exp.Introducer) -> Expr:
    """_charset'...' and _charset 0x...: the literal's bytes are read as text of that character set."""
    charset = node.name.lower().removeprefix("_")
    inner = binder.bind(node.expression)
    value = inner.value if isinstance(inner, Const) else None
    if not isinstance(value, str | bytes) or (charset != "binary" and charset not in CODECS):
        check_charset(charset, None, position=position_of(node))
        raise refuse(node)
    data = value if isinstance(value, bytes) else value.encode()
    if charset == "binary":
        return Const(data, t.BYTES)
    text = decode(data, charset)
    if text is None:
        message = f"Invalid {charset} character string: '{data[:6].hex().upper()}'"
        raise error(1300, message, position=position_of(node), sqlstate="HY000")
    return literals.text(text)


def convert_using(inner: Expr, charset: str, node: exp.Expression) -> Expr:
    """CONVERT(inner USING charset)"""
    charset = charset.lower()
    if charset == "binary":
        return fn.cast_to(inner, t.BYTES)
    if charset not in CODECS:
        check_charset(charset, None, position=position_of(node))
        raise refuse(node)
    if charset == "utf8mb4" and not inner.type.is_binary:
        return fn.cast_to(inner, t.TEXT)
    return fn.resolve("convert_using", [inner, literals.text(charset)])


def charset_function(binder: ExprBinder, name: str, args: Sequence[exp.Expression], node: exp.Expression) -> Expr:
    """CHARSET(x), COLLATION(x), COERCIBILITY(x): constants, of what names a character set by that one.

    Over an aggregate they are as many as it, so it stays.
    """
    inner = args[0].unnest() if len(args) == 1 else None
    charset = ""
    if isinstance(inner, exp.Introducer):
        charset = inner.name.lower().removeprefix("_")
    elif isinstance(inner, exp.Cast) and inner.to.this == exp.DataType.Type.CHARACTER_SET:
        charset = str(inner.to.args.get("kind") or "").lower()
    bound = binder.bind_all(args)
    if name == "coercibility" or charset not in CODECS or charset == "utf8mb4":
        told = fn.resolve(name, bound)
    else:
        charset = "utf8mb3" if charset == "utf8" else charset
        told = literals.text(charset if name == "charset" else f"{charset}_bin")
    if any(isinstance(part, Agg) for part in walk(bound[0])):
        return fn.resolve("if", [fn.resolve("isnull", bound), told, told])
    return told
