"""The engine in memory: for `:memory:` databases, tests and simulations.

A column family is a two-level sorted structure: a root (first keys and leaves) over leaves of a few hundred pairs. A
view takes the root as it is and moves the family's generation on; the next write copies the root and each leaf it
touches, so what a view holds never changes, and without views nothing is copied.
"""

from __future__ import annotations

import os
import threading
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from kvstore.engine.api import COLUMN_FAMILIES, Batch, Cursor, RawIterator, Scanner, StagedFiles
from kvstore.engine.batch import replay
from kvstore.errors import StoreClosed, StoreError

LEAF_PAIRS_MAX = 512


class _Leaf:
    __slots__ = ("generation", "keys", "values")

    def __init__(self, keys: list[bytes], values: list[bytes], generation: int) -> None:
        self.keys = keys
        self.values = values
        self.generation = generation


class _Root:
    __slots__ = ("firsts", "generation", "leaves")

    def __init__(self, firsts: list[bytes], leaves: list[_Leaf], generation: int) -> None:
        self.firsts = firsts
        self.leaves = leaves
        self.generation = generation

    def leaf_index(self, key: bytes) -> int:
        """The leaf that holds `key`, or would."""
        return max(0, bisect_right(self.firsts, key) - 1)


class MemoryFamily:
    """One sorted column family."""

    def __init__(self) -> None:
        self.generation = 0
        self.root = _Root([], [], 0)

    def share(self) -> _Root:
        """Returns the present root, which stays as it is from now on."""
        self.generation += 1
        return self.root

    def _own_root(self) -> _Root:
        root = self.root
        if root.generation != self.generation:
            root = self.root = _Root(root.firsts[:], root.leaves[:], self.generation)
        return root

    def _own_leaf(self, root: _Root, index: int) -> _Leaf:
        leaf = root.leaves[index]
        if leaf.generation != self.generation:
            leaf = root.leaves[index] = _Leaf(leaf.keys[:], leaf.values[:], self.generation)
        return leaf

    def get(self, key: bytes) -> bytes | None:
        root = self.root
        if not root.leaves:
            return None
        leaf = root.leaves[root.leaf_index(key)]
        at = bisect_left(leaf.keys, key)
        return leaf.values[at] if at < len(leaf.keys) and leaf.keys[at] == key else None

    def put(self, key: bytes, value: bytes) -> None:
        root = self._own_root()
        if not root.leaves:
            root.firsts.append(key)
            root.leaves.append(_Leaf([key], [value], self.generation))
            return
        index = root.leaf_index(key)
        leaf = self._own_leaf(root, index)
        at = bisect_left(leaf.keys, key)
        if at < len(leaf.keys) and leaf.keys[at] == key:
            leaf.values[at] = value
            return
        leaf.keys.insert(at, key)
        leaf.values.insert(at, value)
        if at == 0:
            root.firsts[index] = key
        if len(leaf.keys) > LEAF_PAIRS_MAX:
            self._split(root, index, leaf, at)

    def _split(self, root: _Root, index: int, leaf: _Leaf, at: int) -> None:
        # an append at the end leaves the full leaf behind: ascending loads get full leaves
        half = len(leaf.keys) - 1 if at == len(leaf.keys) - 1 else len(leaf.keys) // 2
        right = _Leaf(leaf.keys[half:], leaf.values[half:], self.generation)
        del leaf.keys[half:], leaf.values[half:]
        root.firsts.insert(index + 1, right.keys[0])
        root.leaves.insert(index + 1, right)

    def delete(self, key: bytes) -> None:
        if self.get(key) is None:
            return
        root = self._own_root()
        index = root.leaf_index(key)
        leaf = self._own_leaf(root, index)
        at = bisect_left(leaf.keys, key)
        del leaf.keys[at], leaf.values[at]
        if not leaf.keys:
            del root.firsts[index], root.leaves[index]
        elif at == 0:
            root.firsts[index] = leaf.keys[0]

    def delete_range(self, begin: bytes, end: bytes) -> None:
        root = self._own_root()
        index = root.leaf_index(begin) if root.leaves else 0
        while index < len(root.leaves) and root.leaves[index].keys[0] < end:
            leaf = self._own_leaf(root, index)
            low, high = bisect_left(leaf.keys, begin), bisect_left(leaf.keys, end)
            del leaf.keys[low:high], leaf.values[low:high]
            if leaf.keys:
                root.firsts[index] = leaf.keys[0]
                index += 1
            else:
                del root.firsts[index], root.leaves[index]

    def pairs(self) -> int:
        return sum(len(leaf.keys) for leaf in self.root.leaves)


class MemoryIterator:
    """A position over a shared root; not valid outside its bounds."""

    __slots__ = ("_at", "_index", "_leaf", "_root", "_upper")

    def __init__(self, root: _Root, upper: bytes | None) -> None:
        self._root = root
        self._upper = upper
        self._index = 0
        self._at = 0
        self._leaf: _Leaf | None = None

    def _settle(self, index: int, at: int) -> None:
        leaves = self._root.leaves
        if index < len(leaves) and at >= len(leaves[index].keys):
            index, at = index + 1, 0
        if at < 0:
            index -= 1
            at = len(leaves[index].keys) - 1 if 0 <= index < len(leaves) else 0
        if not 0 <= index < len(leaves):
            self._leaf = None
            return
        leaf = leaves[index]
        key = leaf.keys[at]
        if self._upper is not None and key >= self._upper:
            self._leaf = None
            return
        self._leaf, self._index, self._at = leaf, index, at

    def seek(self, key: bytes) -> None:
        root = self._root
        if not root.leaves:
            self._leaf = None
            return
        index = root.leaf_index(key)
        self._settle(index, bisect_left(root.leaves[index].keys, key))

    def seek_for_prev(self, key: bytes) -> None:
        root = self._root
        if self._upper is not None and key >= self._upper:
            self._seek_before(self._upper)
            return
        if not root.leaves:
            self._leaf = None
            return
        index = root.leaf_index(key)
        self._settle(index, bisect_right(root.leaves[index].keys, key) - 1)

    def _seek_before(self, key: bytes) -> None:
        root = self._root
        if not root.leaves:
            self._leaf = None
            return
        index = root.leaf_index(key)
        self._settle(index, bisect_left(root.leaves[index].keys, key) - 1)

    def seek_to_first(self) -> None:
        self._leaf = None
        if self._root.leaves:
            self._settle(0, 0)

    def seek_to_last(self) -> None:
        if self._upper is not None:
            self._seek_before(self._upper)
            return
        self._leaf = None
        if self._root.leaves:
            last = len(self._root.leaves) - 1
            self._settle(last, len(self._root.leaves[last].keys) - 1)

    def next(self) -> None:
        if self._leaf is not None:
            self._settle(self._index, self._at + 1)

    def prev(self) -> None:
        if self._leaf is not None:
            self._settle(self._index, self._at - 1)

    def valid(self) -> bool:
        return self._leaf is not None

    def key(self) -> bytes | None:
        leaf = self._leaf
        return None if leaf is None else leaf.keys[self._at]

    def value(self) -> bytes | None:
        leaf = self._leaf
        return None if leaf is None else leaf.values[self._at]

    def status(self) -> None:
        """Memory does not fail."""

    def take(self, pairs: int) -> list[bytes]:
        """The next pairs from here on, flat, moving behind them."""
        flat: list[bytes] = []
        while self._leaf is not None and len(flat) < 2 * pairs:
            leaf, at = self._leaf, self._at
            stop = min(len(leaf.keys), at + pairs - len(flat) // 2)
            if self._upper is not None and leaf.keys[stop - 1] >= self._upper:
                stop = bisect_left(leaf.keys, self._upper)
            flat.extend(chain.from_iterable(zip(leaf.keys[at:stop], leaf.values[at:stop], strict=True)))
            self._settle(self._index, stop)
        return flat

    def take_back(self, pairs: int, start: bytes) -> list[bytes]:
        """The pairs from here down to `start`, flat and descending, moving before them."""
        flat: list[bytes] = []
        while self._leaf is not None and len(flat) < 2 * pairs:
            key = self._leaf.keys[self._at]
            if key < start:
                self._leaf = None
                break
            flat += (key, self._leaf.values[self._at])
            self._settle(self._index, self._at - 1)
        return flat


class MemoryCursor:
    """See `api.Cursor`."""

    __slots__ = ("__weakref__", "_engine", "_family", "_upper", "raw", "seq")

    def __init__(self, engine: MemoryEngine, family: MemoryFamily | None, upper: bytes | None) -> None:
        self._engine = engine
        self._family = family
        self._upper = upper
        self.raw: RawIterator | None = None
        self.seq = -1

    def refresh(self) -> RawIterator:
        engine = self._engine
        with engine.mutex:
            if self._family is None:
                raise StoreClosed("the store is closed")
            self.seq = engine.write_seq
            raw = self.raw = MemoryIterator(self._family.share(), self._upper)
        return raw

    def release(self) -> None:
        self.seq = -1
        self.raw = None

    def close(self) -> None:
        self._family = None
        self.release()


class MemoryScanner:
    """See `api.Scanner`."""

    __slots__ = ("__weakref__", "_iterator", "_reverse", "_start")

    def __init__(self, root: _Root, start: bytes, end: bytes, reverse: bool) -> None:
        iterator = MemoryIterator(root, end)
        self._start = start
        self._reverse = reverse
        if reverse:
            iterator.seek_to_last()
        else:
            iterator.seek(start)
        self._iterator: MemoryIterator | None = iterator

    def take(self, pairs: int) -> list[bytes]:
        iterator = self._iterator
        if iterator is None:
            raise StoreClosed("the store is closed")
        if self._reverse:
            return iterator.take_back(pairs, self._start)
        return iterator.take(pairs)

    def release(self) -> None:
        self._iterator = None

    close = release


class MemoryBatch:
    """Changes in the order they were made."""

    __slots__ = ("_families", "changes", "size")

    def __init__(self, families: Mapping[str, MemoryFamily]) -> None:
        """`families` are all of the engine, in their order."""
        self._families = families
        self.changes: list[tuple[MemoryFamily, bytes, bytes | None, bytes | None]] = []
        self.size = 0

    def put(self, key: bytes, value: bytes, column_family: Any) -> None:
        self.size += len(key) + len(value)
        self.changes.append((column_family, key, value, None))

    def put_all(self, pairs: Iterable[tuple[bytes, bytes]], column_family: Any) -> None:
        for key, value in pairs:
            self.put(key, value, column_family)

    def delete(self, key: bytes, column_family: Any) -> None:
        self.changes.append((column_family, key, None, None))

    def delete_range(self, begin: bytes, end: bytes, column_family: Any) -> None:
        self.changes.append((column_family, begin, None, end))

    def add_record(self, record: bytes) -> int:
        return replay(record, self, list(self._families.values()))


class MemoryFileWriter:
    """A sorted run that waits to be ingested."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.keys: list[bytes] = []
        self.values: list[bytes] = []

    def put_all(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        self.keys.extend(keys)
        self.values.extend(values)

    def finish(self) -> None:
        """Nothing to write out."""


class MemoryEngine:
    """Sorted column families in memory; gone when closed."""

    def __init__(self) -> None:
        self.path: str | None = None
        self.write_seq = self.write_begun = 0
        self.mutex = threading.RLock()
        self._families: dict[str, MemoryFamily] = {cf: MemoryFamily() for cf in COLUMN_FAMILIES}
        self._cursors: weakref.WeakSet[MemoryCursor | MemoryScanner] = weakref.WeakSet()
        self._closed = False
        self._staged: StagedFiles | None = None

    @property
    def staged(self) -> StagedFiles:
        if self._staged is None:
            from kvstore.engine.staged import MemoryFiles

            self._staged = MemoryFiles(self)
        return self._staged

    def _family(self, cf: str) -> MemoryFamily:
        if self._closed:
            raise StoreClosed("the store is closed")
        return self._families[cf]

    def handle(self, cf: str) -> Any:
        return self._family(cf)

    def get(self, cf: str, key: bytes) -> bytes | None:
        with self.mutex:
            return self._family(cf).get(key)

    def cursor(self, cf: str, upper: bytes | None = None) -> Cursor:
        cursor = MemoryCursor(self, self._family(cf), upper)
        with self.mutex:
            self._cursors.add(cursor)
            cursor.refresh()
        return cursor

    def scanner(self, cf: str, start: bytes, end: bytes, *, reverse: bool = False) -> Scanner:
        with self.mutex:
            scanner = MemoryScanner(self._family(cf).share(), start, end, reverse)
            self._cursors.add(scanner)
        return scanner

    def view(self, families: Sequence[str]) -> list[Cursor]:
        with self.mutex:
            return [self.cursor(cf) for cf in families]

    def batch(self) -> Batch:
        if self._closed:
            raise StoreClosed("the store is closed")
        return MemoryBatch(self._families)

    def write(self, batch: Batch) -> None:
        if not isinstance(batch, MemoryBatch):
            raise TypeError(f"not a batch of this engine: {batch!r}")
        with self.mutex:
            if self._closed:
                raise StoreClosed("the store is closed")
            self.write_begun = self.write_seq + 1
            for family, key, value, end in batch.changes:
                if value is not None:
                    family.put(key, value)
                elif end is None:
                    family.delete(key)
                else:
                    family.delete_range(key, end)
            self.write_seq += 1

    def hand_over(self) -> None:
        """Memory is lost with the process."""

    def sync(self) -> None:
        """Memory has nothing to sync; a closed store still says so."""
        if self._closed:
            raise StoreClosed("the store is closed")

    def delete_range(self, cf: str, start: bytes, end: bytes) -> None:
        batch = self.batch()
        batch.delete_range(start, end, self.handle(cf))
        self.write(batch)

    def sorted_file(self, cf: str, path: str) -> MemoryFileWriter:
        self._family(cf)
        return MemoryFileWriter(path)

    def ingest(self, cf: str, files: Sequence[Any]) -> None:
        with self.mutex:
            family = self._family(cf)
            self.write_begun = self.write_seq + 1
            for file in files:
                for key, value in zip(file.keys, file.values, strict=True):
                    family.put(key, value)
            self.write_seq += 1

    def checkpoint(self, path: str) -> None:
        """Writes the families into a new RocksDB directory, so that the copy outlives the process."""
        from kvstore.engine.rocks import RocksEngine

        if os.path.exists(path):
            raise StoreError(f"backup to {path!r}: it already exists")
        with self.mutex:
            roots = {cf: self._family(cf).share() for cf in COLUMN_FAMILIES}
        target = RocksEngine(path)
        try:
            for cf, root in roots.items():
                for leaf in root.leaves:
                    batch = target.batch()
                    for key, value in zip(leaf.keys, leaf.values, strict=True):
                        batch.put(key, value, target.handle(cf))
                    target.write(batch)
            target.sync()
        finally:
            target.close()

    def flush(self) -> None:
        """Memory has nothing to flush."""

    def compact(self, cf: str, start: bytes | None = None, end: bytes | None = None) -> None:
        """Memory is always compact."""

    def is_empty(self, cf: str) -> bool:
        return not self._family(cf).root.leaves

    def stats(self) -> dict[str, Any]:
        sizes: dict[str, Any] = {"write_seq": self.write_seq}
        for cf in COLUMN_FAMILIES:
            sizes[cf] = {"estimated_keys": self._family(cf).pairs()}
        return sizes

    def disown(self, error: StoreError) -> None:
        """A child has its own copy of the memory; the store above refuses to use it."""

    def close(self) -> None:
        with self.mutex:
            self._closed = True
            for cursor in list(self._cursors):
                cursor.close()
            self._families = {cf: MemoryFamily() for cf in COLUMN_FAMILIES}
