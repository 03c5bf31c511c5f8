"""KvPrewrite: phase one for the keys of one region, optimistic or pessimistic, also as 1PC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.mvcc.reader import MvccReader
from kvstore.mvcc.record import Lock
from kvstore.txn.actions.prewrite import (
    Mutation,
    PessimisticAction,
    PrewriteProperties,
    commit_one_pc,
    prewrite,
)
from kvstore.txn.changes import Changes


@dataclass(frozen=True, slots=True)
class PrewriteResult:
    min_commit_ts: int
    """The least commit_ts the locks allow, 0 if they do not say."""
    one_pc_commit_ts: int
    """Set when the transaction is committed already."""


@dataclass(frozen=True, slots=True)
class Prewrite:
    props: PrewriteProperties
    mutations: tuple[Mutation, ...]
    actions: tuple[PessimisticAction, ...] = ()

    def keys(self) -> Sequence[bytes]:
        return [mutation.key for mutation in self.mutations]

    def run(self, reader: MvccReader, changes: Changes) -> PrewriteResult:
        actions = self.actions or (PessimisticAction.SKIP,) * len(self.mutations)
        locks: list[tuple[bytes, Lock]] = []
        for mutation, action in zip(self.mutations, actions, strict=True):
            lock = prewrite(changes, reader, self.props, mutation, action)
            if lock is not None:
                locks.append((mutation.key, lock))
        min_commit_ts = max((lock.min_commit_ts for _, lock in locks), default=0)
        if not self.props.one_pc or not locks:
            return PrewriteResult(min_commit_ts, 0)
        for key, lock in locks:
            commit_one_pc(changes, key, lock, min_commit_ts)
        return PrewriteResult(min_commit_ts, min_commit_ts)
