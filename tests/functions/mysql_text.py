"""Reads MySQL expressions over literals into typed nodes: enough grammar for the golden files, for tests only."""

from __future__ import annotations

import re
from decimal import Decimal

from coprocessor import types as t
from coprocessor.convert import parse_datetime, parse_duration
from coprocessor.expr import Const, Expr
from coprocessor.functions import cast_to, explicit_cast, resolve
from coprocessor.types import FieldType

TOKEN = re.compile(
    r"""\s*(?:(?P<hex>[xX]'[0-9a-fA-F]*')|(?P<str>'(?:[^'\\]|''|\\.)*')
    |(?P<float>\d+(?:\.\d*)?[eE][-+]?\d+|\.\d+[eE][-+]?\d+)|(?P<dec>\d*\.\d+|\d+\.(?!\d))|(?P<int>\d+)
    |(?P<word>[A-Za-z_][A-Za-z_0-9]*)|(?P<op><=>|<<|>>|<>|!=|<=|>=|->>|->|&&|\|\||[-+*/%(),<>=&|^~!]))""",
    re.VERBOSE,
)
ESCAPES = {"n": "\n", "t": "\t", "0": "\0", "r": "\r", "Z": "\x1a", "b": "\b"}
BINARY = {
    "OR": (1, "or"), "XOR": (2, "xor"), "AND": (3, "and"),
    "=": (5, "eq"), "<=>": (5, "nulleq"), "<>": (5, "ne"), "!=": (5, "ne"), "<": (5, "lt"), "<=": (5, "le"),
    ">": (5, "gt"), ">=": (5, "ge"), "LIKE": (5, "like"), "REGEXP": (5, "regexp"), "IN": (5, "in"), "IS": (5, "is"),
    "NOT": (5, "not"), "BETWEEN": (5, "between"),
    "|": (6, "bitor"), "&": (7, "bitand"), "<<": (8, "lshift"), ">>": (8, "rshift"), "+": (9, "plus"), "-": (9,
    "minus"), "*": (10, "mul"), "/": (10, "div"), "DIV": (10, "intdiv"), "%": (10, "mod"), "MOD": (10, "mod"),
    "^": (11, "bitxor"),
}  # fmt: skip


def text_const(value: str) -> Const:
    return Const(value, t.varchar(len(value)))


def int_const(value: int) -> Const:
    if value < 2**63:
        return Const(value, t.BIGINT)
    return Const(value, t.UBIGINT) if value < 2**64 else decimal_const(str(value))


def decimal_const(text: str) -> Const:
    d = Decimal(text)
    scale = -int(d.as_tuple().exponent)
    return Const(d, t.decimal_type(max(len(d.as_tuple().digits), scale), scale))


class Reader:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        at = 0
        text = text.rstrip()
        while at < len(text):
            m = TOKEN.match(text, at)
            assert m is not None, text[at:]
            assert m.lastgroup is not None
            self.tokens.append((m.lastgroup, m.group(m.lastgroup)))
            at = m.end()
        self.i = 0

    def peek(self, ahead: int = 0) -> str:
        i = self.i + ahead
        return self.tokens[i][1].upper() if i < len(self.tokens) else ""

    def take(self, wanted: str = "") -> tuple[str, str]:
        token = self.tokens[self.i]
        assert not wanted or token[1].upper() == wanted, (wanted, token)
        self.i += 1
        return token

    def skip(self, word: str) -> bool:
        if self.peek() == word:
            self.i += 1
            return True
        return False

    def expr(self, level: int = 0) -> Expr:
        left = self.unary()
        while True:
            op = self.peek()
            if self.i < len(self.tokens) and self.tokens[self.i][0] == "str":
                return left
            rank, name = BINARY.get(op, (-1, ""))
            if rank < max(level, 0):
                return left
            self.i += 1
            if name in ("is", "in", "between", "like", "not", "regexp"):
                left = self.predicate(left, name)
            else:
                left = resolve(name, [left, self.expr(rank + 1)])

    def predicate(self, left: Expr, name: str) -> Expr:
        negated = False
        if name == "not":
            negated, name = True, self.take()[1].lower()
        if name == "is":
            negated = self.skip("NOT")
            what = self.take()[1].lower()
            result = resolve({"null": "isnull", "true": "istrue", "false": "isfalse"}[what], [left])
        elif name == "in":
            self.take("(")
            result = resolve("in", [left, *self.arguments()])
        elif name == "between":
            low = self.expr(6)
            self.take("AND")
            result = resolve("between", [left, low, self.expr(6)])
        else:
            args = [left, self.expr(6)]
            if self.skip("ESCAPE"):
                args.append(self.expr(6))
            result = resolve(name, args)
        return resolve("not", [result]) if negated else result

    def arguments(self) -> list[Expr]:
        out: list[Expr] = []
        while not self.skip(")"):
            out.append(self.expr())
            self.skip(",")
        return out

    def unary(self) -> Expr:
        if self.skip("-"):
            if self.tokens[self.i][0] in ("int", "dec", "float"):
                c = self.unary()
                assert isinstance(c, Const)
                v = c.value
                assert isinstance(v, int | float | Decimal)
                if isinstance(v, int) and c.type.unsigned and v == 2**63:
                    return Const(-v, t.BIGINT)
                return resolve("unaryminus", [c]) if c.type.unsigned else Const(-v, c.type)
            return resolve("unaryminus", [self.expr(12)])
        if self.skip("~"):
            return resolve("bitneg", [self.expr(12)])
        if self.skip("!"):
            return resolve("not", [self.expr(12)])
        if self.peek() == "NOT" and self.tokens[self.i][0] == "word":
            self.i += 1
            return resolve("not", [self.expr(4)])
        return self.atom()

    def atom(self) -> Expr:
        kind, text = self.take()
        match kind:
            case "int":
                return int_const(int(text))
            case "dec":
                return decimal_const(text)
            case "float":
                return Const(float(text), t.DOUBLE)
            case "str":
                return text_const(unquote(text))
            case "hex":
                return Const(bytes.fromhex(text[2:-1]), t.BYTES.with_(flen=(len(text) - 3) // 2))
        if text == "(":
            inner = self.expr()
            self.take(")")
            return inner
        return self.word(text)

    def word(self, text: str) -> Expr:
        name = text.upper()
        following = self.tokens[self.i] if self.i < len(self.tokens) else ("", "")
        if following[0] == "str" and name in ("DATE", "TIMESTAMP", "TIME"):
            self.i += 1
            return temporal_const(name, unquote(following[1]))
        if name in ("NULL", "TRUE", "FALSE"):
            return Const(None, t.NULL) if name == "NULL" else Const(int(name == "TRUE"), t.BOOL)
        if name == "CASE":
            return self.case()
        self.take("(")
        if name == "CAST":
            inner = self.expr()
            self.take("AS")
            target = self.type()
            self.take(")")
            return cast_to(inner, target) if inner.type.tp == t.Tp.NULL else explicit_cast(inner, target)
        if name in ("EXTRACT", "TIMESTAMPDIFF", "TIMESTAMPADD"):
            unit = text_const(self.take()[1].lower())
            self.i += 1
            return resolve(name, [unit, *self.arguments()])
        if name == "TRIM":
            return self.trim()
        args: list[Expr] = []
        while not self.skip(")"):
            if (self.skip("INTERVAL") and self.peek() != "(") or self.tokens[self.i - 1][1].upper() == "INTERVAL":
                args += [self.expr(), text_const(self.take()[1].lower())]
            else:
                args.append(self.expr())
            self.skip(",")
        return resolve(name, args)

    def trim(self) -> Expr:
        side = {"LEADING": "ltrim", "TRAILING": "rtrim", "BOTH": "trim"}.get(self.peek())
        if side is not None:
            self.i += 1
        args = self.list_until_from()
        return resolve(side or "trim", args)

    def list_until_from(self) -> list[Expr]:
        first = self.expr()
        if self.skip("FROM"):
            out = [self.expr(), first]
            self.take(")")
            return out
        self.take(")")
        return [first]

    def case(self) -> Expr:
        args: list[Expr] = []
        operand = None if self.peek() == "WHEN" else self.expr()
        while self.skip("WHEN"):
            test = self.expr()
            args.append(test if operand is None else resolve("eq", [operand, test]))
            self.take("THEN")
            args.append(self.expr())
        if self.skip("ELSE"):
            args.append(self.expr())
        self.take("END")
        return resolve("case", args)

    def type(self) -> FieldType:
        name = self.take()[1].upper()
        sizes: list[int] = []
        if self.skip("("):
            while not self.skip(")"):
                kind, text = self.take()
                if kind == "int":
                    sizes.append(int(text))
        match name:
            case "SIGNED":
                return t.BIGINT
            case "UNSIGNED":
                return t.UBIGINT
            case "DECIMAL":
                return t.decimal_type(sizes[0] if sizes else 10, sizes[1] if len(sizes) > 1 else 0)
            case "CHAR":
                return t.TEXT.with_(flen=sizes[0] if sizes else -1)
            case "BINARY":
                return t.BYTES.with_(flen=sizes[0] if sizes else -1, tp=t.Tp.STRING)
            case "DOUBLE":
                return t.DOUBLE
            case "DATE":
                return t.DATE
            case "DATETIME":
                return t.DATETIME.with_(decimal=sizes[0] if sizes else 0)
            case "TIME":
                return t.DURATION.with_(decimal=sizes[0] if sizes else 0)
        raise AssertionError(name)


def unquote(text: str) -> str:
    body = text[1:-1].replace("''", "'")
    return re.sub(r"\\(.)", lambda m: ESCAPES.get(m[1], m[1] if m[1] not in "%_" else m[0]), body, flags=re.DOTALL)


def temporal_const(name: str, text: str) -> Const:
    frac = len(text.rpartition(".")[2]) if "." in text else 0
    if name == "TIME":
        return Const(parse_duration(text), t.DURATION.with_(decimal=frac))
    dt = parse_datetime(text)
    assert dt is not None, text
    return Const(dt.date(), t.DATE) if name == "DATE" else Const(dt, t.DATETIME.with_(decimal=frac))


def read(text: str) -> Expr:
    """Returns the typed expression of a MySQL text."""
    reader = Reader(text)
    result = reader.expr()
    assert reader.i == len(reader.tokens), (text, reader.tokens[reader.i :])
    return result
