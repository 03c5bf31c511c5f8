"""Leases and switches of servers that stand still, lose answers or are interrupted: one store, a manual clock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from kvstore.client.api import LOGICAL_BITS
from kvstore.client.embedded import EmbeddedStore
from kvstore.errors import CommitRejected, KvError
from pd.oracle import LocalOracle
from sqlfront.catalog.info import Action
from sqlfront.catalog.jobs import Job
from sqlfront.catalog.lease import COMMIT_MARGIN_MS, DEAD_MS, LEASE_MS, SWITCH, SWITCH_MS, SchemaLease, Switch
from sqlfront.catalog.meta import SCHEMA_VERSION, Meta, MetaReader, string_key
from sqlfront.threads import OS_THREADS

TABLE = 7


class Clock:
    """Time for one thread: whoever waits moves it on. See `sqlfront.threads.Threads`."""

    mutex = staticmethod(OS_THREADS.mutex)
    reentrant_mutex = staticmethod(OS_THREADS.reentrant_mutex)
    event = staticmethod(OS_THREADS.event)

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000
        self.while_waiting: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        return self.ms / 1000

    def sleep(self, seconds: float) -> None:
        self.ms += max(int(seconds * 1000), 1)
        self.while_waiting()

    def condition(self) -> Any:
        clock = self

        class Condition(threading.Condition):
            def wait(self, timeout: float | None = None) -> bool:
                clock.sleep(timeout or 0.0)
                return False

        return Condition()

    def start(self, name: str, main: Callable[[], None]) -> Any:
        raise AssertionError("these servers have no background")


class Servers:
    """Servers over one store; `look` is a round of one's background."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = EmbeddedStore.open(None, lambda window: LocalOracle(window, lambda: self.clock.ms))

    def server(self) -> SchemaLease:
        made = SchemaLease(self.store, self.version, lambda: 0, self.clock)  # type: ignore[arg-type]
        made._look()
        assert made.has_lease
        return made

    def version(self) -> int:
        return MetaReader(self.store.snapshot()).schema_version()

    def change(self, owner: SchemaLease, others: list[SchemaLease], commit: Any = None) -> int:
        """Makes the next version by a switch of the table, while `others` do their rounds."""
        txn = self.store.begin(pessimistic=False)
        version = Meta(txn).increment(SCHEMA_VERSION)
        self.clock.while_waiting = lambda: [other._look() for other in others] and None
        try:
            owner.switch({TABLE}, version, commit or txn.commit)
            owner.made(version)
        finally:
            self.clock.while_waiting = lambda: None
            txn.rollback()
        return version


def fail_at(server: SchemaLease, commit_ts: int, failure: KvError) -> None:
    """A commit of the table that fails after its timestamp was checked."""

    def commit() -> None:
        with server.committing({TABLE}) as check:
            check(commit_ts)
            raise failure

    with pytest.raises(type(failure)):
        commit()


@pytest.fixture
def servers() -> Servers:
    return Servers()


def test_all_go_on_together(servers: Servers) -> None:
    a, b = servers.server(), servers.server()
    with a.owning():
        version = servers.change(a, [b])
    assert a._record.version == b._record.version == version == servers.version()
    assert a.is_settled
    assert b.is_settled


def test_a_renewal_after_a_lease_that_was_passed_over_gives_none(servers: Servers) -> None:
    a, b = servers.server(), servers.server()
    before = b._record.version
    servers.clock.ms += LEASE_MS + 1000
    a._look()
    with a.owning():
        version = servers.change(a, [])
    b._renew(before)  # where it stood still
    assert not b.has_lease
    with pytest.raises(CommitRejected):
        b._check(servers.store.now_ts())
    b._look()
    assert b.has_lease
    assert b._record.version == version


def test_a_switch_that_is_published_while_a_server_comes_back_is_not_missed(servers: Servers) -> None:
    a, b = servers.server(), servers.server()
    servers.clock.ms += LEASE_MS + 1000
    a._look()
    begin = servers.store.begin

    def interleaved(**options: Any) -> Any:
        txn = begin(**options)
        commit = txn.commit

        def late() -> int:
            now = servers.store.now_ts()
            switch = Switch(now, 1, frozenset({TABLE}), now + (SWITCH_MS << LOGICAL_BITS))
            a._write({string_key(SWITCH): switch.dumps()})
            return commit()

        txn.commit = late
        return txn

    servers.store.begin = interleaved  # type: ignore[method-assign]
    b._renew(b._record.version)
    servers.store.begin = begin  # type: ignore[method-assign]
    assert not b.has_lease
    b._look()
    assert b._fence.switch is not None


def test_a_renewal_in_time_asks_nobody(servers: Servers) -> None:
    a = servers.server()
    until = a._until
    servers.clock.ms += LEASE_MS // 2
    servers.store.begin = None  # type: ignore[assignment, method-assign]
    a._look()
    assert a._until > until


def test_a_clock_that_jumps_ends_leases_and_reads(servers: Servers) -> None:
    a = servers.server()
    assert a.covers(servers.store.now_ts())
    monotonic = a._threads.monotonic
    a._threads.monotonic = lambda: 0.0  # type: ignore[method-assign]
    servers.clock.ms += 3_600_000
    assert a.has_lease
    assert not a.covers(servers.store.now_ts())
    with pytest.raises(CommitRejected):
        a._check(servers.store.now_ts())
    ts = servers.store.now_ts()
    a.cover(ts)
    assert a.covers(ts)
    a._threads.monotonic = monotonic  # type: ignore[method-assign]


def test_a_read_during_a_switch_is_not_covered(servers: Servers) -> None:
    a = servers.server()
    before = servers.store.now_ts()
    now = servers.store.now_ts()
    a._hold(Switch(now, 1, frozenset({TABLE}), now + (SWITCH_MS << LOGICAL_BITS)))
    assert a.covers(before)
    assert not a.covers(servers.store.now_ts())


def test_a_commit_whose_answer_is_lost_holds_the_answer_to_a_switch_up(servers: Servers) -> None:
    a, b = servers.server(), servers.server()
    late = servers.store.now_ts() + (2000 << LOGICAL_BITS)
    fail_at(b, late, KvError("the answer was lost"))
    with a.owning():
        version = servers.change(a, [b])
    history = servers.store.snapshot(late)
    assert MetaReader(history).schema_version() == version - 1, "the switch was made before the commit can be"
    assert b._record.version == version


def test_a_commit_that_failed_holds_nothing_up(servers: Servers) -> None:
    b = servers.server()
    fail_at(b, servers.store.now_ts(), CommitRejected("by its check"))
    assert b._fence.uncertain == 0
    assert not b._fence.busy


@pytest.mark.parametrize("is_made", [True, False])
def test_a_change_whose_answer_is_lost_is_found_out(servers: Servers, is_made: bool) -> None:
    a, b = servers.server(), servers.server()
    txn = servers.store.begin(pessimistic=False)
    version = Meta(txn).increment(SCHEMA_VERSION)
    servers.clock.while_waiting = b._look

    def commit(check: Callable[[int], None]) -> int:
        if is_made:
            txn.commit(check)
        else:
            check(servers.store.now_ts() + (1000 << LOGICAL_BITS))
        raise KvError("the answer was lost")

    with a.owning():
        if is_made:
            _, interrupt = a.switch({TABLE}, version, commit)
            assert interrupt is None
            a.made(version)
        else:
            with pytest.raises(CommitRejected):
                a.switch({TABLE}, version, commit)
    txn.rollback()
    b._look()
    assert a.is_settled
    assert b.is_settled
    assert b._record.version == servers.version() == (version if is_made else version - 1)


def test_an_interrupt_while_others_are_waited_for_leaves_nothing(servers: Servers) -> None:
    a, b = servers.server(), servers.server()

    def interrupt() -> None:
        raise KeyboardInterrupt

    servers.clock.while_waiting = interrupt
    with a.owning(), pytest.raises(KeyboardInterrupt):
        a.switch({TABLE}, 1, lambda check: 0)
    servers.clock.while_waiting = lambda: None
    assert a.is_settled
    b._look()
    assert b.is_settled


def test_a_switch_that_was_given_up_does_not_hold_others_to_its_deadline(servers: Servers) -> None:
    a, b = servers.server(), servers.server()
    now = servers.store.now_ts()
    switch = Switch(now, 1, frozenset({TABLE}), now + (SWITCH_MS << LOGICAL_BITS))
    a._write({string_key(SWITCH): switch.dumps()})
    b._look()
    assert not b.is_settled
    a._write({string_key(SWITCH): None})
    b._look()
    assert b.is_settled


def test_a_fence_stays_while_the_switch_can_be_made(servers: Servers) -> None:
    a, b = servers.server(), servers.server()
    now = servers.store.now_ts()
    switch = Switch(now, 1, frozenset({TABLE}), now + (SWITCH_MS << LOGICAL_BITS))
    a._write({string_key(SWITCH): switch.dumps()})
    while servers.clock.ms <= switch.until >> LOGICAL_BITS:
        b._look()
        assert not b.is_settled
        servers.clock.ms += 1000
    b._look()
    assert b.is_settled


def test_an_owner_that_stood_still_cannot_commit(servers: Servers) -> None:
    a, b = servers.server(), servers.server()
    txn = servers.store.begin(pessimistic=False)
    version = Meta(txn).increment(SCHEMA_VERSION)

    def slow(check: Callable[[int], None]) -> int:
        servers.clock.ms += 2 * LEASE_MS
        return txn.commit(check)

    with a.owning(), pytest.raises(CommitRejected):
        a.switch((), version, slow)
    txn.rollback()
    assert servers.version() == version - 1
    with b.owning(timeout_s=0) as owns:
        assert owns


def test_a_job_that_nobody_owns_is_taken_up(servers: Servers) -> None:
    a = servers.server()
    called: list[int] = []
    a.on_orphans = lambda: called.append(1)
    a._look_for_orphans()
    assert not called
    txn = servers.store.begin(pessimistic=False)
    Job(5, int(Action.ADD_INDEX), 1, TABLE).put(Meta(txn))
    txn.commit()
    a._look_for_orphans()
    assert called


def test_a_lease_that_is_nearly_over_is_not_committed_by(servers: Servers) -> None:
    a = servers.server()
    servers.clock.ms += LEASE_MS - COMMIT_MARGIN_MS // 4
    with pytest.raises(CommitRejected), a.committing({TABLE}) as check:
        check(servers.store.now_ts() + (2000 << LOGICAL_BITS))


def test_records_of_dead_servers_go(servers: Servers) -> None:
    a, b = servers.server(), servers.server()
    servers.clock.ms += LEASE_MS + DEAD_MS + 1000
    a._look()
    a.forget_dead()
    assert list(a.servers(MetaReader(servers.store.snapshot()))) == [a.server_id]
    b._look()
    assert b.has_lease
    assert len(a.servers(MetaReader(servers.store.snapshot()))) == 2


def test_a_server_that_comes_back_while_it_is_forgotten_is_not_lost(servers: Servers) -> None:
    a, b = servers.server(), servers.server()
    servers.clock.ms += LEASE_MS + DEAD_MS + 1000
    a._look()
    read = a.servers

    def and_back(meta: MetaReader) -> Any:
        found = read(meta)
        b._look()
        return found

    a.servers = and_back  # type: ignore[method-assign]
    a.forget_dead()
    assert b.has_lease
    assert b.server_id in read(MetaReader(servers.store.snapshot()))
