"""Iterators of the engine on RocksDB: registered with it, and owners of the options and bounds that they need."""

from __future__ import annotations

import ctypes
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from rocksdict import Rdict, ReadOptions

from kvstore.engine.api import RawIterator
from kvstore.engine.failure import check_status, translate

if TYPE_CHECKING:
    from kvstore.engine.rocks import RocksEngine

BACK_STEP_PAIRS = 32
"""A reverse pass finds out that it is below its start after at most so many pairs too many."""


class RocksCursor:
    """A registered iterator that owns its read options and bounds (see `api.Cursor`)."""

    __slots__ = ("__weakref__", "_engine", "_family", "_options", "_upper", "raw", "seq")

    def __init__(self, engine: RocksEngine, family: Rdict, upper: bytes | None) -> None:
        self._engine = engine
        self._family: Rdict | None = family
        self._options: ReadOptions | None = None
        self._upper = upper
        if upper is not None:
            self._options = ReadOptions()
            self._options.set_iterate_upper_bound(upper)
        self.raw: RawIterator | None = None
        self.seq = -1

    def refresh(self) -> RawIterator:
        family = self._family
        if family is None:
            raise self._engine.closed_error()
        seq = self._engine.write_seq
        try:
            raw: RawIterator = family.iter() if self._options is None else family.iter(self._options)
        except Exception as error:
            raise translate(error, "read") from error
        self.raw = raw
        self.seq = seq
        if self._family is None:  # closed meanwhile
            self.raw = None
            raise self._engine.closed_error()
        return raw

    def release(self) -> None:
        self.seq = -1
        self.raw = None

    def disown(self) -> None:
        """Takes the cursor out of use without freeing the iterator."""
        if self.raw is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.raw))
        self.close()

    def close(self) -> None:
        """Takes the cursor out of use for good."""
        self._family = None
        self.release()


class RocksScanner:
    """A registered one-way pass (see `api.Scanner`); owns the options and bounds of its iterator."""

    __slots__ = ("__weakref__", "_engine", "_family", "_items", "_last", "_options", "_reverse", "_start")

    def __init__(self, engine: RocksEngine, family: Rdict, start: bytes, end: bytes, reverse: bool) -> None:
        self._engine = engine
        self._options = ReadOptions()
        self._options.set_iterate_upper_bound(end)
        # a reverse pass begins at the upper bound, which is exclusive, and has to be stopped by hand below `start`:
        # rocksdict's `items` does not obey a lower bound
        self._start = start
        self._reverse = reverse
        self._family: Rdict | None = family
        self._last: bytes | None = None
        self._items: Any = family.items(backwards=reverse, from_key=end if reverse else start, read_opt=self._options)

    def take(self, pairs: int) -> list[bytes]:
        items = self._items
        if items is None:
            raise self._engine.closed_error()
        try:
            flat = self._take_back(items, pairs) if self._reverse else list(chain.from_iterable(islice(items, pairs)))
        except Exception as error:
            raise translate(error, "read") from error
        if self._reverse and flat and flat[-2] < self._start:
            start = self._start
            keep = next(at for at in range(0, len(flat), 2) if flat[at] < start)
            del flat[keep:]
        elif len(flat) < 2 * pairs:
            self._check_end(flat[-2] if flat else self._last)
        elif flat:
            self._last = flat[-2]
        return flat

    def _take_back(self, items: Any, pairs: int) -> list[bytes]:
        """The next pairs, in small steps so that little is read below the start."""
        flat: list[bytes] = []
        while pairs > 0:
            step = list(chain.from_iterable(islice(items, min(pairs, BACK_STEP_PAIRS))))
            flat += step
            pairs -= BACK_STEP_PAIRS
            if len(step) < 2 * BACK_STEP_PAIRS or step[-2] < self._start:
                break
        return flat

    def _check_end(self, last: bytes | None) -> None:
        """Makes sure that the pass ended at its bound: rocksdict's `items` ends silently on a read error, too."""
        raw: RawIterator | None = None
        try:
            family = self._family
            if family is None:
                raise self._engine.closed_error()
            raw = family.iter(self._options)
            if self._reverse:
                raw.seek_for_prev(last) if last is not None else raw.seek_to_last()
            else:
                raw.seek(self._start if last is None else last)
            if last is not None and raw.key() == last:
                raw.prev() if self._reverse else raw.next()
            if raw.key() is None:
                check_status(raw)
        except Exception as error:
            raise translate(error, "read") from error
        finally:
            raw = None  # an error keeps this frame alive, and an iterator keeps RocksDB open

    def release(self) -> None:
        self._items = None

    def disown(self) -> None:
        """Takes the scanner out of use without freeing the iterator."""
        if self._items is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._items))
            self._items = None

    def close(self) -> None:
        """Takes the scanner out of use for good."""
        self._family = None
        self.release()
