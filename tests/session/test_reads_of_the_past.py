"""tidb_read_staleness on one storage: what sessions read that set it, and those that begin with it."""

from __future__ import annotations

from typing import Any

from sqlfront.session import Session
from tests.session.statements import rows, run

BY_SCAN = "select sum(v) from t"


def by_key(session: Session) -> list[Any]:
    """By the shortest way, which is the one of a parameter."""
    return session.execute("select v from t where id = ?", (1,)).fetch_all()


def test_a_session_reads_as_of_some_seconds_ago(a: Session) -> None:
    run(a, "set tidb_read_staleness = -3600")
    assert (by_key(a), rows(a, BY_SCAN)) == ([], [(None,)])
    run(a, "set tidb_read_staleness = 0")
    assert by_key(a) == [(10,)]


def test_a_session_begins_with_the_global_staleness(a: Session) -> None:
    run(a, "set global tidb_read_staleness = -3600")
    later = a.database.session()
    try:
        later.use("test")
        assert (by_key(later), rows(later, BY_SCAN)) == ([], [(None,)])
        assert by_key(a) == [(10,)]
    finally:
        later.close()
