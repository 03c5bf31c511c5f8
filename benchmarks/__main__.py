"""`python -m benchmarks SUITE`: starts the engines, runs one suite, prints the report, stops the engines."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import chart, cluster, cluster_sql, htap, load, olap, oltp, paths, replica
from benchmarks.cluster_sql.bench import ClusterSqlSettings
from benchmarks.engines import ENGINE_NAMES, OURS, make_engine
from benchmarks.engines.api import Engine
from benchmarks.engines.sqlfront import Sqlfront
from benchmarks.machine import machine_shape
from benchmarks.measure import Measurement
from benchmarks.report import print_heading, print_results, print_table, write_json
from benchmarks.tpch.data import CACHE

TITLES = {
    "oltp": "Transactions: sysbench's table, {rows:,} rows",
    "paths": "Reads in the order of an index: {events:,} rows",
    "olap": "Analytics: TPC-H SF {scale:g}, 22 queries",
    "htap": "Transactions and analytics on the same rows: TPC-H SF {scale:g}, one writer, one analyst",
    "load": "Bulk load: lineitem SF {scale:g} from Parquet, with its primary key",
    "replica": "The columnar replica: lineitem SF {scale:g}",
    "cluster": "The distributed store: gRPC on loopback, all processes on this machine",
    "cluster-sql": "SQL on a cluster: three stores on loopback, all processes on this machine",
}
DEFAULT_SCALE = {"oltp": 1.0, "paths": 0.2, "olap": 0.1, "htap": 0.1, "load": 0.1, "replica": 0.1, "cluster-sql": 0.1}
SQLITE_SCALE_MAX = 0.1
QUICK_SCALE = {
    "oltp": 0.01,
    "paths": 0.002,
    "olap": 0.01,
    "htap": 0.01,
    "load": 0.01,
    "replica": 0.01,
    "cluster-sql": 0.01,
}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="sqlfront and its peers on the same work."
    )
    parser.add_argument("suite", choices=sorted(TITLES))
    parser.add_argument(
        "--scale", type=float, help="oltp: 1 is 100,000 rows; paths: a million; else TPC-H's scale factor"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one object a measurement")
    parser.add_argument("--engines", type=_names, metavar="A,B", help=f"only these of {','.join(ENGINE_NAMES)}")
    parser.add_argument(
        "--seconds",
        type=float,
        help="all with rounds: the length of one (default 1; htap 5, cluster 2, cluster-sql 3)",
    )
    parser.add_argument("--tps", type=float, default=1000.0, help="htap: the paced writer's rate (default 1000)")
    parser.add_argument("--chart", type=Path, metavar="FILE.svg", help="htap: draw the frontier of both rates")
    parser.add_argument("--threads", type=_numbers, default=(1, 8), metavar="1,8", help="oltp: numbers of threads")
    parser.add_argument(
        "--runs",
        type=int,
        help="rounds or runs of each work (default 5; htap, load, replica, cluster, cluster-sql 3)",
    )
    parser.add_argument("--limit", type=float, default=60.0, help="olap: the time limit of a query, in seconds")
    parser.add_argument("--queries", type=_numbers, metavar="1,6", help="olap, cluster-sql: only these queries")
    parser.add_argument(
        "--parts",
        type=_parts,
        default=(),
        metavar="A,B",
        help=f"cluster-sql: only these of {','.join(cluster_sql.PARTS)}",
    )
    parser.add_argument("--data", type=Path, default=CACHE, help="where generated input files are kept")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    args = parser.parse_args(arguments)
    if args.suite == "cluster" and (args.engines or args.scale):
        parser.error("cluster has no --engines and no --scale: it measures the distributed store beside plain gRPC")
    if args.suite == "cluster-sql" and args.engines:
        parser.error("cluster-sql has no --engines: each of its rows has its own peer")
    return args


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    for name in names:
        if name not in ENGINE_NAMES:
            raise argparse.ArgumentTypeError(f"unknown engine '{name}'; there are {', '.join(ENGINE_NAMES)}")
    return names


def _parts(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    for name in names:
        if name not in cluster_sql.PARTS:
            raise argparse.ArgumentTypeError(f"unknown part '{name}'; there are {', '.join(cluster_sql.PARTS)}")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one suite; the exit code is 1 when an answer was wrong or a query failed, 2 when nothing can run."""
    args = parse(sys.argv[1:] if arguments is None else arguments)
    if args.chart is not None and (reason := chart.missing()):
        print(reason, file=sys.stderr)
        return 2
    if args.suite == "cluster":
        return _run_cluster(args)
    scale = args.scale or (QUICK_SCALE if args.quick else DEFAULT_SCALE)[args.suite]
    if args.suite == "cluster-sql":
        return _run_cluster_sql(args, scale)
    wanted, absent = _choose(args.suite, args.engines, scale)
    if not wanted:
        print("No engine can run:", file=sys.stderr)
        for name, reason in absent.items():
            print(f"{name}, {reason}.", file=sys.stderr)
        return 2
    with _stop_on_termination(), _started(wanted) as (engines, directory):
        sizes = {"rows": oltp.OltpSettings(scale).rows, "events": paths.PathsSettings(scale).rows}
        title = TITLES[args.suite].format(scale=scale, **sizes)
        versions = {engine.name: engine.version() for engine in engines}
        print_heading(title, machine_shape(directory), versions, absent)
        results, faults = _run(args, scale, engines)
    if args.json is not None:
        write_json(args.json, results)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def _choose(suite: str, names: tuple[str, ...] | None, scale: float) -> tuple[list[Engine], dict[str, str]]:
    """Returns the engines that run in this suite and the reasons of those that don't."""
    chosen, absent = [], {}
    for name in names or ((OURS,) if suite == "replica" else ENGINE_NAMES):
        engine = make_engine(name)
        reason = _unfit(suite, name, scale, asked_for=names is not None) or engine.missing()
        if reason is None:
            chosen.append(engine)
        else:
            absent[name] = reason
    return chosen, absent


def _unfit(suite: str, name: str, scale: float, *, asked_for: bool) -> str | None:
    """Returns why the suite leaves an engine out, or None; reading alone, SQLite's two are one."""
    if suite == "replica" and name != OURS:
        return f"the replica is {OURS}'s"
    if name == "duckdb-arrow" and suite != "olap":
        return "its tables are for reading only"
    if suite == "olap" and name.startswith("sqlite3") and scale > SQLITE_SCALE_MAX:
        return f"it is measured up to scale {SQLITE_SCALE_MAX:g} only"
    if suite in ("olap", "paths") and name == "sqlite3-normal" and not asked_for:
        return "queries don't sync: it would repeat sqlite3-full"
    if suite == "htap" and name == "sqlite3-normal" and not asked_for:
        return "its commits aren't durable after a loss of power"
    return None


@contextlib.contextmanager
def _started(engines: Sequence[Engine]) -> Iterator[tuple[Sequence[Engine], Path]]:
    """Starts every engine in a temporary directory; stops them all and removes it, however the run ends."""
    directory = Path(tempfile.mkdtemp(prefix="sqlfront-bench-"))
    directory.chmod(0o755)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        for engine in engines:
            place = directory / engine.name
            place.mkdir()
            stack.callback(engine.stop)
            engine.start(place)
        yield engines, directory


@contextlib.contextmanager
def _stop_on_termination() -> Iterator[None]:
    """Turns SIGTERM into SystemExit, so that the servers are stopped then too."""

    def leave(signum: int, frame: object) -> None:
        raise SystemExit(128 + signum)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(args: argparse.Namespace, scale: float, engines: Sequence[Engine]) -> tuple[list[Measurement], list[str]]:
    if args.suite == "oltp":
        return _run_oltp(args, scale, engines), []
    if args.suite == "paths":
        return _run_paths(args, scale, engines)
    if args.suite == "load":
        return _run_load(args, scale, engines), []
    if args.suite == "htap":
        return _run_htap(args, scale, engines)
    if args.suite == "replica":
        return _run_replica(args, scale, engines)
    return _run_olap(args, scale, engines)


def _run_oltp(args: argparse.Namespace, scale: float, engines: Sequence[Engine]) -> list[Measurement]:
    if args.quick:
        settings = oltp.OltpSettings(scale, threads=(1, 2), rounds=args.runs or 2, seconds=0.05)
    else:
        settings = oltp.OltpSettings(scale, args.threads, args.runs or 5, args.seconds or 1.0)
    results = oltp.run(engines, args.data, settings, _progress())
    print(f"Medians of {settings.rounds} rounds of {settings.seconds:g} s, the engines taking turns.\n")
    print_results(results)
    return results


def _run_paths(
    args: argparse.Namespace, scale: float, engines: Sequence[Engine]
) -> tuple[list[Measurement], list[str]]:
    if args.quick:
        settings = paths.PathsSettings(scale, rounds=args.runs or 1, seconds=0.05)
    else:
        settings = paths.PathsSettings(scale, args.runs or 5, args.seconds or 1.0)
    results = paths.run(engines, args.data, settings, _progress())
    print(f"Medians of {settings.rounds} rounds of {settings.seconds:g} s, the engines taking turns.\n")
    print_results(results.measurements)
    return results.measurements, results.faults


def _run_olap(args: argparse.Namespace, scale: float, engines: Sequence[Engine]) -> tuple[list[Measurement], list[str]]:
    settings = olap.OlapSettings(
        scale,
        runs=args.runs or (1 if args.quick else 5),
        limit_seconds=args.limit,
        queries=args.queries or olap.OlapSettings().queries,
    )
    results = olap.run(engines, args.data, settings, _progress())
    print(f"Medians of {settings.runs} warm runs; a query may take {settings.limit_seconds:g} s on each engine.\n")
    print_results(results.measurements)
    _print_remarks(results.remarks)
    ratios = olap.ratio_table(results)
    if len(ratios) > 1:
        print("\nGeometric means and worst queries beside DuckDB's own tables:\n")
        print_table(ratios)
    first = olap.first_run_table(results)
    if len(first) > 1:
        print("\nsqlfront's first run of each query beside its median:\n")
        print_table(first)
    return results.measurements, results.faults


def _run_htap(args: argparse.Namespace, scale: float, engines: Sequence[Engine]) -> tuple[list[Measurement], list[str]]:
    if args.quick:
        settings = htap.HtapSettings(scale, rounds=args.runs or 1, seconds=0.2, tps=50.0)
    else:
        settings = htap.HtapSettings(scale, args.runs or 3, args.seconds or 5.0, args.tps)
    results = htap.run(engines, args.data, settings, _progress())
    print(
        f"Medians of {settings.rounds} rounds of {settings.seconds:g} s, the engines taking turns; paced is "
        f"{settings.tps:g} transactions/s.\nWriter and analyst are two threads of one Python process: engines in it "
        "share its GIL, a server works in processes of its own.\n"
    )
    print_table(htap.table(results))
    _print_remarks(results.remarks)
    if args.chart is not None:
        chart.draw(results.measurements, args.chart)
    return results.measurements, results.faults


def _run_replica(
    args: argparse.Namespace, scale: float, engines: Sequence[Engine]
) -> tuple[list[Measurement], list[str]]:
    settings = replica.ReplicaSettings(
        scale, runs=args.runs or (1 if args.quick else 3), settle_seconds=0.5 if args.quick else 30.0
    )
    (engine,) = engines
    assert isinstance(engine, Sqlfront)
    results = replica.run(engine, args.data, settings, _progress())
    print(f"Medians of {settings.runs} runs.\n")
    print_results(results.measurements)
    _print_remarks(results.remarks)
    return results.measurements, results.faults


def _run_cluster(args: argparse.Namespace) -> int:
    if args.quick:
        settings = cluster.ClusterSettings(0.2, 1, (1, 20), 20, 2.0, 1)
    else:
        settings = cluster.ClusterSettings(args.seconds or 2.0, args.runs or 3)
    with _stop_on_termination():
        print_heading(TITLES["cluster"], machine_shape(Path(tempfile.gettempdir())), {}, {})
        results = cluster.run(settings, _progress())
    print(f"Medians of {settings.rounds} rounds of {settings.seconds:g} s; threads are calls in flight.\n")
    print_results(results)
    print()
    print_table(cluster.verdicts(results))
    if args.json is not None:
        write_json(args.json, results)
    return 0


def _run_cluster_sql(args: argparse.Namespace, scale: float) -> int:
    queries = args.queries or ClusterSqlSettings().queries
    if args.quick:
        settings = ClusterSqlSettings(0.3, args.runs or 1, 1000, 5000, 4, scale, queries, args.parts)
    else:
        settings = ClusterSqlSettings(
            args.seconds or 3.0, args.runs or 3, scale=scale, queries=queries, parts=args.parts
        )
    with _stop_on_termination(), _started(()) as (_, directory):
        print_heading(TITLES["cluster-sql"], machine_shape(directory), {}, {})
        outcome = cluster_sql.run(settings, args.data, directory, _progress())
    print(f"Medians of {settings.rounds} rounds of {settings.seconds:g} s, taking turns; threads are clients.\n")
    print_results(outcome.measurements)
    print()
    print_table(outcome.table())
    _print_remarks(outcome.remarks)
    if args.json is not None:
        write_json(args.json, outcome.measurements)
    for fault in outcome.faults:
        print(fault, file=sys.stderr)
    return 1 if outcome.faults else 0


def _print_remarks(remarks: Sequence[str]) -> None:
    for remark in remarks:
        print(f"\n{remark}.")


def _run_load(args: argparse.Namespace, scale: float, engines: Sequence[Engine]) -> list[Measurement]:
    settings = load.LoadSettings(scale, runs=args.runs or (1 if args.quick else 3), grow=not args.quick)
    results = load.run(engines, args.data, settings, _progress())
    print(f"Medians of {settings.runs} loads, the engines taking turns.\n")
    print_results([m for m in results if m.scale == scale])
    print()
    print_table(load.memory_table(results))
    return results


def _progress() -> Callable[[str], None]:
    """Returns how to say what runs: on a terminal's standard error only, so that output stays a clean report."""
    if not sys.stderr.isatty():
        return lambda text: None

    def say(text: str) -> None:
        print(f"\r\x1b[K  {text} …", end="", file=sys.stderr, flush=True)

    return say


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
