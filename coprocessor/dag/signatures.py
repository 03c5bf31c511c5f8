"""tipb's scalar function signatures that are understood: catalogue function, kinds of the arguments and of the result.

A signature in `PUSHED` is one that this side may ask a TiKV server for, because its meaning there is MySQL's and ours;
the others are only answered. Kinds are those of `functions.inference.kind`; those that arguments have here are what
TiKV's vectorised functions take.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvstore.proto import tipb_pb2

KINDS = ("int", "real", "decimal", "string", "time", "duration")


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature. `variadic` repeats the last kind; `signed` wants all integers signed (pushing only).

    CASE alone takes turns: a condition, a value, …, and perhaps a value that is left.
    """

    name: str
    func: str
    args: tuple[str, ...]
    result: str
    variadic: bool = False
    signed: bool = False

    @property
    def deciding(self) -> str:
        """The kind of the argument by which the signature is chosen."""
        return self.args[1 if self.func == "if" else 0]

    def kinds(self, count: int) -> list[str] | None:
        """The kinds of so many arguments; None where it does not take as many."""
        if count < len(self.args) or (count > len(self.args) and not self.variadic):
            return None
        if self.func == "case":
            return ["int" if i % 2 == 0 and i != count - 1 else self.result for i in range(count)]
        return [*self.args, *self.args[-1:] * (count - len(self.args))]


def number_of(name: str) -> int:
    """Returns the number of a signature's name."""
    return int(tipb_pb2.ScalarFuncSig.Value(name))


def name_of(number: int) -> str:
    """Returns what messages call a signature."""
    try:
        return f"{tipb_pb2.ScalarFuncSig.Name(number)} ({number})"
    except ValueError:
        return f"signature {number}"


def _title(kind: str) -> str:
    return kind.capitalize()


def _comparisons() -> list[Signature]:
    words = (("LT", "lt"), ("LE", "le"), ("GT", "gt"), ("GE", "ge"), ("EQ", "eq"), ("NE", "ne"), ("NullEQ", "nulleq"))
    found = [Signature(f"{word}{_title(k)}", func, (k, k), "int") for word, func in words for k in KINDS]
    found += [Signature(f"In{_title(k)}", "in", (k, k), "int", variadic=True) for k in KINDS]
    found += [Signature(f"{_title(k)}IsNull", "isnull", (k,), "int") for k in KINDS]
    return found


def _arithmetic() -> list[Signature]:
    found = []
    for word, func in (("Plus", "plus"), ("Minus", "minus"), ("Multiply", "mul"), ("Mod", "mod")):
        # TiDB asks for no plain ModInt, and what is like its own store does not know it
        names = [f"{word}{_title(k)}{'SignedSigned' if word == 'Mod' and k == 'int' else ''}" for k in KINDS[:3]]
        found += [Signature(n, func, (k, k), k, signed=k == "int") for n, k in zip(names, KINDS[:3], strict=True)]
    found += [Signature("IntDivideInt", "intdiv", ("int", "int"), "int", signed=True)]
    for kind in KINDS[:3]:
        found.append(Signature(f"UnaryMinus{_title(kind)}", "unaryminus", (kind,), kind, signed=kind == "int"))
        found.append(Signature(f"Abs{_title(kind)}", "abs", (kind,), kind, signed=kind == "int"))
    return found


def _logic() -> list[Signature]:
    both = ("int", "int")
    found = [
        Signature("LogicalAnd", "and", both, "int"),
        Signature("LogicalOr", "or", both, "int"),
        Signature("LogicalXor", "xor", both, "int"),
        Signature("BitAndSig", "bitand", both, "int"),
        Signature("BitOrSig", "bitor", both, "int"),
        Signature("BitXorSig", "bitxor", both, "int"),
        Signature("BitNegSig", "bitneg", ("int",), "int"),
    ]
    for kind in KINDS[:3]:
        found.append(Signature(f"UnaryNot{_title(kind)}", "not", (kind,), "int"))
        found.append(Signature(f"{_title(kind)}IsTrue", "istrue", (kind,), "int"))
        found.append(Signature(f"{_title(kind)}IsFalse", "isfalse", (kind,), "int"))
    return found


def _control() -> list[Signature]:
    found = []
    for k in KINDS:
        found.append(Signature(f"IfNull{_title(k)}", "ifnull", (k, k), k))
        found.append(Signature(f"If{_title(k)}", "if", ("int", k, k), k))
        found.append(Signature(f"Coalesce{_title(k)}", "coalesce", (k,), k, variadic=True))
    return found


def _casts() -> list[Signature]:
    pairs = [(a, b) for a in KINDS[:3] for b in KINDS[:3]] + [("time", "time"), ("duration", "duration")]
    return [Signature(f"Cast{_title(a)}As{_title(b)}", "cast", (a,), b) for a, b in pairs]


def _subjects() -> list[Signature]:
    parts = ("Year", "Month", "DayOfMonth", "DayOfWeek", "DayOfYear")
    return [
        *(Signature(name, name.lower(), ("time",), "int") for name in parts),
        Signature("DateDiff", "datediff", ("time", "time"), "int"),
        Signature("Length", "length", ("string",), "int"),
        Signature("CharLengthUTF8", "char_length", ("string",), "int"),
        Signature("Concat", "concat", ("string",), "string", variadic=True),
        Signature("CeilReal", "ceil", ("real",), "real"),
        Signature("FloorReal", "floor", ("real",), "real"),
    ]


LIKE = Signature("LikeSig", "like", ("string", "string", "int"), "int")
_PUSHED = [*_comparisons(), *_arithmetic(), *_logic(), *_control(), *_casts(), *_subjects(), LIKE]
PUSHED: dict[tuple[str, tuple[str, str]], Signature] = {(s.func, (s.deciding, s.result)): s for s in _PUSHED}
"""By catalogue function, the kind that decides and the kind of the result."""
CASE = {kind: Signature(f"CaseWhen{_title(kind)}", "case", ("int", kind), kind, variadic=True) for kind in KINDS}
"""By the kind of the result: the first argument is a condition whatever the values are."""


def _answered() -> list[Signature]:
    """What other clients send and has one of the meanings above."""
    found = []
    for word, func in (("Plus", "plus"), ("Minus", "minus"), ("Mod", "mod"), ("IntDivide", "intdiv")):
        for a in ("Signed", "Unsigned"):
            found += [Signature(f"{word}Int{a}{b}", func, ("int", "int"), "int") for b in ("Signed", "Unsigned")]
    return [
        *found,
        Signature("ModInt", "mod", ("int", "int"), "int"),
        Signature("MultiplyIntUnsigned", "mul", ("int", "int"), "int"),
        Signature("AbsUInt", "abs", ("int",), "int"),
        Signature("DivideReal", "div", ("real", "real"), "real"),
        Signature("DivideDecimal", "div", ("decimal", "decimal"), "decimal"),
        Signature("IntDivideDecimal", "intdiv", ("decimal", "decimal"), "int"),
        Signature("LeftShift", "lshift", ("int", "int"), "int"),
        Signature("RightShift", "rshift", ("int", "int"), "int"),
        Signature("BitCount", "bit_count", ("int",), "int"),
        Signature("Substring2ArgsUTF8", "substring", ("string", "int"), "string"),
        Signature("Substring3ArgsUTF8", "substring", ("string", "int", "int"), "string"),
        Signature("LeftUTF8", "left", ("string", "int"), "string"),
        Signature("RightUTF8", "right", ("string", "int"), "string"),
        Signature("CastIntAsString", "cast", ("int",), "string"),
        Signature("CastDecimalAsString", "cast", ("decimal",), "string"),
        Signature("CastTimeAsString", "cast", ("time",), "string"),
        Signature("CastStringAsInt", "cast", ("string",), "int"),
        Signature("CastStringAsReal", "cast", ("string",), "real"),
        Signature("CastStringAsTime", "cast", ("string",), "time"),
        Signature("CastTimeAsInt", "cast", ("time",), "int"),
    ]


BY_NUMBER: dict[int, Signature] = {number_of(s.name): s for s in (*_answered(), *_PUSHED, *CASE.values())}
TRUTHS = frozenset(number_of(f"{_title(kind)}IsTrueWithNull") for kind in KINDS[:3])
"""x IS TRUE that keeps NULL: x <> 0."""
