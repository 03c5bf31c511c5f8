"""Plans over a storage that takes requests, as scripts (`tests/plan/test_scripts.py` says what is in them)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plan.test_scripts import run_script
from tests.push.regions import connect

FILES = sorted((Path(__file__).parent / "scripts").glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_script(path: Path) -> None:
    with connect() as con:
        run_script(path, con)


def test_there_are_scripts() -> None:
    assert len(FILES) >= 6
