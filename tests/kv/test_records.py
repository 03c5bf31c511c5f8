"""Lock and write records and their keys, to the byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.codec import CodecError, decode_bytes
from kvstore.mvcc.keys import data_key, user_key, version_ts, versioned
from kvstore.mvcc.record import LastChange, Lock, LockType, Write, WriteType

U64 = st.integers(1, (1 << 64) - 1)


def test_write_golden() -> None:
    assert Write(WriteType.PUT, 1, b"ab").encode().hex() == "5001" + "7602" + "6162"
    assert Write(WriteType.DELETE, 300).encode().hex() == "44ac02"
    assert Write.rollback(5, protected=True).encode().hex() == "5205" + "760170"
    full = Write(WriteType.PUT, 1, b"", True, 7, LastChange(9, 2), 3)
    assert full.encode().hex() == "5001" + "7600" + "52" + "460000000000000007" + "6c000000000000000902" + "5303"


def test_lock_golden() -> None:
    lock = Lock(LockType.PUT, b"pk", 1, 2, b"v", 3, 4, 5, (b"s",), (6,), LastChange(7, 1), 8)
    want = "50" + "04706b" + "01" + "02" + "760176" + "660000000000000003" + "740000000000000004"
    want += "630000000000000005" + "61010273" + "72010000000000000006" + "6c000000000000000701" + "7308"
    assert lock.encode().hex() == want
    assert Lock.decode(lock.encode()) == lock


def test_keys_golden() -> None:
    assert data_key(b"abc").hex() == "7a" + "6162630000000000fa"
    assert versioned(data_key(b"abc"), 1).hex() == "7a6162630000000000fa" + "fffffffffffffffe"


@given(st.binary(max_size=120), U64)
def test_keys_return(key: bytes, ts: int) -> None:
    record_key = versioned(data_key(key), ts)
    assert user_key(record_key) == user_key(data_key(key)) == key
    assert version_ts(record_key) == ts


@given(st.binary(max_size=40), st.integers(1), st.integers(1, 255))
def test_a_damaged_key_is_read_as_group_by_group(key: bytes, at: int, flip: int) -> None:
    damaged = bytearray(data_key(key))
    damaged[1 + at % (len(damaged) - 1)] ^= flip
    try:
        want = decode_bytes(bytes(damaged), 1)[0]
    except CodecError:
        with pytest.raises(CodecError):
            user_key(bytes(damaged))
    else:
        assert user_key(bytes(damaged)) == want


@given(
    st.sampled_from(WriteType), U64, st.none() | st.binary(max_size=255), st.booleans(), st.none() | U64, st.booleans()
)
def test_writes_return(
    kind: WriteType, start_ts: int, value: bytes | None, overlapped: bool, fence: int | None, change: bool
) -> None:
    write = Write(kind, start_ts, value, overlapped, fence, LastChange(3, 4) if change else None)
    assert Write.decode(write.encode()) == write
    assert Write.decode(write.encode() + b"?future") == write
