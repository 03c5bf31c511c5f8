"""Timestamps as a line that only goes up: physical milliseconds << 18 | logical, below a bound that was saved before.

Pure: the clock is a parameter, saving the bound is the caller's. Who gives out a timestamp has saved a bound above it
first (PD's saved window); who starts, starts at the saved bound. So no timestamp comes twice and none goes back, over
restarts, changes of the leader and clock jumps. The embedded oracle and the placement driver both use it.
"""

from __future__ import annotations

from dataclasses import dataclass

LOGICAL_BITS = 18
LOGICAL_MAX = (1 << LOGICAL_BITS) - 1
WINDOW_MS = 3000
"""How far ahead of the given timestamps the bound is saved."""


@dataclass(slots=True)
class Timeline:
    """What was given out, and up to where more may be."""

    bound_ms: int
    """Saved; timestamps with a physical part below it may be given out."""
    last: int
    """The last timestamp given out, or one that no earlier one can exceed."""

    @classmethod
    def starting_at(cls, bound_ms: int) -> Timeline:
        return cls(bound_ms, bound_ms << LOGICAL_BITS)

    def propose(self, now_ms: int, count: int) -> int:
        """The largest of the next `count` timestamps; they lie in one millisecond. Nothing is given out yet."""
        if not 0 < count <= LOGICAL_MAX + 1:
            raise ValueError(f"a batch of {count} timestamps; 1 to {LOGICAL_MAX + 1} are possible")
        first = max(now_ms << LOGICAL_BITS, self.last + 1)
        if (first & LOGICAL_MAX) + count - 1 > LOGICAL_MAX:
            first = ((first >> LOGICAL_BITS) + 1) << LOGICAL_BITS
        return first + count - 1

    def take(self, now_ms: int) -> int:
        """The next timestamp, given out; 0 when the saved bound is not above it: then `propose`, save and `give`."""
        ts = now_ms << LOGICAL_BITS
        if ts <= self.last:
            ts = self.last + 1
        if ts >> LOGICAL_BITS >= self.bound_ms:
            return 0
        self.last = ts
        return ts

    def covered(self, ts: int) -> bool:
        """Whether the saved bound is above the timestamp."""
        return ts >> LOGICAL_BITS < self.bound_ms

    def give(self, ts: int) -> None:
        """Notes that everything up to `ts` is given out."""
        assert ts > self.last, (ts, self.last)
        assert self.covered(ts), (ts, self.bound_ms)
        self.last = ts
