"""Stores and clocks for tests."""

from __future__ import annotations

from collections.abc import Callable

from kvstore.client.embedded import EmbeddedStore
from pd.oracle import LocalOracle


class ManualClock:
    """Milliseconds that move when told to."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def open_test_store(path: str | None, clock: Callable[[], int] | None = None, **options: int) -> EmbeddedStore:
    """An embedded store on the local oracle."""
    return EmbeddedStore.open(
        path,
        lambda window: LocalOracle(window, clock) if clock is not None else LocalOracle(window),
        **options,  # type: ignore[arg-type]
    )
