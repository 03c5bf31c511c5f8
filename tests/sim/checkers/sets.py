"""Set: an acknowledged add is in every later read, a failed one in none; an unknown one may be, and then stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.sim.checkers import Anomaly
from tests.sim.history import Event, Outcome


@dataclass(frozen=True, slots=True)
class Add:
    element: int


@dataclass(frozen=True, slots=True)
class ReadSet:
    """The result is every element found, in the order found."""


SetEvent = Event[Add | ReadSet, Sequence[int]]


def check_set(events: Sequence[SetEvent]) -> list[Anomaly]:
    """Checks every read; an element missing in the last one is lost, one missing only earlier was read stale."""
    adds = {event.action.element: event for event in events if isinstance(event.action, Add)}
    reads = [event for event in events if isinstance(event.action, ReadSet) and event.outcome is Outcome.OK]
    if not reads:
        return []
    last = max(reads, key=lambda read: read.called)
    final = set(last.result or ())
    anomalies: list[Anomaly] = []
    for read in reads:
        found = list(read.result or ())
        elements = set(found)
        if len(elements) != len(found):
            anomalies.append(Anomaly("duplicate", f"{sorted(e for e in elements if found.count(e) > 1)} in {read}"))
        for element in sorted(elements):
            add = adds.get(element)
            if add is None:
                anomalies.append(Anomaly("unexpected", f"{element} was never added: {read}"))
            elif add.outcome is Outcome.FAILED:
                anomalies.append(Anomaly("failed add seen", f"{add}, seen by {read}"))
        for element, add in adds.items():
            if add.outcome is Outcome.OK and add.before(read) and element not in elements:
                kind = "stale read" if element in final else "lost"
                anomalies.append(Anomaly(kind, f"{element} of {add} is not in {read}"))
        if read.before(last):
            anomalies += [
                Anomaly("vanished", f"{element} was seen by {read} and is gone") for element in sorted(elements - final)
            ]
    return anomalies
