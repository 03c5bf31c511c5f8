"""The cluster suite: every work is measured, on processes that are gone afterwards."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.cluster.work import rate

WORKS = {
    "echo",
    "raw_put_1",
    "raw_put_1_unary",
    "raw_put_3",
    "raw_put_3_unary",
    "get_1",
    "get_1_unary",
    "tso",
    "raw_put_1_regions",
    "raw_put_20_regions",
    "idle_cpu",
    "idle_memory",
    "failover",
}


@pytest.mark.slow
def test_every_work_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.json"
    assert main(["cluster", "--quick", "--json", str(target)]) == 0
    measured = json.loads(target.read_text())
    assert {m["work"] for m in measured} == WORKS
    assert all(m["value"] > 0 for m in measured if m["work"] != "idle_cpu")
    printed = capsys.readouterr().out
    assert "| failover, election timeouts " in printed


@pytest.mark.parametrize("option", [["--engines", "sqlfront"], ["--scale", "1"]])
def test_what_the_suite_has_not_is_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["cluster", *option])
    assert raised.value.code == 2
    assert "cluster has no --engines" in capsys.readouterr().err


def test_a_rate_counts_what_was_in_flight_together() -> None:
    most = now = 0

    async def operation(number: int) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1

    assert asyncio.run(rate(operation, 8, 0.1)) > 0
    assert most == 8
