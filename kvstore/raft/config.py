"""Settings of one node, and the randomness it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kvstore.raft.errors import ConfigInvalid
from kvstore.raft.types import NO_ID, NO_LIMIT, ReadOnlyOption


class Rng(Protocol):
    """Draws election timeouts; random.Random is one."""

    def randrange(self, start: int, stop: int, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Config:
    """Times are in ticks, sizes in bytes. ConfigInvalid where values contradict each other."""

    id: int
    election_tick: int = 10
    heartbeat_tick: int = 2
    applied: int = 0  # what the state machine has; committed entries after it are handed out again
    max_size_per_msg: int = 1 << 20  # as `limit_size` counts; a single entry may be larger
    max_inflight_msgs: int = 256  # appends that a follower may leave unanswered
    max_uncommitted_size: int = NO_LIMIT  # payload of a leader's proposals not handed out as committed yet
    max_committed_size_per_ready: int = 16 << 20
    check_quorum: bool = True
    pre_vote: bool = True
    min_election_tick: int = 0  # 0: election_tick
    max_election_tick: int = 0  # 0: twice election_tick; never reached itself
    read_only: ReadOnlyOption = ReadOnlyOption.SAFE
    skip_bcast_commit: bool = False  # followers learn of commits by the next append or heartbeat
    batch_append: bool = True  # appends are made when `ready` is called, one for all proposals since the last
    priority: int = 0
    step_down_on_removal: bool = True

    def __post_init__(self) -> None:
        if self.id == NO_ID:
            raise ConfigInvalid("a node's id is not 0")
        if self.heartbeat_tick < 1 or self.election_tick <= self.heartbeat_tick:
            raise ConfigInvalid(
                f"0 < heartbeat_tick {self.heartbeat_tick} < election_tick {self.election_tick} must hold"
            )
        low, high = self.election_range()
        if low < self.election_tick or high <= low:
            raise ConfigInvalid(f"election_tick {self.election_tick} ≤ min {low} < max {high} must hold")
        if self.max_inflight_msgs < 1:
            raise ConfigInvalid("max_inflight_msgs must be positive")
        if self.read_only is ReadOnlyOption.LEASE_BASED and not self.check_quorum:
            raise ConfigInvalid("lease reads need check_quorum")

    def election_range(self) -> tuple[int, int]:
        """Election timeouts are drawn from [min, max)."""
        low = self.min_election_tick or self.election_tick
        return low, self.max_election_tick or 2 * self.election_tick
