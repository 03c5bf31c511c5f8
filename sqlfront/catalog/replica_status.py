"""What is known of a table's columnar replica: what information_schema.tiflash_replica shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """How far a replica is.

    `progress` goes from 0 to 1 while it is made; `position` is the commit timestamp up to which changes are in it,
    `pending` how many changes are not yet; `reason` says why it is not there, None when nothing is in its way.
    """

    available: bool
    progress: float
    state: str
    position: int
    pending: int
    reason: str | None = None


def joined(parts: Sequence[ReplicaStatus]) -> ReplicaStatus:
    """How far the replica of a table with these partitions is: as far as the last of them."""
    last = min(parts, key=lambda part: (part.available, part.progress))
    progress = sum(part.progress for part in parts) / len(parts)
    position = min(part.position for part in parts)
    return replace(last, progress=progress, position=position, pending=sum(part.pending for part in parts))
