"""ADD INDEX under load: rows indexed a second, and what another SQL server's updates keep of their rate meanwhile."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks import oltp
from benchmarks.cluster_sql.bench import Bench
from benchmarks.report import number

ROWS_PER_S_WANTED = 20_000.0
KEPT_WANTED = 0.5
CLIENTS = 8
START_LIMIT_S = 60.0
POLL_S = 0.05
ADD_INDEX = "ALTER TABLE sbtest1 ADD INDEX k_idx (k)"


@dataclass(slots=True)
class Counts:
    """What the load has committed, each number with its time (seconds since the epoch)."""

    seen: list[tuple[float, int]] = field(default_factory=list)

    def follow(self, lines: Iterator[str]) -> None:
        for line in lines:
            when, count = line.split()
            self.seen.append((float(when), int(count)))

    def rate(self, start: float, end: float) -> float:
        """Commits a second between two times, by the nearest counts."""
        first = min(self.seen, key=lambda one: abs(one[0] - start))
        last = min(self.seen, key=lambda one: abs(one[0] - end))
        return (last[1] - first[1]) / (last[0] - first[0]) if last[0] > first[0] else 0.0


def run(bench: Bench) -> None:
    """Measures the load alone, then beside the build, and checks the index."""
    settings = bench.settings
    bench.say(f"loading {settings.index_rows:,} rows")
    oltp.load(bench.engine, oltp.sysbench_file(bench.files, settings.index_rows), indexes=False)
    with _load(bench.engine.url, settings.index_rows) as counts, contextlib.closing(bench.engine.connect()) as con:
        begun = time.time()
        bench.say("the load alone")
        time.sleep(settings.seconds * settings.rounds)
        started = time.time()
        bench.say("ADD INDEX under load")
        con.cursor().execute(ADD_INDEX)
        ended = time.time()
    alone, beside = counts.rate(begun, started), counts.rate(started, ended)
    with contextlib.closing(bench.engine.connect()) as con:
        try:
            con.cursor().execute("ADMIN CHECK TABLE sbtest1")
        except bench.engine.errors as error:
            bench.outcome.faults.append(f"WRONG INDEX {error}")
    rows_per_s = settings.index_rows / (ended - started)
    bench.measurement("add_index, rows", bench.engine.name, "per_s", CLIENTS).values.append(rows_per_s)
    bench.measurement("update_key, alone", bench.engine.name, "per_s", CLIENTS).values.append(alone)
    bench.measurement("update_key, beside add_index", bench.engine.name, "per_s", CLIENTS).values.append(beside)
    bench.outcome.verdict(
        f"ADD INDEX on {settings.index_rows:,} rows under load, rows/s",
        f"≥ {ROWS_PER_S_WANTED:,.0f}",
        number(rows_per_s),
        rows_per_s >= ROWS_PER_S_WANTED,
    )
    kept = beside / alone if alone else 0.0
    bench.outcome.verdict(
        f"what {CLIENTS} clients' updates keep of their rate meanwhile",
        f"≥ {KEPT_WANTED:g}",
        f"{kept:.2f} ({number(alone)}/s, {number(beside)}/s)",
        kept >= KEPT_WANTED,
    )


@contextlib.contextmanager
def _load(url: str, rows: int) -> Iterator[Counts]:
    """Updates from a process of its own, another SQL server of the cluster."""
    command: Sequence[str] = (sys.executable, "-m", "benchmarks.cluster_sql.foreground", url, str(rows), str(CLIENTS))
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    counts = Counts()
    reading = threading.Thread(target=counts.follow, args=(iter(process.stdout),), daemon=True)
    reading.start()
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not (counts.seen and counts.seen[-1][1]):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the load did not begin")
            time.sleep(POLL_S)
        yield counts
    finally:
        process.stdin.close()
        process.wait()
        reading.join()
        process.stdout.close()
