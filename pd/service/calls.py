"""What a unary call looks like here, and the tables of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from pd.leadership import Leadership

Fill = Callable[[Leadership, Any, Any], Awaitable[None]]
"""Answers a request (second) by filling its reply (third). Raises Refused, NotLeader, Undetermined, or RpcError."""


def alone(fill: Fill) -> Fill:
    """The same for a call that saves and changes the model: see `Leadership.alone`."""

    @wraps(fill)
    async def answer(lead: Leadership, request: Any, reply: Any) -> None:
        await lead.alone(lambda: fill(lead, request, reply))

    return answer


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls by method name: those that work from the start, those whose messages have no header (so that no cluster id
    can be checked), and those that need a bootstrapped cluster."""

    always: Mapping[str, Fill] = field(default_factory=dict)
    headless: Mapping[str, Fill] = field(default_factory=dict)
    bootstrapped: Mapping[str, Fill] = field(default_factory=dict)
