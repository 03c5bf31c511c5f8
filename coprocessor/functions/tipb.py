"""Which tipb scalar function signature, if any, a typed call has on a TiKV server.

Entries name signatures (`Function.tipb`); the numbers are those of tipb's `ScalarFuncSig`. Only signatures whose
meaning on a server equals ours may be listed here, so this table is also the allow-list of push-down.
"""

from __future__ import annotations

from coprocessor.expr import Call
from coprocessor.functions.casts import cast_signature
from coprocessor.functions.inference import kind
from coprocessor.functions.registry import AGGREGATES, FUNCTIONS

SIGNATURES: dict[str, int] = {
    "CastIntAsInt": 1, "CastIntAsReal": 2, "CastIntAsString": 3, "CastIntAsDecimal": 4, "CastIntAsTime": 5,
    "CastIntAsDuration": 6, "CastRealAsInt": 10, "CastRealAsReal": 11, "CastRealAsString": 12, "CastRealAsDecimal": 13,
    "CastDecimalAsInt": 20, "CastDecimalAsReal": 21, "CastDecimalAsString": 22, "CastDecimalAsDecimal": 23,
    "CastStringAsInt": 30, "CastStringAsReal": 31, "CastStringAsString": 32, "CastStringAsDecimal": 33,
    "CastStringAsTime": 34, "CastStringAsDuration": 35, "CastTimeAsInt": 40, "CastTimeAsReal": 41,
    "CastTimeAsString": 42, "CastTimeAsDecimal": 43, "CastTimeAsTime": 44, "CastTimeAsDuration": 45,
    "CastDurationAsInt": 50, "CastDurationAsReal": 51, "CastDurationAsString": 52, "CastDurationAsDecimal": 53,
    "CastDurationAsDuration": 55, "LTInt": 100, "LTReal": 101, "LTDecimal": 102, "LTString": 103, "LTTime": 104,
    "LTDuration": 105, "LEInt": 110, "LEReal": 111, "LEDecimal": 112, "LEString": 113, "LETime": 114, "LEDuration": 115,
    "GTInt": 120, "GTReal": 121, "GTDecimal": 122, "GTString": 123, "GTTime": 124, "GTDuration": 125,
    "GEInt": 130, "GEReal": 131, "GEDecimal": 132, "GEString": 133, "GETime": 134, "GEDuration": 135,
    "EQInt": 140, "EQReal": 141, "EQDecimal": 142, "EQString": 143, "EQTime": 144, "EQDuration": 145,
    "NEInt": 150, "NEReal": 151, "NEDecimal": 152, "NEString": 153, "NETime": 154, "NEDuration": 155,
    "NullEQInt": 160, "NullEQReal": 161, "NullEQDecimal": 162, "NullEQString": 163, "NullEQTime": 164,
    "NullEQDuration": 165,
    "PlusReal": 200, "PlusDecimal": 201, "PlusInt": 203, "MinusReal": 204, "MinusDecimal": 205, "MinusInt": 207,
    "MultiplyReal": 208, "MultiplyDecimal": 209, "MultiplyInt": 210, "MultiplyIntUnsigned": 218, "DivideReal": 211,
    "DivideDecimal": 212, "IntDivideInt": 213, "IntDivideDecimal": 214, "ModReal": 215, "ModDecimal": 216,
    "AbsInt": 2101, "AbsReal": 2103, "AbsDecimal": 2104, "CeilIntToInt": 2106, "CeilDecToInt": 2107, "CeilReal": 2109,
    "FloorIntToInt": 2111, "FloorDecToInt": 2113, "FloorReal": 2114, "Sign": 2140, "Sqrt": 2141, "CRC32": 2139,
    "LogicalAnd": 3101, "LogicalOr": 3102, "LogicalXor": 3103, "UnaryNotInt": 3104, "UnaryNotDecimal": 3105,
    "UnaryNotReal": 3106, "UnaryMinusInt": 3108, "UnaryMinusReal": 3109, "UnaryMinusDecimal": 3110,
    "DecimalIsNull": 3111, "DurationIsNull": 3112, "RealIsNull": 3113, "StringIsNull": 3114, "TimeIsNull": 3115,
    "IntIsNull": 3116, "BitAndSig": 3118, "BitOrSig": 3119, "BitXorSig": 3120, "BitNegSig": 3121, "IntIsTrue": 3122,
    "RealIsTrue": 3123, "DecimalIsTrue": 3124, "IntIsFalse": 3125, "RealIsFalse": 3126, "DecimalIsFalse": 3127,
    "LeftShift": 3129, "RightShift": 3130, "BitCount": 3128,
    "InInt": 4001, "InReal": 4002, "InDecimal": 4003, "InString": 4004, "InTime": 4005, "InDuration": 4006,
    "IfNullInt": 4101, "IfNullReal": 4102, "IfNullDecimal": 4103, "IfNullString": 4104, "IfNullTime": 4105,
    "IfNullDuration": 4106, "IfInt": 4107, "IfReal": 4108, "IfDecimal": 4109, "IfString": 4110, "IfTime": 4111,
    "IfDuration": 4112, "CoalesceInt": 4201, "CoalesceReal": 4202, "CoalesceDecimal": 4203, "CoalesceString": 4204,
    "CoalesceTime": 4205, "CoalesceDuration": 4206, "CaseWhenInt": 4208, "CaseWhenReal": 4209, "CaseWhenDecimal": 4210,
    "CaseWhenString": 4211, "CaseWhenTime": 4212, "CaseWhenDuration": 4213, "LikeSig": 4310,
    "DateDiff": 6003, "Month": 6017, "DayOfMonth": 6022, "DayOfWeek": 6023, "DayOfYear": 6024,
    "Year": 6029, "Length": 7029, "CharLengthUTF8": 7005, "Concat": 7006,
}  # fmt: skip
_VARIANTS = {"MultiplyInt": "MultiplyIntUnsigned"}


def tipb_signature(call: Call) -> tuple[str, int] | None:
    """Returns the (name, number) of the signature that evaluates the call on a server; None where none does."""
    entry = FUNCTIONS[call.func].tipb
    if call.func == "cast":
        name: str | None = cast_signature(call)
    elif isinstance(entry, str) or entry is None:
        name = entry
    else:
        name = entry.get(_deciding_kind(call))
    if name in _VARIANTS and call.type.unsigned:
        name = _VARIANTS[name]
    return None if name is None or name not in SIGNATURES else (name, SIGNATURES[name])


def _deciding_kind(call: Call) -> str:
    """CASE, IF and COALESCE are chosen by what they return, the others by their first argument."""
    if call.func in ("case", "if", "ifnull", "coalesce"):
        return kind(call.type)
    kinds = [kind(a.type) for a in call.args]
    first = next((k for k in kinds if k != "null"), "int")
    return first if all(k in (first, "null") for k in kinds) else "mixed"


def tipb_aggregate(name: str) -> str | None:
    """Returns the ExprType's name of an aggregate on a server; None where there is none."""
    return AGGREGATES[name].tipb
