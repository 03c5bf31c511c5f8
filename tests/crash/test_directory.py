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


def refused_unchanged(path: Path, *, code: int = 1034) -> str:
    """Opens a damaged database: it is refused, and no file is touched. Returns the message."""
    before = contents(path)
    error = refusal(path)
    assert isinstance(error, sqlfront.DatabaseError)
    assert error.code == code
    assert contents(path) == before
    return str(error)


def _file(path: Path, name: str) -> Path:
    return next(p for p in (path / "kv").iterdir() if p.name.startswith(name))


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST"])
@pytest.mark.parametrize("damage", ["removed", "cut", "emptied"])
def test_a_damaged_manifest(database: Path, name: str, damage: str) -> None:
    """The database does not open, is not made anew, and opens again once the file is put back."""
    target = _file(database, name)
    whole = target.read_bytes()
    if damage == "removed":
        target.unlink()
    else:
        target.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    assert name in refused_unchanged(database)
    target.write_bytes(whole)
    with opened(database) as con:
        assert con.execute("select count(*) from t").fetchone() == (ROWS,)


KILLED = """
import os, sqlfront, sys
con = sqlfront.connect(sys.argv[1], autocommit=True)
con.execute("create table t (id int primary key, v int, s mediumtext, key (v))")
for i in range(60):
    con.execute("insert into t values (?, ?, ?)", (i, 1, "x" * (9000 if i % 5 == 0 else 9)))
    if i % 20 == 19:
        engine = con._database.storage.engine
        for family in engine._families.values():
            family.flush(True)  # as RocksDB does by itself: nobody notes it
os._exit(9)
"""


@pytest.fixture(params=["closed", "killed"])
def any_end(request: pytest.FixtureRequest, database: Path, tmp_path: Path) -> tuple[Path, int]:
    """A database that was closed, or killed after flushes that nobody noted, and the number of its rows."""
    if request.param == "closed":
        return database, ROWS
    path = tmp_path / "killed"
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, check=False).returncode == 9
    return path, 60


def _refused_or_whole(path: Path, rows: int) -> bool:
    """Whether a damaged database is refused, with nothing touched; if not, it must have every row."""
    before = contents(path)
    try:
        con = opened(path)
    except sqlfront.OperationalError as error:
        raise AssertionError(f"not named as damage: {error}") from error
    except sqlfront.InternalError:
        assert contents(path) == before
        return True
    with con:
        assert con.execute("select count(*) from t where v >= 0").fetchone() == (rows,)
        con.execute("admin check table t")
    return False


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_manifest_damaged_anywhere(any_end: tuple[Path, int], tmp_path: Path, damage: str) -> None:
    path, rows = any_end
    target = _file(path, "MANIFEST")
    whole = target.read_bytes()
    places = sorted({*range(0, len(whole), len(whole) // 16), len(whole) - 1})
    refused = 0
    for at in places:
        copy = tmp_path / "copy"
        shutil.copytree(path, copy)
        end = b"" if damage == "cut" else bytes([whole[at] ^ 0x10]) + whole[at + 1 :]
        (copy / "kv" / target.name).write_bytes(whole[:at] + end)
        refused += _refused_or_whole(copy, rows)
        shutil.rmtree(copy)
    if path.name == "killed" and damage == "cut":
        # behind what was noted, whole records that are missing are no damage: the logs have what they told
        assert 0 < refused < len(places)
    else:
        assert refused >= len(places) - 4
    if path.name != "killed":
        assert refused == len(places)


def test_an_older_manifest_put_back(database: Path) -> None:
    old = {p.name: p.read_bytes() for p in (database / "kv").iterdir() if p.name.startswith(("CURRENT", "MANIFEST"))}
    with opened(database) as con:
        con.execute("insert into t values (-1, 0, 'new')")
    for name, data in old.items():
        (database / "kv" / name).write_bytes(data)
    assert "older" in refused_unchanged(database)


def test_everything_of_rocksdb_gone(database: Path) -> None:
    """No empty database takes the place of one that was there."""
    shutil.rmtree(database / "kv")
    assert "CURRENT" in refused_unchanged(database)


def test_the_log_gone_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "db"
    code = (
        "import os, sqlfront, sys\n"
        "con = sqlfront.connect(sys.argv[1], autocommit=True)\n"
        "con.execute('create table t (id int primary key, v int)')\n"
        "os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
    log = next((path / "log").glob("*.log"))
    log.unlink()
    assert log.name in refused_unchanged(path)


def test_a_directory_without_the_note(database: Path, tmp_path: Path) -> None:
    """Databases from before it, and backups, open; a damaged note is named."""
    note = database / "sqlfront.state.json"
    whole = note.read_text()
    note.write_text(whole[:9])
    assert note.name in refused_unchanged(database)
    note.unlink()
    with opened(database) as con:
        assert con.execute("select count(*) from t").fetchone() == (ROWS,)
    assert note.is_file()


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


@pytest.mark.parametrize("damage", ["removed", "cut"])
def test_a_table_file_that_is_not_whole(database: Path, damage: str) -> None:
    table = max((database / "kv").glob("*.sst"), key=lambda p: p.stat().st_size)
    whole = table.read_bytes()
    table.unlink() if damage == "removed" else table.write_bytes(whole[:-100])
    assert table.name in refused_unchanged(database)
    table.write_bytes(whole)
    with opened(database) as con:
        assert con.execute("select count(*) from t").fetchone() == (ROWS,)


@pytest.mark.parametrize("damage", ["removed", "cut"])
def test_a_blob_file_that_is_not_whole(database: Path, damage: str) -> None:
    with opened(database) as con:
        con.execute("create table long (id int primary key, s mediumtext)")
        con.execute("insert into long values (1, repeat('long', 50000))")
    blob = next((database / "kv").glob("*.blob"))
    whole = blob.read_bytes()
    blob.unlink() if damage == "removed" else blob.write_bytes(whole[:-100])
    assert blob.name in refused_unchanged(database)


def test_a_table_file_of_the_catalog_that_cannot_be_read(database: Path) -> None:
    """A failed open keeps neither lock nor files: the repaired database opens in the same process."""
    tables = {p: p.read_bytes() for p in (database / "kv").glob("*.sst")}
    for table, whole in tables.items():
        table.write_bytes(bytes(min(len(whole) // 2, 500)) + whole[min(len(whole) // 2, 500) :])
    assert refusal(database).code == 1034
    for table, whole in tables.items():
        table.write_bytes(whole)
    with opened(database) as con:
        assert con.execute("select count(*) from t").fetchone() == (ROWS,)


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
    log = max((path / "log").glob("*.log"), key=lambda p: p.stat().st_size)
    data = log.read_bytes()
    end = len(data.rstrip(b"\0"))  # behind its records the file is allocated, and empty
    log.write_bytes(data[: end - 7] + bytes(len(data) - end + 7))
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
