"""Prints typed expressions as DuckDB SQL: the analytic path's form of every expression.

Text comes from our typed nodes alone. Literals are escaped here, parameters and session values become named
parameters, and a function that DuckDB cannot say with MySQL's meaning becomes a call of its own closure, registered
as a UDF.

A boolean in DuckDB is a BOOLEAN, in MySQL a number: `value()` prints what other expressions and results see (0 and 1 as
BIGINT), `condition()` what stands in WHERE, ON, WHEN.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from coprocessor.codec.collation import pads_space
from coprocessor.env import Env
from coprocessor.errors import CoprocessorError, EvalError, InvalidArgument, OutOfRange, Unsupported
from coprocessor.evaluate import compile_expr, fold
from coprocessor.expr import Agg, Call, Column, Const, Context, Expr, Frame, Param, Subquery, Window
from coprocessor.functions.casts import duck_type
from coprocessor.functions.collation import is_ci, sort_key, sorts_by_alike, weights
from coprocessor.functions.inference import gives_way, type_digits
from coprocessor.functions.registry import AGGREGATES, FUNCTIONS, WINDOWS, Batch
from coprocessor.functions.telling import CONSTANTS_FOR_ROWS, call_tells, tells
from coprocessor.types import BYTES, TEXT, TEXT_COLLATE, FieldType, Tp

if TYPE_CHECKING:
    import duckdb

__all__ = [
    "ENVIRONMENT",
    "Printer",
    "duck_type",
    "is_decimal_overflow",
    "literal",
    "reads_environment",
    "register_udfs",
    "translate_error",
]

ENVIRONMENT = "env"
MICROSECOND = timedelta(microseconds=1)
_OVERFLOW = ("Overflow", "out of range", "to DECIMAL(")
_LITERAL = re.compile(r"-?[0-9.]+|NULL|'(?:[^']|'')*'")
_CODED = re.compile(r"\[(\d{4}) (\w{5})\] (.*)")


def quote_string(text: str) -> str:
    """Returns a DuckDB string literal."""
    if "\0" in text:
        parts = [f"'{p.replace(chr(39), chr(39) * 2)}'" for p in text.split("\0")]
        return "(" + " || chr(0) || ".join(parts) + ")"
    return "'" + text.replace("'", "''") + "'"


def literal(value: Any, ft: FieldType) -> str:
    """Returns the DuckDB literal of a value of a type."""
    if value is None:
        return "NULL" if ft.tp == Tp.NULL else f"CAST(NULL AS {duck_type(ft)})"
    if isinstance(value, bool | int):
        return str(int(value))
    if isinstance(value, Decimal):
        return _decimal_literal(value)
    if isinstance(value, float):
        return f"CAST('{value!r}' AS DOUBLE)"
    if isinstance(value, str):
        return quote_string(value)
    if isinstance(value, bytes):
        return "CAST('" + "".join(f"\\x{b:02X}" for b in value) + "' AS BLOB)"
    if isinstance(value, datetime):
        return f"TIMESTAMP '{value.isoformat(' ')}'"
    if isinstance(value, date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, timedelta):
        return f"CAST({value // MICROSECOND} AS BIGINT)"
    raise Unsupported(f"a literal of type {type(value).__name__}")


def _decimal_literal(value: Decimal) -> str:
    text = format(value, "f")
    digits = len(text.lstrip("-").replace(".", ""))
    if digits > 38:
        raise Unsupported("DECIMAL of more than 38 digits in an analytic query")
    if "." not in text and digits > 9:
        return f"CAST('{text}' AS DECIMAL({digits},0))"
    return text


def _keyed(key: str, ft: FieldType) -> str:
    """A bare number as a key would be the position of a column, any other literal is refused: a cast is neither."""
    return f"CAST({key} AS {duck_type(ft)})" if _LITERAL.fullmatch(key) else key


_NAME = re.compile(r"c\d+|_shared\d+")
_HAND_ON = frozenset({"case", "concat", "if", "ifnull", "coalesce", "nullif", "lower", "upper"})
"""Functions that end as one of their arguments does."""
_CONDITIONAL = frozenset({"case", "if", "ifnull", "coalesce", "nullif", "and", "or", "xor"})
_ARGUMENTS_ONCE = frozenset(
    {
        "case",
        "if",
        "ifnull",
        "coalesce",
        "and",
        "or",
        "xor",
        "not",
        "istrue",
        "isfalse",
        "plus",
        "minus",
        "mul",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
    }
)
"""Functions whose forms evaluate an argument once at most, those that are conditional not without need."""


def _cuts(cast: Call) -> bool:
    """Whether a cast to text may leave the end of a text out."""
    return cast.type.flen >= 0 and not 0 <= cast.args[0].type.flen <= cast.type.flen


class Printer:
    """Prints expressions of one DuckDB statement.

    `column(Column) -> str` names columns (default `c{id}`); `subquery(node) -> str` prints a Subquery node as a
    scalar or boolean SQL expression. `pad_safe` True trims trailing spaces off text that is compared, grouped or made
    distinct: set it when a scanned text value may end in spaces. `wide` True computes decimals in 38 digits
    throughout: slower, for a statement that DuckDB refused with a decimal overflow (see `is_decimal_overflow`).
    `telling` True has values that a form makes nothing of looked at by the closures, which warn or raise as the Env
    says: for a statement that stores its rows.
    `not_null` are ids of columns that are never NULL where they are read (not
    the inner side of an outer join): AVG and COUNT of them share COUNT(*). `folding` False leaves calls
    over constants to DuckDB.

    After printing, `params` maps each named parameter (`p0`, …) to its Param or Context node, and `udfs` maps the
    name of each UDF to the call that it computes, over Column(0), Column(1), … as arguments. Where one of them
    `reads_environment`, the statement has one more parameter, ENVIRONMENT: the key of the execution's Env in the
    mapping that `register_udfs` was given.
    """

    def __init__(
        self,
        *,
        column: Callable[[Column], str] | None = None,
        subquery: Callable[[Subquery], str] | None = None,
        pad_safe: bool = False,
        wide: bool = False,
        telling: bool = False,
        folding: bool = True,
        not_null: Collection[int] = (),
    ) -> None:
        self._column = column or (lambda c: f"c{c.id}")
        self._subquery = subquery
        self.pad_safe = pad_safe
        self.wide = wide
        self.telling = telling
        self.params: dict[str, Param | Context] = {}
        self.udfs: dict[str, Call] = {}
        self._folding = folding
        self.not_null = frozenset(not_null)
        self.trimmed: set[int] | None = None
        """Ids of the columns without a value that ends in a space; None leaves it to `pad_safe`, for all text."""
        self._depth = 0
        self._shared: dict[str, str] | None = None
        self._shares = 0
        self._aggregating = 0

    # --- what occurs many times ---

    @contextmanager
    def sharing(self) -> Iterator[dict[str, str]]:
        """Collects what is shared while the block runs: texts by the names that stand for them in what it prints.

        They are to be computed below it, each below those whose text has its name. Nothing is shared that is not
        computed in any case.
        """
        before, self._shared = self._shared, {}
        try:
            yield self._shared
        finally:
            self._shared = before

    def share(self, text: str) -> str:
        """Returns what may stand for a text that a form uses many times: DuckDB plans each occurrence anew."""
        if self._shared is None or _NAME.fullmatch(text):
            return text
        known = next((name for name, shared in self._shared.items() if shared == text), None)
        if known is None:
            self._shares += 1
            known = f"_shared{self._shares}"
            self._shared[known] = text
        return known

    # --- the two modes ---

    def value(self, expr: Expr) -> str:
        """Prints the expression as a value; a boolean becomes BIGINT 0 or 1."""
        text, is_bool = self._print(expr)
        return f"CAST({text} AS BIGINT)" if is_bool else text

    def condition(self, expr: Expr) -> str:
        """Prints the expression as a BOOLEAN: NULL, or whether it is not zero."""
        text, is_bool = self._print(expr)
        if is_bool:
            return text
        ft = expr.type
        if isinstance(expr, Const) and ft.is_numeric:
            return "NULL" if expr.value is None else "TRUE" if expr.value else "FALSE"
        if ft.tp == Tp.NULL:
            return "CAST(NULL AS BOOLEAN)"
        if not ft.is_numeric:
            from coprocessor.functions.casting import cast_to
            from coprocessor.functions.operators import truth_type

            target = truth_type(expr)
            assert target is not None
            return f"({self.value(cast_to(expr, target))} <> 0)"
        return f"({text} <> 0)"

    def operand(self, expr: Expr) -> str:
        """Prints an operand of arithmetic: small integers are widened to BIGINT, in which MySQL computes."""
        text = self.value(expr)
        ft = expr.type
        if ft.is_integer and (isinstance(expr, Const) or ft.tp != Tp.LONGLONG):
            return f"CAST({text} AS {'UBIGINT' if ft.unsigned else 'BIGINT'})"
        if ft.tp == Tp.FLOAT:
            return f"CAST({text} AS DOUBLE)"
        return text

    def comparand(self, expr: Expr, ft: FieldType, order: bool = False) -> str:
        """Prints a value so that DuckDB compares, groups and distinguishes it as the collation of `ft` does.

        What is printed for `order` sorts, too; it does not compare with what is printed without.
        """
        text = self.value(expr)
        if not expr.type.is_string or not ft.is_string or ft.is_binary:
            return text
        if is_ci(ft.collate):
            return self._weighed(expr, ft.collate, text, order and not sorts_by_alike(ft.collate))
        if isinstance(expr, Const) and isinstance(expr.value, str):
            key = sort_key(ft)
            return text if key is None else quote_string(key(expr.value))
        return f"rtrim({text}, ' ')" if pads_space(ft.collate) and not self.is_trimmed(expr) else text

    def _weighed(self, expr: Expr, collate: str, text: str, order: bool) -> str:
        """Prints what stands for the weights of a text: DuckDB's own folding of ASCII, for the rest our function."""
        pads = pads_space(collate)
        if isinstance(expr, Const) and isinstance(expr.value, str):
            value = expr.value.rstrip(" ") if pads else expr.value
            table = weights(collate)
            return literal(table.key(value), BYTES) if order else quote_string(table.alike(value))
        if pads and not self.is_trimmed(expr):
            text = f"rtrim({text}, ' ')"
        typed = Column(0, expr.type.with_(collate=collate))
        if order:
            return self.udf(Call("weight_string", (typed,), BYTES), [text])
        fold = "upper" if sorts_by_alike(collate) else "lower"
        rest = self.udf(Call("collation_alike", (typed,), TEXT), [text])
        return f"CASE WHEN strlen({text}) = length({text}) THEN {fold}({text}) ELSE {rest} END"

    def is_trimmed(self, expr: Expr) -> bool:
        """Whether no value of a string expression ends in a space."""
        if self.trimmed is None:
            return not self.pad_safe
        if expr.type.is_binary or expr.type.tp == Tp.BIT:  # nobody looked at how these end
            return False
        match expr:
            case Column():
                return expr.id in self.trimmed
            case Const():
                return not str(expr.value).endswith(" ")
            case Agg():
                return expr.func in ("min", "max", "any_value") and self.is_trimmed(expr.args[0])
            case Call() if expr.func in _HAND_ON or (expr.func == "cast" and not _cuts(expr)):
                texts = [arg for arg in expr.args if arg.type.is_string or arg.type.tp == Tp.BIT]
                return all(self.is_trimmed(text) for text in texts)
            case _:
                return False

    def group_key(self, expr: Expr) -> str:
        """Prints a GROUP BY, PARTITION BY or DISTINCT key."""
        return _keyed(self.comparand(expr, expr.type), expr.type)

    def order_key(self, expr: Expr, desc: bool = False) -> str:
        """Prints an ORDER BY key: NULLs first ascending, last descending; ENUM and SET by number."""
        return f"{_keyed(self.sort_value(expr), expr.type)} {'DESC NULLS LAST' if desc else 'ASC NULLS FIRST'}"

    def sort_value(self, expr: Expr) -> str:
        """Prints what rows are ordered by."""
        ft = expr.type
        if ft.tp == Tp.JSON:
            return self.value(Call("json_sort_key", (expr,), BYTES))
        if ft.tp == Tp.ENUM and ft.elems:
            members = ", ".join(quote_string(e) for e in ft.elems)
            return f"list_position([{members}], {self.value(expr)})"
        if ft.tp == Tp.SET and ft.elems:
            text = self.value(expr)
            bits = " + ".join(
                f"CASE WHEN list_contains(string_split({text}, ','), {quote_string(e)}) THEN {1 << i} ELSE 0 END"
                for i, e in enumerate(ft.elems)
            )
            return f"CASE WHEN {text} IS NULL THEN NULL ELSE {bits} END"
        return self.comparand(expr, ft, order=True)

    def string(self, text: str) -> str:
        """Prints a string literal."""
        return quote_string(text)

    # --- nodes ---

    def _print(self, expr: Expr) -> tuple[str, bool]:
        """Returns the text and whether it is a BOOLEAN in DuckDB."""
        match expr:
            case Const():
                return literal(expr.value, expr.type), False
            case Column():
                return self._column(expr), False
            case Param() | Context():
                return self._parameter(expr), False
            case Call():
                return self._call(expr)
            case Agg():
                self._aggregating += 1
                try:
                    return AGGREGATES[expr.func].duck(self, expr), False
                finally:
                    self._aggregating -= 1
            case Window():
                if expr.func in WINDOWS:
                    return WINDOWS[expr.func].duck(self, expr), False
                return AGGREGATES[expr.func].duck(self, expr), False
            case Subquery():
                if self._subquery is None:
                    raise Unsupported("a subquery here")
                return self._subquery(expr), expr.kind != "scalar"

    def _parameter(self, node: Param | Context) -> str:
        name = next((n for n, known in self.params.items() if known == node), f"p{len(self.params)}")
        self.params[name] = node
        return f"CAST(${name} AS {duck_type(node.type)})"

    def _call(self, call: Call) -> tuple[str, bool]:
        if self._depth == 0 and self._folding:
            folded = fold(call)
            if not isinstance(folded, Call):
                return self._print(folded)
            call = folded
        self._depth += 1
        shared = self._shared
        if self._aggregating or call.func in _CONDITIONAL:
            # rows are below the groups; and an argument may be one that must not be computed
            self._shared = None
        try:
            return self._form(call)
        finally:
            self._depth -= 1
            self._shared = shared

    def _form(self, call: Call) -> tuple[str, bool]:
        function = FUNCTIONS[call.func]
        form = function.duck
        if isinstance(form, str):
            args = [self.operand(a) for a in call.args]
            return form.format(*args, args=", ".join(args)), function.duck_bool
        if self.telling and call.func not in _ARGUMENTS_ONCE and any(map(tells, call.args)):
            form = None  # it may print an argument several times, which would tell as often
        text = None if form is None else form(self, call)
        if text is None:
            return self.udf(call), False
        return text, function.duck_bool

    def udf(self, call: Call, printed: Sequence[str] | None = None) -> str:
        """Prints the call of the function's own closure and notes the UDF.

        `printed` are the texts of the arguments that are no constants, where the caller has printed them.
        """
        args: list[Expr] = []
        signature: list[Expr] = []
        firm = {a.type.collate or TEXT_COLLATE for a in call.args if a.type.is_text and not gives_way(a)}
        for arg in call.args:
            if isinstance(arg, Const):
                signature.append(arg)
            else:
                yields = len(firm) == 1 and arg.type.is_text and gives_way(arg)  # which a column would not
                signature.append(Column(len(args), arg.type.with_(collate=min(firm)) if yields else arg.type))
                args.append(arg)
        node = Call(call.func, tuple(signature), call.type)
        digest = hashlib.sha1(repr(node).encode(), usedforsecurity=False).hexdigest()[:12]
        name = f"mysql_{call.func}_{digest}"
        self.udfs[name] = node
        texts = [self.value(a) for a in args] if printed is None else printed
        texts = [f"CAST({text} AS {udf_type(a.type)})" for text, a in zip(texts, args, strict=True)]
        if reads_environment(call):
            texts.insert(0, f"CAST(${ENVIRONMENT} AS BIGINT)")
        text = f"{name}({', '.join(texts)})"
        if call.type.is_decimal and udf_type(call.type) == "VARCHAR":
            return f"CAST({text} AS {duck_type(call.type)})"
        return text

    def told(self, call: Call, doubtful: str, text: str) -> str:
        """Prints a form so that the closure gets to see what it would be silent about: what is `doubtful`, a condition
        that may be NULL for NULL."""
        if not self.telling or not call_tells(call):
            return text
        return f"CASE WHEN {doubtful} THEN {self.udf(call)} ELSE {text} END"

    def over(self, window: Window) -> str:
        """Prints the OVER clause."""
        parts: list[str] = []
        if window.partition_by:
            parts.append("PARTITION BY " + ", ".join(self.group_key(e) for e in window.partition_by))
        if window.order_by:
            parts.append("ORDER BY " + ", ".join(self.order_key(k.expr, k.desc) for k in window.order_by))
        if window.frame is not None and (window.func in AGGREGATES or WINDOWS[window.func].framed):
            clock = bool(window.order_by) and window.order_by[0].expr.type.tp == Tp.DURATION
            parts.append(self._frame(window.frame, clock=clock))
        return f" OVER ({' '.join(parts)})"

    def _frame(self, frame: Frame, *, clock: bool) -> str:
        """A frame; `clock` tells that it is over a TIME, which is microseconds here."""
        bounds = zip((frame.start, frame.end), frame.units, strict=True)
        start, end = (self._bound(kind, expr, unit, clock=clock) for (kind, expr), unit in bounds)
        return f"{frame.unit.upper()} BETWEEN {start} AND {end}"

    def _bound(self, kind: str, expr: Expr | None, unit: str, *, clock: bool) -> str:
        words = {
            "unbounded_preceding": "UNBOUNDED PRECEDING", "unbounded_following": "UNBOUNDED FOLLOWING",
            "current": "CURRENT ROW",
        }  # fmt: skip
        if kind in words:
            return words[kind]
        if expr is None:
            raise Unsupported(f"a window frame bound {kind!r} without an offset")
        text = self.value(expr)
        if unit:
            text = f"to_{unit}s({text})"
            text = f"epoch_us({text})" if clock else text
        return f"{text} {kind.upper()}"

    # --- values of parameters ---

    def bind(self, env: Env, key: int = 0) -> dict[str, Any]:
        """Returns the named parameters' values for one execution, as DuckDB takes them; `key` is that of `env` in the
        mapping of environments.
        """
        out: dict[str, Any] = {ENVIRONMENT: key} if any(map(reads_environment, self.udfs.values())) else {}
        for name, node in self.params.items():
            value = env.params[node.index] if isinstance(node, Param) else env.value(node.key)
            out[name] = value // MICROSECOND if isinstance(value, timedelta) else value
        return out


def udf_type(ft: FieldType) -> str:
    """Returns the DuckDB type in which a UDF takes or gives values of a SQL type: decimals over 38 digits go as
    text.
    """
    if ft.tp == Tp.NULL:
        return "VARCHAR"
    if ft.is_decimal and type_digits(ft)[0] > 38:
        return "VARCHAR"
    return duck_type(ft)


def reads_environment(call: Call) -> bool:
    """True for calls whose closure may look at its Env: the zone, the SQL mode, the warning sink."""
    function = FUNCTIONS[call.func]
    return function.env or function.build is not None


def register_udfs(
    connection: duckdb.DuckDBPyConnection, udfs: Mapping[str, Call], environments: Mapping[int, Env]
) -> None:
    """Registers the UDFs of a printed statement on a DuckDB instance; those already there are left.

    One registration serves every session: a UDF that reads its environment takes the key of the execution's Env in
    `environments` as its first argument.
    """
    import duckdb

    for name, call in udfs.items():
        columns = [a for a in call.args if isinstance(a, Column)]
        form = FUNCTIONS[call.func].batch
        batch = None if form is None else form(call)
        may_fold = FUNCTIONS[call.func].deterministic and (columns or call.func not in CONSTANTS_FOR_ROWS)
        try:
            connection.create_function(
                name,
                _udf_body(call, columns, environments) if batch is None else _unannotated(batch),
                ["BIGINT"] * reads_environment(call) + [udf_type(c.type) for c in columns],
                udf_type(call.type),
                null_handling="special",
                type="native" if batch is None else "arrow",
                side_effects=not may_fold,  # then DuckDB does not compute it ahead of the rows
            )
        except duckdb.NotImplementedException as e:
            if "already" not in str(e):
                raise
        except duckdb.CatalogException as e:
            if "already" not in str(e):
                raise


def _unannotated(batch: Batch) -> Callable[..., Any]:
    """DuckDB evaluates the annotations of a function in its module, which need not know their names."""
    return lambda values: batch(values)


_NO_ENVIRONMENT = Env()


def _udf_body(call: Call, columns: list[Column], environments: Mapping[int, Env]) -> Callable[..., Any]:
    with_env = reads_environment(call)
    evaluate = compile_expr(call, {c.id: i + with_env for i, c in enumerate(columns)})

    def closure(row: Sequence[Any]) -> Any:
        try:
            return evaluate(row, environments[row[0]] if with_env else _NO_ENVIRONMENT)
        except CoprocessorError as e:
            # DuckDB hands on an exception's text alone; translate_error reads the code back from it
            raise EvalError(f"[{e.code} {e.sqlstate}] {e}") from e

    inward = [None] * with_env + [_inward(c.type) for c in columns]
    outward = _outward(call.type)
    if not any(inward) and outward is None:
        return _fixed_arity(len(inward), closure)

    def run(row: tuple[Any, ...]) -> Any:
        values = [v if f is None or v is None else f(v) for f, v in zip(inward, row, strict=True)]
        result = closure(values)
        return result if outward is None or result is None else outward(result)

    return _fixed_arity(len(inward), run)


def _fixed_arity(n: int, run: Callable[[tuple[Any, ...]], Any]) -> Callable[..., Any]:
    """DuckDB counts a UDF's parameters by its signature and refuses variadic ones."""

    def body(*args: Any) -> Any:
        return run(args)

    kind = inspect.Parameter.POSITIONAL_ONLY
    body.__signature__ = inspect.Signature([inspect.Parameter(f"a{i}", kind) for i in range(n)])  # type: ignore[attr-defined]
    return body


def _inward(ft: FieldType) -> Callable[[Any], Any] | None:
    if ft.tp == Tp.DURATION:
        return lambda v: timedelta(microseconds=v)
    if ft.is_decimal:
        return Decimal if udf_type(ft) == "VARCHAR" else None
    return None


def _outward(ft: FieldType) -> Callable[[Any], Any] | None:
    if ft.tp == Tp.DURATION:
        return lambda v: v // MICROSECOND
    if ft.is_decimal and udf_type(ft) == "VARCHAR":
        return lambda v: format(v, "f")
    return None


def is_decimal_overflow(error: Exception) -> bool:
    """True for DuckDB errors that printing with `wide` may cure."""
    text = str(error)
    return ("DECIMAL" in text or "HUGEINT" in text) and ("Overflow in" in text or "out of range" in text)


def translate_error(error: Exception) -> CoprocessorError:
    """Returns the typed layer's error for a DuckDB error that a value caused."""
    if isinstance(error, CoprocessorError):
        return error
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    cause = error.__cause__
    if isinstance(cause, CoprocessorError):
        return cause
    coded = _CODED.search(str(error))
    if coded is not None:
        code = int(coded[1])
        if code in (1264, 1690):
            return OutOfRange(coded[3], code=code)
        return InvalidArgument(coded[3], code=code, sqlstate=coded[2])
    name = type(error).__name__
    if name == "OutOfRangeException" or any(w in text for w in _OVERFLOW):
        return OutOfRange(f"value is out of range: {text}", code=1690)
    if name in ("ConversionException", "InvalidInputException"):
        return InvalidArgument(text, code=1292, sqlstate="22007")
    return EvalError(text)
