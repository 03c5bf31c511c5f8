"""The judge: what a table gives by rows, and what its columnar replica gives, are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

ROWS, REPLICA = "TIKV", "TIFLASH"


def hinted(engine: str, query: str, table: str) -> str:
    """The query (`select ...`) with the hint that makes it read `table` from one engine."""
    word, rest = query.split(" ", 1)
    return f"{word} /*+ READ_FROM_STORAGE({engine}[{table}]) */ {rest}"


def answer(con: Any, engine: str, query: str, table: str, params: Sequence[Any] = ()) -> list[str]:
    """The rows of a query by one engine, sorted, as texts that show the types too."""
    return sorted(map(repr, con.execute(hinted(engine, query, table), tuple(params)).fetchall()))


def same(con: Any, query: str, table: str, params: Sequence[Any] = ()) -> list[str]:
    """Asserts that both engines give the same rows, and returns them."""
    rows = answer(con, ROWS, query, table, params)
    replica = answer(con, REPLICA, query, table, params)
    if replica != rows:
        missing, surplus = Counter(rows) - Counter(replica), Counter(replica) - Counter(rows)
        raise AssertionError(f"{query}: the replica misses {list(missing)[:5]} and has {list(surplus)[:5]} besides")
    return rows


def same_table(con: Any, table: str) -> list[str]:
    """Asserts that all rows of a table and their number are the same by both engines; returns the rows."""
    same(con, f"select count(*) from {table}", table)
    return same(con, f"select * from {table}", table)


def plan(con: Any, query: str) -> str:
    return "\n".join(str(row) for row in con.execute(f"explain {query}").fetchall())


def reads_replica(con: Any, table: str) -> bool:
    """Whether the hinted query is planned to read the replica."""
    return "ColumnarScan" in plan(con, hinted(REPLICA, f"select * from {table}", table))


def replica_row(con: Any, table: str) -> tuple[Any, ...] | None:
    """(available, state, reason) of information_schema.tiflash_replica; None when the table is not in it."""
    found = con.execute(
        "select available, state, reason from information_schema.tiflash_replica where table_name = ?", (table,)
    ).fetchone()
    return None if found is None else tuple(found)
