"""A cluster for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests.cluster_sql.world import World

_names = count(1)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Three stores, a placement driver and a SQL server."""
    made = World()
    yield made
    made.close()


@pytest.fixture(scope="module")
def second(world: World) -> Any:
    """Another SQL server of the cluster."""
    return world.server()


@pytest.fixture
def database(world: World) -> str:
    """A new database of a test's own."""
    name = f"d{next(_names)}"
    with world.connect() as connection:
        connection.cursor().execute(f"create database {name}")
    return name
