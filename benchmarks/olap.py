"""Analytics: TPC-H's 22 queries on warm data, with every answer checked against DuckDB's on the same files.

Each query runs once (its first run, printed for sqlfront: planning and cold caches), then `runs` times; runs interleave
the engines. A query that takes longer than the limit is stopped and counts as the limit, which favours that engine.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.engines import OURS
from benchmarks.engines.api import Connection, Engine
from benchmarks.measure import Measurement
from benchmarks.tpch.answers import WrongAnswer, check_answer, reference_answers
from benchmarks.tpch.data import QUERY_NUMBERS, query, tpch_files
from benchmarks.tpch.schema import TABLES

GEOMEAN = "tpch_geomean"
BASE = "duckdb"
"""The engine whose time the others' are divided by."""


@dataclass(frozen=True, slots=True)
class OlapSettings:
    """How large and how often. A query on one engine stops repeating after `repeat_seconds`."""

    scale: float = 0.1
    runs: int = 5
    limit_seconds: float = 60.0
    repeat_seconds: float = 20.0
    queries: tuple[int, ...] = QUERY_NUMBERS


@dataclass(slots=True)
class OlapResults:
    """The measurements, and what went wrong: wrong answers and failures by engine, which must be loud.

    `remarks` says of an engine what wasn't there while it was measured.
    """

    measurements: list[Measurement] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class LimitReached(Exception):
    """The query was stopped at the time limit."""


def run(engines: Sequence[Engine], files: Path, settings: OlapSettings, say: Callable[[str], None]) -> OlapResults:
    """Loads the eight tables into each started engine, then measures and checks every query."""
    data = tpch_files(settings.scale, cache=files)
    expected = reference_answers(data, settings.queries)
    results = OlapResults()
    with contextlib.ExitStack() as stack:
        connections = {}
        for engine in engines:
            say(f"{engine.name}: loading TPC-H SF {settings.scale:g}")
            connections[engine.name] = stack.enter_context(contextlib.closing(engine.connect()))
            load(engine, connections[engine.name], data)
            if remark := engine.settle(connections[engine.name]):
                results.remarks.append(f"{engine.name}: {remark}")
        measure(engines, connections, expected, settings, say, results)
    note_ratios(results)
    return results


def measure(
    engines: Sequence[Engine],
    connections: dict[str, Connection],
    expected: dict[int, list[Sequence[object]]],
    settings: OlapSettings,
    say: Callable[[str], None],
    results: OlapResults,
) -> None:
    """Measures and checks every query on loaded engines, and adds their geometric means."""
    for number in settings.queries:
        say(f"Q{number}")
        for engine in engines:
            _first_run(engine, connections[engine.name], number, expected[number], settings, results)
        _warm_runs(engines, connections, number, settings, results)
    results.measurements += _geometric_means(engines, results, settings)


def load(engine: Engine, con: Connection, data: dict[str, Path]) -> None:
    """Makes and fills the eight tables with their keys, the foreign keys' indexes and statistics."""
    for table in TABLES:
        engine.prepare(data[table.name])
        engine.create_table(con, table)
        engine.append(con, table, data[table.name])
        if engine.row_store:
            engine.create_indexes(con, table)
    engine.analyze(con)


def _first_run(
    engine: Engine,
    con: Connection,
    number: int,
    expected: list[Sequence[object]],
    settings: OlapSettings,
    out: OlapResults,
) -> None:
    """Runs the query once and checks its answer; a failing or wrong query is a fault and isn't measured further."""
    measurement = Measurement(f"tpch_q{number:02d}", engine.name, 1, settings.scale, "ms")
    try:
        milliseconds, rows = timed(engine, con, engine.adapt(query(number)), settings.limit_seconds)
        check_answer(number, engine.name, rows, expected)
    except LimitReached:
        measurement.values.append(settings.limit_seconds * 1000)
        measurement.notes["limit_reached"] = settings.limit_seconds
    except WrongAnswer as wrong:
        out.faults.append(f"WRONG ANSWER {wrong}")
        return
    except engine.errors as error:
        out.faults.append(f"FAILED Q{number}: {engine.name}: {error}")
        return
    else:
        measurement.notes["first_ms"] = round(milliseconds, 3)
    out.measurements.append(measurement)


def _warm_runs(
    engines: Sequence[Engine], connections: dict[str, Connection], number: int, settings: OlapSettings, out: OlapResults
) -> None:
    """Adds the warm runs of one query to the engines that answered it."""
    work = f"tpch_q{number:02d}"
    by_engine = {m.engine: m for m in out.measurements if m.work == work and "limit_reached" not in m.notes}
    for _ in range(settings.runs):
        for engine in engines:
            measurement = by_engine.get(engine.name)
            if measurement is None or sum(measurement.values) > settings.repeat_seconds * 1000:
                continue
            try:
                milliseconds, _rows = timed(
                    engine, connections[engine.name], engine.adapt(query(number)), settings.limit_seconds
                )
            except LimitReached:
                milliseconds = settings.limit_seconds * 1000
            measurement.values.append(milliseconds)


def timed(engine: Engine, con: Connection, sql: str, limit_seconds: float) -> tuple[float, list[Sequence[object]]]:
    """Returns the milliseconds from execute to the last row fetched, and the rows; raises LimitReached."""
    cursor = con.cursor()
    with _time_limit(engine, con, limit_seconds):
        start = time.perf_counter()
        cursor.execute(sql)
        rows = cursor.fetchall()
        return (time.perf_counter() - start) * 1000, list(rows)


@contextlib.contextmanager
def _time_limit(engine: Engine, con: Connection, seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, engine.interrupt, (con,))
    timer.daemon = True
    timer.start()
    try:
        yield
    except engine.errors as error:
        if engine.interrupted(error):
            raise LimitReached from error
        raise
    finally:
        timer.cancel()


def _geometric_means(engines: Sequence[Engine], results: OlapResults, settings: OlapSettings) -> list[Measurement]:
    """Returns one geometric mean an engine, of those engines that answered every query."""
    means = []
    for engine in [one.name for one in engines if any(m.engine == one.name for m in results.measurements)]:
        found = [m for m in results.measurements if m.engine == engine]
        if len(found) < len(settings.queries):
            results.faults.append(
                f"{engine} has no geometric mean: it answered {len(found)} of {len(settings.queries)}"
            )
            continue
        mean = math.exp(sum(math.log(m.value) for m in found) / len(found))
        measurement = Measurement(GEOMEAN, engine, 1, settings.scale, "ms", [mean])
        if any("limit_reached" in m.notes for m in found):
            measurement.notes["limit_reached"] = settings.limit_seconds
        means.append(measurement)
    return means


def note_ratios(results: OlapResults) -> None:
    """Notes each geometric mean's ratio to DuckDB's time, and the query with the worst."""
    at = {(m.work, m.engine): m for m in results.measurements}
    for mean in results.measurements:
        base = at.get((GEOMEAN, BASE))
        if mean.work != GEOMEAN or base is None:
            continue
        ratios = {
            m.work: m.value / at[m.work, BASE].value
            for m in results.measurements
            if m.engine == mean.engine and m.work != GEOMEAN
        }
        worst = max(ratios, key=lambda work: ratios[work])
        mean.notes |= {
            "times_duckdb": round(mean.value / base.value, 4),
            "worst_times_duckdb": round(ratios[worst], 4),
            "worst_work": worst,
        }


def ratio_table(results: OlapResults) -> list[list[str]]:
    """Returns a table of each engine's geometric mean, its ratio to DuckDB's time and its worst query's."""
    rows = [["engine", "geometric mean, ms", "× duckdb's time", "worst query, × duckdb's time", "worst query"]]
    for m in results.measurements:
        if m.work == GEOMEAN and "times_duckdb" in m.notes:
            times, worst = float(m.notes["times_duckdb"]), float(m.notes["worst_times_duckdb"])
            rows.append([m.engine, f"{m.value:.1f}", f"{times:.2f}", f"{worst:.2f}", str(m.notes["worst_work"])])
    return rows


def first_run_table(results: OlapResults) -> list[list[str]]:
    """Returns a table of sqlfront's first run beside its median."""
    rows = [["work", "first run, ms", "median, ms"]]
    for m in results.measurements:
        if m.engine == OURS and "first_ms" in m.notes:
            rows.append([m.work, f"{float(m.notes['first_ms']):.1f}", f"{m.value:.1f}"])
    return rows
