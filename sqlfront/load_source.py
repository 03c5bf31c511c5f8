"""Where the rows of a bulk load come from: Arrow, frames, Parquet files or tuples, in chunks by column."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from sqlfront.errors import InterfaceError, error, near_match

if TYPE_CHECKING:
    import pyarrow as pa

    from sqlfront.catalog.model import Column, Table

CHUNK_ROWS = 131_072


def to_arrow_table(data: object) -> pa.Table:
    """Returns an Arrow table of whatever speaks Arrow, or of a pandas frame or a dict of columns."""
    from coprocessor.arrow import as_table

    try:
        return as_table(data)
    except TypeError as exc:
        raise InterfaceError(str(exc)) from exc


@dataclass(slots=True)
class Chunk:
    """Some rows by column: Arrow arrays, or lists of Python values. `first_row` counts from 1, in `file` if there is
    one."""

    columns: Sequence[Any]
    rows: int
    first_row: int
    file: str = ""

    def values(self, at: int) -> list[Any]:
        """One column as Python values."""
        column = self.columns[at]
        if isinstance(column, list):
            return column
        values: list[Any] = column.to_pylist()
        return values


@dataclass(slots=True)
class Source:
    """Rows to be loaded: the columns' names, the number of rows if it is known, and the chunks."""

    names: list[str]
    total: int | None
    chunks: Iterator[Chunk]


def open_source(data: object, table: Table) -> Source:
    """Opens what `append` was given. Raises InterfaceError for what holds no rows."""
    if isinstance(data, str | os.PathLike):
        return _parquet(os.fspath(data), table)
    import pyarrow as pa

    if isinstance(data, pa.RecordBatchReader):
        return _arrow(data.schema, data, None)
    if _is_rows(data):
        assert isinstance(data, Iterable)
        return _tuples(data, table)
    stream = getattr(type(data), "__arrow_c_stream__", None)
    if stream is not None and not isinstance(data, pa.Table) and not _is_pandas(data):
        reader = pa.RecordBatchReader.from_stream(data)
        total = len(data) if hasattr(type(data), "__len__") else None  # type: ignore[arg-type]
        return _arrow(reader.schema, reader, total)
    found = to_arrow_table(data)
    return _arrow(found.schema, found.to_batches(max_chunksize=CHUNK_ROWS), found.num_rows)


def _is_pandas(data: object) -> bool:
    return type(data).__module__.partition(".")[0] == "pandas"


def _is_rows(data: object) -> bool:
    if isinstance(data, list | tuple):
        return True
    speaks_arrow = hasattr(type(data), "__arrow_c_stream__") or hasattr(type(data), "__arrow_c_array__")
    return isinstance(data, Iterator) and not speaks_arrow


def _parquet(path: str, table: Table) -> Source:
    import pyarrow.parquet as pq

    if not os.path.isfile(path):
        raise InterfaceError(f"no such file: {path!r}; append takes the path of a Parquet file")
    try:
        file = pq.ParquetFile(path, memory_map=True)
    except (OSError, ValueError) as exc:
        raise InterfaceError(f"{path!r} cannot be read as Parquet: {exc}") from exc
    match_columns(file.schema_arrow.names, table)
    return _arrow(file.schema_arrow, file.iter_batches(batch_size=CHUNK_ROWS), file.metadata.num_rows)


def _arrow(schema: pa.Schema, batches: Iterable[pa.RecordBatch], total: int | None) -> Source:
    return Source(list(schema.names), total, arrow_chunks(schema, batches))


def arrow_chunks(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], first_row: int = 1, file: str = ""
) -> Iterator[Chunk]:
    """Yields chunks of at most CHUNK_ROWS rows, small batches put together."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in chain.from_iterable(_sliced(b) for b in batches):
        if held and rows + batch.num_rows > CHUNK_ROWS:
            yield _chunk(pa.Table.from_batches(held, schema), first_row, file)
            first_row += rows
            held, rows = [], 0
        held.append(batch)
        rows += batch.num_rows
    if rows:
        yield _chunk(pa.Table.from_batches(held, schema), first_row, file)


def _sliced(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for start in range(0, batch.num_rows, CHUNK_ROWS):
        yield batch.slice(start, CHUNK_ROWS)


def _chunk(rows: pa.Table, first_row: int, file: str) -> Chunk:
    import pyarrow as pa

    columns = []
    for column in rows.columns:
        whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        columns.append(pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole)
    return Chunk(columns, rows.num_rows, first_row, file)


def _tuples(data: Iterable[object], table: Table) -> Source:
    columns = [c for c in table.columns if c.generated is None]
    total = len(data) if isinstance(data, list | tuple) else None
    return Source([c.name for c in columns], total, _tuple_chunks(iter(data), len(columns)))


def _tuple_chunks(rows: Iterator[object], width: int) -> Iterator[Chunk]:
    first_row = 1
    while part := list(islice(rows, CHUNK_ROWS)):
        for number, row in enumerate(part, first_row):
            if not isinstance(row, list | tuple):
                raise InterfaceError(f"row {number} is a {type(row).__name__}; append takes tuples, Arrow or Parquet")
            if len(row) != width:
                raise error(1136, f"Column count doesn't match value count at row {number}")
        yield Chunk([list(column) for column in zip(*part, strict=True)], len(part), first_row)
        first_row += len(part)


def match_columns(names: Sequence[str], table: Table) -> list[Column]:
    """Returns the table's column of every name; 1054 for an unknown one, 1110 for one that is there twice."""
    found: list[Column] = []
    for name in names:
        column = table.column(name)
        if column is None:
            hint = near_match(name, [c.name for c in table.visible])
            raise error(1054, f"Unknown column '{name}' in 'field list'{hint}")
        if column in found:
            raise error(1110, f"Column '{name}' specified twice")
        if column.generated is not None:
            raise error(
                3105, f"The value specified for generated column '{name}' in table '{table.name}' is not allowed."
            )
        found.append(column)
    return found
