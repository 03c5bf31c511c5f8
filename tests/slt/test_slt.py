"""Every `.slt` file on every store; a file's failures are listed with their lines.

The generated files are long, so the fast run has one of each kind in memory; the others are marked slow.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.slt.__main__ import run_file
from tests.slt.records import Query, parse_file
from tests.slt.stores import STORES

FILES = Path(__file__).parent / "files"
SHOWN = 15


def _cases() -> list[object]:
    out: list[object] = []
    for path in sorted(FILES.rglob("*.slt")):
        name = str(path.relative_to(FILES))
        for store in STORES:
            generated = path.parent.name == "generated"
            slow = generated and (store != "memory" or not path.stem.endswith("_0"))
            out.append(pytest.param(path, store, id=f"{name}-{store}", marks=[pytest.mark.slow] if slow else []))
    return out


@pytest.mark.parametrize(("path", "store"), _cases())
def test_slt(path: Path, store: str) -> None:
    report = run_file(path, store, "auto")
    shown = "\n".join(map(str, report.failures[:SHOWN]))
    assert not report.failures, f"{len(report.failures)} of {path.name} failed on {store}:\n{shown}"
    assert report.passed > 0


def test_the_corpus_is_large() -> None:
    queries = sum(isinstance(r, Query) for path in FILES.rglob("*.slt") for r in parse_file(path).records)
    assert queries > 4000
