"""Blocks of rows that short range reads come back to, kept at their newest state by the commits themselves.

A block is the rows whose keys differ in their last byte alone: 256 neighbours of a table with integer handles. It
shows what was committed last, so it serves a reader at T if nothing in it was committed after T; any other reader goes
to the engine. Commits are told in timestamp order and before they are visible, with their values, and are laid over a
block at once: nothing is ever read again.

A block is filled when a second read asks for it. It is entered first, so that commits are noted, then a fresh snapshot
is taken and read; a commit above the snapshot's timestamp is in the notes, any other in what was read.

What a block shows is replaced as a whole, so readers take no mutex.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING

from kvstore.mvcc.chunks import Chunk

if TYPE_CHECKING:
    from kvstore.client.api import Parts
    from kvstore.client.embedded import EmbeddedStore

KEY_BYTES = 19
"""The length of a record key with an integer handle."""
BLOCK_BYTES = KEY_BYTES - 1
BLOCKS_MAX = 6
"""A range over more blocks is not for this cache."""
BUDGET_BYTES = 64 << 20
BLOCK_NBYTES_MAX = 1 << 20
"""Rows that take more are not kept: they are few to a block, and quickly read."""
ROW_BYTES = 140
"""What a row costs beside its value: its key, two objects and their places."""
TOUCHED_MAX = 4096
"""So many blocks are remembered for having been read once, and for being too large."""

Writes = Sequence[tuple[bytes, bytes | None]]
_State = tuple[int, list[bytes], list[bytes]]


class _Block:
    __slots__ = ("nbytes", "noted", "state")

    def __init__(self) -> None:
        self.state: _State | None = None
        """The timestamp from which on it serves, keys and values; None while it is being filled."""
        self.noted: list[tuple[int, bytes, bytes | None]] = []
        self.nbytes = 0

    def lay_over(self, commit_ts: int, key: bytes, value: bytes | None) -> None:
        """Takes in what a commit wrote."""
        if self.state is None:
            self.noted.append((commit_ts, key, value))
            return
        _, keys, values = self.state
        at = bisect_left(keys, key)
        there = at < len(keys) and keys[at] == key
        self.nbytes += len(value or b"") - (len(values[at]) if there else 0)
        self.nbytes += ROW_BYTES * ((value is not None) - there)
        if value is None:
            if there:
                keys, values = keys[:at] + keys[at + 1 :], values[:at] + values[at + 1 :]
        elif there:
            values = values.copy()
            values[at] = value
        else:
            keys, values = [*keys[:at], key, *keys[at:]], [*values[:at], value, *values[at:]]
        self.state = commit_ts, keys, values


class HotRanges:
    """The cache of one store; an observer of its commits."""

    def __init__(self, store: EmbeddedStore, budget_bytes: int = BUDGET_BYTES) -> None:
        self._store = store
        self._budget_bytes = budget_bytes
        self._mutex = threading.Lock()
        self._blocks: dict[bytes, _Block] = {}
        self._touched: set[bytes] = set()
        self._refused: set[bytes] = set()
        """Blocks that are too large, or hold other keys: filling them with each read would cost more than the read."""
        self.nbytes = 0

    # What the store reports

    def on_commit(self, commit_ts: int, writes: Writes, patches: Mapping[bytes, Parts]) -> None:
        blocks = self._blocks
        if not blocks:
            return
        for key, value in writes:
            prefix = key[:BLOCK_BYTES]
            if prefix in blocks:
                with self._mutex:
                    self._lay_over(prefix, commit_ts, key, value)

    def _lay_over(self, prefix: bytes, commit_ts: int, key: bytes, value: bytes | None) -> None:
        block = self._blocks.get(prefix)
        if block is None:
            return
        if len(key) != KEY_BYTES:  # of an index, or a handle of several columns, that was empty there
            _remember(self._refused, prefix)
            self._forget(prefix)
            return
        before = block.nbytes
        block.lay_over(commit_ts, key, value)
        self.nbytes += block.nbytes - before
        if block.nbytes > BLOCK_NBYTES_MAX:
            _remember(self._refused, prefix)
            self._forget(prefix)

    def on_ingest(self, commit_ts: int, start: bytes, end: bytes) -> None:
        """Forgets what the range touches; blocks that are being filled are given up."""
        with self._mutex:
            for prefix in [p for p in self._blocks if p >= start[:BLOCK_BYTES] and (not end or p < end)]:
                self._forget(prefix)

    def _forget(self, prefix: bytes) -> None:
        self.nbytes -= self._blocks.pop(prefix).nbytes

    # Reads

    def get(self, ts: int, key: bytes) -> tuple[bytes | None] | None:
        """The value of `key` at `ts` (None: there is none) in a tuple; None when the engine has to be asked."""
        block = self._blocks.get(key[:BLOCK_BYTES])
        if block is None or len(key) != KEY_BYTES:
            return None
        state = block.state
        if state is None or state[0] > ts:
            return None
        _, keys, values = state
        at = bisect_left(keys, key)
        return (values[at] if at < len(keys) and keys[at] == key else None,)

    def chunks(self, ts: int, start: bytes, end: bytes, *, reverse: bool) -> Iterator[Chunk] | None:
        """The rows of [start, end) as of `ts`; None when they have to be read from the engine.

        The caller has waited for the commits on their way that the range touches.
        """
        if len(start) != KEY_BYTES or len(end) != KEY_BYTES:
            return None
        first = int.from_bytes(start[:BLOCK_BYTES], "big")
        last = int.from_bytes(end[:BLOCK_BYTES], "big")
        if not 0 <= last - first < BLOCKS_MAX:
            return None
        found: list[Chunk] = []
        blocks = self._blocks
        for number in range(first, last + 1):
            prefix = number.to_bytes(BLOCK_BYTES, "big")
            if number == last and end[-1] == 0:
                break
            block = blocks.get(prefix)
            if block is None:
                self._touch(prefix)
                return None
            state = block.state
            if state is None or state[0] > ts:
                return None
            _, keys, values = state
            low = bisect_left(keys, start) if number == first else 0
            high = bisect_left(keys, end) if number == last else len(keys)
            if low < high:
                found.append(Chunk(keys[low:high], values[low:high]))
        if reverse:
            found = [chunk.reversed() for chunk in reversed(found)]
        return iter(found)

    def _touch(self, prefix: bytes) -> None:
        """Fills a block that is read for the second time."""
        if prefix in self._refused:
            return
        if prefix not in self._touched:
            _remember(self._touched, prefix)
            return
        block = _Block()
        with self._mutex:
            if prefix in self._blocks:
                return
            self._blocks[prefix] = block
        try:
            self._fill(prefix, block)
        except BaseException:
            with self._mutex:
                if self._blocks.get(prefix) is block:
                    self._forget(prefix)
            raise

    def _fill(self, prefix: bytes, block: _Block) -> None:
        snapshot = self._store.snapshot()
        keys: list[bytes] = []
        values: list[bytes] = []
        size = 0
        for chunk in snapshot.scan_engine(prefix + b"\x00", prefix + b"\xff\x00"):
            size += sum(map(len, chunk.values)) + len(chunk) * ROW_BYTES
            if size > BLOCK_NBYTES_MAX:
                break
            keys += chunk.keys()
            values += map(itemgetter(slice(chunk.skip, None)), chunk.values) if chunk.skip else chunk.values
        with self._mutex:
            if self._blocks.get(prefix) is not block:
                return  # a load came
            if size > BLOCK_NBYTES_MAX or not {KEY_BYTES}.issuperset(map(len, keys)):
                _remember(self._refused, prefix)
                self._forget(prefix)
                return
            if self._under_load(prefix):
                self._forget(prefix)
                return
            block.nbytes = sum(map(len, values)) + len(keys) * ROW_BYTES
            self.nbytes += block.nbytes
            block.state = snapshot.ts, keys, values
            noted, block.noted = block.noted, []
            for commit_ts, key, value in noted:
                if commit_ts > snapshot.ts:
                    self._lay_over(prefix, commit_ts, key, value)
            self._shrink()

    def _under_load(self, prefix: bytes) -> bool:
        """Whether a bulk load is going on there: it becomes visible to readers before it is reported."""
        return any(closed.overlaps(prefix, prefix + b"\xff\xff") for closed in self._store.ranges.active)

    def _shrink(self) -> None:
        """Drops the blocks that were filled first, beyond the budget."""
        for prefix in list(self._blocks):
            if self.nbytes <= self._budget_bytes:
                return
            if self._blocks[prefix].state is not None:
                self._forget(prefix)
                self._touched.discard(prefix)


def _remember(prefixes: set[bytes], prefix: bytes) -> None:
    """Adds a prefix to a set of bounded size, which begins anew when it is full."""
    if len(prefixes) >= TOUCHED_MAX:
        prefixes.clear()
    prefixes.add(prefix)
