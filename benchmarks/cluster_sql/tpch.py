"""TPC-H on the cluster beside the embedded columnar replica, and what its sixth query moves over the wire."""

from __future__ import annotations

import contextlib
import re
import statistics

from benchmarks import olap
from benchmarks.cluster_sql.bench import Bench
from benchmarks.cluster_sql.engine import SqlfrontCluster
from benchmarks.engines.api import Connection
from benchmarks.engines.sqlfront import Sqlfront
from benchmarks.measure import Measurement
from benchmarks.report import number
from benchmarks.tpch.answers import reference_answers
from benchmarks.tpch.data import query, tpch_files
from benchmarks.tpch.schema import TABLES

ROWS_WANTED, COLUMNS_WANTED = 6.0, 3.0
MOVED_PERCENT_WANTED = 1.0
REPLICAS_LIMIT_S = 300.0
LIMIT_S = 60.0
_BYTES = re.compile(r"bytes: ([\d.]+) (Bytes|KB|MB|GB)")
_UNITS = {"Bytes": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


def run(bench: Bench) -> None:
    """Loads both by their bulk path and measures all queries, checking every answer."""
    settings = bench.settings
    data = tpch_files(settings.scale, cache=bench.files)
    expected = reference_answers(data, settings.queries)
    results = olap.OlapResults()
    wanted = olap.OlapSettings(settings.scale, settings.rounds, LIMIT_S, queries=settings.queries)
    embedded = Sqlfront()
    with contextlib.ExitStack() as stack:
        stack.callback(embedded.stop)
        place = bench.directory / "embedded"
        place.mkdir()
        embedded.start(place)
        connections = {}
        for engine in (embedded, bench.engine):
            bench.say(f"{engine.name}: loading TPC-H SF {settings.scale:g}")
            connections[engine.name] = stack.enter_context(contextlib.closing(engine.connect()))
            olap.load(engine, connections[engine.name], data)
            if remark := engine.settle(connections[engine.name]):
                results.remarks.append(f"{engine.name}: {remark}")
        cluster = connections[bench.engine.name]
        _moved(bench, cluster)
        olap.measure((embedded, bench.engine), connections, expected, wanted, bench.say, results)
        columnar = SqlfrontCluster(bench.engine.url, "sqlfront-cluster-columnar")
        has_replicas = bench.engine.has_replicas(cluster, [table.name for table in TABLES], REPLICAS_LIMIT_S)
        if has_replicas:
            olap.measure((columnar,), {columnar.name: cluster}, expected, wanted, bench.say, results)
    means = {m.engine: m for m in results.measurements if m.work == olap.GEOMEAN}
    title = f"TPC-H SF {settings.scale:g}, geometric mean"
    _compare(bench, f"{title} of rows with push-down", means, bench.engine.name, embedded.name, ROWS_WANTED)
    _first_runs(bench, results, means, bench.engine.name, embedded.name)
    if has_replicas:
        _compare(bench, f"{title} of columnar replicas", means, columnar.name, embedded.name, COLUMNS_WANTED)
    else:
        bench.outcome.verdict(f"{title} of columnar replicas", f"≤ {COLUMNS_WANTED:g}", "no columnar replicas", None)
    bench.outcome.measurements += results.measurements
    bench.outcome.faults += results.faults
    bench.outcome.remarks += results.remarks


def _compare(bench: Bench, what: str, means: dict[str, Measurement], ours: str, base: str, wanted: float) -> None:
    if ours not in means or base not in means:
        return  # a fault says why there is no mean
    mine, other = means[ours].value, means[base].value
    bench.outcome.verdict(
        f"{what} ÷ embedded columnar",
        f"≤ {wanted:g}",
        f"{mine / other:.2f} ({number(mine)} ms, {number(other)} ms)",
        mine / other <= wanted,
    )


def _first_runs(bench: Bench, results: olap.OlapResults, means: dict[str, Measurement], ours: str, base: str) -> None:
    """The same with each query's first run, when the client keeps no answer of the stores yet."""
    first = [float(m.notes["first_ms"]) for m in results.measurements if m.engine == ours and "first_ms" in m.notes]
    if not first or base not in means:
        return
    mean = statistics.geometric_mean(first)
    bench.outcome.verdict(
        "the same, first runs of the cluster", "–", f"{mean / means[base].value:.2f} ({number(mean)} ms)", None
    )


def _moved(bench: Bench, con: Connection) -> None:
    """Compares the bytes that Q6 moves with those of its whole table. Before anything is in the client's cache."""
    bench.say("Q6: bytes over the wire")
    moved, table = _wire_bytes(con, query(6)), _wire_bytes(con, "SELECT * FROM lineitem")
    percent = 100 * moved / table
    bench.outcome.verdict(
        "bytes that Q6 moves, % of the table's",
        f"< {MOVED_PERCENT_WANTED:g}",
        f"{percent:.4f} ({moved:,.0f} of {table:,.0f})",
        percent < MOVED_PERCENT_WANTED,
    )


def _wire_bytes(con: Connection, sql: str) -> float:
    """The bytes of all answers of the stores to a statement, as EXPLAIN ANALYZE counts them."""
    cursor = con.cursor()
    cursor.execute(f"EXPLAIN ANALYZE {sql}")
    found = _BYTES.findall(" ".join(str(row[-1]) for row in cursor.fetchall()))
    if not found:
        raise RuntimeError(f"EXPLAIN ANALYZE shows no bytes of a coprocessor task: {sql}")
    return sum(float(size) * _UNITS[unit] for size, unit in found)
