"""Directories that are not (or not only) ours, damaged files, a full disk: a clear error, and nothing overwritten."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sqlfront
from tests.crash.verify import ROOT

ROWS = 3000
DISK_MEGABYTES = 48


def contents(path: Path) -> dict[str, bytes]:
    """Every file below a path, but for the lock's."""
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file() and p.suffix != ".lock"}


def opened(path: Path, **options: Any) -> Any:
    return sqlfront.connect(path, autocommit=True, **options)


def refusal(path: Path) -> sqlfront.Error:
    """Opens a database that must not open, and returns the error."""
    with pytest.raises(sqlfront.Error) as raised, opened(path) as con:
        con.execute("select count(*), sum(v) from t").fetchall()
    return raised.value


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A closed database with rows in table files as well as in the log."""
    path = tmp_path / "db"
    with opened(path) as con:
        con.execute("create table t (id int primary key, v int, s varchar(200), key (v))")
        con.executemany("insert into t values (?, ?, ?)", [(i, i % 10, f"{i:0200}") for i in range(ROWS)])
    return path


def test_a_second_process_is_told_the_owner(database: Path) -> None:
    with opened(database) as con:
        code = (
            "import sqlfront, sys\n"
            "try:\n    sqlfront.connect(sys.argv[1])\n"
            "except sqlfront.OperationalError as e:\n    print(e)\n    sys.exit(7)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(database)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 7, done.stderr
        assert str(os.getpid()) in done.stdout
        con.execute("insert into t values (-1, 0, 'still mine')")
    with opened(database) as con:
        assert con.execute("select s from t where id = -1").fetchone() == ("still mine",)


def test_the_directory_is_free_after_the_owner_died(database: Path) -> None:
    code = "import os, sqlfront, sys\ncon = sqlfront.connect(sys.argv[1])\nos._exit(9)\n"
    assert subprocess.run([sys.executable, "-c", code, str(database)], cwd=ROOT, check=False).returncode == 9
    with opened(database) as con:
        assert con.execute("select count(*) from t").fetchone() == (ROWS,)


def test_connections_of_one_process_share_it(database: Path) -> None:
    with opened(database) as one, opened(database / ".") as two:
        one.execute("insert into t values (-1, 0, 'x')")
        assert two.execute("select s from t where id = -1").fetchone() == ("x",)


def test_a_directory_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "photos"
    path.mkdir()
    (path / "cat.jpg").write_bytes(b"not a database")
    before = contents(path)
    with pytest.raises(sqlfront.OperationalError):
        opened(path)
    assert contents(path) == before
    assert [p.name for p in path.iterdir()] == ["cat.jpg"]


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(sqlfront.OperationalError):
        opened(path)
    assert path.read_text() == "mine"


def test_an_empty_directory_becomes_a_database(tmp_path: Path) -> None:
    with opened(tmp_path) as con:
        con.execute("create table t (a int)")
    assert (tmp_path / "sqlfront.json").is_file()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_directory_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(sqlfront.OperationalError):
        opened(tmp_path / "db")


def test_a_newer_format(database: Path) -> None:
    identity = database / "sqlfront.json"
    known = json.loads(identity.read_text())
    identity.write_text(json.dumps(known | {"format": known["format"] + 1}))
    before = contents(database)
    error = refusal(database)
    assert isinstance(error, sqlfront.OperationalError)
    assert "newer" in str(error)
    assert contents(database) == before
    identity.write_text(json.dumps(known))
    with opened(database) as con:
        assert con.execute("select count(*) from t").fetchone() == (ROWS,)


def test_a_damaged_identity(database: Path) -> None:
    identity = database / "sqlfront.json"
    whole = identity.read_text()
    identity.write_text(whole[:5])
    before = contents(database)
    refusal(database)
    assert contents(database) == before
    identity.write_text(whole)
    with opened(database) as con:
        assert con.execute("select count(*) from t").fetchone() == (ROWS,)


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST"])
@pytest.mark.parametrize("damage", ["removed", "cut", "emptied"])
def test_a_damaged_manifest(database: Path, name: str, damage: str) -> None:
    """The database does not open, is not made anew, and opens again once the file is put back."""
    target = next(p for p in (database / "kv").iterdir() if p.name.startswith(name))
    whole = target.read_bytes()
    if damage == "removed":
        target.unlink()
    else:
        target.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    tables = {k: v for k, v in contents(database).items() if k.endswith((".sst", ".blob"))}
    if damage == "cut" and name == "MANIFEST":
        if _all_rows_unless_refused(database):
            return
    else:
        assert isinstance(refusal(database), sqlfront.DatabaseError)
    after = contents(database)
    assert all(after.get(k) == v for k, v in tables.items()), "a table file was changed or removed"
    target.write_bytes(whole)
    with opened(database) as con:
        assert con.execute("select count(*) from t").fetchone() == (ROWS,)


def _all_rows_unless_refused(database: Path) -> bool:
    """A cut at the end of a record is a shorter manifest, which may be a valid one; then no row may be missing."""
    try:
        with opened(database) as con:
            assert con.execute("select count(*) from t").fetchone() == (ROWS,)
            con.execute("admin check table t")
    except sqlfront.Error:
        return False
    return True


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    for i in range(at, min(at + 16, len(data))):
        data[i] ^= 0xFF
    path.write_bytes(bytes(data))


def test_flipped_bytes_in_a_table_file(database: Path) -> None:
    """Reading the damaged block says so; no wrong row is returned."""
    tables = sorted((database / "kv").glob("*.sst"), key=lambda p: p.stat().st_size)
    assert tables, "closing a database flushes its rows to table files"
    _flip(tables[-1], tables[-1].stat().st_size // 3)
    error = refusal(database)
    assert isinstance(error, sqlfront.InternalError | sqlfront.OperationalError)
    assert "corrupt" in str(error).lower() or "damaged" in str(error).lower()


def test_a_table_file_that_is_gone(database: Path) -> None:
    tables = sorted((database / "kv").glob("*.sst"), key=lambda p: p.stat().st_size)
    tables[-1].unlink()
    refusal(database)


def test_a_log_cut_short_loses_only_its_end(tmp_path: Path) -> None:
    """What kill -9 or a power cut leaves: the log's last record is torn. Everything before it is there."""
    path = tmp_path / "db"
    code = (
        "import os, sqlfront, sys\n"
        "con = sqlfront.connect(sys.argv[1], autocommit=True)\n"
        "con.execute('create table t (id int primary key, v int, key (v))')\n"
        "for i in range(50):\n    con.execute('insert into t values (?, ?)', (i, i))\n"
        "os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
    log = max((path / "kv").glob("*.log"), key=lambda p: p.stat().st_size)
    data = log.read_bytes()
    log.write_bytes(data[:-7])
    with opened(path) as con:
        ids = [r[0] for r in con.execute("select id from t order by id").fetchall()]
        assert ids == list(range(len(ids)))
        assert len(ids) >= 49
        con.execute("admin check table t")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes, where root may mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("may not mount a tmpfs")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def _fill(con: Any, rows: int) -> tuple[list[int], sqlfront.Error | None]:
    """Inserts large rows until the disk is full; returns the acknowledged keys and the error."""
    acknowledged: list[int] = []
    for i in range(rows):
        try:
            con.execute("insert into t values (?, ?, ?)", (i, i % 10, os.urandom(60_000).hex()))
        except sqlfront.Error as e:
            return acknowledged, e
        acknowledged.append(i)
    return acknowledged, None


def test_a_full_disk_refuses_writes_and_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    path = small_disk / "db"
    con = opened(path)
    con.execute("create table t (id int primary key, v int, s mediumtext, key (v))")
    acknowledged, error = _fill(con, 2000)
    assert isinstance(error, sqlfront.OperationalError), error
    assert error.code == 1021
    assert acknowledged
    assert con.execute("select count(*) from t").fetchone() == (len(acknowledged),)
    con.close()
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    with opened(copy) as again:
        assert [r[0] for r in again.execute("select id from t order by id").fetchall()] == acknowledged
        again.execute("admin check table t")
        again.execute("insert into t values (-1, 0, 'room again')")


def test_a_full_disk_has_room_again(small_disk: Path) -> None:
    path = small_disk / "db"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes((DISK_MEGABYTES - 20) << 20))
    con = opened(path)
    con.execute("create table t (id int primary key, v int, s mediumtext, key (v))")
    acknowledged, error = _fill(con, 2000)
    assert isinstance(error, sqlfront.OperationalError), error
    con.close()
    ballast.unlink()
    with opened(path) as again:
        assert [r[0] for r in again.execute("select id from t order by id").fetchall()] == acknowledged
        again.execute("insert into t values (-1, 0, 'room again')")
        again.execute("admin check table t")
