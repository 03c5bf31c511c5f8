"""Clients that die at one moment of a commit: who meets what they left settles it, in one direction only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from kvstore import failpoint
from kvstore.client.cluster.cluster import Cluster
from kvstore.client.cluster.errors import ClusterError
from tests.cluster_client.mock import MockCluster
from tests.cluster_client.test_transactions import locks
from tests.cluster_client.world import TWO_PHASES, connect, put_all, read_all, with_cluster

DEAD_MS = 60_000
OLD = {b"a": b"old", b"h": b"old", b"t": b"old"}
NEW = {b"a": b"new", b"h": b"new", b"t": b"new"}


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    failpoint.clear()


async def die_at(cluster: MockCluster, point: str) -> None:
    """A client that comes to the failpoint and never goes on: cut off from everybody, then dropped."""
    transport = cluster.network.transport("dying")
    client = await connect(cluster, TWO_PHASES, transport=transport)
    failpoint.configure(point, "pause")
    committing = asyncio.ensure_future(put_all(client, NEW))
    await asyncio.sleep(1)
    assert point == "client::before_commit_secondaries" or not committing.done()
    transport.crash()
    committing.cancel()
    await asyncio.gather(committing, return_exceptions=True)
    failpoint.clear()
    await client.close()


@pytest.mark.parametrize(
    ("point", "locked", "survives"),
    [
        ("client::after_prewrite", [b"a", b"h", b"t"], False),
        ("client::before_commit_primary", [b"a", b"h", b"t"], False),
        ("client::before_commit_secondaries", [b"h", b"t"], True),
    ],
)
def test_others_settle_what_a_client_left_that_died(point: str, locked: list[bytes], survives: bool) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.split(b"g", b"m")
        await put_all(client, OLD)
        await die_at(cluster, point)
        assert locks(cluster) == locked
        cluster.pd.pass_time(DEAD_MS)
        assert await read_all(client) == (NEW if survives else OLD)

    with_cluster(scenario, options=TWO_PHASES)


def test_secondaries_that_are_left_are_committed_by_the_next_reader() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.split(b"g", b"m")
        failpoint.configure("client::before_commit_secondaries", "return")
        await put_all(client, NEW)
        assert locks(cluster) == [b"h", b"t"]
        failpoint.clear()
        assert await read_all(client) == NEW

    with_cluster(scenario, options=TWO_PHASES)


def test_timestamps_are_asked_for_again_when_a_stream_breaks() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        before = await client.now_ts()
        failpoint.configure("client::before_tso", "3*return")
        assert await client.now_ts() > before
        failpoint.configure("client::before_tso", "return")
        with pytest.raises(ClusterError):
            await client.now_ts()

    with_cluster(scenario)
