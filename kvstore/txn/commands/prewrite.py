"""KvPrewrite: phase one for the keys of one region, optimistic or pessimistic, also as async commit or 1PC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvstore.errors import AssertionFailed
from kvstore.mvcc.reader import MetLock, MvccReader
from kvstore.mvcc.record import Lock
from kvstore.txn.actions.prewrite import (
    CommittedBefore,
    Mutation,
    NotInOnePhase,
    PessimisticAction,
    PrewriteProperties,
    commit_one_pc,
    prewrite,
)
from kvstore.txn.changes import Changes


class ManyLocked(MetLock):
    """Keys of one request are locked by others; `met` has all of them, the error itself is the first."""

    def __init__(self, met: tuple[MetLock, ...]) -> None:
        super().__init__(met[0].key, met[0].lock)
        self.met = met


@dataclass(frozen=True, slots=True)
class PrewriteResult:
    min_commit_ts: int
    """Of an async commit: the least commit_ts the locks allow. 0 if the transaction must commit in two phases."""
    one_pc_commit_ts: int
    """Set when the transaction is committed already."""
    locks: tuple[tuple[bytes, Lock], ...] = ()
    """What is written, of an async commit or 1PC: readers must see it before it is."""


@dataclass(frozen=True, slots=True)
class Prewrite:
    props: PrewriteProperties
    mutations: tuple[Mutation, ...]
    actions: tuple[PessimisticAction, ...] = ()

    def keys(self) -> Sequence[bytes]:
        return [mutation.key for mutation in self.mutations]

    def run(self, reader: MvccReader, changes: Changes) -> PrewriteResult:
        """Raises what the actions raise; of several locks met, ManyLocked."""
        try:
            return self._run(reader, changes, self.props)
        except NotInOnePhase:
            changes.clear()
            return self._run(reader, changes, replace(self.props, one_pc=False, secondaries=None))
        except CommittedBefore as before:
            changes.clear()
            return PrewriteResult(before.commit_ts, before.commit_ts if self.props.one_pc else 0)

    def _run(self, reader: MvccReader, changes: Changes, props: PrewriteProperties) -> PrewriteResult:
        locks = self._lock_all(reader, changes, props)
        min_commit_ts = max((lock.min_commit_ts for _, lock in locks), default=0)
        if props.secondaries is not None and not locks:
            min_commit_ts = max(props.min_commit_ts, props.start_ts + 1, props.max_read_ts + 1)
        if not props.decides_commit_ts:
            return PrewriteResult(0, 0)
        if not props.one_pc or not locks:
            return PrewriteResult(min_commit_ts, 0, tuple(locks))
        for key, lock in locks:
            commit_one_pc(changes, key, lock, min_commit_ts)
        return PrewriteResult(min_commit_ts, min_commit_ts, tuple(locks))

    def _lock_all(self, reader: MvccReader, changes: Changes, props: PrewriteProperties) -> list[tuple[bytes, Lock]]:
        """Another error comes before a lock met, and a failed assertion after both: it may be a consequence."""
        actions = self.actions or (PessimisticAction.SKIP,) * len(self.mutations)
        locks: list[tuple[bytes, Lock]] = []
        met: list[MetLock] = []
        failed: AssertionFailed | None = None
        for mutation, action in zip(self.mutations, actions, strict=True):
            try:
                lock = prewrite(changes, reader, props, mutation, action)
            except MetLock as other:
                met.append(other)
            except AssertionFailed as error:
                failed = failed or error
            else:
                if lock is not None:
                    locks.append((mutation.key, lock))
        if met:
            raise met[0] if len(met) == 1 else ManyLocked(tuple(met))
        if failed is not None:
            raise failed
        return locks
