"""kill -9 at random moments: every acknowledged commit is there, and every commit is whole."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kv.stores import open_test_store


def check(path: str, acknowledged: set[bytes]) -> None:
    store = open_test_store(path)
    reader = store.snapshot()
    rows = {key[len(b"row/") :]: value for key, value in reader.scan(b"row/", b"row0")}
    index = {key[len(b"index/") :] for key, _ in reader.scan(b"index/", b"index0")}
    assert acknowledged <= rows.keys()
    assert rows.keys() == index
    for key, value in rows.items():
        assert value in (key, key * 60)
    store.close()


def kill_rounds(path: str, rounds: int) -> None:
    rng = random.Random(11)
    acknowledged: set[bytes] = set()
    for round_number in range(rounds):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.kv.crash_writer", path, str(round_number)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(rng.randrange(1, 400)):
            acknowledged.add(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        acknowledged.update(rest[: rest.rfind(b"\n") + 1].split())
        process.wait()
        process.stdout.close()
        acknowledged.discard(b"")
        check(path, acknowledged)
    assert acknowledged


def test_acknowledged_commits_survive_kill(tmp_path: Path) -> None:
    kill_rounds(str(tmp_path / "db"), 4)


@pytest.mark.slow
def test_acknowledged_commits_survive_many_kills(tmp_path: Path) -> None:
    kill_rounds(str(tmp_path / "db"), 40)
