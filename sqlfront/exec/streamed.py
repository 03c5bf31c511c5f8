"""A relation that DuckDB reads while the query runs, batch by batch, so that it need not fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa


class Streamed:
    """Reads from the front whenever DuckDB scans it, in whatever thread it does. What is behind is gone.

    DuckDB makes one error out of all; `failure` is what was raised here.
    """

    def __init__(self, schema: pa.Schema, read: Callable[[], Iterator[pa.RecordBatch]], note: Callable[[int], None]):
        """`read` begins anew, and gives batches of these types; `note` is told the rows of each."""
        self._schema = schema
        self._read = read
        self._note = note
        self.failure: BaseException | None = None

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        reader = pa.RecordBatchReader.from_batches(self._schema, self._batches())
        return reader.__arrow_c_stream__(requested_schema)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._read():
                self._note(batch.num_rows)
                yield pa.RecordBatch.from_arrays(batch.columns, schema=self._schema)
        except Exception as error:
            self.failure = error
            raise
