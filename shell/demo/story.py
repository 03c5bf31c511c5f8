"""The demo's chapters, in order: load, questions, transactions, conflicts, freshness, both at once, a last check.

Every chapter that changes rows checks the invariant afterwards: nobody appears or vanishes, so the sum of all
passengers is what it was after the load, in every snapshot that anybody takes.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import sqlfront
from shell.demo.analytics import QUESTIONS, ROUTES_BY_PASSENGERS, TOTAL_PASSENGERS
from shell.demo.bookings import (
    Flight,
    add_passengers,
    busiest_route,
    cancel,
    flights_with_passengers,
    passengers_on,
    rebook,
)
from shell.demo.data import SCHEMA, arrow_tables
from shell.demo.screen import Screen

WRITERS = 2
FLIGHTS_IN_PLAY = 400
FRESH_ROUNDS = 10
FLIGHTS = "flights"
SEED = 2013
ER_LOCK_NOWAIT = 3572
ER_WRITE_CONFLICT = 9007


@dataclass(slots=True)
class Story:
    """One run of the demo on a new database. `faults` counts invariants that did not hold."""

    path: str
    screen: Screen
    total: int = 0
    faults: int = 0

    def connect(self) -> sqlfront.Connection:
        return sqlfront.connect(self.path, autocommit=True)

    def run(self, rows: int | None, seconds: float) -> int:
        """Tells all chapters; returns the number of broken invariants."""
        with contextlib.closing(self.connect()) as con:
            load(self, con, rows)
            self.screen.heading("Questions on the data, straight after the load")
            for question in QUESTIONS:
                self.screen.answer(con, question.title, question.sql)
            lookups(self, con)
            transactions(self, con)
            conflicts(self, con)
            freshness(self, con)
            both_at_once(self, con, seconds)
            final_check(self, con)
        return self.faults

    def check_total(self, con: sqlfront.Connection, when: str) -> None:
        """Checks that all passengers are still there."""
        self.expect(
            total_passengers(con) == self.total, f"{self.total:,} passengers {when}: nobody appeared or vanished"
        )

    def expect(self, holds: bool, text: str) -> None:
        """Shows whether something holds, and counts it when it doesn't."""
        if holds:
            self.screen.ok(text)
        else:
            self.faults += 1
            self.screen.wrong(f"does NOT hold: {text}")


def total_passengers(con: sqlfront.Connection) -> int:
    row = con.execute(TOTAL_PASSENGERS).fetchone()
    return int(str(row[0])) if row is not None and row[0] is not None else 0


def load(story: Story, con: sqlfront.Connection, rows: int | None) -> None:
    """Makes the tables and loads the real data, with a bar a table."""
    tables = arrow_tables(rows)
    story.screen.heading(f"Loading New York's flights of 2013 into {story.path}")
    for statement in SCHEMA.values():
        con.execute(statement)
    start = time.perf_counter()
    with story.screen.progress() as bar:
        for name, table in tables.items():
            move = bar(name, table.num_rows)
            con.append(name, table, progress=move)
            move(table.num_rows, None)
    count = sum(table.num_rows for table in tables.values())
    story.screen.say(f"  {count:,} rows, durable, with all their indexes, in {time.perf_counter() - start:.1f} s.")
    story.screen.say("  All of it is real but the column `passengers`, which is made up from each plane's seats.")
    for name in SCHEMA:
        con.execute(f"ANALYZE TABLE {name}")
    story.total = total_passengers(con)


def lookups(story: Story, con: sqlfront.Connection) -> None:
    """Shows that a lookup takes microseconds where an index leads to the row, and which path the planner chose."""
    flight = flights_with_passengers(con, 1)[0]
    by_key = _microseconds(lambda: passengers_on(con, flight))
    row = con.execute("SELECT tailnum FROM flights WHERE tailnum IS NOT NULL LIMIT 1").fetchone()
    tail = row[0] if row is not None else None
    by_index = _microseconds(lambda: con.execute("SELECT COUNT(*) FROM flights WHERE tailnum = ?", (tail,)).fetchone())
    story.screen.say(f"\n[bold]One flight by its composite primary key[/]  [dim]{by_key:.0f} µs[/]")
    story.screen.say(f"[bold]All flights of the plane {tail} by a secondary index[/]  [dim]{by_index:.0f} µs[/]")
    story.screen.answer(con, "How it is found", f"EXPLAIN SELECT passengers FROM flights WHERE tailnum = '{tail}'")


def _microseconds(call: Callable[[], object]) -> float:
    times = []
    for _ in range(200):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def transactions(story: Story, con: sqlfront.Connection) -> None:
    """Rebooks, cancels and rolls back on the busiest route, and shows who sees what meanwhile."""
    origin, dest, flights = busiest_route(con)
    if len(flights) < 3:
        raise LookupError("too few rows were loaded for the story: load at least 2,000 flights")
    first, second, *_ = flights
    day = f"{first.year}-{first.month:02d}-{first.day:02d}"
    story.screen.heading(f"Transactions: {len(flights)} flights from {origin} to {dest} on {day}")

    before = (passengers_on(con, first), passengers_on(con, second))
    moved = rebook(con, first, second, 5)
    after = (passengers_on(con, first), passengers_on(con, second))
    story.screen.say(
        f"\nRebook {moved} passengers: {first} {before[0]} → {after[0]}, {second} {before[1]} → {after[1]}"
    )
    story.expect(after == (before[0] - moved, before[1] + moved), "both flights and the record changed, or none")

    with contextlib.closing(story.connect()) as other:
        con.execute("BEGIN")
        stranded = cancel(con, second, [flight for flight in flights if flight != second])
        inside, outside = passengers_on(con, second), passengers_on(other, second)
        story.screen.say(
            f"\nCancel {second}: its {stranded} passengers are shared among {len(flights) - 1} other flights"
        )
        story.expect(inside == 0 and outside == stranded, f"uncommitted, {inside} on board here, {outside} for others")
        story.check_total(con, "inside the transaction")
        story.check_total(other, "outside it")
        con.execute("COMMIT")
        story.expect(passengers_on(other, second) == 0, "committed: everybody sees it")

    con.execute("BEGIN")
    con.execute("UPDATE flights SET passengers = 0 WHERE origin = ? AND dest = ?", (origin, dest))
    lost = story.total - total_passengers(con)
    con.execute("ROLLBACK")
    story.screen.say(f"\nA mistake: an UPDATE without the day took {lost:,} passengers off; ROLLBACK")
    story.check_total(con, "after the rollback")


def conflicts(story: Story, con: sqlfront.Connection) -> None:
    """Lets two connections want one row, pessimistic and optimistic."""
    flight = flights_with_passengers(con, 1)[0]
    story.screen.heading(f"A conflict: two connections want {flight}")
    with contextlib.closing(story.connect()) as other:
        con.execute("BEGIN")
        passengers_on(con, flight, " FOR UPDATE")
        other.execute("BEGIN")
        code = _error_code(lambda: passengers_on(other, flight, " FOR UPDATE NOWAIT"))
        other.execute("ROLLBACK")
        story.expect(code == ER_LOCK_NOWAIT, f"the row is locked; FOR UPDATE NOWAIT is refused at once, error {code}")
        story.expect(passengers_on(other, flight) >= 0, "a plain read doesn't wait")
        con.execute("ROLLBACK")

        other.execute("BEGIN OPTIMISTIC")
        add_passengers(other, flight, 1)
        add_passengers(con, flight, 1)
        code = _error_code(lambda: other.execute("COMMIT"))
        story.expect(code == ER_WRITE_CONFLICT, f"BEGIN OPTIMISTIC: the second to commit is refused, error {code}")
        add_passengers(con, flight, -1)
    story.check_total(con, "after the conflicts")


def _error_code(call: Callable[[], object]) -> int:
    """Returns the code of the error that `call` raises, 0 when it raises none."""
    try:
        call()
    except sqlfront.Error as error:
        return error.code
    return 0


def freshness(story: Story, con: sqlfront.Connection) -> None:
    """Commits a change and asks the columnar replica of all flights for it at once, several times."""
    flight = flights_with_passengers(con, 1)[0]
    story.screen.heading(f"Fresh answers: {flight} takes passengers, and a query over all flights counts them")
    question = TOTAL_PASSENGERS.replace("SELECT", f"SELECT /*+ READ_FROM_STORAGE(TIFLASH[{FLIGHTS}]) */", 1)
    con.execute(question).fetchall()  # waits until the replica is built
    commits, answers, stale = [], [], 0
    for extra in range(1, FRESH_ROUNDS + 1):
        began = time.perf_counter()
        add_passengers(con, flight, 1)
        committed = time.perf_counter()
        ((seen,),) = con.execute(question).fetchall()
        answered = time.perf_counter()
        commits.append(committed - began)
        answers.append(answered - committed)
        stale += seen != story.total + extra
    add_passengers(con, flight, -FRESH_ROUNDS)
    story.screen.table(
        ["", "median"],
        [
            ["the commit, durable", f"{statistics.median(commits) * 1000:.1f} ms"],
            ["the columnar query that sees it, asked right after", f"{statistics.median(answers) * 1000:.1f} ms"],
        ],
    )
    scans = [str(line[0]) for line in con.execute(f"EXPLAIN {question}").fetchall()]
    story.expect(any("ColumnarScan" in scan for scan in scans), "the columnar replica was read, not the rows")
    story.expect(stale == 0, f"{FRESH_ROUNDS} answers, every one with the commit before it")
    story.check_total(con, "after that")


@dataclass(slots=True)
class Counters:
    """What the writers did, each in its own slot."""

    committed: list[int] = field(default_factory=lambda: [0] * WRITERS)
    retried: list[int] = field(default_factory=lambda: [0] * WRITERS)
    failures: list[BaseException] = field(default_factory=list)


def both_at_once(story: Story, con: sqlfront.Connection, seconds: float) -> None:
    """Runs rebookings on several threads while this one asks analytic questions about the same rows."""
    story.screen.heading(
        f"Both at once: {WRITERS} threads rebook for {seconds:g} s while analytic queries read the same rows"
    )
    flights = flights_with_passengers(con, FLIGHTS_IN_PLAY)
    counters, stop = Counters(), threading.Event()
    threads = [
        threading.Thread(target=_write, args=(story, flights, index, counters, stop), name=f"writer-{index}")
        for index in range(WRITERS)
    ]
    for thread in threads:
        thread.start()
    start = time.perf_counter()
    times: list[float] = []
    wrong = 0
    try:
        while time.perf_counter() - start < seconds:
            began = time.perf_counter()
            con.execute(ROUTES_BY_PASSENGERS).fetchall()
            wrong += total_passengers(con) != story.total
            times.append((time.perf_counter() - began) / 2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    elapsed = time.perf_counter() - start
    if counters.failures:
        raise counters.failures[0]
    done, retried = sum(counters.committed), sum(counters.retried)
    story.screen.table(
        ["", "count", "a second", "median"],
        [
            ["durable transactions of 4 statements", done, f"{done / elapsed:,.0f}", ""],
            ["run again after a conflict", retried, f"{retried / elapsed:,.1f}", ""],
            [
                "analytic queries",
                len(times) * 2,
                f"{len(times) * 2 / elapsed:,.1f}",
                f"{statistics.median(times) * 1000:.0f} ms",
            ],
        ],
    )
    story.expect(done > 0, f"{done:,} transactions committed meanwhile")
    story.expect(wrong == 0, f"{len(times)} totals asked in flight, every one of them {story.total:,}")


def _write(story: Story, flights: Sequence[Flight], index: int, counters: Counters, stop: threading.Event) -> None:
    """One writer: rebooks between random flights until told to stop; what may be retried is."""
    rng = random.Random(SEED + index)
    try:
        with contextlib.closing(story.connect()) as con:
            while not stop.is_set():
                source, target = rng.sample(flights, 2)
                try:
                    rebook(con, source, target, rng.randint(1, 3))
                    counters.committed[index] += 1
                except sqlfront.Error as error:
                    if not error.retryable:
                        raise
                    counters.retried[index] += 1
    except BaseException as failure:  # noqa: BLE001 - handed to the main thread, which raises it
        counters.failures.append(failure)


def final_check(story: Story, con: sqlfront.Connection) -> None:
    """Checks the total once more, and that every index agrees with its rows."""
    story.screen.heading("The check at the end")
    story.check_total(con, "in the end")
    check_indexes(story, con)
    row = con.execute("SELECT COUNT(*), SUM(passengers) FROM rebookings").fetchone()
    if row is not None:
        story.screen.say(f"  {int(str(row[0])):,} rebookings are on record, of {int(str(row[1])):,} passengers.")


def check_indexes(story: Story, con: sqlfront.Connection) -> None:
    """Checks the indexes of the tables that transactions write."""
    for name in ("flights", "rebookings"):
        code = _error_code(lambda name=name: con.execute(f"ADMIN CHECK TABLE {name}"))  # type: ignore[misc]
        story.expect(code == 0, f"{name}: every index agrees with the rows" + (f" (error {code})" if code else ""))
