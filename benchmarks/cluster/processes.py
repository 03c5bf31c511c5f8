"""What is measured besides a cluster: the echo server, and what a process uses."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from shell.playground.children import Child
from shell.playground.local import READY_S, STOP_GRACE_S


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used: processor seconds since its start, bytes of memory now."""

    cpu_s: float
    memory_bytes: int


def usage(pid: int) -> Usage:
    """Reads /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return Usage((int(fields[11]) + int(fields[12])) / ticks, int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))


@contextlib.asynccontextmanager
async def echo_server() -> AsyncIterator[str]:
    """The echo server's address."""
    directory = Path(tempfile.mkdtemp(prefix="sqlfront-bench-echo-"))
    child = await Child.start("echo", (sys.executable, "-m", "benchmarks.cluster.echo"), directory / "echo.out")
    try:
        await child.wait_ready(READY_S)
        yield child.ready["addr"]
    finally:
        await child.stop(STOP_GRACE_S)
        shutil.rmtree(directory, ignore_errors=True)
