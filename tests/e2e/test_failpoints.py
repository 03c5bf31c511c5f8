"""A store whose disk fails: the process ends rather than to acknowledge what it does not have, and comes back."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from kvstore.client.cluster.cluster import Cluster as Client
from kvstore.errors import KvError
from tests.e2e.harness import Cluster, run

END_S = 20.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "actions", "code"),
    [
        ("engine::before_sync", "return", 1),
        ("engine::before_write", "return", 1),
        ("engine::before_sync", "panic", 101),
    ],
)
def test_a_store_whose_disk_fails_ends_and_keeps_what_it_acknowledged(
    tmp_path: Path, point: str, actions: str, code: int
) -> None:
    async def main() -> None:
        async with Cluster(tmp_path, pds=1, stores=1) as cluster:
            rng = random.Random(0)
            async with await Client.connect(cluster.pd_addresses, transport=cluster.transport, rng=rng) as client:
                await client.raw.put(b"before", b"1")
                await cluster.set_failpoint("kv1", point, actions)
                writing = asyncio.ensure_future(client.raw.put(b"after", b"1"))
                assert await cluster.ended("kv1", END_S) == code
                writing.cancel()
                outcome = (await asyncio.gather(writing, return_exceptions=True))[0]
                assert isinstance(outcome, asyncio.CancelledError | KvError), outcome
                await cluster.start("kv1")
                assert await client.raw.get(b"before") == b"1"

    run(main)
