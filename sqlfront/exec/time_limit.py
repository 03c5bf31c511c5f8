"""max_execution_time: a query that takes longer is stopped with error 3024, from its start to its last row.

A timer interrupts the session as `Connection.interrupt` does; what that raises becomes 3024 here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sqlfront.errors import ER_QUERY_INTERRUPTED, ER_QUERY_TIMEOUT, Error, error
from sqlfront.result import Result, Row, RowSource

if TYPE_CHECKING:
    import pyarrow as pa

    from sqlfront.exec.statement import Executable
    from sqlfront.session import Session

TIME_IS_UP = "Query execution was interrupted, maximum statement execution time exceeded"

_T = TypeVar("_T")


class Limited:
    """A query that may take so many milliseconds."""

    def __init__(self, executable: Executable, limit_ms: int) -> None:
        self.any_integer = executable.any_integer
        self._executable = executable
        self._limit_ms = limit_ms

    def run(self, session: Session, params: tuple[Any, ...]) -> Result:
        limit = _TimeLimit(session, self._limit_ms)
        try:
            result = self._executable.run(session, params)
        except BaseException as exc:
            limit.end_by(exc)
            raise
        if result.source is None:
            limit.end()
        else:
            result.source = _LimitedSource(result.source, limit)
        return result


class _TimeLimit:
    """The timer of one execution."""

    def __init__(self, session: Session, limit_ms: int) -> None:
        self._session = session
        self._mutex = threading.Lock()
        self._over = self._stopped = False
        self._timer = threading.Timer(limit_ms / 1000, self._stop)
        self._timer.daemon = True
        self._timer.start()

    def _stop(self) -> None:
        with self._mutex:  # not when the next statement runs already
            if not self._over:
                self._stopped = True
                self._session.interrupt()

    def end(self) -> bool:
        """To be called at the end; returns whether the time was up before it."""
        self._timer.cancel()
        with self._mutex:
            self._over = True
            return self._stopped

    def end_by(self, exc: BaseException) -> None:
        """To be called for what ended the execution; raises 3024 where that was the time."""
        from sqlfront.translate import translate

        if self.end() and isinstance(exc, Exception):
            found = exc if isinstance(exc, Error) else translate(exc)
            if found.code == ER_QUERY_INTERRUPTED:
                raise error(ER_QUERY_TIMEOUT, TIME_IS_UP) from exc


class _LimitedSource:
    """Rows that the time limit holds for as well."""

    def __init__(self, source: RowSource, limit: _TimeLimit) -> None:
        self._source = source
        self._limit = limit

    def rows(self) -> Iterator[Sequence[Row]]:
        return self._watched(self._source.rows())

    def batches(self) -> Iterator[pa.RecordBatch]:
        return self._watched(self._source.batches())

    def _watched(self, items: Iterator[_T]) -> Iterator[_T]:
        try:
            yield from items
        except Exception as exc:
            self._limit.end_by(exc)
            raise
        self._limit.end()

    def close(self) -> None:
        self._limit.end()
        self._source.close()
