"""The `m` keys and JSON to the byte."""

from __future__ import annotations

import json

from kvstore.codec import encode_bytes
from sqlfront.catalog import meta
from sqlfront.catalog.info import DBInfo, SchemaDiff, TableInfo
from sqlfront.catalog.meta import MetaReader
from tests.catalog.harness import FakeSession


def test_string_key_golden() -> None:
    # m | "NextGlob" FF | "alID" + 4 zeros, marker FF - 4 | 's' as big-endian u64
    assert meta.string_key(meta.NEXT_GLOBAL_ID).hex() == (
        "6d" + b"NextGlob".hex() + "ff" + b"alID".hex() + "00000000" + "fb" + "0000000000000073"
    )


def test_hash_key_golden() -> None:
    key = meta.hash_key(meta.db_key(112), meta.table_field(7))
    assert key.hex() == (
        "6d" + b"DB:112".hex() + "0000" + "fd" + "0000000000000068"
        + b"Table:7".hex() + "00" + "fe"
    )  # fmt: skip
    assert meta.decode_hash_field(key) == (b"DB:112", b"Table:7")


def test_fields_and_prefixes() -> None:
    assert meta.auto_increment_field(9) == b"IID:9"
    assert meta.row_id_field(9) == b"TID:9"
    assert meta.diff_key(33) == b"Diff:33"
    start, end = meta.hash_range(b"DBs")
    assert start < meta.hash_key(b"DBs", b"DB:1") < end
    assert start == b"m" + encode_bytes(b"DBs") + (ord("h")).to_bytes(8, "big")


def test_bootstrap_writes_tidbs_layout(session: FakeSession) -> None:
    reader = session.database.storage.snapshot()
    assert reader.get(meta.string_key(b"SchemaVersionKey")) == b"1"
    assert reader.get(meta.string_key(b"NextGlobalID")) == b"2"
    stored = json.loads(reader.get(meta.hash_key(b"DBs", b"DB:2")))
    assert stored["db_name"] == {"O": "test", "L": "test"}
    assert (stored["id"], stored["charset"], stored["collate"], stored["state"]) == (2, "utf8mb4", "utf8mb4_bin", 5)


def test_table_json_has_tidbs_tags(session: FakeSession) -> None:
    session.ddl(
        "CREATE TABLE Orders (Id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, n VARCHAR(10) NOT NULL, KEY k (n(3)))"
    )
    table = session.table("orders")
    key = meta.hash_key(meta.db_key(table.db_id), meta.table_field(table.id))
    data = json.loads(session.database.storage.snapshot().get(key))
    assert data["name"] == {"O": "Orders", "L": "orders"}
    assert (data["pk_is_handle"], data["is_common_handle"], data["version"]) == (True, False, 5)
    assert (data["max_col_id"], data["max_idx_id"], data["state"]) == (2, 1, 5)
    first, second = data["cols"]
    assert first["type"] == {
        "Tp": 8, "Flag": 1 | 2 | 32 | 512, "Flen": 20, "Decimal": 0, "Charset": "binary", "Collate": "binary",
        "Elems": None, "ElemsIsBinaryLit": None, "Array": False,
    }  # fmt: skip
    assert second["type"]["Flag"] == 1 | 8 | 4096
    assert second["offset"] == 1
    (index,) = data["index_info"]
    assert index["idx_name"] == {"O": "k", "L": "k"}
    assert index["idx_cols"] == [{"name": {"O": "n", "L": "n"}, "offset": 1, "length": 3}]
    assert (index["is_unique"], index["is_primary"], index["index_type"]) == (False, False, 1)


def test_unknown_fields_survive_a_rewrite(session: FakeSession) -> None:
    session.ddl("CREATE TABLE t (a INT)")
    data = session.table("t").info.to_json()
    data["from_the_future"] = {"x": [1]}
    data["cols"][0]["masking"] = 3
    again = TableInfo.loads(TableInfo.from_json(data).dumps()).to_json()
    assert again == data


def test_every_version_has_its_diff(session: FakeSession) -> None:
    session.ddl("CREATE TABLE a (x INT)")
    session.ddl("CREATE TABLE b (x INT)")
    session.ddl("RENAME TABLE a TO c, b TO a")
    reader = MetaReader(session.database.storage.snapshot())
    version = reader.schema_version()
    assert version == session.database.catalog.schema.version
    diffs = [reader.diff(v) for v in range(1, version + 1)]
    assert all(isinstance(d, SchemaDiff) for d in diffs)
    assert [d.version for d in diffs if d] == list(range(1, version + 1))
    assert diffs[-1] is not None
    assert len(diffs[-1].affected_options) == 1


def test_names_keep_case_and_match_any(session: FakeSession) -> None:
    session.ddl("CREATE DATABASE Shop")
    session.ddl("CREATE TABLE SHOP.Item (Id INT PRIMARY KEY)")
    schema = session.database.reopen().catalog.schema
    table = schema.table("sHoP", "ITEM")
    assert table is not None
    assert (table.db, table.name, table.columns[0].name) == ("Shop", "Item", "Id")
    assert table.column("iD") is table.columns[0]


def test_database_record_round_trip() -> None:
    info = DBInfo(id=3, name="Ä")
    assert DBInfo.loads(info.dumps()) == info
