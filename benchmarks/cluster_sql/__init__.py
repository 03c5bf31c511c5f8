"""SQL on a cluster of three stores and a placement driver; this process is the SQL server. All on this machine.

Each row is one thing wanted, with the figure it is measured against:

- `point_select`: one row by primary key, beside the transactional get of the client below
- `oltp_read_write`: sysbench's transaction, 16 clients, beside PostgreSQL with one synchronous standby
- `tpch`: TPC-H over the stores' rows with push-down, beside the embedded columnar replica; over columnar replicas once
  there are any; and what Q6 moves over the wire
- `add_index`: the rate of an index build under load, and what the load keeps of its rate meanwhile
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.cluster_sql import add_index, points, tpch, transactions
from benchmarks.cluster_sql.bench import Bench, ClusterSqlSettings, Outcome
from benchmarks.cluster_sql.engine import SqlfrontCluster
from benchmarks.engines.postgresql_pair import PostgreSQLPair
from shell.playground.local import background_cluster

STORES = 3
COLUMNAR = {"tpch": 1}
"""Stores of columnar replicas beside them."""
PARTS: Mapping[str, Callable[[Bench], None]] = {
    "points": points.run,
    "transactions": transactions.run,
    "tpch": tpch.run,
    "index": add_index.run,
}


def run(settings: ClusterSqlSettings, files: Path, directory: Path, say: Callable[[str], None]) -> Outcome:
    """Runs the parts of the settings, each on a cluster of its own, so that none finds what another left behind."""
    outcome = Outcome()
    parts = settings.parts or tuple(PARTS)
    with contextlib.ExitStack() as stack:
        # before there is a client of the cluster here: a server of another user is forked, which gRPC's threads forbid
        pair = _start_pair(directory, stack, outcome) if "transactions" in parts else None
        for part in parts:
            say(f"{part}: a cluster of {STORES} stores starts")
            place = directory / part
            place.mkdir()
            with background_cluster(STORES, columnar=COLUMNAR.get(part, 0)) as cluster:
                engine = SqlfrontCluster(cluster.url())
                with contextlib.closing(engine):
                    engine.start(place)
                    PARTS[part](Bench(settings, engine, pair, cluster.addresses, files, place, say, outcome))
    return outcome


def _start_pair(directory: Path, stack: contextlib.ExitStack, outcome: Outcome) -> PostgreSQLPair | None:
    pair = PostgreSQLPair()
    reason = pair.missing()
    if reason is not None:
        outcome.remarks.append(f"Left out: {pair.name}, {reason}")
        return None
    stack.callback(pair.stop)
    pair.start(directory / pair.name)
    return pair
