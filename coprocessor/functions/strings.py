"""String functions. Positions count characters of text and bytes of binary strings, from 1; negative ones from the
end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from coprocessor.charsets import decode, through
from coprocessor.codec.collation import sort_key as binary_sort_key
from coprocessor.env import Env
from coprocessor.errors import InvalidArgument
from coprocessor.expr import Call, Const, Expr
from coprocessor.functions.collation import alike_batch, is_ci, sort_key, weight_batch, weights
from coprocessor.functions.inference import collate_type, gives_bytes
from coprocessor.functions.registry import Batch, DuckPrinter, Function, Inferred, Kernel, add, fixed
from coprocessor.types import BIGINT, BOOL, BYTES, TEXT, FieldType

SUBJECT = "strings"
MAX_ALLOWED_PACKET = 64 * 1024 * 1024
Text = str | bytes


def _text(arg: Expr) -> FieldType:
    """A string argument: text, unless it is binary already."""
    return BYTES if gives_bytes(arg) else TEXT


def string_infer(first: int, *rest: FieldType | None) -> Callable[[Sequence[Expr]], Inferred]:
    """The first `first` arguments are strings of one kind, which is also the result's; the rest have the given
    types.
    """

    def infer(args: Sequence[Expr]) -> Inferred:
        ft = collate_type(args[:first])
        wanted = tuple(BYTES if ft.is_binary else TEXT for _ in args[:first])
        return (*wanted, *rest)[: len(args)], ft

    return infer


def _all_strings(args: Sequence[Expr]) -> Inferred:
    ft = collate_type(args)
    return tuple(BYTES if ft.is_binary else TEXT for _ in args), ft


def _returns(infer: Callable[[Sequence[Expr]], Inferred], ft: FieldType) -> Callable[[Sequence[Expr]], Inferred]:
    return lambda args: (infer(args)[0], ft)


def text_only(template: str) -> Callable[[DuckPrinter, Call], str | None]:
    """A DuckDB template that counts characters: used for text, the closure for binary strings."""

    def form(p: DuckPrinter, call: Call) -> str | None:
        if any(a.type.is_binary for a in call.args):
            return None
        args = [p.value(a) for a in call.args]
        return template.format(*args, args=", ".join(args))

    return form


def _concat(*values: Text) -> Text:
    empty: Any = values[0][:0]
    joined: Text = empty.join(values)
    return joined


def _concat_duck(p: DuckPrinter, call: Call) -> str:
    return "(" + " || ".join(p.value(a) for a in call.args) + ")"


add(Function("concat", 1, None, _all_strings, SUBJECT, py=_concat, duck=_concat_duck, tipb="Concat"))


def _concat_ws(separator: Any, *values: Any) -> Text | None:
    if separator is None:
        return None
    joined: Text = separator.join([v for v in values if v is not None])
    return joined


add(
    Function(
        "concat_ws",
        2,
        None,
        _all_strings,
        SUBJECT,
        py=_concat_ws,
        nulls=True,
        duck=text_only("CASE WHEN {0} IS NULL THEN NULL ELSE concat_ws({args}) END"),
        tipb="ConcatWS",
    )
)


# --- measures -----------------------------------------------------------------------------------------------------


def _byte_length(v: Text) -> int:
    return len(v) if isinstance(v, bytes) else len(v) if v.isascii() else len(v.encode())


def _length_duck(p: DuckPrinter, call: Call) -> str:
    name = "octet_length" if call.args[0].type.is_binary else "strlen"
    return f"{name}({p.value(call.args[0])})"


_one = string_infer(1)
add(Function("length", 1, 1, _returns(_one, BIGINT), SUBJECT, py=_byte_length, duck=_length_duck, tipb="Length"),
    "octet_length")  # fmt: skip
add(Function("char_length", 1, 1, _returns(_one, BIGINT), SUBJECT, py=len,
             duck=lambda p, c: f"{'octet_length' if c.args[0].type.is_binary else 'length'}({p.value(c.args[0])})",
             tipb="CharLengthUTF8"), "character_length")  # fmt: skip
add(Function("bit_length", 1, 1, _returns(_one, BIGINT), SUBJECT, py=lambda v: _byte_length(v) * 8,
             duck=lambda p, c: f"({_length_duck(p, c)} * 8)", tipb="BitLength"))  # fmt: skip
add(Function("ascii", 1, 1, fixed([BYTES], BIGINT), SUBJECT, py=lambda v: v[0] if v else 0, tipb="ASCII"))


def _ord(v: Text) -> int:
    if not v:
        return 0
    return v[0] if isinstance(v, bytes) else int.from_bytes(v[0].encode(), "big")


add(Function("ord", 1, 1, _returns(_one, BIGINT), SUBJECT, py=_ord, tipb="Ord"))


# --- case ---------------------------------------------------------------------------------------------------------


def _simple_case(upper: bool) -> Callable[[Text], Text]:
    """Maps letter by letter, as MySQL does: a letter whose other case is longer stays."""

    def change(v: Text) -> Text:
        if isinstance(v, bytes):
            return v
        if v.isascii():
            return v.upper() if upper else v.lower()
        return "".join(w if len(w := (c.upper() if upper else c.lower())) == 1 else c for c in v)

    return change


def _upper_duck(p: DuckPrinter, call: Call) -> str:
    text = p.value(call.args[0])
    if call.type.is_binary:
        return text
    # DuckDB gives the sharp s a capital.
    return f"CASE WHEN contains({text}, 'ß') THEN {p.udf(call)} ELSE upper({text}) END"


add(Function("upper", 1, 1, _one, SUBJECT, py=_simple_case(True), duck=_upper_duck,
             tipb="UpperUTF8"), "ucase")  # fmt: skip
add(Function("lower", 1, 1, _one, SUBJECT, py=_simple_case(False),
             duck=lambda p, c: p.value(c.args[0]) if c.type.is_binary else f"lower({p.value(c.args[0])})",
             tipb="LowerUTF8"), "lcase")  # fmt: skip


# --- parts --------------------------------------------------------------------------------------------------------


def _substring(s: Text, start: int, length: int | None = None) -> Text:
    n = len(s)
    if start < 0:
        start += n
    else:
        start -= 1
    if not 0 <= start < n or (length is not None and length <= 0):
        return s[:0]
    return s[start:] if length is None else s[start : start + length]


def _substring_duck(p: DuckPrinter, call: Call) -> str | None:
    """Plain for positive constant positions; else NULL-safe CASEs for MySQL's empty results."""
    if call.type.is_binary:
        return None
    s = p.value(call.args[0])
    start = call.args[1]
    length = call.args[2] if len(call.args) == 3 else None
    if not isinstance(start, Const) or not isinstance(start.value, int) or not 0 < start.value < 2**31:
        return None
    if length is None:
        return f"substring({s}, {start.value})"
    if not isinstance(length, Const) or not isinstance(length.value, int) or not 0 <= length.value < 2**31:
        return None
    return f"substring({s}, {start.value}, {length.value})"


add(Function("substring", 2, 3, string_infer(1, BIGINT, BIGINT), SUBJECT, py=_substring, duck=_substring_duck,
             tipb="Substring3ArgsUTF8"), "substr", "mid")  # fmt: skip


def _side_duck(name: str) -> Callable[[DuckPrinter, Call], str | None]:
    def form(p: DuckPrinter, call: Call) -> str | None:
        n = call.args[1]
        if call.type.is_binary or not isinstance(n, Const) or not isinstance(n.value, int):
            return None
        return f"{name}({p.value(call.args[0])}, {min(max(n.value, 0), 2**31)})"

    return form


add(Function("left", 2, 2, string_infer(1, BIGINT), SUBJECT, py=lambda s, n: s[: max(n, 0)], duck=_side_duck("left"),
             tipb="LeftUTF8"))  # fmt: skip
add(Function("right", 2, 2, string_infer(1, BIGINT), SUBJECT,
             py=lambda s, n: s[max(len(s) - n, 0) :] if n > 0 else s[:0],
             duck=_side_duck("right"), tipb="RightUTF8"))  # fmt: skip


def _substring_index(s: Text, delimiter: Text, count: int) -> Text:
    if not delimiter or count == 0:
        return s[:0]
    parts = s.split(delimiter)  # type: ignore[arg-type]
    kept = parts[:count] if count > 0 else parts[count:]
    return delimiter.join(kept)  # type: ignore[arg-type]


add(Function("substring_index", 3, 3, string_infer(2, BIGINT), SUBJECT, py=_substring_index, tipb="SubstringIndex"))


# --- trimming and padding -----------------------------------------------------------------------------------------


def _trim_kernel(left: bool, right: bool) -> Callable[..., Text]:
    """TRIM([remstr FROM] s): removes whole copies of remstr from the ends."""

    def trim(s: Text, remove: Text | None = None) -> Text:
        gone: Any = (b" " if isinstance(s, bytes) else " ") if remove is None else remove
        if not gone:
            return s
        v: Any = s
        while left and v.startswith(gone):
            v = v[len(gone) :]
        while right and v.endswith(gone):
            v = v[: -len(gone)]
        return v  # type: ignore[no-any-return]

    return trim


def _trim_duck(name: str) -> Callable[[DuckPrinter, Call], str | None]:
    def form(p: DuckPrinter, call: Call) -> str | None:
        if call.type.is_binary:
            return None
        if len(call.args) == 1:
            return f"{name}({p.value(call.args[0])}, ' ')"
        gone = call.args[1]
        if isinstance(gone, Const) and isinstance(gone.value, str) and len(gone.value) == 1:
            return f"{name}({p.value(call.args[0])}, {p.value(gone)})"
        return None

    return form


for _name, _left, _right, _duck in (
    ("trim", True, True, "trim"), ("ltrim", True, False, "ltrim"), ("rtrim", False, True, "rtrim"),
):  # fmt: skip
    add(Function(_name, 1, 2, string_infer(2), SUBJECT, py=_trim_kernel(_left, _right), duck=_trim_duck(_duck),
                 tipb={"trim": "Trim1Arg", "ltrim": "LTrim", "rtrim": "RTrim"}[_name],
                 syntax={"trim": "TRIM([r FROM] s)"}.get(_name, "")))  # fmt: skip


def _pad(left: bool) -> Callable[..., Text | None]:
    def pad(s: Text, n: int, fill: Text) -> Text | None:
        if n < 0 or n > MAX_ALLOWED_PACKET:
            return None
        if n <= len(s):
            return s[:n]
        if not fill:
            return s[:0]
        need = n - len(s)
        padding = (fill * (need // len(fill) + 1))[:need]
        return padding + s if left else s + padding  # type: ignore[operator]

    return pad


def _pad_infer(args: Sequence[Expr]) -> Inferred:
    strings = (args[0], args[2])
    ft = collate_type(strings) if any(a.type.is_string for a in strings) else TEXT
    each = BYTES if ft.is_binary else TEXT
    return (each, BIGINT, each), ft


def _pad_duck(name: str) -> Callable[[DuckPrinter, Call], str | None]:
    def form(p: DuckPrinter, call: Call) -> str | None:
        s, n, fill = call.args
        if call.type.is_binary or not isinstance(n, Const) or not isinstance(fill, Const):
            return None
        if not isinstance(n.value, int) or not 0 <= n.value < 100_000 or not fill.value:
            return None
        return f"{name}({p.value(s)}, {n.value}, {p.value(fill)})"

    return form


for _name in ("lpad", "rpad"):
    add(
        Function(
            _name,
            3,
            3,
            _pad_infer,
            SUBJECT,
            py=_pad(_name == "lpad"),
            duck=_pad_duck(_name),
            tipb=f"{_name.capitalize()}UTF8",
        )
    )


def _repeat(s: Text, n: int) -> Text | None:
    if n > 0 and n * len(s) > MAX_ALLOWED_PACKET:
        return None
    return s * max(n, 0)


add(Function("repeat", 2, 2, string_infer(1, BIGINT), SUBJECT, py=_repeat, tipb="Repeat"))
add(Function("space", 1, 1, fixed([BIGINT], TEXT), SUBJECT, py=lambda n: _repeat(" ", n), tipb="Space"))
add(Function("reverse", 1, 1, _one, SUBJECT, py=lambda s: s[::-1], tipb="ReverseUTF8"))


def _replace(s: Any, old: Any, new: Any) -> Any:
    return s.replace(old, new) if old else s


add(Function("replace", 3, 3, _all_strings, SUBJECT, py=_replace, duck=text_only("replace({0}, {1}, {2})"),
             tipb="Replace"))  # fmt: skip


def _insert(s: Text, position: int, length: int, new: Text) -> Text:
    if not 1 <= position <= len(s):
        return s
    start = position - 1
    if length < 0 or length > len(s) - start:
        length = len(s) - start
    return s[:start] + new + s[start + length :]  # type: ignore[operator]


def _insert_infer(args: Sequence[Expr]) -> Inferred:
    ft = collate_type((args[0], args[3])) if args[0].type.is_string or args[3].type.is_string else TEXT
    each = BYTES if ft.is_binary else TEXT
    return (each, BIGINT, BIGINT, each), ft


add(Function("insert", 4, 4, _insert_infer, SUBJECT, py=_insert, tipb="InsertUTF8"))


# --- search -------------------------------------------------------------------------------------------------------


def _folder(call: Call, n: int = 2) -> Callable[[Any], Any] | None:
    """Returns how strings are folded before they are searched: the _ci collations ignore case."""
    ft = collate_type(call.args[:n])
    return weights(ft.collate).classes if is_ci(ft.collate) and not ft.is_binary else None


def _locate_kernel(call: Call) -> Kernel:
    fold = _folder(call)

    def locate(needle: Any, s: Any, start: int = 1) -> int:
        if start < 1 or start > len(s) + 1:
            return 0
        if fold is not None:
            needle, s = fold(needle), fold(s)
        return int(s.find(needle, start - 1)) + 1

    return locate


def _locate_duck(p: DuckPrinter, call: Call) -> str | None:
    if len(call.args) > 2 or any(a.type.is_binary for a in call.args) or _folder(call) is not None:
        return None
    needle, s = call.args[:2]
    if not isinstance(needle, Const) or not needle.value:
        return None
    return f"instr({p.value(s)}, {p.value(needle)})"


add(Function("locate", 2, 3, _returns(string_infer(2, BIGINT), BIGINT), SUBJECT, kernel=_locate_kernel,
             duck=_locate_duck, tipb="Locate2ArgsUTF8"), "position")  # fmt: skip


def _swap(args: Sequence[Expr]) -> Expr:
    from coprocessor.functions import resolve

    return resolve("locate", (args[1], args[0]))


add(Function("instr", 2, 2, _returns(string_infer(2), BIGINT), SUBJECT, rewrite=_swap))


def _strcmp_kernel(call: Call) -> Kernel:
    key = sort_key(collate_type(call.args)) or (lambda v: v)
    return lambda a, b: (key(a) > key(b)) - (key(a) < key(b))


add(Function("strcmp", 2, 2, _returns(string_infer(2), BIGINT), SUBJECT, kernel=_strcmp_kernel, tipb="Strcmp"))


def _weight_kernel(call: Call) -> Kernel:
    ft = call.args[0].type
    return (lambda v: v) if ft.is_binary else binary_sort_key(ft.collate)


def _alike_kernel(call: Call) -> Kernel:
    return weights(call.args[0].type.collate).alike


def _text_as_it_is(args: Sequence[Expr]) -> tuple[FieldType | None, ...]:
    return (None if args[0].type.is_string else TEXT,)


def _in_batches(of: Callable[[str], Batch]) -> Callable[[Call], Batch | None]:
    return lambda call: of(call.args[0].type.collate) if is_ci(call.args[0].type.collate) else None


add(Function("weight_string", 1, 1, lambda args: (_text_as_it_is(args), BYTES), SUBJECT, kernel=_weight_kernel,
             batch=_in_batches(weight_batch)))  # fmt: skip
add(Function("collation_alike", 1, 1, lambda args: (_text_as_it_is(args), TEXT), SUBJECT, kernel=_alike_kernel,
             batch=_in_batches(alike_batch),
             syntax="what strings have in common that a _ci collation calls equal"))  # fmt: skip


def _find_in_set_kernel(call: Call) -> Kernel:
    key = sort_key(collate_type(call.args)) or (lambda v: v)

    def find(item: Text, items: Text) -> int:
        if not items:
            return 0
        comma: Any = b"," if isinstance(items, bytes) else ","
        if comma in item:
            return 0
        wanted = key(item)
        for i, member in enumerate(items.split(comma), 1):
            if key(member) == wanted:
                return i
        return 0

    return find


add(Function("find_in_set", 2, 2, _returns(string_infer(2), BIGINT), SUBJECT, kernel=_find_in_set_kernel,
             tipb="FindInSet"))  # fmt: skip


# --- regular expressions ------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def compile_regexp(pattern: str, flags: int) -> re.Pattern[str]:
    """Compiles a regular expression; raises InvalidArgument 3685 where it is none."""
    try:
        return re.compile(_posix(pattern), flags)
    except re.error as e:
        raise InvalidArgument(f"Invalid regular expression: {e}", code=3685) from e


_POSIX = {
    "alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z", "space": r"\s",
    "blank": r" \t", "punct": r"!-/:-@\[-`{-~", "xdigit": "0-9A-Fa-f", "cntrl": r"\x00-\x1f\x7f",
}  # fmt: skip


def _posix(pattern: str) -> str:
    for name, chars in _POSIX.items():
        pattern = pattern.replace(f"[:{name}:]", chars)
    return pattern


def _match_flags(call: Call, match_type: Any) -> int:
    flags = re.IGNORECASE if is_ci(collate_type(call.args[:2]).collate) else 0
    for c in match_type or "":
        match c:
            case "c":
                flags &= ~re.IGNORECASE
            case "i":
                flags |= re.IGNORECASE
            case "m":
                flags |= re.MULTILINE
            case "n":
                flags |= re.DOTALL
            case "u":
                pass
            case _:
                raise InvalidArgument("Incorrect arguments to regexp_like")
    return flags


def _regexp_infer(count: int, result: FieldType, *rest: FieldType) -> Callable[[Sequence[Expr]], Inferred]:
    return lambda args: ((*(TEXT for _ in range(count)), *rest)[: len(args)], result)


def _regexp_kernel(call: Call) -> Kernel:
    def regexp(s: str, pattern: str, match_type: str = "") -> int:
        return 1 if compile_regexp(pattern, _match_flags(call, match_type)).search(s) else 0

    return regexp


_SAFE_REGEXP = re.compile(r"(?:[\w\s.^$|()*+?,{}\-\[\]/@:;<>=!&%#~'\"]|\\[.^$|()*+?{}\-\[\]/\\])*", re.ASCII)
_UNSAFE_REGEXP = re.compile(r"\(\?(?!:)|\[:|[*+?}]\+|\{,|\{\d*,?\d{4}")
"""Look-arounds and flags, classes by name, possessive quantifiers, and counts that RE2 refuses or reads as text."""


def _plain_regexp(call: Call) -> str | None:
    """The constant pattern of a call, where RE2 finds what the closure finds but for `$` before a last newline."""
    pattern = call.args[1]
    if not isinstance(pattern, Const) or not isinstance(pattern.value, str):
        return None
    text = pattern.value
    if not _SAFE_REGEXP.fullmatch(text) or _UNSAFE_REGEXP.search(text) or is_ci(collate_type(call.args[:2]).collate):
        return None
    compile_regexp(text, 0)
    return text


def _unless_line_end(p: DuckPrinter, call: Call, pattern: str, form: str, closure: Callable[[], str]) -> str:
    """`form`, and the closure for texts that end with a newline where the pattern has a `$`."""
    if "$" not in pattern:
        return form
    return f"CASE WHEN suffix({p.value(call.args[0])}, chr(10)) THEN {closure()} ELSE {form} END"


def _regexp_duck(p: DuckPrinter, call: Call) -> str | None:
    """RE2 for constant patterns of plain syntax; the others go to the closure."""
    pattern = _plain_regexp(call) if len(call.args) == 2 else None
    if pattern is None:
        return None
    form = f"regexp_matches({p.value(call.args[0])}, {p.value(call.args[1])})"
    return _unless_line_end(p, call, pattern, form, lambda: f"{p.udf(call)} = 1")


add(Function("regexp", 2, 2, _regexp_infer(2, BOOL), SUBJECT, kernel=_regexp_kernel, duck=_regexp_duck, duck_bool=True,
             tipb="RegexpUTF8Sig", syntax="s REGEXP pattern"), "rlike")  # fmt: skip
add(Function("regexp_like", 2, 3, _regexp_infer(3, BOOL), SUBJECT, kernel=_regexp_kernel, duck=_regexp_duck,
             duck_bool=True, tipb="RegexpLikeUTF8Sig"))  # fmt: skip


def _regexp_substr_kernel(call: Call) -> Kernel:
    def substr(s: str, pattern: str, position: int = 1, occurrence: int = 1, match_type: str = "") -> str | None:
        found = _nth_match(call, s, pattern, position, occurrence, match_type)
        return None if found is None else found.group()

    return substr


_OUT_OF_BOUNDS = "Index out of bounds in regular expression search."


def _nth_match(
    call: Call, s: str, pattern: str, position: int, occurrence: int, match_type: str
) -> re.Match[str] | None:
    regexp = compile_regexp(pattern, _match_flags(call, match_type))
    if position < 1 or position > len(s) + 1:
        raise InvalidArgument(_OUT_OF_BOUNDS, code=3686)
    for i, found in enumerate(regexp.finditer(s, position - 1), 1):
        if i >= max(occurrence, 1):
            return found
    return None


def _regexp_instr_kernel(call: Call) -> Kernel:
    def instr(s: str, pattern: str, position: int = 1, occurrence: int = 1, end: int = 0, match_type: str = "") -> int:
        found = _nth_match(call, s, pattern, position, occurrence, match_type)
        return 0 if found is None else (found.end() if end else found.start()) + 1

    return instr


def _regexp_replace_kernel(call: Call) -> Kernel:
    def replace(s: str, pattern: str, new: str, position: int = 1, occurrence: int = 0, match_type: str = "") -> str:
        regexp = compile_regexp(pattern, _match_flags(call, match_type))
        if _last_group(new) > regexp.groups:
            if _nth_match(call, s, pattern, position, occurrence, match_type) is None:
                return s
            raise InvalidArgument(_OUT_OF_BOUNDS, code=3686)
        template = _template(new, r"\\g<\1>")
        if occurrence == 0:
            return s[: position - 1] + regexp.sub(template, s[position - 1 :])
        found = _nth_match(call, s, pattern, position, occurrence, match_type)
        return s if found is None else s[: found.start()] + found.expand(template) + s[found.end() :]

    return replace


def _template(new: str, group: str) -> str:
    """What to put in the place of a match, with `group` for each `$n`; a backslash alone is nothing."""
    return re.sub(r"[$\\](\d)", group, re.sub(r"\\(?!\d)", "", new))


def _last_group(new: str) -> int:
    """The highest group that stands in a replacement."""
    return max(map(int, re.findall(r"[$\\](\d)", new)), default=0)


def _regexp_replace_duck(p: DuckPrinter, call: Call) -> str | None:
    """RE2 where all matches are replaced, by text that is constant. Not where the pattern finds nothing between two
    characters: RE2 doesn't look for that behind a match.
    """
    pattern = _plain_regexp(call) if len(call.args) == 3 else None
    new = call.args[2]
    if pattern is None or not isinstance(new, Const) or not isinstance(new.value, str):
        return None
    regexp = compile_regexp(pattern, 0)
    if regexp.search("") or _last_group(new.value) > regexp.groups:
        return None
    text, found = p.value(call.args[0]), p.value(call.args[1])
    template = p.string(_template(new.value, r"\\\1"))
    form = f"regexp_replace({text}, {found}, {template}, 'g')"
    return _unless_line_end(p, call, pattern, form, lambda: p.udf(call))


add(Function("regexp_substr", 2, 5, _regexp_infer(2, TEXT, BIGINT, BIGINT, TEXT), SUBJECT,
             kernel=_regexp_substr_kernel, tipb="RegexpSubstrUTF8Sig"))  # fmt: skip
add(Function("regexp_instr", 2, 6, _regexp_infer(2, BIGINT, BIGINT, BIGINT, BIGINT, TEXT), SUBJECT,
             kernel=_regexp_instr_kernel, tipb="RegexpInStrUTF8Sig"))  # fmt: skip
add(Function("regexp_replace", 3, 6, _regexp_infer(3, TEXT, BIGINT, BIGINT, TEXT), SUBJECT,
             kernel=_regexp_replace_kernel, duck=_regexp_replace_duck, tipb="RegexpReplaceUTF8Sig"))  # fmt: skip


# --- quoting and sound --------------------------------------------------------------------------------------------


def _quote(s: str | None) -> str:
    if s is None:
        return "NULL"
    table = {"\\": "\\\\", "'": "\\'", "\0": "\\0", "\x1a": "\\Z"}
    return "'" + "".join(table.get(c, c) for c in s) + "'"


add(Function("quote", 1, 1, fixed([TEXT], TEXT), SUBJECT, py=_quote, nulls=True, tipb="Quote"))
_SOUNDS = dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "01230120022455012623010202", strict=True))


def _soundex(s: str) -> str:
    letters = [c for c in s.upper() if c.isalpha()]
    if not letters:
        return ""
    out, last = [letters[0]], _SOUNDS.get(letters[0], "0")
    for c in letters[1:]:
        code = _SOUNDS.get(c, "0")
        if code != "0" and code != last:
            out.append(code)
            last = code
    return "".join(out).ljust(4, "0")


add(Function("soundex", 1, 1, fixed([TEXT], TEXT), SUBJECT, py=_soundex))


def _convert_infer(args: Sequence[Expr]) -> Inferred:
    return (BYTES if args[0].type.is_binary else TEXT, TEXT), TEXT


def _convert(env: Env, value: str | bytes, charset: str) -> str | None:
    if isinstance(value, str):
        return through(value, charset)
    text = decode(value, charset)
    if text is None:
        env.warn(1300, f"Invalid {charset} character string: '{value[:6].hex().upper()}'")
    return text


add(Function("convert_using", 2, 2, _convert_infer, SUBJECT, py=_convert, env=True,
             syntax="CONVERT(s USING charset)"))  # fmt: skip
