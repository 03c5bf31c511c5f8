"""Rows of version 1: read as the rows that they stand for, row by row and in batches, and refused when damaged."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coprocessor.arrow import batch_to_rows
from coprocessor.codec.datum import encode_datum
from coprocessor.codec.row import compile_decoder, encode_row, row_slices, stored_offsets
from coprocessor.codec.row_v1 import version_2_of
from coprocessor.codec.vector import BatchDecoder
from coprocessor.errors import CodecError
from coprocessor.schema import TableSchema
from coprocessor.table import TableCodec
from coprocessor.types import BIGINT
from kvstore.mvcc.packed import pack_pairs
from tests.codec.samples import int_table, values_of, wide_table

WIDE = wide_table()


def version_1(schema: TableSchema, values: tuple[Any, ...]) -> bytes:
    """A row as TiDB wrote it: pairs of a column's id and its value, in the order of the columns."""
    pairs = [
        encode_datum(BIGINT, schema.columns[at].id) + encode_datum(schema.columns[at].type, values[at])
        for at in stored_offsets(schema)
    ]
    return b"".join(pairs) or b"\0"


def wide_rows() -> st.SearchStrategy[tuple[Any, ...]]:
    columns = [values_of(c.type) if c.not_null else st.none() | values_of(c.type) for c in WIDE.columns]
    return st.tuples(*columns)


@settings(max_examples=150)
@given(st.lists(st.tuples(wide_rows(), st.booleans()), min_size=1, max_size=12))
def test_old_and_new_rows_read_the_same(rows: list[tuple[tuple[Any, ...], bool]]) -> None:
    codec = TableCodec(WIDE)
    every = list(range(len(WIDE.columns)))
    decode = compile_decoder(WIDE, every, None)
    new = [encode_row(WIDE, values) for values, _ in rows]
    mixed = [version_1(WIDE, values) if old else row for (values, old), row in zip(rows, new, strict=True)]
    assert [decode(7, row) for row in mixed] == [decode(7, row) for row in new]
    keys = [codec.record_key(i) for i in range(len(rows))]
    batches = [
        BatchDecoder(WIDE, every).decode(pack_pairs(list(zip(keys, some, strict=True)), 0)) for some in (mixed, new)
    ]
    types = [column.type for column in WIDE.columns]
    assert batch_to_rows(batches[0], types) == batch_to_rows(batches[1], types)


def test_bytes_of_a_row_that_tidb_wrote() -> None:
    """Its bootstrap's row of `mysql.tidb`: ('bootstrapped', 'True', 'Bootstrap flag. Do not delete.')."""
    name, value, comment = b"bootstrapped", b"True", b"Bootstrap flag. Do not delete."
    row = b"".join(bytes((8, 2 * i, 2, 2 * len(text))) + text for i, text in enumerate((name, value, comment), start=1))
    assert row_slices(version_2_of(row)) == {1: name, 2: value, 3: comment}
    assert row_slices(version_2_of(b"\0")) == {}
    assert row_slices(version_2_of(b"\x08\x02\x00")) == {1: None}


def test_numbers_of_either_form() -> None:
    """Fixed and variable lengths hold the same numbers."""
    sign = 1 << 63
    for number in (0, 1, -1, 127, -128, 300, 1 << 40, -(1 << 62)):
        fixed = bytes((8, 2, 3)) + (number + sign).to_bytes(8, "big")
        assert row_slices(version_2_of(fixed)) == row_slices(version_2_of(b"\x08\x02" + encode_datum(BIGINT, number)))
    assert row_slices(version_2_of(b"\x08\x02\x04" + (1 << 63).to_bytes(8, "big"))) == {
        1: (1 << 63).to_bytes(8, "little")
    }


DAMAGED = [
    b"\x08",
    b"\x08\x02",
    b"\x08\x02\x02\x0cab",
    b"\x08\x02\x05\x00",
    b"\x08\x02\x06\x41\x42\x00",
    b"\x08\x01\x00",
    b"\x08\x02\xfb",
    b"\x02\x02a\x00",
    b"\x08\x02\x0a\x01",
    b"\x08\x02\x0a\xee",
]


@pytest.mark.parametrize("row", DAMAGED, ids=bytes.hex)
def test_what_is_no_row_is_refused(row: bytes) -> None:
    schema = int_table()
    with pytest.raises(CodecError):
        version_2_of(row)
    with pytest.raises(CodecError):
        compile_decoder(schema, [1], None)(1, row)
    key = TableCodec(schema).record_key(1)
    with pytest.raises(CodecError):
        BatchDecoder(schema, [1]).decode(pack_pairs([(key, row)], 0))
