"""CHECK and FOREIGN KEY in the stored records, and what is left of them when they are not added after all."""

from __future__ import annotations

from typing import Any

import pytest

from sqlfront.catalog import online
from sqlfront.errors import Error
from tests.catalog.harness import FakeSession


def name(text: str) -> dict[str, str]:
    return {"O": text, "L": text.lower()}


@pytest.fixture
def tables(session: FakeSession) -> FakeSession:
    session.ddl("CREATE TABLE P (Id BIGINT PRIMARY KEY, v VARCHAR(20) UNIQUE)")
    session.ddl("CREATE TABLE c (id BIGINT PRIMARY KEY, N BIGINT, v VARCHAR(20), KEY (n))")
    session.insert("P", (1, "a"))
    session.insert("c", (1, 1, "a"), (2, None, None))
    return session


def record(session: FakeSession, table: str = "c") -> dict[str, Any]:
    return session.table(table).info.to_json()


def test_as_tidb_stores_them(tables: FakeSession) -> None:
    tables.ddl("ALTER TABLE c ADD CONSTRAINT Fk FOREIGN KEY (n) REFERENCES p (ID) ON DELETE CASCADE")
    tables.ddl("ALTER TABLE c ADD FOREIGN KEY (v) REFERENCES p (v) ON DELETE SET NULL ON UPDATE RESTRICT")
    tables.ddl("ALTER TABLE c ADD CHECK (n > 0), ADD CONSTRAINT Cc CHECK (n < ID) NOT ENFORCED")
    stored = record(tables)
    assert stored["fk_info"] == [
        {
            "id": 1,
            "fk_name": name("Fk"),
            "ref_schema": name("test"),
            "ref_table": name("P"),
            "ref_cols": [name("Id")],
            "cols": [name("N")],
            "on_delete": 2,
            "on_update": 0,
            "state": 5,
            "version": 1,
        },
        {
            "id": 2,
            "fk_name": name("fk_2"),
            "ref_schema": name("test"),
            "ref_table": name("P"),
            "ref_cols": [name("v")],
            "cols": [name("v")],
            "on_delete": 3,
            "on_update": 1,
            "state": 5,
            "version": 1,
        },
    ]
    assert stored["constraint_info"] == [
        {
            "id": 1,
            "constraint_name": name("c_chk_1"),
            "tbl_name": name("c"),
            "constraint_cols": [name("N")],
            "enforced": True,
            "in_column": False,
            "expr_string": "`n` > 0",
            "state": 5,
        },
        {
            "id": 2,
            "constraint_name": name("Cc"),
            "tbl_name": name("c"),
            "constraint_cols": [name("id"), name("N")],
            "enforced": False,
            "in_column": False,
            "expr_string": "`n` < `ID`",
            "state": 5,
        },
    ]
    assert (stored["max_fk_id"], stored["max_cst_id"]) == (2, 2)
    assert [index.name for index in tables.table("c").indexes] == ["N", "fk_2"]
    tables.ddl("ALTER TABLE c DROP FOREIGN KEY fk, DROP FOREIGN KEY fk_2, DROP CHECK cc, DROP CHECK c_chk_1")
    stored = record(tables)
    assert (stored["fk_info"], stored["constraint_info"], stored["max_fk_id"]) == (None, None, 2)
    tables.ddl("RENAME TABLE c TO d")
    tables.ddl("ALTER TABLE d ADD x INT CHECK (x > 1), ADD FOREIGN KEY (n) REFERENCES p (id)")
    stored = record(tables, "d")
    assert [(c["constraint_name"]["O"], c["in_column"], c["id"]) for c in stored["constraint_info"]] == [
        ("d_chk_1", True, 3)
    ]
    assert [key["fk_name"]["O"] for key in stored["fk_info"]] == ["fk_3"]
    assert tables.database.reopen().catalog.schema.need_table("test", "d").info.to_json() == stored


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("ADD CHECK (n > 1)", 3819),
        ("ADD COLUMN x INT DEFAULT 3 CHECK (x > 3)", 3819),
        ("ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES p (id)", 1452),
        ("ADD CHECK (id > 0), ADD KEY (v), ADD FOREIGN KEY f (id) REFERENCES p (id)", 1452),
        ("ALTER CHECK known ENFORCED", 3819),
    ],
)
@pytest.mark.parametrize("killed", [False, True])
def test_what_rows_refuse_leaves_nothing(
    tables: FakeSession, monkeypatch: pytest.MonkeyPatch, change: str, code: int, killed: bool
) -> None:
    tables.ddl("ALTER TABLE c ADD CONSTRAINT known CHECK (id > 9) NOT ENFORCED")
    before = record(tables)
    if killed:
        with monkeypatch.context() as patch:

            def die(*_: object) -> None:
                raise KeyboardInterrupt

            patch.setattr(online, "_prove", die)
            patch.setattr(online, "roll_back", die)
            with pytest.raises(KeyboardInterrupt):
                tables.ddl(f"ALTER TABLE c {change}")
        assert record(tables) != before
        tables.database = tables.database.reopen()
    else:
        with pytest.raises(Error) as caught:
            tables.ddl(f"ALTER TABLE c {change}")
        assert caught.value.code == code
    after = record(tables)
    for tag in ("cols", "fk_info", "constraint_info", "index_info"):
        assert after[tag] == before[tag], tag
    assert tables.check("c") == 2


def test_writers_are_told_of_what_points_to_their_table(tables: FakeSession) -> None:
    before = tables.table("P").revision
    tables.ddl("CREATE TABLE d (n BIGINT, FOREIGN KEY (n) REFERENCES p (id))")
    created = tables.table("P").revision
    tables.ddl("ALTER TABLE c ADD FOREIGN KEY (n) REFERENCES p (id)")
    added = tables.table("P").revision
    assert before < created < added
    tables.ddl("ALTER TABLE c DROP FOREIGN KEY fk_1")
    tables.ddl("DROP TABLE d")
    assert tables.table("P").revision == added
