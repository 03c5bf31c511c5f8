"""SELECT ... FOR UPDATE and FOR SHARE: current reads that lock the rows they return.

Over one table the rows are locked as the query takes them, after the order and before the limit, so `ORDER BY ...
LIMIT 1 FOR UPDATE SKIP LOCKED` locks one row; rows whose keys are known are locked and read at once. With joins,
aggregates or subqueries every row that a table's own conditions select is locked, and the query then reads at the
locks' timestamp. Outside a transaction the locks end with the statement. FOR SHARE locks as FOR UPDATE does: TiKV has
no shared pessimistic locks here.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kvstore.client.api import Transaction
from kvstore.errors import WriteConflict
from sqlfront.errors import ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, error
from sqlfront.exec.context import environment
from sqlfront.exec.direct import compile_locking
from sqlfront.exec.query import ResidualQuery, compile_query, result_columns
from sqlfront.exec.reading import Row, ScanReader
from sqlfront.plan.nodes import QueryPlan, Scan, walk_nodes
from sqlfront.result import ListSource, Result

if TYPE_CHECKING:
    from sqlfront.session import Session

LOCK_CHUNK_ROWS = 256


class LockingQuery:
    """A query that locks."""

    any_integer = False

    def __init__(self, plan: QueryPlan, zone: dt.tzinfo) -> None:
        assert plan.lock is not None
        self.plan = plan
        self.zone = zone
        self.lock = plan.lock
        self.columns = result_columns(plan)
        self.plain = compile_query(QueryPlan(plan.root, plan.names, None, plan.tables), zone)
        self.direct = compile_locking(plan.root, zone)
        named = {name.casefold() for name in self.lock.tables}
        self.scans = [
            ScanReader(n, zone)
            for n in walk_nodes(plan.root)
            if isinstance(n, Scan) and (not named or n.alias.casefold() in named)
        ]

    def run(self, session: Session, params: tuple[Any, ...]) -> Result:
        if session.read_only:
            if not self.lock.share:
                raise error(
                    ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, "Cannot execute statement in a READ ONLY transaction."
                )
            return self.plain.run(session, params)
        if session.txn is None:
            return self._alone(session, params)

        def work(txn: Transaction, pessimistic: bool) -> Result:
            return self._work(session, txn, pessimistic, params)

        return session.run_write(work, self.plan.tables)

    def _alone(self, session: Session, params: tuple[Any, ...]) -> Result:
        """Outside a transaction: waits for others' locks as it must, and lets go of its own at the end."""
        while True:
            txn = session.storage.begin(pessimistic=True)
            txn.cancel = session.cancel
            try:
                return self._work(session, txn, True, params)
            except WriteConflict:
                continue
            finally:
                txn.rollback()

    def _work(self, session: Session, txn: Transaction, pessimistic: bool, params: tuple[Any, ...]) -> Result:
        env = environment(session, params)
        ts = session.storage.now_ts() if pessimistic else txn.start_ts
        session.check_read(ts)
        wait_ms = 0 if self.lock.wait else session.variables.lock_wait_ms
        skip = self.lock.wait == "skip locked"
        if self.direct is not None and not skip:
            keys = self.direct.points(env)
            if keys is not None:
                found = txn.lock_and_get(keys, for_update_ts=ts, wait_ms=wait_ms) if keys else {}
                rows = list(env.quota.rows(self.direct.run(found.items(), env, iter)))
                session.found_rows = len(rows)
                return Result(self.columns, ListSource(self.columns, rows))
        reader = txn.at(ts) if pessimistic else txn
        lock = functools.partial(txn.lock_keys, for_update_ts=ts, wait_ms=wait_ms, skip_locked=skip)
        if self.direct is not None:
            # Behind a limit nobody knows how many rows will be wanted: they are locked as they are taken.
            chunk = 1 if skip or self.direct.limited else LOCK_CHUNK_ROWS
            taken = self.direct.run(self.direct.pairs(reader, env), env, functools.partial(_take, lock, chunk))
            rows = list(env.quota.rows(taken))
            session.found_rows = len(rows)
            return Result(self.columns, ListSource(self.columns, rows))
        for scan in self.scans:
            for _ in _take(lock, LOCK_CHUNK_ROWS, scan.keyed_rows(reader, env)):
                pass
        query = ResidualQuery(self.plan, self.columns, self.zone)
        return query.run_at(session, params, reader)


def _take(lock: Callable[[Sequence[bytes]], Sequence[bytes]], chunk: int, rows: Iterable[Row]) -> Iterator[Row]:
    """Locks rows (their last value is the record key), `chunk` at a time, and passes on those it got."""
    left = iter(rows)
    while some := list(itertools.islice(left, chunk)):
        locked = set(lock([row[-1] for row in some]))
        for row in some:
            if row[-1] in locked:
                yield row
