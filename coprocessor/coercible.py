"""The collation of text that nobody chose one for, `collation_connection`: of literals, parameters, and what is made of
them alone.

It decides only where such texts are compared with each other, when a statement is bound; everything after that follows
the types. So it is kept beside the binding, as the digits of a division are (`division.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from coprocessor.types import TEXT_COLLATE

_chosen = ContextVar("collation_connection", default=TEXT_COLLATE)


def connection_collation() -> str:
    """By which collation the expressions that are being typed compare literals."""
    return _chosen.get()


@contextmanager
def comparing_literals(collate: str) -> Iterator[None]:
    """While it is open, literals are compared with each other by another collation."""
    token = _chosen.set(collate)
    try:
        yield
    finally:
        _chosen.reset(token)
