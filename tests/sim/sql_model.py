"""What sessions wrote, and what may therefore be read: a register for each row, and the truncations of a table.

And by which schema they wrote: at every commit timestamp there is one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

OWN_ROWS = 5
OWN_STEP = 10
GROUPS = 5


@dataclass(frozen=True, slots=True)
class Row:
    """A row of `t`: everything follows from `a`, which is drawn once."""

    id: int
    a: int

    @property
    def values(self) -> tuple[int, int, int, str, int]:
        return self.id, self.a, self.a // 1000 % GROUPS, f"v{self.a}", self.a

    @classmethod
    def read(cls, found: tuple[object, ...]) -> Row:
        """Raises AssertionError when the columns do not belong together."""
        row = cls(int(found[0]), int(found[1]))  # type: ignore[call-overload]
        assert tuple(found) == row.values, f"columns do not belong together: {found}"
        return row


@dataclass(slots=True)
class Span:
    """Something that began and, unless `until` is None, was acknowledged."""

    since: float
    until: float | None = None


@dataclass(slots=True)
class Model:
    """Of rows that one session alone writes, the values that they may have: None is no row."""

    may_be: dict[int, frozenset[int | None]] = field(default_factory=dict)
    inserted: dict[int, Span] = field(default_factory=dict)
    truncated: list[Span] = field(default_factory=list)
    versions: dict[int, tuple[int, dict[int, int]]] = field(default_factory=dict)
    """By schema version: the timestamp that made it, and its tables' revisions. Those whose answer was lost lack."""
    commits: list[tuple[int, dict[int, int]]] = field(default_factory=list)
    """Timestamps of commits, and the revisions of the tables by which they wrote."""
    events: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    drawn: int = 0
    is_ready: bool = False
    is_over: bool = False
    at_work: int = 0
    """Sessions that have not ended."""

    def draw(self, row_id: int) -> Row:
        self.drawn += 1
        return Row(row_id, self.drawn * 1000 + row_id % 1000)

    @contextmanager
    def working(self) -> Iterator[None]:
        """A session, from its begin to its end or its server's."""
        self.at_work += 1
        try:
            yield
        finally:
            self.at_work -= 1

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def note(self, event: str) -> None:
        self.events.append(event)

    def values(self, row_id: int) -> frozenset[int | None]:
        return self.may_be.get(row_id, frozenset({None}))

    def check_rows(self, rows: list[Row]) -> None:
        """Raises AssertionError unless the rows are what was acknowledged."""
        found = {row.id: row.a for row in rows}
        assert len(found) == len(rows), "a row is there twice"
        for row_id, values in sorted(self.may_be.items()):
            assert found.get(row_id) in values, f"row {row_id} is {found.get(row_id)}, and may be {set(values)}"

    def check_commits(self) -> None:
        """Raises AssertionError unless every commit wrote by the schema version of its timestamp."""
        made = sorted((ts, version, tables) for version, (ts, tables) in self.versions.items())
        assert [version for _, version, _ in made] == sorted(self.versions), "versions are made out of order"
        times = [ts for ts, _, _ in made]
        for ts, used in self.commits:
            place = bisect_right(times, ts)
            if not place or (place < len(made) and made[place][1] != made[place - 1][1] + 1):
                continue  # it is not known when the next version was made
            _, version, tables = made[place - 1]
            for table, revision in used.items():
                found = tables.get(table)
                assert found == revision, (
                    f"the commit at {ts} wrote table {table} by revision {revision}; "
                    f"in version {version}, made at {times[place - 1]}, it is {found}"
                )

    def check_truncated(self, marks: set[int]) -> None:
        """Raises AssertionError unless each mark is there, or is not, as the truncations around its insert allow."""
        for mark, insert in self.inserted.items():
            if mark in marks:
                ended = insert.until
                for cut in self.truncated:
                    late = ended is not None and cut.until is not None and ended < cut.since
                    assert not late, f"mark {mark}, of {insert}, outlived {cut}"
            elif insert.until is not None:
                gone = any(cut.until is None or cut.until > insert.since for cut in self.truncated)
                assert gone, f"mark {mark}, of {insert}, is lost"
        assert marks <= self.inserted.keys(), f"nobody inserted {marks - self.inserted.keys()}"
