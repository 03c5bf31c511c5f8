"""The leaf of a request: records or index entries of its key ranges as Arrow batches, and how far the scan came.

Batches have columns c0, c1, … of `arrow_type(inside=True)`. They begin small and grow, so that a limit or a page ends
the scan early; keys that are asked for one by one are fetched by batched gets.

Text in an index comes from the restored data in the entry's value, which is read one by one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import starmap, takewhile
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from coprocessor.arrow import arrow_schema, rows_to_batch
from coprocessor.codec.collation import needs_restored_data
from coprocessor.codec.datum import (
    BYTES_FLAG,
    DECIMAL_FLAG,
    DURATION_FLAG,
    FLOAT_FLAG,
    INT_FLAG,
    NIL_FLAG,
    UINT_FLAG,
    skip_key_datum,
    wire_kind,
)
from coprocessor.codec.gather import big_u64, windows
from coprocessor.codec.index_row import compile_index_decoder
from coprocessor.codec.keys import (
    HANDLE_TAIL_LEN,
    INDEX_PREFIX_LEN,
    INDEX_VALUE_IN_KEY,
    OLD_INDEX_VALUE_LEN_MAX,
    RECORD_PREFIX_LEN,
    RESTORED_DATA_FLAG,
    index_prefix,
    index_value,
    prefix_next,
    record_prefix,
    restored_in,
    table_id_of,
)
from coprocessor.codec.restored import text_restorer
from coprocessor.codec.row import NUMBER_DATUM_LEN, NUMBER_FLAGS, row_slices
from coprocessor.codec.vector import BatchDecoder
from coprocessor.codec.vector_columns import integers
from coprocessor.codec.vector_keys import HandleDecoder
from coprocessor.dag.datum_rows import DAMAGE
from coprocessor.dag.plan import IndexScan, Scan, ScanColumn, TableScan
from coprocessor.errors import BadRequest, CodecError
from coprocessor.scan import KeyedBatch
from coprocessor.schema import ColumnSchema, IndexColumn, IndexSchema, TableSchema
from coprocessor.table import KeyRange
from coprocessor.types import BIGINT, BYTES, DOUBLE, DURATION, UBIGINT, FieldType, decimal_type
from kvstore.client.api import PackedBatch, Reader
from kvstore.mvcc.packed import pack_pairs, unpack

BATCH_ROWS_MAX = 65_536
POINT_KEYS_MAX = 1024
"""Keys of one batched get."""
MANY_RANGES = 8
"""So many ranges of one request may be short ones."""
SHORT_RANGE_ROWS = 64
"""Rows of a range beyond which it is read by itself."""
SHORT_ROWS_MAX = 4096
"""Rows of short ranges in one batch."""
DECODERS_MAX = 256
"""Decoders kept: a request's scan is decoded alike in every region."""
INT_RECORD_KEY_LEN = RECORD_PREFIX_LEN + 8
_COMMON_IN_KEY = index_value(b"", distinct=False)
CUT = 0
"""The prefix length that says that a key holds less than the column; how much less is not asked."""

T = TypeVar("T")
Decode = Callable[[PackedBatch], pa.RecordBatch]
Kept = Callable[[TableScan, KeyRange, Reader, dt.tzinfo], Iterator[KeyedBatch] | None]
"""The columns of a range of records that are kept decoded; None where the reader has to be asked."""


class Source:
    """The scan of one request, read once. `check` is called before every batch and may raise (a deadline).

    With `rows_max` it ends behind the batch in which so many rows were there. `kept` is for those that read to the end.
    """

    def __init__(
        self,
        scan: Scan,
        ranges: Sequence[KeyRange],
        reader: Reader,
        tz: dt.tzinfo,
        check: Callable[[], None],
        batch_rows: int = BATCH_ROWS_MAX,
        rows_max: int = 0,
        kept: Kept | None = None,
    ) -> None:
        self._scan = scan
        self._tz = tz
        self._kept = kept
        self._ranges = list(ranges)
        self._reader = reader
        self._check = check
        self._batch_rows = batch_rows
        self._rows_max = rows_max
        self._decode = record_decoder(scan, tz) if isinstance(scan, TableScan) else _index_decoder(scan, tz)
        self._position: bytes | None = None
        self.batches_read = 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yields the batches in key order, or its reverse if the scan is descending.

        Raises what the reader does, CodecError for damaged values, and BadRequest for ranges of something else.
        """
        self._check()
        rows = 0
        for batch, position in self._parts():
            self._position = position
            if batch is not None:
                self.batches_read += 1
                rows += batch.num_rows
                yield batch
            if self._rows_max and rows >= self._rows_max:
                return
            self._check()
        self._position = None

    def scanned(self) -> KeyRange | None:
        """The part of the ranges that the batches so far came from; None when nothing is left."""
        if self._position is None:
            return None
        first, last = self._ranges[0][0], self._ranges[-1][1]
        return (self._position, last) if self._scan.desc else (first, self._position)

    def _parts(self) -> Iterator[tuple[pa.RecordBatch | None, bytes]]:
        """The batches (None: one without rows), and where the scan stands after each: the bound of what it has read."""
        if self._kept is not None and len(self._ranges) == 1 and isinstance(self._scan, TableScan):
            start, end = self._clipped(*self._ranges[0])
            pieces = self._kept(self._scan, (start, end), self._reader, self._tz) if start < end else None
            if pieces is not None:
                names = [f"c{i}" for i in range(len(self._scan.columns))]
                while (piece := _undamaged(lambda: next(pieces, None))) is not None:
                    batch = piece.batch
                    if names:
                        batch = pa.RecordBatch.from_arrays(batch.columns, names)
                    yield batch if batch.num_rows else None, piece.end
                return
        for packed, position in self._packed():
            yield _undamaged(partial(self._decode, packed)) if packed.count else None, position

    def _packed(self) -> Iterator[tuple[PackedBatch, bytes]]:
        """The packed batches, and where the scan stands after each."""
        at = 0
        ordered = self._ranges[::-1] if self._scan.desc else self._ranges
        many = len(ordered) >= MANY_RANGES
        enough = min(SHORT_ROWS_MAX, self._rows_max or SHORT_ROWS_MAX)
        short: list[tuple[bytes, bytes]] = []
        behind = b""
        while at < len(ordered):
            points = self._point_run(ordered, at)
            if points:
                at += len(points)
                pairs, behind = self._got(points)
                short += pairs
            else:
                start, end = self._clipped(*ordered[at])
                at += 1
                if start < end and many and not self._scan.desc:
                    pairs, start = self._begun(start, end)
                    short += pairs
                    behind = start or end
                if start and start < end:
                    if short:
                        yield pack_pairs(short, 0), behind
                        short = []
                    yield from self._reversed(start, end) if self._scan.desc else self._forward(start, end)
            if len(short) >= enough:
                yield pack_pairs(short, 0), behind
                short = []
        if short:
            yield pack_pairs(short, 0), behind

    def _begun(self, start: bytes, end: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """The first rows of one range of many, and where it goes on; empty when that was all.

        Many short ranges are decoded together: a batch for each would cost more than its rows.
        """
        chunks = self._reader.scan_chunks(start, end)
        pairs: list[tuple[bytes, bytes]] = []
        for chunk in chunks:
            pairs += chunk.pairs()
            if len(pairs) >= SHORT_RANGE_ROWS:
                return pairs, pairs[-1][0] + b"\0"
        return pairs, b""

    def _forward(self, start: bytes, end: bytes) -> Iterator[tuple[PackedBatch, bytes]]:
        for packed in self._reader.scan_packed(start, end, batch_rows=self._batch_rows):
            last = packed.count - 1
            key = packed.keys[packed.key_starts[last] : packed.key_ends[last]].tobytes() if packed.count else None
            yield packed, start if key is None else key + b"\0"

    def _reversed(self, start: bytes, end: bytes) -> Iterator[tuple[PackedBatch, bytes]]:
        pairs: list[tuple[bytes, bytes]] = []
        wanted = min(256, self._batch_rows)
        for chunk in self._reader.scan_chunks(start, end, reverse=True):
            pairs += chunk.pairs()
            while len(pairs) >= wanted:
                yield pack_pairs(pairs[:wanted], 0), pairs[wanted - 1][0]
                pairs = pairs[wanted:]
                wanted = min(wanted * 8, self._batch_rows)
        if pairs:
            yield pack_pairs(pairs, 0), pairs[-1][0]

    def _point_run(self, ordered: Sequence[KeyRange], at: int) -> Sequence[KeyRange]:
        """The ranges from `at` on that are one key each."""
        stop = at
        while stop < min(len(ordered), at + POINT_KEYS_MAX) and self._is_point(*ordered[stop]):
            stop += 1
        return ordered[at:stop]

    def _is_point(self, start: bytes, end: bytes) -> bool:
        if len(end) == len(start) + 1 and end[-1] == 0 and end.startswith(start):
            return True
        if len(start) != len(end) or end != prefix_next(start):
            return False
        scan = self._scan
        if isinstance(scan, IndexScan):
            return scan.unique and _is_whole(start, INDEX_PREFIX_LEN, len(scan.columns) - scan.handle_columns)
        if scan.primary_columns:
            return _is_whole(start, RECORD_PREFIX_LEN, len(scan.primary_columns))
        return len(start) == INT_RECORD_KEY_LEN

    def _got(self, points: Sequence[KeyRange]) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """The pairs of single keys, and where the scan stands behind them."""
        keys = [start for start, _ in points]
        for key in keys:
            self._prefix(key)
        found = self._reader.batch_get(keys)
        pairs = [(key, found[key]) for key in keys if key in found]
        return pairs, points[-1][0 if self._scan.desc else 1]

    def _prefix(self, start: bytes) -> bytes:
        """The prefix of the records or entries that the range at `start` is of. Raises BadRequest if it is of none.

        The table is the key's own: a partition has another id than the scan says.
        """
        try:
            table_id = table_id_of(start)
        except CodecError:
            raise BadRequest(f"the range from {start.hex()} is of no table") from None
        scan = self._scan
        prefix = record_prefix(table_id) if isinstance(scan, TableScan) else index_prefix(table_id, scan.index_id)
        if not start.startswith(prefix[: len(start)]):
            what = "records" if isinstance(scan, TableScan) else f"index {scan.index_id}"
            raise BadRequest(f"the range from {start.hex()} is not of {what}")
        return prefix

    def _clipped(self, start: bytes, end: bytes) -> KeyRange:
        prefix = self._prefix(start)
        stop = prefix_next(prefix)
        return max(start, prefix), min(end, stop) if end else stop


def _undamaged(decode: Callable[[], T]) -> T:
    """What decoding gives. Raises CodecError for damaged values."""
    try:
        with np.errstate(all="ignore"):  # what does not fit the type that the request says
            return decode()
    except (pa.ArrowException, *DAMAGE) as error:
        raise CodecError(f"a damaged record or index entry: {error}") from None


def _is_whole(key: bytes, at: int, datums: int) -> bool:
    """Whether a key has so many datums from `at` on, none of them NULL, and nothing else."""
    try:
        for _ in range(datums):
            if key[at] == NIL_FLAG:
                return False
            at = skip_key_datum(key, at)
    except (IndexError, CodecError):
        return False
    return at == len(key)


def _column_schema(column: ScanColumn, i: int) -> ColumnSchema:
    return ColumnSchema(column.id, f"c{i}", column.type, column.not_null, column.default)


@lru_cache(maxsize=DECODERS_MAX)
def record_decoder(scan: TableScan, tz: dt.tzinfo) -> Decode:
    """The decoder of packed records to batches of the scan's columns, TIMESTAMPs in zone `tz`."""
    return _TableDecoder(scan, tz).decode


class _TableDecoder:
    """Decodes packed records. What the request does not say of a clustered key's columns, the first record tells."""

    def __init__(self, scan: TableScan, tz: dt.tzinfo) -> None:
        self._scan, self._tz = scan, tz
        handle = next((column for column in scan.columns if column.is_handle), None)
        if handle is not None and not handle.type.is_integer:
            raise BadRequest("a handle column that is no integer")
        known = {column.id for column in scan.columns}
        unknown = handle is None and any(column_id not in known for column_id in scan.primary_columns)
        self._decode = None if unknown else self._decoder([BIGINT] * len(scan.primary_columns))

    def decode(self, packed: PackedBatch) -> pa.RecordBatch:
        if self._decode is None:
            key = packed.keys[packed.key_starts[0] : packed.key_ends[0]].tobytes()
            self._decode = self._decoder(datum_types(key, len(self._scan.primary_columns)))
        return self._decode(packed)

    def _decoder(self, primary_types: Sequence[FieldType]) -> Decode:
        """The decoder of a schema whose key columns that are not scanned have `primary_types`."""
        scan = self._scan
        asked = list(dict.fromkeys(scan.columns))
        columns = [_column_schema(column, i) for i, column in enumerate(asked)]
        place = {column.id: i for i, column in enumerate(asked)}
        handle = next((i for i, column in enumerate(asked) if column.is_handle), -1)
        parts = []
        for column_id, type_ in zip(scan.primary_columns, primary_types, strict=True):
            if column_id not in place:
                place[column_id] = len(columns)
                columns.append(ColumnSchema(column_id, f"c{len(columns)}", type_, True))
            parts.append(IndexColumn(place[column_id], CUT if column_id in scan.primary_prefixes else -1))
        schema = TableSchema(scan.table_id, "", tuple(columns), handle, tuple(parts) if handle < 0 else ())
        return BatchDecoder(schema, [place[column.id] for column in scan.columns], self._tz).decode


def datum_types(key: bytes, count: int) -> list[FieldType]:
    """Types that have the datums of a record key's handle: enough to find where each ends."""
    types = []
    at = RECORD_PREFIX_LEN
    for _ in range(count):
        flag = key[at]
        if flag == DECIMAL_FLAG:
            types.append(decimal_type(key[at + 1], key[at + 2]))
        elif flag in _TYPE_OF_FLAG:
            types.append(_TYPE_OF_FLAG[flag])
        else:
            raise CodecError(f"datum flag {flag:#x} in a record's key")
        at = skip_key_datum(key, at)
    return types


_TYPE_OF_FLAG = {BYTES_FLAG: BYTES, INT_FLAG: BIGINT, UINT_FLAG: UBIGINT, FLOAT_FLAG: DOUBLE, DURATION_FLAG: DURATION}


@lru_cache(maxsize=DECODERS_MAX)
def _index_decoder(scan: IndexScan, tz: dt.tzinfo) -> Decode:
    return _IndexDecoder(scan, tz).decode


class _IndexDecoder:
    """Decodes packed index entries: all at once where the handle is where it usually is, else one by one."""

    def __init__(self, scan: IndexScan, tz: dt.tzinfo) -> None:
        columns, tail = scan.columns, scan.handle_columns
        self._int_handle = bool(columns) and columns[-1].is_handle
        self._count = len(columns) - tail
        self._common = bool(scan.primary_columns)
        self._types = [column.type for column in columns]
        self._texts = [
            (i, text_restorer(column.id, column.type, common=self._common and not self._int_handle))
            for i, column in enumerate(columns)
            if needs_restored_data(column.type)
        ]
        if self._int_handle and not columns[-1].type.is_integer:
            raise BadRequest("a handle column that is no integer")
        self._arrow = arrow_schema([f"c{i}" for i in range(len(columns))], self._types, inside=True)
        self._one_by_one = self._row_decoder(scan, tz)
        self._tail = tail
        if not self._texts:
            self._of_key = _HandleColumns(scan, self._count, tz, with_handle=tail > 0)
            self._of_index = _HandleColumns(scan, self._count, tz, with_handle=False)

    def _row_decoder(self, scan: IndexScan, tz: dt.tzinfo) -> Callable[[bytes, bytes], tuple[Any, ...]]:
        as_bytes = {i for i, _ in self._texts}
        columns = tuple(
            _column_schema(replace(column, type=BYTES) if i in as_bytes else column, i)
            for i, column in enumerate(scan.columns)
        )
        of_handle = range(self._count, len(columns))
        handle = len(columns) - 1 if self._int_handle else -1
        common = () if self._int_handle or not self._common else tuple(IndexColumn(i) for i in of_handle)
        schema = TableSchema(scan.table_id, "", columns, handle, common)
        index = IndexSchema(scan.index_id, "", tuple(IndexColumn(i) for i in range(self._count)), scan.unique)
        return compile_index_decoder(schema, index, range(len(columns)), tz)

    def decode(self, packed: PackedBatch) -> pa.RecordBatch:
        if self._texts:
            rows = list(starmap(self._with_texts, unpack(packed)))
            return rows_to_batch(rows, self._arrow.names, self._types, inside=True)
        arrays = self._at_once(packed)
        if arrays is not None:
            return pa.RecordBatch.from_arrays(arrays, schema=self._arrow)
        rows = list(starmap(self._one_by_one, unpack(packed)))
        return rows_to_batch(rows, self._arrow.names, self._types, inside=True)

    def _with_texts(self, key: bytes, value: bytes) -> tuple[Any, ...]:
        row = list(self._one_by_one(key, value))
        restored = restored_in(value)
        slices = {} if restored is None else row_slices(restored)
        for i, restore in self._texts:
            row[i] = restore(row[i], slices)
        return tuple(row)

    def _at_once(self, packed: PackedBatch) -> list[Any] | None:
        """The columns where all entries have the form that non-unique or unique ones have here; else None."""
        if not self._tail:
            return self._of_index.decode(packed)
        if self._handles_in_keys(packed):
            return self._of_key.decode(packed)
        if not self._int_handle or not packed.count:
            return None
        # The handle is all of the value, or its tail behind restored data.
        lengths = packed.value_ends - packed.value_starts
        heads = packed.values[packed.value_starts]
        plain = lengths == HANDLE_TAIL_LEN
        if not bool((plain | ((lengths > OLD_INDEX_VALUE_LEN_MAX) & (heads == HANDLE_TAIL_LEN))).all()):
            return None
        bits = big_u64(packed.values, packed.value_ends - HANDLE_TAIL_LEN)
        handles = bits if self._types[-1].unsigned else bits.view(np.int64)
        columns = self._of_index.decode(packed)
        return None if columns is None else [*columns, integers(self._types[-1], handles)]

    def _handles_in_keys(self, packed: PackedBatch) -> bool:
        """Whether no value has a handle."""
        lengths = packed.value_ends - packed.value_starts
        if not packed.count or not int(lengths.min()):
            return False
        if self._common and not self._int_handle:
            if int(lengths.min()) < len(_COMMON_IN_KEY):
                return False
            heads = windows(packed.values, packed.value_starts, len(_COMMON_IN_KEY))
            if not bool((heads == np.frombuffer(_COMMON_IN_KEY, np.uint8)).all()):
                return False
            longer = lengths > len(_COMMON_IN_KEY)
            after = packed.values[packed.value_starts[longer] + len(_COMMON_IN_KEY)]
            return bool((after == RESTORED_DATA_FLAG).all())
        heads = packed.values[packed.value_starts]
        plain = (lengths == 1) & (heads == INDEX_VALUE_IN_KEY[0])
        return bool((plain | ((lengths > OLD_INDEX_VALUE_LEN_MAX) & (heads < HANDLE_TAIL_LEN))).all())


class _HandleColumns:
    """An index key behind its prefix is laid out as a common handle of its columns, and is decoded as one."""

    def __init__(self, scan: IndexScan, count: int, tz: dt.tzinfo, *, with_handle: bool) -> None:
        columns = scan.columns if with_handle else scan.columns[:count]
        self._last = columns[-1].type if with_handle and columns[-1].is_handle else None
        schemas = [_column_schema(column, i) for i, column in enumerate(columns)]
        if self._last is not None:  # an unsigned handle is stored as its signed twin
            schemas[-1] = ColumnSchema(schemas[-1].id, schemas[-1].name, BIGINT, True)
        parts = tuple(IndexColumn(i) for i in range(len(columns)))
        self._count = len(columns)
        self._decoder = HandleDecoder(TableSchema(scan.table_id, "", tuple(schemas), -1, parts), range(self._count), tz)
        kinds = [wire_kind(schema.type) for schema in schemas]
        self._flags = [NUMBER_FLAGS[kind] for kind in takewhile(NUMBER_FLAGS.__contains__, kinds)]

    def _has_numbers(self, packed: PackedBatch) -> bool:
        """Whether the numbers that lead the keys are there: the decoder of handles, which have no NULLs, assumes it."""
        starts = packed.key_starts + INDEX_PREFIX_LEN
        if bool((packed.key_ends - starts < len(self._flags) * NUMBER_DATUM_LEN).any()):
            return False
        at = ((i, flag) for i, flag in enumerate(self._flags))
        return all(bool((packed.keys[starts + i * NUMBER_DATUM_LEN] == flag).all()) for i, flag in at)

    def decode(self, packed: PackedBatch) -> list[Any] | None:
        """The columns of entries; None where one has a NULL, or anything else, in the place of a number."""
        if not self._count:
            return []
        if not self._has_numbers(packed):
            return None
        columns = self._decoder.decode(packed.keys, packed.key_starts + INDEX_PREFIX_LEN, packed.key_ends)
        if self._last is not None:
            numbers = columns[-1].to_numpy()
            columns[-1] = integers(self._last, numbers.view(np.uint64) if self._last.unsigned else numbers)
        return columns
