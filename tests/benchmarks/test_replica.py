"""The replica's benchmark at a tiny size, whether this engine has a replica or answers from its rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.engines import make_engine
from benchmarks.engines.sqlfront import NOT_AVAILABLE
from benchmarks.replica import disk_bytes

ALWAYS = {
    "replica_load",
    "replica_q01_loaded",
    "replica_q06_loaded",
    "replica_wait_1",
    "replica_wait_10000",
    "replica_q01_updated",
    "replica_q01_settled",
    "replica_q06_updated",
    "replica_q06_settled",
}
WITH_REPLICA = {"replica_disk", "rows_disk", "replica_rebuild"}


def test_everything_that_is_there_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.json"
    arguments = ["--quick", "--scale", "0.002", "--json", str(target), "--data", str(tmp_path / "data")]
    assert main(["replica", *arguments]) == 0
    measured = {m["work"]: m for m in json.loads(target.read_text())}
    without = "no columnar replica" in capsys.readouterr().out
    assert set(measured) == (ALWAYS if without else ALWAYS | WITH_REPLICA)
    assert {m["engine"] for m in measured.values()} == {"sqlfront"}
    assert all(m["value"] > 0 for work, m in measured.items() if "wait" not in work)
    assert measured["replica_wait_10000"]["undisturbed_ms"] > 0


class Tables:
    """A connection and its cursor over an engine whose replicas become available one question after another."""

    def __init__(self, waiting: list[int]) -> None:
        self.waiting = waiting
        self.executed: list[str] = []

    def cursor(self) -> Tables:
        return self

    def close(self) -> None:
        pass

    def execute(self, sql: str) -> None:
        self.executed.append(sql)

    def fetchone(self) -> tuple[int]:
        return (self.waiting.pop(0),)

    def fetchall(self) -> list[tuple[str]]:
        return [("lineitem",), ("orders",)]


def test_the_engine_settles_when_every_replica_is_available() -> None:
    con = Tables([2, 1, 0])
    assert make_engine("sqlfront").settle(con) is None
    assert con.executed == [
        "SHOW TABLES",
        "ALTER TABLE `lineitem` SET TIFLASH REPLICA 1",
        "ALTER TABLE `orders` SET TIFLASH REPLICA 1",
        *[NOT_AVAILABLE] * 3,
    ]


def test_a_replica_that_never_comes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.engines.sqlfront.REPLICA_LIMIT_S", 0.0)
    remark = make_engine("sqlfront").settle(Tables([2] * 9))
    assert remark == "2 columnar replicas weren't available after 0 s"


def test_only_sqlfront_has_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replica", "--engines", "duckdb"]) == 2
    assert "the replica is sqlfront's" in capsys.readouterr().err


def test_sizes_are_what_lies_on_disk(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").write_bytes(b"x" * 100_000)
    assert 100_000 <= disk_bytes(tmp_path) <= 200_000
    assert disk_bytes(tmp_path / "absent") == 0
