"""What clients did and saw: one event a call, with its place in the order of all calls and returns."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")


class Aborted(Exception):
    """The call had no effect, for certain."""


class Undetermined(Exception):
    """The call may have had its effect, may have it later, or never."""


class Outcome(enum.Enum):
    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(slots=True, eq=False)
class Event(Generic[A, R]):
    """One call. `called` and `returned` are positions in one order of all calls and returns of the history.

    While it has not returned its outcome is UNKNOWN, as for one that never will.
    """

    client: str
    action: A
    called: int
    returned: int | None = None
    outcome: Outcome = Outcome.UNKNOWN
    result: R | None = None
    note: str = ""

    def before(self, other: Event[A, R]) -> bool:
        """Whether this had returned when the other was called."""
        return self.returned is not None and self.returned < other.called

    def __str__(self) -> str:
        end = "…" if self.returned is None else str(self.returned)
        result = "" if self.outcome is not Outcome.OK else f" -> {self.result}"
        return f"[{self.called}–{end}] {self.client}: {self.action} {self.outcome.value}{result} {self.note}".rstrip()


class History(Generic[A, R]):
    """Events in the order of their calls."""

    def __init__(self) -> None:
        self.events: list[Event[A, R]] = []
        self._order = 0

    def _next(self) -> int:
        self._order += 1
        return self._order

    def call(self, client: str, action: A) -> Event[A, R]:
        event: Event[A, R] = Event(client, action, self._next())
        self.events.append(event)
        return event

    def done(self, event: Event[A, R], outcome: Outcome, result: R | None = None, note: str = "") -> None:
        event.returned = self._next() if outcome is not Outcome.UNKNOWN else None
        event.outcome = outcome
        event.result = result
        event.note = note

    async def record(self, client: str, action: A, work: Callable[[], Awaitable[R]]) -> R | None:
        """Does the work as one event; returns its result, None when it failed or nobody knows."""
        event = self.call(client, action)
        try:
            result = await work()
        except Aborted as error:
            self.done(event, Outcome.FAILED, note=str(error))
            return None
        except Undetermined as error:
            self.done(event, Outcome.UNKNOWN, note=str(error))
            return None
        self.done(event, Outcome.OK, result)
        return result

    def count(self, outcome: Outcome) -> int:
        return sum(event.outcome is outcome for event in self.events)

    def summary(self) -> str:
        return ", ".join(f"{self.count(outcome)} {outcome.value}" for outcome in Outcome)
