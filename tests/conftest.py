"""What all tests share: hypothesis without a clock, and a database in a temporary directory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from sqlfront.database import PYTHON_FRAMES_MIN

settings.register_profile(
    "sqlfront", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("sqlfront")

# hypothesis does not like the limit to move during a test, and the first database that is opened raises it
sys.setrecursionlimit(max(sys.getrecursionlimit(), PYTHON_FRAMES_MIN))

Connect = Callable[..., Any]


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    """Opens connections to one database on disk (autocommit unless told otherwise) and closes what is left open."""
    import sqlfront

    opened: list[Any] = []

    def open_one(**options: Any) -> Any:
        options.setdefault("autocommit", True)
        opened.append(sqlfront.connect(tmp_path / "db", **options))
        return opened[-1]

    yield open_one
    for connection in reversed(opened):
        if not connection.closed:
            connection.close()


@pytest.fixture
def con(connect: Connect) -> Any:
    """One autocommit connection."""
    return connect()
