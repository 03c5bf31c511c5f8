"""What must hold at every moment of a run, told of what the nodes do as they do it.

The cluster reports; each report is compared with all before it, and what cannot be raises `Broken`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class Broken(AssertionError):
    """An invariant does not hold."""


@dataclass(frozen=True, slots=True)
class RegionView:
    """A region as one peer has it; bounds in the encoded key space, empty end for none."""

    store: str
    region_id: int
    start: bytes
    end: bytes
    version: int
    conf_ver: int


class Invariants:
    """One leader a term, committed entries never change, leaders have them all, epochs only grow, regions tile the
    key space, timestamps only grow."""

    def __init__(self) -> None:
        self._leaders: dict[tuple[int, int], int] = {}
        self._committed: dict[int, dict[int, tuple[int, bytes, str]]] = {}
        self._last_committed: dict[int, int] = {}
        self._epochs: dict[tuple[str, int], RegionView] = {}
        self._timestamps: set[int] = set()
        self._newest_ts = 0
        self.reports = 0

    def leader(self, region_id: int, term: int, peer_id: int) -> None:
        """A peer became leader of the term."""
        self.reports += 1
        other = self._leaders.setdefault((region_id, term), peer_id)
        if other != peer_id:
            raise Broken(f"region {region_id} has two leaders in term {term}: peers {other} and {peer_id}")

    def leader_log(self, region_id: int, term: int, peer_id: int, last_index: int) -> None:
        """A new leader's log reaches to `last_index`: everything committed in earlier terms must be in it."""
        self.reports += 1
        committed = self._committed.get(region_id, {})
        known = self._last_committed.get(region_id, 0)
        if last_index < known and committed[known][0] < term:
            raise Broken(
                f"leader {peer_id} of region {region_id} in term {term} ends at {last_index}; "
                f"{known} was committed in term {committed[known][0]}"
            )

    def committed(self, store: str, region_id: int, index: int, term: int, digest: bytes) -> None:
        """A store knows an entry as committed."""
        self.reports += 1
        entries = self._committed.setdefault(region_id, {})
        there = entries.setdefault(index, (term, digest, store))
        if there[:2] != (term, digest):
            raise Broken(
                f"entry {index} of region {region_id}: {store} has term {term} {digest.hex()}, "
                f"{there[2]} has term {there[0]} {there[1].hex()}"
            )
        self._last_committed[region_id] = max(index, self._last_committed.get(region_id, 0))

    def region(self, view: RegionView) -> None:
        """A store's peer has the region so; over its crashes too, as what it told of must be durable."""
        self.reports += 1
        key = (view.store, view.region_id)
        before = self._epochs.get(key)
        if before is not None and (view.version < before.version or view.conf_ver < before.conf_ver):
            raise Broken(f"the epoch of region {view.region_id} went back: {before} then {view}")
        self._epochs[key] = view

    def destroyed(self, store: str, region_id: int) -> None:
        self._epochs.pop((store, region_id), None)

    def tiles(self, views: Iterable[RegionView], *, at_rest: bool) -> None:
        """The newest view of every region covers the key space without a hole; `at_rest`, also without overlap.

        While regions split or merge, a store that lags shows an older, larger region beside the new ones.
        """
        newest: dict[int, RegionView] = {}
        for view in views:
            known = newest.get(view.region_id)
            if known is None or (view.version, view.conf_ver) > (known.version, known.conf_ver):
                newest[view.region_id] = view
        self.reports += 1
        reach: bytes | None = b""
        for view in sorted(newest.values(), key=lambda one: one.start):
            if reach is None:
                if at_rest:
                    raise Broken(f"{view} lies behind a region without end")
                break
            if view.start > reach:
                raise Broken(f"nobody has [{reach!r}, {view.start!r})")
            if at_rest and view.start < reach:
                raise Broken(f"{view} overlaps what ends at {reach!r}")
            reach = None if view.end == b"" else max(reach, view.end)
        if reach is not None:
            raise Broken(f"nobody has what is at or behind {reach!r}")

    def timestamp(self, drawn_after: int, ts: int) -> None:
        """A timestamp was handed out to a call that began when `newest_timestamp` was `drawn_after`."""
        self.reports += 1
        if ts <= drawn_after:
            raise Broken(f"timestamp {ts} was handed out after {drawn_after}")
        if ts in self._timestamps:
            raise Broken(f"timestamp {ts} was handed out twice")
        self._timestamps.add(ts)
        self._newest_ts = max(self._newest_ts, ts)

    @property
    def newest_timestamp(self) -> int:
        return self._newest_ts
