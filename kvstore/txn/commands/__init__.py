"""One file per request; each is thin and lets actions do the work key by key (TiKV's `txn/commands`)."""

from kvstore.txn.commands.acquire_pessimistic_lock import AcquirePessimisticLock
from kvstore.txn.commands.check_secondary_locks import (
    AllLocked,
    CheckSecondaryLocks,
    SecondaryCommitted,
    SecondaryRolledBack,
    SecondaryStatus,
)
from kvstore.txn.commands.check_txn_status import CheckTxnStatus
from kvstore.txn.commands.command import Command
from kvstore.txn.commands.commit import Commit
from kvstore.txn.commands.gc import Gc
from kvstore.txn.commands.heartbeat import HeartBeat
from kvstore.txn.commands.pessimistic_rollback import PessimisticRollback
from kvstore.txn.commands.prewrite import ManyLocked, Prewrite, PrewriteResult
from kvstore.txn.commands.resolve_lock import ResolveLock, resolve_all_locks
from kvstore.txn.commands.rollback import Cleanup, Rollback

__all__ = [
    "AcquirePessimisticLock",
    "AllLocked",
    "CheckSecondaryLocks",
    "CheckTxnStatus",
    "Cleanup",
    "Command",
    "Commit",
    "Gc",
    "HeartBeat",
    "ManyLocked",
    "PessimisticRollback",
    "Prewrite",
    "PrewriteResult",
    "ResolveLock",
    "Rollback",
    "SecondaryCommitted",
    "SecondaryRolledBack",
    "SecondaryStatus",
    "resolve_all_locks",
]
