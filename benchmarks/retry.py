"""A transaction that is run again when it meets a conflict or a deadlock; only commits are counted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from benchmarks.engines.api import Cursor, Engine
from benchmarks.measure import Operation

RETRIES_MAX = 1_000


def until_committed(
    engine: Engine, cursor: Cursor, operation: Operation, on_conflict: Callable[[], None] = lambda: None
) -> Operation:
    """Returns the transaction with its retries; `on_conflict` is told of each."""
    errors = engine.errors

    def run() -> None:
        for _ in range(RETRIES_MAX):
            try:
                return operation()
            except errors as error:
                if not engine.conflict(error):
                    raise
                on_conflict()
                with contextlib.suppress(*errors):
                    cursor.execute("ROLLBACK")
        raise RuntimeError(f"{engine.name}: a transaction met a conflict {RETRIES_MAX} times")

    return run
