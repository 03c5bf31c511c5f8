"""The cluster-sql suite: every row of its table is there, and what is counted beside the build is counted right."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.cluster_sql.add_index import Counts
from benchmarks.cluster_sql.bench import Outcome
from benchmarks.cluster_sql.tpch import _wire_bytes

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 600


@pytest.mark.slow
def test_every_row_is_measured(tmp_path: Path) -> None:
    """In a process of its own: PostgreSQL's servers are forked, which a client's threads of other tests would upset."""
    target = tmp_path / "out.json"
    options = ["--quick", "--queries", "6", "--json", str(target), "--data", str(tmp_path)]
    command = [sys.executable, "-m", "benchmarks", "cluster-sql", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    measured = json.loads(target.read_text())
    assert {m["work"] for m in measured if m["engine"] == "sqlfront-cluster"} == {
        "point_select",
        "get, timestamp at hand",
        "timestamp and get",
        "oltp_read_write",
        "tpch_q06",
        "tpch_geomean",
        "add_index, rows",
        "update_key, alone",
        "update_key, beside add_index",
    }
    assert all(m["value"] > 0 for m in measured)
    for row in (
        "point select by SQL",
        "oltp_read_write, 4 clients, /s",
        "bytes that Q6 moves",
        "ADD INDEX on 5,000 rows",
    ):
        assert f"| {row}" in done.stdout


@pytest.mark.parametrize("options", [["--engines", "sqlfront"], ["--parts", "points,none"]])
def test_what_the_suite_has_not_is_refused(options: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["cluster-sql", *options])
    assert raised.value.code == 2


def test_a_rate_between_two_times_is_of_the_nearest_counts() -> None:
    counts = Counts()
    counts.follow(iter([f"{100 + tenth / 10:.3f} {tenth * 7}\n" for tenth in range(50)]))
    assert counts.rate(101.02, 103.04) == pytest.approx(70)
    assert counts.rate(101.0, 101.01) == 0


def test_a_verdict_says_whether_the_target_was_met() -> None:
    outcome = Outcome()
    for met in (True, False, None):
        outcome.verdict("work", "≥ 1", "2", met)
    assert [row[-1] for row in outcome.table()] == ["", "met", "missed", "–"]


class Explained:
    """A connection whose EXPLAIN ANALYZE has two tasks."""

    def cursor(self) -> Explained:
        return self

    def execute(self, sql: str) -> None:
        assert sql.startswith("EXPLAIN ANALYZE ")

    def fetchall(self) -> Sequence[Sequence[Any]]:
        text = "cop_task: {{num: 2, max: 3ms, avg: 1ms, bytes: {}, cache hits: 0}}"
        return [("a", ""), ("b", text.format("1.5 KB")), ("c", text.format("204 Bytes"))]


def test_bytes_over_the_wire_are_summed_over_all_readers() -> None:
    assert _wire_bytes(Explained(), "SELECT 1") == 1536 + 204  # type: ignore[arg-type]
