"""Every `.slt` file on every store, and once more with DuckDB doing all that it can; failures come with their lines.

The generated files are long, so the fast run has one of each kind in memory; the others are marked slow. So are the
stores that answer push-down requests, but for the topics that these matter most for. Clusters, on which they take
longest, and the two encodings for other clients have one generated file of each kind.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.slt.__main__ import run_file
from tests.slt.records import Query, parse_file
from tests.slt.stores import CLUSTER, COLUMNAR_CLUSTER, EMBEDDED, STORES

FILES = Path(__file__).parent / "files"
SHOWN = 15
FAST_TOPICS = {
    "pushed": frozenset({"aggregates", "group_by", "order_limit", "subqueries", "temporary", "types"}),
    CLUSTER: frozenset(
        {"auto_increment", "constraints", "ddl", "delete", "joins", "temporary", "transactions", "update"}
    ),
    COLUMNAR_CLUSTER: frozenset({"aggregates", "group_by", "temporary"}),
}
"""What the fast run has of stores whose files take longer; none of those that are not named."""


ONE_OF_A_KIND = frozenset({CLUSTER, COLUMNAR_CLUSTER, "pushed-chunk", "pushed-datum"})
"""Stores that run one generated file of each kind."""
MANY_TABLES = frozenset({"chains_of_up_to_64_tables"})
"""Files whose every table would get a replica of its own first."""


def _cases() -> list[object]:
    out: list[object] = []
    for path in sorted(FILES.rglob("*.slt")):
        name = str(path.relative_to(FILES))
        for store, read_path in (*((store, "auto") for store in STORES), ("memory", "duckdb")):
            generated = path.parent.name == "generated"
            if generated and store in ONE_OF_A_KIND and not path.stem.endswith("_0"):
                continue
            if store == COLUMNAR_CLUSTER and path.stem in MANY_TABLES:
                continue
            slow = generated and (store != "memory" or not path.stem.endswith("_0"))
            slow = slow or (read_path == "duckdb" and path.parent.name == "transactions")
            slow = slow or (store not in EMBEDDED and path.parent.name not in FAST_TOPICS.get(store, ()))
            marks = [pytest.mark.slow] if slow else []
            out.append(pytest.param(path, store, read_path, id=f"{name}-{store}-{read_path}", marks=marks))
    return out


@pytest.mark.parametrize(("path", "store", "read_path"), _cases())
def test_slt(path: Path, store: str, read_path: str) -> None:
    report = run_file(path, store, read_path)
    shown = "\n".join(map(str, report.failures[:SHOWN]))
    assert not report.failures, f"{len(report.failures)} of {path.name} failed on {store}:\n{shown}"
    assert report.passed > 0


def test_the_corpus_is_large() -> None:
    queries = sum(isinstance(r, Query) for path in FILES.rglob("*.slt") for r in parse_file(path).records)
    assert queries > 4000
