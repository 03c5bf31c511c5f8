"""A process with three stores on disk that writes, splits and merges, and says what it has acknowledged."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Iterator

from kvstore.engine.api import CF_DEFAULT
from kvstore.engine.rocks import RocksEngine
from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.proto.metapb_pb2 import Peer
from kvstore.proto.raft_serverpb_pb2 import RaftMessage
from kvstore.raftstore.api import RegionError
from kvstore.raftstore.bootstrap import first_region, prepare_region, read_ident, write_ident
from kvstore.raftstore.config import StoreConfig
from kvstore.raftstore.placement_worker import begin_merge
from kvstore.raftstore.store import RaftStore
from kvstore.raftstore.syncer import ThreadSyncer
from tests.raftstore.cluster import Pd, PdClient

CONFIG = StoreConfig(tick_s=0.02, election_ticks=10, heartbeat_ticks=2, lease_s=0.1, log_gc_s=0.2, log_gc_entries=16)


class Direct:
    """Messages go straight to the other stores of the process."""

    def __init__(self, stores: dict[int, RaftStore]) -> None:
        self._stores = stores

    def send(self, message: RaftMessage) -> None:
        target = self._stores[message.to_peer.store_id]
        asyncio.get_running_loop().call_soon(target.on_raft_message, message)

    def flush(self) -> None: ...

    async def send_snapshot(self, message: RaftMessage, pieces: Iterator[bytes]) -> None:
        raise AssertionError("nobody lags here")


class Trio:
    """Three stores in one process, over RocksDB."""

    def __init__(self, path: str) -> None:
        self.pd = Pd()
        self.pd.next_id = int(time.time() * 1000)  # ids grow over restarts
        self.stores: dict[int, RaftStore] = {}
        self.syncers: list[ThreadSyncer] = []
        self.runs: list[asyncio.Task[None]] = []
        region = first_region(2, 0, 0)
        del region.peers[:]
        region.peers.extend(Peer(id=10 + n, store_id=n) for n in (1, 2, 3))
        for store_id in (1, 2, 3):
            engine = RocksEngine(f"{path}/{store_id}")
            if read_ident(engine) is None:
                prepare_region(engine, region)
                write_ident(engine, 1, store_id)
            syncer = ThreadSyncer(engine)
            self.syncers.append(syncer)
            store = RaftStore(
                engine,
                store_id,
                PdClient(self.pd, store_id),
                Direct(self.stores),
                syncer,
                random.Random(store_id),
                time.monotonic,
                config=CONFIG,
            )
            store.load()
            self.stores[store_id] = store
        self.runs = [asyncio.get_running_loop().create_task(store.run()) for store in self.stores.values()]

    def locate(self, key: bytes) -> tuple[RaftStore, Context] | None:
        for store in self.stores.values():
            for peer in store.peers.values():
                region = peer.region
                if peer.is_leader and region.start_key <= key and (not region.end_key or key < region.end_key):
                    return store, Context(region_id=region.id, region_epoch=region.region_epoch, peer=peer.peer)
        return None

    async def put(self, key: bytes) -> None:
        while True:
            found = self.locate(key)
            if found is not None:
                try:
                    await found[0].write(found[1], [(CF_DEFAULT, b"z" + key, key)])
                    return
                except RegionError:
                    pass
            await asyncio.sleep(0.02)

    async def get(self, key: bytes) -> bytes | None:
        while True:
            found = self.locate(key)
            if found is not None:
                try:
                    await found[0].read(found[1])
                    return found[0].engine.get(CF_DEFAULT, b"z" + key)
                except RegionError:
                    pass
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        for store in self.stores.values():
            store.stop()
        await asyncio.gather(*self.runs)
        for syncer in self.syncers:
            syncer.close()
        for store in self.stores.values():
            store.engine.close()


async def rearrange(trio: Trio, rng: random.Random) -> None:
    while True:
        await asyncio.sleep(0.05)
        found = trio.locate(b"%02d" % rng.randrange(100))
        if found is None:
            continue
        store, context = found
        peer = store.peers[context.region_id]
        try:
            if len(store.tree) < 4:
                await store.split(context, [b"%02d" % rng.randrange(100)])
            else:
                await begin_merge(store, peer, rng.choice(store.tree.neighbours(peer.region)))
        except RegionError:
            continue


async def main(path: str, round_number: int) -> None:
    rng = random.Random(round_number)
    trio = Trio(path)
    changes = asyncio.get_running_loop().create_task(rearrange(trio, rng))

    async def write(writer: int) -> None:
        for number in range(1_000_000):
            key = b"%02d/%d/%d/%d" % (rng.randrange(100), round_number, writer, number)
            await trio.put(key)
            sys.stdout.buffer.write(key + b"\n")
            sys.stdout.buffer.flush()

    await asyncio.gather(changes, *(write(writer) for writer in range(8)), *trio.runs)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
