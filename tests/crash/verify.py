"""What a killed writer's output promises, and whether the database keeps it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlfront
from tests.crash.writer import ACCOUNTS, APPEND_ROWS, START

READY_SECONDS_MAX = 30
ROOT = Path(__file__).parents[2]
TABLES = ("account", "item", "pair", "bulk", "indexed")


@dataclass
class Promise:
    """Acknowledged state by thread: what is there, and the one change of each thread that may be there."""

    items: dict[str, str] = field(default_factory=dict)
    pairs: set[str] = field(default_factory=set)
    batches: set[str] = field(default_factory=set)
    backups: list[str] = field(default_factory=list)
    pending: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    def replay(self, lines: Iterable[str]) -> None:
        for line in lines:
            who, word, *rest = line.split()
            if word == "try":
                self.pending[who] = (rest[0], rest[1], rest[2])
            elif word == "ok" and who in self.pending:
                self.acknowledge(who, *self.pending.pop(who))

    def acknowledge(self, who: str, kind: str, key: str, value: str) -> None:
        if who == "pair":
            self.pairs.add(key)
        elif who == "append":
            self.batches.add(key)
        elif who == "backup":
            self.backups.append(key)
        elif kind == "delete":
            del self.items[key]
        elif kind == "put":
            self.items[key] = value


def kill_after(kind: str, path: str, seed: int, seconds: float, *, module: str = "tests.crash.writer") -> list[str]:
    """Runs a writer, kills it with SIGKILL some time after it is ready, returns its whole lines."""
    command = [sys.executable, "-m", module, kind, path, str(seed)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    os.set_blocking(process.stdout.fileno(), False)
    chunks: list[bytes] = []
    deadline = time.monotonic() + READY_SECONDS_MAX
    kill_at: float | None = None
    while process.poll() is None and time.monotonic() < deadline:
        chunk = process.stdout.read()
        if chunk:
            chunks.append(chunk)
        if kill_at is None and b"try" in b"".join(chunks[-2:]):
            kill_at = deadline = time.monotonic() + seconds
        time.sleep(0.002)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    os.set_blocking(process.stdout.fileno(), True)
    chunks.append(process.stdout.read())
    errors = process.stderr.read().decode()
    process.wait()
    process.stdout.close()
    process.stderr.close()
    assert alive, f"the writer ended by itself:\n{errors}"
    assert kill_at is not None, f"the writer never began:\n{errors}"
    text = b"".join(chunks).decode()
    return text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]


def settle(promise: Promise, con: Any) -> None:
    """Checks the database against the promise, and takes what is there as acknowledged from now on."""
    check_items(promise, con)
    check_pairs(promise, con)
    check_batches(promise, con)
    total = con.execute("select sum(balance), count(*) from account").fetchone()
    assert total == (ACCOUNTS * START, ACCOUNTS)
    for table in TABLES:
        con.execute(f"admin check table {table}")
    promise.pending.clear()


def check_items(promise: Promise, con: Any) -> None:
    there = {str(k): v for k, v in con.execute("select id, v from item").fetchall()}
    for who, (kind, key, value) in promise.pending.items():
        if not who.isdigit():
            continue
        allowed = (promise.items.get(key), None if kind == "delete" else value)
        assert there.get(key) in allowed, f"row {key} is {there.get(key)!r}, allowed are {allowed}"
        if key in there:
            promise.items[key] = there[key]
        else:
            promise.items.pop(key, None)
    missing = {k: v for k, v in promise.items.items() if there.get(k) != v}
    assert not missing, f"acknowledged and lost: {missing}"
    surplus = {k: v for k, v in there.items() if k not in promise.items}
    assert not surplus, f"deleted, yet there: {surplus}"


def check_pairs(promise: Promise, con: Any) -> None:
    rows = [r[0] for r in con.execute("select id from pair").fetchall()]
    first = {r.removesuffix("-0") for r in rows if r.endswith("-0")}
    second = {r.removesuffix("-1") for r in rows if r.endswith("-1")}
    assert first == second, f"half a transaction: {first ^ second}"
    pending = {promise.pending["pair"][1]} if "pair" in promise.pending else set()
    assert promise.pairs <= first, f"acknowledged and lost: {promise.pairs - first}"
    assert first <= promise.pairs | pending, f"never written: {first - promise.pairs - pending}"
    promise.pairs = first


def check_batches(promise: Promise, con: Any) -> None:
    there = {str(b): n for b, n in con.execute("select batch, count(*) from bulk group by batch").fetchall()}
    torn = {b: n for b, n in there.items() if n != APPEND_ROWS}
    assert not torn, f"half a bulk load: {torn}"
    pending = {promise.pending["append"][1]} if "append" in promise.pending else set()
    assert promise.batches <= set(there), f"acknowledged and lost: {promise.batches - set(there)}"
    assert set(there) <= promise.batches | pending
    promise.batches = set(there)


def reopened(path: str | Path) -> Any:
    return sqlfront.connect(path, autocommit=True)
