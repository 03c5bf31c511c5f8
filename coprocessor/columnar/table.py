"""What is known of one table of the replica: where it stands, and what is still to be applied to it."""

from __future__ import annotations

import enum
import json
from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

import pyarrow as pa

from coprocessor.columnar.key_index import OPEN, Choice
from coprocessor.columnar.layout import Layout, blob
from kvstore.client.api import Parts

CHANGED_MAX = 1_000_000
"""So many changes are remembered for readers of the past; older readers take the row path."""
UPDATED_COLUMNS_MAX = 6
"""Rows in which more columns changed are deleted and added again: each column's values are read and written apart."""
UPDATED_SHARE_MIN = 0.5
"""So are all, where fewer can be updated: it takes a second look for the keys."""
OVERLAY_KEYS_MAX = 50_000
"""A reader of the past for whom more keys have changed takes the row path."""

Entry = tuple[int, bytes, bytes | None, Parts | None]
"""commit_ts, record key, value (None: deleted), and the ids of the columns that may differ from the row before (None:
any, or there was none)."""

_commit_ts = itemgetter(0)
_NONE: tuple[frozenset[bytes], Parts] = (frozenset(), frozenset())


class Status(enum.Enum):
    """Whether a table can be read."""

    BUILDING = "building"
    READY = "ready"
    REFUSED = "refused"


class Batch(NamedTuple):
    """What is pending up to a timestamp: the newest value of each key, and all entries in order of commit.

    `behind` of the keys are not above all rows. The rows of the `patched` keys are there, and are to be updated in the
    `columns` of these ids. The entries are among the first `seen` of the pending ones, of which `rest` stay.
    """

    newest: dict[bytes, bytes | None]
    behind: int
    patched: frozenset[bytes]
    columns: Parts
    entries: Sequence[Entry]
    seen: int
    rest: list[Entry]


class ReplicaTable:
    """One table. Commits append to `pending` at any time; everything else changes under the replica's mutex."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.status = Status.BUILDING
        self.reason: str | None = None
        """Why it cannot be read."""
        self.generation = 0
        """Grows when what was built before is not good any more."""
        self.pending: list[Entry] = []
        self.applied_ts = 0
        """The rows are those that a reader at this timestamp sees."""
        self.change_ts = 0
        """The last commit among what was applied."""
        self.unsaved = False
        """Whether the rows in the file are ahead of the position there."""
        self.history_from = 0
        """Readers at or above it can be served."""
        self.changed: list[tuple[int, bytes]] = []
        """Keys that commits above `history_from` wrote, as applied, in order of commit."""
        self.max_key = b""
        """No row has a key above it."""
        self.padded: set[int] = set()
        """Ids of text columns that may hold values with a space at the end."""
        self.dead = 0
        """About so many rows were deleted since the table was laid out."""
        self.rows = 0
        """About so many rows are in it."""
        self.key_index: Choice = OPEN

    @property
    def table_id(self) -> int:
        return self.layout.codec.table_id

    @property
    def wants_index(self) -> bool:
        """Whether it is to be laid out anew for an index."""
        return self.key_index.is_due(self.layout, self.rows)

    def delete_sql(self, keys: pa.RecordBatch) -> str:
        """How rows with these keys are deleted soonest; to be run over them, where it reads RELATION."""
        return self.key_index.delete_sql(self.layout, keys, self.rows)

    def update_sql(self, changed: pa.RecordBatch) -> str:
        """How these columns of rows with these keys are updated soonest; to be run over them."""
        return self.key_index.update_sql(self.layout, changed, self.rows)

    def position_sql(self) -> str:
        """Notes where the table stands, what is in it, and what must be known to go on from there."""
        padded = json.dumps(sorted(self.padded))
        return (
            f"UPDATE replica.main.tables SET applied_ts = {self.applied_ts}, change_ts = {self.change_ts}, "
            f"max_key = {blob(self.max_key)}, padded = '{padded}' WHERE table_id = {self.table_id}"
        )

    def note(self, commit_ts: int, key: bytes, value: bytes | None, parts: Parts | None) -> None:
        """Takes in a write of a commit. Commits come in order but for rare exceptions."""
        self.pending.append((commit_ts, key, value, parts))

    def take(self, ts: int) -> Batch:
        """What is to be applied to come to `ts`, when every such commit has been told; it stays pending until
        `applied`."""
        pending = self.pending[:]
        rest = [entry for entry in pending if entry[0] > ts]
        entries = sorted([entry for entry in pending if entry[0] <= ts] if rest else pending, key=_commit_ts)
        newest = {key: value for _, key, value, _ in entries}
        behind = sum(map(self.max_key.__ge__, newest))
        patched, columns = self._patched(entries)
        if len(columns) > UPDATED_COLUMNS_MAX or len(patched) < behind * UPDATED_SHARE_MIN:
            patched, columns = _NONE
        return Batch(newest, behind, patched, columns, entries, len(pending), rest)

    def _patched(self, entries: Sequence[Entry]) -> tuple[frozenset[bytes], Parts]:
        """The keys whose rows can be updated where they lie, and the columns in which any of them may differ."""
        patches: dict[bytes, Parts | None] = {}
        for _, key, _, parts in entries:
            if parts is None:
                patches[key] = None
            elif (known := patches.setdefault(key, parts)) is not parts and known is not None:
                patches[key] = known | parts
        # columns that are not in the table were dropped since
        held = {parts: parts & self.layout.types.keys() for parts in set(patches.values()) if parts is not None}
        fit = {parts: columns for parts, columns in held.items() if columns <= self.layout.updatable}
        patched = frozenset(key for key, parts in patches.items() if parts in fit)
        return patched, frozenset().union(*fit.values())

    def drop_until(self, ts: int) -> None:
        """Forgets what is pending at or below `ts`: the rows have it."""
        batch = self.take(ts)
        self.pending[: batch.seen] = batch.rest

    def applied(self, ts: int, batch: Batch) -> None:
        """The table stands at `ts`, the batch is in it."""
        if batch.entries:
            self.changed += [(commit_ts, key) for commit_ts, key, _, _ in batch.entries]
            self.pending[: batch.seen] = batch.rest
            self.change_ts, self.unsaved = batch.entries[-1][0], True
            self.dead += batch.behind - len(batch.patched)
            self.rows += len(batch.newest) - batch.behind
            self.max_key = max(self.max_key, max(batch.newest))
            if len(self.changed) > CHANGED_MAX:
                gone = len(self.changed) - CHANGED_MAX // 2
                self.history_from = self.changed[gone - 1][0]
                del self.changed[:gone]
        self.applied_ts = max(self.applied_ts, ts)

    def forget_history(self, ts: int) -> None:
        """Nobody reads below `ts` any more."""
        if ts > self.history_from:
            del self.changed[: bisect_right(self.changed, ts, key=_commit_ts)]
            self.history_from = min(ts, self.applied_ts)

    def changed_since(self, ts: int) -> list[bytes] | None:
        """The keys, ascending, whose rows may differ from what a reader at `ts` sees; None when it cannot be told or
        there are too many."""
        if ts < self.history_from:
            return None
        keys = {key for _, key in self.changed[bisect_right(self.changed, ts, key=_commit_ts) :]}
        return sorted(keys) if len(keys) <= OVERLAY_KEYS_MAX else None

    def restart(self, ts: int) -> None:
        """The table was read anew at `ts`: what was pending at or below it is in it."""
        self.drop_until(ts)
        self.changed = []
        self.dead = 0
        self.unsaved = False
        self.applied_ts = self.history_from = ts

    def lies_in(self, start: bytes, end: bytes) -> bool:
        """Whether a bulk load of the range (an empty `end`: without one) may change the table."""
        low, high = self.layout.codec.record_range
        return start < high and (not end or low < end)
