from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore import codec

I64 = st.integers(-(1 << 63), (1 << 63) - 1)
U64 = st.integers(0, (1 << 64) - 1)


@pytest.mark.parametrize(
    ("encoded", "want"),
    [
        (codec.encode_int(1), "8000000000000001"),
        (codec.encode_int(-1), "7fffffffffffffff"),
        (codec.encode_int_desc(1), "7ffffffffffffffe"),
        (codec.encode_uint(258), "0000000000000102"),
        (codec.encode_uint_desc(0), "ffffffffffffffff"),
        (codec.encode_float(1.0), "bff0000000000000"),
        (codec.encode_float(-1.0), "400fffffffffffff"),
        (codec.encode_bytes(b""), "0000000000000000f7"),
        (codec.encode_bytes(b"\x01\x02\x03"), "0102030000000000fa"),
        (codec.encode_bytes(b"\x01\x02\x03\x00"), "0102030000000000fb"),
        (codec.encode_bytes(bytes(range(1, 9))), "0102030405060708ff0000000000000000f7"),
        (codec.encode_bytes_desc(b"\x01"), "feffffffffffffff07"),
        (codec.encode_uvarint(300), "ac02"),
        (codec.encode_varint(-3), "05"),
        (codec.encode_varint(3), "06"),
        (codec.encode_compact_bytes(b"ab"), "046162"),
    ],
)
def test_golden(encoded: bytes, want: str) -> None:
    assert encoded.hex() == want


@given(I64, I64)
def test_integers_sort_and_return(a: int, b: int) -> None:
    assert codec.decode_int(codec.encode_int(a)) == (a, 8)
    assert codec.decode_int_desc(codec.encode_int_desc(a)) == (a, 8)
    assert (codec.encode_int(a) < codec.encode_int(b)) == (a < b)
    assert (codec.encode_int_desc(a) > codec.encode_int_desc(b)) == (a < b)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_floats_sort_and_return(a: float, b: float) -> None:
    assert codec.decode_float(codec.encode_float(a)) == (a, 8)
    assert codec.decode_float_desc(codec.encode_float_desc(a)) == (a, 8)
    if a < b:
        assert codec.encode_float(a) < codec.encode_float(b)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_bytes_sort_and_return(a: bytes, b: bytes) -> None:
    encoded = codec.encode_bytes(a)
    assert len(encoded) == codec.encoded_bytes_length(len(a))
    assert codec.decode_bytes(b"x" + encoded + b"y", 1) == (a, 1 + len(encoded))
    assert codec.decode_bytes_desc(codec.encode_bytes_desc(a)) == (a, len(encoded))
    assert (encoded < codec.encode_bytes(b)) == (a < b)
    assert (codec.encode_bytes_desc(a) > codec.encode_bytes_desc(b)) == (a < b)


@given(U64, I64, st.binary(max_size=300))
def test_compact_forms_return(u: int, i: int, data: bytes) -> None:
    assert codec.decode_uvarint(codec.encode_uvarint(u)) == (u, len(codec.encode_uvarint(u)))
    assert codec.decode_varint(codec.encode_varint(i))[0] == i
    assert codec.decode_compact_bytes(codec.encode_compact_bytes(data))[0] == data


@pytest.mark.parametrize("damaged", [b"", b"\x00" * 8, b"\x00" * 8 + b"\x05", b"\x00\x00\x00\x00\x00\x00\x00\x01\xf7"])
def test_damaged_bytes_are_refused(damaged: bytes) -> None:
    with pytest.raises(codec.CodecError):
        codec.decode_bytes(damaged)


def test_endless_varint_is_refused() -> None:
    with pytest.raises(codec.CodecError):
        codec.decode_uvarint(b"\xff" * 11)


@given(st.binary(max_size=5))
def test_prefix_end(prefix: bytes) -> None:
    end = codec.prefix_end(prefix)
    assert not end or (prefix + b"\xff" * 9 < end and end > prefix)
    assert bool(end) == bool(prefix.strip(b"\xff"))
