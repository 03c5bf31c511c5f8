"""DuckDB's own threads."""

from __future__ import annotations

import os
import sys

import pytest

from coprocessor.duck import NICENESS, DuckEngine


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own on Linux alone")
def test_threads_give_way_and_are_one_more_than_cores() -> None:
    before = set(os.listdir("/proc/self/task"))
    engine = DuckEngine()
    try:
        connection = engine.take()
        [(threads,)] = connection.execute("SELECT current_setting('threads')").fetchall()
        engine.give_back(connection)
        added = set(os.listdir("/proc/self/task")) - before
        assert threads == len(os.sched_getaffinity(0)) + 1
        assert {os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in added} == {NICENESS}
        assert os.getpriority(os.PRIO_PROCESS, 0) < NICENESS
    finally:
        engine.close()
