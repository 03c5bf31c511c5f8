"""What completion offers at a place in a statement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from shell.completion import SqlCompleter, suggest
from shell.metadata import Metadata
from shell.session import Session
from sqlfront.errors import error
from tests.shell.fake import Answer, FakeDatabase, column

TABLES = {
    "shop": {"orders": ["id", "customer_id", "order"], "customers": ["id", "name"], "odd name": ["first name"]},
    "other": {"logs": ["at", "line"]},
}


class Catalog:
    database = "shop"

    def databases(self) -> Sequence[str]:
        return list(TABLES)

    def tables(self, database: str = "") -> Sequence[str]:
        return list(TABLES.get(database or "shop", {}))

    def columns(self, table: str, database: str = "") -> Sequence[str]:
        return TABLES.get(database or "shop", {}).get(table, [])


def offered(text: str) -> list[str]:
    """Returns the suggestions where `|` stands."""
    before, _, after = text.partition("|")
    return [s.text for s in suggest(before, after, Catalog())]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sel|", ["select"]),
        ("SEL|", ["SELECT"]),
        ("select * from |", ["orders", "customers", "`odd name`", "shop", "other", "SELECT"]),
        ("select * from cu|", ["customers"]),
        ("select * from orders, cu|", ["customers"]),
        ("select * from other.|", ["logs"]),
        ("select o.| from orders o", ["id", "customer_id", "`order`"]),
        ("select o.cu| from orders as o where 1", ["customer_id"]),
        ("select c.n| from orders o join customers c on c.id = o.customer_id", ["name"]),
        ("select orders.cu| from orders", ["customer_id"]),
        ("select l.| from other.logs l", ["at", "line"]),
        ("select other.logs.l|", ["line"]),
        ("select `o`.cu| from orders `o`", ["customer_id"]),
        ("select `| from orders", ["`id`", "`customer_id`", "`order`", "`orders`"]),
        ("select name| from customers", ["name"]),
        ("select customer_| from orders", ["customer_id"]),
        ("select custom|", ["customer_id"]),
        ("update orders set cus|", ["customer_id"]),
        ("insert into cust|", ["customers"]),
        ("insert into customers (na|", ["name", "natural"]),
        ("use |", ["shop", "other"]),
        ("drop database if exists o|", ["other"]),
        ("drop table if exists o|", ["orders", "`odd name`", "other"]),
        ("desc cu|", ["customers"]),
        ("select concat_|", ["concat_ws("]),
        ("select 'from |", []),
        ("select 1 -- from |", []),
        ("select /* from |", []),
        ("select * from orders; select na|", ["name", "natural"]),
        ("select 1 from orders o where o.|; select * from customers o", ["id", "customer_id", "`order`"]),
        ("select * from (select * from cu|", ["customers"]),
        ("select nothing.|", []),
        ("\\t|", ["\\timing"]),
        ("\\d cu|", ["customers"]),
        ("\\d other.l|", ["logs"]),
        ("\\u o|", ["other"]),
        ("\\f j|", ["json", "jsonl"]),
        ("\\h sel|", ["select"]),
        ("\\l x|", []),
        ("\\nope x|", []),
    ],
)
def test_suggestions(text: str, expected: list[str]) -> None:
    assert offered(text) == expected


def test_a_path_is_completed(tmp_path: Path) -> None:
    (tmp_path / "setup.sql").touch()
    (tmp_path / "sub").mkdir()
    assert offered(f"\\i {tmp_path}/s|") == [f"{tmp_path}/setup.sql", f"{tmp_path}/sub/"]


def test_hostile_names_are_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES["shop"], "evil\x1b[2J", [])
    assert offered("select * from ev|") == []


def test_completer_replaces_the_word() -> None:
    document = Document("select cus from orders", cursor_position=10)
    (found,) = SqlCompleter(Catalog()).get_completions(document, CompleteEvent(completion_requested=True))
    assert (found.text, found.start_position) == ("customer_id", -3)


def test_completer_keeps_quiet_between_words() -> None:
    document = Document("select ")
    completer = SqlCompleter(Catalog())
    assert list(completer.get_completions(document, CompleteEvent(text_inserted=True))) == []
    assert list(completer.get_completions(document, CompleteEvent(completion_requested=True))) != []


TABLES_SQL = (
    "select table_schema, table_name from information_schema.tables order by table_schema, table_name limit 50000"
)
COLUMNS_SQL = (
    "select table_schema, table_name, column_name from information_schema.columns"
    " order by table_schema, table_name, ordinal_position limit 50000"
)


def test_metadata_is_read_once_and_again_after_a_change() -> None:
    fake = FakeDatabase(
        {
            "show databases": Answer([column("Database")], [("test",), ("Shop",)]),
            TABLES_SQL: Answer([column("a")] * 2, [("test", "T"), ("test", "a_broken_view"), ("Shop", "u")]),
            COLUMNS_SQL: Answer([column("a")] * 3, [("test", "T", "a"), ("test", "T", "b"), ("Shop", "u", "c")]),
        }
    )
    session = Session("x.db", fake.connect)  # type: ignore[arg-type]
    names = Metadata(session)
    assert fake.executed == []
    assert names.databases() == ["test", "Shop"]
    assert names.tables() == ["T", "a_broken_view"]
    assert names.columns("a_broken_view") == []
    assert names.columns("t") == ["a", "b"]
    assert names.columns("u", "shop") == ["c"]
    assert len(fake.executed) == 3
    fake.answers[TABLES_SQL] = Answer([column("a")] * 2, [])
    fake.answers[COLUMNS_SQL] = Answer([column("a")] * 3, [])
    names.invalidate()
    assert names.tables() == []
    names.close()
    session.close()


def test_a_catalog_that_cannot_be_read_offers_nothing() -> None:
    fake = FakeDatabase({"show databases": error(1290, "no")})
    session = Session(":memory:", fake.connect)  # type: ignore[arg-type]
    names = Metadata(session)
    assert names.tables() == []
    assert "no" in names.problem
    names.close()
    session.close()
