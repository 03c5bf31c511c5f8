"""The vectorised encoder: Arrow columns to record keys, row values and index entries, whole batches at a time.

All rows of a batch are laid out in one buffer. Lengths of all values are known as vectors, so a running sum gives every
row's start and every value's place. Values are then written column by column, left to right, as fixed *windows* that
may be longer than the value: what spills over the end of a value falls on later columns of the row or on the next row's
header, and both are written later. That is why headers and end offsets come last, and why a window is never longer than
the shortest header. A long string takes several windows.

The bytes are those of the row encoder (`row.compile_encoder`) and of `TableCodec`'s keys; tests hold them equal.
"""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coprocessor.arrow import arrow_type, column_values
from coprocessor.codec import keys
from coprocessor.codec.columns import cast_column, check_not_null
from coprocessor.codec.datum import (
    DECIMAL_FLAG,
    DURATION_FLAG,
    FLOAT_FLAG,
    INT_FLAG,
    NIL,
    SIGN,
    UINT_FLAG,
    decimal_shape,
    key_encoder,
    number_of,
    value_encoder,
    wire_kind,
)
from coprocessor.codec.decimals import bin_size, word_layout
from coprocessor.codec.gather import Bytes, Ints, windows
from coprocessor.codec.keys import INDEX_VALUE_IN_KEY
from coprocessor.codec.restored import RestoredData, restored_data
from coprocessor.codec.row import SMALL_ID_MAX, SMALL_VALUES_MAX, make_header, stored_offsets
from coprocessor.codec.temporal import NANOS_PER_MICRO, days_to_packed, micros_to_packed
from coprocessor.errors import CodecError
from coprocessor.schema import IndexColumn, IndexSchema
from coprocessor.table import TableCodec
from coprocessor.types import FieldType, Tp
from coprocessor.values import Warn

WINDOW_BYTES_MAX = 64
_SIGN_U64 = np.uint64(SIGN)


@dataclass(slots=True)
class IndexRun:
    """The entries of one index for a batch, in row order."""

    index: IndexSchema
    keys: list[bytes]
    values: list[bytes]


@dataclass(slots=True)
class EncodedBatch:
    """Records and index entries of a batch, in row order (`sort_run` brings them into key order)."""

    keys: list[bytes]
    values: list[bytes]
    indexes: list[IndexRun] = field(default_factory=list)


@dataclass(slots=True)
class _Pieces:
    """The values of one stored column: row i is `data[starts[i] : starts[i] + lengths[i]]`; NULLs have length 0."""

    data: Bytes
    starts: Ints
    lengths: Ints
    null: npt.NDArray[np.bool_] | None


class BatchEncoder:
    """Encodes Arrow batches, all of the table's columns in order, for a bulk load. TIMESTAMPs are in zone `tz`."""

    def __init__(
        self, codec: TableCodec, tz: dt.tzinfo | None = None, *, strict: bool = True, warn: Warn | None = None
    ) -> None:
        self.codec = codec
        self.tz = tz
        self.strict = strict
        self.warn = warn
        schema = codec.schema
        self._stored = stored_offsets(schema)
        self._ids = [schema.columns[offset].id for offset in self._stored]
        self._restored: dict[int, tuple[RestoredData, BatchEncoder]] = {}
        for index in schema.indexes:
            restored = restored_data(schema, index)
            if restored is not None:
                self._restored[index.id] = restored, BatchEncoder(TableCodec(restored.rows))

    def encode(
        self, batch: pa.RecordBatch | pa.Table, handles: Ints | None = None, *, first_row: int = 1
    ) -> EncodedBatch:
        """Encodes a batch. `handles` are the row ids of a table that hides them; `first_row` numbers rows in errors.

        Raises what an INSERT of the same values would, and 1048 for a NULL in a NOT NULL column.
        """
        return self.encode_columns(self.cast(batch, first_row=first_row), batch.num_rows, handles)

    def encode_columns(self, columns: Sequence[Any], count: int, handles: Ints | None = None) -> EncodedBatch:
        """Encodes arrays that are cast and checked already: inside types, TIMESTAMPs in UTC, one per table column."""
        columns = [_contiguous(column) for column in columns]
        by_offset = dict(enumerate(columns))
        record_keys, common = self._record_keys(by_offset, count, handles)
        values = self._rows(columns, count)
        encoded = EncodedBatch(record_keys, values)
        if self.codec.schema.indexes:
            encoded.indexes = self._index_runs(by_offset, record_keys, common=common)
        return encoded

    def record_keys(self, columns: Mapping[int, Any], count: int, handles: Ints | None = None) -> list[bytes]:
        """The keys of `count` rows by the columns of their key, arrays as `encode_columns` takes them, by offset."""
        whole = {offset: _contiguous(column) for offset, column in columns.items()}
        return self._record_keys(whole, count, handles)[0]

    def encode_indexes(self, columns: Mapping[int, Any], record_keys: list[bytes]) -> list[IndexRun]:
        """Encodes index entries alone, of rows that are stored under `record_keys`.

        `columns` maps the offsets of `TableCodec.entry_offsets` to arrays as `encode_columns` takes them.
        """
        whole = {offset: _contiguous(column) for offset, column in columns.items()}
        return self._index_runs(whole, record_keys, common=self.codec.is_common_handle)

    def _index_runs(self, columns: Mapping[int, Any], record_keys: list[bytes], *, common: bool) -> list[IndexRun]:
        indexes, computed = self.codec.schema.indexes, self.codec.computed
        if computed is not None and record_keys:
            wanted = frozenset().union(*map(computed.of_index, indexes))
            columns = {**columns, **computed.arrays(columns, wanted, len(record_keys))} if wanted else columns
        suffixes, in_value = self._handles(record_keys, common=common, unique=any(index.unique for index in indexes))
        return [self._index_run(index, columns, suffixes, in_value) for index in indexes]

    def cast(self, batch: pa.RecordBatch | pa.Table, *, first_row: int = 1) -> list[Any]:
        """Casts and checks the columns of a batch; TIMESTAMPs come out in UTC."""
        schema = self.codec.schema
        if batch.num_columns != len(schema.columns):
            raise CodecError(f"{batch.num_columns} columns for the {len(schema.columns)} of table '{schema.name}'")
        primary = {schema.handle_offset, *(part.offset for part in schema.common_handle)}
        columns = []
        for i, column in enumerate(schema.columns):
            array = cast_column(
                batch.column(i), column, self.tz, strict=self.strict, warn=self.warn, first_row=first_row
            )
            if column.not_null or i in primary:
                check_not_null(array, column if column.not_null else _as_not_null(column))
            columns.append(array)
        return columns

    # Rows

    def _rows(self, columns: Sequence[Any], count: int) -> list[bytes]:
        if not count:
            return []
        pieces = [_pieces(columns[offset], self.codec.schema.columns[offset].type) for offset in self._stored]
        total = np.zeros(count, np.int64)
        ends = np.empty((count, len(pieces)), np.int64)
        for i, piece in enumerate(pieces):
            total += piece.lengths
            ends[:, i] = total
        big = total > SMALL_VALUES_MAX
        if max(self._ids, default=0) > SMALL_ID_MAX:
            big = np.ones(count, np.bool_)
        groups = self._groups(pieces, big, count)
        head = np.empty(count, np.int64)
        for rows, header, shown, is_big in groups:
            head[rows] = len(header) + len(shown) * (4 if is_big else 2)
        stops = np.cumsum(head + total)
        starts = stops - head - total
        out = np.empty(int(stops[-1]) + WINDOW_BYTES_MAX, np.uint8)
        window = _window_bytes(int(head.min()))
        place = starts + head
        for i, piece in enumerate(pieces):
            _write(out, place + (ends[:, i] - piece.lengths), piece, window)
        for rows, header, shown, is_big in groups:
            _write_headers(out, starts[rows], header, ends[rows][:, shown], is_big)
        data = out.tobytes()
        return [data[a:b] for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]

    def _groups(
        self, pieces: Sequence[_Pieces], big: npt.NDArray[np.bool_], count: int
    ) -> list[tuple[Any, bytes, list[int], bool]]:
        """Splits rows by header: [(row numbers, header, positions of the columns not NULL, big)]."""
        nulls = [(i, piece.null) for i, piece in enumerate(pieces) if piece.null is not None]
        masks = np.zeros((count, len(nulls) + 1), np.bool_)
        for slot, (_, null) in enumerate(nulls):
            masks[:, slot] = null
        masks[:, -1] = big
        if not masks.any():
            return [(slice(None), make_header(self._ids, [], big=False), list(range(len(pieces))), False)]
        packed = np.ascontiguousarray(np.packbits(masks, axis=1))
        patterns, where = np.unique(packed.view(f"V{packed.shape[1]}").reshape(-1), return_inverse=True)
        order = np.argsort(where.reshape(-1), kind="stable")
        cuts = np.cumsum(np.bincount(where.reshape(-1), minlength=len(patterns)))[:-1]
        groups: list[tuple[Any, bytes, list[int], bool]] = []
        for rows in np.split(order, cuts):
            mask = masks[rows[0]]
            absent = {i for slot, (i, _) in enumerate(nulls) if mask[slot]}
            shown = [i for i in range(len(pieces)) if i not in absent]
            defaults = self.codec.schema.columns
            kept = [self._ids[i] for i in sorted(absent) if defaults[self._stored[i]].default is not None]
            ids = [self._ids[i] for i in shown]
            is_big = bool(mask[-1]) and (max((*ids, *kept), default=0) > SMALL_ID_MAX or max(self._ids) <= SMALL_ID_MAX)
            groups.append((rows, make_header(ids, kept, big=is_big), shown, is_big))
        return groups

    # Keys

    def _record_keys(self, columns: Mapping[int, Any], count: int, handles: Ints | None) -> tuple[list[bytes], bool]:
        codec = self.codec
        if codec.is_common_handle:
            parts = [self._key_part(columns, part) for part in codec.schema.common_handle]
            made = _joined(codec.record_prefix, parts, count)
            shortest = keys.RECORD_PREFIX_LEN + keys.COMMON_HANDLE_LEN_MIN
            return [key if len(key) >= shortest else key.ljust(shortest, b"\x00") for key in made], True
        if codec.is_hidden_handle:
            if handles is None or len(handles) != count:
                raise CodecError(f"table '{codec.schema.name}' hides its row ids: give one handle per row")
            bits = np.asarray(handles, np.int64).view(np.uint64)
        else:
            type_ = codec.schema.columns[codec.schema.handle_offset].type
            bits = wire_numbers(columns[codec.schema.handle_offset], type_).view(np.uint64)
        matrix = (bits ^ _SIGN_U64).astype(">u8").view(np.uint8).reshape(-1, 8)
        return _joined(codec.record_prefix, [matrix], count), False

    def _key_part(self, columns: Mapping[int, Any], part: IndexColumn) -> Bytes | list[bytes]:
        """The comparable datums of one key column: a matrix where they have one width, else a list."""
        column, type_ = columns[part.offset], self.codec.schema.columns[part.offset].type
        kind = wire_kind(type_)
        if column.null_count == 0 and kind in _FIXED_KEY:
            return _fixed_datums(column, type_, kind)
        encode = key_encoder(type_, part.prefix)
        if len(column) == 0:
            return []
        # Each distinct value is encoded once.
        coded = column.dictionary_encode() if kind != "float" else None
        if coded is None:
            return [encode(value) for value in column_values(column, type_)]
        table = [encode(value) for value in column_values(coded.dictionary, type_)]
        table.append(NIL)
        places = pc.fill_null(coded.indices, len(table) - 1).to_numpy(zero_copy_only=False).tolist()
        return [table[place] for place in places]

    def _handles(self, record_keys: list[bytes], *, common: bool, unique: bool) -> tuple[list[bytes], list[bytes]]:
        """What an index entry needs of each row's handle: the key's suffix, and (`unique`) a distinct entry's value."""
        at = keys.RECORD_PREFIX_LEN
        if common:
            suffixes = [key[at:] for key in record_keys]
            if not unique:
                return suffixes, []
            # All of the value but the handle depends on its length alone.
            heads = {
                size: keys.index_value(bytes(size), distinct=True)[:-size] for size in set(map(len, suffixes)) if size
            }
            return suffixes, [heads[len(handle)] + handle for handle in suffixes]
        flag = bytes((INT_FLAG,))
        suffixes = [flag + key[at:] for key in record_keys]
        if not unique:
            return suffixes, []
        # The value holds the handle in plain big-endian: the key's bytes with the sign bit flipped back.
        return suffixes, [bytes((key[at] ^ 0x80,)) + key[at + 1 :] for key in record_keys]

    def _index_run(
        self, index: IndexSchema, columns: Mapping[int, Any], suffixes: list[bytes], in_value: list[bytes]
    ) -> IndexRun:
        count = len(suffixes)
        prefix = keys.index_prefix(self.codec.table_id, index.id)
        parts = [self._key_part(columns, part) for part in index.columns]
        in_key = keys.index_value(b"", distinct=False) if self.codec.is_common_handle else INDEX_VALUE_IN_KEY
        made, values = _joined(prefix, parts, count), in_value
        nullable = [columns[part.offset] for part in index.columns if columns[part.offset].null_count]
        if not index.unique:
            made, values = list(map(operator.add, made, suffixes)), [in_key] * count
        elif nullable:
            has_null = np.zeros(count, np.bool_)
            for column in nullable:
                has_null |= column.is_null().to_numpy(zero_copy_only=False)
            loose = has_null.tolist()
            made = [key + suffix if null else key for key, suffix, null in zip(made, suffixes, loose, strict=True)]
            values = [in_key if null else value for value, null in zip(in_value, loose, strict=True)]
        restored = self._restored.get(index.id)
        if restored is not None:
            values = list(map(keys.add_restored, values, _restored_rows(*restored, columns, count)))
        return IndexRun(index, made, values)


def _restored_rows(
    restored: RestoredData, encoder: BatchEncoder, columns: Mapping[int, Any], count: int
) -> list[bytes]:
    """The rows of the restored data of a batch's entries."""
    made = []
    for part, schema in zip(restored.parts, restored.rows.columns, strict=True):
        column = columns[part.offset]
        if part.prefix >= 0:
            of_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            column = (pc.utf8_slice_codeunits if of_text else pc.binary_slice)(column, 0, part.prefix)
        if part.counted:
            spaces = pc.subtract(pc.binary_length(column), pc.binary_length(pc.utf8_rtrim(column, " ")))
            column = pc.fill_null(spaces, 0).cast(arrow_type(schema.type))
        made.append(column)
    return encoder._rows(made, count)


def sort_run(run_keys: list[bytes], values: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Brings a run into key order; one that is in order already is returned as it is."""
    if all(map(operator.le, run_keys, run_keys[1:])):
        return run_keys, values
    order = sorted(range(len(run_keys)), key=run_keys.__getitem__)
    return [run_keys[i] for i in order], [values[i] for i in order]


def _contiguous(column: Any) -> Any:
    if isinstance(column, pa.ChunkedArray):
        return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return column


def _as_not_null(column: Any) -> Any:
    return replace(column, not_null=True)


# Laying out


def _window_bytes(shortest_header: int) -> int:
    """The longest window whose spill a row's header covers."""
    width = 8
    while width * 2 <= WINDOW_BYTES_MAX and width * 2 - 1 <= shortest_header:
        width *= 2
    return width


def _scatter(out: Bytes, places: Ints, matrix: Bytes) -> None:
    """Writes row i of `matrix` at `places[i]`, in order."""
    width = matrix.shape[1]
    over = np.ndarray((len(out) - width + 1,), f"V{width}", out, 0, (1,))
    over[places] = np.ascontiguousarray(matrix).view(f"V{width}").reshape(-1)


def _write(out: Bytes, places: Ints, piece: _Pieces, window: int) -> None:
    longest = int(piece.lengths.max())
    if longest <= 8 or (longest <= window and longest == int(piece.lengths.min())):
        _scatter(out, places, windows(piece.data, piece.starts, max(longest, 1)))
        return
    done = 0
    # A window over an empty value would spill by its whole width, one byte more than a header must cover.
    filled = piece.lengths > 0
    places, starts, lengths = places[filled], piece.starts[filled], piece.lengths[filled]
    while len(places):
        width = min(window, _round_up(int(lengths.max()) - done))
        _scatter(out, places + done, windows(piece.data, starts + done, width))
        done += width
        more = lengths > done
        if not more.any():
            return
        places, starts, lengths = places[more], starts[more], lengths[more]


def _round_up(length: int) -> int:
    return 8 if length <= 8 else 16 if length <= 16 else 32 if length <= 32 else WINDOW_BYTES_MAX


def _write_headers(out: Bytes, starts: Ints, header: bytes, ends: Ints, is_big: bool) -> None:
    offsets = np.ascontiguousarray(ends, "<u4" if is_big else "<u2").view(np.uint8)
    matrix = np.empty((len(starts), len(header) + offsets.shape[1]), np.uint8)
    matrix[:, : len(header)] = np.frombuffer(header, np.uint8)
    matrix[:, len(header) :] = offsets
    _scatter(out, starts, matrix)


def _joined(prefix: bytes, parts: Sequence[Bytes | list[bytes]], count: int) -> list[bytes]:
    """Puts prefix and parts together, row by row; all in one buffer when every part is a matrix."""
    if all(isinstance(part, np.ndarray) for part in parts):
        head = np.broadcast_to(np.frombuffer(prefix, np.uint8), (count, len(prefix)))
        matrix = np.concatenate((head, *parts), axis=1)
        return _slices(matrix)
    lists = [_slices(part) if isinstance(part, np.ndarray) else part for part in parts]
    return list(map(b"".join, zip(repeat(prefix), *lists, strict=False)))


def _slices(matrix: Bytes) -> list[bytes]:
    width = matrix.shape[1]
    data = matrix.tobytes()
    return [data[at : at + width] for at in range(0, len(data), width)]


# Values of a column


def wire_numbers(column: Any, type_: FieldType) -> npt.NDArray[Any]:
    """The wire numbers of an integer-like column, int64 or uint64; NULLs are 0."""
    tp = type_.tp
    if tp in (Tp.ENUM, Tp.SET):
        return member_numbers(column, type_)
    if column.null_count:
        column = pc.fill_null(column, _ZERO_DAY if tp == Tp.DATE else _zero(column.type))
    if tp == Tp.DATE:
        return days_to_packed(column.cast(pa.int32()).to_numpy().astype(np.int64))
    if tp in (Tp.DATETIME, Tp.TIMESTAMP):
        return micros_to_packed(column.cast(pa.int64()).to_numpy())
    if tp == Tp.DURATION:
        nanos: npt.NDArray[np.int64] = column.to_numpy() * NANOS_PER_MICRO
        return nanos
    wide = np.uint64 if pa.types.is_unsigned_integer(column.type) and tp != Tp.YEAR else np.int64
    numbers: npt.NDArray[Any] = column.to_numpy().astype(wide)
    return numbers


_ZERO_DAY = pa.scalar(0, pa.int32()).cast(pa.date32())


def _zero(arrow: pa.DataType) -> Any:
    return pa.scalar(0, pa.int64()).cast(arrow)


def member_numbers(column: Any, type_: FieldType) -> npt.NDArray[np.uint64]:
    coded = column.dictionary_encode()
    number = number_of(type_)
    table = np.array([*(number(text) for text in coded.dictionary.to_pylist()), 0], np.uint64)
    places = pc.fill_null(coded.indices, len(table) - 1).to_numpy(zero_copy_only=False)
    numbers: npt.NDArray[np.uint64] = table[places]
    return numbers


def _null_mask(column: Any) -> npt.NDArray[np.bool_] | None:
    if not column.null_count:
        return None
    mask: npt.NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False)
    return mask


def _pieces(column: Any, type_: FieldType) -> _Pieces:
    """Returns the row bytes of a stored column."""
    kind = wire_kind(type_)
    null = _null_mask(column)
    if kind in ("text", "bytes"):
        return _string_pieces(column, null)
    if kind in ("int", "uint", "time", "duration"):
        numbers = wire_numbers(column, type_)
        data = numbers.astype("<u8" if numbers.dtype == np.uint64 else "<i8").view(np.uint8)
        return _sized(data, 8, _compact_widths(numbers), null)
    if kind == "float":
        matrix = comparable_floats(column)
    elif kind == "decimal" and decimal_shape(type_)[0] <= 18:
        matrix = decimal_matrix(column, *decimal_shape(type_))
    else:
        return _encoded_pieces(column, type_, null)
    width = matrix.shape[1]
    return _sized(np.ascontiguousarray(matrix).reshape(-1), width, np.full(len(column), width, np.int64), null)


def _sized(data: Bytes, stride: int, lengths: Ints, null: npt.NDArray[np.bool_] | None) -> _Pieces:
    if null is not None:
        lengths = np.where(null, 0, lengths)
    return _Pieces(data, np.arange(len(lengths), dtype=np.int64) * stride, lengths, null)


def _compact_widths(numbers: npt.NDArray[Any]) -> Ints:
    widths = np.ones(len(numbers), np.int64)
    narrow = (np.uint8, np.uint16, np.uint32) if numbers.dtype == np.uint64 else (np.int8, np.int16, np.int32)
    for dtype, extra in zip(narrow, (1, 2, 4), strict=True):
        widths += np.where(numbers != numbers.astype(dtype), extra, 0)
    return widths


def string_spans(column: Any) -> tuple[Bytes, Ints, Ints]:
    """The bytes of a string or binary array, and where in them each row's begin and how many they are."""
    _, offset_buffer, data_buffer = column.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer is not None else np.empty(0, np.uint8)
    return data, offsets[:-1], np.diff(offsets)


def _string_pieces(column: Any, null: npt.NDArray[np.bool_] | None) -> _Pieces:
    data, starts, lengths = string_spans(column)
    if null is not None:
        lengths = np.where(null, 0, lengths)
    return _Pieces(data, starts, lengths, null)


def _encoded_pieces(column: Any, type_: FieldType, null: npt.NDArray[np.bool_] | None) -> _Pieces:
    """For what has no vector form (JSON, decimals over 18 digits): value by value."""
    encode = value_encoder(type_)
    parts = [b"" if value is None else encode(value) for value in column_values(column, type_)]
    lengths = np.fromiter(map(len, parts), np.int64, len(parts))
    return _Pieces(np.frombuffer(b"".join(parts), np.uint8), np.cumsum(lengths) - lengths, lengths, null)


def comparable_floats(column: Any) -> Bytes:
    with np.errstate(invalid="ignore"):  # a signalling NaN, which only a damaged row has
        values = pc.fill_null(column.cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False) + 0.0
    bits = values.view(np.uint64)
    flipped = np.where(bits & _SIGN_U64, ~bits, bits | _SIGN_U64)
    matrix: Bytes = flipped.astype(">u8").view(np.uint8).reshape(-1, 8)
    return matrix


def decimal_matrix(column: Any, prec: int, frac: int) -> Bytes:
    """prec, frac and bin of decimals up to 18 digits."""
    if column.null_count:
        column = pc.fill_null(column, pa.scalar(Decimal(0), column.type))
    words = np.frombuffer(column.buffers()[1], np.int64)
    unscaled = words[2 * column.offset : 2 * (column.offset + len(column)) : 2]
    negative = unscaled < 0
    rest = np.abs(unscaled)
    matrix = np.empty((len(column), 2 + bin_size(prec, frac)), np.uint8)
    matrix[:, 0], matrix[:, 1] = prec, frac
    at = matrix.shape[1]
    for width, digits in reversed(word_layout(prec, frac)):
        rest, group = np.divmod(rest, 10**digits)
        for _ in range(width):
            at -= 1
            matrix[:, at] = group & 0xFF
            group = group >> 8
    matrix[negative, 2:] ^= 0xFF
    matrix[:, 2] ^= 0x80
    return matrix


_FIXED_KEY = {
    "int": INT_FLAG,
    "uint": UINT_FLAG,
    "time": UINT_FLAG,
    "duration": DURATION_FLAG,
    "float": FLOAT_FLAG,
    "decimal": DECIMAL_FLAG,
}


def _fixed_datums(column: Any, type_: FieldType, kind: str) -> Bytes | list[bytes]:
    if kind == "decimal":
        if decimal_shape(type_)[0] > 18:
            encode = key_encoder(type_)
            return [encode(value) for value in column_values(column, type_)]
        payload = decimal_matrix(column, *decimal_shape(type_))
    elif kind == "float":
        payload = comparable_floats(column)
    else:
        bits = wire_numbers(column, type_).view(np.uint64)
        if kind in ("int", "duration"):
            bits = bits ^ _SIGN_U64
        payload = bits.astype(">u8").view(np.uint8).reshape(-1, 8)
    matrix = np.empty((len(column), 1 + payload.shape[1]), np.uint8)
    matrix[:, 0] = _FIXED_KEY[kind]
    matrix[:, 1:] = payload
    return matrix
