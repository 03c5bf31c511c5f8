"""The README's programs for a cluster run as they stand, against processes."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT, Cluster, run


def _run(block: str, address: str) -> list[str]:
    program = block.replace("127.0.0.1:2379", address)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_programs_for_a_cluster_run(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)

    async def main() -> None:
        async with Cluster(tmp_path, stores=3) as cluster:
            await cluster.replicated(3, 60)
            address = cluster.pd_addresses[0]
            for _ in range(2):
                assert await asyncio.to_thread(_run, blocks[1], address) == ["(2, 'pen')"]
            assert await asyncio.to_thread(_run, blocks[2], address) == ["b'hello'"]

    run(main)
