"""The chapter of `sqlfront demo --cluster`: a store is killed in the middle of bookings, and nothing is lost.

What a client was told to be committed must be there afterwards, and nothing else but what it could not be told: when
the answer to a commit is lost and nobody can say what became of it, either may be true, and it is counted apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import sqlfront
from shell.demo.analytics import QUESTIONS
from shell.demo.bookings import Flight, flights_with_passengers, rebook
from shell.demo.story import FLIGHTS_IN_PLAY, SEED, Story, check_indexes, conflicts, load, transactions
from shell.playground.local import LocalCluster
from sqlfront.errors import ER_RESULT_UNDETERMINED

CLIENTS = 4
BEFORE_S_MIN = 1.0
RECOVERY_S_MAX = 60.0
RETRY_S = 0.05
ON_RECORD = "SELECT COUNT(*), COALESCE(SUM(passengers), 0) FROM rebookings"


@dataclass(slots=True)
class Client:
    """What one client was told, and when (`time.monotonic`)."""

    committed: int = 0
    passengers: int = 0
    unknown: int = 0
    unknown_passengers: int = 0
    retried: int = 0
    answers: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Clients:
    """All of them, until `stop` is set or one has failed."""

    clients: list[Client] = field(default_factory=lambda: [Client() for _ in range(CLIENTS)])
    failures: list[BaseException] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def answers(self) -> list[float]:
        """When any client was told of a commit, in order."""
        return sorted(when for client in self.clients for when in client.answers)

    def recovered_since(self, killed: float) -> bool:
        """Whether every client has been told of a commit after the kill."""
        return all(client.answers and client.answers[-1] > killed for client in self.clients)


def tell(story: Story, cluster: LocalCluster, rows: int | None, seconds: float) -> int:
    """Tells the demo's chapters on a cluster, and this one; returns the number of broken invariants."""
    with contextlib.closing(story.connect()) as con:
        load(story, con, rows)
        story.screen.heading("Questions on the data, answered by the stores and put together here")
        for question in QUESTIONS:
            story.screen.answer(con, question.title, question.sql)
        transactions(story, con)
        conflicts(story, con)
        loss_of_a_store(story, con, cluster, seconds)
    return story.faults


def loss_of_a_store(story: Story, con: sqlfront.Connection, cluster: LocalCluster, seconds: float) -> None:
    """Kills the store that leads most regions, a third of the way through bookings, and checks what is there after."""
    before = _on_record(con)
    led = asyncio.run(cluster.leaders())
    name = max(led, key=lambda store: led[store])
    story.screen.heading(f"Losing a store: {CLIENTS} clients rebook, and {name} of {len(led)} stores gets kill -9")
    flights = flights_with_passengers(con, FLIGHTS_IN_PLAY)
    all_clients = Clients()
    threads = [
        threading.Thread(target=_book, args=(story, flights, index, all_clients), name=f"client-{index}")
        for index in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    try:
        all_clients.stop.wait(max(seconds / 3, BEFORE_S_MIN))
        killed = time.monotonic()
        cluster.children[name].send(signal.SIGKILL)
        _wait_for_recovery(all_clients, killed, seconds * 2 / 3)
    finally:
        all_clients.stop.set()
        for thread in threads:
            thread.join()
    if all_clients.failures:
        raise all_clients.failures[0]
    _show(story, all_clients, killed)
    _check(story, con, all_clients, before)


def _wait_for_recovery(clients: Clients, killed: float, seconds: float) -> None:
    """Waits the seconds, and longer until every client has had an answer again."""
    while not clients.stop.wait(RETRY_S):
        since = time.monotonic() - killed
        if since > RECOVERY_S_MAX or (since > seconds and clients.recovered_since(killed)):
            return


def _book(story: Story, flights: Sequence[Flight], index: int, clients: Clients) -> None:
    """One client: rebooks between random flights until told to stop; what may be run again is."""
    rng = random.Random(SEED + index)
    mine = clients.clients[index]
    try:
        with contextlib.closing(story.connect()) as con:
            while not clients.stop.is_set():
                source, target = rng.sample(flights, 2)
                count = rng.randint(1, 3)
                try:
                    moved = rebook(con, source, target, count)
                except sqlfront.Error as error:
                    _note_failure(mine, error, count)
                    clients.stop.wait(RETRY_S)
                else:
                    mine.committed += moved > 0
                    mine.passengers += moved
                    mine.answers.append(time.monotonic())
    except BaseException as failure:  # noqa: BLE001 - handed to the main thread, which raises it
        clients.failures.append(failure)
        clients.stop.set()


def _note_failure(client: Client, error: sqlfront.Error, count: int) -> None:
    if error.code == ER_RESULT_UNDETERMINED:
        client.unknown += 1
        client.unknown_passengers += count
    elif error.retryable:
        client.retried += 1
    else:
        raise error


def _show(story: Story, clients: Clients, killed: float) -> None:
    answers = clients.answers
    before = [when for when in answers if when <= killed]
    after = [when for when in answers if when > killed]
    silence = _longest_wait(answers, killed)
    longest = max(_longest_wait(client.answers, killed) for client in clients.clients)
    story.screen.table(
        ["", "measured"],
        [
            ["commits before the kill", len(before)],
            ["commits after it", len(after)],
            ["seconds without an answer to anybody", f"{silence:.2f}"],
            ["seconds without an answer, the client that waited longest", f"{longest:.2f}"],
            ["transactions run again", sum(client.retried for client in clients.clients)],
            ["commits whose outcome nobody could tell", sum(client.unknown for client in clients.clients)],
        ],
    )
    story.expect(bool(after), "the bookings went on without it")


def _longest_wait(answers: Sequence[float], killed: float) -> float:
    """The longest time between two answers of which the second came after the kill."""
    return max((later - one for one, later in pairwise(answers) if later > killed), default=0.0)


def _check(story: Story, con: sqlfront.Connection, clients: Clients, before: tuple[int, int]) -> None:
    """Compares what is on record with what the clients were told."""
    rows, passengers = _on_record(con)
    rows, passengers = rows - before[0], passengers - before[1]
    told = sum(client.committed for client in clients.clients)
    told_passengers = sum(client.passengers for client in clients.clients)
    unknown = sum(client.unknown for client in clients.clients)
    unknown_passengers = sum(client.unknown_passengers for client in clients.clients)
    story.expect(
        told <= rows <= told + unknown, f"{told:,} rebookings were acknowledged, {rows:,} are on record: none is lost"
    )
    story.expect(
        told_passengers <= passengers <= told_passengers + unknown_passengers,
        f"{told_passengers:,} passengers were told to have moved, {passengers:,} have",
    )
    story.check_total(con, "after the loss of a store")
    check_indexes(story, con)


def _on_record(con: sqlfront.Connection) -> tuple[int, int]:
    row = con.execute(ON_RECORD).fetchone()
    assert row is not None
    return int(str(row[0])), int(str(row[1]))
