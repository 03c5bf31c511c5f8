"""The mixed benchmark at tiny sizes: every work on every engine, fresh answers, and stale or torn ones found out."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import chart
from benchmarks.__main__ import main
from benchmarks.engines import make_engine
from benchmarks.htap import Analyst, HtapResults, Writer, table, together, with_seen
from benchmarks.measure import Measurement, percentile
from benchmarks.tpch.data import query

ENGINES = "sqlfront,sqlite3-full,duckdb"
WORKS = {
    "htap_tps_alone": ("per_s", 1),
    "htap_answers_alone": ("per_s", 1),
    "htap_tps_both": ("per_s", 2),
    "htap_answers_both": ("per_s", 2),
    "htap_tps_paced": ("per_s", 2),
    "htap_p99_paced": ("ms", 2),
    "htap_answers_paced": ("per_s", 2),
    "htap_staleness": ("ms", 2),
}


class Rows:
    """A cursor that gives the same rows to every query, and is counted."""

    def __init__(self, rows: Sequence[Sequence[Any]] = ()) -> None:
        self.rows = rows
        self.executed: list[str] = []

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> None:
        self.executed.append(sql)

    def fetchone(self) -> Sequence[Any]:
        return self.rows[0]

    def fetchall(self) -> list[Sequence[Any]]:
        return list(self.rows)


def test_every_work_is_measured_and_every_answer_is_fresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.json"
    arguments = ["--quick", "--engines", ENGINES, "--json", str(target), "--data", str(tmp_path)]
    assert main(["htap", *arguments]) == 0
    measured = json.loads(target.read_text())
    for engine in ENGINES.split(","):
        assert {m["work"]: (m["unit"], m["threads"]) for m in measured if m["engine"] == engine} == WORKS
    assert all(m["value"] > 0 for m in measured if m["work"] != "htap_staleness")
    assert all(m["value"] == m["missed"] == m["torn"] == 0 for m in measured if m["work"] == "htap_staleness")
    output = capsys.readouterr().out
    assert "share its GIL" in output
    assert "p99 from due, ms" in output


def test_an_answer_that_lacks_acknowledged_transactions_is_stale() -> None:
    acknowledged = [1.0, 2.0, 3.0]
    analyst = Analyst(make_engine("duckdb"), Rows([("N", "O", 10, 3)]), acknowledged)
    analyst.answer()
    assert (analyst.missed, analyst.stale_ms, analyst.torn) == (0, 0, 0)
    acknowledged += [4.0, 5.0]
    analyst.answer()
    assert analyst.missed == 2
    assert analyst.stale_ms > 0


def test_an_answer_of_two_snapshots_is_torn() -> None:
    cursor = Rows([("A", "F", 4, 1), ("N", "O", 6, 1)])
    analyst = Analyst(make_engine("duckdb"), cursor, [1.0])
    analyst.answer()
    cursor.rows = [("A", "F", 5, 2), ("N", "O", 6, 2)]
    analyst.answer()
    analyst.answer()
    assert analyst.torn == 0
    cursor.rows = [("A", "F", 5, 3), ("N", "O", 6, 3)]
    analyst.answer()
    analyst.answer()
    assert analyst.torn == 1


def test_the_writer_is_paced_and_the_analyst_ends_the_round() -> None:
    engine = make_engine("duckdb")
    writer = Writer(engine, Rows(), [(1, 1)])
    tps, answers = together(writer, Analyst(engine, Rows([("N", "O", 10, 0)]), ()), 0.2, 100)
    assert 0 < tps <= 110
    assert answers > 0
    assert len(writer.acknowledged) == len(writer.latencies) == len(writer.lateness)


def test_what_a_thread_raises_ends_the_other() -> None:
    engine = make_engine("duckdb")
    with pytest.raises(IndexError):
        together(Writer(engine, Rows(), [(1, 1)]), Analyst(engine, Rows(), ()), 60, None)


def test_what_was_seen_is_read_in_the_same_statement() -> None:
    assert "count(*) as count_order,\n    (SELECT max(n) FROM progress) AS seen\nfrom lineitem" in with_seen(query(1))


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [percentile(values, p) for p in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([7.0], 99) == 7


def _measured() -> list[Measurement]:
    values = (1000, 80, 500, 40, 400, 2.5, 60, 0)
    found = [Measurement(w, "sqlfront", WORKS[w][1], 1.0, WORKS[w][0], [v]) for w, v in zip(WORKS, values, strict=True)]
    found[5].notes["p99_from_due_ms"] = 3.5
    found[6].notes["p95_ms"] = 20.0
    return found


def test_the_table_says_what_is_kept() -> None:
    row = table(HtapResults(_measured()))[1]
    assert row[1:7] == ["1,000", "500", "50 %", "80.0", "40.0", "50 %"]
    assert row[7:] == ["400", "2.50", "3.50", "75 %", "20.0", "0.0"]


def test_the_frontier_is_normalised_to_each_rate_alone() -> None:
    points = chart.frontiers(_measured())["sqlfront"]
    assert points["both"] == (500, 40)
    expected = {"tps": (1, 0), "both": (0.5, 0.5), "paced": (0.4, 0.75), "answers": (0, 1)}
    assert chart.normalised(points) == expected


def test_the_chart_is_an_svg(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    target = tmp_path / "htap.svg"
    chart.draw(_measured(), target)
    assert ElementTree.parse(target).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert "sqlfront" in target.read_text()


def test_a_chart_without_matplotlib_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["htap", "--chart", str(tmp_path / "c.svg")]) == 2
    assert "pip install 'sqlfront[bench]'" in capsys.readouterr().err
