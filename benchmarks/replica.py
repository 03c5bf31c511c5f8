"""What sqlfront's columnar replica costs: lineitem's load and rebuild with it, its size, and queries after changes.

- `replica_load`: lineitem from Parquet into rows and replica together, until both can answer
- `replica_rebuild`: the replica dropped and made again from the rows
- `replica_disk`, `rows_disk`: what lies on disk after the load
- `replica_wait_1`, `replica_wait_10000`: the first sum over lineitem after a transaction that changed so many rows,
  less the median of undisturbed ones: what the query waits for the replica to follow
- `replica_q01_loaded`, `replica_q01_updated`, `replica_q01_settled` and Q6's: freshly loaded, right after a tenth of
  the rows were updated at random, and some seconds later, when the background has done what it does when nobody
  writes; medians of 15 queries at least

Without a replica (the first remark says so) the rebuild and the sizes are left out, and the rest is the row store's.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.engines.api import Connection, Cursor
from benchmarks.engines.sqlfront import Sqlfront
from benchmarks.load import row_count
from benchmarks.measure import Measurement
from benchmarks.tpch.data import query, tpch_files
from benchmarks.tpch.schema import LINEITEM

QUERIES = (1, 6)
CHANGED_ROWS = (1, 10_000)
UPDATED_SHARE = 0.1
TRANSACTION_ROWS = 10_000
UNDISTURBED_QUERIES = 5
QUERY_RUNS_MIN = 15
"""A query takes some 50 ms, and a fifth more or less from one to the next on a busy host."""
AWAKE_S = 2.0
"""A virtual processor that had nothing to do for half a minute is slower for so long."""
MIB = 2**20
SEED = 20130101

SUM = "SELECT sum(l_quantity) FROM lineitem"
UPDATE = "UPDATE lineitem SET l_quantity = l_quantity + 1 WHERE l_orderkey = ? AND l_linenumber = ?"

Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """How large, and how often each is measured."""

    scale: float = 0.1
    settle_seconds: float = 30.0
    runs: int = 3


@dataclass(slots=True)
class ReplicaResults:
    """The measurements, what wasn't there, and answers that lack a committed change, which must be loud."""

    measurements: list[Measurement] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def run(engine: Sqlfront, files: Path, settings: ReplicaSettings, say: Callable[[str], None]) -> ReplicaResults:
    """Measures everything on one started engine, in the order in which nothing spoils what comes after."""
    path = tpch_files(settings.scale, (LINEITEM,), files)["lineitem"]
    results = ReplicaResults()
    with contextlib.closing(engine.connect()) as con:
        bench = ReplicaBench(engine, con, path, settings, results)
        say("load")
        bench.load()
        if not results.remarks:
            bench.sizes()
        say("queries on what was loaded")
        bench.queries("loaded")
        for rows in CHANGED_ROWS:
            say(f"the first query after {rows:,} changed rows")
            bench.waits(rows)
        if not results.remarks:
            say("rebuild")
            bench.rebuild()
        say("queries after a tenth of the rows was updated")
        bench.update(bench.draw(round(bench.rows * UPDATED_SHARE)))
        bench.queries("updated")
        say(f"the same {settings.settle_seconds:g} s later")
        time.sleep(settings.settle_seconds)
        bench.awake()
        bench.queries("settled")
    return results


class ReplicaBench:
    """One connection to sqlfront and its lineitem."""

    def __init__(
        self, engine: Sqlfront, con: Connection, path: Path, settings: ReplicaSettings, results: ReplicaResults
    ) -> None:
        self.rows = row_count(path)
        self._engine = engine
        self._con = con
        self._cursor: Cursor = con.cursor()
        self._path = path
        self._settings = settings
        self._results = results
        self._rng = random.Random(SEED)
        self._keys = _keys(path)

    def _measurement(self, work: str, unit: str) -> Measurement:
        measurement = Measurement(work, self._engine.name, 1, self._settings.scale, unit)
        self._results.measurements.append(measurement)
        return measurement

    def _replicate(self) -> str | None:
        return self._engine.set_replicas(self._con, [LINEITEM.name])

    def load(self) -> None:
        """Loads the file into an empty table that has its replica, `runs` times; the last load stays."""
        measurement = self._measurement("replica_load", "per_s")
        for _ in range(self._settings.runs):
            self._cursor.execute("DROP TABLE IF EXISTS lineitem")
            self._engine.create_table(self._con, LINEITEM)
            self._replicate()
            start = time.perf_counter()
            self._engine.append(self._con, LINEITEM, self._path)
            remark = self._replicate()
            measurement.values.append(self.rows / (time.perf_counter() - start))
        if remark:
            self._results.remarks.append(f"{self._engine.name}: {remark}")
        measurement.notes["first_query_ms"] = round(self._timed(SUM)[0], 3)

    def sizes(self) -> None:
        """Measures what replica and rows take on disk, the log with its files that are allocated beforehand."""
        replica = self._measurement("replica_disk", "MiB")
        replica.values.append(disk_bytes(self._engine.path / "columnar") / MIB)
        rows = self._measurement("rows_disk", "MiB")
        rows.values.append(sum(disk_bytes(self._engine.path / name) for name in ("kv", "log")) / MIB)
        rows.notes["log_mib"] = round(disk_bytes(self._engine.path / "log") / MIB, 3)

    def queries(self, state: str) -> None:
        """Measures Q1 and Q6, each after a first run that isn't counted but noted."""
        for number in QUERIES:
            measurement = self._measurement(f"replica_q{number:02d}_{state}", "ms")
            measurement.notes["first_ms"] = round(self._timed(query(number))[0], 3)
            runs = max(self._settings.runs, QUERY_RUNS_MIN)
            measurement.values += [self._timed(query(number))[0] for _ in range(runs)]

    def awake(self) -> None:
        """Asks something for a while, so that what is measured next does not pay for the rest before."""
        until = time.perf_counter() + AWAKE_S
        while time.perf_counter() < until:
            self._timed(SUM)

    def waits(self, changed: int) -> None:
        """Measures what the first query after a transaction waits, and checks that its answer has the change."""
        measurement = self._measurement(f"replica_wait_{changed}", "ms")
        for _ in range(self._settings.runs):
            undisturbed = [self._timed(SUM) for _ in range(UNDISTURBED_QUERIES)]
            median = statistics.median(milliseconds for milliseconds, _ in undisturbed)
            before = undisturbed[-1][1][0][0]
            self.update(keys := self.draw(changed))
            milliseconds, rows = self._timed(SUM)
            measurement.values.append(milliseconds - median)
            measurement.notes["undisturbed_ms"] = round(median, 3)
            if rows[0][0] != before + len(keys):
                self._results.faults.append(
                    f"STALE ANSWER {self._engine.name}: the sum is {rows[0][0]} after {before} and {len(keys)} changes"
                )

    def rebuild(self) -> None:
        """Drops the replica and measures how long it takes until a new one can answer."""
        measurement = self._measurement("replica_rebuild", "per_s")
        for _ in range(self._settings.runs):
            self._cursor.execute("ALTER TABLE lineitem SET TIFLASH REPLICA 0")
            start = time.perf_counter()
            if remark := self._replicate():
                raise RuntimeError(remark)
            measurement.values.append(self.rows / (time.perf_counter() - start))

    def draw(self, rows: int) -> list[Key]:
        """Returns so many different keys at random, or all when there are fewer."""
        drawn = self._keys.take(self._rng.sample(range(self.rows), min(rows, self.rows))).to_pydict()
        return list(zip(*drawn.values(), strict=True))

    def update(self, keys: Sequence[Key]) -> None:
        """Adds one to l_quantity of each row, in transactions of `TRANSACTION_ROWS`."""
        execute = self._cursor.execute
        for start in range(0, len(keys), TRANSACTION_ROWS):
            execute(self._engine.begin)
            for key in keys[start : start + TRANSACTION_ROWS]:
                execute(UPDATE, key)
            execute("COMMIT")

    def _timed(self, sql: str) -> tuple[float, list[Any]]:
        start = time.perf_counter()
        self._cursor.execute(sql)
        rows = self._cursor.fetchall()
        return (time.perf_counter() - start) * 1000, rows


def _keys(path: Path) -> Any:
    """Returns the file's primary keys as an Arrow table: as Python's tuples they would fill the memory."""
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=list(LINEITEM.primary_key))


def disk_bytes(directory: Path) -> int:
    """Returns what the files below a directory take on disk: more than they hold when they are allocated beforehand."""
    size = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a compaction may remove files meanwhile
            size += path.stat().st_blocks * 512 if path.is_file() else 0
    return size
