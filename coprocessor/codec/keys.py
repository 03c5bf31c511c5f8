"""Keys of records and index entries, and the values of index entries (`pkg/tablecodec/tablecodec.go`).

record  `t` EncodeInt(table id) `_r` EncodeInt(handle), or the comparable datums of a common handle
index   `t` EncodeInt(table id) `_i` EncodeInt(index id), the comparable datums, and the handle when not distinct
        (a plain index, or a unique one with a NULL): 03 EncodeInt(handle), or the common handle's bytes

Index value of an int-handle table: `30` when the handle is in the key, else the 8 big-endian bytes of the handle. Of a
common-handle table: 00 7D 01, then 7F, u16 length and the handle when it is not in the key. Behind either there may be
restored data (`restored.py`); of an int-handle table the value is then the length of its tail, the data, and the tail:
the handle, or zeros up to ten bytes in all. What else TiDB writes (partition ids) is read over.
"""

from __future__ import annotations

import struct

from coprocessor.codec.datum import INT_FLAG, SIGN, U64_MASK, UINT_FLAG, skip_key_datum
from coprocessor.errors import CodecError
from kvstore.codec import prefix_end

TABLE_PREFIX = b"t"
RECORD_SEP = b"_r"
INDEX_SEP = b"_i"
RECORD_PREFIX_LEN = 11
RECORD_KEY_LEN = 19
INDEX_PREFIX_LEN = 19
COMMON_HANDLE_LEN_MIN = 9
OLD_INDEX_VALUE_LEN_MAX = 9
HANDLE_TAIL_LEN = 8

COMMON_HANDLE_FLAG = 0x7F
PARTITION_ID_FLAG = 0x7E
INDEX_VERSION_FLAG = 0x7D
RESTORED_DATA_FLAG = 0x80

INDEX_VALUE_IN_KEY = b"0"
_CLUSTERED_V1 = b"\x00\x7d\x01"
_HANDLE_TAIL = bytes((HANDLE_TAIL_LEN,))

_U64 = struct.Struct(">Q")
_U16 = struct.Struct(">H")
_FLAG_U64 = struct.Struct(">BQ")

Handle = int | bytes


def _int(value: int) -> bytes:
    return _U64.pack((value + SIGN) & U64_MASK)


def table_prefix(table_id: int) -> bytes:
    return TABLE_PREFIX + _int(table_id)


def record_prefix(table_id: int) -> bytes:
    return TABLE_PREFIX + _int(table_id) + RECORD_SEP


def index_prefix(table_id: int, index_id: int) -> bytes:
    return TABLE_PREFIX + _int(table_id) + INDEX_SEP + _int(index_id)


def prefix_next(key: bytes) -> bytes:
    """Returns the least key greater than every key that starts with `key`, a non-empty key of a table."""
    return prefix_end(key)


def prefix_range(prefix: bytes) -> tuple[bytes, bytes]:
    return prefix, prefix_next(prefix)


def record_range(table_id: int) -> tuple[bytes, bytes]:
    """The half-open range of all keys that begin as the table's records do."""
    return prefix_range(record_prefix(table_id))


def all_records(table_id: int) -> tuple[bytes, bytes]:
    """The half-open range of all records of the table, as a store may be asked for it.

    It begins a byte behind the prefix, which is no record's key: where handles are integers, TiKV takes a scan from a
    key to that key's successor for a get of the one key (`tidb_query_common`, `is_prefix_next`), and finds nothing.
    """
    start, end = record_range(table_id)
    return start + b"\0", end


def index_key_range(table_id: int, index_id: int) -> tuple[bytes, bytes]:
    return prefix_range(index_prefix(table_id, index_id))


def table_range(table_id: int) -> tuple[bytes, bytes]:
    """The half-open range of everything of the table: records and indexes."""
    return prefix_range(table_prefix(table_id))


def encode_handle(handle: Handle) -> bytes:
    """The handle as it stands in a record key. An unsigned handle may be given as itself or as its signed twin."""
    return handle if isinstance(handle, bytes) else _int(handle)


def pad_common_handle(datums: bytes) -> bytes:
    """TiDB pads a common handle to nine bytes, so that no record key is as long as one with an int handle."""
    return datums if len(datums) >= COMMON_HANDLE_LEN_MIN else datums.ljust(COMMON_HANDLE_LEN_MIN, b"\x00")


def record_key(table_id: int, handle: Handle) -> bytes:
    return record_prefix(table_id) + encode_handle(handle)


def table_id_of(key: bytes) -> int:
    """Returns the table id of a record or index key."""
    if key[:1] != TABLE_PREFIX or len(key) < 9:
        raise CodecError(f"not a key of a table: {key.hex()}")
    return int(_U64.unpack_from(key, 1)[0]) - SIGN


def is_record_key(key: bytes) -> bool:
    return key[:1] == TABLE_PREFIX and key[9:11] == RECORD_SEP


def is_index_key(key: bytes) -> bool:
    return key[:1] == TABLE_PREFIX and key[9:11] == INDEX_SEP


def index_id_of(key: bytes) -> int:
    if not is_index_key(key) or len(key) < INDEX_PREFIX_LEN:
        raise CodecError(f"not an index key: {key.hex()}")
    return int(_U64.unpack_from(key, 11)[0]) - SIGN


def int_handle_of(key: bytes) -> int:
    """Returns the handle of a record key of a table with int handles."""
    if len(key) != RECORD_KEY_LEN or key[9:11] != RECORD_SEP:
        raise CodecError(f"not a record key with an int handle: {key.hex()}")
    return int(_U64.unpack_from(key, 11)[0]) - SIGN


def common_handle_of(key: bytes) -> bytes:
    """Returns the handle of a record key of a table with a common handle."""
    if key[9:11] != RECORD_SEP or len(key) <= RECORD_PREFIX_LEN:
        raise CodecError(f"not a record key: {key.hex()}")
    return key[RECORD_PREFIX_LEN:]


def handle_of_record_key(key: bytes, *, common: bool) -> Handle:
    return common_handle_of(key) if common else int_handle_of(key)


def handle_suffix(handle: Handle) -> bytes:
    """The handle as it is appended to the key of an entry that is not distinct."""
    return handle if isinstance(handle, bytes) else _FLAG_U64.pack(INT_FLAG, (handle + SIGN) & U64_MASK)


def index_value(handle: Handle, *, distinct: bool) -> bytes:
    """The value of an index entry; `distinct` when the handle is not in the key."""
    if isinstance(handle, bytes):
        if not distinct:
            return _CLUSTERED_V1
        return _CLUSTERED_V1 + b"\x7f" + _U16.pack(len(handle)) + handle
    return _U64.pack(handle & U64_MASK) if distinct else INDEX_VALUE_IN_KEY


def add_restored(value: bytes, restored: bytes) -> bytes:
    """The value of an index entry with restored data, out of the one without."""
    if len(value) == HANDLE_TAIL_LEN:
        return _HANDLE_TAIL + restored + value
    if value.startswith(_CLUSTERED_V1):
        return value + restored
    missing = OLD_INDEX_VALUE_LEN_MAX - len(restored)
    return b"\0" + restored if missing <= 0 else bytes((missing,)) + restored + bytes(missing)


def handle_from_index_value(value: bytes) -> Handle | None:
    """Returns the handle in the value of an index entry, None when it is in the key. Reads all of TiDB's forms."""
    if len(value) <= OLD_INDEX_VALUE_LEN_MAX:
        return _old_index_value(value)
    tail_len = value[0]
    options, tail = value[1 : len(value) - tail_len], value[len(value) - tail_len :]
    if options[:1] == bytes((INDEX_VERSION_FLAG,)):
        options = options[2:]
    if options[:1] == bytes((COMMON_HANDLE_FLAG,)):
        (length,) = _U16.unpack_from(options, 1)
        if len(options) < 3 + length:
            raise CodecError(f"index value cut short: {value.hex()}")
        return options[3 : 3 + length]
    if tail_len >= HANDLE_TAIL_LEN:
        return _signed(tail[:HANDLE_TAIL_LEN])
    return None


def restored_in(value: bytes) -> bytes | None:
    """Returns the restored data in the value of an index entry: a row (version 2), None where there is none."""
    if len(value) <= OLD_INDEX_VALUE_LEN_MAX:
        return None
    at, end = 1, len(value) - value[0]
    if value[at] == INDEX_VERSION_FLAG:
        at += 2
    if at < end and value[at] == COMMON_HANDLE_FLAG:
        at += 3 + int(_U16.unpack_from(value, at + 1)[0])
    if at < end and value[at] == PARTITION_ID_FLAG:
        at += 1 + HANDLE_TAIL_LEN
    return value[at:end] if at < end and value[at] == RESTORED_DATA_FLAG else None


def _old_index_value(value: bytes) -> Handle | None:
    if len(value) in (8, 9):
        return _signed(value[:8])
    if value == INDEX_VALUE_IN_KEY or value[1:2] == bytes((INDEX_VERSION_FLAG,)):
        return None
    raise CodecError(f"index value of unknown form: {value.hex()}")


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def handle_from_index_key(key: bytes, datums: int, *, common: bool) -> Handle:
    """Returns the handle that follows the `datums` values of an index key."""
    pos = INDEX_PREFIX_LEN
    for _ in range(datums):
        pos = skip_key_datum(key, pos)
    if common:
        return key[pos:]
    if len(key) != pos + 9 or key[pos] not in (INT_FLAG, UINT_FLAG):
        raise CodecError(f"index key without handle: {key.hex()}")
    (bits,) = _U64.unpack_from(key, pos + 1)
    if key[pos] == INT_FLAG:
        return int(bits) - SIGN
    return int(bits) - (1 << 64) if bits & SIGN else int(bits)
