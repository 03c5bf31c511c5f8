from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.catalog.harness import FakeSession


@pytest.fixture
def session() -> Iterator[FakeSession]:
    made = FakeSession()
    yield made
    made.database.storage.close()
