"""Virtual columns that an index has: no row holds them, so their values are computed where entries are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coprocessor.env import Env
from coprocessor.evaluate import Closure, compile_expr
from coprocessor.expr import Expr, columns

if TYPE_CHECKING:
    from coprocessor.schema import IndexSchema, TableSchema

_ENV = Env()


class ComputedColumns:
    """The virtual columns of a table that its entries need, by their offsets; see `computed_of`."""

    def __init__(self, schema: TableSchema, exprs: Mapping[int, Expr]) -> None:
        layout = {offset: offset for offset in range(len(schema.columns))}
        self._types = {offset: schema.columns[offset].type for offset in range(len(schema.columns))}
        self._closures: dict[int, Closure] = {offset: compile_expr(expr, layout) for offset, expr in exprs.items()}
        self.needs = {offset: frozenset(columns(expr)) for offset, expr in exprs.items()}
        """The stored columns that each is computed from."""

    def row(self, values: Sequence[Any], wanted: Iterable[int] | None = None) -> list[Any]:
        """A row with the values of its virtual columns, or of the `wanted` ones."""
        out = list(values)
        for offset in self._closures if wanted is None else wanted:
            out[offset] = self._closures[offset](values, _ENV)
        return out

    def of_index(self, index: IndexSchema) -> frozenset[int]:
        """The virtual columns that an index has."""
        return frozenset(part.offset for part in index.columns) & self.needs.keys()

    def arrays(self, stored: Mapping[int, Any], wanted: frozenset[int], count: int) -> dict[int, Any]:
        """The arrays of `wanted` virtual columns of `count` rows, beside those of what they are computed from; row by
        row."""
        from coprocessor.arrow import column_array, column_values

        read = sorted(frozenset().union(*(self.needs[offset] for offset in wanted)))
        values = [column_values(stored[offset], self._types[offset]) for offset in read]
        width = len(self._types)
        made: dict[int, list[Any]] = {offset: [] for offset in wanted}
        row: list[Any] = [None] * width
        for number in range(count):
            for offset, column in zip(read, values, strict=True):
                row[offset] = column[number]
            for offset, out in made.items():
                out.append(self._closures[offset](row, _ENV))
        return {offset: column_array(out, self._types[offset], inside=True) for offset, out in made.items()}


def computed_of(schema: TableSchema) -> ComputedColumns | None:
    """The virtual columns of a schema that come with an expression; None where there is none."""
    exprs = {offset: column.computed for offset, column in enumerate(schema.columns) if column.computed is not None}
    return ComputedColumns(schema, exprs) if exprs else None
