"""What concerns the whole process: fork, and what an import and an open cost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.kv.stores import open_test_store

HEAVY = ("numpy", "pyarrow", "duckdb", "pandas", "sqlglot", "asyncio")


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_forked_child_is_refused_and_the_parent_goes_on(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    assert run("-m", "tests.kv.fork_writer", path) == "0 61 b'v'"
    store = open_test_store(path)
    assert len(list(store.snapshot().scan(b"parent/", b"parent0"))) == 60
    store.close()


def test_opening_reading_and_writing_import_nothing_heavy(tmp_path: Path) -> None:
    script = f"""
import sys
from tests.kv.stores import open_test_store
store = open_test_store({str(tmp_path / "db")!r})
txn = store.begin()
txn.put(b"k", b"v")
txn.commit()
assert list(store.snapshot().scan(b"", b"")) == [(b"k", b"v")]
store.close()
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    assert run("-c", script) == "[]\n"
