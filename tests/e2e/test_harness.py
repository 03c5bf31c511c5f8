"""What the harness does with a test that hangs."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.harness import run


def test_one_that_hangs_fails_and_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    cleaned_up = False

    async def hangs_here() -> None:
        nonlocal cleaned_up
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up = True

    with pytest.raises(AssertionError, match="not over within"):
        run(hangs_here, 0.05)
    assert cleaned_up
    assert "in hangs_here" in capsys.readouterr().out


def test_one_that_fails_fails_with_its_own_error() -> None:
    async def fails() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        run(fails)
