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


ON_A_CLUSTER = ("tests/dbapi/", "tests/session/", "tests/sql/")
"""Where a test of the fixture `connect` runs on a cluster too."""


PROCESSES = ("tests/e2e/", "tests/tikv_client/")
"""Whose clusters are processes: one at a time, since two at once would take each other's processors."""


@pytest.hookimpl(tryfirst=True)  # before xdist looks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(PROCESSES) and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group("processes"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "connect" in metafunc.fixturenames:
        storages: list[Any] = ["embedded"]
        where = metafunc.definition.nodeid
        if where.startswith(ON_A_CLUSTER):
            storages.append(pytest.param("cluster", marks=pytest.mark.slow))
        metafunc.parametrize("connect", storages, indirect=True)


@pytest.fixture
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connect]:
    """Opens connections to one database (autocommit unless told otherwise) and closes what is left open.

    The database is on disk, or in a cluster.
    """
    import sqlfront

    opened: list[Any] = []
    world: Any = None
    if request.param == "cluster":
        from tests.cluster_sql.world import World

        world = World()

    def open_one(**options: Any) -> Any:
        options.setdefault("autocommit", True)
        opened.append(sqlfront.connect(tmp_path / "db", **options) if world is None else world.connect(**options))
        return opened[-1]

    yield open_one
    for connection in reversed(opened):
        if not connection.closed:
            connection.close()
    if world is not None:
        world.close()


@pytest.fixture
def con(connect: Connect) -> Any:
    """One autocommit connection."""
    return connect()
