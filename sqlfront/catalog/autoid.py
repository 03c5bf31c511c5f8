"""AUTO_INCREMENT values and hidden row ids: ranges taken from the stored counters, handed out from memory.

A counter (`IID:<table id>` for AUTO_INCREMENT, `TID:<table id>` for row ids) holds the last id that may have been
handed out. An allocator moves it ahead by a whole range before it gives out the first id of it, so a process that dies
never gives an id twice; ids of the range that were not used are lost, unless the database is closed (`close` hands
them back). Ids grow, and are not without gaps: a rolled back statement does not give its ids back, as in MySQL.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from kvstore.errors import KeyIsLocked, WriteConflict
from sqlfront.catalog.catalog import auto_id_database
from sqlfront.catalog.meta import Meta, MetaReader, auto_increment_field, row_id_field
from sqlfront.errors import error
from sqlfront.threads import OS_THREADS, Threads

if TYPE_CHECKING:
    from kvstore.client.api import Storage
    from sqlfront.catalog.model import Table

RANGE_IDS = 4000
"""Ids taken from the store at a time, at least."""
RANGE_IDS_MAX = 1 << 20
"""A range doubles each time one is used up, up to this many ids."""
CONFLICTS_MAX = 100
INT64_MAX = (1 << 63) - 1


class Allocator:
    """Ids of one counter. `next` and `end` bound the range in memory: next <= end are free."""

    __slots__ = ("_db_id", "_field", "_mutex", "_size", "_storage", "end", "most", "next")

    def __init__(
        self, storage: Storage, db_id: int, field: bytes, most: int = INT64_MAX, threads: Threads = OS_THREADS
    ) -> None:
        self._storage = storage
        self._db_id = db_id
        self._field = field
        self._mutex = threads.mutex()
        self._size = RANGE_IDS
        self.most = most
        self.next = 1
        self.end = 0

    def allocate(self, n: int = 1) -> int:
        """Returns the first of `n` consecutive ids; 1467 when the column's type has no more."""
        with self._mutex:
            first = self.next
            if first + n - 1 > self.end:
                self._extend(n)
                first = self.next
            self.next = first + n
            return first

    def rebase(self, value: int) -> None:
        """Makes every later id greater than `value`, which a user gave."""
        if value < self.next:
            return
        with self._mutex:
            if value < self.next:
                return
            if value <= self.end:
                self.next = value + 1
                return
            took: list[int] = []

            def advance(last: int) -> int:
                took.append(max(last, value))  # what is stored others may have given out
                return max(last, min(took[-1] + RANGE_IDS, self.most))

            self.end = max(self._advance(advance), value)
            self.next = took[-1] + 1

    def _extend(self, n: int) -> None:
        """Takes the next range; the rest of the present one goes on when nobody else took ids since."""
        took: list[int] = []

        def advance(last: int) -> int:
            first = self.next if last == self.end and self.end else last + 1
            if first + n - 1 > self.most:
                raise _exhausted()
            took.append(first)
            return min(max(first + n - 1, last + self._size), self.most)

        self.end = self._advance(advance)
        self.next = took[-1]
        self._size = min(self._size * 2, RANGE_IDS_MAX)

    def _advance(self, change: Callable[[int], int]) -> int:
        """Changes the stored counter and returns its new value."""
        for _ in range(CONFLICTS_MAX):
            txn = self._storage.begin(pessimistic=False)
            try:
                meta = Meta(txn)
                last = meta.auto_id(self._db_id, self._field)
                value = change(last)
                if value != last:
                    meta.set_auto_id(self._db_id, self._field, value)
                txn.commit()
            except (WriteConflict, KeyIsLocked):
                continue
            except BaseException:
                txn.rollback()
                raise
            return value
        raise _exhausted()

    def peek(self) -> int:
        """The id that would come next (SHOW TABLE STATUS)."""
        with self._mutex:
            if self.next <= self.end:
                return self.next
            return MetaReader(self._storage.snapshot()).auto_id(self._db_id, self._field) + 1

    def reset(self, value: int) -> None:
        """ALTER TABLE ... AUTO_INCREMENT = value: the next id, if greater than all before."""
        self.rebase(value - 1)

    def give_back(self) -> None:
        """Hands the unused rest of the range back to the store."""
        with self._mutex:
            if self.next > self.end:
                return
            end, used = self.end, self.next - 1
            self.end = used
            self._advance(lambda last: used if last == end else last)


class _TemporaryAllocator(Allocator):
    """Ids of a temporary table: the counter is in memory."""

    __slots__ = ("_last",)

    def __init__(self, storage: Storage, last: int, most: int) -> None:
        super().__init__(storage, 0, b"", most)
        self._last = last

    def _advance(self, change: Callable[[int], int]) -> int:
        self._last = change(self._last)
        return self._last

    def peek(self) -> int:
        return self.next if self.next <= self.end else self._last + 1


class IdSource(Protocol):
    """Where a bulk load has its ids from: as `AutoIds`."""

    def allocate(self, table: Table, n: int = 1) -> int: ...
    def rebase(self, table: Table, value: int) -> None: ...
    def allocate_row_ids(self, table: Table, n: int = 1) -> int: ...


class CountedIds:
    """Ids of a table that a load fills alone, counted on from the last ones that were in use.

    Nothing is stored, so that a load that is run again with the same rows gives them the same ids.
    """

    def __init__(self, last: int, last_row_id: int, most: int) -> None:
        self._last = last
        self._last_row_id = last_row_id
        self._most = most

    def allocate(self, table: Table, n: int = 1) -> int:
        if self._last + n > self._most:
            raise _exhausted()
        self._last += n
        return self._last - n + 1

    def rebase(self, table: Table, value: int) -> None:
        self._last = max(self._last, value)

    def allocate_row_ids(self, table: Table, n: int = 1) -> int:
        self._last_row_id += n
        return self._last_row_id - n + 1

    def store(self, autoids: AutoIds, table: Table) -> None:
        """Moves the table's counters past what was given out."""
        autoids.rebase(table, self._last)
        if not table.clustered:
            autoids.allocator(table, row_id=True).rebase(self._last_row_id)


class AutoIds:
    """The allocators of all tables of one storage."""

    def __init__(self, storage: Storage, threads: Threads = OS_THREADS) -> None:
        self._storage = storage
        self._threads = threads
        self._mutex = threading.Lock()
        self._allocators: dict[tuple[int, bool], Allocator] = {}

    def allocate(self, table: Table, n: int = 1) -> int:
        """Returns the first of `n` consecutive AUTO_INCREMENT values for the table."""
        return (self._allocators.get((table.id, True)) or self.allocator(table)).allocate(n)

    def rebase(self, table: Table, value: int) -> None:
        """Takes note of an explicit AUTO_INCREMENT value, or of the greatest of several."""
        if value > 0:
            (self._allocators.get((table.id, True)) or self.allocator(table)).rebase(value)

    def allocate_row_ids(self, table: Table, n: int = 1) -> int:
        """Returns the first of `n` consecutive hidden row ids."""
        return (self._allocators.get((table.id, False)) or self.allocator(table, row_id=True)).allocate(n)

    def allocator(self, table: Table, *, row_id: bool = False) -> Allocator:
        key = (table.id, not row_id)
        with self._mutex:
            found = self._allocators.get(key)
            if found is None:
                separate = _are_separate(table)
                field = row_id_field(table.id) if row_id else counter_of(table)
                most = INT64_MAX if row_id else most_of(table)
                if table.temporary:
                    found = _TemporaryAllocator(self._storage, max(table.info.auto_inc_id - 1, 0), most)
                else:
                    found = Allocator(self._storage, auto_id_database(table), field, most, self._threads)
                self._allocators[key] = found
                if not separate:
                    self._allocators[table.id, row_id] = found
            return found

    def last(self, table: Table) -> tuple[int, int]:
        """The greatest AUTO_INCREMENT value and hidden row id that any server may have handed out, as stored."""
        meta, db_id = MetaReader(self._storage.snapshot()), auto_id_database(table)
        return meta.auto_id(db_id, counter_of(table)), meta.auto_id(db_id, row_id_field(table.id))

    def next_value(self, table: Table) -> int:
        """The AUTO_INCREMENT value that would come next."""
        return self.allocator(table).peek()

    def give_back(self, table_id: int) -> None:
        """Hands unused ids of a table back, before it gets another id."""
        with self._mutex:
            found = {self._allocators.get((table_id, own)) for own in (True, False)}
        for allocator in found:
            if allocator is not None:
                allocator.give_back()

    def forget(self, table_id: int) -> None:
        """Drops the allocators of a table that is gone."""
        with self._mutex:
            self._allocators.pop((table_id, True), None)
            self._allocators.pop((table_id, False), None)

    def close(self) -> None:
        """Hands unused ids back; called when the database is closed in order."""
        with self._mutex:
            allocators = list(dict.fromkeys(self._allocators.values()))
            self._allocators.clear()
        for allocator in allocators:
            allocator.give_back()


def _exhausted() -> Exception:
    return error(1467, "Failed to read auto-increment value from storage engine", sqlstate="HY000")


def _are_separate(table: Table) -> bool:
    """One counter served both before TiDB's table version 5, and where AUTO_ID_CACHE is not 1."""
    return table.info.version >= 5 and table.info.auto_id_cache == 1


def counter_of(table: Table) -> bytes:
    """The field of a table's AUTO_INCREMENT counter."""
    return auto_increment_field(table.id) if _are_separate(table) else row_id_field(table.id)


def most_of(table: Table) -> int:
    """The greatest value of the AUTO_INCREMENT column's type."""
    from coprocessor.convert import int_bounds

    column = table.auto_increment
    return INT64_MAX if column is None else int(int_bounds(column.type)[1])
