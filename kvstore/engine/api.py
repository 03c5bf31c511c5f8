"""The engine seam: ordered bytes in column families, on disk (`rocks`) or in memory (`memory`).

The hot paths of the layers above use three raw objects without a wrapper round them: the `RawIterator` inside a
`Cursor`, the `Batch`, and the opaque column-family handles that a batch takes. Everything an engine raises is in
`kvstore.errors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from kvstore.errors import StoreError

CF_DEFAULT = "default"
CF_LOCK = "lock"
CF_WRITE = "write"
CF_META = "meta"
CF_CHANGES = "changes"
CF_RAFT = "raft"
COLUMN_FAMILIES = (CF_DEFAULT, CF_LOCK, CF_WRITE, CF_META, CF_CHANGES, CF_RAFT)
"""Their order is part of the log's format."""


class RawIterator(Protocol):
    """A position in one column family; `key` and `value` are None when the position is not valid."""

    def seek(self, key: bytes) -> None: ...
    def seek_for_prev(self, key: bytes) -> None: ...
    def seek_to_first(self) -> None: ...
    def seek_to_last(self) -> None: ...
    def next(self) -> None: ...
    def prev(self) -> None: ...
    def valid(self) -> bool: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def status(self) -> None: ...


class Cursor(Protocol):
    """A registered iterator over one column family, at the state of the engine when it was made or last refreshed.

    `raw` is None after the engine closed or `release` was called. `seq` is a lower bound of the state it shows: every
    write that had returned when `Engine.write_seq` had this value is in it. Used by one thread at a time.
    """

    raw: RawIterator | None
    seq: int

    def refresh(self) -> RawIterator:
        """Moves to the engine's present state; raises StoreClosed after close."""

    def release(self) -> None:
        """Drops the iterator and what it pins; `refresh` brings it back."""


class Scanner(Protocol):
    """A registered one-way pass over a range of one family, at the state of the engine when it was made."""

    def take(self, pairs: int) -> list[bytes]:
        """The next pairs, flat: key, value, key, value ...; fewer than asked for at the end. StoreClosed after
        close."""

    def release(self) -> None: ...


class Batch(Protocol):
    """Changes that are applied atomically; handles come from `Engine.handle`."""

    size: int
    """How many bytes of keys and values were put, except by `add_record`."""

    def put(self, key: bytes, value: bytes, column_family: Any) -> None: ...
    def put_all(self, pairs: Iterable[tuple[bytes, bytes]], column_family: Any) -> None: ...
    def delete(self, key: bytes, column_family: Any) -> None: ...
    def delete_range(self, begin: bytes, end: bytes, column_family: Any) -> None: ...

    def add_record(self, record: bytes) -> int:
        """Adds the changes that `kvstore.engine.batch` encoded, and returns their number; raises Corruption."""


class SortedFileWriter(Protocol):
    """Writes one file of ascending pairs that `Engine.ingest` can take over."""

    path: str

    def put_all(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None: ...
    def finish(self) -> None: ...


class FileReceiver(Protocol):
    """Takes a finished table file, piece by piece."""

    def write(self, data: bytes) -> None: ...
    def finish(self) -> None: ...


class StagedFiles(Protocol):
    """Sorted files that wait under names until they are taken over or removed (see `staged`). Raises StoreError."""

    def writer(self, cf: str, name: str) -> SortedFileWriter:
        """Begins a file; its pairs go in by `put_all`."""

    def receive(self, name: str) -> FileReceiver:
        """Begins a file that was made elsewhere. StoreError where the engine has no files."""

    def bounds(self, cf: str, name: str) -> tuple[bytes, bytes]:
        """The first and the last key of a finished file that is not kept yet. Corruption if it is no table of `cf`."""

    def keep(self, names: Sequence[str]) -> None:
        """Makes finished files durable under their names. May take a while; any thread."""

    def sizes(self) -> dict[str, int]:
        """The files that are kept, with their bytes."""

    def take_over(self, cf: str, names: Sequence[str]) -> None:
        """Puts the files' pairs into a family, atomically and durably; the files stay. Corruption if one is missing."""

    def remove(self, name: str) -> None:
        """Drops a file, kept or not; harmless when there is none. After a crash it may be there again."""


class Engine(Protocol):
    """An ordered store with column families, atomic batches and point-in-time iterators."""

    write_seq: int
    """Grows after every write, before the write call returns."""

    write_begun: int
    """Is `write_seq` while no write is under way, and larger from before one can be seen."""

    path: str | None

    @property
    def staged(self) -> StagedFiles: ...

    def handle(self, cf: str) -> Any: ...
    def get(self, cf: str, key: bytes) -> bytes | None: ...
    def cursor(self, cf: str, upper: bytes | None = None) -> Cursor:
        """A new cursor; positions at or after `upper` are not valid."""

    def view(self, families: Sequence[str]) -> list[Cursor]:
        """Cursors of several families at one and the same state."""

    def scanner(self, cf: str, start: bytes, end: bytes, *, reverse: bool = False) -> Scanner:
        """A pass over start <= key < end, descending when `reverse`."""

    def batch(self) -> Batch: ...

    def write(self, batch: Batch) -> None:
        """Applies the batch; it survives the machine after the next `sync`, the process after the next `hand_over`.

        What a crash leaves of batches without either is a prefix of them, in the order of the writes.
        """

    def hand_over(self) -> None:
        """Gives everything written before the call to the operating system: a killed process loses nothing of it."""

    def sync(self) -> None:
        """Makes everything written before the call durable; other threads run meanwhile."""

    def delete_range(self, cf: str, start: bytes, end: bytes) -> None: ...
    def sorted_file(self, cf: str, path: str) -> SortedFileWriter: ...

    def ingest(self, cf: str, files: Sequence[SortedFileWriter]) -> None:
        """Takes over finished files atomically and durably; later files win where keys meet."""

    def checkpoint(self, path: str) -> None:
        """Writes a consistent copy of the engine's files to `path`, which must not exist."""

    def flush(self) -> None: ...
    def compact(self, cf: str, start: bytes | None = None, end: bytes | None = None) -> None: ...
    def is_empty(self, cf: str) -> bool: ...
    def stats(self) -> dict[str, Any]: ...

    def disown(self, error: StoreError) -> None:
        """Makes a forked child's copy refuse to work with `error`, touching nothing that the parent owns."""

    def close(self) -> None:
        """Closes cursors first, then the store; harmless when closed."""
