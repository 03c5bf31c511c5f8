"""max_execution_time: a query that takes longer is stopped with error 3024, from its start to its last row.

A timer interrupts the session as `Connection.interrupt` does; what that raises becomes 3024 here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
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
        result = limit.watch(lambda: self._executable.run(session, params))
        if result.source is None:
            limit.end()
        else:
            result.source = _LimitedSource(result.source, limit)
        return result


class _TimeLimit:
    """The timer of one execution.

    Between two fetches nothing is interrupted: the session may run another statement then. The next fetch is told.
    """

    def __init__(self, session: Session, limit_ms: int) -> None:
        self._session = session
        self._mutex = threading.Lock()
        self._busy = self._stopped = self._missed = False
        self._timer = threading.Timer(limit_ms / 1000, self._stop)
        self._timer.daemon = True
        self._timer.start()

    def _stop(self) -> None:
        with self._mutex:
            if self._busy:
                self._stopped = True
                self._session.interrupt()
            else:
                self._missed = True

    def watch(self, step: Callable[[], _T]) -> _T:
        """Runs one step of the execution. Raises 3024 when the time was up before it or ended it, and what the step
        raises for other reasons; the execution is over then."""
        from sqlfront.translate import translate

        with self._mutex:
            if self._missed:
                raise error(ER_QUERY_TIMEOUT, TIME_IS_UP)
            self._busy = True
        try:
            return step()
        except Exception as exc:
            self.end()
            found = exc if isinstance(exc, Error) else translate(exc)
            if self._stopped and found.code == ER_QUERY_INTERRUPTED:
                raise error(ER_QUERY_TIMEOUT, TIME_IS_UP) from exc
            raise
        finally:
            with self._mutex:
                self._busy = False

    def end(self) -> None:
        """Nothing is left to be limited."""
        self._timer.cancel()


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
        while (item := self._limit.watch(lambda: next(items, None))) is not None:
            yield item
        self._limit.end()

    def close(self) -> None:
        self._limit.end()
        self._source.close()
