"""The storage seam: what the SQL layer asks of a store, embedded or clustered.

Keys and values are plain user bytes (`t{id}_r{handle}`, `m...`); memcomparable encoding, column families and records
are the store's business. Timestamps are `physical_ms << 18 | logical`. All methods may be called from any thread; one
`Transaction` is used by one thread at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from kvstore.client.changes import Change as Change
from kvstore.mvcc.batch import PackedBatch as PackedBatch
from kvstore.mvcc.chunks import Chunk as Chunk

LOGICAL_BITS = 18
TS_MAX = (1 << 64) - 1
GC_LIFE_MS = 10 * 60 * 1000
"""How long versions are kept, unless it is set otherwise."""
LOCK_WAIT_MS = 50_000
"""How long a commit waits for another transaction's lock; innodb_lock_wait_timeout's default."""


class ReadFrom(Enum):
    """Which peers may answer a read."""

    LEADER = "leader"
    FOLLOWER = "follower"
    """A follower, which asks the leader how far it must have applied; the leader when no follower can."""
    MIXED = "mixed"
    """Any peer in turn."""
    STALE = "stale"
    """Any peer, at a timestamp that it knows to be complete; the leader, read as usual, when it does not."""


Parts = frozenset[int]
"""Which parts of a value were changed; rows have their columns' ids."""
CommitCheck = Callable[[int], None]
"""Raises what is to abort a commit at this commit_ts."""


class CancelToken:
    """Set by `interrupt()`; whoever waits checks it, and waiters are woken through callbacks."""

    __slots__ = ("_callbacks", "_event", "_mutex")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._mutex = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Returns whether it is set, after so long at most."""
        return self._event.wait(min(seconds, threading.TIMEOUT_MAX))

    def set(self) -> None:
        with self._mutex:
            self._event.set()
            callbacks = tuple(self._callbacks)
        for callback in callbacks:
            callback()

    def clear(self) -> None:
        self._event.clear()

    def on_set(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` when set (at once if it already is); returns the function that takes it off again."""
        with self._mutex:
            self._callbacks.append(callback)
            fired = self._event.is_set()
        if fired:
            callback()

        def remove() -> None:
            with self._mutex:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return remove


class Reader(Protocol):
    """A consistent view of the store at one timestamp."""

    @property
    def ts(self) -> int: ...

    def get(self, key: bytes) -> bytes | None:
        """Returns the value visible at `ts`, None if there is none."""

    def batch_get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Returns the visible values of those keys that have one."""

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yields visible (key, value) with start <= key < end, ascending, or descending when `reverse`."""

    def scan_chunks(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[Chunk]:
        """The same in chunks, small ones first: for those who decode many rows at once."""

    def scan_packed(self, start: bytes, end: bytes, *, batch_rows: int = 65536) -> Iterator[PackedBatch]:
        """Like an ascending `scan`, in packed batches of at most about `batch_rows` rows."""


class Transaction(Reader, Protocol):
    """One transaction: a reader at `start_ts` with its own uncommitted writes merged over it, and a write buffer."""

    pessimistic: bool
    cancel: CancelToken | None
    lock_wait_ms: int
    """How long the commit waits for another transaction's lock."""

    @property
    def start_ts(self) -> int: ...

    def at(self, ts: int) -> Reader:
        """Returns a reader at another timestamp (a current read), with the transaction's own writes merged over it."""

    def put(self, key: bytes, value: bytes) -> None: ...

    def patch(self, key: bytes, value: bytes, parts: Parts) -> None:
        """Like put of a live key, where the value differs from the one that the transaction sees in these parts alone.

        The numbers mean something to the caller and to observers, not to the store.
        """

    def insert(self, key: bytes, value: bytes) -> None:
        """Like put, but commit fails with KeyExists when another transaction has a live value there.

        Raises KeyExists at once if the transaction's own buffer holds one.
        """

    def delete(self, key: bytes) -> None: ...

    def dirty(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes | None]]:
        """Returns the buffered writes in [start, end), and what shades them, in key order; None is a delete."""

    def has_dirty(self, start: bytes, end: bytes) -> bool: ...

    def before(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that have one at `start_ts`, whatever the transaction has written."""

    def shade(self, prefix: bytes, shades: Mapping[bytes, bytes | None]) -> None:
        """Lays shades (None hides) over what reads at `start_ts` see of the keys with a prefix.

        They are never committed, and gone with the next write, or `at`.
        """

    def is_shaded(self, prefix: bytes) -> bool:
        """Whether the keys with that prefix are shaded, be it with nothing."""

    def lock_keys(
        self,
        keys: Sequence[bytes],
        *,
        for_update_ts: int,
        wait_ms: int,
        skip_locked: bool = False,
    ) -> list[bytes]:
        """Takes pessimistic locks and returns the keys that are now locked (all of them unless `skip_locked`).

        `wait_ms` 0 is NOWAIT. A key that has a commit newer than `for_update_ts` raises WriteConflict, and then no
        key of this call stays locked that was not before. Raises LockWaitTimeout, LockNowait, Deadlock, Cancelled.
        Keys that the transaction already holds cost a set lookup. In an optimistic transaction it only marks the
        keys, so that commit checks them.
        """

    def lock_and_get(self, keys: Sequence[bytes], *, for_update_ts: int = 0, wait_ms: int) -> dict[bytes, bytes]:
        """Locks keys as `lock_keys` does and returns the values of those that have one: the newest there are, the
        transaction's own writes over them. Where the store is elsewhere that is one call.

        With `for_update_ts` 0 it is the newest timestamp at hand, which may be behind a key's last commit: then
        WriteConflict is raised, and the next call has a newer one. An optimistic transaction marks the keys and reads
        at `start_ts`.
        """

    def witness(self, keys: Iterable[bytes]) -> None:
        """Says that what is written depends on the values of these keys, which were locked, and are to be as they are.

        The commit leaves an L record at each, so that an optimistic transaction that began before it and writes the
        key conflicts. That of an optimistic transaction fails with WriteConflict when a value was changed since
        start_ts. Two transactions that witness a key don't conflict, if the store can tell. A transaction that has
        written nothing leaves the records too.
        """

    def mark(self) -> int:
        """Remembers the buffer's state; `undo_to(mark)` goes back to it (locks stay, as in MySQL)."""

    def undo_to(self, mark: int) -> None: ...

    @property
    def is_dirty(self) -> bool:
        """Whether anything is buffered."""

    def commit(self, check: CommitCheck | None = None) -> int:
        """Commits durably and returns commit_ts (start_ts if nothing was written).

        `check` is told the commit_ts, or the greatest one that the commit may get, when none of it is committed yet;
        what it raises aborts the commit. In one process it runs inside the commit's critical section.
        Whatever is raised, the transaction is over and nothing of it was applied, with two exceptions: a failed write
        or sync leaves the outcome unknown (StoreError, and the store stops), and what a signal handler raises
        (KeyboardInterrupt) may come after the commit: it is durable and visible if `commit_ts` is not 0.
        """

    def rollback(self) -> None:
        """Ends the transaction and releases its locks; harmless when it is over."""


class CommitObserver(Protocol):
    """Told of every commit before it becomes visible to readers that start later; must be quick and must not raise.

    A commit whose thread was interrupted may be told twice.
    """

    def on_commit(
        self, commit_ts: int, writes: Sequence[tuple[bytes, bytes | None]], patches: Mapping[bytes, Parts]
    ) -> None:
        """`patches` has those of the keys whose values differ from the ones before in these parts alone, as far as that
        is known."""

    def on_ingest(self, commit_ts: int, start: bytes, end: bytes) -> None:
        """A bulk load changes [start, end) (also sent when a range was destroyed).

        Sent twice for a load: with its commit_ts before any of it is there, and with the timestamp from which it is
        visible after it is: what was read from the range in between shows it as it was.
        """


class Changes(Protocol):
    """Which keys of followed tables each commit wrote. Entries are as durable as the commits."""

    @property
    def followed(self) -> frozenset[bytes]:
        """The prefixes of record keys whose commits are logged; part of the store."""

    def follow(self, prefixes: Collection[bytes]) -> None:
        """Replaces `followed`: every commit whose timestamp is drawn after the call is logged by it."""

    def mark(self, ts: int) -> None:
        """Writes an entry of no keys at `ts`, which must be no commit's: a position that `has` knows again."""

    def has(self, commit_ts: int) -> bool:
        """Whether there is an entry at this very timestamp."""

    def read(self, after_ts: int) -> Iterator[Change]:
        """Yields the entries of commits after `after_ts`, in their order."""

    def trim(self, before_ts: int) -> None:
        """Forgets the entries of commits before `before_ts`."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a finished load has done, in keys."""

    commit_ts: int
    rows: int
    """Of the whole load, those of earlier runs too."""
    loaded_rows: int
    """Sent in this run; a part that was begun anew counts once."""
    ingests: int


class Ingest(Protocol):
    """A bulk load in progress: sorted runs of new key-value pairs, visible all at once or not at all."""

    @property
    def commit_ts(self) -> int: ...

    def add_run(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Adds one run: keys strictly ascending within it. Runs may interleave with each other."""

    def finish(self, *, check_duplicates: bool = True) -> LoadReport | None:
        """Makes all runs visible, durably; says what was sent where stores are elsewhere.

        Raises KeyExists (nothing applied) when a key is there twice or already live.
        """

    def abort(self) -> None: ...


@dataclass(frozen=True, slots=True)
class PushRequest:
    """A push-down request over any number of regions: `data` is a tipb `DAGRequest`, read at `ts`."""

    data: bytes
    ranges: Sequence[tuple[bytes, bytes]]
    """Ascending, disjoint ranges of user keys, [start, end)."""
    ts: int
    keep_order: bool = False
    """Answers come in the order of the keys (descending with `desc`), not as regions are ready."""
    desc: bool = False
    page_rows: int = 0
    """Rows in an answer, about; 0: what a region has comes in one answer. For whoever may stop early."""
    concurrency: int = 0
    """Regions asked at a time; 0: the client's own limit."""
    read: ReadFrom = ReadFrom.LEADER
    columnar: bytes = b""
    """The same request for columnar replicas, which are asked first where there is one; order, pages and concurrency
    are for the rows then."""


@dataclass(frozen=True, slots=True)
class PushAnswer:
    """One answer: `data` is a tipb `SelectResponse` without an error."""

    data: bytes
    region_id: int
    store: str
    """The address of the store that answered."""
    wire_bytes: int
    """Bytes that came over the wire for it; 0 when it came from the client's cache."""
    seconds: float
    """From the request to its answer, retries included."""
    columnar: bool = False
    """Whether a columnar replica gave it, for several regions at once; `region_id` is 0 then."""


class PushDown(Protocol):
    """Sends push-down requests to where the data is. May be used by several threads."""

    @property
    def arrow(self) -> bool:
        """Whether every store answers in Arrow when it is asked to; else it has to be TypeChunk or TypeDefault."""

    @property
    def few_rows(self) -> int:
        """So many rows of one range are read plainly in less time than a request takes."""

    def run(self, request: PushRequest, cancel: CancelToken | None = None) -> Iterator[PushAnswer]:
        """Yields the answers of all regions, each key's rows in exactly one; locks and moved regions are dealt with.

        Closing the iterator stops what is still under way. Raises PushFailed for an error that the evaluation of the
        request met, Cancelled, and what reads raise.
        """

    def run_whole(self, request: PushRequest, cancel: CancelToken | None = None) -> Sequence[PushAnswer] | None:
        """The answer to a whole query (`columnar` of the request) over ranges of several tables, by one columnar store
        that has all of them; None where there is none, or it does not answer: then the tables are to be asked for.

        Raises Cancelled, and what reads raise.
        """


class Transactional(Protocol):
    """What those who read and write a store ask of it."""

    @property
    def push_down(self) -> PushDown | None:
        """Where the store evaluates requests beside the data; None when the data is in this process."""

    def now_ts(self) -> int:
        """A fresh timestamp, greater than every one handed out before."""

    def begin(self, *, pessimistic: bool = True, start_ts: int | None = None) -> Transaction:
        """Starts a transaction. With `start_ts` (a past timestamp, for AS OF) it is read-only."""

    def snapshot(self, ts: int | None = None, *, read: ReadFrom = ReadFrom.LEADER) -> Reader:
        """A reader at `ts`, or at a fresh timestamp that sees every commit acknowledged before the call.

        `read` says which copies may answer, where there are several.
        """

    def get_latest(self, key: bytes, *, read: ReadFrom = ReadFrom.LEADER) -> bytes | None:
        """The newest committed value: the autocommit point read, one lock check and one seek."""

    def write(
        self,
        writes: dict[bytes, bytes | None],
        inserts: Collection[bytes],
        *,
        wait_ms: int,
        cancel: CancelToken | None = None,
        check: CommitCheck | None = None,
    ) -> int:
        """A whole transaction that reads nothing: commits `writes` (None deletes) durably and returns commit_ts.

        Raises KeyExists when one of `inserts` has a live value, and what waiting for locks raises; `check` and the
        outcome are as in `Transaction.commit`.
        """


class Storage(Transactional, Protocol):
    """A transactional store."""

    @property
    def safe_point(self) -> int:
        """Snapshots below it are refused."""

    def load(
        self,
        start: bytes,
        end: bytes,
        *,
        commit_ts: int = 0,
        cancel: CancelToken | None = None,
        directory: str | None = None,
    ) -> Ingest:
        """Starts a bulk load of keys inside [start, end), which nobody but the caller reads or writes until its end.

        With a `commit_ts` of the past rows lie below what was written since, and `finish` looks for no live keys. A
        load that fails may leave some of its rows, and those of a request whose answer was lost may come late: the
        range is then loaded again with the same rows, or destroyed. With a `directory` for its progress, what an
        earlier run of the same load has finished is not sent again; `finish` raises LoadDiffers when the rows are not
        the same.
        """

    def destroy_range(self, start: bytes, end: bytes) -> None:
        """Drops every version of every key in the range at once (after DROP or TRUNCATE, below the safe point)."""

    def gc(self, safe_point: int | None = None) -> dict[str, int]:
        """Removes versions that no snapshot at or above the safe point can see; returns counters."""

    @property
    def gc_life_ms(self) -> int: ...

    @gc_life_ms.setter
    def gc_life_ms(self, value: int) -> None: ...

    def stats(self) -> dict[str, Any]: ...

    def close(self) -> None: ...


class LocalStorage(Storage, Protocol):
    """A store in this process, all of whose commits go through it: what follows them can hang on it."""

    def ingest(self, start: bytes, end: bytes, *, cancel: CancelToken | None = None) -> Ingest:
        """Starts a bulk load of keys inside [start, end).

        Until `finish` or `abort`, writers of that range wait (and time out as for a lock); readers see the range as
        it was.
        """

    def observe(self, observer: CommitObserver) -> None: ...

    def wait_until(self, ts: int) -> None:
        """Returns when every commit at or below `ts`, a timestamp drawn before, is visible and told to the
        observers."""

    @property
    def changes(self) -> Changes:
        """The log of what commits wrote in followed tables."""

    def sees_loads(self, ts: int, start: bytes, end: bytes) -> bool:
        """Whether a reader at `ts` sees every bulk load of a part of the range that has begun and was not given up."""

    def backup(self, path: str) -> None:
        """Writes a consistent copy that opens as a database; `path` must not exist."""


class SharedStorage(Storage, Protocol):
    """A store that several processes share."""

    def snapshot(
        self, ts: int | None = None, *, read: ReadFrom = ReadFrom.LEADER, check: CommitCheck | None = None
    ) -> Reader:
        """`check` is told the timestamp when it is drawn; what it raises comes out of the call that reads."""

    def oldest_ts(self) -> int:
        """The oldest timestamp that is read at in this process, 0 if none is."""

    def keep_versions(self, service: str, ts: int, ttl_s: int) -> None:
        """Keeps what a reader at `ts` sees for so long; 0 seconds lets it go. Raises SnapshotTooOld."""

    def columnar_servers(self) -> int:
        """How many stores take columnar replicas. Raises NoColumnarRules."""


class Oracle(Protocol):
    """Gives out timestamps, each greater than every one before it, also over restarts."""

    def get_ts(self, count: int = 1) -> int:
        """Draws `count` timestamps in a row and returns the last of them."""

    def close(self) -> None:
        """Persists how far it came; harmless when closed."""


class WindowStore(Protocol):
    """Where an oracle keeps the bound below which it may give out timestamps (milliseconds, durable when `save`
    returns)."""

    def load(self) -> int:
        """The bound saved last, 0 if there is none."""

    def save(self, bound_ms: int) -> None: ...
