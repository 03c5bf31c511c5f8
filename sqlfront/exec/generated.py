"""Generated columns of rows that are written: computed when the rest of the row is known."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from coprocessor.evaluate import compile_expr
from coprocessor.expr import Column
from sqlfront.bind.generated import generated_of, virtual_exprs

if TYPE_CHECKING:
    from coprocessor.env import Env
    from sqlfront.catalog.model import Table
    from sqlfront.exec.filler import ColumnFiller


class GeneratedColumns:
    """Those of one table; see `compile_generated`."""

    def __init__(self, table: Table) -> None:
        layout = {column.offset: column.offset for column in table.columns}
        found = generated_of(table)
        self.stored = frozenset(g.offset for g in found if g.stored)
        """The offsets of the columns that change when others do."""
        self._computed = [(g.offset, compile_expr(g.expr, layout)) for g in found]
        self._virtual = [g.offset for g in found if not g.stored]
        refs = {c.offset: Column(c.offset, c.type, c.name) for c in table.columns if c.stored}
        self._shown = [(offset, compile_expr(e, layout)) for offset, e in virtual_exprs(table, refs).items()]

    def complete(self, row: list[Any], filler: ColumnFiller, env: Env, number: int = 1) -> None:
        """Puts the values of stored columns into a row that is to be written; virtual ones are only checked.

        Raises what an assignment of the value would raise.
        """
        for offset, compute in self._computed:
            row[offset] = filler.cast(offset, compute(row, env), number)
        for offset in self._virtual:
            row[offset] = None

    def shown(self, row: Sequence[Any], env: Env) -> list[Any]:
        """A row as statements see it: with its virtual columns."""
        out = list(row)
        for offset, compute in self._shown:
            out[offset] = compute(row, env)
        return out


@lru_cache(maxsize=512)
def compile_generated(table: Table) -> GeneratedColumns | None:
    """Compiles the generated columns of a table; None for one that has none."""
    return GeneratedColumns(table) if table.generated else None
