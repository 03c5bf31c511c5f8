"""CHECK constraints of rows that are written: evaluated when the row is as it will be stored."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from coprocessor import functions as fn
from coprocessor.evaluate import compile_predicate
from sqlfront.bind.constraints import BoundCheck, bound_checks
from sqlfront.errors import DatabaseError, error

if TYPE_CHECKING:
    from coprocessor.env import Env
    from sqlfront.catalog.model import Table
    from sqlfront.session import Session

ER_CHECK_VIOLATED = 3819
ER_ROW_IS_REFERENCED = 1451
ER_NO_REFERENCED_ROW = 1452
ER_NO_PARTITION_FOR_GIVEN_VALUE = 1526
ER_ROW_DOES_NOT_MATCH_GIVEN_PARTITION_SET = 1748
FORGIVEN = frozenset(
    {
        ER_CHECK_VIOLATED,
        ER_ROW_IS_REFERENCED,
        ER_NO_REFERENCED_ROW,
        ER_NO_PARTITION_FOR_GIVEN_VALUE,
        ER_ROW_DOES_NOT_MATCH_GIVEN_PARTITION_SET,
    }
)
"""Errors of a row that IGNORE makes warnings: the row is left as it was."""


class Checks:
    """The CHECKs of one table; see `compile_checks`."""

    def __init__(self, table: Table, found: Sequence[BoundCheck]) -> None:
        layout = {column.offset: column.offset for column in table.columns}
        # a CHECK is violated when it is false; NULL is not
        self._violated = [(c.name, compile_predicate(fn.resolve("not", [c.expr]), layout)) for c in found]

    def verify(self, row: Sequence[Any], env: Env) -> None:
        """Raises 3819 for the first that a row, complete but for virtual columns, violates."""
        for name, violated in self._violated:
            if violated(row, env):
                raise error(ER_CHECK_VIOLATED, f"Check constraint '{name}' is violated.")


@lru_cache(maxsize=512)
def compile_checks(table: Table) -> Checks | None:
    """Compiles the CHECKs of a table; None for one that has none."""
    found = bound_checks(table) if table.checks else ()
    return Checks(table, found) if found else None


def forgive(session: Session, exc: DatabaseError, ignore: bool = True) -> None:
    """Makes a warning of an error that IGNORE forgives; raises any other, and without IGNORE every one."""
    if not ignore or exc.code not in FORGIVEN:
        raise exc
    session.warn(exc.code, exc.message)
