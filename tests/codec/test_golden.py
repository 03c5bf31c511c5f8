"""Bytes that TiDB and TiKV write, from their public tests and layouts: ours are the same."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from coprocessor.codec import json_binary, keys
from coprocessor.codec.datum import decode_datum, encode_datum, key_encoder
from coprocessor.codec.decimals import decimal_encoder, decode_decimal
from coprocessor.codec.row import build_row, compile_decoder, compile_encoder, row_slices
from coprocessor.codec.temporal import pack_datetime
from coprocessor.schema import ColumnSchema, IndexColumn, IndexSchema, TableSchema
from coprocessor.table import TableCodec
from coprocessor.types import BIGINT, DOUBLE, JSON, UBIGINT, FieldType, Tp, decimal_type, varchar
from tests.codec.samples import common_table, int_table

ROW_COLUMNS = (
    (1, BIGINT, 1000),
    (12, BIGINT, 2),
    (33, BIGINT, None),
    (3, UBIGINT, 3),
    (8, BIGINT, 32767),
    (7, varchar(10), "abc"),
    (9, DOUBLE, 1.8),
    (6, DOUBLE, -1.8),
    (13, FieldType(Tp.DATETIME, 19, 0), dt.datetime(2018, 1, 19, 3, 14, 7)),
    (14, decimal_type(1, 0), Decimal(1)),
    (15, JSON, '{"key": "value"}'),
    (16, FieldType(Tp.DURATION, 10, 0), dt.timedelta(seconds=1)),
)
ROW = bytes.fromhex(
    "80000b000100010306070809 0c0d0e0f1021"
    "0200 0300 0b00 0e00 1000 1800 1900 2100 2400 4100 4500"
    "e803 03 4003333333333332 616263 ff7f bffccccccccccccd 02"
    "0000008733e69e19 010081 01010000001c000000130000000300 0c16000000 6b6579 0576616c7565 00ca9a3b"
)


def test_row_of_every_kind() -> None:
    # TiKV, row/v2/encoder_for_test.rs, test_encode. A NULL is listed there although its column has no default.
    columns = tuple(ColumnSchema(i, f"c{i}", t, default=0 if v is None else None) for i, t, v in ROW_COLUMNS)
    schema = TableSchema(1, "t", columns)
    values = tuple(v for _, _, v in ROW_COLUMNS)
    assert compile_encoder(schema)(values) == ROW
    assert compile_decoder(schema)(1, ROW) == values


def test_row_of_extreme_integers() -> None:
    schema = TableSchema(1, "t", (ColumnSchema(1, "a", UBIGINT), ColumnSchema(2, "b", BIGINT)))
    row = bytes.fromhex("80 00 0200 0000 01 02 0800 0900 ffffffffffffffff ff")
    assert compile_encoder(schema)(((1 << 64) - 1, -1)) == row
    assert compile_decoder(schema)(1, row) == ((1 << 64) - 1, -1)


def test_big_row() -> None:
    # TiKV, row/v2/encoder_for_test.rs, test_encode_big.
    row = bytes.fromhex(
        "80 01 0400 0100 01000000 03000000 08000000 0c000000 4f010000"
        "02000000 03000000 05000000 06000000 e803 03 ff7f 02"
    )
    ids = ((1, 1000), (12, 2), (335, None), (3, 3), (8, 32767))
    schema = TableSchema(
        1, "t", tuple(ColumnSchema(i, f"c{i}", BIGINT, default=0 if v is None else None) for i, v in ids)
    )
    assert compile_encoder(schema)([v for _, v in ids]) == row
    assert compile_decoder(schema)(1, row) == tuple(v for _, v in ids)


def test_row_with_values_over_64_kilobytes_is_big() -> None:
    row = build_row([(1, b"x" * 65536)], [2])
    assert row[:18] == bytes.fromhex("80 01 0100 0100 01000000 02000000 00000100")
    assert row_slices(row) == {1: b"x" * 65536, 2: None}


def test_row_with_checksum_reads_over_it() -> None:
    schema = TableSchema(1, "t", (ColumnSchema(1, "a", BIGINT), ColumnSchema(2, "b", varchar(9))))
    row = bytes.fromhex("80 02 0200 0000 01 02 0100 0300 07 6162 00 deadbeef")
    assert compile_decoder(schema)(1, row) == (7, "ab")


@pytest.mark.parametrize(
    ("text", "prec", "frac", "encoded"),
    [
        # MySQL's own example (strings/decimal.c, decimal2bin): 1234567890.1234 as DECIMAL(14, 4), and its negative.
        ("1234567890.1234", 14, 4, "810dfb38d204d2"),
        ("-1234567890.1234", 14, 4, "7ef204c72dfb2d"),
        ("0", 1, 0, "80"),
        ("-1", 1, 0, "7e"),
        ("0.000000001", 10, 9, "8000000001"),
    ],
)
def test_decimal(text: str, prec: int, frac: int, encoded: str) -> None:
    data = bytes((prec, frac)) + bytes.fromhex(encoded)
    assert decimal_encoder(prec, frac)(Decimal(text)) == data
    assert decode_decimal(data) == Decimal(text)


def test_packed_time() -> None:
    assert pack_datetime(dt.datetime(2018, 1, 19, 3, 14, 7)) == 0x199EE63387000000


def test_json_containers() -> None:
    # Literals stand in their entry; other values at their offset.
    data = json_binary.encode_text('[null, true, -1, "a"]')
    assert data == bytes.fromhex(
        "03 04000000 26000000 0400000000 0401000000 091c000000 0c24000000 ffffffffffffffff 0161"
    )
    assert json_binary.decode_text(data) == '[null, true, -1, "a"]'


@pytest.mark.parametrize(
    ("type_", "value", "in_key", "in_value"),
    [
        (BIGINT, -1, "037fffffffffffffff", "0801"),
        (UBIGINT, 1 << 63, "048000000000000000", "0980808080808080808001"),
        (DOUBLE, 1.0, "05bff0000000000000", "05bff0000000000000"),
        (DOUBLE, -1.0, "05400fffffffffffff", "05400fffffffffffff"),
        (decimal_type(3, 1), Decimal("12.3"), "0603018c03", "0603018c03"),
        (varchar(20), "abcdefgh  ", "016162636465666768ff0000000000000000f7", "021461626364656667682020"),
        (varchar(20), "ab", "016162000000000000f9", "02046162"),
        (FieldType(Tp.ENUM, elems=("a", "b")), "b", "040000000000000002", "0902"),
        (FieldType(Tp.DURATION), dt.timedelta(seconds=-1), "077fffffffc4653600", "077fffffffc4653600"),
        (BIGINT, None, "00", "00"),
    ],
)
def test_datum(type_: FieldType, value: object, in_key: str, in_value: str) -> None:
    assert key_encoder(type_)(value).hex() == in_key
    assert encode_datum(type_, value).hex() == in_value
    assert decode_datum(type_, bytes.fromhex(in_value)) == (value, len(in_value) // 2)


def test_record_keys() -> None:
    assert keys.record_key(1, 2).hex() == "74" + "8000000000000001" + "5f72" + "8000000000000002"
    assert keys.record_key(1, (1 << 64) - 1) == keys.record_key(1, -1)
    assert keys.index_prefix(1, 3).hex() == "74" + "8000000000000001" + "5f69" + "8000000000000003"


def test_index_entries_of_an_integer_handle() -> None:
    plain = IndexSchema(1, "k", (IndexColumn(1),), unique=False)
    unique = IndexSchema(2, "u", (IndexColumn(1),), unique=True)
    codec = TableCodec(int_table(indexes=(plain, unique)))
    entries = [
        (key.hex()[38:], value.hex(), distinct) for _, key, value, distinct in codec.index_entries((7, 9, "x"), 7)
    ]
    assert entries == [
        ("038000000000000009" + "038000000000000007", "30", False),
        ("038000000000000009", "0000000000000007", True),
    ]
    (_, key, value, distinct) = codec.index_entries((7, None, "x"), 7)[1]
    assert (key.hex()[38:], value, distinct) == ("00" + "038000000000000007", b"0", False)


def test_index_entries_of_a_common_handle() -> None:
    plain = IndexSchema(1, "k", (IndexColumn(2),), unique=False)
    unique = IndexSchema(2, "u", (IndexColumn(2),), unique=True)
    codec = TableCodec(common_table(BIGINT, BIGINT, indexes=(plain, unique)))
    handle = codec.handle_of((1, 2, 9))
    assert handle == bytes.fromhex("038000000000000001" + "038000000000000002")
    entries = [(key[19:], value.hex()) for _, key, value, _ in codec.index_entries((1, 2, 9), handle)]
    datum = bytes.fromhex("038000000000000009")
    assert entries == [(datum + handle, "007d01"), (datum, "007d017f0012" + handle.hex())]


def test_restored_data_of_an_integer_handle() -> None:
    """All columns of the index as the index cuts them, of any type; NULLs by their ids."""
    plain = IndexSchema(1, "s", (IndexColumn(2),), unique=False)
    unique = IndexSchema(2, "ks", (IndexColumn(1), IndexColumn(2, 3)), unique=True)
    codec = TableCodec(int_table(indexes=(plain, unique)))

    def values(*row: object) -> list[str]:
        return [value.hex(" ") for _, _, value, _ in codec.index_entries(row, 5)]

    assert values(5, 9, "a  b ") == [
        "00 80 00 01 00 00 00 03 05 00 61 20 20 62 20",
        "08 80 00 02 00 00 00 02 03 01 00 04 00 09 61 20 20 00 00 00 00 00 00 00 05",
    ]
    assert values(5, 9, None) == [
        "02 80 00 00 00 01 00 03 00 00",
        "00 80 00 01 00 01 00 02 03 01 00 09",
    ]


def test_restored_data_of_a_common_handle() -> None:
    """How many spaces were cut: of text of the index, and of the primary key; none of NULL."""
    columns = (
        ColumnSchema(1, "p", varchar(10), True),
        ColumnSchema(2, "n", BIGINT, True),
        ColumnSchema(3, "s", varchar(10)),
    )
    plain = IndexSchema(1, "s", (IndexColumn(2),), unique=False)
    unique = IndexSchema(2, "sp", (IndexColumn(2, 2), IndexColumn(0, 2)), unique=True)
    schema = TableSchema(5, "t", columns, common_handle=(IndexColumn(0, 4), IndexColumn(1)), indexes=(plain, unique))
    codec = TableCodec(schema)

    def values(*row: object) -> list[str]:
        return [value.hex(" ") for _, _, value, _ in codec.index_entries(row, codec.handle_of(row))]

    # the key holds "x", which is all of the first four characters but spaces
    handle = "01 78 00 00 00 00 00 00 00 f8 03 80 00 00 00 00 00 00 07"
    assert values("x      ", 7, "a  b") == [
        "00 7d 01 80 00 02 00 00 00 01 03 01 00 02 00 03 00",
        f"00 7d 01 7f 00 13 {handle} 80 00 02 00 00 00 01 03 01 00 02 00 03 01",
    ]
    assert values("x", 7, None) == ["00 7d 01 80 00 02 00 00 00 01 03 01 00 02 00 00 00"] * 2


def test_text_whose_key_tells_all_has_no_restored_data() -> None:
    columns = (
        ColumnSchema(1, "id", BIGINT, True),
        ColumnSchema(2, "c", FieldType(Tp.STRING, 9, charset="utf8mb4", collate="utf8mb4_bin")),
        ColumnSchema(3, "v", FieldType(Tp.VARCHAR, 9, charset="binary", collate="binary")),
        ColumnSchema(4, "t", FieldType(Tp.BLOB, charset="utf8mb4", collate="utf8mb4_bin")),
    )
    indexes = tuple(IndexSchema(i, "i", (IndexColumn(i, -1 if i < 3 else 2),), unique=False) for i in (1, 2, 3))
    codec = TableCodec(TableSchema(5, "t", columns, 0, indexes=indexes))
    assert [value for _, _, value, _ in codec.index_entries((5, "a", b"b ", "c "), 5)] == [b"0"] * 3


@pytest.mark.parametrize(
    ("value", "handle"),
    [
        ("30", None),
        # Version 0, nothing but NULLs and padding.
        ("02 80000000010003 0000", None),
        # Version 1 with restored data.
        ("007d01 80000100000003010002", None),
        ("0000000000000007", 7),
        ("ffffffffffffffff", -1),
        ("007d01", None),
        ("007d017f0009038000000000000001", bytes.fromhex("038000000000000001")),
        # Version 0 with restored data: the tail is the integer handle.
        ("08" + "80000100000001 0100 61".replace(" ", "") + "0000000000000005", 5),
        # Version 0, common handle and padding.
        ("007f0009038000000000000001", bytes.fromhex("038000000000000001")),
    ],
)
def test_handles_in_index_values_of_every_form(value: str, handle: object) -> None:
    assert keys.handle_from_index_value(bytes.fromhex(value)) == handle


def test_short_common_handle_is_padded() -> None:
    codec = TableCodec(common_table(decimal_type(2, 0)))
    assert codec.handle_of((Decimal(7), 1)) == bytes.fromhex("06020087").ljust(9, b"\x00")
