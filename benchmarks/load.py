"""Bulk load: lineitem from Parquet into a table with its composite primary key, durable when the clock stops.

Engines in process load in a child process each, so that its peak memory is the load's own; sqlfront also loads a file
four times as large, to show that memory stays flat as the file grows.
"""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engines import OURS, make_engine
from benchmarks.engines.api import Engine
from benchmarks.measure import Measurement
from benchmarks.tpch.data import tpch_files
from benchmarks.tpch.schema import LINEITEM

WORK = "load_lineitem"
GROWTH = 4
CHILD_LIMIT_S = 1800.0


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """How large and how often; `grow` adds sqlfront's load of a file `GROWTH` times as large."""

    scale: float = 0.1
    runs: int = 3
    grow: bool = True


def run(
    engines: Sequence[Engine], files: Path, settings: LoadSettings, say: Callable[[str], None]
) -> list[Measurement]:
    """Loads the file into each engine, several rounds that interleave the engines."""
    path = tpch_files(settings.scale, (LINEITEM,), files)["lineitem"]
    results = [Measurement(WORK, engine.name, 1, settings.scale, "per_s") for engine in engines]
    for engine in engines:
        engine.prepare(path)
    for number in range(settings.runs):
        for engine, result in zip(engines, results, strict=True):
            say(f"{engine.name}: load {number + 1} of {settings.runs}")
            _add(result, load_in_child(engine.name, path) if engine.in_process else load_once(engine, path))
    if settings.grow and any(engine.name == OURS for engine in engines):
        results.append(_grown(files, settings, say))
    return results


def _grown(files: Path, settings: LoadSettings, say: Callable[[str], None]) -> Measurement:
    scale = settings.scale * GROWTH
    path = tpch_files(scale, (LINEITEM,), files)["lineitem"]
    say(f"{OURS}: load of a file {GROWTH} times as large")
    measurement = Measurement(WORK, OURS, 1, scale, "per_s")
    _add(measurement, load_in_child(OURS, path))
    return measurement


def _add(result: Measurement, outcome: dict[str, float]) -> None:
    result.values.append(outcome["rows"] / outcome["seconds"])
    if "rss_before_mb" in outcome:
        result.notes["peak_rss_mb"] = max(outcome["peak_rss_mb"], float(result.notes.get("peak_rss_mb", 0)))
        result.notes["rss_before_mb"] = outcome["rss_before_mb"]


def load_once(engine: Engine, path: Path) -> dict[str, float]:
    """Loads the file into an empty table of a started engine and checks the count.

    Returns the rows, the seconds, and this process's peak memory (MiB) when the load was done, before the count.
    """
    with contextlib.closing(engine.connect()) as con:
        cursor = con.cursor()
        cursor.execute("DROP TABLE IF EXISTS lineitem")
        engine.create_table(con, LINEITEM)
        start = time.perf_counter()
        engine.append(con, LINEITEM, path)
        seconds = time.perf_counter() - start
        peak = _peak_rss_mb()
        cursor.execute("SELECT COUNT(*) FROM lineitem")
        rows = int(cursor.fetchone()[0])
    expected = row_count(path)
    if rows != expected:
        raise RuntimeError(f"{engine.name} holds {rows} rows after the load of {expected}")
    return {"rows": rows, "seconds": seconds, "peak_rss_mb": peak}


def load_in_child(name: str, path: Path) -> dict[str, float]:
    """Runs `load_once` in a process of its own and adds that process's memory before the load and at its peak."""
    command = [sys.executable, "-m", "benchmarks.load", name, str(path)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=CHILD_LIMIT_S)
    if done.returncode != 0:
        raise RuntimeError(f"loading into {name} failed:\n{done.stderr}")
    outcome: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return outcome


def child(name: str, path: Path) -> None:
    """The child's side: start the engine in a temporary directory, load once, print what was measured."""
    engine = make_engine(name)
    directory = Path(tempfile.mkdtemp(prefix="sqlfront-load-"))
    try:
        engine.start(directory)
        row_count(path)
        before = _peak_rss_mb()
        outcome = load_once(engine, path)
        print(json.dumps({**outcome, "rss_before_mb": before}))
    finally:
        engine.stop()
        shutil.rmtree(directory, ignore_errors=True)


def row_count(path: Path) -> int:
    """Returns the number of a Parquet file's rows."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def _peak_rss_mb() -> float:
    """Returns this process's peak resident memory in MiB (Linux counts in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)


def memory_table(results: Sequence[Measurement]) -> list[list[str]]:
    """Returns a table of each load's rate and peak memory."""
    rows = [["engine", "scale", "rows/s", "memory before, MiB", "peak, MiB"]]
    for m in results:
        memory = [
            f"{float(m.notes[key]):.0f}" if key in m.notes else "server" for key in ("rss_before_mb", "peak_rss_mb")
        ]
        rows.append([m.engine, f"{m.scale:g}", f"{m.value:,.0f}", *memory])
    return rows


if __name__ == "__main__":
    child(sys.argv[1], Path(sys.argv[2]))
