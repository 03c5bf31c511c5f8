"""The shape of a catalogue entry and the registry of entries.

An entry (`Function`) carries all forms of one SQL function or operator: the types its arguments are cast to and the
type of its result (`infer`), the Python form of the direct path (`py`, `kernel` or `build`), the DuckDB form
(`duck`) and the tipb signature. Subject files beside this one fill the registry when `coprocessor.functions` is
imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from coprocessor.env import Env
from coprocessor.expr import Agg, Call, Expr, Window
from coprocessor.types import FieldType

if TYPE_CHECKING:
    import pyarrow as pa

Closure: TypeAlias = Callable[[Sequence[Any], Env], Any]
Kernel: TypeAlias = Callable[..., Any]
Inferred: TypeAlias = tuple[tuple[FieldType | None, ...], FieldType]
Infer: TypeAlias = Callable[[Sequence[Expr]], Inferred]


class DuckPrinter(Protocol):
    """The part of `duck_expr.Printer` that catalogue entries call."""

    wide: bool
    pad_safe: bool
    telling: bool
    not_null: frozenset[int]

    def value(self, expr: Expr) -> str: ...
    def condition(self, expr: Expr) -> str: ...
    def operand(self, expr: Expr) -> str: ...
    def comparand(self, expr: Expr, ft: FieldType, order: bool = False) -> str: ...
    def udf(self, call: Call, printed: Sequence[str] | None = None) -> str: ...
    def told(self, call: Call, doubtful: str, text: str) -> str: ...
    def order_key(self, expr: Expr, desc: bool = False) -> str: ...
    def sort_value(self, expr: Expr) -> str: ...
    def group_key(self, expr: Expr) -> str: ...
    def over(self, window: Window) -> str: ...
    def string(self, text: str) -> str: ...
    def share(self, text: str) -> str: ...


Batch: TypeAlias = "Callable[[pa.Array[Any] | pa.ChunkedArray[Any]], pa.Array[Any]]"
Duck: TypeAlias = str | Callable[[DuckPrinter, Call], str | None] | None


@dataclass(frozen=True, slots=True)
class Function:
    """One SQL function or operator with all its forms.

    `max_args` None means any number. Exactly one of these gives the Python form:
    `py`, a function of the argument values; `kernel`, a factory of such a function from the typed call; `build`, a
    factory of the whole closure from the argument closures, for what must not evaluate or see all its arguments alike.
    `py` and kernels are only called with non-NULL values (else the result is NULL) unless `nulls`; with `env` they take
    the `Env` first. `duck` is a template over the printed arguments (`{0}`, `{1}`, `{args}`), a function, or None:
    then DuckDB calls the closure as a UDF: value by value, or with Arrow arrays of its one argument where there is a
    `batch` form, which gives NULL for NULL. `duck_bool` tells that the printed form is a BOOLEAN.
    `precise` functions compute with the hidden digits of quotients (`quotients.py`).
    `rewrite` replaces the call by other nodes when it is resolved; `refine` types the call itself where casting each
    argument is not enough (comparisons with literals).
    """

    name: str
    min_args: int
    max_args: int | None
    infer: Infer
    subject: str
    py: Kernel | None = None
    kernel: Callable[[Call], Kernel] | None = None
    build: Callable[[Call, Sequence[Closure]], Closure] | None = None
    nulls: bool = False
    env: bool = False
    duck: Duck = None
    duck_bool: bool = False
    batch: Callable[[Call], Batch | None] | None = None
    deterministic: bool = True
    precise: bool = False
    tipb: str | Mapping[str, str] | None = None
    rewrite: Callable[[Sequence[Expr]], Expr] | None = None
    refine: Callable[[Sequence[Expr]], Expr] | None = None
    syntax: str = ""


class AggState(Protocol):
    """The running state of one aggregate over one group."""

    def add(self, row: Sequence[Any], env: Env) -> None: ...
    def result(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One aggregate function: `state` makes the factory of its running state, `duck` prints it."""

    name: str
    min_args: int
    max_args: int | None
    infer: Infer
    state: Callable[[Agg, Sequence[Closure]], Callable[[], AggState]]
    duck: Callable[[DuckPrinter, Agg | Window], str]
    tipb: str | None = None


@dataclass(frozen=True, slots=True)
class WindowFunction:
    """One pure window function (aggregates may also be used over windows)."""

    name: str
    min_args: int
    max_args: int
    infer: Infer
    duck: Callable[[DuckPrinter, Window], str]
    framed: bool = False


FUNCTIONS: dict[str, Function] = {}
ALIASES: dict[str, str] = {}
AGGREGATES: dict[str, Aggregate] = {}
WINDOWS: dict[str, WindowFunction] = {}


def add(function: Function, *aliases: str) -> None:
    """Puts an entry into the catalogue; a name is defined once."""
    assert function.name not in FUNCTIONS, function.name
    forms = (function.py, function.kernel, function.build, function.rewrite)
    assert sum(f is not None for f in forms) == 1, f"{function.name}: needs exactly one Python form"
    FUNCTIONS[function.name] = function
    for alias in aliases:
        assert alias not in ALIASES, alias
        assert alias not in FUNCTIONS, alias
        ALIASES[alias] = function.name


def lookup(name: str) -> Function | None:
    """Returns the entry of a function by any of its names, in any case."""
    key = name.lower()
    return FUNCTIONS.get(ALIASES.get(key, key))


def fixed(types: Sequence[FieldType | None], result: FieldType | Callable[[Sequence[Expr]], FieldType]) -> Infer:
    """An inference whose argument types do not depend on the arguments; the last one repeats for further arguments."""

    def infer(args: Sequence[Expr]) -> Inferred:
        wanted = tuple(types[min(i, len(types) - 1)] if types else None for i in range(len(args)))
        return wanted, result(args) if callable(result) else result

    return infer
