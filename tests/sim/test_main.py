"""The command line: a failing seed is printed with the command that runs it again."""

from __future__ import annotations

import pytest

from tests.sim import deployments
from tests.sim.__main__ import main
from tests.sim.run import Report


def test_failing_seed_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fake(seed: int, seconds: float) -> Report:
        return Report(seed, ["lost: 5"] if seed == 12 else [], faults=["1.0 crash of n1"], trace=f"{seed}")

    monkeypatch.setitem(deployments.DEPLOYMENTS, "raft-group", fake)
    assert main(["--deployment", "raft-group", "--seed", "10"]) == 1
    out = capsys.readouterr().out
    assert "seed 11: ok" in out
    assert "seed 12: FAILED" in out
    assert "1.0 crash of n1" in out
    assert "lost: 5" in out
    assert "--deployment raft-group --seed 12 --seeds 1" in out


def test_run_that_is_not_deterministic_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    traces = iter(["a", "a", "b", "c"])
    monkeypatch.setitem(deployments.DEPLOYMENTS, "raft-group", lambda seed, seconds: Report(seed, trace=next(traces)))
    assert main(["--deployment", "raft-group", "--seed", "1", "--twice"]) == 1
    assert "not deterministic" in capsys.readouterr().out


def test_seeds_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def fake(seed: int, seconds: float) -> Report:
        seen.append(seed)
        return Report(seed)

    monkeypatch.setitem(deployments.DEPLOYMENTS, "raft-group", fake)
    assert main(["--deployment", "raft-group", "--seed", "7", "--seeds", "3"]) == 0
    assert seen == [7, 8, 9]


TESTED_ELSEWHERE = {"bulk-load", "sql"}
"""By `test_loads` and `test_sql`, with seeds of their own."""


@pytest.mark.slow
@pytest.mark.parametrize("deployment", sorted(deployments.DEPLOYMENTS.keys() - TESTED_ELSEWHERE))
@pytest.mark.parametrize("first", range(0, 20, 10))
def test_many_seeds(deployment: str, first: int) -> None:
    for seed in range(1000 + first, 1010 + first):
        report = deployments.DEPLOYMENTS[deployment](seed, 30.0)
        assert not report.problems, report
