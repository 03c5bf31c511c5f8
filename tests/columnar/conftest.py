"""What the tests of the replica share: whether queries were answered by it."""

from __future__ import annotations

from typing import Any

import pytest

from sqlfront.session import Session


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
