"""ALTER TABLE ... SET TIFLASH REPLICA: what is stored, who notices, and information_schema.tiflash_replica."""

from __future__ import annotations

from typing import Any

import pytest

from sqlfront.catalog import infoschema
from sqlfront.catalog.info import Action
from sqlfront.catalog.meta import MetaReader
from sqlfront.catalog.replica_status import ReplicaStatus
from sqlfront.errors import Error
from tests.catalog.harness import FakeSession


@pytest.fixture
def session() -> FakeSession:
    session = FakeSession()
    session.ddl("CREATE TABLE t (id INT PRIMARY KEY)")
    return session


def stored(session: FakeSession) -> Any:
    return session.table("t").info.to_json()["tiflash_replica"]


def listed(session: FakeSession) -> list[tuple[Any, ...]]:
    virtual = infoschema.table("tiflash_replica")
    assert virtual is not None
    rows = virtual.rows(session)  # type: ignore[arg-type]
    assert all(len(row) == len(virtual.columns) for row in rows)
    return rows


def test_every_user_table_has_one_until_it_is_switched_off(session: FakeSession) -> None:
    assert stored(session) is None
    assert session.table("t").columnar
    session.ddl("ALTER TABLE t SET TIFLASH REPLICA 0")
    assert stored(session) == {
        "Count": 0, "LocationLabels": None, "Available": False, "AvailablePartitionIDs": None
    }  # fmt: skip
    assert not session.table("t").columnar
    session.ddl("alter table t set tiflash replica 1 location labels 'zone', \"rack\"")
    assert stored(session)["Count"] == 1
    assert stored(session)["LocationLabels"] == ["zone", "rack"]
    assert session.table("t").columnar


def test_it_is_there_after_opening_again(session: FakeSession) -> None:
    session.ddl("ALTER TABLE t SET TIFLASH REPLICA 0")
    schema = session.database.reopen().catalog.schema
    assert not schema.need_table("test", "t").columnar


def test_what_another_version_wrote_is_kept(session: FakeSession) -> None:
    info = session.table("t").info
    record = info.to_json()
    record["tiflash_replica"] = {"Count": 2, "LocationLabels": [], "Available": True, "New": 7}
    again = type(info).from_json(record).to_json()["tiflash_replica"]
    assert again == {
        "Count": 2, "LocationLabels": [], "Available": True, "AvailablePartitionIDs": None, "New": 7
    }  # fmt: skip


def test_truncated_copied_and_rewritten_tables_keep_it(session: FakeSession) -> None:
    session.ddl("ALTER TABLE t SET TIFLASH REPLICA 0")
    session.ddl("CREATE TABLE u LIKE t")
    session.ddl("TRUNCATE TABLE t")
    assert not session.table("t").columnar
    assert not session.table("u").columnar
    session.ddl("ALTER TABLE t ADD v INT")
    session.insert("t", (1, 5))
    session.ddl("ALTER TABLE t MODIFY v VARCHAR(9)")
    assert not session.table("t").columnar


def test_one_schema_version_with_tidbs_action(session: FakeSession) -> None:
    catalog = session.database.catalog
    before = catalog.schema.version
    session.ddl("ALTER TABLE t SET TIFLASH REPLICA 0")
    assert catalog.schema.version == before + 1
    diff = MetaReader(session.database.storage.snapshot()).diff(before + 1)
    assert diff is not None
    assert (diff.action, diff.table_id) == (41, session.table("t").id)
    assert Action.SET_TIFLASH_REPLICA == 41


def test_setting_what_is_set_changes_nothing(session: FakeSession) -> None:
    session.ddl("ALTER TABLE t SET TIFLASH REPLICA 0")
    schema = session.database.catalog.schema
    session.ddl("ALTER TABLE t SET TIFLASH REPLICA 0")
    assert session.database.catalog.schema is schema


def test_running_writers_commit(session: FakeSession) -> None:
    old = session.table("t")
    txn = session.database.storage.begin()
    session.write(txn, old, [(1,)])
    session.ddl("ALTER TABLE t SET TIFLASH REPLICA 0")
    txn.commit(lambda ts: session.database.catalog.check_revisions({old.id: old.revision}))
    assert session.rows("t") == [(1,)]


@pytest.mark.parametrize(
    ("text", "code", "position"),
    [
        ("ALTER TABLE t SET TIFLASH REPLICA 2", 1105, 34),
        ("ALTER TABLE t SET TIFLASH REPLICA -1", 1064, 34),
        ("ALTER TABLE t SET TIFLASH REPLICA 1 LOCATION LABELS a", 1064, 52),
        ("ALTER TABLE t SET TIFLASH REPLICA 1, RENAME TO u", 1235, 34),
        ("ALTER TABLE nope SET TIFLASH REPLICA 1", 1146, 12),
        ("ALTER TABLE information_schema.tables SET TIFLASH REPLICA 1", 1044, 12),
        ("ALTER TABLE mysql.s SET TIFLASH REPLICA 1", 8200, 12),
    ],
)
def test_refused(session: FakeSession, text: str, code: int, position: int) -> None:
    session.ddl("CREATE TABLE mysql.s (id INT PRIMARY KEY)")
    with pytest.raises(Error) as caught:
        session.ddl(text)
    assert (caught.value.code, caught.value.position) == (code, position)


def test_information_schema(session: FakeSession) -> None:
    session.ddl("CREATE TABLE mysql.s (id INT PRIMARY KEY)")
    for name in ("ready", "lagging", "off"):
        session.ddl(f"CREATE TABLE {name} (id INT PRIMARY KEY)")
    session.ddl("ALTER TABLE lagging SET TIFLASH REPLICA 1 LOCATION LABELS 'zone', 'rack'")
    session.ddl("ALTER TABLE off SET TIFLASH REPLICA 0")
    session.database.replicas = {
        "ready": ReplicaStatus(available=True, progress=1.0, state="ready", position=2**63 + 1, pending=0),
        "lagging": ReplicaStatus(False, 0.5, "loading", 7, 3, "memory is short"),
    }
    ids = {name: session.table(name).id for name in ("t", "ready", "lagging")}
    assert listed(session) == [
        ("test", "lagging", ids["lagging"], 1, "zone,rack", 0, 0.5, "loading", 7, 3, "memory is short"),
        ("test", "ready", ids["ready"], 1, "", 1, 1.0, "ready", 2**63 + 1, 0, None),
        ("test", "t", ids["t"], 1, "", 0, 0.0, "none", 0, 0, None),
    ]
