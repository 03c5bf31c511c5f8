"""Waiting between attempts: kinds of trouble with growing, jittered pauses, and one budget for all of them.

A `Backoff` belongs to one request of a caller and is handed down; where a request fans out over regions each part gets
a `fork`. Only the pauses count against the budget, as in client-go. All times are milliseconds.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.client.cluster.errors import ClusterError, LocksUnresolved, PdUnavailable, RegionUnavailable


class Jitter(enum.Enum):
    """How a pause of at most `p` is drawn: `p` itself, or from [p/2, p]."""

    NONE = "none"
    EQUAL = "equal"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of trouble: the first pause, the longest, and the jitter."""

    name: str
    base_ms: float
    cap_ms: float
    jitter: Jitter = Jitter.EQUAL
    error: type[ClusterError] = RegionUnavailable
    """What is raised when the budget ends with this trouble."""


RPC = Kind("rpc", 20, 1000)
PD = Kind("pd", 20, 1000, error=PdUnavailable)
REGION_MISS = Kind("region_miss", 2, 500, Jitter.NONE)
NO_LEADER = Kind("no_leader", 5, 500)
UPDATE_LEADER = Kind("update_leader", 1, 50)
SERVER_BUSY = Kind("server_busy", 50, 3000)
STALE_COMMAND = Kind("stale_command", 2, 1000, Jitter.NONE)
NOT_READY = Kind("not_ready", 2, 500)
DISK_FULL = Kind("disk_full", 500, 5000, Jitter.NONE)
TXN_LOCK = Kind("txn_lock", 10, 1000, error=LocksUnresolved)
TXN_NOT_FOUND = Kind("txn_not_found", 2, 500, Jitter.NONE, LocksUnresolved)

POINT_BUDGET_MS = 20_000
"""Of one point read, prewrite or commit."""
SCAN_BUDGET_MS = 40_000
PD_BUDGET_MS = 10_000
"""Of one question to the placement driver."""


class Backoff:
    """The pauses of one request; `wait` sleeps, or raises the kind's error when the budget is spent."""

    CAUSES_MAX = 8
    """How many of the last different causes the final error names."""

    __slots__ = ("_attempts", "_causes", "_rng", "budget_ms", "maybe_executed", "spent_ms")

    def __init__(self, budget_ms: float, rng: random.Random, *, spent_ms: float = 0) -> None:
        self.budget_ms = budget_ms
        self.spent_ms = spent_ms
        self.maybe_executed = False
        """Whether an attempt since this was last cleared may have been executed though no answer came."""
        self._rng = rng
        self._attempts: dict[str, int] | None = None
        self._causes: list[str] | None = None

    def fork(self) -> Backoff:
        """A Backoff for a part of the request that runs beside the others; it goes on where this one stands."""
        part = Backoff(self.budget_ms, self._rng, spent_ms=self.spent_ms)
        part._attempts = dict(self._attempts) if self._attempts is not None else None
        part._causes = list(self._causes) if self._causes is not None else None
        return part

    def join(self, parts: Sequence[Backoff]) -> None:
        """Takes back what parts that ran beside each other have used up, and whether an answer was lost."""
        self.spent_ms = max((part.spent_ms for part in parts), default=self.spent_ms)
        self.maybe_executed = self.maybe_executed or any(part.maybe_executed for part in parts)

    def attempts(self, kind: Kind) -> int:
        """How often `wait` was called for this kind."""
        return self._attempts.get(kind.name, 0) if self._attempts is not None else 0

    def pause_ms(self, kind: Kind) -> float:
        """Draws the next pause of this kind."""
        if self._attempts is None:
            self._attempts = {}
        attempt = self._attempts.get(kind.name, 0)
        self._attempts[kind.name] = attempt + 1
        pause = min(kind.cap_ms, kind.base_ms * 2.0 ** min(attempt, 30))
        return pause if kind.jitter is Jitter.NONE else pause / 2 + self._rng.random() * pause / 2

    async def wait(self, kind: Kind, cause: str, *, at_least_ms: float = 0, at_most_ms: float | None = None) -> None:
        """Sleeps before the next attempt. Raises `kind.error`, at once, when the budget is used up."""
        if self._causes is None:
            self._causes = []
        if (named := f"{kind.name}: {cause}") not in self._causes:
            self._causes.append(named)
        del self._causes[: -self.CAUSES_MAX]
        if self.spent_ms >= self.budget_ms:
            error = kind.error(f"gave up after {self.budget_ms:.0f} ms of retries: {'; '.join(self._causes)}")
            error.maybe_executed = self.maybe_executed
            raise error
        pause = max(self.pause_ms(kind), at_least_ms)
        if at_most_ms is not None:
            pause = min(pause, at_most_ms)
        # the last pause is cut short, so that the last attempt comes when the budget ends
        pause = min(pause, self.budget_ms - self.spent_ms)
        self.spent_ms += pause
        await asyncio.sleep(pause / 1000)
