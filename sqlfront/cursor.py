"""Cursors: statements in, rows or Arrow batches out.

A result is read one way only, as tuples or as Arrow; the first fetch decides. `execute` and `fetchone` are the hot
path: a point select brings its one row along in `Result.row`, and nothing is built for it that is not asked for.

A connection has one mutex, taken for every step a cursor makes in the session. It is never waited for: finding it
taken means that two threads use one connection at the same moment (or that the connection was closed: closing takes it
for good).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from coprocessor.types import FieldType
from sqlfront.dbapi_types import Description, describe
from sqlfront.errors import Error, InterfaceError, ProgrammingError, unsupported
from sqlfront.parameters import Params, check, check_rows
from sqlfront.result import Result, Row

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from sqlfront.dbapi import Connection

RECORD_BATCH_ROWS = 65536


class _Stream:
    """Batches of one result, each pulled under the connection's mutex, with errors made PEP 249's.

    `failure` is set for good by an error, or by the cursor when it drops the result: what is still read after that
    raises, so that a reader never takes the front part of a result for the whole.
    """

    __slots__ = ("_batches", "_connection", "_result", "done", "failure")

    def __init__(self, connection: Connection, result: Result, batches: Iterator[Any]) -> None:
        self._connection = connection
        self._result = result
        self._batches = batches
        self.failure: Error | None = None
        self.done = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.failure is not None:
            raise self.failure
        if self.done:
            raise StopIteration
        connection = self._connection
        if not connection._acquire(False):
            self.failure = connection._refusal()
            raise self.failure
        try:
            batch = next(self._batches, None)
        except Error as exc:
            self.failure = exc
            raise
        except Exception as exc:
            self.failure = connection._translate(exc)
            raise self.failure from exc
        finally:
            connection._release()
        if batch is None:
            self.done = True
            self._result.close()
            raise StopIteration
        return batch


def _never(_blocking: bool) -> bool:
    """Stands in for the mutex's `acquire` in a closed cursor."""
    return False


class Cursor:
    """Runs statements of one connection and hands out their rows."""

    __slots__ = (
        "__weakref__",
        "_acquire",
        "_connection",
        "_release",
        "_result",
        "_row",
        "_rows",
        "_run",
        "_stream",
        "_zone",
        "arraysize",
    )

    def __init__(self, connection: Connection) -> None:
        self.arraysize = 1
        self._connection = connection
        self._acquire = connection._acquire
        self._release = connection._release
        self._run = connection._session.execute
        self._zone = connection._zone
        self._result: Result | None = None
        self._row: Row | None = None  # the pending row of a single-row result
        self._rows: Iterator[Row] | None = None
        self._stream: _Stream | None = None

    def execute(self, sql: str, params: Params | None = None) -> Cursor:
        """Runs one statement and returns the cursor.

        `params` is a sequence for `?` or a mapping for `:name`; the values are bound, never written into the text.
        """
        if params:
            params = check(params, self._zone)
        if not self._acquire(False):
            raise self._refusal()
        if self._stream is not None or self._result is not None:
            self._discard()
        try:
            result = self._run(sql, params)
        except Error as exc:
            self._connection._session.failed(exc)
            raise
        except Exception as exc:
            raise self._connection._failed(exc) from exc
        finally:
            self._release()
        self._result = result
        self._row = result.row
        return self

    def executemany(self, sql: str, rows: Iterable[Params]) -> Cursor:
        """Runs one statement for every row of parameters, in batches; `rowcount` is the sum.

        Outside a transaction with autocommit, all rows are one transaction. A statement that gives rows is refused.
        """
        if isinstance(rows, str | bytes):
            raise InterfaceError(f"executemany takes an iterable of parameter rows, not {type(rows).__name__}")
        connection = self._connection
        if not self._acquire(False):
            raise self._refusal()
        self._discard()
        try:
            result = connection._session.execute_many(sql, check_rows(rows, self._zone))
        except Error as exc:
            connection._session.failed(exc)
            raise
        except Exception as exc:
            raise connection._failed(exc) from exc
        finally:
            self._release()
        if result.columns is not None:
            result.close()
            raise ProgrammingError("executemany is for statements without rows; use execute", 1210)
        self._result = result
        return self

    def fetchone(self) -> Row | None:
        """Returns the next row, None when there are no more."""
        row = self._row
        if row is not None:
            self._row = None
            return row
        rows = self._rows
        if rows is None:
            rows = self._open_rows()
        row = next(rows, None)
        if row is None:
            self._at_end()
        return row

    def fetchmany(self, size: int | None = None) -> list[Row]:
        """Returns up to `size` (default `arraysize`) next rows."""
        count = self.arraysize if size is None else size
        if count < 0:
            raise InterfaceError(f"fetchmany of {count} rows")
        out = list(islice(self._remaining(), count))
        if len(out) < count:
            self._at_end()
        return out

    def fetchall(self) -> list[Row]:
        """Returns all remaining rows."""
        out = list(self._remaining())
        self._at_end()
        return out

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row

    def _remaining(self) -> Iterator[Row]:
        """Returns the iterator over what is left, the pending single row included."""
        row = self._row
        if row is not None:
            self._row = None
            self._rows = iter((row,))
        return self._rows if self._rows is not None else self._open_rows()

    def _open_rows(self) -> Iterator[Row]:
        """Starts reading the result as tuples."""
        result = self._readable()
        if self._stream is not None:
            raise InterfaceError("this result is being read as Arrow; execute the statement again to read tuples")
        rows: Iterator[Row]
        if result.source is None or result.row is not None:
            rows = iter(())
        else:
            self._stream = _Stream(self._connection, result, self._under_mutex(result.fetch))
            rows = chain.from_iterable(self._stream)
        self._rows = rows
        return rows

    def _at_end(self) -> None:
        """Raises what cut the result short, if something did."""
        stream = self._stream
        if stream is not None and stream.failure is not None:
            raise stream.failure

    def _readable(self) -> Result:
        result = self._result
        if result is None or result.columns is None:
            if self._acquire is _never or self._connection.closed:
                raise self._refusal()
            raise ProgrammingError("the last statement gave no rows to fetch", 1210)
        return result

    def _under_mutex(self, call: Any) -> Any:
        if not self._acquire(False):
            raise self._refusal()
        try:
            return call()
        except Error:
            raise
        except Exception as exc:
            raise self._connection._translate(exc) from exc
        finally:
            self._release()

    @property
    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema of the result."""
        from coprocessor.arrow import arrow_schema

        columns = self._readable().columns
        assert columns is not None
        return arrow_schema([c.name for c in columns], [c.type for c in columns])

    def fetch_record_batch(self, rows_per_batch: int = RECORD_BATCH_ROWS) -> pa.RecordBatchReader:
        """Returns a reader that streams the result, at most `rows_per_batch` rows a batch.

        The reader belongs to this result: it fails when the cursor runs another statement or is closed before its end.
        """
        import pyarrow as pa

        if rows_per_batch < 1:
            raise InterfaceError(f"rows_per_batch is {rows_per_batch}; it must be at least 1")
        return pa.RecordBatchReader.from_batches(self.arrow_schema, self._arrow_batches(rows_per_batch))

    def fetch_arrow_table(self) -> pa.Table:
        """Returns the whole result as an Arrow table."""
        import pyarrow as pa

        return pa.Table.from_batches(list(self._arrow_batches(None)), self.arrow_schema)

    def fetch_df(self) -> pd.DataFrame:
        """Returns the whole result as a pandas DataFrame."""
        try:
            import pandas  # noqa: F401 - pyarrow needs it, and fails less clearly
        except ImportError as exc:
            raise InterfaceError("fetch_df needs pandas: pip install pandas") from exc
        return self.fetch_arrow_table().to_pandas()

    def pl(self) -> pl.DataFrame:
        """Returns the whole result as a polars DataFrame."""
        try:
            import polars
        except ImportError as exc:
            raise InterfaceError("pl needs polars: pip install polars") from exc
        frame = polars.from_arrow(self.fetch_arrow_table())
        assert isinstance(frame, polars.DataFrame)
        return frame

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The Arrow PyCapsule interface: streams the result to whoever speaks it."""
        return self.fetch_record_batch().__arrow_c_stream__(requested_schema)

    def _arrow_batches(self, rows_per_batch: int | None) -> Iterator[pa.RecordBatch]:
        """Starts reading the result as Arrow (at the call, not at the first batch)."""
        result = self._readable()
        if self._stream is not None and self._rows is None:
            raise InterfaceError("this result is already being read as Arrow")
        if self._rows is not None or (result.row is not None and self._row is None):
            raise InterfaceError("rows of this result were already read; execute the statement again to read Arrow")
        assert result.columns is not None
        source = result.source
        if source is not None:
            batches = self._under_mutex(source.batches)
        else:
            from coprocessor.arrow import rows_to_batch

            rows = [] if self._row is None else [self._row]
            batches = iter((rows_to_batch(rows, [c.name for c in result.columns], [c.type for c in result.columns]),))
            self._row = None
        self._stream = _Stream(self._connection, result, batches)
        return self._stream if rows_per_batch is None else _cut(self._stream, rows_per_batch)

    @property
    def connection(self) -> Connection:
        return self._connection

    @property
    def description(self) -> list[Description] | None:
        """PEP 249's description of the columns, None for a statement without rows."""
        result = self._result
        if result is None or result.columns is None:
            return None
        return [describe(c.name, c.type, c.nullable) for c in result.columns]

    @property
    def column_types(self) -> Sequence[FieldType] | None:
        """The full types of the result's columns."""
        result = self._result
        return None if result is None or result.columns is None else tuple(c.type for c in result.columns)

    @property
    def rowcount(self) -> int:
        """Rows that the last statement changed; -1 for statements that give rows, since those are streamed."""
        result = self._result
        return -1 if result is None or result.columns is not None else result.affected_rows

    @property
    def lastrowid(self) -> int | None:
        """The first AUTO_INCREMENT value that the last INSERT made, None when it made none."""
        result = self._result
        return None if result is None or not result.last_insert_id else result.last_insert_id

    @property
    def info(self) -> str:
        """What the last statement has to say beside its count, such as "Rows matched: 3  Changed: 2"."""
        return "" if self._result is None else self._result.info

    @property
    def warnings(self) -> list[tuple[str, int, str]]:
        """The warnings of the connection's last statement, as SHOW WARNINGS gives them: level, MySQL code, message."""
        result = self._result
        return result.warnings if result is not None and result.warnings else self._connection.warnings

    def callproc(self, name: str, params: Sequence[object] = ()) -> Sequence[object]:
        """Refused: there are no stored procedures."""
        raise unsupported(f"CALL {name}")

    def nextset(self) -> None:
        """Returns None: a statement has one result."""
        self._open()

    def setinputsizes(self, sizes: Sequence[object]) -> None:
        """Does nothing, as PEP 249 allows: values carry their types."""
        self._open()

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Does nothing, as PEP 249 allows: values come whole."""
        self._open()

    @property
    def closed(self) -> bool:
        return self._acquire is _never or self._connection.closed

    def close(self) -> None:
        """Lets go of the result; the cursor is not usable afterwards. Closing again does nothing."""
        self._discard()
        self._acquire = _never

    def __enter__(self) -> Cursor:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        if self.closed:
            raise self._refusal()

    def _discard(self) -> None:
        """Drops the result; readers of it that are not at their end fail from now on."""
        stream, result = self._stream, self._result
        self._stream = self._result = self._row = self._rows = None
        if stream is not None and not stream.done and stream.failure is None:
            stream.failure = InterfaceError("the cursor of this result was closed or ran another statement")
        if result is not None and result.source is not None:
            result.close()

    def _refusal(self) -> Error:
        """Returns why the mutex could not be taken."""
        if self._acquire is _never:
            return InterfaceError("the cursor is closed")
        return self._connection._refusal()


def _cut(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Yields the batches, those over `rows` rows in slices."""
    for batch in batches:
        if batch.num_rows <= rows:
            yield batch
        else:
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)
