"""Stores that talk over `kvstore.rpc`: batches of messages, snapshots in chunks, stores that are away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kvstore.proto.metapb_pb2 import Peer, Store
from kvstore.proto.raft_serverpb_pb2 import RaftMessage, SnapshotChunk
from kvstore.raftstore.store import RaftStore
from kvstore.raftstore.transport import METHODS, StreamTransport, raft_handlers
from kvstore.rpc.api import RpcError, Server
from kvstore.rpc.memory import MemoryNetwork
from tests.raftstore.cluster import ADD, LEARNER, Cluster
from tests.raftstore.loop import run_virtual


class Wired(Cluster):
    """A cluster whose stores are connected by remote calls."""

    def __init__(self) -> None:
        super().__init__()
        self.wires = MemoryNetwork()
        self.transports: dict[int, StreamTransport] = {}
        self.servers: dict[int, Server] = {}

    def start(self, store_id: int) -> RaftStore:
        store = super().start(store_id)
        self.pd.stores[store_id] = Store(id=store_id, address=f"store-{store_id}")
        transport = StreamTransport(
            self.wires.transport(f"store-{store_id}"), self.clients[store_id], store.on_unreachable
        )
        store.transport = self.transports[store_id] = transport
        return store

    async def serve(self, store_id: int) -> None:
        server = self.wires.server(f"store-{store_id}", raft_handlers(self.stores[store_id]))
        await server.start()
        self.servers[store_id] = server

    async def end(self) -> None:
        await self.stop()
        for transport in self.transports.values():
            await transport.close()
        for server in self.servers.values():
            await server.stop(0)


def test_stores_over_streams() -> None:
    async def main() -> None:
        cluster = Wired()
        cluster.form([1, 2, 3])
        for store_id in (1, 2, 3):
            await cluster.serve(store_id)
        for number in range(40):
            await cluster.put(b"k%02d" % number, b"v" * 30)
        await asyncio.sleep(3)
        cluster.add_store(4)
        await cluster.serve(4)
        cluster.change_peer(2, LEARNER, Peer(id=40, store_id=4))
        await cluster.until(lambda: len(cluster.data(4)) == 40, what="the snapshot arrives")
        cluster.change_peer(2, ADD, Peer(id=40, store_id=4))
        leader = await cluster.leader()
        victim = next(s for s in (1, 2, 3) if s != leader.store_id)
        await cluster.servers.pop(victim).stop(0)
        for number in range(10):
            await cluster.put(b"m%02d" % number, b"v")
        assert len(cluster.data(victim)) < 50
        await cluster.serve(victim)
        await cluster.until(lambda: len(cluster.data(victim)) == 50, what="the store that was away catches up")
        await cluster.end()

    run_virtual(main())


def test_a_store_that_is_back_is_reached_well_within_an_election_timeout() -> None:
    """However long it was away: when the next one dies, this one may have to vote."""

    async def main() -> None:
        cluster = Wired()
        cluster.form([1, 2, 3])
        for store_id in (1, 2, 3):
            await cluster.serve(store_id)
        await cluster.put(b"a", b"v")
        leader = await cluster.leader()
        victim = next(s for s in (1, 2, 3) if s != leader.store_id)
        config = cluster.stores[victim].config
        for away_s in (8.0, 8.4, 9.1):
            await cluster.servers.pop(victim).stop(0)
            for number in range(round(away_s * 10)):
                await cluster.put(b"b%02d" % number, b"%f" % away_s)
                await asyncio.sleep(0.1)
            came = asyncio.Event()
            on_message = cluster.stores[victim].on_raft_message

            def noted(message: RaftMessage, came: asyncio.Event = came, on_message: Any = on_message) -> None:
                came.set()
                on_message(message)

            cluster.stores[victim].on_raft_message = noted  # type: ignore[method-assign]
            await cluster.serve(victim)
            await asyncio.wait_for(came.wait(), config.election_ticks * config.tick_s / 2)
            cluster.stores[victim].on_raft_message = on_message  # type: ignore[method-assign]
        await cluster.end()

    run_virtual(main())


def test_what_is_no_snapshot_is_refused() -> None:
    async def main() -> None:
        cluster = Wired()
        cluster.form([1])
        await cluster.serve(1)
        channel = cluster.wires.transport("somebody").channel("store-1")
        wrong_store = RaftMessage(region_id=9, to_peer=Peer(id=1, store_id=5))
        for chunks in ([], [SnapshotChunk(data=b"x")], [SnapshotChunk(message=wrong_store)]):
            stream = channel.stream(METHODS["Snapshot"])
            for chunk in chunks:
                await stream.send(chunk)
            await stream.done_sending()
            with pytest.raises(RpcError):
                await stream.receive()
        cluster.check()
        await cluster.end()

    run_virtual(main())
