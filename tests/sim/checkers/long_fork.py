"""Long fork: two snapshots must be one before the other; none may see x without y while another sees y without x.

Every key is written once, by a transaction of its own; readers read a group of keys at one snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.sim.checkers import Anomaly
from tests.sim.history import Event, Outcome


@dataclass(frozen=True, slots=True)
class WriteOne:
    key: bytes


@dataclass(frozen=True, slots=True)
class ReadGroup:
    """The result is, for each key of the group, whether it was there."""

    keys: tuple[bytes, ...]


ForkEvent = Event[WriteOne | ReadGroup, Mapping[bytes, bool]]


def check_long_fork(events: Sequence[ForkEvent]) -> list[Anomaly]:
    """Compares the reads of each group pairwise, and with the writes that had returned before them."""
    groups: dict[tuple[bytes, ...], list[ForkEvent]] = {}
    written: dict[bytes, ForkEvent] = {}
    for event in events:
        if isinstance(event.action, WriteOne):
            written[event.action.key] = event
        elif event.outcome is Outcome.OK:
            groups.setdefault(event.action.keys, []).append(event)
    anomalies: list[Anomaly] = []
    for reads in groups.values():
        seen = [(read, frozenset(key for key, there in (read.result or {}).items() if there)) for read in reads]
        for at, (read, keys) in enumerate(seen):
            anomalies += _against_writes(read, keys, written)
            for other, other_keys in seen[:at]:
                if not (keys <= other_keys or other_keys <= keys):
                    anomalies.append(Anomaly("long fork", f"{other} and {read}"))
    return anomalies


def _against_writes(read: ForkEvent, seen: frozenset[bytes], written: Mapping[bytes, ForkEvent]) -> list[Anomaly]:
    anomalies = []
    assert isinstance(read.action, ReadGroup)
    for key in read.action.keys:
        write = written.get(key)
        if key in seen and (write is None or write.outcome is Outcome.FAILED):
            anomalies.append(Anomaly("unexpected", f"nobody wrote {key!r}: {read}"))
        elif key not in seen and write is not None and write.outcome is Outcome.OK and write.before(read):
            anomalies.append(Anomaly("stale read", f"{write} is not in {read}"))
    return anomalies
