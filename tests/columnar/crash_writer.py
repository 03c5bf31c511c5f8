"""A process that writes and asks rows and replica until it is killed: `python -m tests.columnar.crash_writer`.

Its arguments are KIND PATH SEED; it speaks as `tests.crash.writer` does. Kinds: mixed (small commits and queries), load
(bulk loads, each followed by queries, so that the kill comes while the replica is built), define (ALTER TABLE,
TRUNCATE, and the replica off and on).
"""

from __future__ import annotations

import random
import sys
import threading
import time
from typing import Any

import sqlfront
from tests.columnar.compare import REPLICA, hinted, same
from tests.columnar.conftest import index_small_tables
from tests.crash.writer import say, setup, write_items, write_transfers

LOAD_ROWS = 20_000
TABLES = ("account", "item", "pair", "loaded", "shaped")


def prepare(con: Any) -> None:
    setup(con)
    con.execute("create table if not exists loaded (batch int, i int, v varchar(20), primary key (batch, i))")
    con.execute("create table if not exists shaped (id int primary key, n int, v varchar(40))")


def compare(path: str, seed: int, tables: tuple[str, ...]) -> None:
    """Asks both engines at one snapshot; a difference ends the process, which the parent notices."""
    con: Any = sqlfront.connect(path, autocommit=True)
    rng = random.Random(f"{seed}-compare")
    while True:
        con.execute("start transaction read only")
        try:
            table = rng.choice(tables)
            # of a table whose columns change between the two questions, only those that stay
            columns = "id, n, v" if table == "shaped" else "*"
            same(con, f"select {columns} from {table}", table)
        except sqlfront.OperationalError as error:
            if error.code != 1412:
                raise
        con.execute("commit")


def tidy(path: str) -> None:
    """Shortens the change log far more often than it is done by itself."""
    con: Any = sqlfront.connect(path, autocommit=True)
    while True:
        time.sleep(0.05)
        if con._database.columnar._worker is not None:
            con._database.columnar._worker.tidy()


def write_mixed(path: str, seed: int) -> None:
    start(write_items, path, seed, 1)
    start(write_items, path, seed, 2)
    start(write_transfers, path, seed)
    if seed % 2:
        start(tidy, path)
    if seed % 5:  # else the replica is not started, and catches up later
        compare(path, seed, ("account", "item", "pair"))
    threading.Event().wait()


def write_loads(path: str, seed: int) -> None:
    import pyarrow as pa

    con: Any = sqlfront.connect(path, autocommit=True)
    start(write_items, path, seed, 1)
    start(compare, path, seed, ("item", "loaded"))
    batch = seed * 1000
    while True:
        rows = {"batch": [batch] * LOAD_ROWS, "i": list(range(LOAD_ROWS)), "v": ["v "] * LOAD_ROWS}
        say(f"append try put {batch} -")
        con.append("loaded", pa.table(rows))
        say("append ok")
        con.execute("delete from loaded where batch <= ?", (batch - 4,))
        con.execute("update loaded set v = 'w' where batch = ? and i < 50", (batch,))
        batch += 1


def write_definitions(path: str, seed: int) -> None:
    con: Any = sqlfront.connect(path, autocommit=True)
    rng = random.Random(f"{seed}-define")
    start(write_items, path, seed, 1)
    start(write_shaped, path, seed)
    start(compare, path, seed, ("item", "shaped"))
    while True:
        columns = [c for (c, *_) in con.execute("show columns from shaped").fetchall()]
        added = [c for c in columns if c.startswith("x")]
        kind = rng.choice(("add", "add", "drop", "modify", "truncate", "off", "query"))
        if kind == "add" and len(added) < 4:
            con.execute(f"alter table shaped add x{rng.randrange(10**6)} varchar(9) not null default 'd{seed}'")
        elif kind == "drop" and added:
            con.execute(f"alter table shaped drop column {rng.choice(added)}")
        elif kind == "modify":
            con.execute(f"alter table shaped modify n {rng.choice(('int', 'bigint'))}")
        elif kind == "truncate" and rng.random() < 0.3:
            con.execute("truncate table shaped")
        elif kind == "off" and rng.random() < 0.3:
            con.execute("alter table shaped set tiflash replica 0")
            con.execute("alter table shaped set tiflash replica 1")
        elif kind == "query":
            con.execute(hinted(REPLICA, "select count(*) from shaped", "shaped")).fetchall()


def write_shaped(path: str, seed: int) -> None:
    con: Any = sqlfront.connect(path, autocommit=True)
    rng = random.Random(f"{seed}-shaped")
    while True:
        try:
            con.execute("replace into shaped (id, n, v) values (?, ?, ?)", (rng.randrange(300), seed, "v "))
            con.execute("delete from shaped where id = ?", (rng.randrange(300),))
        except sqlfront.OperationalError as error:
            if not error.retryable and error.code != 1412:
                raise


def start(work: Any, *args: Any) -> None:
    """Runs `work` in a thread; when it fails, so does the process."""

    def run() -> None:
        try:
            work(*args)
        except BaseException:  # noqa: BLE001 - shown, and the end of the process
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            say("failed failed")
            _failed.set()

    threading.Thread(target=run, daemon=True).start()


_failed = threading.Event()
KINDS = {"mixed": write_mixed, "load": write_loads, "define": write_definitions}


def main(kind: str, path: str, seed: int) -> int:
    index_small_tables(setattr)
    with sqlfront.connect(path, autocommit=True) as con:
        prepare(con)
        start(KINDS[kind], path, seed)
        _failed.wait()
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
