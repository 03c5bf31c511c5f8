"""List-append: transactions append unique elements to lists and read lists, and what they read tells their order.

After Elle (Kingsbury and Alvaro, 2020): the longest list read of a key is the order of its versions; from it follow the
dependencies ww (one overwrote the other), wr (one read the other's version) and rw (one read what the other then
overwrote). Snapshot isolation forbids every cycle in which no two rw stand next to each other (Cerone and Gotsman:
(D ; rw?) is acyclic): G0 has only ww, G1c ww and wr, G-single one rw. With real time in D, snapshots are also
no older than what was acknowledged before they were taken.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.sim.checkers import Anomaly
from tests.sim.checkers.graph import cycle, path
from tests.sim.history import Event, Outcome


@dataclass(frozen=True, slots=True)
class Append:
    key: bytes
    element: int


@dataclass(frozen=True, slots=True)
class ReadList:
    key: bytes


Step = Append | ReadList
Txn = tuple[Step, ...]
Lists = Sequence[tuple[int, ...] | None]
"""What each step returned: the list for a read, None for an append."""

AppendEvent = Event[Txn, Lists]


def check_append(events: Sequence[AppendEvent], *, realtime: bool = True) -> list[Anomaly]:
    """Everything that snapshot isolation forbids and the history shows."""
    found = _Checker(events)
    anomalies = [*found.internal(), *found.versions(), *found.dirty()]
    if anomalies:
        return anomalies  # without an order of versions there is no graph to speak of
    anomalies = [*found.lost_updates(), *found.cycles(realtime)]
    if realtime:
        anomalies += found.missing()
    return anomalies


class _Checker:
    def __init__(self, events: Sequence[AppendEvent]) -> None:
        self.events = list(events)
        self.writer: dict[tuple[bytes, int], int] = {}
        for number, event in enumerate(self.events):
            for step in event.action:
                if isinstance(step, Append):
                    assert (step.key, step.element) not in self.writer, f"{step} was made twice"
                    self.writer[step.key, step.element] = number
        self.order: dict[bytes, tuple[int, ...]] = {}
        for _, key, elements in self._reads():
            if len(elements) > len(self.order.get(key, ())):
                self.order[key] = elements

    def _reads(self) -> Iterator[tuple[int, bytes, tuple[int, ...]]]:
        """Reads of versions that others made: transaction, key, and the list without the transaction's own appends."""
        for number, event in enumerate(self.events):
            if event.outcome is not Outcome.OK:
                continue
            appended: set[bytes] = set()
            for step, result in zip(event.action, event.result or (), strict=True):
                if isinstance(step, Append):
                    appended.add(step.key)
                elif step.key not in appended:
                    yield number, step.key, result or ()

    def internal(self) -> Iterator[Anomaly]:
        """Reads that disagree with what the transaction itself read or appended before."""
        for event in self.events:
            if event.outcome is not Outcome.OK:
                continue
            known: dict[bytes, tuple[int, ...]] = {}
            tail: dict[bytes, tuple[int, ...]] = {}
            for step, result in zip(event.action, event.result or (), strict=True):
                if isinstance(step, Append):
                    tail[step.key] = (*tail.get(step.key, ()), step.element)
                    continue
                got, mine = result or (), tail.get(step.key, ())
                base = got[: len(got) - len(mine)]
                if got[len(base) :] != mine or known.setdefault(step.key, base) != base:
                    yield Anomaly("internal", f"{step} in {event}")

    def versions(self) -> Iterator[Anomaly]:
        """Lists that hold an element twice or one nobody appended, or that are not prefixes of each other."""
        for number, key, elements in self._reads():
            event = self.events[number]
            for element, times in Counter(elements).items():
                if times > 1:
                    yield Anomaly("duplicate", f"{element} is {times} times in {key!r}: {event}")
                if (key, element) not in self.writer:
                    yield Anomaly("unexpected", f"nobody appended {element} to {key!r}: {event}")
            if elements != self.order.get(key, ())[: len(elements)]:
                yield Anomaly("incompatible order", f"{key!r} was read as {self.order[key]}, and by {event}")

    def dirty(self) -> Iterator[Anomaly]:
        """G1a: an element of a transaction that failed; G1b: a version from the middle of a transaction."""
        last = {
            (number, step.key): step.element
            for number, event in enumerate(self.events)
            for step in event.action
            if isinstance(step, Append)
        }
        for number, key, elements in self._reads():
            event = self.events[number]
            for element in elements:
                writer = self.writer.get((key, element))
                if writer is not None and self.events[writer].outcome is Outcome.FAILED:
                    yield Anomaly("G1a", f"{event} read {element} of {self.events[writer]}")
            if elements:
                writer = self.writer.get((key, elements[-1]))
                if writer is not None and writer != number and last[writer, key] != elements[-1]:
                    yield Anomaly("G1b", f"{event} read {elements[-1]} from the middle of {self.events[writer]}")

    def lost_updates(self) -> Iterator[Anomaly]:
        """Two transactions that read one version of a key and both wrote the next."""
        updates: dict[tuple[bytes, tuple[int, ...]], list[int]] = {}
        for number, key, elements in self._reads():
            if any(isinstance(step, Append) and step.key == key for step in self.events[number].action):
                at = updates.setdefault((key, elements), [])
                if number not in at:
                    at.append(number)
        for numbers in updates.values():
            if len(numbers) > 1:
                yield Anomaly("lost update", " and ".join(str(self.events[number]) for number in numbers))

    def missing(self) -> Iterator[Anomaly]:
        """Elements that were acknowledged before a transaction began, and that it did not read."""
        for number, key, elements in self._reads():
            reader = self.events[number]
            there = set(elements)
            for (other_key, element), writer in self.writer.items():
                event = self.events[writer]
                if other_key == key and event.outcome is Outcome.OK and event.before(reader) and element not in there:
                    yield Anomaly("missing", f"{element} of {event} is not in {reader}")

    def dependencies(self) -> tuple[dict[int, set[int]], dict[int, set[int]], dict[int, set[int]]]:
        """The ww, wr and rw edges between transactions."""
        ww: dict[int, set[int]] = {}
        wr: dict[int, set[int]] = {}
        rw: dict[int, set[int]] = {}
        for key, elements in self.order.items():
            writers = [self.writer[key, element] for element in elements]
            for earlier, later in itertools.pairwise(writers):
                _add(ww, earlier, later)
        for number, key, elements in self._reads():
            order = self.order.get(key, ())
            if elements:
                _add(wr, self.writer[key, elements[-1]], number)
            for element in order[len(elements) : len(elements) + 1]:
                _add(rw, number, self.writer[key, element])
            if len(elements) == len(order):
                self._unseen_writers(key, number, rw)
        return ww, wr, rw

    def _unseen_writers(self, key: bytes, reader: int, rw: dict[int, set[int]]) -> None:
        """Acknowledged appends that no read shows came after every version that was read."""
        seen = set(self.order.get(key, ()))
        for (other_key, element), writer in self.writer.items():
            if other_key == key and element not in seen and self.events[writer].outcome is Outcome.OK:
                _add(rw, reader, writer)

    def realtime(self) -> dict[int, set[int]]:
        """Edges from transactions to those called after they returned; what follows from others is left out."""
        edges: dict[int, set[int]] = {}
        moments: list[tuple[int, int, bool]] = []
        for number, event in enumerate(self.events):
            if event.outcome is Outcome.FAILED:
                continue
            moments.append((event.called, number, False))
            if event.returned is not None:
                moments.append((event.returned, number, True))
        frontier: list[int] = []
        for _, number, returns in sorted(moments):
            if not returns:
                for earlier in frontier:
                    _add(edges, earlier, number)
                continue
            called = self.events[number].called
            frontier = [other for other in frontier if (self.events[other].returned or 0) > called]
            frontier.append(number)
        return edges

    def cycles(self, realtime: bool) -> Iterator[Anomaly]:
        ww, wr, rw = self.dependencies()
        for kind, parts in (("G0", (ww,)), ("G1c", (ww, wr))):
            found = cycle(_union(*parts))
            if found is not None:
                yield Anomaly(kind, self._show(found, ww, wr, rw))
                return
        depends = _union(ww, wr, *((self.realtime(),) if realtime else ()))
        found = cycle(depends)
        if found is not None:
            yield Anomaly("G1c-realtime", self._show(found, ww, wr, rw))
            return
        for reader, writers in rw.items():
            for writer in sorted(writers):
                back = path(depends, writer, reader)
                if back is not None:
                    yield Anomaly("G-single", self._show([reader, *back], ww, wr, rw))
                    return
        # (D ; rw?): after every rw comes a D, so that no two rw are adjacent
        composed = {node: set(targets) for node, targets in depends.items()}
        for node, targets in depends.items():
            for target in targets:
                composed[node] |= rw.get(target, set())
        found = cycle(composed)
        if found is not None:
            yield Anomaly("G-nonadjacent", self._show(found, ww, wr, rw))

    def _show(self, nodes: Sequence[int], *edges: dict[int, set[int]]) -> str:
        lines = [str(self.events[nodes[0]])]
        for earlier, later in itertools.pairwise(nodes):
            names = [
                name for name, part in zip(("ww", "wr", "rw"), edges, strict=True) if later in part.get(earlier, ())
            ]
            lines.append(f"  {'+'.join(names) or 'then'} -> {self.events[later]}")
        return "\n".join(lines)


def _add(edges: dict[int, set[int]], source: int, target: int) -> None:
    if source != target:
        edges.setdefault(source, set()).add(target)


def _union(*parts: dict[int, set[int]]) -> dict[int, set[int]]:
    union: dict[int, set[int]] = {}
    for part in parts:
        for node, targets in part.items():
            union.setdefault(node, set()).update(targets)
    return union
