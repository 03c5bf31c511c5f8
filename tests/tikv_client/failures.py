"""The errors of the PyPI client, which has one class for all of them: the base class of Python's own."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from kvstore.errors import KvError

T = TypeVar("T")


class ClientFailed(KvError):
    """What the client said."""

    def says(self, *words: str) -> bool:
        """Whether one of these lower-case words is in it."""
        return any(word in str(self).lower() for word in words)


async def told(work: Awaitable[T]) -> T:
    """The client's answer. Raises ClientFailed."""
    try:
        return await work
    except Exception as error:
        raise ClientFailed(str(error)) from error
