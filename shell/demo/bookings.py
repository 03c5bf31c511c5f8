"""The demo's transactions: passengers move between flights, and never appear or vanish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import sqlfront

AT_FLIGHT = "year = ? AND month = ? AND day = ? AND carrier = ? AND flight = ? AND origin = ?"


@dataclass(frozen=True, slots=True)
class Flight:
    """A flight by its composite primary key."""

    year: int
    month: int
    day: int
    carrier: str
    number: int
    origin: str

    @property
    def key(self) -> tuple[int, int, int, str, int, str]:
        return (self.year, self.month, self.day, self.carrier, self.number, self.origin)

    def __str__(self) -> str:
        return f"{self.carrier} {self.number}"


def passengers_on(con: sqlfront.Connection, flight: Flight, suffix: str = "") -> int:
    """Returns the passengers on one flight: a point read by the whole primary key."""
    row = con.execute(f"SELECT passengers FROM flights WHERE {AT_FLIGHT}{suffix}", flight.key).fetchone()
    if row is None:
        raise LookupError(f"there is no flight {flight}")
    count = row[0]
    assert isinstance(count, int)
    return count


def add_passengers(con: sqlfront.Connection, flight: Flight, count: int) -> None:
    """Adds passengers to a flight, or takes them off when `count` is negative."""
    con.execute(f"UPDATE flights SET passengers = passengers + ? WHERE {AT_FLIGHT}", (count, *flight.key))


def rebook(con: sqlfront.Connection, source: Flight, target: Flight, count: int) -> int:
    """Moves up to `count` passengers in one transaction that also writes it down; returns how many it moved."""
    with con.transaction():
        moved = min(count, passengers_on(con, source, " FOR UPDATE"))
        if moved:
            add_passengers(con, source, -moved)
            add_passengers(con, target, moved)
            _write_down(con, source, target, moved)
    return moved


def cancel(con: sqlfront.Connection, flight: Flight, others: Sequence[Flight]) -> int:
    """Cancels a flight within the open transaction and shares its passengers among others; returns how many moved."""
    stranded = passengers_on(con, flight, " FOR UPDATE")
    con.execute(
        "UPDATE flights SET dep_time = NULL, dep_delay = NULL, arr_time = NULL, arr_delay = NULL, air_time = NULL, "
        f"passengers = 0 WHERE {AT_FLIGHT}",
        flight.key,
    )
    share, rest = divmod(stranded, len(others))
    for index, other in enumerate(others):
        count = share + (1 if index < rest else 0)
        if count:
            add_passengers(con, other, count)
            _write_down(con, flight, other, count)
    return stranded


def _write_down(con: sqlfront.Connection, source: Flight, target: Flight, count: int) -> None:
    con.execute(
        "INSERT INTO rebookings (flown_on, origin, from_carrier, from_flight, to_carrier, to_flight, passengers) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            date(source.year, source.month, source.day),
            source.origin,
            source.carrier,
            source.number,
            target.carrier,
            target.number,
            count,
        ),
    )


def busiest_route(con: sqlfront.Connection) -> tuple[str, str, list[Flight]]:
    """Returns the route and day with most departures among the loaded rows: origin, destination and its flights."""
    row = con.execute(
        "SELECT year, month, day, origin, dest, COUNT(*) AS departures FROM flights WHERE passengers > 20 "
        "GROUP BY year, month, day, origin, dest ORDER BY departures DESC, year, month, day, origin, dest LIMIT 1"
    ).fetchone()
    if row is None:
        raise LookupError("the loaded rows hold no flight with passengers")
    year, month, day, origin, dest, _ = row
    flights = con.execute(
        "SELECT year, month, day, carrier, flight, origin FROM flights WHERE origin = ? AND dest = ? AND year = ? "
        "AND month = ? AND day = ? AND passengers > 20 ORDER BY sched_dep_time, carrier, flight",
        (origin, dest, year, month, day),
    ).fetchall()
    return str(origin), str(dest), [_flight(found) for found in flights]


def flights_with_passengers(con: sqlfront.Connection, limit: int) -> list[Flight]:
    """Returns some flights that left, in key order."""
    rows = con.execute(
        "SELECT year, month, day, carrier, flight, origin FROM flights WHERE passengers > 40 "
        "ORDER BY year, month, day, carrier, flight, origin LIMIT ?",
        (limit,),
    ).fetchall()
    return [_flight(row) for row in rows]


def _flight(row: Sequence[object]) -> Flight:
    year, month, day, carrier, number, origin = row
    assert isinstance(year, int)
    assert isinstance(month, int)
    assert isinstance(day, int)
    assert isinstance(number, int)
    return Flight(year, month, day, str(carrier), number, str(origin))
