"""What a transaction has written and not committed yet, embedded or in a cluster."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from kvstore.errors import KeyExists

Pair = tuple[bytes, bytes]
Own = tuple[bytes, bytes | None]
"""A buffered write; None deletes."""


class _Missing:
    __slots__ = ()


_MISSING: Final = _Missing()


class WriteBuffer:
    """Uncommitted writes in key order when asked, with an undo log once a mark was taken.

    *Shades* lie over the writes for whoever reads the transaction's snapshot (`view`), and are never committed. The
    next write takes them away.
    """

    __slots__ = ("_changes", "_logging", "_shaded", "_shades", "_shades_at", "_sorted", "_undo", "bytes", "inserts",
                 "patches", "writes")  # fmt: skip

    def __init__(self) -> None:
        self.writes: dict[bytes, bytes | None] = {}
        self.inserts: set[bytes] = set()
        self.patches: dict[bytes, frozenset[int]] = {}
        """Of writes that change a value in some parts alone, which; for whoever observes the commit."""
        self.bytes = 0
        self._sorted: list[bytes] = []
        self._undo: list[tuple[bytes, bytes | _Missing | None, bool, frozenset[int] | None]] = []
        self._logging = False
        self._changes = self._shades_at = 0
        self._shades: dict[bytes, Mapping[bytes, bytes | None]] = {}
        self._shaded: WriteBuffer | None = None

    def set(self, key: bytes, value: bytes | None) -> None:
        writes = self.writes
        old = writes.get(key, _MISSING)
        if self._logging:
            self._undo.append((key, old, key in self.inserts, self.patches.get(key)))
        if self.patches:
            self.patches.pop(key, None)
        writes[key] = value
        self._changes += 1
        size = 0 if value is None else len(value)
        if old is _MISSING:
            size += len(key)
        elif isinstance(old, bytes):
            size -= len(old)
        self.bytes += size

    def patch(self, key: bytes, value: bytes, parts: frozenset[int]) -> None:
        """Buffers a put that changes the key's value in these parts alone: the buffered one, or what lies below."""
        before = self.patches.get(key)
        known = before is not None or key not in self.writes
        self.set(key, value)
        if known:
            self.patches[key] = parts if before is None or before is parts else before | parts

    def insert(self, key: bytes, value: bytes) -> None:
        """Buffers a put that must not meet a live value; after an own delete it is a plain put."""
        old = self.writes.get(key, _MISSING)
        if isinstance(old, bytes):
            raise KeyExists(key, value)
        self.set(key, value)
        if old is _MISSING:
            self.inserts.add(key)

    def mark(self) -> int:
        self._logging = True
        return len(self._undo)

    def undo_to(self, mark: int) -> None:
        undo = self._undo
        if not 0 <= mark <= len(undo):
            raise ValueError(f"mark {mark} is not one of this transaction's ({len(undo)} changes)")
        self._changes += 1
        while len(undo) > mark:
            key, old, inserted, parts = undo.pop()
            if parts is not None:
                self.patches[key] = parts
            else:
                self.patches.pop(key, None)
            current = self.writes[key]
            self.bytes -= len(current) if current is not None else 0
            if isinstance(old, _Missing):
                del self.writes[key]
                self.bytes -= len(key)
            else:
                self.writes[key] = old
                self.bytes += len(old) if old is not None else 0
            if inserted:
                self.inserts.add(key)
            else:
                self.inserts.discard(key)
            if len(self._sorted) > len(self.writes):
                self._sorted = []

    def shade(self, prefix: bytes, shades: Mapping[bytes, bytes | None]) -> None:
        """Lays shades over the keys with a prefix, until the next write."""
        if self._shades_at != self._changes:
            self._shades.clear()
        self._shades[prefix] = shades
        self._shades_at = self._changes
        self._shaded = None

    def is_shaded(self, prefix: bytes) -> bool:
        return self._shades_at == self._changes and prefix in self._shades

    def unshade(self) -> None:
        """Takes the shades away: for whoever reads something newer than the snapshot."""
        self._shades.clear()
        self._shaded = None

    def view(self) -> WriteBuffer:
        """The writes with the shades over them."""
        if not self._shades:
            return self
        if self._shades_at != self._changes:
            self.unshade()
            return self
        if self._shaded is None:
            if not any(self._shades.values()):
                return self
            self._shaded = shaded = WriteBuffer()
            shaded.writes = dict(self.writes)
            for shades in self._shades.values():
                shaded.writes.update(shades)
        return self._shaded

    def range(self, start: bytes, end: bytes) -> list[bytes]:
        """The buffered keys in [start, end), ascending; an empty `end` means no bound."""
        if not self.writes:
            return []
        keys = self._order()
        return keys[bisect_left(keys, start) : bisect_left(keys, end) if end else len(keys)]

    def entries(self, start: bytes, end: bytes) -> list[Own]:
        """The buffered writes in [start, end), ascending; an empty `end` means no bound."""
        writes = self.writes
        return [(key, writes[key]) for key in self.range(start, end)]

    def over(self, found: Mapping[bytes, bytes], wanted: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of the wanted keys, in their order, with the writes over those found below."""
        writes = self.writes
        return {key: value for key in wanted if (value := writes[key] if key in writes else found.get(key)) is not None}

    def touches(self, start: bytes, end: bytes) -> bool:
        if not self.writes:
            return False
        keys = self._order()
        at = bisect_left(keys, start)
        return at < len(keys) and (not end or keys[at] < end)

    def _order(self) -> list[bytes]:
        """Sorted keys, kept until there are more or fewer."""
        keys = self._sorted
        if len(keys) != len(self.writes):
            keys = self._sorted = sorted(self.writes)
        return keys


class Overlay:
    """Buffered writes (ascending) on their way over rows that come in batches, in key order or against it."""

    __slots__ = ("_done", "_own", "_reverse")

    def __init__(self, own: Sequence[Own], *, reverse: bool = False) -> None:
        self._own = own[::-1] if reverse else own
        self._reverse = reverse
        self._done = 0

    def upto(self, last: bytes) -> Sequence[Own]:
        """The writes that belong into a batch that ends with the key `last`; each is handed out once."""
        own, done, reverse = self._own, self._done, self._reverse
        until = done
        while until < len(own) and (own[until][0] >= last if reverse else own[until][0] <= last):
            until += 1
        self._done = until
        return own[done:until]

    def rest(self) -> list[Pair]:
        """What lies behind the last batch."""
        return [(key, value) for key, value in self._own[self._done :] if value is not None]


def laid_over(pairs: Iterable[Pair], own: Sequence[Own], *, reverse: bool = False) -> list[Pair]:
    """`own` over `pairs`, in key order."""
    merged: dict[bytes, bytes | None] = dict(pairs)
    merged.update(own)
    return [(key, value) for key, value in sorted(merged.items(), reverse=reverse) if value is not None]
