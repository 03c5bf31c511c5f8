"""What a statement gives back: either rows (as Python tuples or as Arrow batches, never both at once) or counts.

A `Result` with columns is read exactly once, by one of `fetch` (tuples) or `arrow_batches`; it may hold a snapshot and
an engine cursor until it is exhausted or closed. The DB-API, the shell and later servers stand on this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from coprocessor.types import FieldType

if TYPE_CHECKING:
    import pyarrow as pa

Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """One column of a result. `nullable` False only where NULL is impossible."""

    name: str
    type: FieldType
    nullable: bool = True


class RowSource(Protocol):
    """Where a result's rows come from."""

    def rows(self) -> Iterator[Sequence[Row]]:
        """Yields batches of Python tuples."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yields Arrow batches of the result's schema."""

    def close(self) -> None: ...


@dataclass(slots=True)
class Result:
    """The outcome of one statement. `columns` None means there are no rows, only counts.

    A point select brings its one row along in `row`, with no source.
    """

    columns: tuple[ResultColumn, ...] | None = None
    source: RowSource | None = None
    affected_rows: int = 0
    last_insert_id: int = 0
    info: str = ""
    warnings: list[tuple[str, int, str]] = field(default_factory=list)
    row: Row | None = None

    def fetch(self) -> Iterator[Sequence[Row]]:
        """Yields batches of tuples."""
        if self.source is not None:
            return self.source.rows()
        return iter(()) if self.row is None else iter(((self.row,),))

    def fetch_all(self) -> list[Row]:
        """Returns every row as a tuple."""
        out: list[Row] = []
        for batch in self.fetch():
            out.extend(batch)
        return out

    def close(self) -> None:
        """Lets go of the snapshot and the cursor behind the rows."""
        if self.source is not None:
            self.source.close()
            self.source = None


class ListSource:
    """Rows that are all there already; Arrow batches are made from them with the columns' types."""

    __slots__ = ("_columns", "_rows")

    def __init__(self, columns: tuple[ResultColumn, ...], rows: Sequence[Row]) -> None:
        self._columns = columns
        self._rows = rows

    def rows(self) -> Iterator[Sequence[Row]]:
        if self._rows:
            yield self._rows

    def batches(self) -> Iterator[pa.RecordBatch]:
        from coprocessor.arrow import rows_to_batch

        yield rows_to_batch(self._rows, [c.name for c in self._columns], [c.type for c in self._columns])

    def close(self) -> None:
        self._rows = ()


def rows_result(columns: tuple[ResultColumn, ...], rows: Sequence[Row]) -> Result:
    """Returns a result over rows that are all there."""
    return Result(columns, ListSource(columns, rows))
