"""Transactions: sysbench's table and its works, each through the engine's own cursor, with parameters.

- `point_select`: one row's `c` by primary key
- `oltp_read_write`: sysbench's transaction of 18 statements between BEGIN and COMMIT
- `update_key`: `k = k + 1` by id, each its own durable transaction (`k` is indexed)
- `insert_durable`: one row, each its own durable transaction

Rounds interleave the engines, so that a drift of the machine hits all alike; inserts come last, as they grow the table.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engines.api import Connection, Cursor, Engine, in_paramstyle
from benchmarks.measure import Measurement, Operation, rate
from benchmarks.parquet import write_parquet
from benchmarks.retry import until_committed
from benchmarks.schema import Column, Table

SBTEST = Table(
    "sbtest1",
    (Column("id", "int"), Column("k", "int", "0"), Column("c", "char(120)"), Column("pad", "char(60)")),
    ("id",),
    (("k",),),
)
ROWS_AT_SCALE_1 = 100_000
RANGE_ROWS = 100
POINT_SELECTS = 10
DRAWS = 50_021
"""Random ids drawn before the clock starts, per thread; they repeat after that."""
FIRST_NEW_ID = 10_000_000
SEED = 20130101

POINT = "SELECT c FROM sbtest1 WHERE id = ?"
SIMPLE_RANGE = "SELECT c FROM sbtest1 WHERE id BETWEEN ? AND ?"
SUM_RANGE = "SELECT SUM(k) FROM sbtest1 WHERE id BETWEEN ? AND ?"
ORDER_RANGE = "SELECT c FROM sbtest1 WHERE id BETWEEN ? AND ? ORDER BY c"
DISTINCT_RANGE = "SELECT DISTINCT c FROM sbtest1 WHERE id BETWEEN ? AND ? ORDER BY c"
INDEX_UPDATE = "UPDATE sbtest1 SET k = k + 1 WHERE id = ?"
NON_INDEX_UPDATE = "UPDATE sbtest1 SET c = ? WHERE id = ?"
DELETE = "DELETE FROM sbtest1 WHERE id = ?"
INSERT = "INSERT INTO sbtest1 (id, k, c, pad) VALUES (?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class OltpSettings:
    """How large and how long. `seconds` is one round's length."""

    scale: float = 1.0
    threads: tuple[int, ...] = (1, 8)
    rounds: int = 5
    seconds: float = 1.0

    @property
    def rows(self) -> int:
        return max(RANGE_ROWS * 2, round(ROWS_AT_SCALE_1 * self.scale))


@dataclass(slots=True)
class Client:
    """One thread's view of one engine: a cursor, its own random numbers, and ids for new rows shared by all threads."""

    engine: Engine
    cursor: Cursor
    rng: random.Random
    rows: int
    new_ids: Iterator[int]

    def sql(self, text: str) -> str:
        return in_paramstyle(text, self.engine.paramstyle)

    def draws(self, largest: int) -> Iterator[int]:
        """Returns an endless iterator over random ids from 1 to `largest`."""
        return itertools.cycle([self.rng.randint(1, largest) for _ in range(DRAWS)])


def run(
    engines: Sequence[Engine], files: Path, settings: OltpSettings, say: Callable[[str], None]
) -> list[Measurement]:
    """Loads the table into each started engine and measures every work with every number of threads."""
    for engine in engines:
        say(f"{engine.name}: loading {settings.rows:,} rows")
        load(engine, sysbench_file(files, settings.rows))
    new_ids: dict[str, Iterator[int]] = {engine.name: itertools.count(FIRST_NEW_ID) for engine in engines}
    results = []
    for work, make in WORKS.items():
        for threads in settings.threads:
            say(f"{work}, {threads} thread{'s' if threads > 1 else ''}")
            results += _measure(work, make, threads, engines, settings, new_ids)
    return results


def load(engine: Engine, data: Path, *, indexes: bool = True) -> None:
    """Makes and fills the table, with statistics; `indexes` False leaves its secondary index out."""
    engine.prepare(data)
    with contextlib.closing(engine.connect()) as con:
        engine.create_table(con, SBTEST)
        if indexes:
            engine.create_indexes(con, SBTEST)
        engine.append(con, SBTEST, data)
        engine.analyze(con)


def _measure(
    work: str,
    make: Callable[[Client], Operation],
    threads: int,
    engines: Sequence[Engine],
    settings: OltpSettings,
    new_ids: dict[str, Iterator[int]],
) -> list[Measurement]:
    results = [Measurement(work, engine.name, threads, settings.scale, "per_s") for engine in engines]
    with contextlib.ExitStack() as connections:
        operations = {
            engine.name: [
                make(client(engine, connections, thread, settings.rows, new_ids[engine.name]))
                for thread in range(threads)
            ]
            for engine in engines
        }
        for name in operations:
            rate(operations[name], min(0.2, settings.seconds))
        for _ in range(settings.rounds):
            for result in results:
                result.values.append(rate(operations[result.engine], settings.seconds))
    return results


def client(engine: Engine, connections: contextlib.ExitStack, thread: int, rows: int, ids: Iterator[int]) -> Client:
    """Returns a thread's client; its connection is closed with `connections`."""
    con: Connection = connections.enter_context(contextlib.closing(engine.connect()))
    return Client(engine, con.cursor(), random.Random(SEED + thread), rows, ids)


def point_select(client: Client) -> Operation:
    sql, cursor, ids = client.sql(POINT), client.cursor, client.draws(client.rows)

    def operation() -> None:
        cursor.execute(sql, (next(ids),))
        cursor.fetchone()

    return operation


def update_key(client: Client) -> Operation:
    sql, cursor, ids = client.sql(INDEX_UPDATE), client.cursor, client.draws(client.rows)

    def operation() -> None:
        cursor.execute(sql, (next(ids),))

    return until_committed(client.engine, cursor, operation)


def insert_durable(client: Client) -> Operation:
    sql, cursor, ids, ks = client.sql(INSERT), client.cursor, client.new_ids, client.draws(client.rows)
    texts = itertools.cycle([(row_c(client.rng), row_pad(client.rng)) for _ in range(500)])

    def operation() -> None:
        cursor.execute(sql, (next(ids), next(ks), *next(texts)))

    return until_committed(client.engine, cursor, operation)


def oltp_read_write(client: Client) -> Operation:
    """sysbench's transaction: 10 points, 4 ranges of 100, an indexed and a plain update, a delete and an insert."""
    cursor, begin = client.cursor, client.engine.begin
    execute, fetchall = cursor.execute, cursor.fetchall
    point, delete, insert = client.sql(POINT), client.sql(DELETE), client.sql(INSERT)
    index_update, non_index_update = client.sql(INDEX_UPDATE), client.sql(NON_INDEX_UPDATE)
    ranges = [client.sql(text) for text in (SIMPLE_RANGE, SUM_RANGE, ORDER_RANGE, DISTINCT_RANGE)]
    ids, starts = client.draws(client.rows), client.draws(client.rows - RANGE_ROWS + 1)
    texts = itertools.cycle([(row_c(client.rng), row_pad(client.rng)) for _ in range(499)])

    def operation() -> None:
        execute(begin)
        for _ in range(POINT_SELECTS):
            execute(point, (next(ids),))
            fetchall()
        for statement in ranges:
            start = next(starts)
            execute(statement, (start, start + RANGE_ROWS - 1))
            fetchall()
        c, pad = next(texts)
        execute(index_update, (next(ids),))
        execute(non_index_update, (c, next(ids)))
        replaced = next(ids)
        execute(delete, (replaced,))
        execute(insert, (replaced, next(ids), c, pad))
        execute("COMMIT")

    return until_committed(client.engine, cursor, operation)


WORKS: dict[str, Callable[[Client], Operation]] = {
    "point_select": point_select,
    "oltp_read_write": oltp_read_write,
    "update_key": update_key,
    "insert_durable": insert_durable,
}


def row_c(rng: random.Random) -> str:
    """Returns sysbench's `c`: ten groups of eleven digits."""
    return "-".join(f"{rng.randrange(10**11):011d}" for _ in range(10))


def row_pad(rng: random.Random) -> str:
    """Returns sysbench's `pad`: five groups of eleven digits."""
    return "-".join(f"{rng.randrange(10**11):011d}" for _ in range(5))


def sysbench_file(directory: Path, rows: int) -> Path:
    """Returns the Parquet file with the table's rows, the same for every engine, writing it when it isn't there."""
    import pyarrow as pa

    path = directory / f"sbtest1-{rows}.parquet"
    if not path.exists():
        rng = random.Random(SEED)
        columns = {
            "id": pa.array(range(1, rows + 1), pa.int32()),
            "k": pa.array([rng.randint(1, rows) for _ in range(rows)], pa.int32()),
            "c": pa.array([row_c(rng) for _ in range(rows)], pa.string()),
            "pad": pa.array([row_pad(rng) for _ in range(rows)], pa.string()),
        }
        write_parquet(path, pa.table(columns))
    return path
