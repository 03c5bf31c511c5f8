"""The `m` keys: where the schema, its version, ids and their counters are stored, in TiDB's layout.

    m EncodeBytes(key) EncodeUint('s')                        a string value: NextGlobalID, SchemaVersionKey,
    Diff:<version> m EncodeBytes(key) EncodeUint('h') EncodeBytes(field)     a field of a hash: DBs{DB:<id>},
    DB:<id>{Table:<id>, IID:<id>, TID:<id>}

(`pkg/meta/meta.go`, `pkg/structure`.) Counters are ASCII decimals and hold the last id in use; objects are JSON. Of
our own are the hashes `Stats` (statistics of a table), `DDLJobs` (schema changes that are not finished) and
`DeleteRanges` (key ranges of dropped objects): a TiDB server neither reads nor misses them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kvstore.codec import decode_bytes, decode_uint, encode_bytes, encode_uint, prefix_end
from sqlfront.catalog.info import DBInfo, SchemaDiff, TableInfo

if TYPE_CHECKING:
    from kvstore.client.api import Reader, Transaction

META_PREFIX = b"m"
_STRING = encode_uint(ord("s"))
_HASH = encode_uint(ord("h"))

NEXT_GLOBAL_ID = b"NextGlobalID"
SCHEMA_VERSION = b"SchemaVersionKey"
BOOTSTRAP = b"BootstrapKey"
DBS = b"DBs"
STATS = b"Stats"
ROW_COUNTS = b"RowCounts"
DDL_JOBS = b"DDLJobs"
DELETE_RANGES = b"DeleteRanges"


def string_key(key: bytes) -> bytes:
    return META_PREFIX + encode_bytes(key) + _STRING


def hash_key(key: bytes, field: bytes) -> bytes:
    return META_PREFIX + encode_bytes(key) + _HASH + encode_bytes(field)


def hash_range(key: bytes) -> tuple[bytes, bytes]:
    prefix = META_PREFIX + encode_bytes(key) + _HASH
    return prefix, prefix_end(prefix)


def decode_hash_field(key: bytes) -> tuple[bytes, bytes]:
    """Returns (hash key, field) of a hash field's key."""
    name, at = decode_bytes(key, len(META_PREFIX))
    kind, at = decode_uint(key, at)
    if key[:1] != META_PREFIX or kind != ord("h"):
        raise ValueError(f"not a key of a hash field: {key.hex()}")
    field, _ = decode_bytes(key, at)
    return name, field


def db_key(db_id: int) -> bytes:
    return b"DB:%d" % db_id


def table_field(table_id: int) -> bytes:
    return b"Table:%d" % table_id


def auto_increment_field(table_id: int) -> bytes:
    return b"IID:%d" % table_id


def row_id_field(table_id: int) -> bytes:
    return b"TID:%d" % table_id


def diff_key(version: int) -> bytes:
    return b"Diff:%d" % version


class MetaReader:
    """Reads the stored schema at one timestamp."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def string(self, key: bytes) -> bytes | None:
        return self.reader.get(string_key(key))

    def counter(self, key: bytes) -> int:
        return int(self.string(key) or 0)

    def field(self, key: bytes, field: bytes) -> bytes | None:
        return self.reader.get(hash_key(key, field))

    def hash_fields(self, key: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yields (field, value) of a hash in order of field."""
        for found, value in self.reader.scan(*hash_range(key)):
            yield decode_hash_field(found)[1], value

    def schema_version(self) -> int:
        return self.counter(SCHEMA_VERSION)

    def databases(self) -> list[DBInfo]:
        return [DBInfo.loads(value) for _, value in self.hash_fields(DBS)]

    def database(self, db_id: int) -> DBInfo | None:
        value = self.field(DBS, db_key(db_id))
        return None if value is None else DBInfo.loads(value)

    def tables(self, db_id: int) -> list[TableInfo]:
        return [
            TableInfo.loads(value) for field, value in self.hash_fields(db_key(db_id)) if field.startswith(b"Table:")
        ]

    def table(self, db_id: int, table_id: int) -> TableInfo | None:
        value = self.field(db_key(db_id), table_field(table_id))
        return None if value is None else TableInfo.loads(value)

    def auto_id(self, db_id: int, field: bytes) -> int:
        """The last id in use of a counter (`auto_increment_field` or `row_id_field`)."""
        return int(self.field(db_key(db_id), field) or 0)

    def diff(self, version: int) -> SchemaDiff | None:
        value = self.string(diff_key(version))
        return None if value is None else SchemaDiff.loads(value)

    def json_field(self, key: bytes, field: int) -> dict[str, Any] | None:
        """One value of such a hash (see `json_fields`)."""
        value = self.field(key, b"%d" % field)
        return None if value is None else json.loads(value)

    def json_fields(self, key: bytes) -> dict[int, dict[str, Any]]:
        """One of our own hashes, whose fields are ids and whose values are JSON objects."""
        return {int(field): json.loads(value) for field, value in self.hash_fields(key)}


class Meta(MetaReader):
    """Reads and changes the stored schema inside one transaction."""

    def __init__(self, txn: Transaction) -> None:
        super().__init__(txn)
        self.txn = txn

    def set_string(self, key: bytes, value: bytes) -> None:
        self.txn.put(string_key(key), value)

    def increment(self, key: bytes, by: int = 1) -> int:
        """Adds to a counter and returns its new value."""
        value = self.counter(key) + by
        self.set_string(key, b"%d" % value)
        return value

    def set_field(self, key: bytes, field: bytes, value: bytes) -> None:
        self.txn.put(hash_key(key, field), value)

    def delete_field(self, key: bytes, field: bytes) -> None:
        self.txn.delete(hash_key(key, field))

    def new_id(self) -> int:
        """A new id for a database or table, never used before."""
        return self.increment(NEXT_GLOBAL_ID)

    def put_database(self, info: DBInfo) -> None:
        self.set_field(DBS, db_key(info.id), info.dumps())

    def drop_database(self, db_id: int) -> None:
        self.delete_field(DBS, db_key(db_id))
        for key, _ in list(self.reader.scan(*hash_range(db_key(db_id)))):
            self.txn.delete(key)

    def put_table(self, db_id: int, info: TableInfo) -> None:
        self.set_field(db_key(db_id), table_field(info.id), info.dumps())

    def drop_table(self, db_id: int, table_id: int) -> None:
        self.delete_field(db_key(db_id), table_field(table_id))

    def drop_auto_ids(self, db_id: int, table_id: int) -> None:
        for field in (auto_increment_field(table_id), row_id_field(table_id)):
            if self.field(db_key(db_id), field) is not None:
                self.delete_field(db_key(db_id), field)

    def set_auto_id(self, db_id: int, field: bytes, value: int) -> None:
        self.set_field(db_key(db_id), field, b"%d" % value)

    def put_diff(self, diff: SchemaDiff) -> None:
        self.set_string(diff_key(diff.version), diff.dumps())

    def put_json(self, key: bytes, field: int, value: dict[str, Any]) -> None:
        self.set_field(key, b"%d" % field, json.dumps(value, separators=(",", ":")).encode())

    def delete_json(self, key: bytes, field: int) -> None:
        self.delete_field(key, b"%d" % field)
