"""kill -9 at random moments, many times on one directory: no acknowledged write is lost, nothing is half there."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

import sqlfront
from tests.crash.verify import ROOT, Promise, kill_after, reopened, settle
from tests.crash.writer import ACCOUNTS, INDEXED_ROWS, has_index

SHORT, LONG = 3, 10
AT_MOST_SECONDS = 0.8


def rounds(count: int, kind: str, path: Path, *, seed: int) -> Promise:
    """Kills and checks `count` times."""
    rng = random.Random(seed)
    promise = Promise()
    for i in range(count):
        lines = kill_after(kind, str(path), seed * 100 + i, rng.uniform(0.05, AT_MOST_SECONDS))
        promise.replay(lines)
        with reopened(path) as con:
            settle(promise, con)
    return promise


def check_mixed(path: Path, count: int, seed: int) -> None:
    promise = rounds(count, "mixed", path, seed=seed)
    assert promise.items
    assert promise.pairs


def check_append(path: Path, count: int, seed: int) -> None:
    rounds(count, "append", path, seed=seed)
    with reopened(path) as con:
        con.execute("insert into bulk values (-1, 0, 'after')")
        assert con.execute("select batch from bulk where v = 'after'").fetchall() == [(-1,)]
        con.execute("admin check table bulk")


def check_index(path: Path, count: int, seed: int) -> None:
    rng = random.Random(seed)
    for i in range(count):
        kill_after("index", str(path), seed * 100 + i, rng.uniform(0.0, AT_MOST_SECONDS))
        with reopened(path) as con:
            con.execute("admin check table indexed")
            assert con.execute("select count(*) from indexed").fetchone() == (INDEXED_ROWS,)
            if has_index(con):
                con.execute("drop index iv on indexed")
            con.execute("create index iv on indexed (v)")
            con.execute("admin check table indexed")
            by_index = con.execute("select count(*) from indexed use index (iv) where v = 5").fetchone()
            assert by_index == con.execute("select count(*) from indexed ignore index (iv) where v = 5").fetchone()


def check_backup(path: Path, count: int, seed: int) -> None:
    promise = rounds(count, "backup", path, seed=seed)
    for target in promise.backups:
        with reopened(target) as con:
            con.execute("admin check table item")
    whole = path.parent / "whole"
    with reopened(path) as con:
        con.execute(f"backup database to '{whole}'")
        expected = con.execute("select * from item order by id").fetchall()
    with reopened(whole) as con:
        assert con.execute("select * from item order by id").fetchall() == expected


CHECKS = {"mixed": check_mixed, "append": check_append, "index": check_index, "backup": check_backup}


@pytest.mark.parametrize("kind", CHECKS)
def test_killed_a_few_times(tmp_path: Path, kind: str) -> None:
    CHECKS[kind](tmp_path / "db", SHORT if kind == "mixed" else 1, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHECKS)
def test_killed_many_times(tmp_path: Path, kind: str) -> None:
    CHECKS[kind](tmp_path / "db", LONG, seed=2)


def test_killed_while_it_is_being_made(tmp_path: Path) -> None:
    """A directory whose making was cut short opens as a database; what its setup had acknowledged is there."""
    rng = random.Random(5)
    for i in range(3):
        path = tmp_path / f"db{i}"
        command = [sys.executable, "-m", "tests.crash.writer", "mixed", str(path), "1"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.1, 0.8))
        process.kill()
        process.wait()
        with reopened(path) as con:
            for (table,) in con.execute("show tables").fetchall():
                con.execute(f"admin check table {table}")
            con.execute("create table if not exists account (id int primary key, balance int)")
            assert con.execute("select count(*) from account").fetchone()[0] in (0, ACCOUNTS)


def test_a_transaction_open_at_the_kill_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with reopened(path) as con:
        con.execute("create table t (id int primary key, v int, key (v))")
    code = (
        "import os, signal, sqlfront, sys\n"
        "con = sqlfront.connect(sys.argv[1])\n"
        "con.execute('insert into t values (1, 1), (2, 2)')\n"
        "con.execute('select * from t for update')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    with sqlfront.connect(path, autocommit=True) as con:
        assert con.execute("select count(*) from t").fetchone() == (0,)
        con.execute("insert into t values (1, 5)")
        con.execute("admin check table t")
