"""Linearizability of single registers: Wing and Gong's search with Lowe's memory of configurations, as in porcupine.

Calls are linearised one after another; a call can be next when no other call returned before it was called. A
configuration is the set of calls linearised and the register's value: one that was seen before leads nowhere new. A
call whose outcome is unknown can come at any time after it was called, or never.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.sim.checkers import Anomaly
from tests.sim.history import Event, Outcome

STEPS_MAX = 2_000_000
"""How many configurations are tried for one register before the answer is 'undecided'."""


@dataclass(frozen=True, slots=True)
class Read:
    key: bytes


@dataclass(frozen=True, slots=True)
class Write:
    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Cas:
    """Sets `value` if the register holds `expected`; its result is whether it did."""

    key: bytes
    expected: bytes | None
    value: bytes


Action = Read | Write | Cas
Result = bytes | bool | None
RegisterEvent = Event[Action, Result]


class _Impossible(Exception):
    """The call cannot have had its outcome on this value."""


def _step(event: RegisterEvent, value: bytes | None) -> bytes | None:
    """The register's value after the call; raises _Impossible."""
    action = event.action
    if isinstance(action, Write):
        return action.value
    if isinstance(action, Read):
        if event.result != value:
            raise _Impossible
        return value
    if event.outcome is Outcome.UNKNOWN:
        return action.value if value == action.expected else value
    if event.result is not (value == action.expected):
        raise _Impossible
    return action.value if event.result else value


class _Entry:
    """A call or a return in the list of what is not linearised yet."""

    __slots__ = ("event", "match", "next", "number", "prev")

    def __init__(self, event: RegisterEvent, number: int, match: _Entry | None) -> None:
        self.event = event
        self.number = number
        self.match = match
        """A call's return; a return has none."""
        self.prev: _Entry
        self.next: _Entry | None = None

    def unlink(self) -> None:
        self.prev.next = self.next
        if self.next is not None:
            self.next.prev = self.prev

    def relink(self) -> None:
        self.prev.next = self
        if self.next is not None:
            self.next.prev = self


def _entries(events: Sequence[RegisterEvent]) -> _Entry:
    """The calls and returns in their order, behind a head; returns of unknown calls come last."""
    places: list[tuple[float, int, _Entry]] = []
    for number, event in enumerate(events):
        answer = _Entry(event, number, None)
        places.append((event.called, 0, _Entry(event, number, answer)))
        places.append((float("inf") if event.returned is None else event.returned, number, answer))
    head = last = _Entry(events[0], -1, None)
    for _, _, entry in sorted(places, key=lambda place: place[:2]):
        last.next, entry.prev = entry, last
        last = entry
    return head


def check_register(events: Sequence[RegisterEvent], initial: bytes | None = None) -> Anomaly | None:
    """Whether the events of one register are linearizable; failed calls must have been taken out."""
    if not events:
        return None
    head = _entries(events)
    certain = sum(event.outcome is Outcome.OK for event in events)
    done, done_certain, value = 0, 0, initial
    seen: set[tuple[int, bytes | None]] = set()
    stack: list[tuple[_Entry, bytes | None]] = []
    longest, steps = 0, 0
    entry = head.next
    while done_certain < certain:
        steps += 1
        if steps > STEPS_MAX:
            return Anomaly("undecided", f"{len(events)} calls of one register: gave up after {steps} steps")
        answer = entry.match if entry is not None else None
        if entry is not None and answer is not None:
            after = _try(entry, value, done, seen)
            if isinstance(after, _Impossible):
                entry = entry.next
                continue
            stack.append((entry, value))
            done |= 1 << entry.number
            done_certain += entry.event.outcome is Outcome.OK
            longest = max(longest, len(stack))
            value = after
            answer.unlink()
            entry.unlink()
            entry = head.next
            continue
        # a return of a call that is not linearised: nothing more can be next here
        if not stack:
            return Anomaly("not linearizable", _explain(events, longest))
        entry, value = stack.pop()
        done &= ~(1 << entry.number)
        done_certain -= entry.event.outcome is Outcome.OK
        assert entry.match is not None
        entry.relink()
        entry.match.relink()
        entry = entry.next
    return None


_IMPOSSIBLE = _Impossible()


def _try(
    entry: _Entry, value: bytes | None, done: int, seen: set[tuple[int, bytes | None]]
) -> bytes | _Impossible | None:
    """The value after this call as the next, unless that cannot be or leads where the search has been."""
    try:
        after = _step(entry.event, value)
    except _Impossible:
        return _IMPOSSIBLE
    configuration = (done | 1 << entry.number, after)
    if configuration in seen:
        return _IMPOSSIBLE
    seen.add(configuration)
    return after


def _explain(events: Sequence[RegisterEvent], longest: int) -> str:
    lines = "\n  ".join(str(event) for event in events)
    return f"at most {longest} of {len(events)} calls can be put in order:\n  {lines}"


def check_linearizable(events: Sequence[RegisterEvent], initial: bytes | None = None) -> list[Anomaly]:
    """Checks every register of the history by itself."""
    by_key: dict[bytes, list[RegisterEvent]] = {}
    for event in events:
        if event.outcome is not Outcome.FAILED:
            by_key.setdefault(event.action.key, []).append(event)
    found = (check_register(_telling(mine), initial) for mine in by_key.values())
    return [anomaly for anomaly in found if anomaly is not None]


def _telling(events: Sequence[RegisterEvent]) -> list[RegisterEvent]:
    """Without unknown calls that may be taken not to have happened: reads, and changes to values nobody met.

    (A compare-and-swap that found another value than it expected may have met any.)
    """
    certain = [event for event in events if event.outcome is Outcome.OK]
    if any(isinstance(event.action, Cas) and event.result is False for event in certain):
        return [event for event in events if event.outcome is Outcome.OK or not isinstance(event.action, Read)]
    met = {event.result for event in certain if isinstance(event.action, Read)}
    met |= {event.action.expected for event in events if isinstance(event.action, Cas)}
    return [
        event
        for event in events
        if event.outcome is Outcome.OK or (not isinstance(event.action, Read) and event.action.value in met)
    ]
