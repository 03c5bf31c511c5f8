"""The rows of a session's temporary tables: in memory, under the keys and values that a store would have.

`LayeredStorage` is the session's storage with these rows beside it. What reads or writes by keys is sent to one or the
other by the table's id in the key, so that access paths, joins, writers and savepoints go the same way for both kinds
of tables; nothing of a temporary table reaches the store.

Nobody else sees these rows, so there are no versions and no locks: a transaction changes them in place and notes what
was there before. That undoes a statement, goes back to a savepoint and rolls back. A result that is still being read
keeps the ranges that it has begun, and looks up what is there by then.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from coprocessor.codec.keys import table_range
from kvstore.client.api import ReadFrom
from kvstore.errors import KeyExists, TxnTooLarge
from sqlfront.catalog.model import TEMPORARY_ID_MIN, Table
from sqlfront.errors import error
from sqlfront.exec.own_writes import batches_of, chunks_of

if TYPE_CHECKING:
    from kvstore.client.api import (
        CancelToken,
        Chunk,
        CommitCheck,
        PackedBatch,
        Parts,
        PushDown,
        Reader,
        Storage,
        Transaction,
    )

FIRST_KEY = table_range(TEMPORARY_ID_MIN)[0]
"""The keys of temporary tables are those from here on."""
PREFIX_BYTES = len(FIRST_KEY)
UNDO_BYTES_MAX = 256 << 20
"""What a transaction notes of values that it has replaced, in bytes."""
BASE_MARK_BITS = 40
"""A layered transaction's mark is that of the store's in the low bits, and that of these rows above them: a mark from
before there were temporary tables is one of no change to them."""
ER_RECORD_FILE_FULL = 1114

Pair = tuple[bytes, bytes]


class _Rows:
    """The pairs of one table, in key order when asked."""

    __slots__ = ("_added", "_order", "bytes", "limit", "name", "pairs")

    def __init__(self, name: str, limit: Callable[[], int]) -> None:
        self.name = name
        self.limit = limit
        """How many bytes of keys and values it may have."""
        self.pairs: dict[bytes, bytes] = {}
        self.bytes = 0
        self._order: list[bytes] | None = []
        self._added: list[bytes] = []

    def set(self, key: bytes, value: bytes | None) -> None:
        """Puts or takes out (None) a pair."""
        old = self.pairs.get(key)
        if old is not None:
            self.bytes -= len(key) + len(old)
        if value is None:
            if old is not None:
                del self.pairs[key]
                self._order = None
            return
        self.pairs[key] = value
        self.bytes += len(key) + len(value)
        if old is None:
            self._added.append(key)

    def range(self, start: bytes, end: bytes) -> list[Pair]:
        keys, pairs = self._keys(), self.pairs
        last = bisect_left(keys, end) if end else len(keys)
        return [(key, pairs[key]) for key in keys[bisect_left(keys, start) : last]]

    def _keys(self) -> list[bytes]:
        if self._order is None:
            self._order = sorted(self.pairs)
        elif self._added:
            self._order += self._added
            self._order.sort()  # of two runs, which costs no more than to merge them
        if self._added:
            self._added = []
        return self._order


class TemporaryRows:
    """The rows of all temporary tables of a session, and what undoes the changes of the open transaction."""

    def __init__(self) -> None:
        self._tables: dict[bytes, _Rows] = {}
        self._undo: list[tuple[_Rows, bytes, bytes | None]] = []
        self._undo_bytes = 0

    def add(self, table: Table, limit: Callable[[], int]) -> None:
        """Begins an empty table; `limit` is the number of bytes that it may have."""
        self._tables[table_range(table.id)[0]] = _Rows(table.name, limit)

    def remove(self, table: Table) -> None:
        """Drops a table with its rows, for good: no rollback brings them back."""
        self._tables.pop(table_range(table.id)[0], None)

    def __contains__(self, key: bytes) -> bool:
        """Whether it is for a temporary table to have the key."""
        return key >= FIRST_KEY

    def get(self, key: bytes) -> bytes | None:
        rows = self._tables.get(key[:PREFIX_BYTES])
        return None if rows is None else rows.pairs.get(key)

    def range(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[Pair]:
        """The pairs of a range of one table as they are now."""
        rows = self._tables.get(start[:PREFIX_BYTES])
        pairs = [] if rows is None else rows.range(start, end)
        return reversed(pairs) if reverse else iter(pairs)

    def set(self, key: bytes, value: bytes | None) -> None:
        """Puts or deletes (None). Raises 1114 when the table has no room for it."""
        rows = self._tables.get(key[:PREFIX_BYTES])
        if rows is None:  # dropped while a statement that writes it ran
            return
        old = rows.pairs.get(key)
        self._undo.append((rows, key, old))
        self._undo_bytes += len(key) + (0 if old is None else len(old))
        if self._undo_bytes > UNDO_BYTES_MAX:
            raise TxnTooLarge(f"transaction changes more than {UNDO_BYTES_MAX} bytes of temporary tables")
        rows.set(key, value)
        if value is not None and rows.bytes > rows.limit():
            raise error(ER_RECORD_FILE_FULL, f"The table '{rows.name}' is full", sqlstate="HY000")

    def insert(self, key: bytes, value: bytes) -> None:
        if self.get(key) is not None:
            raise KeyExists(key, value)
        self.set(key, value)

    def mark(self) -> int:
        return len(self._undo)

    def undo_to(self, mark: int) -> None:
        undo = self._undo
        while len(undo) > mark:
            rows, key, old = undo.pop()
            self._undo_bytes -= len(key) + (0 if old is None else len(old))
            rows.set(key, old)

    def settle(self, mark: int) -> None:
        """Makes the changes since a mark final; those before it are another transaction's, which may undo them."""
        if not mark:
            self._undo.clear()
            self._undo_bytes = 0


class LayeredStorage:
    """Implements `api.Transactional` over a store and temporary rows."""

    def __init__(self, base: Storage, rows: TemporaryRows) -> None:
        self._base = base
        self.rows = rows

    @property
    def push_down(self) -> PushDown | None:
        return self._base.push_down

    def now_ts(self) -> int:
        return self._base.now_ts()

    def begin(self, *, pessimistic: bool = True, start_ts: int | None = None) -> Transaction:
        return LayeredTransaction(self._base.begin(pessimistic=pessimistic, start_ts=start_ts), self.rows)

    def snapshot(self, ts: int | None = None, *, read: ReadFrom = ReadFrom.LEADER) -> Reader:
        return LayeredReader(self._base.snapshot(ts, read=read), self.rows)

    def get_latest(self, key: bytes, *, read: ReadFrom = ReadFrom.LEADER) -> bytes | None:
        return self.rows.get(key) if key in self.rows else self._base.get_latest(key, read=read)

    def write(
        self,
        writes: dict[bytes, bytes | None],
        inserts: Collection[bytes],
        *,
        wait_ms: int,
        cancel: CancelToken | None = None,
        check: CommitCheck | None = None,
    ) -> int:
        """Of one table, as all that is written in one go."""
        if next(iter(writes)) not in self.rows:
            return self._base.write(writes, inserts, wait_ms=wait_ms, cancel=cancel, check=check)
        mark = self.rows.mark()
        try:
            for key in inserts:
                if self.rows.get(key) is not None:
                    raise KeyExists(key, writes[key] or b"")
            for key, value in writes.items():
                self.rows.set(key, value)
        except BaseException:
            self.rows.undo_to(mark)
            raise
        self.rows.settle(mark)
        return 0


class LayeredReader:
    """Implements `api.Reader`: a reader of the store, and the temporary rows as they are."""

    def __init__(self, base: Reader, rows: TemporaryRows) -> None:
        self._reader = base
        self._rows = rows

    @property
    def ts(self) -> int:
        return self._reader.ts

    def get(self, key: bytes) -> bytes | None:
        return self._rows.get(key) if key in self._rows else self._reader.get(key)

    def batch_get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        wanted = list(keys)
        own = _found(self._rows, wanted)
        if own is None:
            return self._reader.batch_get(wanted)
        rest = [key for key in wanted if key not in self._rows]
        return own | self._reader.batch_get(rest) if rest else own

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[Pair]:
        if start in self._rows:
            return self._rows.range(start, end, reverse=reverse)
        return self._reader.scan(start, end, reverse=reverse)

    def scan_chunks(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[Chunk]:
        if start in self._rows:
            return chunks_of(self._rows.range(start, end, reverse=reverse))
        return self._reader.scan_chunks(start, end, reverse=reverse)

    def scan_packed(self, start: bytes, end: bytes, *, batch_rows: int = 65536) -> Iterator[PackedBatch]:
        if start in self._rows:
            return batches_of(self._rows.range(start, end), batch_rows)
        return self._reader.scan_packed(start, end, batch_rows=batch_rows)


def _found(rows: TemporaryRows, keys: Sequence[bytes]) -> dict[bytes, bytes] | None:
    """The values of those keys that temporary tables have; None when no key is for them to have."""
    own = [key for key in keys if key in rows]
    return {key: value for key in own if (value := rows.get(key)) is not None} if own else None


class LayeredTransaction(LayeredReader):
    """Implements `api.Transaction`: one of the store, and the changes of temporary rows that end with it.

    What it has written to temporary tables does not count as dirty: readers find it where the rows are.
    """

    def __init__(self, base: Transaction, rows: TemporaryRows) -> None:
        super().__init__(base, rows)
        self._base = base
        self._begun = rows.mark()
        self._over = False
        self.pessimistic = base.pessimistic

    @property
    def start_ts(self) -> int:
        return self._base.start_ts

    @property
    def cancel(self) -> CancelToken | None:
        return self._base.cancel

    @cancel.setter
    def cancel(self, value: CancelToken | None) -> None:
        self._base.cancel = value

    @property
    def lock_wait_ms(self) -> int:
        return self._base.lock_wait_ms

    @lock_wait_ms.setter
    def lock_wait_ms(self, value: int) -> None:
        self._base.lock_wait_ms = value

    def at(self, ts: int) -> Reader:
        return LayeredReader(self._base.at(ts), self._rows)

    # Writing

    def put(self, key: bytes, value: bytes) -> None:
        if key in self._rows:
            self._rows.set(key, value)
        else:
            self._base.put(key, value)

    def patch(self, key: bytes, value: bytes, parts: Parts) -> None:
        if key in self._rows:
            self._rows.set(key, value)
        else:
            self._base.patch(key, value, parts)

    def insert(self, key: bytes, value: bytes) -> None:
        if key in self._rows:
            self._rows.insert(key, value)
        else:
            self._base.insert(key, value)

    def delete(self, key: bytes) -> None:
        if key in self._rows:
            self._rows.set(key, None)
        else:
            self._base.delete(key)

    def dirty(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes | None]]:
        return [] if start in self._rows else self._base.dirty(start, end)

    def has_dirty(self, start: bytes, end: bytes) -> bool:
        return start not in self._rows and self._base.has_dirty(start, end)

    def before(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        return self._base.before(keys)

    def shade(self, prefix: bytes, shades: Mapping[bytes, bytes | None]) -> None:
        assert prefix not in self._rows, prefix
        self._base.shade(prefix, shades)

    def is_shaded(self, prefix: bytes) -> bool:
        return prefix in self._rows or self._base.is_shaded(prefix)

    # Locks, which temporary rows need none of

    def lock_keys(
        self, keys: Sequence[bytes], *, for_update_ts: int, wait_ms: int, skip_locked: bool = False
    ) -> list[bytes]:
        rest = [key for key in keys if key not in self._rows]
        if not rest:
            return list(keys)
        got = self._base.lock_keys(rest, for_update_ts=for_update_ts, wait_ms=wait_ms, skip_locked=skip_locked)
        if len(rest) == len(keys):
            return got
        locked = set(got)
        return [key for key in keys if key in self._rows or key in locked]

    def lock_and_get(self, keys: Sequence[bytes], *, for_update_ts: int = 0, wait_ms: int) -> dict[bytes, bytes]:
        own = _found(self._rows, keys)
        if own is None:
            return self._base.lock_and_get(keys, for_update_ts=for_update_ts, wait_ms=wait_ms)
        rest = [key for key in keys if key not in self._rows]
        return own | self._base.lock_and_get(rest, for_update_ts=for_update_ts, wait_ms=wait_ms) if rest else own

    def witness(self, keys: Iterable[bytes]) -> None:
        self._base.witness(keys)

    # The end

    def mark(self) -> int:
        return self._rows.mark() << BASE_MARK_BITS | self._base.mark()

    def undo_to(self, mark: int) -> None:
        self._rows.undo_to(mark >> BASE_MARK_BITS)
        self._base.undo_to(mark & (1 << BASE_MARK_BITS) - 1)

    @property
    def is_dirty(self) -> bool:
        return self._rows.mark() > self._begun or self._base.is_dirty

    def commit(self, check: CommitCheck | None = None) -> int:
        try:
            commit_ts = self._base.commit(check)
        except BaseException:
            self.rollback()
            raise
        self._over = True
        self._rows.settle(self._begun)
        return commit_ts

    def rollback(self) -> None:
        if not self._over:
            self._over = True
            self._rows.undo_to(self._begun)
        self._base.rollback()
