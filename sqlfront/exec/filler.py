"""What a row that is written gets for each column: converted values, defaults, and what its other columns make."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any

from coprocessor.evaluate import Closure, Env, compile_expr
from coprocessor.types import Tp
from coprocessor.values import Caster, compile_caster
from sqlfront.bind.defaults import default_exprs, late_defaults
from sqlfront.catalog.model import Column, Table
from sqlfront.errors import ER_BAD_NULL, ER_NO_DEFAULT_FOR_FIELD, error
from sqlfront.exec.constraints import compile_checks
from sqlfront.exec.generated import compile_generated


class ColumnFiller:
    """Makes stored values: assignment conversion, defaults, NOT NULL. Compiled once per plan; lenient for IGNORE."""

    def __init__(
        self, table: Table, tz: dt.tzinfo, *, strict: bool, warn: Callable[[int, str], None] | None = None
    ) -> None:
        self.table = table
        self.tz = tz
        self.strict = strict
        self.warn = warn
        self.casters: list[Caster] = [compile_caster(c, strict=strict, warn=warn, tz=tz) for c in table.schema.columns]
        self.not_null = [c.not_null for c in table.columns]
        self.generated = compile_generated(table)
        self.checks = compile_checks(table)
        computed = any(c.default.kind == "expr" for c in table.columns)
        self._defaults: dict[int, Closure] = {}
        self.late: tuple[int, ...] = tuple(sorted(late_defaults(table))) if computed else ()
        """The columns whose DEFAULT reads the rest of the row, in the order in which they are computed."""

        self.completes = self.generated is not None or self.checks is not None

    def complete(self, row: list[Any], env: Env, number: int = 1) -> None:
        """What is left to do when the rest of a row is known: generated columns, CHECK."""
        if self.generated is not None:
            self.generated.complete(row, self, env, number)
        if self.checks is not None:
            self.checks.verify(row, env)

    def cast(self, offset: int, value: Any, row: int) -> Any:
        """Converts a value to its column; NULL in a NOT NULL column is error 1048."""
        out = self.casters[offset](value, row)
        if out is None and self.not_null[offset]:
            return self.null(offset)
        return out

    def null(self, offset: int) -> Any:
        column = self.table.columns[offset]
        if self.strict or self.warn is None:
            raise error(ER_BAD_NULL, f"Column '{column.name}' cannot be null")
        self.warn(ER_BAD_NULL, f"Column '{column.name}' cannot be null")
        return implicit_default(column)

    def default(self, offset: int, env: Env, row: Sequence[Any] | None = None) -> Any:
        """What a column gets that is given nothing; `LATE` for one of the `late` columns while there is no row."""
        column = self.table.columns[offset]
        default = column.default
        if default.kind == "const":
            return default.local(self.tz)
        if default.kind == "now":
            fsp = int(default.value or 0)
            now = env.context[("now", fsp)]
            return self.casters[offset](now, 1)
        if default.kind == "expr":
            if row is None:
                if offset in self.late:
                    return LATE
                row = ()
            return self.cast(offset, self._computed(column)(row, env), 1)
        if column.auto_increment or column.generated is not None:
            return None
        if column.type.tp == Tp.ENUM:  # whose default is its first member
            return implicit_default(column)
        if self.strict or self.warn is None:
            raise error(ER_NO_DEFAULT_FOR_FIELD, f"Field '{column.name}' doesn't have a default value")
        self.warn(ER_NO_DEFAULT_FOR_FIELD, f"Field '{column.name}' doesn't have a default value")
        return implicit_default(column)

    def _computed(self, column: Column) -> Closure:
        found = self._defaults.get(column.offset)
        if found is None:
            layout = {c.offset: c.offset for c in self.table.columns}
            found = self._defaults[column.offset] = compile_expr(default_exprs(self.table)[column.offset], layout)
        return found

    def complete_late(self, row: list[Any], env: Env) -> None:
        """Computes the defaults that wait for the rest of a row."""
        for offset in self.late:
            if row[offset] is LATE:
                row[offset] = self.default(offset, env, row)


LATE: Any = object()
"""Stands in a row for a default that reads the rest of it."""


def implicit_default(column: Column) -> Any:
    """What MySQL stores for a NOT NULL column without a default outside strict mode."""
    type_ = column.type
    if type_.tp.name == "ENUM":
        return type_.elems[0]
    if type_.is_integer:
        return 0
    if type_.is_real:
        return 0.0
    if type_.is_decimal:
        from decimal import Decimal

        return Decimal(0).scaleb(-max(type_.decimal, 0))
    if type_.is_binary:
        return b""
    if type_.is_temporal:
        if type_.tp.name == "DURATION":
            return dt.timedelta()
        raise error(ER_NO_DEFAULT_FOR_FIELD, f"Field '{column.name}' doesn't have a default value")
    return "" if type_.is_string else "null"
