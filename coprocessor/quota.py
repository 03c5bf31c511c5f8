"""What executions hold in memory besides what DuckDB needs: Arrow tables and Python's rows.

    Quota      what one execution holds, bounded by tidb_mem_quota_query
    Holdings   what all of a database hold together; DuckDB has the rest of tidb_server_memory_limit

Sizes are what the objects take, about: shared values count wherever they are held.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from sys import getsizeof
from typing import Any, TypeVar

from coprocessor.errors import OverQuota

REPORT_BYTES = 1 << 20
"""An execution that holds less is not counted among the holdings."""
SHARE_STEPS = 16
"""DuckDB's part is set anew when the others' changed by such a part of the whole."""
DUCK_SHARE_MIN = 8
"""A part like this stays DuckDB's, whatever the others hold."""


Row = TypeVar("Row", bound=Sequence[Any])


class Holdings:
    """What the executions of one database hold. Safe to share between threads."""

    def __init__(self, limit: int | None, leave: Callable[[int | None], None]) -> None:
        """`limit` is in bytes, None for none; `leave` is told how much DuckDB may have, and raises DuckDB's error when
        that is less than it needs at present."""
        self._leave = leave
        self._limit = limit
        self._mutex = threading.Lock()
        self._held = self._told = 0
        self._returned: deque[int] = deque()

    def set_limit(self, limit: int | None) -> None:
        """Sets the limit for what is held and DuckDB together. Raises what `leave` does, and then it stays."""
        with self._mutex:
            before, self._limit = self._limit, limit
            try:
                self._tell()
            except BaseException:
                self._limit = before
                raise

    def take(self, size: int) -> bool:
        """Counts so many bytes more; False when they are too many, and then they are not counted."""
        with self._mutex:
            self._drain()
            limit = self._limit
            if limit is None:
                self._held += size
                return True
            if self._held + size > limit - limit // DUCK_SHARE_MIN:
                return False
            self._held += size
            if self._held - self._told > limit // SHARE_STEPS:
                from coprocessor.duck import query_errors  # which counts by this module itself

                try:
                    self._tell()
                except query_errors():  # DuckDB cannot do with less
                    self._held -= size
                    return False
            return True

    def give_back(self, size: int) -> None:
        """Notes that so many bytes are gone; without the mutex, since the garbage collector calls it at any moment."""
        self._returned.append(size)

    def settle(self) -> None:
        """Leaves to DuckDB what has been given back."""
        if self._returned:
            with self._mutex:
                self._drain()
                if self._limit is not None and self._told - self._held > self._limit // SHARE_STEPS:
                    self._tell()

    def _drain(self) -> None:
        while self._returned:
            self._held -= self._returned.popleft()

    def _tell(self) -> None:
        limit = self._limit
        self._leave(None if limit is None else max(limit - self._held, limit // DUCK_SHARE_MIN))
        self._told = self._held


class Quota:
    """What one execution holds, in bytes, of `limit` (below 0: as much as there is). For one thread at a time.

    `owner` is named to the user when it is too much.
    """

    __slots__ = ("_counted", "_holdings", "_owner", "held", "limit")

    def __init__(self, limit: int = -1, holdings: Holdings | None = None, owner: int = 0) -> None:
        self.limit = limit
        self.held = 0
        self._holdings = holdings
        self._owner = owner
        self._counted = 0

    def hold(self, size: int) -> None:
        """Counts so many bytes more, until the quota itself is gone. Raises OverQuota."""
        held = self.held = self.held + size
        if 0 <= self.limit < held:
            raise OverQuota(self._owner)
        if held - self._counted >= REPORT_BYTES and self._holdings is not None:
            if not self._holdings.take(held - self._counted):
                raise OverQuota(self._owner)
            self._counted = held

    @property
    def rest(self) -> int:
        """What is left; below 0: as much as there is."""
        return -1 if self.limit < 0 else max(self.limit - self.held, 0)

    def rows(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Passes rows on to whoever keeps them."""
        for row in rows:
            self.hold(row_bytes(row))
            yield row

    def __del__(self) -> None:
        if self._counted and self._holdings is not None:
            self._holdings.give_back(self._counted)


UNLIMITED = Quota()


def row_bytes(row: Sequence[Any]) -> int:
    """What a row takes with its values."""
    return getsizeof(row) + sum(map(getsizeof, row))
