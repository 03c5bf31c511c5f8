"""The seam between a placement driver and its replicated state: who leads, and changes that all members make.

`LocalReplica` is a placement driver alone without a log, for tests and tools; `pd.raft_replica` replicates by Raft.
A member leads when it is Raft's leader and has applied an entry of its own term, so that nothing of an earlier leader
can come after what it reads then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from kvstore.engine.api import Engine
from pd.state import Change, State

Sync = Callable[[], Awaitable[None]]
"""Makes what was written to the engine durable: in a thread in production, a virtual delay in a simulation."""


class Replica(Protocol):
    """One member's copy of the state."""

    state: State

    @property
    def term(self) -> int:
        """The term in which this member leads, 0 when it doesn't."""

    @property
    def leader_id(self) -> int:
        """The member that leads as far as is known here, 0 when nobody is known."""

    @property
    def applied_index(self) -> int: ...

    def holds_lease(self) -> bool:
        """Whether no other member can lead just now: a timestamp may be given out."""

    async def write(self, changes: Sequence[Change]) -> None:
        """Makes the changes on a quorum and here, durably. Raises NotLeader or Undetermined."""

    def transfer_leader(self, member_id: int) -> None: ...

    def watch(self, observer: Callable[[], None]) -> None:
        """`observer` is called after `term` changed."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class LocalReplica:
    """The state of a placement driver that is alone: it always leads, in a term counted by its starts."""

    _TERM = b"local_term"

    def __init__(self, engine: Engine, sync: Sync, member_id: int) -> None:
        self.state = State(engine)
        self._engine = engine
        self._sync = sync
        self._member_id = member_id
        self._observers: list[Callable[[], None]] = []
        self.term = 0
        self.applied_index = 0

    @property
    def leader_id(self) -> int:
        return self._member_id if self.term else 0

    def holds_lease(self) -> bool:
        return self.term > 0

    async def write(self, changes: Sequence[Change]) -> None:
        batch = self._engine.batch()
        for change in changes:
            self.state.put(batch, change)
        self._engine.write(batch)
        self.applied_index += 1
        await self._sync()

    def transfer_leader(self, member_id: int) -> None:
        """There is nobody else."""

    def watch(self, observer: Callable[[], None]) -> None:
        self._observers.append(observer)

    async def start(self) -> None:
        term = self.state.get_number(self._TERM) + 1
        await self.write([Change(self._TERM, term.to_bytes(8, "big"))])
        self._turn(term)

    async def stop(self) -> None:
        self._turn(0)

    def _turn(self, term: int) -> None:
        self.term = term
        for observer in self._observers:
            observer()
