"""The change log: which keys of followed tables each commit wrote, in order of commit.

Whoever keeps a copy of a table elsewhere (the columnar replica) reads it to go on where it stood. A commit adds its
entry in the batch of its own records, so both are there or neither is; values are not repeated: the records have them.

    entry   commit_ts u64 big-endian -> 'K', then each key behind its length (u32)
            commit_ts u64 big-endian -> 'R', start and end, each behind its length: a bulk load changed the range

Tables are followed by the prefix of their record keys (`t{id}_r`). What is followed is part of the store: it holds
after a restart whether or not anybody reads the log.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

from kvstore.engine.api import CF_CHANGES, CF_META, Engine
from kvstore.errors import Corruption

FOLLOWED_KEY = b"followed_tables"
PREFIX_BYTES = 11
"""What the record keys of one table share."""

_KEYS, _RANGE = b"K", b"R"
_LENGTH = struct.Struct("<I")
_TS = struct.Struct(">Q")


class Change(NamedTuple):
    """One commit: the keys of followed tables that it wrote, or the range (start, end) that a load changed."""

    commit_ts: int
    keys: tuple[bytes, ...]
    loaded: tuple[bytes, bytes] | None


class ChangeLog:
    """The log of one store. `followed` is read by every commit; it changes under the committer's mutex."""

    def __init__(self, engine: Engine, mutex: threading.Lock, settle: Callable[[], None]) -> None:
        self._engine = engine
        self._mutex = mutex
        self._settle = settle
        saved = engine.get(CF_META, FOLLOWED_KEY) or b""
        self.followed: frozenset[bytes] = frozenset(
            saved[at : at + PREFIX_BYTES] for at in range(0, len(saved), PREFIX_BYTES)
        )

    def follow(self, prefixes: Collection[bytes]) -> None:
        """Makes `prefixes` what is followed: commits with a timestamp drawn after the call have their entry."""
        followed = frozenset(prefixes)
        if any(len(prefix) != PREFIX_BYTES for prefix in followed):
            raise ValueError(f"a prefix of record keys has {PREFIX_BYTES} bytes")
        with self._mutex:
            if followed == self.followed:
                return
            batch = self._engine.batch()
            batch.put(FOLLOWED_KEY, b"".join(sorted(followed)), self._engine.handle(CF_META))
            self._engine.write(batch)
            self.followed = followed
        self._settle()

    def add(self, batch: Any, commit_ts: int, writes: Iterable[bytes]) -> None:
        """Puts the entry of a commit into its batch."""
        followed = self.followed
        keys = [key for key in writes if key[:PREFIX_BYTES] in followed]
        if keys:
            batch.put(_TS.pack(commit_ts), _KEYS + _framed(keys), self._engine.handle(CF_CHANGES))

    def note_load(self, commit_ts: int, start: bytes, end: bytes) -> None:
        """Writes, durably, that a bulk load changes the range: to be called before it does.

        It may be that nothing changes after all.
        """
        if not any(start < _after(prefix) and (not end or prefix < end) for prefix in self.followed):
            return
        batch = self._engine.batch()
        batch.put(_TS.pack(commit_ts), _RANGE + _framed((start, end)), self._engine.handle(CF_CHANGES))
        self._engine.write(batch)
        self._settle()

    def mark(self, ts: int) -> None:
        """Writes an entry of no keys, as durable as a commit: a position that `has` knows again."""
        batch = self._engine.batch()
        batch.put(_TS.pack(ts), _KEYS, self._engine.handle(CF_CHANGES))
        self._engine.write(batch)
        self._settle()

    def has(self, commit_ts: int) -> bool:
        """Whether there is an entry of this very commit."""
        return self._engine.get(CF_CHANGES, _TS.pack(commit_ts)) is not None

    def read(self, after_ts: int) -> Iterator[Change]:
        """Yields the entries of commits after `after_ts`, in their order."""
        scanner = self._engine.scanner(CF_CHANGES, _TS.pack(after_ts + 1), b"\xff" * (_TS.size + 1))
        try:
            while True:
                flat = scanner.take(256)
                for at in range(0, len(flat), 2):
                    yield _parsed(flat[at], flat[at + 1])
                if len(flat) < 512:
                    return
        finally:
            scanner.release()

    def trim(self, before_ts: int) -> None:
        """Forgets the entries of commits before `before_ts`."""
        self._engine.delete_range(CF_CHANGES, _TS.pack(0), _TS.pack(before_ts))


def _after(prefix: bytes) -> bytes:
    """The first key behind all that begin with the prefix, whose last byte is never 0xFF."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def _framed(parts: Iterable[bytes]) -> bytes:
    return b"".join([piece for part in parts for piece in (_LENGTH.pack(len(part)), part)])


def _parsed(key: bytes, value: bytes) -> Change:
    (commit_ts,) = _TS.unpack(key)
    parts = []
    at = 1
    while at + _LENGTH.size <= len(value):
        (length,) = _LENGTH.unpack_from(value, at)
        at += _LENGTH.size + length
        parts.append(value[at - length : at])
    if at != len(value) or value[:1] not in (_KEYS, _RANGE) or (value[:1] == _RANGE and len(parts) != 2):
        raise Corruption(f"the entry of commit {commit_ts} in the change log cannot be read")
    if value[:1] == _RANGE:
        return Change(commit_ts, (), (parts[0], parts[1]))
    return Change(commit_ts, tuple(parts), None)
