"""Linearizability of single registers: Wing and Gong's search with Lowe's memory of configurations, as in porcupine.

Calls are linearised one after another; a call can be next when no other call returned before it was called. A
configuration is the set of calls linearised and the register's value: one that was seen before leads nowhere new. A
call whose outcome is unknown can come at any time after it was called, or never.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.sim.checkers import Anomaly
from tests.sim.history import Event, Outcome

STEPS_MAX = 500_000
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


class _Search:
    """The depth-first search over configurations of one register."""

    def __init__(self, events: Sequence[RegisterEvent], initial: bytes | None) -> None:
        self._head = _entries(events)
        self._value = initial
        self._done = 0
        self._left = sum(event.outcome is Outcome.OK for event in events)
        self._seen: set[tuple[int, bytes | None]] = set()
        self._stack: list[tuple[_Entry, bytes | None, bool]] = []
        self.longest = 0
        self.steps = 0

    def run(self) -> bool | None:
        """Whether an order exists; None when that takes too long to find out."""
        entry = self._head.next
        while self._left:
            self.steps += 1
            if self.steps > STEPS_MAX:
                return None
            fresh = entry is self._head.next
            free = self._free() if fresh else None
            if free is not None:
                if self._take(free, forced=True):
                    entry = self._head.next
                    continue
                entry = None
            while entry is not None and entry.match is not None and not self._take(entry, forced=False):
                entry = entry.next
            if entry is not None and entry.match is not None:
                entry = self._head.next
                continue
            # what returned first is not linearised: nothing more can be next here
            back = self._back()
            if back is None:
                return False
            entry = back.next
        return True

    def _enabled(self) -> Iterator[_Entry]:
        """The calls that can be next: those before the first return."""
        entry = self._head.next
        while entry is not None and entry.match is not None:
            yield entry
            entry = entry.next

    def _free(self) -> _Entry | None:
        """A call that can be next and changes nothing: to take it at once never hurts."""
        for entry in self._enabled():
            event = entry.event
            if event.outcome is Outcome.OK and not isinstance(event.action, Write):
                if isinstance(event.action, Read):
                    if event.result == self._value:
                        return entry
                elif event.result is False and event.action.expected != self._value:
                    return entry
        return None

    def _wanted(self, unknown: _Entry, after: bytes | None) -> bool:
        """Whether something that can be next waits for what an unknown call would change the value to.

        If nothing does the call may as well come later, or never.
        """
        for entry in self._enabled():
            action, event = entry.event.action, entry.event
            if entry is unknown or isinstance(action, Write):
                continue
            if isinstance(action, Read):
                if event.result == after:
                    return True
            elif action.expected == after or (event.result is False and action.expected == self._value):
                return True
        return False

    def _take(self, entry: _Entry, *, forced: bool) -> bool:
        """Linearises the call as the next, unless that cannot be or leads where the search has been."""
        event = entry.event
        try:
            after = _step(event, self._value)
        except _Impossible:
            return False
        if event.outcome is Outcome.UNKNOWN and not self._wanted(entry, after):
            return False
        configuration = (self._done | 1 << entry.number, after)
        if configuration in self._seen:
            return False
        self._seen.add(configuration)
        self._stack.append((entry, self._value, forced))
        self._done, self._value = configuration
        self._left -= event.outcome is Outcome.OK
        self.longest = max(self.longest, len(self._stack))
        assert entry.match is not None
        entry.match.unlink()
        entry.unlink()
        return True

    def _back(self) -> _Entry | None:
        """Takes back the last call that was a choice; None if there was none."""
        while self._stack:
            entry, self._value, forced = self._stack.pop()
            self._done &= ~(1 << entry.number)
            self._left += entry.event.outcome is Outcome.OK
            assert entry.match is not None
            entry.relink()
            entry.match.relink()
            if not forced:
                return entry
        return None


def check_register(events: Sequence[RegisterEvent], initial: bytes | None = None) -> Anomaly | None:
    """Whether the events of one register are linearizable; failed calls must have been taken out."""
    if not events:
        return None
    search = _Search(events, initial)
    found = search.run()
    if found is None:
        return Anomaly("undecided", f"{len(events)} calls of one register: gave up after {search.steps} steps")
    return None if found else Anomaly("not linearizable", _explain(events, search.longest))


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
