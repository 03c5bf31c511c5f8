"""IMPORT INTO by a SQL server that is killed -9 in the middle, and by the one that goes on."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.harness import ROOT, Cluster, run
from tests.e2e.test_stores import DRIVERS, MOVE_S, STORES

ROWS = 100_000
IMPORT_TEST_S = 400.0


@pytest.mark.slow
def test_an_import_goes_on_when_its_process_was_killed(tmp_path: Path) -> None:
    file, checkpoint = tmp_path / "rows.parquet", tmp_path / "checkpoint"
    pq.write_table(pa.table({"v": [f"value {i * 7919 % ROWS:020}" for i in range(ROWS)]}), file)

    async def main() -> None:
        async with Cluster(tmp_path, 1, 3, STORES, DRIVERS) as cluster:
            await cluster.replicated(3, MOVE_S)

            async def server() -> asyncio.subprocess.Process:
                command = (sys.executable, "-m", "tests.e2e.importing", cluster.pd_addresses[0], file, checkpoint)
                return await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)

            first = await server()
            while not any("done" in notes.read_text() for notes in checkpoint.glob("*/progress.jsonl")):
                assert first.returncode is None
                await asyncio.sleep(0.02)
            first.kill()
            await first.wait()
            second = await server()
            out, _ = await second.communicate()
            assert second.returncode == 0
            answer, table = out.decode().splitlines()
            found = re.fullmatch(rf"{ROWS} resumed: (\d+) of {2 * ROWS} keys were there already", answer)
            assert found, answer
            assert int(found[1]) > 0
            assert table == f"({ROWS}, 1, {ROWS}, {ROWS})"
            assert list(checkpoint.iterdir()) == []

    run(main, IMPORT_TEST_S)
