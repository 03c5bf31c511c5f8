"""Stores as processes: a small cluster that is killed and comes back, and large ones in which something is lost.

In all of them: no acknowledged write is lost, the bank's total is constant in every snapshot, and transfers go on
within 10 s.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kvstore.client.cluster.cluster import Cluster as Client
from shell.ctl import steer
from shell.playground.children import ChildFailed
from shell.playground.local import PROGRAM
from shell.playground.plan import free_ports
from tests.e2e.bank import Bank
from tests.e2e.harness import ROOT, Cluster, run, until

BACK_S = 10.0
MOVE_S = 120.0
STORES = """
[raftstore]
region-heartbeat-s = 1
store-heartbeat-s = 1
"""
DRIVERS = """
[schedule]
max-store-disconnected-s = 3
patrol-interval-ms = 20
schedule-interval-ms = 200
tolerant-size-ratio = 0.5
"""


@asynccontextmanager
async def client_of(cluster: Cluster) -> AsyncIterator[Client]:
    async with await Client.connect(cluster.pd_addresses, transport=cluster.transport, rng=random.Random(0)) as client:
        yield client


def test_one_store_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    async def main() -> None:
        async with Cluster(tmp_path, pds=1, stores=1, config=STORES) as cluster, client_of(cluster) as client:
            for number in range(20):
                transaction = await client.begin()
                transaction.put(b"key %d" % number, b"value %d" % number)
                await transaction.commit()
            await client.raw.put(b"raw", b"\x00\xff")
            await cluster.kill("kv1")
            await cluster.start("kv1")
            found = await client.snapshot(await client.now_ts()).batch_get([b"key %d" % n for n in range(20)])
            assert found == {b"key %d" % number: b"value %d" % number for number in range(20)}
            assert await client.raw.get(b"raw") == b"\x00\xff"
            status = await cluster.session.status(cluster.members["kv1"].status, "/regions")
            assert status["count"] == 1
            assert status["regions"][0]["applied_index"] > 0
            assert 'tikv_raftstore_region_count{type="leader"} 1.0' in await cluster.metrics("kv1")
            assert 'tikv_grpc_msg_duration_seconds_count{type="raw_get"} 1.0' in await cluster.metrics("kv1")
            assert 'pd_cluster_status{type="store_up_count"} 1.0' in await cluster.metrics("pd1")
            assert await cluster.stop("kv1") == 0

    run(main)


@pytest.mark.slow
def test_a_directory_of_another_cluster_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with Cluster(tmp_path / "one", pds=1, stores=1) as one:
            await one.kill("kv1")
            (tmp_path / "other").mkdir()
            async with Cluster(tmp_path / "other", pds=1) as other:
                arguments = one.members["kv1"].arguments
                at = arguments.index("--pd") + 1
                one.members["kv1"].arguments = [*arguments[:at], other.pd_addresses[0], *arguments[at + 1 :]]
                with pytest.raises(ChildFailed, match=rf"exit code 1[^$]*is store \d+ of cluster {one.pd.cluster_id}"):
                    await one.start("kv1")

    run(main)


@pytest.mark.slow
def test_a_playground_is_a_cluster(tmp_path: Path) -> None:
    base = free_ports(1)[0]
    command = [*PROGRAM, "playground", "--kv", "3", "--data", str(tmp_path), "--base-port", str(base)]
    running = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)
    try:
        assert running.stdout is not None
        while line := running.stdout.readline():
            if line.startswith(b"Ctrl-C"):
                break
        asked = [*PROGRAM, "ctl", "--pd", f"127.0.0.1:{base}", "--format", "json", "stores"]
        done = subprocess.run(asked, cwd=ROOT, capture_output=True, check=True, timeout=60)
        assert [store["state"] for store in json.loads(done.stdout)] == ["Up"] * 3
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
    assert running.returncode == 0


def with_bank(directory: Path, stores: int, body: Callable[[Cluster, Bank], Awaitable[None]]) -> None:
    """Runs `body` on three placement drivers and some stores, with a bank open on three replicas."""

    async def main() -> None:
        async with Cluster(directory, 3, stores, STORES, DRIVERS) as cluster, client_of(cluster) as client:
            bank = Bank(client, seed=len(str(directory)))
            await bank.open()
            await cluster.replicated(3, MOVE_S)
            await bank.serves_again(BACK_S)
            await body(cluster, bank)
            await bank.close()
            print(f"{len(bank.acknowledged)} transfers, {bank.audits} audits, {dict(bank.errors)}")

    run(main)


async def busiest(cluster: Cluster) -> str:
    """The store that leads most regions."""
    led = await cluster.leaders()
    return max(led, key=lambda name: led[name])


@pytest.mark.slow
def test_a_leading_store_is_killed_and_comes_back(tmp_path: Path) -> None:
    async def body(cluster: Cluster, bank: Bank) -> None:
        for _ in range(3):
            lost = await busiest(cluster)
            await cluster.kill(lost)
            await bank.serves_again(BACK_S)
            await cluster.start(lost)
            await bank.serves_again(BACK_S)

    with_bank(tmp_path, 4, body)


@pytest.mark.slow
def test_a_store_that_crashes_in_the_middle_of_a_write(tmp_path: Path) -> None:
    places = (
        "raftstore::before_sync",
        "raftstore::after_sync",
        "raftstore::before_apply_write",
        "scheduler::after_write",
    )

    async def body(cluster: Cluster, bank: Bank) -> None:
        for place in places:
            lost = await busiest(cluster)
            await cluster.set_failpoint(lost, place, "20*off->panic")
            assert await cluster.ended(lost, BACK_S) == 101
            await bank.serves_again(BACK_S)
            await cluster.start(lost)
            await bank.serves_again(BACK_S)

    with_bank(tmp_path, 4, body)


@pytest.mark.slow
def test_a_leading_store_stands_still_and_goes_on(tmp_path: Path) -> None:
    async def body(cluster: Cluster, bank: Bank) -> None:
        for _ in range(2):
            lost = await busiest(cluster)
            cluster.pause(lost)
            await bank.serves_again(BACK_S)
            cluster.resume(lost)
            await bank.serves_again(BACK_S)

    with_bank(tmp_path, 4, body)


@pytest.mark.slow
def test_a_leading_store_is_cut_off_and_healed(tmp_path: Path) -> None:
    async def body(cluster: Cluster, bank: Bank) -> None:
        for _ in range(2):
            cluster.isolate(await busiest(cluster))
            await bank.serves_again(BACK_S)
            cluster.network.heal()
            await bank.serves_again(BACK_S)

    with_bank(tmp_path, 4, body)


@pytest.mark.slow
def test_a_link_between_two_stores_is_cut_in_one_direction(tmp_path: Path) -> None:
    async def body(cluster: Cluster, bank: Bank) -> None:
        leads = await busiest(cluster)
        other = next(name for name in cluster.stores if name != leads)
        cluster.network.cut(leads, other)
        await bank.serves_again(BACK_S)
        cluster.network.heal()
        await bank.serves_again(BACK_S)

    with_bank(tmp_path, 4, body)


@pytest.mark.slow
def test_a_new_store_gets_its_share(tmp_path: Path) -> None:
    async def body(cluster: Cluster, bank: Bank) -> None:
        name = await cluster.add_store()

        async def has_some() -> bool:
            regions = await cluster.session.status(cluster.members[name].status, "/regions")
            return int(regions["count"]) > 0

        await until(has_some, MOVE_S, f"{name} has peers")
        await bank.serves_again(BACK_S)

    with_bank(tmp_path, 3, body)


@pytest.mark.slow
def test_a_store_is_taken_out(tmp_path: Path) -> None:
    async def body(cluster: Cluster, bank: Bank) -> None:
        out = await busiest(cluster)
        number = (await cluster.store_ids())[out]
        await steer.set_store_state(number, "offline", False)(cluster.session)

        async def empty() -> bool:
            regions = await cluster.pd.scan_regions(b"", b"")
            return all(peer.store_id != number for region, _ in regions for peer in region.peers)

        await until(empty, MOVE_S, f"no region has a peer on {out}")

        await steer.set_store_state(number, "tombstone", False)(cluster.session)
        assert number not in {store.id for store in await cluster.pd.get_all_stores()}
        await cluster.kill(out)
        await bank.serves_again(BACK_S)
        await cluster.replicated(3, MOVE_S)

    with_bank(tmp_path, 4, body)


@pytest.mark.slow
def test_the_leading_placement_driver_is_killed(tmp_path: Path) -> None:
    async def body(cluster: Cluster, bank: Bank) -> None:
        lost = await cluster.pd_leader()
        await cluster.kill(lost)
        await bank.serves_again(BACK_S)
        await cluster.start(lost)
        await bank.serves_again(BACK_S)

    with_bank(tmp_path, 4, body)
