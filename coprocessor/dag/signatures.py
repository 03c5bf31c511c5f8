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
    for word, func in (("Plus", "plus"), ("Minus", "minus"), ("Multiply", "mul")):
        found += [Signature(f"{word}{_title(k)}", func, (k, k), k, signed=k == "int") for k in KINDS[:3]]
    # TiDB asks for no plain ModInt, which its own store does not know
    found += [Signature("ModIntSignedSigned", "mod", ("int", "int"), "int", signed=True)]
    found += [Signature(f"Mod{_title(k)}", "mod", (k, k), k) for k in KINDS[1:3]]
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
        *_numbers(),
        *_texts(),
        *_documents_and_times(),
        Signature("CastIntAsString", "cast", ("int",), "string"),
        Signature("CastStringAsString", "cast", ("string",), "string"),
        Signature("CastDecimalAsString", "cast", ("decimal",), "string"),
        Signature("CastTimeAsString", "cast", ("time",), "string"),
        Signature("CastStringAsInt", "cast", ("string",), "int"),
        Signature("CastStringAsReal", "cast", ("string",), "real"),
        Signature("CastStringAsTime", "cast", ("string",), "time"),
        Signature("CastTimeAsInt", "cast", ("time",), "int"),
    ]


def _numbers() -> list[Signature]:
    reals = ("Sqrt", "Exp", "Log2", "Log10", "Sin", "Cos", "Tan", "Cot", "Asin", "Acos", "Degrees", "Radians")
    return [
        *(Signature(name, name.lower(), ("real",), "real") for name in reals),
        Signature("Log1Arg", "ln", ("real",), "real"),
        Signature("Pow", "pow", ("real", "real"), "real"),
        Signature("Atan1Arg", "atan", ("real",), "real"),
        Signature("Atan2Args", "atan2", ("real", "real"), "real"),
        Signature("Sign", "sign", ("real",), "int"),
        Signature("CeilIntToInt", "ceil", ("int",), "int"),
        Signature("CeilDecToInt", "ceil", ("decimal",), "int"),
        Signature("FloorIntToInt", "floor", ("int",), "int"),
        Signature("FloorDecToInt", "floor", ("decimal",), "int"),
        Signature("RoundInt", "round", ("int",), "int"),
        Signature("RoundReal", "round", ("real",), "real"),
        Signature("RoundDec", "round", ("decimal",), "decimal"),
        Signature("CRC32", "crc32", ("string",), "int"),
        Signature("HexIntArg", "hex", ("int",), "string"),
    ]


def _texts() -> list[Signature]:
    of_text = (
        ("ReverseUTF8", "reverse"),
        ("UpperUTF8", "upper"),
        ("LowerUTF8", "lower"),
        ("Trim1Arg", "trim"),
        ("LTrim", "ltrim"),
        ("RTrim", "rtrim"),
        ("HexStrArg", "hex"),
        ("UnHex", "unhex"),
        ("ToBase64", "to_base64"),
        ("FromBase64", "from_base64"),
        ("MD5", "md5"),
        ("SHA1", "sha1"),
    )
    return [
        *(Signature(name, func, ("string",), "string") for name, func in of_text),
        Signature("ASCII", "ascii", ("string",), "int"),
        Signature("BitLength", "bit_length", ("string",), "int"),
        Signature("Replace", "replace", ("string", "string", "string"), "string"),
        Signature("LpadUTF8", "lpad", ("string", "int", "string"), "string"),
        Signature("RpadUTF8", "rpad", ("string", "int", "string"), "string"),
        Signature("Repeat", "repeat", ("string", "int"), "string"),
        Signature("Space", "space", ("int",), "string"),
        Signature("SubstringIndex", "substring_index", ("string", "string", "int"), "string"),
        Signature("ConcatWS", "concat_ws", ("string", "string"), "string", variadic=True),
        Signature("Elt", "elt", ("int", "string"), "string", variadic=True),
        Signature("SHA2", "sha2", ("string", "int"), "string"),
    ]


def _documents_and_times() -> list[Signature]:
    of_duration = (("Hour", "hour"), ("Minute", "minute"), ("Second", "second"), ("MicroSecond", "microsecond"))
    return [
        Signature("JsonExtractSig", "json_extract", ("json", "string"), "json", variadic=True),
        Signature("JsonUnquoteSig", "json_unquote", ("string",), "string"),
        Signature("JsonLengthSig", "json_length", ("json",), "int"),
        Signature("JsonTypeSig", "json_type", ("json",), "string"),
        *(Signature(name, func, ("duration",), "int") for name, func in of_duration),
        Signature("WeekDay", "weekday", ("time",), "int"),
        Signature("DayName", "dayname", ("time",), "string"),
        Signature("MonthName", "monthname", ("time",), "string"),
        Signature("LastDay", "last_day", ("time",), "time"),
        Signature("ToDays", "to_days", ("time",), "int"),
        Signature("DateFormatSig", "date_format", ("time", "string"), "string"),
    ]


BY_NUMBER: dict[int, Signature] = {number_of(s.name): s for s in (*_PUSHED, *_answered(), *CASE.values())}
TRUTHS = frozenset(number_of(f"{_title(kind)}IsTrueWithNull") for kind in KINDS[:3])
"""x IS TRUE that keeps NULL: x <> 0."""
