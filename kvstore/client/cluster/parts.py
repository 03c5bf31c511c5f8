"""What everything that reads and writes transactional data shares, and the options of a client."""

from __future__ import annotations

import random
from dataclasses import dataclass

from kvstore.client.cluster.background import Background
from kvstore.client.cluster.backoff import Backoff
from kvstore.client.cluster.pd_client import PdClient
from kvstore.client.cluster.regions import RegionCache
from kvstore.client.cluster.resolver import LockResolver
from kvstore.client.cluster.safe_point import SafePoint
from kvstore.client.cluster.sender import RegionSender


@dataclass(frozen=True, slots=True)
class Options:
    """How a client commits."""

    one_pc: bool = True
    """Whether a transaction of one region commits in one phase."""
    async_commit: bool = True
    """Whether a small transaction counts as committed as soon as all its keys are locked."""
    txn_bytes_max: int = 1 << 30
    """Keys and values of one transaction."""
    entry_bytes_max: int = 6 << 20
    """One key with its value; the store's limit on a log entry is 8 MiB."""
    scan_batch: int = 1024
    """Rows in one answer of a scan, from the second on; the first is smaller."""
    recent_ms: int = 60_000
    """Younger snapshots are read without asking for the safe point: nothing is collected that close to the present."""


@dataclass(slots=True)
class Parts:
    """One client's instruments."""

    pd: PdClient
    regions: RegionCache
    sender: RegionSender
    resolver: LockResolver
    background: Background
    safe_point: SafePoint
    rng: random.Random
    options: Options
    existence_by_value: bool = False
    """A store was met that does not know `check_existence`: whether a locked key exists only its value tells."""

    def backoff(self, budget_ms: float) -> Backoff:
        return Backoff(budget_ms, self.rng)
