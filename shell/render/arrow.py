"""Arrow IPC stream and Parquet, written record batch by record batch."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa


class BatchWriter(Protocol):
    """Takes record batches of one schema."""

    def write_batch(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...


def batch_writer(name: str, sink: IO[bytes], schema: pa.Schema) -> BatchWriter:
    """Returns the writer of a binary format; closing it completes the file and leaves the sink open."""
    import pyarrow as pa

    target = pa.PythonFile(sink, mode="w")
    if name == "arrow":
        stream: BatchWriter = pa.ipc.new_stream(target, schema)
        return stream
    import pyarrow.parquet as pq

    parquet: BatchWriter = pq.ParquetWriter(target, schema)
    return parquet
