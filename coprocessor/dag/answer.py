"""What a request is answered with: tipb.SelectResponse, written by the store and read by the client.

Each chunk of an ARROW answer is one record batch message without its schema, which the plan tells.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from google.protobuf.message import DecodeError

from coprocessor.arrow import arrow_schema
from coprocessor.codec.vector import empty_columns
from coprocessor.dag.chunk import can_chunk, decode_chunk, encode_chunk
from coprocessor.dag.datum_columns import Unusual, decode_chunks
from coprocessor.dag.datum_rows import decode_batch, encode_rows
from coprocessor.dag.plan import Dag, EncodeType
from coprocessor.errors import CodecError
from coprocessor.types import FieldType
from kvstore.proto import tipb_pb2

CHUNK_ROWS_MAX = 1024
"""Rows of one TypeChunk chunk, as TiKV's batches have."""
TOGETHER_CHUNKS_MIN = 16
"""Fewer chunks of datums are read row by row."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What one executor did: rows it gave, batches, and nanoseconds, those below it included."""

    executor_id: str
    rows: int
    iterations: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A decoded answer. `error` is (MySQL's code, message) where the evaluation failed; then there are no rows."""

    batches: list[pa.RecordBatch]
    error: tuple[int, str] | None = None
    warnings: list[tuple[int, str]] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)


def encoding_of(dag: Dag) -> EncodeType:
    """Returns how the answer comes: as asked for, but in datums where a type has no chunk."""
    if dag.encode == EncodeType.CHUNK and not can_chunk(dag.output_types):
        return EncodeType.DEFAULT
    return dag.encode


def encode_batch(batch: pa.RecordBatch, types: Sequence[FieldType], encode: EncodeType, tz: dt.tzinfo) -> list[bytes]:
    """Encodes a batch of `arrow_type(inside=True)` columns to chunks."""
    if encode == EncodeType.ARROW:
        return [batch.serialize().to_pybytes()]
    if encode == EncodeType.DEFAULT:
        return list(encode_rows(batch.columns, types, tz))
    out = []
    for first in range(0, batch.num_rows, CHUNK_ROWS_MAX):
        out.append(encode_chunk(batch.slice(first, CHUNK_ROWS_MAX).columns, types))
    return out


def select_columns(batch: pa.RecordBatch, offsets: Sequence[int]) -> pa.RecordBatch:
    """The columns at `offsets`, which may repeat."""
    if list(offsets) == list(range(batch.num_columns)):
        return batch
    if not offsets:
        return empty_columns(batch.num_rows)
    return pa.RecordBatch.from_arrays([batch.column(o) for o in offsets], names=[f"c{i}" for i in range(len(offsets))])


def read_answer(data: bytes, types: Sequence[FieldType], tz: dt.tzinfo, names: Sequence[str] = ()) -> Answer:
    """Reads a SelectResponse in any of the encodings; `types` are the plan's `output_types`.

    Batches have columns of `arrow_type(inside=True)` called `names`, or c0, c1, …. Raises CodecError for what is none.
    """
    response = tipb_pb2.SelectResponse()
    try:
        response.ParseFromString(data)
    except DecodeError as error:
        raise CodecError(f"not a SelectResponse: {error}") from None
    warnings = [(warning.code, warning.msg) for warning in response.warnings]
    summaries = [
        Summary(s.executor_id, s.num_produced_rows, s.num_iterations, s.time_processed_ns)
        for s in response.execution_summaries
    ]
    if response.HasField("error"):
        return Answer([], (response.error.code, response.error.msg), warnings, summaries)
    labels = list(names) or [f"c{i}" for i in range(len(types))]
    schema = arrow_schema(labels, types, inside=True)
    chunks = [chunk.rows_data for chunk in response.chunks]
    if not types:  # rows without columns leave no bytes, but they were counted
        return Answer([empty_columns(sum(response.output_counts))], None, warnings, summaries)
    match response.encode_type:
        case tipb_pb2.TypeArrow:
            batches = [_read_arrow(data, schema) for data in chunks]
        case tipb_pb2.TypeChunk:
            batches = [decode_chunk(data, types, labels) for data in chunks]
        case tipb_pb2.TypeDefault:
            batches = _read_datums(chunks, types, labels, tz)
        case _:
            raise CodecError("an answer in an encoding that nobody asked for")
    return Answer([b for b in batches if b.num_rows], None, warnings, summaries)


def _read_datums(
    chunks: Sequence[bytes], types: Sequence[FieldType], names: Sequence[str], tz: dt.tzinfo
) -> list[pa.RecordBatch]:
    if len(chunks) >= TOGETHER_CHUNKS_MIN:
        try:
            return [decode_chunks(chunks, types, names, tz)]
        except Unusual:
            pass
    return [decode_batch(data, types, names, tz) for data in chunks]


def _read_arrow(data: bytes, schema: pa.Schema) -> pa.RecordBatch:
    try:
        batch = pa.ipc.read_record_batch(pa.py_buffer(data), schema)
        batch.validate(full=True)
        return batch
    except (pa.ArrowException, OSError) as error:
        raise CodecError(f"a damaged record batch: {error}") from None
