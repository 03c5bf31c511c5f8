"""A process that writes until it is killed: `python -m tests.crash.writer KIND PATH SEED`.

Every thread writes one line before a statement (`try ...`) and `ok` behind it once the database has acknowledged it,
so that whoever reads the output knows for each thread what must be there and the one change that may be. `verify.py`
replays these lines. Kinds: mixed, append, index, backup.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from typing import Any

import sqlfront

ACCOUNTS = 8
START = 100
WRITERS = 3
APPEND_ROWS = 4000
INDEXED_ROWS = 6000
LIVE_ROWS_MAX = 60

_write_mutex = threading.Lock()


def say(line: str) -> None:
    """Writes one line at once: the pipe keeps it when the process dies."""
    with _write_mutex:
        os.write(1, f"{line}\n".encode())


def setup(con: Any) -> None:
    """Makes the tables of every kind, on a database where they are not there yet."""
    con.execute("create table if not exists account (id int primary key, balance int not null, key (balance))")
    con.execute(
        "create table if not exists item (id bigint primary key, writer int, n int, v varchar(40), "
        "u varchar(20) unique, key by_v (v), key by_writer (writer, n))"
    )
    con.execute("create table if not exists pair (id varchar(20) primary key, side int, key (side))")
    con.execute(
        "create table if not exists bulk (batch int, i int, v varchar(20), primary key (batch, i), key by_v (v))"
    )
    con.execute("create table if not exists indexed (id int primary key, v int)")
    if con.execute("select count(*) from account").fetchone() == (0,):
        rows = ", ".join(f"({i}, {START})" for i in range(ACCOUNTS))
        con.execute(f"insert into account values {rows}")


def write_items(path: str, seed: int, writer: int) -> None:
    """Inserts, updates and deletes rows of its own, one statement a transaction."""
    con: Any = sqlfront.connect(path, autocommit=True)
    rng = random.Random(f"{seed}-{writer}")
    live = [r[0] for r in con.execute("select id from item where writer = ?", (writer,)).fetchall()]
    following = max(live, default=writer * 10_000_000) + 1 + seed * 1000
    while True:
        kind = rng.choice(("insert", "insert", "update", "delete"))
        if (kind == "insert" and len(live) < LIVE_ROWS_MAX) or not live:
            k, v = following, f"v{rng.randint(0, 99)}"
            following += 1
            say(f"{writer} try put {k} {v}")
            con.execute("insert into item values (?, ?, ?, ?, ?)", (k, writer, k % 10, v, f"u{k}"))
            live.append(k)
        elif kind == "update":
            k, v = rng.choice(live), f"w{rng.randint(0, 99)}"
            say(f"{writer} try put {k} {v}")
            con.execute("update item set v = ?, n = n + 1 where id = ?", (v, k))
        else:
            k = live.pop(rng.randrange(len(live)))
            say(f"{writer} try delete {k} -")
            con.execute("delete from item where id = ?", (k,))
        say(f"{writer} ok")


def write_transfers(path: str, seed: int) -> None:
    """Moves money and inserts pairs of rows, several statements a transaction."""
    con: Any = sqlfront.connect(path, autocommit=True)
    rng = random.Random(f"{seed}-transfer")
    n = 0
    while True:
        a, b = rng.sample(range(ACCOUNTS), 2)
        amount = rng.randint(1, 10)
        con.execute("begin")
        con.execute("update account set balance = balance - ? where id = ?", (amount, a))
        con.execute("update account set balance = balance + ? where id = ?", (amount, b))
        con.execute("insert into pair values (?, 0), (?, 1)", (f"{seed}-{n}-0", f"{seed}-{n}-1"))
        say(f"pair try put {seed}-{n} -")
        con.execute("commit")
        say("pair ok")
        n += 1


def write_mixed(path: str, seed: int) -> None:
    threads = [threading.Thread(target=write_items, args=(path, seed, w), daemon=True) for w in range(1, WRITERS + 1)]
    threads.append(threading.Thread(target=write_transfers, args=(path, seed), daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def write_appends(path: str, seed: int) -> None:
    """Bulk-loads batches; each must be there in whole or not at all."""
    import pyarrow as pa

    con: Any = sqlfront.connect(path, autocommit=True)
    batch = seed * 1000
    while True:
        values = [f"b{(i * 7 + batch) % 1000}" for i in range(APPEND_ROWS)]
        table = pa.table({"batch": [batch] * APPEND_ROWS, "i": list(range(APPEND_ROWS)), "v": values})
        say(f"append try put {batch} -")
        con.append("bulk", table)
        say("append ok")
        batch += 1


def has_index(con: Any) -> bool:
    """Tells whether the index `iv` is there, public."""
    sql = "select count(*) from information_schema.statistics where table_name = 'indexed' and index_name = 'iv'"
    return bool(con.execute(sql).fetchone()[0])


def write_index(path: str, seed: int) -> None:
    """Makes and drops an index over rows that another thread changes meanwhile."""
    con: Any = sqlfront.connect(path, autocommit=True)
    count = con.execute("select count(*) from indexed").fetchone()[0]
    if count < INDEXED_ROWS:
        con.executemany("replace into indexed values (?, ?)", [(i, i % 100) for i in range(INDEXED_ROWS)])

    def churn() -> None:
        mine = sqlfront.connect(path, autocommit=True)
        rng = random.Random(f"{seed}-churn")
        while True:
            try:
                mine.execute("update indexed set v = ? where id = ?", (rng.randint(0, 99), rng.randrange(INDEXED_ROWS)))
            except sqlfront.OperationalError as e:
                if not e.retryable:
                    raise

    threading.Thread(target=churn, daemon=True).start()
    name = "iv"
    if has_index(con):
        con.execute("drop index iv on indexed")
    say("index try start - -")
    while True:
        con.execute(f"create index {name} on indexed (v)")
        say("index ok")
        con.execute(f"drop index {name} on indexed")


def write_backups(path: str, seed: int) -> None:
    """Makes backups while rows are written."""
    threading.Thread(target=write_items, args=(path, seed, 1), daemon=True).start()
    con: Any = sqlfront.connect(path, autocommit=True)
    n = 0
    while True:
        target = f"{path}-backup-{seed}-{n}"
        say(f"backup try put {target} -")
        con.execute(f"backup database to '{target}'")
        say("backup ok")
        n += 1


def main(kind: str, path: str, seed: int) -> None:
    with sqlfront.connect(path, autocommit=True) as con:
        setup(con)
        say("main ready")
        work = {"mixed": write_mixed, "append": write_appends, "index": write_index, "backup": write_backups}[kind]
        work(path, seed)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
