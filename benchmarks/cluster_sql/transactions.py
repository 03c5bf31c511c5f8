"""sysbench's oltp_read_write from many clients, beside PostgreSQL with one synchronous standby."""

from __future__ import annotations

import contextlib
import itertools

from benchmarks import measure, oltp
from benchmarks.cluster_sql.bench import Bench
from benchmarks.engines.api import Engine
from benchmarks.oltp import FIRST_NEW_ID
from benchmarks.report import number

WORK = "oltp_read_write"
PER_S_WANTED = 100.0
OF_POSTGRESQL_WANTED = 0.5


def run(bench: Bench) -> None:
    """Loads both, then measures them taking turns."""
    settings = bench.settings
    with contextlib.ExitStack() as stack:
        pair = bench.postgresql
        engines: list[Engine] = [bench.engine, *([pair] if pair is not None else [])]
        found = {}
        operations = {}
        for engine in engines:
            bench.say(f"{engine.name}: loading {settings.rows:,} rows")
            oltp.load(engine, oltp.sysbench_file(bench.files, settings.rows))
            ids = itertools.count(FIRST_NEW_ID)
            operations[engine.name] = [
                oltp.oltp_read_write(oltp.client(engine, stack, thread, settings.rows, ids))
                for thread in range(settings.clients)
            ]
            measure.rate(operations[engine.name], min(0.5, settings.seconds))
            found[engine.name] = bench.measurement(WORK, engine.name, "per_s", settings.clients)
        for _ in range(settings.rounds):
            for name, measurement in found.items():
                bench.say(f"{WORK}, {settings.clients} clients, {name}")
                measurement.values.append(measure.rate(operations[name], settings.seconds))
    ours = found[bench.engine.name].value
    what = f"{WORK}, {settings.clients} clients"
    bench.outcome.verdict(f"{what}, /s", f"≥ {PER_S_WANTED:g}", number(ours), ours >= PER_S_WANTED)
    if pair is not None:
        theirs = found[pair.name].value
        bench.outcome.verdict(
            f"{what} ÷ PostgreSQL with a synchronous standby",
            f"≥ {OF_POSTGRESQL_WANTED:g}",
            f"{ours / theirs:.2f} ({number(theirs)}/s)",
            ours / theirs >= OF_POSTGRESQL_WANTED,
        )
