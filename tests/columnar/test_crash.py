"""kill -9 while the replica is read, built and altered: opened again, it has the rows that the row store has."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.columnar.compare import replica_row, same_table
from tests.columnar.crash_writer import LOAD_ROWS, TABLES
from tests.crash import verify
from tests.crash.verify import Promise, check_items, check_pairs, reopened
from tests.crash.writer import ACCOUNTS, START

ROUNDS = 7
AT_MOST_SECONDS = {"mixed": 1.0, "load": 2.0, "define": 1.5}
WRITER = "tests.columnar.crash_writer"


def settle(promise: Promise, con: Any) -> None:
    """Every acknowledged write is there, by rows; then the replica has the same."""
    check_items(promise, con)
    check_pairs(promise, con)
    assert con.execute("select sum(balance), count(*) from account").fetchone() == (ACCOUNTS * START, ACCOUNTS)
    check_loads(promise, con)
    for table in TABLES:
        con.execute(f"admin check table {table}")
        same_table(con, table)
        # killed between SET TIFLASH REPLICA 0 and 1, it has none
        assert replica_row(con, table) in ((1, "ready", None), None)
    promise.pending.clear()


def check_loads(promise: Promise, con: Any) -> None:
    there = {str(b): n for b, n in con.execute("select batch, count(*) from loaded group by batch").fetchall()}
    assert set(there.values()) <= {LOAD_ROWS}, f"half a load: {there}"
    last = max(map(int, promise.batches), default=-1)
    assert last == -1 or str(last) in there, f"acknowledged and lost: {last}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", AT_MOST_SECONDS)
def test_killed_many_times(tmp_path: Path, kind: str) -> None:
    check(tmp_path / "db", kind, 1, ROUNDS)


@pytest.mark.parametrize("kind", ["mixed", "define"])
def test_killed_once(tmp_path: Path, kind: str) -> None:
    check(tmp_path / "db", kind, 3, 1)


def check(path: Path, kind: str, seed: int, rounds: int) -> None:
    """Kills and checks `rounds` times; some rounds leave what they find to the next one."""
    rng = random.Random(seed)
    promise = Promise()
    for i in range(rounds):
        number = seed * 100 + i
        lines = verify.kill_after(kind, str(path), number, rng.uniform(0.05, AT_MOST_SECONDS[kind]), module=WRITER)
        assert "failed failed" not in lines
        promise.replay(lines)
        with reopened(path) as con:
            settle(promise, con)
            if rng.random() < 0.5:
                con.execute("update item set v = concat(v, '+') where id % 3 = 0")
                promise.items = {str(k): v for k, v in con.execute("select id, v from item").fetchall()}
        if rng.random() < 0.3:
            with reopened(path) as con:  # written without the replica
                con.execute("update account set balance = balance + 0, id = id where id < 3")
                con.execute("delete from shaped where id % 7 = 0")
