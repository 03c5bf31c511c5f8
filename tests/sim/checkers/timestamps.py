"""Timestamps and ids: none is handed out twice, and a timestamp is greater than all answered before its call."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from tests.sim.checkers import Anomaly
from tests.sim.history import Event, Outcome


@dataclass(frozen=True, slots=True)
class Draw:
    """Draws `count` timestamps; the result is the last of them."""

    count: int


@dataclass(frozen=True, slots=True)
class AllocId:
    """The result is an id."""


TimestampEvent = Event[Draw | AllocId, int]


def check_timestamps(events: Sequence[TimestampEvent]) -> list[Anomaly]:
    ids: dict[int, TimestampEvent] = {}
    anomalies: list[Anomaly] = []
    draws: list[tuple[int, int, TimestampEvent]] = []
    for event in events:
        if event.outcome is not Outcome.OK or event.result is None:
            continue
        if isinstance(event.action, Draw):
            draws.append((event.result - event.action.count + 1, event.result, event))
        elif ids.setdefault(event.result, event) is not event:
            anomalies.append(Anomaly("id twice", f"{ids[event.result]} and {event}"))
    by_value = sorted(draws, key=lambda draw: draw[:2])
    for earlier, later in itertools.pairwise(by_value):
        if later[0] <= earlier[1]:
            anomalies.append(Anomaly("twice", f"{earlier[2]} and {later[2]}"))
    return anomalies + _went_back(draws)


def _went_back(draws: Sequence[tuple[int, int, TimestampEvent]]) -> list[Anomaly]:
    """Goes through the calls in order, with the greatest timestamp that had been answered before each."""
    anomalies = []
    returning: list[tuple[int, int, int]] = []
    newest: TimestampEvent | None = None
    ordered = sorted(draws, key=lambda draw: draw[2].called)
    for number, (first, last, event) in enumerate(ordered):
        while returning and returning[0][0] < event.called:
            _, value, which = heapq.heappop(returning)
            if newest is None or value > (newest.result or 0):
                newest = ordered[which][2]
        if newest is not None and first <= (newest.result or 0):
            anomalies.append(Anomaly("back", f"{newest} and then {event}"))
        assert event.returned is not None
        heapq.heappush(returning, (event.returned, last, number))
    return anomalies
