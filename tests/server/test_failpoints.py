"""Races made to happen with failpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from kvstore import failpoint
from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.proto.metapb_pb2 import Peer
from tests.server.ends import Node, serving


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    failpoint.REGISTRY.clear()


def test_a_command_that_read_in_one_term_does_not_write_in_the_next() -> None:
    async def test(node: Node) -> None:
        failpoint.REGISTRY.configure("scheduler::before_write", "1*sleep(1000)")
        writing = node.start(
            "KvPrewrite",
            pb.PrewriteRequest(mutations=[pb.Mutation(key=b"a", value=b"1")], primary_lock=b"a", start_version=10),
        )
        await asyncio.sleep(0.5)
        leader = node.store.leaders[1]
        node.store.set_leader(1, Peer(id=99, store_id=9))
        node.store.set_leader(1, leader)
        assert (await writing).region_error.HasField("stale_command")
        assert (await node.get(b"a", 20)).not_found

    serving(test)


def test_who_is_woken_too_late_finds_the_lock_taken_and_waits_on() -> None:
    async def test(node: Node) -> None:
        await node.lock(10, b"a")
        waiting = node.locking(20, b"a")
        await asyncio.sleep(0.1)
        failpoint.REGISTRY.configure("lock_wait::woken", "1*sleep(1000)")
        await node.unlock(10, b"a")
        await asyncio.sleep(0.5)
        assert not (await node.lock(30, b"a")).errors
        await asyncio.sleep(1)
        assert not waiting.done()
        await node.unlock(30, b"a")
        assert not (await waiting).errors

    serving(test)
