"""Files to be loaded: CSV and Parquet, one or several, read in pieces.

CSV goes through Arrow's reader as text and becomes the columns' types by whole columns; where Arrow's conversion and
MySQL's differ the text is left for `coprocessor.codec.columns`, which converts it as an INSERT would. Rows are numbered
from 1 in each file, those that are skipped too.

Escapes of LOAD DATA are rewritten before Arrow sees them, because it knows only of characters that stand for
themselves: `\\n` and the others become the escape and the character they mean, `\\N` a text that nobody writes.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from coprocessor.types import INTEGER_TPS, Tp
from sqlfront.errors import DatabaseError, error
from sqlfront.load import precheck_failed
from sqlfront.load_source import CHUNK_ROWS, Chunk, Source, arrow_chunks, match_columns

if TYPE_CHECKING:
    import pyarrow as pa

    from sqlfront.catalog.model import Column, Table

CSV_BLOCK_BYTES = 4 << 20
ER_UNSUPPORTED_FORMAT = 8157
ER_INVALID_URI = 8158
ER_CANT_READ = 8160
ER_TOO_FEW_FIELDS = 1261
ER_TOO_MANY_FIELDS = 1262
CSV, PARQUET = "csv", "parquet"

_WILDCARDS = re.compile(r"[*?\[]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_NULL_MARK = b"\x00\x02N"
"""What `\\N` is for Arrow; with the escape gone it would be an N."""
_MEANT = {b"0": b"\0", b"b": b"\b", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"Z": b"\x1a"}


@dataclass(frozen=True, slots=True)
class CsvForm:
    """How a CSV file is read; the defaults are TiDB's. An empty `enclosed` or `escaped` stands for none."""

    terminated: str = ","
    enclosed: str = '"'
    escaped: str = "\\"
    null: str = "\\N"
    skip_rows: int = 0
    encoding: str = "utf8"


@dataclass(frozen=True, slots=True)
class Files:
    """Files of one format. `csv` None: Parquet. `columns` are the names that a statement lists, perhaps none."""

    paths: tuple[str, ...]
    sizes: tuple[int, ...]
    times_ns: tuple[int, ...]
    csv: CsvForm | None
    columns: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(self.sizes)

    def identity(self) -> dict[str, Any]:
        """What two loads of the same files have in common, as JSON."""
        files = [list(one) for one in zip(self.paths, self.sizes, self.times_ns, strict=True)]
        return {
            "files": files,
            "format": None if self.csv is None else asdict(self.csv),
            "columns": list(self.columns),
        }

    def open(self, table: Table) -> Source:
        """Opens all files, to be read one after the other. Raises 8160, 1054 and its like for unknown columns."""
        if self.csv is None:
            return self._open_parquet(table)
        names = list(self.columns) or [column.name for column in table.columns if column.generated is None]
        columns, form = match_columns(names, table), self.csv
        return Source(names, None, chain.from_iterable(read_csv(path, form, columns) for path in self.paths))

    def _open_parquet(self, table: Table) -> Source:
        import pyarrow.parquet as pq

        names: list[str] = []
        total, readers = 0, []
        for path in self.paths:
            try:
                file = pq.ParquetFile(path, memory_map=True)
            except (OSError, ValueError) as exc:
                raise cannot_read(path, exc) from exc
            found = list(file.schema_arrow.names)
            names = names or list(self.columns) or found
            missing = [name for name in names if name not in found]
            if missing or (not self.columns and set(found) != set(names)):
                raise cannot_read(path, f"it has the columns {', '.join(found)}, not {', '.join(names)}")
            total += file.metadata.num_rows
            readers.append((path, file))
        match_columns(names, table)
        return Source(names, total, chain.from_iterable(_read_parquet(path, file, names) for path, file in readers))


def find_files(where: str, format_: str, columns: Sequence[str], csv: CsvForm) -> Files:
    """The files at a path, which may have wildcards. `format_` is csv, parquet, or empty: by the name's ending.

    Raises 8157 for another format, 8158 for a URI, 8173 where there is nothing to read.
    """
    if _SCHEME.match(where):
        raise error(ER_INVALID_URI, f"The URI of data source is invalid. Reason: '{where}' is not a path of this host.")
    paths = sorted(glob.glob(where)) if _WILDCARDS.search(where) and not os.path.exists(where) else [where]
    paths = [os.path.abspath(path) for path in paths if os.path.isfile(path)]
    states = [os.stat(path) for path in paths]
    if not sum(state.st_size for state in states):
        raise precheck_failed("No file matched, or the file is empty. Please provide a valid file location.")
    if not format_:
        endings = {os.path.splitext(path)[1].lower() in (".parquet", ".parq") for path in paths}
        format_ = PARQUET if endings == {True} else CSV
    if format_ not in (CSV, PARQUET):
        raise error(ER_UNSUPPORTED_FORMAT, f"The FORMAT '{format_}' is not supported")
    return Files(
        tuple(paths),
        tuple(state.st_size for state in states),
        tuple(state.st_mtime_ns for state in states),
        csv if format_ == CSV else None,
        tuple(columns),
    )


def cannot_read(path: str, why: object) -> DatabaseError:
    return error(ER_CANT_READ, f"Failed to read source files. Reason: {why} (file '{path}')")


def _read_parquet(path: str, file: Any, names: list[str]) -> Iterator[Chunk]:
    import pyarrow as pa

    schema = pa.schema([file.schema_arrow.field(name) for name in names])
    batches = (batch.select(names) for batch in file.iter_batches(batch_size=CHUNK_ROWS, columns=names))
    try:
        yield from arrow_chunks(schema, batches, file=path)
    except (OSError, pa.ArrowInvalid) as exc:
        raise cannot_read(path, exc) from exc


def read_csv(path: str, form: CsvForm, columns: Sequence[Column]) -> Iterator[Chunk]:
    """Reads one CSV file whose fields are these columns. Raises 1261, 1262 and 8160 with the row."""
    import pyarrow as pa
    from pyarrow import csv

    if not os.path.getsize(path):
        return
    names = [column.name for column in columns]
    wrong: list[Any] = []

    def refuse(row: Any) -> str:
        wrong.append(row)
        return "error"

    read = csv.ReadOptions(
        column_names=names, skip_rows=form.skip_rows, block_size=CSV_BLOCK_BYTES, encoding=form.encoding
    )
    read.use_threads = False  # with threads a wrong row has no number
    parse = csv.ParseOptions(
        delimiter=form.terminated,
        quote_char=form.enclosed or False,
        escape_char=form.escaped or False,
        newlines_in_values=True,
        invalid_row_handler=refuse,
    )
    marked = bool(form.escaped) and form.null == form.escaped + "N"
    convert = csv.ConvertOptions(
        column_types={c.name: pa.binary() if takes_bytes(c) else pa.string() for c in columns},
        null_values=[_NULL_MARK.decode() if marked else form.null],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    try:
        with pa.input_stream(path, compression="detect") as stream:
            escapes = _Escapes(stream, form.escaped.encode()) if form.escaped else None
            reader = csv.open_csv(stream if escapes is None else pa.PythonFile(escapes, mode="r"), read, parse, convert)
            for chunk in arrow_chunks(reader.schema, reader, form.skip_rows + 1, path):
                if escapes is not None and escapes.marks:
                    _unmarked(chunk)
                chunk.columns = [converted_text(c, text) for c, text in zip(columns, chunk.columns, strict=True)]
                yield chunk
    except (OSError, pa.ArrowInvalid) as exc:
        if wrong:
            raise _wrong_fields(wrong[0], path) from exc
        if str(exc).startswith("Could not skip"):
            return  # there are no more rows than are to be skipped
        raise cannot_read(path, exc) from exc


def takes_bytes(column: Column) -> bool:
    return column.type.is_binary or column.type.tp == Tp.BIT


def _wrong_fields(row: Any, path: str) -> DatabaseError:
    number = row.number
    if row.actual_columns < row.expected_columns:
        return error(ER_TOO_FEW_FIELDS, f"Row {number} of file '{path}' doesn't contain data for all columns")
    message = f"Row {number} of file '{path}' was truncated; it contained more data than there were input columns"
    return error(ER_TOO_MANY_FIELDS, message)


class _Escapes:
    """A stream in which escapes that mean another character are rewritten; what `csv.open_csv` reads from."""

    def __init__(self, stream: Any, escape: bytes) -> None:
        self._stream = stream
        self._escape = escape
        self._pattern = re.compile(re.escape(escape) + b"(.)", re.DOTALL)
        self._held = b""
        self._ready = b""
        self.closed = False
        self.marks = False
        """Whether there was an `\\N`."""

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes."""
        while size < 0 or len(self._ready) < size:
            data = self._stream.read(CSV_BLOCK_BYTES)
            if not data:
                self._ready += self._held
                self._held = b""
                break
            self._ready += self._rewritten(self._held + data)
        if size < 0:
            size = len(self._ready)
        out, self._ready = self._ready[:size], self._ready[size:]
        return out

    def _rewritten(self, data: bytes) -> bytes:
        escape = self._escape
        trailing = len(data) - len(data.rstrip(escape))
        self._held = escape if trailing % 2 else b""
        if self._held:
            data = data[:-1]
        return self._pattern.sub(self._meaning, data) if escape in data else data

    def _meaning(self, found: re.Match[bytes]) -> bytes:
        letter = found[1]
        if letter == b"N":
            self.marks = True
            return _NULL_MARK
        return self._escape + _MEANT.get(letter, letter)

    def close(self) -> None:
        self.closed = True


def _unmarked(chunk: Chunk) -> None:
    """What was `\\N` in the midst of a text is the letter."""
    import pyarrow.compute as pc

    mark = _NULL_MARK.decode()
    chunk.columns = [
        pc.replace_substring(array, mark, "N") if pc.any(pc.match_substring(array, mark)).as_py() else array
        for array in chunk.columns
    ]


def converted_text(column: Column, text: pa.Array) -> pa.Array:
    """Text as what its column is converted from in bulk; text where Arrow cannot convert it, or not as MySQL does."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from coprocessor.codec.columns import decimals_of_text

    tp = column.type.tp
    wanted: pa.DataType | None = None
    if tp in INTEGER_TPS:
        if any(pc.any(pc.match_substring(text, x)).as_py() for x in "xX"):
            return text  # Arrow reads hexadecimal, MySQL does not
        wanted = pa.uint64() if column.type.unsigned else pa.int64()
    elif column.type.is_real:
        wanted = pa.float64()
    elif tp in (Tp.DATE, Tp.DATETIME, Tp.TIMESTAMP):
        if pc.any(pc.starts_with(text, "0000")).as_py():
            return text  # a year that only Arrow has
        wanted = pa.date32() if tp == Tp.DATE else pa.timestamp("us")
    elif tp != Tp.NEWDECIMAL:
        return text
    try:
        values = decimals_of_text(text, column.type.decimal) if wanted is None else pc.cast(text, wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return text
    if column.type.is_real and not pc.all(pc.is_finite(values), min_count=0).as_py():
        return text
    return values
