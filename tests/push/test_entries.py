"""Index entries made of what stores answer are those made of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kvstore.client.api import CancelToken
from kvstore.errors import Cancelled
from sqlfront.catalog.backfill import EntryEncoder, read_entries
from tests.push.regions import connect
from tests.push.test_same_rows import ENCODINGS, TABLES, _fill

TYPES = """big BIGINT, un BIGINT UNSIGNED, f DOUBLE, d DECIMAL(38, 9), c CHAR(5), v VARCHAR(40), b VARBINARY(9),
    day DATE, at DATETIME(3), ts TIMESTAMP(6), span TIME(2), y YEAR, e ENUM('x', 'yy'), s SET('p', 'q')"""
NAMES = [part.split()[0] for part in TYPES.replace("\n", " ").split(", ") if " " in part]


@pytest.fixture(scope="module", params=ENCODINGS, ids=lambda encode: encode.name)
def con(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = connect(3, request.param)
    _fill(made)
    yield made
    made.close()


def entries(con: Any, name: str, rows: int) -> dict[str, list[Any]]:
    """Keys and values of all entries of each index of a table, read `rows` rows at a time."""
    database = con._database
    table = database.catalog.schema.table("test", name)
    found: dict[str, list[Any]] = {}
    for index in table.indexes:
        encode = EntryEncoder(table, (index.schema,))
        start, end = table.codec.record_range
        pairs = found.setdefault(index.name, [])
        at: bytes | None = start
        while at is not None:
            run = read_entries(database.storage, encode, (at, end), None, rows)
            if run is None:
                break
            pairs += zip(run.keys, run.values, strict=True)
            at = run.next
        pairs.sort()
    return found


def both(con: Any, name: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    regions = con._database.regions
    regions.requests.clear()
    pushed = entries(con, name, rows)
    assert regions.requests
    with monkeypatch.context() as patch:
        patch.setattr(con._database.storage, "push_down", None)
        return pushed, entries(con, name, rows)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("rows", [1, 100, 10_000])
def test_entries_of_all_kinds_of_tables(con: Any, table: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed, scanned = both(con, table, rows, monkeypatch)
    assert pushed == scanned
    assert all(len(pairs) == 240 for pairs in pushed.values())


@pytest.mark.parametrize("key", ["c, v", "d, un", "ts, e", "b, span", "v(3), day"])
def test_entries_over_clustered_keys_of_all_types(con: Any, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    indexes = ", ".join(f"KEY i{n} ({name})" for n, name in enumerate(NAMES))
    con.execute("drop table if exists odd")
    con.execute(f"create table odd ({TYPES}, PRIMARY KEY ({key}), {indexes}, UNIQUE KEY two (v, un))")
    values = [
        (n - 5, 2**64 - 1 - n, n / 3, f"{n}.000000001", f"c{n % 3}", f"é{n}" + " " * (n % 2), b"\0" * n, "2020-02-29",
         f"2020-01-01 00:00:00.{n:03}", f"2021-06-01 12:00:0{n}.000001", f"-{n}:00:01.25", 1990 + n, "yy", "p,q")
        for n in range(8)
    ]  # fmt: skip
    con.executemany(f"insert into odd values ({', '.join('?' * len(NAMES))})", values)
    free = [name for name in NAMES if name not in key]
    con.execute(f"update odd set {', '.join(f'{name} = NULL' for name in free)} where big = -5")
    con.execute("alter table odd add column late INT DEFAULT 7, add index il (late)")
    pushed, scanned = both(con, "odd", 3, monkeypatch)
    assert pushed == scanned
    assert len(pushed["il"]) == len(values)
    con.execute("admin check table odd")


def test_reading_stops_when_it_is_interrupted(con: Any) -> None:
    database = con._database
    table = database.catalog.schema.table("test", "whole")
    cancel = CancelToken()
    cancel.set()
    encode = EntryEncoder(table, (table.indexes[0].schema,))
    with pytest.raises(Cancelled):
        read_entries(database.storage, encode, table.codec.record_range, cancel)
    assert database.regions.open_requests == 0
