"""Damage in the middle of the write-ahead log is refused: the acknowledged writes behind it must not vanish unsaid."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import sqlfront

ROWS = 300
WRITER = f"""
import sys, time, sqlfront
con = sqlfront.connect(sys.argv[1], autocommit=True)
con.execute("create table t (id int primary key, v varchar(200))")
for i in range({ROWS}):
    con.execute("insert into t values (?, ?)", (i, "x" * 150))
print("written", flush=True)
time.sleep(60)
"""


def killed_database(path: Path) -> Path:
    """A database whose writer was killed after its last acknowledged write; returns its log."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        writer.kill()
    return max(path.rglob("*.log"), key=lambda log: log.stat().st_size)


def test_damage_in_the_middle_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    log = killed_database(tmp_path / "db")
    whole = log.read_bytes()
    middle = len(whole.rstrip(b"\0")) // 2  # behind the records the file is allocated, and empty
    log.write_bytes(whole[:middle] + b"\xff" * 40 + whole[middle + 40 :])
    with pytest.raises(sqlfront.InternalError) as raised:
        sqlfront.connect(tmp_path / "db")
    assert raised.value.code == 1034
    log.write_bytes(whole)
    with sqlfront.connect(tmp_path / "db") as con:
        assert con.execute("select count(*) from t").fetchone() == (ROWS,)


def test_a_killed_writer_leaves_a_log_that_opens(tmp_path: Path) -> None:
    killed_database(tmp_path / "db")
    with sqlfront.connect(tmp_path / "db") as con:
        assert con.execute("select count(*) from t").fetchone() == (ROWS,)
