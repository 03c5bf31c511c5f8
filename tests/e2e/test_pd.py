"""Placement drivers as processes: the smallest cluster, and three of them of which the leader is lost."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT, Cluster, run, until

FAILOVER_S = 10.0


def test_one_placement_driver_serves_and_keeps_its_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with Cluster(tmp_path) as cluster:
            pd1 = cluster.members["pd1"]
            assert pd1.running.ready["name"] == "pd1"
            first = await cluster.pd.get_ts()
            status = await cluster.session.status(pd1.status, "/status")
            assert status["cluster_id"] == cluster.pd.cluster_id
            assert status["leads"] is True
            config = await cluster.session.status(pd1.status, "/config")
            assert config["name"] == "pd1"
            done = await asyncio.to_thread(_ctl, pd1.address, "tso")
            assert json.loads(done.stdout)["ts"] > first
            await cluster.kill("pd1")
            await cluster.start("pd1")
            assert await cluster.pd.get_ts() > json.loads(done.stdout)["ts"]
            assert await cluster.stop("pd1") == 0

    run(main)


def _ctl(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shell", "ctl", "--pd", address, "--format", "json", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "pause", "isolate"])
def test_timestamps_go_on_when_the_leader_is_lost(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        async with Cluster(tmp_path, pds=3) as cluster:
            lost = await cluster.pd_leader()
            last = await cluster.pd.get_ts()
            if how == "kill":
                await cluster.kill(lost)
            elif how == "pause":
                cluster.pause(lost)
            else:
                cluster.isolate(lost)
            fresh = await until(cluster.pd.get_ts, FAILOVER_S, "a timestamp after the leader was lost")
            assert fresh > last
            assert await cluster.pd_leader() != lost
            if how == "kill":
                await cluster.start(lost)
            elif how == "pause":
                cluster.resume(lost)
            else:
                cluster.network.heal()
            others = [name for name in cluster.members if name != lost]
            await cluster.kill(others[0])
            fresh_again = await until(cluster.pd.get_ts, FAILOVER_S, "a timestamp of the one that is back, and a third")
            assert fresh_again > fresh

    run(main)
