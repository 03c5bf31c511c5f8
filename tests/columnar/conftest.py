"""What the tests of the replica share: whether queries were answered by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coprocessor.columnar import key_index
from sqlfront.session import Session


def index_small_tables(change: Callable[[Any, str, int], None]) -> None:
    """Lets tables of 50 rows have an index, and be changed by it; `change` is setattr, or what takes it back."""
    change(key_index, "ROWS_MIN", 50)
    change(key_index, "ROWS_FOR_A_KEY", 1)


@pytest.fixture(autouse=True)
def indexed(monkeypatch: pytest.MonkeyPatch) -> None:
    index_small_tables(monkeypatch.setattr)


class Views(list[bool]):
    """For each reading of the replica that was tried, whether it took place."""

    def take(self) -> list[bool]:
        """What was noted since the last call."""
        taken = list(self)
        self.clear()
        return taken


@pytest.fixture
def views(monkeypatch: pytest.MonkeyPatch) -> Views:
    noted = Views()
    original = Session.columnar_view

    def noting(self: Session, scans: Any, ts: int | None) -> Any:
        view = original(self, scans, ts)
        noted.append(view is not None)
        return view

    monkeypatch.setattr(Session, "columnar_view", noting)
    return noted
