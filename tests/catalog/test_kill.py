"""kill -9 in the middle of CREATE INDEX, DROP and TRUNCATE: each is done or not, and rows and indexes agree."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import sqlfront
from tests.catalog.ddl_loop import CYCLE

ROOT = Path(__file__).parents[2]
ROWS = 20_000
ROUNDS = int(os.environ.get("SQLFRONT_KILL_ROUNDS", "6"))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "db"
    with sqlfront.connect(path, autocommit=True) as con:
        con.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))")
        con.append("t", [(i, i * 7919 % 1000, f"s{i % 17}") for i in range(ROWS)])
    return path


def _run_and_kill(path: Path, wait_s: float) -> list[str]:
    """Runs the loop for some time after its first statement began; returns its lines."""
    command = [sys.executable, "-m", "tests.catalog.ddl_loop", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        time.sleep(wait_s)
        process.kill()
        rest, complaints = process.stdout.read(), process.stderr.read()
    assert first, complaints
    assert not complaints
    return [first.strip(), *rest.splitlines()]


def _check(con: Any, lines: list[str]) -> None:
    """All is as after the last statement that was done, or as after the one that was under way."""
    done = sum(1 for line in lines if line.startswith("done")) % len(CYCLE)
    under_way = lines[-1].startswith("begin")
    states = {_state_after(done)} | ({_state_after(done + 1)} if under_way else set())
    indexes = {row[2] for row in con.execute("SHOW INDEX FROM t").fetchall()} - {"PRIMARY"}
    columns = {row[0] for row in con.execute("SHOW COLUMNS FROM t").fetchall()} - {"id", "v", "s"}
    tables = [row[0] for row in con.execute("SHOW TABLES").fetchall()]
    copied = con.execute("SELECT COUNT(*) FROM copy").fetchall()[0][0] if "copy" in tables else -1
    assert (frozenset(indexes | columns), copied) in states, lines[-3:]
    for table in tables:
        con.execute(f"ADMIN CHECK TABLE {table}")
    assert con.execute("SELECT COUNT(*) FROM t").fetchall() == [(ROWS,)]
    assert con.execute("SELECT COUNT(*) FROM t WHERE v = 7").fetchall() == [(ROWS // 1000,)]


def _state_after(statements: int) -> tuple[frozenset[str], int]:
    """The indexes and columns that `t` has beyond its first ones, and the rows of `copy` (-1: it is not there)."""
    full = {"v", "u", "c"}
    names = (set(), {"v"}, full, full, {"u", "c"}, set(), set(), set(), set(), set())[statements]
    copied = (-1, -1, -1, -1, -1, -1, 0, 1000, 0, -1)[statements]
    return frozenset(names), copied


def _clean_up(con: Any) -> None:
    con.execute("DROP TABLE IF EXISTS copy")
    for index in {row[2] for row in con.execute("SHOW INDEX FROM t").fetchall()} - {"PRIMARY"}:
        con.execute(f"DROP INDEX {index} ON t")
    con.execute("ALTER TABLE t DROP COLUMN IF EXISTS c")
    con.execute("ALTER TABLE t MODIFY s VARCHAR(20)")


@pytest.mark.slow
def test_killed_in_the_middle(database: Path) -> None:
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    for _ in range(ROUNDS):
        lines = _run_and_kill(database, rng.random() ** 2 * 1.5)
        with sqlfront.connect(database, autocommit=True) as con:
            try:
                _check(con, lines)
            except BaseException as exc:
                exc.add_note(f"seed {seed}, {lines[-3:]}")
                raise
            _clean_up(con)
