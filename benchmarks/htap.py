"""Transactions and analytics on the same live rows: TPC-H's tables, one writer, one analyst.

- alone: the writer's transactions a second, then the analyst's answers a second
- both: the two together, each as fast as it can
- paced: the two together, the writer at a fixed rate, whose latency is then worth looking at

A transaction updates two rows of lineitem by primary key, inserts an order with its row of lineitem, writes its own
number into `progress`, and is durable when it is acknowledged. An answer is Q1 or Q6 in turn, and each reads in the
same statement the newest number it can see. So every answer tells how stale it is: it is fresh when it has every
transaction that was acknowledged before the query began. Q1's counts also tell whether lineitem and `progress` are of
one snapshot.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.engines.api import Connection, Cursor, Engine, in_paramstyle
from benchmarks.measure import Measurement, percentile
from benchmarks.olap import load
from benchmarks.report import number
from benchmarks.retry import until_committed
from benchmarks.schema import Column, Table
from benchmarks.tpch.data import query, tpch_files

PROGRESS = Table("progress", (Column("id", "int"), Column("n", "bigint")), ("id",))
QUERIES = (1, 6)
DRAWS = 50_021
"""Random rows drawn before the clock starts; they repeat after that."""
FIRST_NEW_ORDER = 1_000_000_000
SEED = 20130101
WARM_UP_TRANSACTIONS = 20

UPDATE = "UPDATE lineitem SET l_quantity = ?, l_extendedprice = ? WHERE l_orderkey = ? AND l_linenumber = ?"
INSERT_ORDER = (
    "INSERT INTO orders (o_orderkey, o_custkey, o_orderstatus, o_totalprice, o_orderdate, o_orderpriority, o_clerk,"
    " o_shippriority, o_comment) VALUES (?, 1, 'O', ?, '1995-06-17', '5-LOW', 'Clerk#000000001', 0, 'new')"
)
INSERT_LINEITEM = (
    "INSERT INTO lineitem (l_orderkey, l_partkey, l_suppkey, l_linenumber, l_quantity, l_extendedprice, l_discount,"
    " l_tax, l_returnflag, l_linestatus, l_shipdate, l_commitdate, l_receiptdate, l_shipinstruct, l_shipmode,"
    " l_comment)"
    " VALUES (?, 1, 1, 1, ?, ?, 0, 0, 'N', 'O', '1995-06-18', '1995-07-18', '1995-06-28', 'NONE', 'RAIL', 'new')"
)
"""Its ship date is one that Q1 counts."""
SET_PROGRESS = "UPDATE progress SET n = ? WHERE id = 1"
SEEN = "(SELECT max(n) FROM progress) AS seen"
COUNT_ORDER = -2
"""Q1's count of rows stands last but one, before what was seen."""


@dataclass(frozen=True, slots=True)
class HtapSettings:
    """How large and how long: each of the four works runs `rounds` times for `seconds`; `tps` paces the writer."""

    scale: float = 0.1
    rounds: int = 3
    seconds: float = 5.0
    tps: float = 1000.0


@dataclass(slots=True)
class HtapResults:
    """The measurements, what wasn't there, and stale or torn answers, which must be loud."""

    measurements: list[Measurement] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Writer:
    """The one thread that writes. `acknowledged[n - 1]` is when transaction n was acknowledged."""

    def __init__(self, engine: Engine, cursor: Cursor, keys: Sequence[tuple[int, int]]) -> None:
        rng = random.Random(SEED)
        self.acknowledged: list[float] = []
        self.latencies: list[float] = []
        self.lateness: list[float] = []
        """Seconds from when a paced transaction was due until it was acknowledged."""
        self.conflicts = 0
        self._rows = itertools.cycle(
            [(rng.randint(1, 50), rng.randint(1_000, 100_000), *rng.choice(keys)) for _ in range(DRAWS)]
        )
        self.cursor = cursor
        self._begin = engine.begin
        texts = (UPDATE, INSERT_ORDER, INSERT_LINEITEM, SET_PROGRESS)
        self._statements = [in_paramstyle(text, engine.paramstyle) for text in texts]
        self._commit = until_committed(engine, cursor, self._transaction, self._met_conflict)

    def _met_conflict(self) -> None:
        self.conflicts += 1

    def _transaction(self) -> None:
        execute = self.cursor.execute
        update, insert_order, insert_lineitem, set_progress = self._statements
        number = len(self.acknowledged) + 1
        first, second = next(self._rows), next(self._rows)
        execute(self._begin)
        execute(update, first)
        execute(update, second)
        execute(insert_order, (FIRST_NEW_ORDER + number, first[1]))
        execute(insert_lineitem, (FIRST_NEW_ORDER + number, first[0], first[1]))
        execute(set_progress, (number,))
        execute("COMMIT")

    def commit(self, due: float | None = None) -> None:
        """Runs one transaction until it is acknowledged and notes when that was and how long it took."""
        start = time.perf_counter()
        self._commit()
        now = time.perf_counter()
        self.acknowledged.append(now)
        self.latencies.append(now - start)
        self.lateness.append(now - (start if due is None else due))

    def forget_latencies(self) -> None:
        self.latencies.clear()
        self.lateness.clear()
        self.conflicts = 0


class Analyst:
    """The one thread that asks Q1 and Q6 in turn, and holds each answer against what had been acknowledged."""

    def __init__(self, engine: Engine, cursor: Cursor, acknowledged: Sequence[float]) -> None:
        self.latencies: list[float] = []
        self.stale_ms = 0.0
        """The age of the oldest acknowledged transaction that an answer didn't have, the worst of all answers."""
        self.missed = 0
        """How many acknowledged transactions that answer didn't have."""
        self.torn = 0
        self.answers = 0
        self._name = engine.name
        self._cursor = cursor
        self._acknowledged = acknowledged
        self._queries = itertools.cycle([(number, engine.adapt(with_seen(query(number)))) for number in QUERIES])
        self._q1_rows_before = 0

    def answer(self) -> None:
        """Runs the next query to its last row."""
        number, sql = next(self._queries)
        known = len(self._acknowledged)
        start = time.perf_counter()
        self._cursor.execute(sql)
        rows = self._cursor.fetchall()
        self.latencies.append(time.perf_counter() - start)
        self._check(number, rows, known, start)

    def _check(self, number: int, rows: Sequence[Sequence[Any]], known: int, start: float) -> None:
        """Notes what the answer lacks of the first `known` transactions, and whether its parts are of one snapshot."""
        seen = int(rows[0][-1])
        self.answers += 1
        if seen < known:
            self.missed = max(self.missed, known - seen)
            self.stale_ms = max(self.stale_ms, (start - self._acknowledged[seen]) * 1000)
        if number == 1:
            count = sum(int(row[COUNT_ORDER]) for row in rows)
            if self._q1_rows_before == 0:
                self._q1_rows_before = count - seen
            self.torn += count - seen != self._q1_rows_before


def with_seen(sql: str) -> str:
    """Returns a query with one more column: the newest transaction that the statement's snapshot holds."""
    head, tail = sql.split("\nfrom ", 1)
    return f"{head},\n    {SEEN}\nfrom {tail}"


@dataclass(slots=True)
class Client:
    """One engine's writer and analyst, each on a connection of its own."""

    engine: Engine
    writer: Writer
    analyst: Analyst


def run(engines: Sequence[Engine], files: Path, settings: HtapSettings, say: Callable[[str], None]) -> HtapResults:
    """Loads the tables into each started engine, then measures the four works, the engines taking turns."""
    data = tpch_files(settings.scale, cache=files)
    keys = _keys(data["lineitem"])
    results = HtapResults()
    with contextlib.ExitStack() as stack:
        clients = []
        for engine in engines:
            say(f"{engine.name}: loading TPC-H SF {settings.scale:g}")
            clients.append(_client(engine, stack, data, keys, results))
        recorders = {client.engine.name: Recorder(client, settings) for client in clients}
        for turn in range(settings.rounds):
            for work in WORKS:
                for client in clients:
                    say(f"round {turn + 1} of {settings.rounds}: {work}, {client.engine.name}")
                    recorders[client.engine.name].measure(work)
        for recorder in recorders.values():
            results.measurements += recorder.measurements()
        for client in clients:
            results.faults += _faults(client)
    return results


def _keys(path: Path) -> list[tuple[int, int]]:
    """Returns primary keys of lineitem, drawn at random."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["l_orderkey", "l_linenumber"])
    drawn = table.take(random.Random(SEED).choices(range(table.num_rows), k=DRAWS)).to_pydict()
    return list(zip(drawn["l_orderkey"], drawn["l_linenumber"], strict=True))


def _client(
    engine: Engine,
    stack: contextlib.ExitStack,
    data: dict[str, Path],
    keys: Sequence[tuple[int, int]],
    results: HtapResults,
) -> Client:
    """Loads and warms one engine: each query has run twice, and some transactions, before anything is measured."""
    with contextlib.closing(engine.connect()) as con:
        load(engine, con, data)
        engine.create_table(con, PROGRESS)
        con.cursor().execute("INSERT INTO progress VALUES (1, 0)")
        if remark := engine.settle(con):
            results.remarks.append(f"{engine.name}: {remark}")
    connections: list[Connection] = [stack.enter_context(contextlib.closing(engine.connect())) for _ in range(2)]
    writer = Writer(engine, connections[0].cursor(), keys)
    analyst = Analyst(engine, connections[1].cursor(), writer.acknowledged)
    for _ in QUERIES:
        analyst.answer()
    for _ in range(WARM_UP_TRANSACTIONS):
        writer.commit()
    for _ in QUERIES:
        analyst.answer()
    return Client(engine, writer, analyst)


class Recorder:
    """One engine's measurements as they grow, round by round."""

    def __init__(self, client: Client, settings: HtapSettings) -> None:
        self._client = client
        self._settings = settings
        self._by_work: dict[str, Measurement] = {}
        self._notes: dict[tuple[str, str], list[float]] = {}

    def measure(self, work: str) -> None:
        """Runs one round of one of `WORKS`."""
        writer, analyst = self._client.writer, self._client.analyst
        writer.forget_latencies()
        analyst.latencies.clear()
        writes, asks = work != "answers", work != "tps"
        pace = self._settings.tps if work == "paced" else None
        tps, answers = together(writer if writes else None, analyst if asks else None, self._settings.seconds, pace)
        kind, threads = ("alone", 1) if work in ("tps", "answers") else (work, 2)
        if writes:
            self._add(f"htap_tps_{kind}", threads, "per_s", tps, conflicts=writer.conflicts)
        if asks:
            self._add(f"htap_answers_{kind}", threads, "per_s", answers, p95_ms=_ms(analyst.latencies, 95))
        if work == "paced":
            latency, lateness = writer.latencies, writer.lateness
            p50, p99, p99_from_due = _ms(latency, 50), _ms(latency, 99), _ms(lateness, 99)
            self._add("htap_p99_paced", threads, "ms", p99, p50_ms=p50, p99_from_due_ms=p99_from_due)

    def _add(self, work: str, threads: int, unit: str, value: float, **notes: float) -> None:
        """Adds one round's value; its notes become the medians of the rounds."""
        new = Measurement(work, self._client.engine.name, threads, self._settings.scale, unit)
        measurement = self._by_work.setdefault(work, new)
        measurement.values.append(value)
        for name, noted in notes.items():
            rounds = self._notes.setdefault((work, name), [])
            rounds.append(noted)
            measurement.notes[name] = statistics.median(rounds)

    def measurements(self) -> list[Measurement]:
        """Returns all of them with the staleness: the worst of all answers, zero where every answer was fresh."""
        analyst = self._client.analyst
        stale = Measurement("htap_staleness", self._client.engine.name, 2, self._settings.scale, "ms")
        stale.values.append(analyst.stale_ms)
        stale.notes |= {"answers": analyst.answers, "missed": analyst.missed, "torn": analyst.torn}
        return [*self._by_work.values(), stale]


WORKS = ("answers", "tps", "both", "paced")


def together(writer: Writer | None, analyst: Analyst | None, seconds: float, tps: float | None) -> tuple[float, float]:
    """Runs writer and analyst on a thread each and returns the transactions and the answers a second.

    The analyst ends with the first answer after `seconds`; the writer goes on until then, so that no answer is measured
    half alone.
    """
    ended = threading.Event()
    failures: list[BaseException] = []
    rates = [0.0, 0.0]

    def guard(index: int, work: Callable[[], float]) -> None:
        try:
            rates[index] = work()
        except BaseException as failure:  # noqa: BLE001 - handed to the caller's thread
            failures.append(failure)
            ended.set()

    threads = []
    if writer is not None:
        limit = seconds if analyst is None else None
        threads.append(threading.Thread(target=guard, args=(0, lambda: _write(writer, ended, limit, tps))))
    if analyst is not None:
        threads.append(threading.Thread(target=guard, args=(1, lambda: _ask(analyst, ended, seconds))))
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    return rates[0], rates[1]


def _write(writer: Writer, ended: threading.Event, seconds: float | None, tps: float | None) -> float:
    """Commits until it is told to end or the time is up, at most `tps` a second; returns the transactions a second."""
    clock = time.perf_counter
    start = clock()
    done = 0
    for due in _due(start, tps):
        if due is not None and (early := due - clock()) > 0:
            time.sleep(early)
        if ended.is_set() or (seconds is not None and clock() - start >= seconds):
            break
        writer.commit(due)
        done += 1
    return done / (clock() - start)


def _due(start: float, tps: float | None) -> Iterator[float | None]:
    """Yields when each transaction is due: on a fixed grid, whether or not those before were late."""
    return itertools.repeat(None) if tps is None else (start + number / tps for number in itertools.count())


def _ask(analyst: Analyst, ended: threading.Event, seconds: float) -> float:
    """Asks until the time is up, then tells the writer; returns the answers a second."""
    start = time.perf_counter()
    deadline = start + seconds
    done = 0
    while not ended.is_set() and time.perf_counter() < deadline:
        analyst.answer()
        done += 1
    ended.set()
    return done / (time.perf_counter() - start)


def _ms(latencies: Sequence[float], percent: int) -> float:
    return round(percentile(latencies, percent) * 1000, 3)


def _faults(client: Client) -> list[str]:
    """Returns what no engine may do: stale answers, answers from two snapshots, acknowledged rows that aren't there."""
    name, writer, analyst = client.engine.name, client.writer, client.analyst
    faults = []
    if analyst.missed:
        faults.append(
            f"STALE ANSWER {name}: {analyst.missed} acknowledged transactions missing, {analyst.stale_ms:.1f} ms"
        )
    if analyst.torn:
        faults.append(f"TORN ANSWER {name}: {analyst.torn} answers are of two snapshots")
    cursor = writer.cursor
    cursor.execute(f"SELECT count(*) FROM lineitem WHERE l_orderkey > {FIRST_NEW_ORDER}")
    rows = int(cursor.fetchone()[0])
    if rows != len(writer.acknowledged):
        faults.append(f"LOST ROWS {name}: {rows} of {len(writer.acknowledged)} acknowledged transactions are there")
    return faults


def table(results: HtapResults) -> list[list[str]]:
    """Returns a row an engine: both rates alone, together and paced, what is kept of them, latency and staleness."""
    rows = [list(HEADINGS)]
    at = {(m.work, m.engine): m for m in results.measurements}
    for engine in dict.fromkeys(m.engine for m in results.measurements):
        value = {m.work.removeprefix("htap_"): m.value for m in results.measurements if m.engine == engine}
        due = float(at["htap_p99_paced", engine].notes["p99_from_due_ms"])
        rows.append(
            [
                engine,
                number(value["tps_alone"]),
                number(value["tps_both"]),
                _share(value["tps_both"], value["tps_alone"]),
                number(value["answers_alone"]),
                number(value["answers_both"]),
                _share(value["answers_both"], value["answers_alone"]),
                number(value["tps_paced"]),
                f"{value['p99_paced']:.2f}",
                f"{due:.2f}",
                _share(value["answers_paced"], value["answers_alone"]),
                f"{float(at['htap_answers_paced', engine].notes['p95_ms']):.1f}",
                f"{value['staleness']:.1f}",
            ]
        )
    return rows


HEADINGS = (
    "engine",
    "txn/s alone",
    "together",
    "kept",
    "answers/s alone",
    "together",
    "kept",
    "paced txn/s",
    "p99, ms",
    "p99 from due, ms",
    "answers/s kept paced",
    "p95 of an answer, ms",
    "staleness, ms",
)


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %"
