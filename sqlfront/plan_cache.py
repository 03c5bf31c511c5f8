"""What a session keeps of a statement to run it again, and the forms that its parameters take."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlfront.errors import ProgrammingError

if TYPE_CHECKING:
    from sqlfront.catalog.model import Schema
    from sqlfront.exec.statement import Executable
    from sqlfront.result import Result
    from sqlfront.session import Session

_PLAIN_TYPES = frozenset({str, float, bytes, type(None), dt.date, dt.datetime, dt.timedelta})


class CachedPlan:
    """An executable and what it is good for.

    `row_count` and `found_rows` are what ROW_COUNT() and FOUND_ROWS() give after it; None where the session counts.
    """

    __slots__ = ("convert", "executable", "found_rows", "names", "row_count", "run", "schema", "types")

    def __init__(
        self,
        executable: Executable,
        schema: Schema,
        types: tuple[type, ...],
        names: tuple[str, ...],
        convert: Callable[[Sequence[Any]], tuple[Any, ...] | None] | None,
        row_count: int | None = None,
        found_rows: int | None = None,
    ) -> None:
        self.executable = executable
        self.run = executable.run
        self.schema = schema
        self.types = types
        self.names = names
        self.convert = convert
        self.row_count = row_count
        self.found_rows = found_rows


class _Nothing:
    """What a statement ran that could not be run."""

    any_integer = False

    def run(self, session: Session, params: tuple[Any, ...]) -> Result:
        raise AssertionError("nothing to run")


def no_plan(schema: Schema, row_count: int | None = -1, found_rows: int | None = None) -> CachedPlan:
    """What stands for a statement that failed before it ran, and for one that found nothing."""
    return CachedPlan(_Nothing(), schema, (), (), None, row_count, found_rows)


def named(params: Sequence[object] | Mapping[str, object] | None, names: tuple[str, ...]) -> tuple[Any, ...] | None:
    if not isinstance(params, Mapping):
        return None
    missing = [n for n in names if n not in params]
    if missing:
        raise ProgrammingError(f"no value for parameter {missing[0]!r}", 1210, "HY000")
    return tuple([params[n] for n in names])


def converter(types: tuple[type, ...]) -> Callable[[Sequence[Any]], tuple[Any, ...] | None] | None:
    """What brings parameters to the forms that plans compute with; None for a row that needs a plan of its own."""
    if all(t in _PLAIN_TYPES for t in types):
        return None
    ints = [i for i, t in enumerate(types) if t is int]
    if all(t is int or t in _PLAIN_TYPES for t in types):

        def check(row: Sequence[Any]) -> tuple[Any, ...] | None:
            for i in ints:
                if not -0x8000000000000000 <= row[i] <= 0x7FFFFFFFFFFFFFFF:
                    return None
            return row  # type: ignore[return-value]

        return check
    if any(t is Decimal for t in types):
        return lambda row: None

    def convert(row: Sequence[Any]) -> tuple[Any, ...] | None:
        for i in ints:
            if not -0x8000000000000000 <= row[i] <= 0x7FFFFFFFFFFFFFFF:
                return None
        return normalised(row)

    return convert


def normalised(row: Sequence[Any]) -> tuple[Any, ...]:
    from sqlfront.bind import literals

    return tuple([literals.parameter(v, literals.type_of(v)) for v in row])
