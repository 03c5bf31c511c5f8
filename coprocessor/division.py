"""How many digits a division shows: `div_precision_increment`, which belongs to the typing of an expression.

Types are made when a statement is bound, and everything after that follows the types; so the setting of the session
whose statement is bound is all that is needed, and it is kept beside the binding instead of being handed through it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

DIV_PRECISION_INCREMENT = 4
"""What a division adds to the scale of its dividend, where a session does not say otherwise."""

_added = ContextVar("div_precision_increment", default=DIV_PRECISION_INCREMENT)


def div_precision_increment() -> int:
    """What a division adds to the scale of its dividend, in the expressions that are being typed."""
    return _added.get()


@contextmanager
def dividing(increment: int) -> Iterator[None]:
    """While it is open, divisions and averages are typed with another `div_precision_increment`."""
    token = _added.set(increment)
    try:
        yield
    finally:
        _added.reset(token)
