"""A bulk load over three store processes, one of which is killed -9 in the middle."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kvstore.client.cluster.bulk import LoadOptions
from tests.e2e.harness import Cluster, run
from tests.e2e.test_stores import DRIVERS, MOVE_S, STORES, client_of

ROWS = 300_000
RUN_ROWS = 20_000
LOAD_TEST_S = 500.0


def row(number: int) -> tuple[bytes, bytes]:
    return b"t%08d" % number, b"%d/" % number * (60 if number % 50 == 0 else 4)


@pytest.mark.slow
def test_a_load_goes_on_when_a_store_is_killed_and_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with Cluster(tmp_path, 1, 3, STORES, DRIVERS) as cluster, client_of(cluster) as client:
            await cluster.replicated(3, MOVE_S)
            progress = tmp_path / "load"
            options = LoadOptions(memory_bytes=8 << 20, region_bytes=1 << 20)
            async with await client.bulk_load(b"t", b"u", directory=str(progress), options=options) as load:
                for offset in range(ROWS // RUN_ROWS):  # runs that interleave
                    rows = [row(number) for number in range(offset, ROWS, ROWS // RUN_ROWS)]
                    load.add_run([key for key, _ in rows], [value for _, value in rows])
                running = asyncio.ensure_future(load.finish(check_empty=True))
                notes = progress / "progress.jsonl"
                while not notes.exists() or notes.read_text().count("done") < 3:
                    assert not running.done()
                    await asyncio.sleep(0.02)
                victim = cluster.stores[1]
                await cluster.kill(victim)
                await asyncio.sleep(2)
                assert not running.done()
                await cluster.start(victim)
                report = await running
            assert report.rows == report.loaded_rows == ROWS
            number = 0
            async for pair in client.snapshot(await client.now_ts()).scan(b"t", b"u"):
                assert pair == row(number)
                number += 1
            assert number == ROWS

    run(main, LOAD_TEST_S)
