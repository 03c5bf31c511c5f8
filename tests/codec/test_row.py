"""Rows: compiled against plain, NULLs, added columns, and the vectorised forms against the row-wise ones."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coprocessor.arrow import batch_to_rows, rows_to_batch
from coprocessor.codec import vector
from coprocessor.codec.decimals import decimal_encoder
from coprocessor.codec.gather import windows
from coprocessor.codec.row import build_row, compile_decoder, compile_encoder, compile_patcher, encode_row, row_slices
from coprocessor.codec.temporal import from_utc
from coprocessor.codec.vector import BatchDecoder, header_groups
from coprocessor.codec.vector_encode import BatchEncoder, sort_run
from coprocessor.errors import CodecError
from coprocessor.schema import ColumnSchema, IndexColumn, IndexSchema, TableSchema
from coprocessor.table import TableCodec
from coprocessor.types import BIGINT, DATE, INT, FieldType, Tp, decimal_type, varchar
from kvstore.client.api import Chunk
from kvstore.mvcc.packed import pack_pairs
from tests.codec.samples import TYPES, char, common_table, int_table, pack, values_of, wide_table

WIDE = wide_table()
WIDE_DEFAULTS = wide_table(int=7, varchar="ab", date=dt.date(2020, 1, 1), time=dt.timedelta(hours=-1))


def rows_of(schema: TableSchema, *, nulls: bool = True) -> st.SearchStrategy[tuple[Any, ...]]:
    columns = []
    for column in schema.columns:
        values = values_of(column.type)
        columns.append(st.none() | values if nulls and not column.not_null else values)
    return st.tuples(*columns)


@given(st.sampled_from([WIDE, WIDE_DEFAULTS]), st.data())
@settings(max_examples=60)
def test_compiled_is_plain(schema: TableSchema, data: st.DataObject) -> None:
    row = data.draw(rows_of(schema))
    encoded = compile_encoder(schema)(row)
    assert encoded == encode_row(schema, row)
    assert compile_decoder(schema)(1, encoded) == row
    offsets = data.draw(st.lists(st.sampled_from(range(len(row))), max_size=5))
    assert compile_decoder(schema, offsets)(1, encoded) == tuple(row[i] for i in offsets)


def test_every_row_shape_decodes_after_every_other() -> None:
    schema = TableSchema(1, "t", tuple(ColumnSchema(i, f"c{i}", INT) for i in range(1, 5)))
    encode, decode = compile_encoder(schema), compile_decoder(schema)
    for _ in range(2):
        for mask in range(16):
            row = tuple(i if mask >> i & 1 else None for i in range(4))
            assert decode(0, encode(row)) == row


def test_added_column_reads_as_its_default() -> None:
    old = TableSchema(1, "t", (ColumnSchema(1, "a", INT),))
    columns = (ColumnSchema(1, "a", INT), ColumnSchema(2, "b", INT, default=5), ColumnSchema(3, "c", varchar(3)))
    new = TableSchema(1, "t", columns)
    row = compile_encoder(old)((1,))
    assert compile_decoder(new)(0, row) == (1, 5, None)
    assert compile_decoder(new)(0, compile_encoder(new)((1, None, None))) == (1, None, None)
    batch = BatchDecoder(new).decode(pack([(b"k", row), (b"l", compile_encoder(new)((1, None, "x")))]))
    assert batch.to_pydict() == {"a": [1, 1], "b": [5, None], "c": [None, "x"]}


def test_default_of_a_timestamp_is_in_utc() -> None:
    stamp = ColumnSchema(2, "b", TYPES["timestamp"], default=dt.datetime(2024, 1, 1))
    schema = TableSchema(1, "t", (ColumnSchema(1, "a", INT), stamp))
    row = build_row([(1, b"\x07")], [])
    tokyo = ZoneInfo("Asia/Tokyo")
    assert compile_decoder(schema, tz=tokyo)(0, row) == (7, dt.datetime(2024, 1, 1, 9))
    assert BatchDecoder(schema, tz=tokyo).decode(pack([(b"k", row)])).to_pylist() == [
        {"a": 7, "b": dt.datetime(2024, 1, 1, 9)}
    ]


@pytest.mark.parametrize("row", [b"\x81\x00\x00\x00\x00\x00", b"\x80\x00\x05\x00\x00\x00\x01"])
def test_what_is_no_row_is_refused(row: bytes) -> None:
    schema = TableSchema(1, "t", (ColumnSchema(1, "a", INT),))
    with pytest.raises(CodecError):
        compile_decoder(schema)(0, row)
    with pytest.raises(CodecError):
        BatchDecoder(schema).decode(pack([(b"k", row)]))
    with pytest.raises(CodecError):
        row_slices(row)


def test_short_row_at_the_end_of_a_batch() -> None:
    """A row of NULLs is shorter than the header that the decoder looks for in all of them."""
    columns = tuple(ColumnSchema(i, f"c{i}", INT) for i in range(1, 30))
    schema = TableSchema(1, "t", columns)
    encode = compile_encoder(schema)
    rows: list[tuple[Any, ...]] = [tuple(range(29)), (None,) * 29]
    batch = BatchDecoder(schema).decode(pack([(bytes((i,)), encode(row)) for i, row in enumerate(rows)]))
    assert batch_to_rows(batch, [c.type for c in columns]) == rows


@given(st.sampled_from([WIDE, WIDE_DEFAULTS]), st.data())
@settings(max_examples=60, deadline=None)
def test_a_patched_row_is_the_row_encoded(schema: TableSchema, data: st.DataObject) -> None:
    encode = compile_encoder(schema)
    old, new = data.draw(st.tuples(rows_of(schema), rows_of(schema)))
    changed = data.draw(st.frozensets(st.sampled_from(range(len(schema.columns)))))
    row = [new[i] if i in changed else value for i, value in enumerate(old)]
    assert compile_patcher(schema, changed, encode)(encode(old), row) == encode(row)


def test_patching_rows_of_other_shapes() -> None:
    columns = tuple(ColumnSchema(i + 1, f"c{i}", varchar(70_000), default="x" if i == 2 else None) for i in range(3))
    schema = TableSchema(1, "t", columns)
    encode, older = compile_encoder(schema), compile_encoder(TableSchema(1, "t", columns[:2]))
    patch = compile_patcher(schema, frozenset((1,)), encode)
    for stored in (
        older(("a", "b")),
        encode(("a", "b", "x")),
        encode(("a", None, "x")),
        encode(("a" * 66_000, "", "x")),
    ):
        for value in ("", "longer than it was", None, "y" * 66_000):
            first = "a" * 66_000 if len(stored) > 66_000 else "a"
            assert patch(stored, (first, value, "x")) == encode((first, value, "x"))


def test_cut_off_row_is_refused_in_bulk() -> None:
    schema = TableSchema(1, "t", (ColumnSchema(1, "a", varchar(9)),))
    row = compile_encoder(schema)(("abcdef",))
    with pytest.raises(CodecError):
        BatchDecoder(schema).decode(pack([(b"k", row[:-1])]))


@given(st.sampled_from([WIDE, WIDE_DEFAULTS]), st.data(), st.sampled_from([None, ZoneInfo("Europe/Berlin")]))
@settings(max_examples=35, deadline=None)
def test_vectorised_decoding_is_row_wise(schema: TableSchema, data: st.DataObject, tz: Any) -> None:
    rows = data.draw(st.lists(rows_of(schema), min_size=1, max_size=6))
    codec = TableCodec(schema)
    pairs = [codec.encode_record(row, i) for i, row in enumerate(rows)]
    offsets = data.draw(st.none() | st.lists(st.sampled_from(range(len(schema.columns))), unique=True))
    decode = codec.key_decoder(offsets, tz)
    expected = [decode(key, value) for key, value in pairs]
    check_chunks(codec, pairs, range(len(schema.columns)) if offsets is None else offsets, tz, expected)
    types = [c.type for c in schema.columns]
    for few in (0, vector.GROUP_ROWS_MIN):  # group by group, and all groups' rows together
        with patch.object(vector, "GROUP_ROWS_MIN", few):
            batch = BatchDecoder(schema, offsets, tz).decode(pack(pairs))
        assert batch.num_rows == len(rows)
        assert batch_to_rows(batch, types if offsets is None else [types[i] for i in offsets]) == expected


def test_rows_of_many_headers_and_of_before_a_column() -> None:
    columns = tuple(ColumnSchema(i + 1, f"c{i}", varchar(9), default="new" if i == 4 else None) for i in range(6))
    schema, older = TableSchema(1, "t", columns), TableSchema(1, "t", columns[:4])
    rows = [tuple(f"{n}.{i}" if n >> i & 1 else None for i in range(6)) for n in range(64)]
    encode, encode_older = compile_encoder(schema), compile_encoder(older)
    values = [v for row in rows for v in (encode(row), encode_older(row[:4]))]
    batch = BatchDecoder(schema, [4, 0, 3]).decode(pack([(b"%04d" % i, v) for i, v in enumerate(values)]))
    wanted = [r for row in rows for r in ((row[4], row[0], row[3]), ("new", row[0], row[3]))]
    assert batch_to_rows(batch, [columns[i].type for i in (4, 0, 3)]) == wanted
    with pytest.raises(CodecError):
        BatchDecoder(schema).decode(pack([(b"k", encode(rows[7])), (b"l", encode(rows[63])[:-1])]))


def check_chunks(
    codec: TableCodec, pairs: Sequence[tuple[bytes, bytes]], offsets: Sequence[int], tz: Any, expected: list[Any]
) -> None:
    """Chunks decode to the same rows, also where the values stand inside records."""
    decode = codec.chunk_decoder(offsets, tz)
    assert decode(Chunk.of(pairs)) == expected
    keys, values = [key for key, _ in pairs], [b"twelve bytes" + value for _, value in pairs]
    assert decode(Chunk(keys, values, skip=12)) == expected


@given(st.sampled_from([WIDE, WIDE_DEFAULTS]), st.data(), st.sampled_from([None, ZoneInfo("Europe/Berlin")]))
@settings(max_examples=35, deadline=None)
def test_vectorised_encoding_is_row_wise(schema: TableSchema, data: st.DataObject, tz: Any) -> None:
    rows = data.draw(st.lists(rows_of(schema), max_size=6))
    codec = TableCodec(schema)
    pairs = [codec.encode_record(codec.utc_row(row, tz), i) for i, row in enumerate(rows)]
    batch = rows_to_batch(rows, [c.name for c in schema.columns], [c.type for c in schema.columns])
    encoded = BatchEncoder(codec, tz).encode(batch, np.arange(len(rows)))
    assert list(zip(encoded.keys, encoded.values, strict=True)) == pairs


KEY_TYPES = [
    *("int", "ubigint", "year", "bit", "date", "datetime6", "timestamp", "time", "double", "float", "enum", "set"),
    *("dec15_2", "dec38_10", "dec65_30", "char", "varchar", "varchar_ci", "varbinary"),
]


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_common_handles_both_ways(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(KEY_TYPES), min_size=1, max_size=3))
    places = data.draw(st.permutations(range(len(names) + 1)))
    columns = tuple(index_column(data, i, [*names, "int"][i]) for i in places[: data.draw(st.integers(1, 2))])
    index = IndexSchema(9, "i", columns, unique=data.draw(st.booleans()))
    schema = common_table(*(TYPES[name] for name in names), indexes=(index,))
    rows = data.draw(st.lists(rows_of(schema), min_size=1, max_size=5))
    check_both_ways(schema, rows)


def index_column(data: st.DataObject, offset: int, name: str) -> IndexColumn:
    """The column as a part of an index, some text and bytes by a prefix."""
    can_be_cut = name.startswith("var") or name == "char"
    return IndexColumn(offset, data.draw(st.sampled_from([-1, 1, 3])) if can_be_cut else -1)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_indexes_over_any_columns_both_ways(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(KEY_TYPES), min_size=1, max_size=3))
    columns = [ColumnSchema(1, "id", BIGINT, True)]
    columns += [ColumnSchema(300 - i, f"c{i}", TYPES[name]) for i, name in enumerate(names)]
    parts = tuple(index_column(data, i + 1, name) for i, name in enumerate(names))
    index = IndexSchema(9, "i", parts, unique=data.draw(st.booleans()))
    schema = TableSchema(5, "t", tuple(columns), 0, indexes=(index,))
    check_both_ways(schema, data.draw(st.lists(rows_of(schema), min_size=1, max_size=5)))


@given(st.data(), st.sampled_from([None, ZoneInfo("Europe/Berlin")]))
@settings(max_examples=80, deadline=None)
def test_columns_of_common_handles_in_bulk(data: st.DataObject, tz: Any) -> None:
    names = data.draw(st.lists(st.sampled_from(KEY_TYPES), min_size=1, max_size=4))
    schema = common_table(*(TYPES[name] for name in names))
    codec = TableCodec(schema)
    rows = data.draw(st.lists(rows_of(schema), min_size=1, max_size=6))
    pairs = [codec.encode_record(row) for row in rows]
    offsets = data.draw(st.lists(st.sampled_from(range(len(schema.columns))), min_size=1, max_size=5))
    decode = codec.key_decoder(offsets, tz)
    batch = BatchDecoder(schema, offsets, tz).decode(pack_pairs(pairs, 0))
    assert batch_to_rows(batch, [schema.columns[i].type for i in offsets]) == [decode(k, v) for k, v in pairs]
    assert codec.key_decoder(offsets)(*pairs[0]) == tuple(rows[0][i] for i in offsets)
    if tz is not None:
        stamps = [schema.columns[i].type.tp == Tp.TIMESTAMP for i in offsets]
        values = [from_utc(rows[0][i], tz) if s else rows[0][i] for i, s in zip(offsets, stamps, strict=True)]
        assert decode(*pairs[0]) == tuple(values)


def test_long_strings_in_handles() -> None:
    schema = common_table(char(200), TYPES["varbinary"], INT)
    codec = TableCodec(schema)
    rows = [("é" * (n % 90), bytes([255, 0]) * (n % 41), n, n) for n in range(300)]
    batch = BatchDecoder(schema).decode(pack([codec.encode_record(row) for row in rows]))
    assert batch_to_rows(batch, [c.type for c in schema.columns]) == rows


def test_handles_of_another_form_than_the_columns() -> None:
    schema = common_table(TYPES["dec15_2"], char(9), INT)
    codec = TableCodec(schema)
    key, value = codec.encode_record((Decimal("1.50"), "ab", 7, 8))
    usual = codec.record_prefix + b"\x06" + decimal_encoder(15, 2)(Decimal("1.50"))
    assert key.startswith(usual)
    short = codec.record_prefix + b"\x06" + decimal_encoder(5, 1)(Decimal("-2.5")) + key[len(usual) :]
    null = codec.record_prefix + b"\x00" + key[len(usual) :]
    batch = BatchDecoder(schema, [0, 1, 2]).decode(pack([(key, value), (short, value), (null, value)]))
    numbers = [Decimal("1.50"), Decimal("-2.50"), None]
    assert [tuple(row.values()) for row in batch.to_pylist()] == [(number, "ab", 7) for number in numbers]
    for cut in range(len(codec.record_prefix) + 1, len(key)):
        with pytest.raises(CodecError):
            BatchDecoder(schema, [1, 2]).decode(pack([(key[:cut], value)]))


@given(st.data(), st.booleans(), st.booleans())
@settings(max_examples=35, deadline=None)
def test_integer_handles_and_indexes_both_ways(data: st.DataObject, unsigned: bool, unique: bool) -> None:
    indexes = (
        IndexSchema(1, "k", (IndexColumn(1),), unique=unique),
        IndexSchema(2, "sk", (IndexColumn(2, 3), IndexColumn(1)), unique=unique),
    )
    schema = int_table(unsigned=unsigned, indexes=indexes)
    check_both_ways(schema, data.draw(st.lists(rows_of(schema), min_size=1, max_size=5)))


def check_both_ways(schema: TableSchema, rows: list[tuple[Any, ...]]) -> None:
    """Codec, bulk encoder and bulk decoder agree on records and index entries, and everything reads back."""
    codec = TableCodec(schema)
    pairs = [codec.encode_record(row) for row in rows]
    types = [c.type for c in schema.columns]
    assert [codec.decode(key, value) for key, value in pairs] == rows
    check_chunks(codec, pairs, range(len(types)), None, rows)
    check_chunks(codec, pairs, [len(types) - 1, 0], None, [(row[-1], row[0]) for row in rows])
    assert batch_to_rows(BatchDecoder(schema).decode(pack(pairs)), types) == rows
    encoded = BatchEncoder(codec).encode(rows_to_batch(rows, [c.name for c in schema.columns], types))
    assert list(zip(encoded.keys, encoded.values, strict=True)) == pairs
    for run in encoded.indexes:
        check_index_decoders(codec, run.index, rows, list(zip(run.keys, run.values, strict=True)))
        for row, key, value in zip(rows, run.keys, run.values, strict=True):
            handle = codec.handle_of(row)
            assert codec.index_key_value(run.index, row, handle)[:2] == (key, value)
            assert (run.index, *codec.index_key_value(run.index, row, handle)) in codec.index_entries(row, handle)
            found = codec.handle_from_index(run.index, key, value)
            assert codec.record_key(found) == codec.record_key(handle)


def check_index_decoders(
    codec: TableCodec, index: IndexSchema, rows: list[tuple[Any, ...]], entries: list[tuple[bytes, bytes]]
) -> None:
    """Compiled decoders of an index tell what the rows say, in any zone and for any choice of columns."""
    covered = sorted(codec.index_covers(index))
    tokyo = ZoneInfo("Asia/Tokyo")
    types = [column.type.tp for column in codec.schema.columns]
    for offsets in [[], covered, covered[::-1], *([offset] for offset in covered)]:
        for row, entry in zip(rows, entries, strict=True):
            assert codec.index_decoder(index, offsets)(*entry) == tuple(row[i] for i in offsets)
            moved = [row[i] if types[i] != Tp.TIMESTAMP or row[i] is None else from_utc(row[i], tokyo) for i in offsets]
            assert codec.index_decoder(index, offsets, tokyo)(*entry) == tuple(moved)
    for row, entry in zip(rows, entries, strict=True):
        handle = codec.handle_of(row)
        assert codec.index_record_key(index)(*entry) == codec.record_key(handle)
        assert codec.index_decoder(index, [-1])(*entry) == (handle,)


def test_bulk_strings_of_all_lengths() -> None:
    # Windows of 8 to 64 bytes, their spill, and rows too long for small offsets.
    columns = (ColumnSchema(1, "a", varchar(90000)), ColumnSchema(2, "b", INT), ColumnSchema(3, "c", char(200)))
    schema = TableSchema(3, "s", columns)
    codec = TableCodec(schema)
    rows = [("ab" * n, n, "z" * (n * 7 % 190)) for n in [*range(200), 30000, 32768, 1, 40000]]
    batch = rows_to_batch(rows, ["a", "b", "c"], [c.type for c in columns])
    encoded = BatchEncoder(codec).encode(batch, np.arange(len(rows)))
    assert encoded.values == [encode_row(schema, row) for row in rows]
    decoded = BatchDecoder(schema).decode(pack(list(zip(encoded.keys, encoded.values, strict=True))))
    assert batch_to_rows(decoded, [c.type for c in columns]) == rows


def test_sliced_and_chunked_input() -> None:
    names = ("int", "varchar", "dec15_2", "enum")
    schema = TableSchema(3, "s", tuple(ColumnSchema(i + 1, n, TYPES[n]) for i, n in enumerate(names)))
    codec = TableCodec(schema)
    rows = [(i, f"s{i}" if i % 3 else None, Decimal(i).scaleb(-2), "red") for i in range(20)]
    batch = rows_to_batch(rows, names, [c.type for c in schema.columns])
    table = pa.Table.from_batches([batch.slice(3, 5), batch.slice(10, 4)])
    wanted = [encode_row(schema, row) for row in rows[3:8] + rows[10:14]]
    assert BatchEncoder(codec).encode(table, np.arange(9)).values == wanted
    assert BatchEncoder(codec).encode(batch.slice(3, 5), np.arange(5)).values == wanted[:5]


def test_colliding_headers_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector, "_HASH_PRIME", np.uint64(0))
    rows = [build_row([(1, b"\x01")], []), build_row([(2, b"\x01")], []), build_row([(1, b"\x02")], [2])]
    batch = pack([(b"k", row) for row in rows * 2])
    groups = header_groups(batch.values, batch.value_starts, batch.value_ends)
    assert sorted((header, found.tolist()) for header, found in groups) == sorted(
        (row[:7] if row[4] == 0 else row[:8], [i, i + 3]) for i, row in enumerate(rows)
    )


@given(st.binary(max_size=30), st.lists(st.integers(0, 40), max_size=8), st.integers(0, 20))
def test_windows_read_zeros_beyond_the_end(data: bytes, starts: list[int], width: int) -> None:
    found = windows(np.frombuffer(data, np.uint8), np.array(starts, np.int64), width)
    padded = data + bytes(80)
    assert [row.tobytes() for row in found] == [padded[start : start + width] for start in starts]


SHORT = TableSchema(1, "t", tuple(ColumnSchema(i, f"c{i}", INT) for i in (1, 2, 3, 4, 5, 6, 7, 300)))
NARROW = TableSchema(1, "t", SHORT.columns[:3])


@given(st.sampled_from([SHORT, NARROW]), st.data())
@settings(max_examples=60, deadline=None)
def test_short_rows_at_the_end_of_a_batch(schema: TableSchema, data: st.DataObject) -> None:
    value = st.none() | st.sampled_from([0, 1, -1, 300, 1 << 30])
    rows = data.draw(st.lists(st.tuples(*[value] * len(schema.columns)), min_size=1, max_size=5))
    encode = compile_encoder(schema)
    batch = pack_pairs([(b"%d" % i, encode(row)) for i, row in enumerate(rows)], 0)
    assert batch_to_rows(BatchDecoder(schema).decode(batch), [c.type for c in schema.columns]) == rows


def test_sort_run() -> None:
    assert sort_run([b"b", b"a", b"c"], [b"2", b"1", b"3"]) == ([b"a", b"b", b"c"], [b"1", b"2", b"3"])


def test_only_wanted_columns_are_read() -> None:
    schema = TableSchema(1, "t", (ColumnSchema(1, "a", INT), ColumnSchema(2, "b", varchar(9))))
    damaged = build_row([(1, b"\x01"), (2, b"\xff\xfe")], [])
    assert BatchDecoder(schema, [0]).decode(pack([(b"k", damaged)])).to_pydict() == {"a": [1]}
    assert compile_decoder(schema, [0])(0, damaged) == (1,)


def test_no_columns_still_count_rows() -> None:
    batch = BatchDecoder(int_table(), []).decode(pack([(b"k", b"v"), (b"l", b"w")]))
    assert (batch.num_rows, batch.num_columns) == (2, 0)


def test_zero_date_is_null_in_bulk() -> None:
    schema = TableSchema(1, "t", (ColumnSchema(1, "d", DATE), ColumnSchema(2, "m", FieldType(Tp.DATETIME, 19, 0))))
    row = build_row([(1, b"\x00"), (2, b"\x00")], [])
    assert BatchDecoder(schema).decode(pack([(b"k", row)])).to_pylist() == [{"d": None, "m": None}]
    assert compile_decoder(schema)(0, row) == (None, None)


def test_decimal_of_another_shape_than_the_column() -> None:
    schema = TableSchema(1, "t", (ColumnSchema(1, "d", decimal_type(15, 2)), ColumnSchema(2, "b", BIGINT)))
    row = build_row([(1, decimal_encoder(5, 2)(Decimal("-12.30"))), (2, b"\x01")], [])
    assert compile_decoder(schema)(0, row) == (Decimal("-12.30"), 1)
    assert BatchDecoder(schema).decode(pack([(b"k", row)])).to_pylist() == [{"d": Decimal("-12.30"), "b": 1}]
