"""Sessions on one database: in memory, or in a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sqlfront.database import Database
from sqlfront.session import Session
from tests.session.statements import Connect


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Opens sessions on one fresh database, in its database `test`."""
    if request.param == "cluster":
        from tests.cluster_sql.world import World

        world = World()
        database, close = world.first, world.close
    else:
        database = Database.open(None)
        close = database.close
    opened: list[Session] = []

    def open_session() -> Session:
        session = database.session()
        session.use("test")
        opened.append(session)
        return session

    yield open_session
    for session in opened:
        session.close()
    close()


@pytest.fixture
def a(connect: Callable[[], Session]) -> Session:
    session = connect()
    session.execute("create table t (id int primary key, v int, s varchar(10), key v (v))")
    session.execute("insert into t values (1, 10, 'a'), (2, 20, 'b'), (3, 30, 'c')")
    return session


@pytest.fixture
def b(a: Session, connect: Connect) -> Session:
    return connect()
