"""Reads that wait for proof that their leader still leads (thesis, 6.4).

A read notes the commit index and is answered when a quorum has acknowledged a heartbeat sent after it arrived. Its
heartbeats carry the context of the newest waiting read; its acknowledgement serves all that arrived before it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from kvstore.raft.types import ReadOnlyOption


class ReadRequest(NamedTuple):
    """A read with its context, and the node it came from."""

    context: bytes
    origin: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: ReadRequest
    index: int
    acks: dict[int, bool]


class ReadOnly:
    """`early`: reads that arrived before the leader had committed in its term; the others wait in order of arrival."""

    __slots__ = ("_waiting", "early", "option")

    def __init__(self, option: ReadOnlyOption) -> None:
        self.option = option
        self.early: list[ReadRequest] = []
        self._waiting: dict[bytes, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def clear(self) -> None:
        self.early = []
        self._waiting.clear()

    def add(self, request: ReadRequest, index: int, self_id: int) -> None:
        """A context that waits already is not added again: contexts have to be unique."""
        if request.context not in self._waiting:
            self._waiting[request.context] = _Waiting(request, index, {self_id: True})

    def on_ack(self, context: bytes, node: int) -> Collection[int]:
        """The nodes that have acknowledged the read, or none if it does not wait (any more)."""
        waiting = self._waiting.get(context)
        if waiting is None:
            return ()
        waiting.acks[node] = True
        return waiting.acks

    def take(self, context: bytes) -> list[tuple[ReadRequest, int]]:
        """Removes the read and all that arrived before it, with the index that each may be served at."""
        taken: list[tuple[ReadRequest, int]] = []
        if context not in self._waiting:
            return taken
        for key in list(self._waiting):
            waiting = self._waiting.pop(key)
            taken.append((waiting.request, waiting.index))
            if key == context:
                break
        return taken

    def last_context(self) -> bytes:
        """The context that heartbeats carry; empty if no read waits."""
        return next(reversed(self._waiting), b"")
