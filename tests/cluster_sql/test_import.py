"""IMPORT INTO on a cluster: loads that stop half way, and what goes on with them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

import sqlfront
from kvstore.client.cluster.bulk import LoadOptions
from kvstore.client.cluster.region_load import RegionLoad
from sqlfront.catalog import online, rewrite
from sqlfront.catalog.jobs import PAUSED, cancel_job, past_jobs, running_jobs
from sqlfront.catalog.meta import MetaReader
from sqlfront.catalog.online import go_on_with_unfinished
from sqlfront.catalog.shared import SharedCatalog
from sqlfront.database import Database
from tests.cluster_sql.world import World

ROWS = 6000
SCHEMA = (
    "(id bigint primary key auto_increment, v varchar(30), at datetime(3) default current_timestamp(3), index iv (v))"
)

Run = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def run(world: World, database: str) -> Iterator[Run]:
    """Runs a statement in the database of the test."""
    with world.connect(database=database) as connection:

        def run(sql: str, *params: object) -> list[tuple[Any, ...]]:
            cursor = connection.cursor()
            cursor.execute(sql, params)
            return cursor.fetchall() if cursor.description else []

        yield run
        run(f"drop database if exists {database}")  # with the loads that stopped in it


@pytest.fixture(autouse=True)
def small_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loads of several parts, one after the other."""
    monkeypatch.setattr(world.first.storage, "load_options", LoadOptions(region_bytes=64 << 10, parallel=1))


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """Six thousand rows without their ids."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"v": [f"v{i % 97}" for i in range(ROWS)]}), path)
    return path


async def _away() -> None:
    raise ConnectionError("the store is away")


class Parts:
    """Counts the parts that are sent, and fails the one after `good` of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent = 0
        self.good: int | None = None
        self.fail: Callable[[], Awaitable[None]] = _away
        load = RegionLoad.load

        async def counted(loading: RegionLoad, *args: Any) -> tuple[bytes, int]:
            if self.sent == self.good:
                await self.fail()
            done = await load(loading, *args)
            self.sent += 1
            return done

        monkeypatch.setattr(RegionLoad, "load", counted)

    def fail_after(self, good: int | None) -> None:
        self.sent, self.good = 0, good


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    return Parts(monkeypatch)


def jobs(server: Database) -> list[Any]:
    return running_jobs(MetaReader(server.storage.snapshot()))


def stop_half_way(run: Run, parts: Parts, statement: str) -> None:
    parts.fail_after(2)
    with pytest.raises(sqlfront.Error):
        run(statement)
    assert parts.sent == 2
    parts.fail_after(None)


@contextmanager
def killed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever fails here leaves all as it is, and nobody takes over."""
    with monkeypatch.context() as patched:
        for module in (rewrite, online):
            patched.setattr(module, "pause_copy", lambda catalog, job: None)
        yield


def test_a_file_into_an_empty_table(world: World, run: Run, database: str, parquet: Path) -> None:
    run(f"create table t {SCHEMA}")
    job, source, target, table_id, phase, status, size, rows, message, *_ = run(f"import into t (v) from '{parquet}'")[
        0
    ]
    assert (source, target, phase, status, rows, message) == (
        str(parquet), f"`{database}`.`t`", "", "finished", ROWS, "",
    )  # fmt: skip
    assert size.endswith("KiB")
    assert world.first.catalog.schema.need_table(database, "t").id == table_id
    assert past_jobs(MetaReader(world.first.storage.snapshot()))[0].id == job
    assert run("select count(*), min(id), max(id), count(distinct v) from t") == [(ROWS, 1, ROWS, 97)]
    assert run("select id from t where v = 'v3' order by id limit 2") == [(4,), (101,)]
    run("admin check table t")
    run("insert into t (v) values ('more')")
    assert run("select id > ? from t where v = 'more'", ROWS) == [(1,)]
    with pytest.raises(sqlfront.Error, match="target table is not empty") as raised:
        run(f"import into t (v) from '{parquet}'")
    assert raised.value.code == 8173
    assert jobs(world.first) == []


def test_without_a_checkpoint_all_is_undone(world: World, run: Run, parts: Parts, parquet: Path) -> None:
    run(f"create table t {SCHEMA}")
    stop_half_way(run, parts, f"import into t (v) from '{parquet}'")
    assert jobs(world.first) == []
    assert run("select count(*) from t") == [(0,)]
    run("insert into t (v) values ('x')")


def test_a_load_that_stopped_goes_on(world: World, run: Run, parts: Parts, parquet: Path, tmp_path: Path) -> None:
    run(f"create table t {SCHEMA}")
    run("insert into t (v) values ('gone')")
    run("delete from t")
    statement = f"import into t (v) from '{parquet}' with checkpoint='{tmp_path / 'cp'}'"
    stop_half_way(run, parts, statement)
    (job,) = jobs(world.first)
    assert job.state == PAUSED
    assert "the store is away" in job.error
    run("insert into t (v) values ('meanwhile')")  # writers are let in
    with pytest.raises(sqlfront.Error, match="not empty"):
        run(statement)
    run("delete from t")
    go_on_with_unfinished(world.first.catalog)
    assert [job.state for job in jobs(world.first)] == [PAUSED]

    row = run(statement)[0]
    left = parts.sent
    assert (row[0], row[3], row[7]) == (job.id, job.copy_id, ROWS)
    assert row[8].startswith("resumed: ")
    assert jobs(world.first) == []
    assert os.listdir(tmp_path / "cp") == []
    run("admin check table t")
    first = run("select min(id) from t")[0][0]
    assert first > 1
    assert run("select count(*), max(id) - ?, count(distinct at) from t", first) == [(ROWS, ROWS - 1, 1)]

    run("create table whole like t")
    parts.fail_after(None)
    run(f"import into whole (v) from '{parquet}'")
    assert left + 2 == parts.sent
    assert run("select count(*) from t join whole w on w.id + ? = t.id and w.v = t.v", first - 1) == [(ROWS,)]
    run("insert into t (v) values ('after')")
    run("admin check table t")


def test_a_process_that_was_killed(
    world: World, second: Database, run: Run, parts: Parts, parquet: Path, tmp_path: Path, database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its job still runs and its table is closed; another server goes on without the directory."""
    run("create table t (v varchar(30), unique index (v, w), w int)")
    two = tmp_path / "two.parquet"
    pq.write_table(pa.table({"v": [f"v{i % 97}" for i in range(ROWS)], "w": range(ROWS)}), two)
    statement = f"import into t from '{two}' with checkpoint='{tmp_path / 'cp'}'"
    with killed(monkeypatch):
        stop_half_way(run, parts, statement)
        assert [job.state for job in jobs(world.first)] == ["running"]
        assert world.first.catalog.schema.need_table(database, "t").closed
    for name in (tmp_path / "cp").iterdir():
        (name / "progress.jsonl").unlink()
    with world.connect(second, database=database) as other:
        cursor = other.cursor()
        cursor.execute(statement)
        assert cursor.fetchall()[0][7] == ROWS
    assert run("select count(*), count(distinct v), count(distinct w) from t") == [(ROWS, 97, ROWS)]
    run("admin check table t")
    run("insert into t values ('x', -1)")


def test_an_orphan_is_paused(
    world: World, run: Run, parts: Parts, parquet: Path, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(f"create table t {SCHEMA}")
    with killed(monkeypatch):
        stop_half_way(run, parts, f"import into t (v) from '{parquet}' with checkpoint='{tmp_path / 'cp'}'")
    with world.first.catalog.ddl_mutex:
        go_on_with_unfinished(world.first.catalog)
    assert [job.state for job in jobs(world.first)] == [PAUSED]
    assert not world.first.catalog.schema.need_table(database, "t").closed
    run("drop table t")


def test_another_load_is_refused(world: World, run: Run, parts: Parts, tmp_path: Path) -> None:
    run(f"create table t {SCHEMA}")
    path, other = tmp_path / "rows.csv", tmp_path / "other.csv"
    for one in (path, other):
        one.write_text("".join(f"v{i % 97}\n" for i in range(ROWS)))
    statement = f"import into t (v) from '{path}' with checkpoint='{tmp_path / 'cp'}'"
    stop_half_way(run, parts, statement)

    def refused(statement: str, why: str) -> None:
        with pytest.raises(sqlfront.Error, match=why) as raised:
            run(statement)
        assert raised.value.code == 8173
        assert [job.state for job in jobs(world.first)] == [PAUSED]

    refused(statement.replace("/cp'", "/other'"), "stopped half way, under the checkpoint")
    refused(statement.replace(str(path), str(other)), r"another one \(its files differed\)")
    state = path.stat()
    path.write_text("".join(f"w{i % 97}\n" for i in range(ROWS)))
    refused(statement, r"another one \(its files differed\)")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    refused(statement, "the rows are not those of the load")
    run("alter table t add column w int")
    refused(statement, "was altered")
    assert parts.sent == 0


@pytest.mark.parametrize(
    "end", ["drop table t", "truncate table t", "drop database {}", "alter table t modify v char(9)"]
)
def test_it_ends_with_its_table(
    world: World, run: Run, parts: Parts, parquet: Path, tmp_path: Path, database: str, end: str
) -> None:
    run(f"create table t {SCHEMA}")
    stop_half_way(run, parts, f"import into t (v) from '{parquet}' with checkpoint='{tmp_path / 'cp'}'")
    (job,) = jobs(world.first)
    run(end.format(database))
    assert jobs(world.first) == []
    past = {found.id: found.state for found in past_jobs(MetaReader(world.first.storage.snapshot()))}
    assert past[job.id] == "cancelled"
    assert job.copy_range() in world.first.catalog.pending_ranges()


@pytest.mark.parametrize("by", ["an owner", "the statement"])
def test_it_can_be_cancelled(world: World, run: Run, parts: Parts, parquet: Path, tmp_path: Path, by: str) -> None:
    run(f"create table t {SCHEMA}")
    statement = f"import into t (v) from '{parquet}' with checkpoint='{tmp_path / 'cp'}'"
    stop_half_way(run, parts, statement)
    (job,) = jobs(world.first)
    assert run("admin show ddl jobs 0")[0][11] == "paused"
    assert run(f"admin cancel ddl jobs {job.id}") == [(str(job.id), "successful")]
    if by == "an owner":
        with world.first.catalog.ddl_mutex:
            go_on_with_unfinished(world.first.catalog)
        assert jobs(world.first) == []
        assert job.copy_range() in world.first.catalog.pending_ranges()
    assert run(statement)[0][7:9] == (ROWS, "")
    assert job.copy_range() in world.first.catalog.pending_ranges()
    assert run("select count(*) from t") == [(ROWS,)]


def test_wrong_rows_leave_nothing_to_go_on_with(world: World, run: Run, tmp_path: Path) -> None:
    run("create table t (id int primary key, v int)")
    path = tmp_path / "rows.csv"
    path.write_text("1,2\n2,3\n1,4\n")
    statement = f"import into t from '{path}' with checkpoint='{tmp_path / 'cp'}'"
    with pytest.raises(sqlfront.IntegrityError, match=r"Duplicate entry '1' for key 't.PRIMARY'"):
        run(statement)
    assert os.listdir(tmp_path / "cp") == []
    path.write_text("1,2\n2,x\n")
    with pytest.raises(sqlfront.DataError, match=r"'x' for column 'v' at row 2 of file .*rows.csv"):
        run(statement)
    assert jobs(world.first) == []
    path.write_text("1,2\n2,3\n")
    assert run(statement)[0][7] == 2
    assert run("select * from t order by id") == [(1, 2), (2, 3)]


def test_a_load_that_runs_is_cancelled(world: World, run: Run, parts: Parts, parquet: Path, tmp_path: Path) -> None:
    run(f"create table t {SCHEMA}")

    async def cancel() -> None:
        (job,) = await asyncio.to_thread(jobs, world.first)
        assert await asyncio.to_thread(cancel_job, world.first.storage, job.id) == "successful"

    parts.fail = cancel
    parts.fail_after(2)
    with pytest.raises(sqlfront.Error, match="Cancelled DDL job") as raised:
        run(f"import into t (v) from '{parquet}' with checkpoint='{tmp_path / 'cp'}'")
    assert raised.value.code == 8214
    assert jobs(world.first) == []
    run("insert into t (v) values ('x')")
    assert run("select count(*) from t") == [(1,)]


def test_an_interrupt_is_a_pause(
    world: World, parts: Parts, parquet: Path, tmp_path: Path, database: str, run: Run
) -> None:
    run(f"create table t {SCHEMA}")
    statement = f"import into t (v) from '{parquet}' with checkpoint='{tmp_path / 'cp'}'"
    with world.connect(database=database) as connection:

        async def interrupt() -> None:
            connection.session.interrupt()
            await asyncio.sleep(3600)

        parts.fail = interrupt
        parts.fail_after(1)
        with pytest.raises(sqlfront.Error) as raised:
            connection.cursor().execute(statement)
    assert raised.value.code == 1317
    assert [job.state for job in jobs(world.first)] == [PAUSED]
    parts.fail_after(None)
    run(statement)
    assert run("select count(*), max(id) from t") == [(ROWS, ROWS)]


def test_a_table_whose_last_answer_was_lost_is_not_undone(
    world: World, run: Run, parquet: Path, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(f"create table t {SCHEMA}")
    catalog, put_in_place = world.first.catalog, rewrite._put_in_place
    assert isinstance(catalog, SharedCatalog)
    switch = catalog.lease.switch

    def switch_unheard(*args: Any) -> Any:
        switch(*args)
        raise ConnectionError("the answer was lost")

    def put(*args: Any) -> None:
        with monkeypatch.context() as lossy:
            lossy.setattr(catalog.lease, "switch", switch_unheard)
            put_in_place(*args)

    monkeypatch.setattr(rewrite, "_put_in_place", put)
    with pytest.raises(sqlfront.Error, match="the answer was lost"):
        run(f"import into t (v) from '{parquet}'")
    assert jobs(world.first) == []
    until = time.monotonic() + 10
    while run("select count(*) from t") != [(ROWS,)]:
        assert time.monotonic() < until
        time.sleep(0.05)
    run("insert into t (v) values ('x')")


def test_csv_on_a_cluster(run: Run, tmp_path: Path) -> None:
    run("create table t (a int, b varchar(20), c decimal(10,2))")
    rows = pa.table({"a": range(3000), "b": [f"x{i}" for i in range(3000)], "c": [i / 4 for i in range(3000)]})
    for number in range(2):
        pa_csv.write_csv(rows.slice(number * 1500, 1500), tmp_path / f"part{number}.csv")
    assert run(f"import into t from '{tmp_path}/part*.csv' with skip_rows=1")[0][7] == 3000
    assert run("select count(*), sum(a), sum(c) from t") == [(3000, 4498500, 1124625)]
    assert run("select b from t where a = 1600") == [("x1600",)]


def test_append_goes_on_after_the_ids_that_were_in_use(run: Run, world: World, database: str) -> None:
    run("create table t (id int primary key auto_increment, v int)")
    run("insert into t (v) values (1)")
    last = world.first.autoids.last(world.first.catalog.schema.need_table(database, "t"))[0]
    run("delete from t")
    with world.connect(database=database) as connection:
        assert connection.append("t", pa.table({"v": range(9000)})) == 9000
    assert run("select min(id), max(id) from t") == [(last + 1, last + 9000)]
    run("insert into t (v) values (-1)")
    assert run("select id > ? from t where v = -1", last + 9000) == [(1,)]
