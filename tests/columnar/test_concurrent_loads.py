"""Bulk loads while readers compare rows and replica at one snapshot."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from tests.columnar.compare import REPLICA, hinted, same_table
from tests.columnar.test_concurrent import Crew, churn, prepare, transfer

LOAD_ROWS = 3000
SHORT_S, LONG_S = 6.0, 60.0


class Loads:
    """Loads batch after batch into one table; of each, a few rows are left."""

    def __init__(self) -> None:
        self.batch = 0

    def load(self, con: Any, rng: random.Random) -> None:
        self.batch += 1
        n = LOAD_ROWS
        rows = pa.table({"batch": [self.batch] * n, "i": list(range(n)), "v": [f"b{i % 10}" for i in range(n)]})
        con.append("bulk", rows)
        query = f"select count(*) from bulk where batch = {self.batch}"
        ((found,),) = con.execute(hinted(REPLICA, query, "bulk")).fetchall()
        assert found == n, f"{found} rows of a load that was acknowledged"
        con.execute("delete from bulk where batch = ? and i >= 5", (self.batch,))


def check_bulk(con: Any, rng: random.Random) -> None:
    con.execute("start transaction read only")
    first = same_table(con, "bulk")
    time.sleep(rng.random() * 0.05)
    assert same_table(con, "bulk") == first
    con.execute("commit")


def check(connect: Callable[..., Any], seconds: float, seed: int) -> None:
    con = connect()
    prepare(con)
    con.execute("create table if not exists bulk (batch int, i int, v varchar(20), primary key (batch, i))")
    same_table(con, "bulk")
    crew = Crew(connect)
    crew.start("load", Loads().load, seed=seed)
    crew.start("transfer", transfer, seed=seed)
    crew.start("churn", churn, seed=seed)
    for i in range(3):
        crew.start(f"check {i}", check_bulk, seed=seed)
    crew.work_for(seconds)
    same_table(con, "bulk")
    con.execute("admin check table bulk")


def test_loads_beside_readers(connect: Callable[..., Any]) -> None:
    check(connect, SHORT_S, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2])
def test_loads_beside_readers_for_long(connect: Callable[..., Any], seed: int) -> None:
    check(connect, LONG_S, seed=seed)
