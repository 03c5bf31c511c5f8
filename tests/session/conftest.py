"""Sessions on one database in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sqlfront.database import Database
from sqlfront.session import Session
from tests.session.statements import Connect


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Opens sessions on one fresh database, in its database `test`."""
    database = Database.open(None)
    opened: list[Session] = []

    def open_session() -> Session:
        session = database.session()
        session.execute("create database if not exists test")
        session.use("test")
        opened.append(session)
        return session

    yield open_session
    for session in opened:
        session.close()
    database.close()


@pytest.fixture
def a(connect: Callable[[], Session]) -> Session:
    session = connect()
    session.execute("create table t (id int primary key, v int, s varchar(10), key v (v))")
    session.execute("insert into t values (1, 10, 'a'), (2, 20, 'b'), (3, 30, 'c')")
    return session


@pytest.fixture
def b(a: Session, connect: Connect) -> Session:
    return connect()
