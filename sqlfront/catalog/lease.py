"""Which schema version each SQL server of a cluster works by, and how all go on to the next one together.

Every server keeps a record under the `m` keys: its version, and a *lease*, the timestamp up to which it may commit by
that version. It renews the record in time and looks for changes every `POLL_S`. A server that cannot is without a lease
soon, and neither commits nor begins a statement; so a change never waits for a dead server longer than a lease.

A change that writers or readers of a table must not mix with the old version is a *switch* (as in Spanner, the versions
meet at one commit timestamp; so F1's intermediate states are needed for what has to be built only):

    publish   a record names the switch, the tables and a deadline
    fence     each server that sees it lets no statement begin and no commit of these tables; what is under way ends
    answer    then its own record says so
    commit    when all servers with a lease have answered: one transaction, before the deadline
    lift      each server takes in the new version (or sees that the deadline has passed, and goes on as before)

So at every commit timestamp there is one schema version by which all servers write. Changes run one at a time: the
*owner* is whoever holds a record with a deadline of its own, for one statement.

Why nobody is overlooked. The owner passes over a server whose lease, as a snapshot after the publication shows it, is
over. Such a server can only come back by a transaction (`_rejoin`) that has read the newest version, and conflicts with
a publication that it has not read; and while a lease lasts it is only renewed by commits before its end (`_renew`). So
however long a server stood still, it does not write its record over what it has missed.

Why no commit comes late. A server answers when no commit of the tables is under way, *and* the time has passed up to
which one whose answer was lost could still be timestamped. What became of the owner's own commit, when its answer is
lost, is read at the newest timestamp that it could have (`_was_made`): a read there keeps later ones out.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kvstore.client.api import LOGICAL_BITS
from kvstore.errors import CommitRejected, KvError, TxnError
from sqlfront.catalog.jobs import PAUSED
from sqlfront.catalog.meta import DDL_JOBS, SCHEMA_VERSION, MetaReader, hash_key, string_key
from sqlfront.errors import error
from sqlfront.threads import OS_THREADS, Joinable, Threads

if TYPE_CHECKING:
    from kvstore.client.api import CommitCheck, Storage

SERVERS = b"Servers"
SWITCH = b"SchemaSwitch"
OWNER = b"DDLOwner"

POLL_S = 0.1
"""How often a server looks for a new version or a switch."""
LEASE_MS = 10_000
RENEW_MS = 3_000
COMMIT_MARGIN_MS = 4_000
"""A commit begins only with so much of the lease left: it may be timestamped two seconds later than it began."""
SWITCH_MS = 15_000
"""How long servers hold still for a switch; it is given up after that."""
OWNER_MS = 10_000
OWNER_POLL_S = 0.05
FIND_OUT_S = 30.0
"""How long an owner tries to find out whether a change was made whose answer was lost."""
LET_GO_ATTEMPTS = 3
FENCE_WAIT_S = 50.0
LOCK_WAIT_MS = 2_000
DEAD_MS = 60_000
"""So long after its lease a server's record is removed."""
FORGET_ROUNDS = 600
"""How many rounds there are between two looks for such records."""
ER_SCHEMA_OUT_OF_DATE = 8027


def _later(ts: int, ms: int) -> int:
    return ts + (ms << LOGICAL_BITS)


@dataclass
class Switch:
    """A change that all servers make at one timestamp, at the latest at `until`."""

    id: int
    version: int
    tables: frozenset[int]
    until: int

    def dumps(self) -> bytes:
        return json.dumps(
            {"id": self.id, "version": self.version, "tables": sorted(self.tables), "until": self.until}
        ).encode()

    @classmethod
    def loads(cls, data: bytes | None) -> Switch | None:
        if data is None:
            return None
        found = json.loads(data)
        return cls(found["id"], found["version"], frozenset(found["tables"]), found["until"])


@dataclass
class ServerRecord:
    """What a server says of itself. `oldest` is the oldest timestamp it reads at, 0 if none."""

    version: int = 0
    answered: int = 0
    until: int = 0
    oldest: int = 0
    where: str = ""

    def dumps(self) -> bytes:
        return json.dumps(self.__dict__).encode()

    @classmethod
    def loads(cls, data: bytes) -> ServerRecord:
        return cls(**json.loads(data))


@dataclass
class _Fence:
    """What commits and statements of this server have to wait for."""

    switch: Switch | None = None
    is_mine: bool = False
    """Whether this server is the owner that makes the switch."""
    busy: dict[int, int] = field(default_factory=dict)
    """Commits under way, by the tables that they write."""
    uncertain: int = 0
    """The newest timestamp that a commit whose answer was lost may have, or still get."""


class SchemaLease:
    """This server's part. `advance(version)` takes in the schema as it is stored and returns its version.

    `oldest()` gives the oldest timestamp that is read at here.
    """

    def __init__(
        self,
        storage: Storage,
        advance: Callable[[], int],
        oldest: Callable[[], int],
        threads: Threads = OS_THREADS,
        server_id: int | None = None,
    ) -> None:
        self.server_id = secrets.randbits(62) | 1 if server_id is None else server_id
        self._storage = storage
        self._threads = threads
        self._advance = advance
        self._oldest = oldest
        self._record = ServerRecord(where=f"{socket.gethostname()}:{os.getpid()}")
        self._until = 0
        self._deadline = 0.0
        """The end of the lease on the monotonic clock."""
        self._fence = _Fence()
        self._changed = threads.condition()
        self._round = threads.mutex()
        self._last_owner: Mapping[str, Any] | None = None
        self._mutex = threads.reentrant_mutex()
        """Held by the thread that changes the schema."""
        self._depth = 0
        self._thread_of_change = 0
        self._owner_until = 0
        self._watched: dict[bytes, tuple[bytes | None, Callable[[], None]]] = {}
        self.on_orphans: Callable[[], None] | None = None
        """Called now and then by the background when an owner has died."""
        self._stopping = threads.event()
        self._thread: Joinable | None = None

    @property
    def version(self) -> int:
        """The schema version that this server works by."""
        return self._record.version

    @property
    def left_s(self) -> float:
        """How many seconds the lease still holds; 0 without one."""
        return max(self._deadline - self._threads.monotonic(), 0.0)

    @property
    def last_owner(self) -> Mapping[str, Any] | None:
        """Who changed the schema when this server last looked, about a second ago; see `owner`."""
        return self._last_owner

    @property
    def where(self) -> str:
        """Host and process."""
        return self._record.where

    def watch(self, key: bytes, changed: Callable[[], None]) -> None:
        """Calls `changed`, on the thread of the lease, when the value of a string key is another."""
        self._watched[string_key(key)] = (self._storage.get_latest(string_key(key)), changed)

    # The life of a server

    def join(self) -> None:
        """Makes this server known, and takes in the schema. Raises what the store does."""
        self._look()
        while not self.has_lease:
            self._threads.sleep(POLL_S / 2)  # a switch came in between, or is on
            self._look()
        self._thread = self._threads.start("sqlfront-schema-lease", self._keep)

    def leave(self) -> None:
        """Takes this server's record away, so that nobody waits for it."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._deadline = 0.0
        with suppress(KvError):  # then the lease runs out
            self._write({self._key: None})

    def _keep(self) -> None:
        from kvstore.failpoint import fail_point

        looked = 0
        while not self._stopping.wait(POLL_S):
            try:
                if fail_point("sql::lease") is None:
                    self._look()
                    looked += 1
                    if looked % 10 == 0:
                        self._look_for_orphans()
                    if looked % FORGET_ROUNDS == 0:
                        self.forget_dead()
            except KvError:
                continue  # the lease runs out if this lasts
            except Exception:  # noqa: BLE001 - a server without a lease refuses statements, and says why
                from kvstore.ops.log import get_logger

                get_logger(__name__).exception("schema_not_loaded")

    def _look(self) -> None:
        """One round: takes in a newer version, answers or lifts a switch, renews the lease; tells who watches keys."""
        found = self._look_at_schema()
        for key, (known, changed) in list(self._watched.items()):
            if found.get(key) != known:
                changed()
                self._watched[key] = (found.get(key), changed)

    def _look_at_schema(self) -> Mapping[bytes, bytes]:
        """Returns the values of the keys that are looked at."""
        with self._round:
            snapshot = self._storage.snapshot()
            found = snapshot.batch_get([string_key(SCHEMA_VERSION), string_key(SWITCH), *self._watched])
            ts = snapshot.ts
            stored = int(found.get(string_key(SCHEMA_VERSION), b"0"))
            if self._depth and ts <= self._owner_until:
                # Its own changes are taken in by who makes them. One that has lost the ownership makes none any more,
                # and the next owner waits for this server as for any other.
                self._renew_if_due(ts)
                return found
            if stored > self._record.version:
                version = self._advance()
                self._lift(version, ts)
                self._renew(version)
                return found
            switch = Switch.loads(found.get(string_key(SWITCH)))
            if switch is not None and switch.version > self._record.version and ts <= switch.until:
                if switch.id != self._record.answered:
                    self._hold(switch)
                    if self._drained(switch, ts):
                        self._renew(self._record.version, switch.id)
            else:
                self._lift(self._record.version, ts, is_gone=True)
            self._renew_if_due(ts)
            return found

    def _renew_if_due(self, ts: int) -> None:
        is_due = self._threads.monotonic() > self._deadline - (LEASE_MS - RENEW_MS) / 1000
        if is_due or ts > self._until:  # the timestamps' clock may run ahead of ours
            self._renew(self._record.version, self._record.answered)

    def _renew(self, version: int, answered: int = 0) -> None:
        """Writes this server's record anew, with a new lease; there is none afterwards if the server is behind."""
        begun = self._threads.monotonic()
        held = self._until
        until = _later(self._storage.now_ts(), LEASE_MS)
        record = ServerRecord(version, answered, until, self._oldest(), self._record.where)

        def check(ts: int) -> None:
            if ts > held:
                raise CommitRejected("the lease ran out before it was renewed")

        try:
            self._write({self._key: record.dumps()}, check)
        except CommitRejected:
            if not self._rejoin(record):
                return
        with self._changed:
            self._record, self._until, self._deadline = record, record.until, begun + LEASE_MS / 1000
            self._changed.notify_all()
        if self._owner_until:
            self._renew_ownership()

    def _rejoin(self, record: ServerRecord) -> bool:
        """Takes a lease when the last one is over: a switch may have been made, or be made, that did not wait for it.

        Gives False, and no lease, when there is something to be taken in first.
        """
        txn = self._storage.begin(pessimistic=False)
        try:
            if MetaReader(txn).schema_version() != record.version:
                return False
            switch = Switch.loads(txn.get(string_key(SWITCH)))
            if switch is not None and switch.version > record.version and txn.start_ts <= switch.until:
                held = self._fence.switch
                if held is None or held.id != switch.id or not (self._fence.is_mine or record.answered == switch.id):
                    return False
            # With a switch that is published from now on this transaction has a conflict.
            txn.lock_keys([string_key(SWITCH)], for_update_ts=txn.start_ts, wait_ms=LOCK_WAIT_MS)
            record.until = _later(txn.start_ts, LEASE_MS)
            txn.put(self._key, record.dumps())
            txn.commit()
            return True
        except TxnError:
            return False
        finally:
            txn.rollback()

    @property
    def _key(self) -> bytes:
        return hash_key(SERVERS, b"%d" % self.server_id)

    def _write(self, writes: dict[bytes, bytes | None], check: CommitCheck | None = None) -> int:
        return self._storage.write(writes, (), wait_ms=LOCK_WAIT_MS, check=check)

    # Statements and commits

    @property
    def has_lease(self) -> bool:
        return self._threads.monotonic() < self._deadline

    @property
    def is_settled(self) -> bool:
        """Whether statements may begin: there is a lease, and no switch."""
        return self._fence.switch is None and self.has_lease

    def settle(self) -> None:
        """Waits for the end of a switch, or for a lease. Raises 8027."""
        until = self._threads.monotonic() + FENCE_WAIT_S
        while not self.is_settled:
            if self._threads.monotonic() > until:
                raise _out_of_date()
            if not self.has_lease:
                try:
                    self._look()
                except KvError as exc:
                    raise _out_of_date() from exc
            with self._changed:
                if not self.is_settled:
                    self._changed.wait(0.1)

    def covers(self, ts: int) -> bool:
        """Whether every switch up to `ts`, which was drawn before the call, is taken in here."""
        switch = self._fence.switch
        return ts <= self._until and (switch is None or ts < switch.id)

    def cover(self, ts: int) -> None:
        """Waits until `covers(ts)`. Raises 8027."""
        if self.covers(ts):
            return
        self.settle()
        if not self.covers(ts):  # the clock of the timestamps has jumped
            try:
                self._look()
            except KvError as exc:
                raise _out_of_date() from exc
        if not self.covers(ts):
            raise _out_of_date()

    @contextmanager
    def committing(self, tables: Collection[int]) -> Iterator[Callable[[int], None]]:
        """Holds a switch of these tables up while the block commits; gives the check of its timestamp."""
        if self._threads.monotonic() > self._deadline - COMMIT_MARGIN_MS / 1000:
            self.settle()
        busy = self._fence.busy
        with self._changed:
            until = self._threads.monotonic() + FENCE_WAIT_S
            while self._fence.switch is not None and not self._fence.switch.tables.isdisjoint(tables):
                if not self._changed.wait(0.1) and self._threads.monotonic() > until:
                    raise CommitRejected("Information schema is out of date: a change of the table does not end")
            for table in tables:
                busy[table] = busy.get(table, 0) + 1
        newest = 0

        def check(commit_ts: int) -> None:
            nonlocal newest
            self._check(commit_ts)
            newest = max(newest, commit_ts)

        try:
            yield check
        except TxnError:
            raise
        except BaseException:
            self._fence.uncertain = max(self._fence.uncertain, newest)
            raise
        finally:
            with self._changed:
                for table in tables:
                    busy[table] -= 1
                    if not busy[table]:
                        del busy[table]
                self._changed.notify_all()

    def _check(self, commit_ts: int) -> None:
        if commit_ts > self._until:
            raise CommitRejected("Information schema is out of date: the schema lease has run out")

    # A switch, on every server

    def _hold(self, switch: Switch, *, is_mine: bool = False) -> None:
        with self._changed:
            self._fence.switch, self._fence.is_mine = switch, is_mine

    def _drained(self, switch: Switch, ts: int) -> bool:
        """Whether, as of `ts`, which is past, no commit of the tables is under way; waits a little for that."""
        with self._changed:
            until = self._threads.monotonic() + POLL_S
            while not switch.tables.isdisjoint(self._fence.busy):
                self._changed.wait(0.01)
                if self._threads.monotonic() > until:
                    return False
            return self._fence.uncertain < ts

    def _lift(self, version: int, ts: int, *, is_gone: bool = False) -> None:
        """Ends the fence when the switch was made, or can no longer be: nothing commits it after its deadline.

        `is_gone` when its record was not there at `ts`: its owner, or the next one, gave it up. That of this server's
        own switch may not be there yet.
        """
        with self._changed:
            fence = self._fence
            switch = fence.switch
            if switch is None:
                return
            if version >= switch.version or ts > switch.until or (is_gone and not fence.is_mine):
                fence.switch = None
                self._changed.notify_all()

    # A switch, by the owner

    def switch(
        self, tables: Collection[int], version: int, commit: Callable[[CommitCheck], int]
    ) -> tuple[int, BaseException | None]:
        """Runs `commit` of the transaction that makes `version`; with `tables` all servers hold still for it.

        Returns its timestamp, or one that is not before it, and the interrupt that came while it was made. Raises 1105
        when a server does not answer in time. Nothing has changed when this raises, unless for `FIND_OUT_S` nobody
        could say; then the next look shows it.
        """
        owned = self._owner_until
        if not tables:
            return self._commit(version, commit, lambda ts: self._check_owner(ts, owned))
        now = self._storage.now_ts()
        switch = Switch(now, version, frozenset(tables), _later(now, SWITCH_MS))
        self._hold(switch, is_mine=True)

        def check(ts: int) -> None:
            self._check_owner(ts, self._owner_until)
            if ts > switch.until:
                raise CommitRejected("the schema change came too late")

        is_certain = True
        try:
            self._write({string_key(SWITCH): switch.dumps()})
            while not self._drained(switch, self._storage.now_ts()):
                self._give_up_if_late(switch)
            self._wait_for(lambda record: record.answered == switch.id, lambda: self._give_up_if_late(switch))
            is_certain = False
            return self._commit(version, commit, check)
        except BaseException as exc:
            # Where it is not certain that nothing was made, the next look shows it, or the deadline passes.
            if is_certain or isinstance(exc, TxnError):
                with suppress(KvError):
                    self._write({string_key(SWITCH): None})
                    self._unhold(switch)
            raise

    def _commit(
        self, version: int, commit: Callable[[CommitCheck], int], check: CommitCheck
    ) -> tuple[int, BaseException | None]:
        """Commits; when the answer is lost, finds out. Raises TxnError when nothing was made."""
        newest = 0

        def watched(ts: int) -> None:
            nonlocal newest
            check(ts)
            newest = max(newest, ts)

        try:
            return commit(watched), None
        except TxnError:
            raise
        except BaseException as exc:
            if not newest or not self._was_made(version, newest):
                if isinstance(exc, Exception):
                    raise CommitRejected(f"the schema change was not made: {exc}") from exc
                raise
            return newest, None if isinstance(exc, Exception) else exc

    def _was_made(self, version: int, newest: int) -> bool:
        """Whether a commit made `version` at `newest` at the latest. Raises KvError when nobody can say.

        No other owner made it: the ownership of this one lasts until after `newest`.
        """
        until = self._threads.monotonic() + FIND_OUT_S
        while True:
            try:
                if self._storage.now_ts() > newest:
                    return MetaReader(self._storage.snapshot(newest)).schema_version() >= version
            except KvError:
                if self._threads.monotonic() > until:
                    raise
            self._threads.sleep(POLL_S)

    def _unhold(self, switch: Switch) -> None:
        with self._changed:
            if self._fence.switch is switch:
                self._fence.switch = None
            self._changed.notify_all()

    def made(self, version: int) -> None:
        """`version` is in place here; waits for the others, so that the next statement anywhere sees it."""
        with self._round:
            if version >= self._record.version:
                self._lift(version, 0)
                self._renew(version)
        self._wait_for_version(version)

    def _wait_for_version(self, version: int) -> None:
        self._wait_for(lambda record: record.version >= version, lambda: None)

    def _give_up_if_late(self, switch: Switch) -> None:
        if self._storage.now_ts() > _later(switch.until, -SWITCH_MS // 3):
            raise error(1105, "a server does not answer to the schema change; nothing was changed, try again")

    def _wait_for(self, done: Callable[[ServerRecord], bool], tick: Callable[[], None]) -> None:
        """Waits until all other servers that have a lease are `done`."""
        pause = 0.005
        while True:
            meta = MetaReader(self._storage.snapshot())
            others = self.servers(meta)
            others.pop(self.server_id, None)
            if all(done(record) or record.until < meta.reader.ts for record in others.values()):
                return
            tick()
            self._threads.sleep(pause)
            pause = min(pause * 2, POLL_S / 2)

    def servers(self, meta: MetaReader) -> dict[int, ServerRecord]:
        """All servers that have a record."""
        return {int(name): ServerRecord.loads(value) for name, value in meta.hash_fields(SERVERS)}

    def forget_dead(self) -> None:
        """Removes the records of servers that are long gone; one that comes back meanwhile is a conflict."""
        txn = self._storage.begin(pessimistic=False)
        try:
            for server, record in self.servers(MetaReader(txn)).items():
                if _later(record.until, DEAD_MS) < txn.start_ts:
                    txn.delete(hash_key(SERVERS, b"%d" % server))
            if txn.is_dirty:
                txn.commit()
        except TxnError:
            return
        finally:
            txn.rollback()

    # The owner

    @property
    def is_mine(self) -> bool:
        """Whether the calling thread is the one that changes the schema."""
        return self._thread_of_change == threading.get_ident()

    @property
    def owns(self) -> bool:
        """Whether this server is still the owner. Raises KvError."""
        return self._storage.now_ts() <= self._owner_until

    @contextmanager
    def owning(self, timeout_s: float | None = None) -> Iterator[bool]:
        """Makes this server the one that changes the schema, for the block; re-entrant in a thread.

        Gives False, and changes nothing, when `timeout_s` is over before.
        """
        until = None if timeout_s is None else self._threads.monotonic() + timeout_s
        if not self._mutex.acquire(timeout=-1 if timeout_s is None else timeout_s):
            yield False
            return
        with ExitStack() as stack:
            stack.callback(self._mutex.release)
            if not self._depth:
                while not self._take_ownership():
                    if until is not None and self._threads.monotonic() > until:
                        yield False
                        return
                    self._threads.sleep(OWNER_POLL_S)
                stack.callback(self._disown)
                # What an owner before us made is everywhere, so that there are two versions at most.
                self._catch_up()
                self._thread_of_change = threading.get_ident()
            self._depth += 1
            try:
                yield True
            finally:
                self._depth -= 1

    def _disown(self) -> None:
        self._thread_of_change = 0
        self._owner_until = 0
        for _ in range(LET_GO_ATTEMPTS):
            with suppress(KvError):
                self._let_go()
                return

    def _catch_up(self) -> None:
        """Takes in the newest version, and waits until all others have."""
        while True:
            self._look()
            version = self._record.version
            if self._fence.switch is not None:
                self._threads.sleep(POLL_S / 2)  # of an owner that died: it passes
                continue
            self._wait_for_version(version)
            return

    def _take_ownership(self) -> bool:
        txn = self._storage.begin(pessimistic=False)
        try:
            key = string_key(OWNER)
            held = txn.get(key)
            if held is not None:
                owner = json.loads(held)
                if owner["until"] >= txn.start_ts and owner["server"] != self.server_id:
                    return False
            until = _later(txn.start_ts, OWNER_MS)
            txn.put(key, json.dumps({"server": self.server_id, "until": until, "where": self._record.where}).encode())
            txn.commit()
            self._owner_until = until
            return True
        except TxnError:
            return False
        finally:
            txn.rollback()

    def _renew_ownership(self) -> None:
        """Called with the lease's renewal; if it fails the ownership ends in time."""
        with suppress(KvError):
            txn = self._storage.begin(pessimistic=False)
            try:
                held = txn.get(string_key(OWNER))
                if held is None or json.loads(held)["server"] != self.server_id:
                    self._owner_until = 1  # lost: every commit is refused
                    return
                until = _later(txn.start_ts, OWNER_MS)
                record = {"server": self.server_id, "until": until, "where": self._record.where}
                txn.put(string_key(OWNER), json.dumps(record).encode())
                txn.commit()
                if self._owner_until > 1:
                    self._owner_until = until
            finally:
                txn.rollback()

    def _let_go(self) -> None:
        txn = self._storage.begin(pessimistic=False)
        try:
            held = txn.get(string_key(OWNER))
            if held is not None and json.loads(held)["server"] == self.server_id:
                txn.delete(string_key(OWNER))
                txn.commit()
        finally:
            txn.rollback()

    def _check_owner(self, ts: int, until: int) -> None:
        if ts > max(until, self._owner_until) or self._owner_until == 1:
            raise CommitRejected("another server changes the schema now: this one was too slow")

    def owner(self, meta: MetaReader) -> Mapping[str, Any] | None:
        """Who changes the schema now: `server`, `where`, `until`; None when nobody does."""
        held = meta.string(OWNER)
        return None if held is None else json.loads(held)

    def _look_for_orphans(self) -> None:
        meta = MetaReader(self._storage.snapshot())
        self._last_owner = owner = self.owner(meta)
        if self.on_orphans is None or self._depth:
            return
        if owner is not None:
            is_orphan = owner["until"] < meta.reader.ts
        else:  # an owner that could neither finish its job nor undo it has gone
            is_orphan = any(record["state"] != PAUSED for record in meta.json_fields(DDL_JOBS).values())
        if is_orphan:
            self.on_orphans()


def _out_of_date() -> Exception:
    return error(
        ER_SCHEMA_OUT_OF_DATE,
        "Information schema is out of date: this server has lost touch with the store; try again",
        sqlstate="HY000",
    )
