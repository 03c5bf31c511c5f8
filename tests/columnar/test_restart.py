"""The replica over restarts: it goes on where it stood, and whatever is wrong with its file, it is built anew."""

from __future__ import annotations

import logging
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import sqlfront
from coprocessor.columnar import files, replica, worker
from coprocessor.columnar.worker import Worker
from kvstore.engine.api import CF_CHANGES
from kvstore.engine.rocks import RocksEngine
from tests.columnar.compare import REPLICA, answer, hinted, plan, reads_replica, replica_row, same, same_table
from tests.columnar.conftest import Views

WAIT_S = 20.0
Logged = pytest.LogCaptureFixture


def opened(path: Path) -> Any:
    return sqlfront.connect(path, autocommit=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "db"
    with opened(path) as con:
        con.execute("create table t (id int primary key, v int, s varchar(20))")
        con.executemany("insert into t values (?, ?, ?)", [(i, i % 7, f"s{i} ") for i in range(500)])
        same_table(con, "t")
    return path


@pytest.fixture
def path(tmp_path: Path, template: Path) -> Path:
    """A closed database whose table `t` has a replica of 500 rows."""
    shutil.copytree(template, tmp_path / "db")
    return tmp_path / "db"


@pytest.fixture
def log(caplog: Logged) -> Logged:
    caplog.set_level(logging.INFO, logger="sqlfront.columnar")
    return caplog


def builds(log: Logged) -> list[str]:
    """The tables built since the last call."""
    found = [str(r.args[0]) for r in log.records if r.msg.startswith("columnar table") and isinstance(r.args, tuple)]
    log.clear()
    return found


def file_of(path: Path) -> Path:
    return path / "columnar" / "replica.duckdb"


def positions(path: Path) -> dict[int, tuple[int, int]]:
    """(applied_ts, change_ts) of each table in the file of a closed database."""
    with duckdb.connect(str(file_of(path)), read_only=True) as con:
        rows = con.execute("select table_id, applied_ts, change_ts, copy from tables").fetchall()
        names = con.execute("select table_name from duckdb_tables() where table_name like 't%'").fetchall()
    assert {f"t{id_}_{copy}" for id_, _, _, copy in rows} == {n for (n,) in names} - {"tables"}
    return {id_: (applied, change) for id_, applied, change, _ in rows}


def left_by_a_kill(con: Any, path: Path) -> Path:
    """A copy of the replica as a process leaves it that is killed now: the background would write between two files."""
    con._database.columnar._worker.stop()
    shutil.copytree(path / "columnar", left := path.parent / "left")
    return left


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.02)


def test_nothing_is_built_when_nothing_changed(path: Path, log: Logged, views: Views) -> None:
    before = positions(path)
    builds(log)
    for _ in range(3):
        with opened(path) as con:
            same_table(con, "t")
    assert builds(log) == []
    assert positions(path) == before
    assert views.take().count(False) == 0


def test_it_goes_on_where_it_stood(path: Path, log: Logged) -> None:
    builds(log)
    for round_ in range(3):
        with opened(path) as con:
            con.execute("update t set v = v + 1 where id < 100")
            con.execute("delete from t where id = ?", (400 + round_,))
            con.execute("insert into t values (?, 0, null)", (600 + round_,))
            same_table(con, "t")
            con.execute("update t set v = v + 1 where id < 50")
        with opened(path) as con:
            same_table(con, "t")
    assert builds(log) == []


def test_what_was_written_without_it_is_caught_up(path: Path, log: Logged) -> None:
    builds(log)
    with opened(path) as con:
        con.execute("insert into t values (1000, 1, 'x')")
        con.execute("update t set s = 'y' where id = 1000")
        con.execute("delete from t where id < 10")
        con.execute("insert into t values (3, 3, 'again')")
        con.execute("update t set id = 2000 where id = 20")
        assert con._database.columnar._replica is None
    with opened(path) as con:
        con.execute("begin")
        con.execute("delete from t where id = 30")
        con.execute("rollback")
    with opened(path) as con:
        assert len(same_table(con, "t")) == 500 + 1 - 10 + 1
    assert builds(log) == []


def test_the_past_below_the_position_is_read_by_rows(path: Path) -> None:
    with opened(path) as con:
        con.execute("set time_zone = 'UTC'")
        moment = con.execute("select utc_timestamp(6)").fetchone()[0]
        time.sleep(0.002)
        con.execute("delete from t where id < 100")
        assert len(same_table(con, "t")) == 400
        assert len(same(con, f"select * from t as of timestamp '{moment}'", "t")) == 500
    with opened(path) as con:
        con.execute("set time_zone = 'UTC'")
        assert len(same_table(con, "t")) == 400
        assert len(same(con, f"select * from t as of timestamp '{moment}'", "t")) == 500


@pytest.mark.parametrize("queried", [True, False])
def test_a_load_between(path: Path, queried: bool) -> None:
    def load(con: Any, first: int) -> None:
        n = 3000
        con.append("t", pa.table({"id": list(range(first, first + n)), "v": [1] * n, "s": ["loaded"] * n}))

    with opened(path) as con:
        con.execute("delete from t where id < 100")
        if queried:
            same_table(con, "t")
        load(con, 10_000)
        con.execute("delete from t where id = 10000")
    with opened(path) as con:
        assert len(same_table(con, "t")) == 400 + 2999
        load(con, 20_000)
        assert len(same_table(con, "t")) == 400 + 5999


@pytest.mark.parametrize("queried", [True, False], ids=["queried", "not queried"])
@pytest.mark.parametrize(
    "definition",
    [
        "alter table t add d varchar(30) not null default 'it''s \\\\ ü '",
        "alter table t add d decimal(20,5) default -1.5 first",
        "alter table t add d varbinary(9) default x'00ff5c27'",
        "alter table t add d timestamp(6) default '2024-01-02 03:04:05.678901'",
        "alter table t add d time(3) not null default '-12:34:56.789'",
        "alter table t add d set('a','b') default 'a,b'",
        "alter table t add d bit(9) default b'101'",
        "alter table t add d double default 1e-300",
        "alter table t add d int",
        "alter table t drop column s",
        "alter table t rename column s to z",
        "alter table t modify v varchar(30)",
        "alter table t modify v bigint",
        "alter table t modify s varchar(40)",
        "alter table t alter v set default 5",
        "alter table t add index (v)",
        "alter table t rename to u",
        "truncate table t",
        "rename table t to u",
        "alter table t add d int default 7, drop column v",
    ],
)
def test_a_definition_between(path: Path, definition: str, queried: bool) -> None:
    with opened(path) as con:
        if queried:
            same_table(con, "t")
        con.execute(definition)
        ((name,),) = con.execute("show tables").fetchall()
        con.execute(f"insert into {name} (id) values (9000)")
        con.execute(f"delete from {name} where id = 7")
        if queried:
            same_table(con, name)
    with opened(path) as con:
        same_table(con, name)
        con.execute(f"delete from {name} where id between 10 and 20")
        same_table(con, name)


def test_a_damaged_entry_of_the_change_log_has_the_tables_built_anew(path: Path, log: Logged) -> None:
    with opened(path) as con:
        con.execute("delete from t where id < 100")
    engine = RocksEngine(str(path))
    try:
        last = engine.scanner(CF_CHANGES, b"", b"\xff" * 9, reverse=True).take(1)
        batch = engine.batch()
        batch.put(last[0], last[1][:-1], engine.handle(CF_CHANGES))
        engine.write(batch)
        engine.sync()
    finally:
        engine.close()
    builds(log)
    with opened(path) as con:
        assert len(same_table(con, "t")) == 400
        assert any("change log cannot be read" in record.getMessage() for record in log.records)
        con.execute("delete from t where id < 200")
        assert len(same_table(con, "t")) == 300
    assert len(builds(log)) == 1
    with opened(path) as con:
        assert len(same_table(con, "t")) == 300
    assert builds(log) == []


def test_dropped_and_made_again_while_it_was_away(path: Path) -> None:
    with opened(path) as con:
        con.execute("drop table t")
        con.execute("create table t (id int primary key, w date)")
        con.execute("insert into t values (1, '2024-01-01')")
    with opened(path) as con:
        assert same_table(con, "t") == ["(1, datetime.date(2024, 1, 1))"]
    assert len(positions(path)) == 1


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def garble(file: Path) -> None:
    file.write_bytes(random.Random(1).randbytes(file.stat().st_size))


def garble_header(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[8:12] = b"XXXX"
    file.write_bytes(data)


def garble_blocks(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[3 * 4096 :] = random.Random(2).randbytes(len(data) - 3 * 4096)
    file.write_bytes(data)


def other_version(file: Path) -> None:
    with duckdb.connect(str(file)) as con:
        con.execute("update format set version = version + 1")


def other_database(file: Path) -> None:
    file.unlink()
    with duckdb.connect(str(file)) as con:
        con.execute("create table format (something varchar)")


def other_tables(file: Path) -> None:
    with duckdb.connect(str(file)) as con:
        con.execute("alter table tables drop column padded")


DAMAGES = (cut, garble, garble_header, garble_blocks, other_version, other_database, other_tables)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_a_damaged_file_is_set_aside(path: Path, log: Logged, views: Views, damage: Callable[[Path], None]) -> None:
    damage(file_of(path))
    builds(log)
    with opened(path) as con:
        con.execute("update t set v = -1 where id < 9")
        assert len(same_table(con, "t")) == 500
        assert replica_row(con, "t") == (1, "ready", None)
    assert builds(log) == ["t"]
    assert (path / "columnar" / "damaged-1").exists()
    with opened(path) as con:
        views.clear()
        same_table(con, "t")
    assert builds(log) == []
    assert views.take().count(False) == 0


def test_a_log_of_duckdb_that_is_torn(path: Path) -> None:
    """What the file has lost, position and rows alike, is applied again."""
    with opened(path) as con:
        con.execute("create table u (id varchar(9), v int)")
        for i in range(6):
            con.execute("update t set v = ? where id < 50", (i,))
            con.execute("insert into u values (?, ?)", (f"u{i}", i))
            con.execute("delete from t where id = ?", (100 + i,))
            same_table(con, "t")
            same_table(con, "u")
        torn = left_by_a_kill(con, path)
        con.execute("update t set v = 7 where id < 60")
    (wal,) = torn.glob("*.wal")
    whole = wal.read_bytes()
    rng = random.Random(3)
    cuts = [0, 1, len(whole) - 1, len(whole), *(rng.randrange(len(whole)) for _ in range(5))]
    for n in cuts:
        shutil.rmtree(path / "columnar")
        wal.write_bytes(whole[:n])
        shutil.copytree(torn, path / "columnar")
        with opened(path) as con:
            same_table(con, "t")
            same_table(con, "u")
    for at in cuts[4:]:
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        shutil.rmtree(path / "columnar")
        wal.write_bytes(damaged)
        shutil.copytree(torn, path / "columnar")
        with opened(path) as con:
            same_table(con, "t")
            same_table(con, "u")


def test_a_closed_file_is_durable_and_says_so(path: Path) -> None:
    note = path / "columnar" / files.UNSYNCED_FILE
    with opened(path) as con:
        same_table(con, "t")
        assert note.read_text() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert not note.exists()


def test_a_file_that_was_open_when_the_machine_stopped_is_built(path: Path, log: Logged, views: Views) -> None:
    note = path / "columnar" / files.UNSYNCED_FILE
    for other in ("another start of the machine", ""):
        with opened(path) as con:
            con.execute("update t set v = 9 where id < 9")
            same_table(con, "t")
            left = left_by_a_kill(con, path)
        shutil.rmtree(path / "columnar")
        left.rename(path / "columnar")
        note.write_text(other)
        builds(log)
        with opened(path) as con:
            same_table(con, "t")
        assert builds(log) == ["t"]
        with opened(path) as con:
            views.clear()
            same_table(con, "t")
        assert builds(log) == []


def test_a_file_that_was_open_when_the_process_was_killed_is_kept(path: Path, log: Logged) -> None:
    with opened(path) as con:
        con.execute("update t set v = 9 where id < 9")
        same_table(con, "t")
        left = left_by_a_kill(con, path)
        con.execute("update t set v = 8 where id < 7")
    shutil.rmtree(path / "columnar")
    left.rename(path / "columnar")
    assert (path / "columnar" / files.UNSYNCED_FILE).exists()
    builds(log)
    with opened(path) as con:
        same_table(con, "t")
    assert builds(log) == []


def test_rows_ahead_of_their_position_are_applied_again(
    path: Path, log: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process was killed between an apply and the note of it: new rows, gone ones, the first with a space behind."""
    monkeypatch.setattr(worker, "IDLE_S", 1e9)
    monkeypatch.setattr(replica, "SAVE_S", 1e9)
    with opened(path) as con:
        con.execute("insert into t values (1000, 1, 'x'), (1001, 1, 'y '), (1002, 1, 'z')")
        same_table(con, "t")
        con.execute("update t set s = 'x ' where id = 1000")
        con.execute("delete from t where id in (3, 1002)")
        con.execute("insert into t values (1003, 1, 'new')")
        same_table(con, "t")
        (table,) = con._database.columnar._replica.tables
        assert table.unsaved
        left = left_by_a_kill(con, path)
        con.execute("update t set v = 2, s = 'a' where id in (1000, 1001)")
        con.execute("delete from t where id = 1003")
        con.execute("insert into t values (1002, 3, 'back')")
    shutil.rmtree(path / "columnar")
    left.rename(path / "columnar")
    builds(log)
    for _ in range(2):
        with opened(path) as con:
            assert len(same_table(con, "t")) == 500 - 1 + 3
            assert con.execute(hinted(REPLICA, "select id from t where s = 'a '", "t")).fetchall() == [(1000,), (1001,)]
            con.execute("update t set v = v + 1 where id >= 1000")
            same_table(con, "t")
    assert builds(log) == []


def test_an_apply_of_very_many_keys_saves_the_position(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "IDLE_S", 1e9)
    monkeypatch.setattr(replica, "SAVE_S", 1e9)
    monkeypatch.setattr(replica, "SAVE_KEYS", 100)
    with opened(path) as con:
        for rows, ahead in ((90, 90), (20, 110), (80, 80), (30, 110), (10, 10)):
            con.execute("update t set v = v + 1 where id < ?", (rows,))
            same_table(con, "t")
            assert con._database.columnar._replica._ahead == ahead


def test_where_starts_of_the_machine_cannot_be_told_apart_it_is_synced(
    path: Path, log: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_boot_id", lambda: None)
    (note := path / "columnar" / files.UNSYNCED_FILE).write_text("another start of the machine")
    builds(log)
    with opened(path) as con:
        same_table(con, "t")
        assert not note.exists()
        mode = con._database.columnar._replica.duck.take().execute("SELECT current_setting('fsync_mode')").fetchall()
        assert mode == [("STANDARD",)]
    assert builds(log) == ["t"]


@pytest.mark.parametrize("gone", ["replica.duckdb", "."])
def test_a_missing_file_is_built(path: Path, log: Logged, gone: str) -> None:
    target = path / "columnar" / gone
    if target.is_dir():
        shutil.rmtree(path / "columnar")
    else:
        target.unlink()
    builds(log)
    with opened(path) as con:
        con.execute("delete from t where id < 9")
        assert len(same_table(con, "t")) == 491
    assert builds(log) == ["t"]


def test_an_empty_file_is_built(path: Path) -> None:
    empty(file_of(path))
    with opened(path) as con:
        assert len(same_table(con, "t")) == 500


def test_only_the_newest_damaged_files_are_kept(path: Path) -> None:
    for _ in range(files.SET_ASIDE_MAX + 2):
        garble(file_of(path))
        with opened(path) as con:
            same_table(con, "t")
    kept = sorted(p.name for p in (path / "columnar").iterdir() if p.name.startswith("damaged"))
    assert kept == ["damaged-3", "damaged-4"]


def test_a_file_of_an_older_state_of_the_database(path: Path) -> None:
    """Somebody puts back an old file: what its position says is still in the log, or it is built anew."""
    shutil.copy(file_of(path), old := path.parent / "old.duckdb")
    with opened(path) as con:
        con.execute("update t set v = 100 where id < 100")
        same_table(con, "t")
    shutil.copy(old, file_of(path))
    with opened(path) as con:
        same_table(con, "t")
        con.execute("update t set v = 101 where id < 10")
        same_table(con, "t")
        con._database.columnar._worker.tidy()
    shutil.copy(old, file_of(path))
    with opened(path) as con:
        same_table(con, "t")


def test_a_backup_builds_its_own(path: Path, log: Logged) -> None:
    target = path.parent / "backup"
    with opened(path) as con:
        con.execute("delete from t where id < 10")
        same_table(con, "t")
        con.execute(f"backup database to '{target}'")
        con.execute("delete from t where id < 20")
        same_table(con, "t")
    builds(log)
    with opened(target) as con:
        assert len(same_table(con, "t")) == 490
        con.execute("delete from t where id < 30")
        assert len(same_table(con, "t")) == 470
    assert builds(log) == ["t"]
    with opened(path) as con:
        assert len(same_table(con, "t")) == 480


def test_switched_off_and_on(path: Path, log: Logged) -> None:
    with opened(path) as con:
        same_table(con, "t")
        con.execute("alter table t set tiflash replica 0")
        assert not reads_replica(con, "t")
        assert replica_row(con, "t") is None
        assert len(same_table(con, "t")) == 500
        wait_until(lambda: not con._database.columnar._replica.tables)
    assert positions(path) == {}
    with opened(path) as con:
        con.execute("delete from t where id < 10")
        assert len(same_table(con, "t")) == 490
        builds(log)
        con.execute("alter table t set tiflash replica 1")
        con.execute("delete from t where id < 20")
        assert len(same_table(con, "t")) == 480
        assert replica_row(con, "t") == (1, "ready", None)
        assert builds(log) == ["t"]
    assert len(positions(path)) == 1


def test_one_asked_for_is_built_by_itself(path: Path) -> None:
    with opened(path) as con:
        con.execute("create table asked (id int primary key)")
        con.execute("insert into asked values (1), (2)")
        con.execute("alter table asked set tiflash replica 1")
        same_table(con, "t")
        wait_until(lambda: replica_row(con, "asked") == (1, "ready", None))
        assert same_table(con, "asked") == ["(1,)", "(2,)"]


def test_a_dropped_table_leaves_the_file(path: Path) -> None:
    with opened(path) as con:
        con.execute("create table other (id int primary key)")
        con.execute("insert into other values (1)")
        same_table(con, "t")
        same_table(con, "other")
        con.execute("drop table t")
        assert replica_row(con, "t") is None
        wait_until(lambda: len(con._database.columnar._replica.tables) == 1)
        same_table(con, "other")
    assert len(positions(path)) == 1
    with opened(path) as con:
        con.execute("drop table other")
        con.execute("create table t (id int primary key)")
        same_table(con, "t")
        wait_until(lambda: len(con._database.columnar._replica.tables) == 1)
    assert len(positions(path)) == 1


def test_tidying_shortens_the_log_and_keeps_the_position(path: Path, log: Logged) -> None:
    builds(log)
    with opened(path) as con:
        same_table(con, "t")
        for i in range(20):
            con.execute("update t set v = ? where id = 1", (i,))
        columnar = con._database.columnar
        assert len(list(con._database.storage.changes.read(0))) >= 20
        columnar._worker.tidy()
        assert len(list(con._database.storage.changes.read(0))) == 1
        con.execute("update t set v = 50 where id = 1")
        same_table(con, "t")
    with opened(path) as con:
        con.execute("update t set v = 51 where id = 1")
        same_table(con, "t")
    assert builds(log) == []


def test_many_tables_at_different_positions(path: Path, log: Logged) -> None:
    rng = random.Random(4)
    names = [f"m{i}" for i in range(5)]
    with opened(path) as con:
        for name in names:
            con.execute(f"create table {name} (id int primary key, v int)")
            con.execute(f"insert into {name} values (1, 1), (2, 2)")
            same_table(con, name)
    builds(log)
    for _ in range(4):
        with opened(path) as con:
            for _ in range(10):
                con.execute(f"replace into {rng.choice(names)} values (?, ?)", (rng.randint(1, 9), rng.randint(1, 9)))
                if rng.random() < 0.3:
                    same_table(con, rng.choice(names))
    with opened(path) as con:
        for name in names:
            same_table(con, name)
        query = f"select count(*) from {', '.join(names)}"
        rows = con.execute(query).fetchall()
        all_hinted = hinted(REPLICA, query, ", ".join(names))
        assert plan(con, all_hinted).count("ColumnarScan") == len(names)
        assert con.execute(all_hinted).fetchall() == rows
    assert builds(log) == []


def test_closed_while_it_is_built(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that was cut short leaves nothing that could be taken for a table."""
    insert = Worker._insert

    def slow(self: Worker, *args: Any) -> None:
        insert(self, *args)
        self._stopping.wait(1.0)

    with opened(path) as con:
        con.execute("create table big (id int primary key, v int)")
        n = 200_000
        con.append("big", pa.table({"id": list(range(n)), "v": [1] * n}))
        monkeypatch.setattr("coprocessor.columnar.worker.INSERT_ROWS", 1000)
        monkeypatch.setattr(Worker, "_insert", slow)
        con._database.columnar.start().demand(con._database.catalog.schema.need_table(con.database, "big").id)
        wait_until(lambda: any(table.rows for table in con._database.columnar._replica.tables))
    monkeypatch.undo()
    with duckdb.connect(str(file_of(path)), read_only=True) as file:
        assert file.execute("select count(*) from tables").fetchone() == (1,)
    with opened(path) as con:
        assert answer(con, REPLICA, "select count(*) from big", "big") == [f"({n},)"]
        same_table(con, "t")


def test_in_memory(views: Views) -> None:
    with sqlfront.connect(":memory:", autocommit=True) as con:
        con.execute("create table t (id int primary key, v int)")
        con.execute("insert into t values (1, 1)")
        same_table(con, "t")
        con.execute("insert into t values (2, 2)")
        assert same_table(con, "t") == ["(1, 1)", "(2, 2)"]
    assert views.take() == [True] * 4


def test_no_build_ends_inside_a_load(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A position behind the load's entry in the log would say that the rows have the load."""
    take_over = RocksEngine.ingest
    with opened(path) as con:
        same_table(con, "t")
        worker = con._database.columnar._worker
        assert worker is not None

        def slowly(self: RocksEngine, cf: str, files: Any) -> None:
            # the load is noted, and not there yet: time for a build
            con._database.columnar._replica.on_ingest(0, b"", b"")
            time.sleep(1)
            worker._stopping.set()  # and for no other
            take_over(self, cf, files)

        monkeypatch.setattr(RocksEngine, "ingest", slowly)
        n = 5000
        con.append("t", pa.table({"id": list(range(70_000, 70_000 + n)), "v": [1] * n, "s": ["a"] * n}))
        assert worker._stopping.is_set()
    monkeypatch.setattr(RocksEngine, "ingest", take_over)
    with opened(path) as con:
        assert len(same_table(con, "t")) == 500 + n
