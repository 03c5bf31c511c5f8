"""kill -9 at each step of an ingest: acknowledged files are in, replicas are equal, and the store goes on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvstore.engine.api import CF_DEFAULT, CF_WRITE, Engine
from kvstore.mvcc.keys import data_key, versioned
from kvstore.server.import_sst import ImportService
from tests.raftstore.import_writer import BATCHES, COMMIT_TS, load, rows
from tests.raftstore.kill_writer import Trio


def held(engine: Engine) -> list[list[bytes]]:
    found = []
    for cf in (CF_WRITE, CF_DEFAULT):
        scanner = engine.scanner(cf, b"z", b"{")
        found.append(scanner.take(1 << 30))
        scanner.release()
    return found


async def check(path: str, acknowledged: list[int]) -> None:
    trio = Trio(path)
    stores = list(trio.stores.values())
    await trio.put(b"probe")
    end = time.monotonic() + 20
    while len({tuple(map(tuple, held(store.engine))) for store in stores}) > 1:
        assert time.monotonic() < end, "replicas differ"
        assert not any(run.done() for run in trio.runs)
        await asyncio.sleep(0.05)
    for batch in acknowledged:
        for key, _ in rows(batch):
            assert stores[0].engine.get(CF_WRITE, versioned(data_key(key), COMMIT_TS)) is not None, key
    services = {store.store_id: ImportService(store) for store in stores}
    for batch in range(BATCHES):  # what is there already is loaded once more, as a client does that heard no answer
        await load(trio, services, batch)
    await trio.put(b"probe")
    await asyncio.sleep(0.3)
    for store in stores:
        records, values = held(store.engine)
        wanted = [row for batch in range(BATCHES) for row in rows(batch)]
        assert records[::2] == [versioned(data_key(key), COMMIT_TS) for key, _ in wanted]
        long = [value for _, value in wanted if len(value) > 255]
        assert [value for value in values[1::2] if value != b"probe"] == long
    await trio.close()


FIRST, LATER = "panic", "7*off->panic"
STEPS = [
    ("import::before_keep", FIRST),
    ("raftstore::before_ingest", FIRST),
    ("raftstore::before_ingest", "2*off->panic"),
    ("raftstore::after_ingest", FIRST),
    ("raftstore::after_ingest", "1*off->panic"),
    ("raftstore::after_ingest", "3*off->panic"),
    ("raftstore::before_apply_write", LATER),
    ("raftstore::before_reply", LATER),
    ("raftstore::before_sync", LATER),
    ("raftstore::after_sync", LATER),
    ("raftstore::before_remove_ingested", FIRST),
    ("raftstore::before_remove_ingested", "1*off->panic"),
]


def kill_at(path: str, point: str, actions: str) -> None:
    command = [sys.executable, "-m", "tests.raftstore.import_writer", path, point, actions]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    out, _ = process.communicate(timeout=60)
    acknowledged = [int(line) for line in out.split()]
    assert acknowledged[:1] == [0]
    asyncio.run(check(path, acknowledged))


@pytest.mark.parametrize(("point", "actions"), [STEPS[1], STEPS[4], STEPS[-2]])
def test_killed_at_a_step_of_an_ingest(tmp_path: Path, point: str, actions: str) -> None:
    kill_at(str(tmp_path), point, actions)


@pytest.mark.slow
@pytest.mark.parametrize(("point", "actions"), STEPS)
def test_killed_at_every_step_of_an_ingest(tmp_path: Path, point: str, actions: str) -> None:
    kill_at(str(tmp_path), point, actions)
