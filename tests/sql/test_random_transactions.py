"""Random transactions on two connections against a naive model of snapshot isolation.

The model keeps whole tables: what is committed, and for every open transaction its snapshot, its own writes, the rows
it has locked. Reads come from the snapshot with the own writes over it; an update or delete of a pessimistic
transaction works on the newest committed row, as MySQL's do. Before a write of a row that the other connection holds,
the machine asks with NOWAIT and must be told so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import sqlfront
from tests.sql.sessions import second_session

KEYS = st.integers(1, 5)
WHO = st.integers(0, 1)
Table = dict[int, int]


@dataclass
class OpenTransaction:
    pessimistic: bool
    snapshot: Table
    seen: dict[int, int]
    writes: dict[int, int | None] = field(default_factory=dict)
    locked: set[int] = field(default_factory=set)
    maybe_locked: set[int] = field(default_factory=set)
    savepoint: dict[int, int | None] | None = None

    def view(self) -> Table:
        return _merged(self.snapshot, self.writes)


def _merged(base: Table, writes: dict[int, int | None]) -> Table:
    out = base | {k: v for k, v in writes.items() if v is not None}
    return {k: v for k, v in out.items() if writes.get(k, v) is not None}


class TwoConnections(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        first = sqlfront.connect(":memory:", autocommit=True)
        self.cons = [first, second_session(first)]
        self.observer = second_session(first)
        for con in self.cons:
            con.execute("set innodb_lock_wait_timeout = 1")
        first.execute("create table t (k int primary key, v int, key (v))")
        self.db: Table = {}
        self.version: dict[int, int] = {}
        self.open: list[OpenTransaction | None] = [None, None]

    def teardown(self) -> None:
        for con in (self.observer, self.cons[1], self.cons[0]):
            con.close()

    @initialize(rows=st.dictionaries(KEYS, st.integers(0, 9), max_size=5))
    def fill(self, rows: Table) -> None:
        for k, v in rows.items():
            self.cons[0].execute("insert into t values (?, ?)", (k, v))
        self.db = dict(rows)

    @rule(who=WHO, pessimistic=st.booleans())
    def begin(self, who: int, pessimistic: bool) -> None:
        if self.open[who] is not None:
            return
        self.cons[who].execute("begin pessimistic" if pessimistic else "begin optimistic")
        self.open[who] = OpenTransaction(pessimistic, dict(self.db), dict(self.version))
        self.read(who)

    @rule(who=WHO)
    def read(self, who: int) -> None:
        txn = self.open[who]
        expected = self.db if txn is None else txn.view()
        con = self.cons[who]
        assert dict(con.execute("select k, v from t").fetchall()) == expected
        assert con.execute("select count(*), sum(v) from t").fetchone() == (len(expected), _sum(expected))
        assert sorted(k for (k,) in con.execute("select k from t where v >= 5").fetchall()) == sorted(
            k for k, v in expected.items() if v >= 5
        )

    @rule(who=WHO, k=KEYS)
    def read_one(self, who: int, k: int) -> None:
        txn = self.open[who]
        expected = (self.db if txn is None else txn.view()).get(k)
        row = self.cons[who].execute("select v from t where k = ?", (k,)).fetchone()
        assert (None if row is None else row[0]) == expected

    def may_write(self, who: int, k: int) -> bool:
        """Tells whether nobody else holds the row; if somebody does, the database must say so."""
        other = self.open[1 - who]
        txn = self.open[who]
        if other is None or not other.pessimistic:
            return True
        if k in other.locked and k in self.db and (txn is None or txn.pessimistic):
            with pytest.raises(sqlfront.OperationalError) as raised:
                self.cons[who].execute("select v from t where k = ? for update nowait", (k,))
            assert raised.value.code == 3572
        return k not in other.locked | other.maybe_locked

    def current(self, who: int, k: int) -> int | None:
        """The row that a write works on."""
        txn = self.open[who]
        if txn is None:
            return self.db.get(k)
        if k in txn.writes:
            return txn.writes[k]
        return self.db.get(k) if txn.pessimistic else txn.snapshot.get(k)

    def wrote(self, who: int, k: int, v: int | None) -> None:
        txn = self.open[who]
        if txn is None:
            self.db = _merged(self.db, {k: v})
            self.version[k] = self.version.get(k, 0) + 1
        else:
            txn.writes[k] = v
            txn.locked.add(k)

    def touched(self, who: int, k: int) -> None:
        """A write that changed nothing may have locked the key or not."""
        txn = self.open[who]
        if txn is not None:
            txn.maybe_locked.add(k)

    @rule(who=WHO, k=KEYS, v=st.integers(10, 19))
    def update(self, who: int, k: int, v: int) -> None:
        if not self.may_write(who, k):
            return
        exists = self.current(who, k) is not None
        changed = self.current(who, k) not in (None, v)
        cursor = self.cons[who].execute("update t set v = ? where k = ?", (v, k))
        assert cursor.rowcount == int(changed)
        if changed:
            self.wrote(who, k, v)
        else:
            self.touched(who, k)
        assert exists or not changed

    @rule(who=WHO, k=KEYS)
    def increment(self, who: int, k: int) -> None:
        before = self.current(who, k)
        if not self.may_write(who, k):
            return
        self.cons[who].execute("update t set v = v + 1 where k = ?", (k,))
        if before is None:
            self.touched(who, k)
        else:
            self.wrote(who, k, before + 1)

    @rule(who=WHO, k=KEYS)
    def delete(self, who: int, k: int) -> None:
        if not self.may_write(who, k):
            return
        exists = self.current(who, k) is not None
        assert self.cons[who].execute("delete from t where k = ?", (k,)).rowcount == int(exists)
        if exists:
            self.wrote(who, k, None)
        else:
            self.touched(who, k)

    @rule(who=WHO, k=KEYS, v=st.integers(20, 29))
    def insert(self, who: int, k: int, v: int) -> None:
        txn = self.open[who]
        if not self.may_write(who, k):
            return
        if txn is not None and not txn.pessimistic and self.current(who, k) is not None:
            return  # an optimistic transaction may find the duplicate now or when it commits
        if self.current(who, k) is None:
            self.cons[who].execute("insert into t values (?, ?)", (k, v))
            self.wrote(who, k, v)
        else:
            with pytest.raises(sqlfront.IntegrityError) as raised:
                self.cons[who].execute("insert into t values (?, ?)", (k, v))
            assert raised.value.code == 1062
            self.touched(who, k)

    @rule(who=WHO)
    def savepoint(self, who: int) -> None:
        txn = self.open[who]
        if txn is not None:
            self.cons[who].execute("savepoint s")
            txn.savepoint = dict(txn.writes)

    @rule(who=WHO)
    def rollback_to_savepoint(self, who: int) -> None:
        txn = self.open[who]
        if txn is not None and txn.savepoint is not None:
            self.cons[who].execute("rollback to s")
            txn.writes = dict(txn.savepoint)

    @precondition(lambda self: any(self.open))
    @rule(who=WHO)
    def rollback(self, who: int) -> None:
        self.cons[who].execute("rollback")
        self.open[who] = None

    @precondition(lambda self: any(self.open))
    @rule(who=WHO)
    def commit(self, who: int) -> None:
        txn, other = self.open[who], self.open[1 - who]
        if txn is None:
            return
        held = set() if other is None else other.locked | other.maybe_locked
        if not txn.pessimistic and other is not None and other.pessimistic and held & set(txn.writes):
            return  # it would wait for the other's locks
        self.open[who] = None
        changed = [k for k in txn.writes if self.version.get(k, 0) != txn.seen.get(k, 0)]
        if not txn.pessimistic and changed:
            with pytest.raises(sqlfront.Error) as raised:
                self.cons[who].execute("commit")
            assert raised.value.code in (9007, 1062)
            return
        try:
            self.cons[who].execute("commit")
        except sqlfront.OperationalError:
            # rows touched by a statement that was undone may be checked too, as they stay locked
            assert any(self.version.get(k, 0) != txn.seen.get(k, 0) for k in txn.locked | txn.maybe_locked)
            assert not txn.pessimistic
            return
        self.db = _merged(self.db, txn.writes)
        for k in txn.writes:
            self.version[k] = self.version.get(k, 0) + 1

    @invariant()
    def the_observer_sees_what_is_committed(self) -> None:
        assert dict(self.observer.execute("select k, v from t").fetchall()) == self.db


def _sum(table: Table) -> Any:
    return sum(table.values()) if table else None


TwoConnections.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestTwoConnections = TwoConnections.TestCase
