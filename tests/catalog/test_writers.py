"""Sessions that insert, update and delete while indexes are built and columns changed on a database on disk."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

import sqlfront
from sqlfront.catalog import backfill

ROWS = 3000
CHANGES = (
    "CREATE INDEX v ON t (v, s)",
    "ALTER TABLE t ADD UNIQUE u (v, id), ADD INDEX s (s)",
    "ALTER TABLE t MODIFY s VARCHAR(12)",
    "ALTER TABLE t DROP INDEX v",
    "ALTER TABLE t MODIFY s VARCHAR(20), ADD INDEX v (s, v)",
)


def _write(path: Path, seed: int, stop: threading.Event, failures: list[BaseException]) -> None:
    rng = random.Random(seed)
    begin = "BEGIN OPTIMISTIC" if seed % 2 else "BEGIN"
    try:
        with sqlfront.connect(path, autocommit=True) as con:
            while not stop.is_set():
                try:
                    explicit = rng.random() < 0.5
                    if explicit:
                        con.execute(begin)
                    for _ in range(3):
                        row = rng.randrange(ROWS * 2)
                        con.execute("DELETE FROM t WHERE id = ?", (rng.randrange(ROWS),))
                        con.execute("UPDATE t SET v = v + 1, s = ? WHERE id = ?", (f"u{row % 9}", row))
                        con.execute("INSERT IGNORE INTO t VALUES (?, ?, ?)", (row, row % 50, f"n{row % 7}"))
                    if explicit:
                        con.execute("COMMIT")
                except sqlfront.OperationalError:  # a conflict, a deadlock, or the schema moved: the user begins again
                    con.execute("ROLLBACK")
    except BaseException as exc:  # noqa: BLE001 - the main thread asserts that there is none
        failures.append(exc)


def test_rows_and_indexes_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "BATCH_ROWS", 512)
    path = tmp_path / "db"
    stop = threading.Event()
    failures: list[BaseException] = []
    with sqlfront.connect(path, autocommit=True) as con:
        con.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))")
        con.append("t", [(i, i % 100, f"s{i % 17}") for i in range(ROWS)])
        threads = [threading.Thread(target=_write, args=(path, seed, stop, failures)) for seed in (1, 2)]
        for thread in threads:
            thread.start()
        try:
            for change in CHANGES:
                con.execute(change)
                con.execute("ADMIN CHECK TABLE t")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert failures == []
        con.execute("ADMIN CHECK TABLE t")
