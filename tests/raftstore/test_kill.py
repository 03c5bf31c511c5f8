"""kill -9 at random moments of three stores on disk: acknowledged writes are there, and the regions are whole."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.raftstore.kill_writer import Trio


async def check(path: str, acknowledged: set[bytes]) -> None:
    trio = Trio(path)
    await trio.put(b"00/probe")
    end = time.monotonic() + 20
    while any(peer.merge is not None for store in trio.stores.values() for peer in store.peers.values()):
        assert time.monotonic() < end, "a merge does not end"
        await asyncio.sleep(0.05)
    await trio.put(b"99/probe")
    async with asyncio.timeout(30):
        for key in acknowledged:
            assert await trio.get(key) == key
    for store in trio.stores.values():
        regions = store.regions()
        assert not regions[0].start_key
        assert not regions[-1].end_key
        assert all(a.end_key == b.start_key for a, b in pairwise(regions))
    await trio.close()


def kill_rounds(path: str, rounds: int) -> None:
    rng = random.Random(5)
    acknowledged: set[bytes] = set()
    for number in range(rounds):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.raftstore.kill_writer", path, str(number)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(rng.randrange(50, 1500)):
            acknowledged.add(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        acknowledged.update(rest[: rest.rfind(b"\n") + 1].split())
        process.wait()
        process.stdout.close()
        acknowledged.discard(b"")
        asyncio.run(check(path, acknowledged))
    assert acknowledged


def test_states_survive_kill(tmp_path: Path) -> None:
    kill_rounds(str(tmp_path), 2)


@pytest.mark.slow
def test_states_survive_many_kills(tmp_path: Path) -> None:
    kill_rounds(str(tmp_path), 12)
