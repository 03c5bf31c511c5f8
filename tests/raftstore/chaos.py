"""Random clusters under random faults: clients write and read while stores crash, links fail and regions change.

Each key has one writer, which writes growing numbers. A read that began after a write was acknowledged must see that
one or a later one; at the end all replicas of a region hold the same, and the regions tile the key space.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from dataclasses import replace

import structlog

from kvstore.engine.api import CF_DEFAULT
from kvstore.proto.metapb_pb2 import Peer, PeerRole
from kvstore.proto.pdpb_pb2 import ChangePeer, RegionHeartbeatResponse
from kvstore.raftstore.admin import is_joint
from kvstore.raftstore.api import RegionError
from kvstore.raftstore.config import StoreConfig
from kvstore.raftstore.store import RaftStore
from tests.raftstore.cluster import ADD, LEARNER, REMOVE, TEST_CONFIG, Cluster
from tests.raftstore.loop import run_virtual

STORES = (1, 2, 3, 4, 5)
KEYS = [b"%c%c" % (a, b) for a in b"abcdefghijklmnop" for b in b"xyz"]


class Chaos:
    def __init__(self, seed: int, config: StoreConfig = TEST_CONFIG) -> None:
        self.rng = random.Random(seed)
        self.cluster = Cluster(seed, config)
        self.acknowledged: dict[bytes, int] = dict.fromkeys(KEYS, 0)
        self.attempted: dict[bytes, int] = dict.fromkeys(KEYS, 0)
        self.over = False
        self.epochs: dict[tuple[int, int], tuple[int, int]] = {}
        self.leaders: dict[tuple[int, int], int] = {}
        self.done = {"writes": 0, "reads": 0, "replica_reads": 0, "splits": 0, "merges": 0, "moves": 0, "crashes": 0}

    # clients

    async def write_forever(self, keys: list[bytes]) -> None:
        loop = asyncio.get_running_loop()
        while not self.over:
            key = self.rng.choice(keys)
            number = self.attempted[key] = self.attempted[key] + 1
            while not self.over:
                found = self.cluster.locate(key) if self.rng.random() < 0.9 else self.anywhere(key)
                if found is not None:
                    store, region_id = found
                    try:
                        context = self.cluster.context(store, region_id)
                        async with asyncio.timeout_at(loop.time() + 3):
                            grant = await store.read(context, loop.time() + 2)
                            store.check_key(grant.region, key)
                            value = [(CF_DEFAULT, b"z" + key, b"%d" % number)]
                            await store.write(context, value, term=grant.term)
                        self.acknowledged[key] = number
                        self.done["writes"] += 1
                        break
                    except (RegionError, TimeoutError):
                        pass
                await asyncio.sleep(self.rng.random() * 0.1)
            await asyncio.sleep(self.rng.random() * 0.05)

    def anywhere(self, key: bytes) -> tuple[RaftStore, int] | None:
        """Any store that has a region with the key, whatever it believes to be."""
        found = [
            (store, region.id)
            for store in self.cluster.stores.values()
            for region in store.regions()
            if region.start_key <= key and (not region.end_key or key < region.end_key)
        ]
        return self.rng.choice(found) if found else None

    async def read_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.over:
            await asyncio.sleep(self.rng.random() * 0.03)
            key = self.rng.choice(KEYS)
            found = self.anywhere(key)
            if found is None:
                continue
            store, region_id = found
            context = self.cluster.context(store, region_id)
            context.replica_read = self.rng.random() < 0.5
            low = self.acknowledged[key]
            try:
                async with asyncio.timeout_at(loop.time() + 3):
                    grant = await store.read(context, loop.time() + 2)
                store.check_key(grant.region, key)
            except (RegionError, TimeoutError):
                continue
            if store.stopped:
                continue
            value = int(store.engine.get(CF_DEFAULT, b"z" + key) or 0)
            assert low <= value <= self.attempted[key], (key, low, value, self.attempted[key], store.store_id)
            self.done["replica_reads" if context.replica_read else "reads"] += 1

    # faults

    async def disturb(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        actions = [self.crash, self.restart, self.cut, self.heal, self.split, self.merge, self.move, self.transfer]
        actions.append(self.merge_into_what_splits)
        weights = [2, 4, 2, 3, 3, 4, 3, 3, 2]
        while loop.time() < end:
            await asyncio.sleep(self.rng.random() * 0.4)
            self.rng.choices(actions, weights)[0]()
            self.check()

    def crash(self) -> None:
        if len(self.cluster.stores) > 3:
            self.cluster.crash(self.rng.choice(sorted(self.cluster.stores)))
            self.done["crashes"] += 1

    def restart(self) -> None:
        down = sorted(set(STORES) - set(self.cluster.stores))
        if down:
            self.cluster.start(self.rng.choice(down))

    def cut(self) -> None:
        network = self.cluster.network
        kind = self.rng.random()
        if kind < 0.4:
            network.isolate(self.rng.choice(STORES), STORES)
        elif kind < 0.7:
            a, b = self.rng.sample(STORES, 2)
            network.cut.add((a, b))
        else:
            network.drop = self.rng.random() * 0.2
            network.duplicate = self.rng.random() * 0.2
            network.delay_s = (0.0005, self.rng.choice((0.002, 0.02, 0.3)))

    def heal(self) -> None:
        network = self.cluster.network
        network.heal()
        network.drop = network.duplicate = 0.0
        network.delay_s = (0.0005, 0.002)

    def leader_region(self) -> tuple[RaftStore, int] | None:
        return self.cluster.locate(self.rng.choice(KEYS))

    def split(self) -> None:
        found = self.leader_region()
        if found is None or len(found[0].tree) > 6:
            return
        store, region_id = found
        region = store.peers[region_id].region
        keys = [k for k in KEYS if k > region.start_key and (not region.end_key or k < region.end_key)]
        if keys:
            order = RegionHeartbeatResponse()
            order.split_region.keys.append(self.rng.choice(keys))
            self.cluster.order(region_id, order)
            self.done["splits"] += 1

    def merge(self) -> None:
        found = self.leader_region()
        if found is None:
            return
        store, region_id = found
        near = store.tree.neighbours(store.peers[region_id].region)
        if near and self.cluster.merge(region_id, self.rng.choice(near).id):
            self.done["merges"] += 1

    def merge_into_what_splits(self) -> None:
        """The target changes before it hears of the merge, which has to be taken back."""
        found = self.leader_region()
        if found is None:
            return
        store, region_id = found
        for near in store.tree.neighbours(store.peers[region_id].region):
            keys = [k for k in KEYS if k > near.start_key and (not near.end_key or k < near.end_key)]
            if keys and self.cluster.merge(region_id, near.id):
                order = RegionHeartbeatResponse()
                order.split_region.keys.append(self.rng.choice(keys))
                self.cluster.order(near.id, order)
                return

    def transfer(self) -> None:
        found = self.leader_region()
        if found is not None:
            peers = found[0].peers[found[1]].region.peers
            self.cluster.transfer(found[1], self.rng.choice(list(peers)))

    def move(self) -> None:
        """One step towards three voters, beginning with a new one; all regions prefer the same stores."""
        found = self.leader_region()
        if found is None:
            return
        store, region_id = found
        peer = store.peers[region_id]
        region = peer.region
        order = RegionHeartbeatResponse()
        if is_joint(region):
            order.change_peer_v2.SetInParent()
        else:
            self._plan(order, region.peers, peer.peer.id)
        if self.cluster.order(region_id, order):
            self.done["moves"] += 1

    def _plan(self, order: RegionHeartbeatResponse, peers: object, leader_id: int) -> None:
        members: list[Peer] = list(peers)  # type: ignore[call-overload]
        learners = [p for p in members if p.role == PeerRole.Learner]
        others = [p for p in members if p.role == PeerRole.Voter and p.id != leader_id]
        if learners and len(members) > 3:
            if self.rng.random() < 0.5 and others:
                victim = self.rng.choice(others)
                order.change_peer_v2.changes.append(ChangePeer(peer=learners[0], change_type=ADD))
                order.change_peer_v2.changes.append(ChangePeer(peer=victim, change_type=LEARNER))
            elif len(others) + 1 < 3:
                order.change_peer.CopyFrom(ChangePeer(peer=learners[0], change_type=ADD))
            else:
                order.change_peer.CopyFrom(ChangePeer(peer=learners[0], change_type=REMOVE))
        elif len(members) > 3 and others:
            order.change_peer.CopyFrom(ChangePeer(peer=self.rng.choice(others), change_type=REMOVE))
        elif learners:
            order.change_peer.CopyFrom(ChangePeer(peer=learners[0], change_type=ADD))
        else:
            free = [s for s in STORES if all(p.store_id != s for p in members)]
            new = Peer(id=self.cluster.pd.alloc(), store_id=self.rng.choice(free))
            order.change_peer.CopyFrom(ChangePeer(peer=new, change_type=LEARNER))

    # what must hold at any time

    def check(self) -> None:
        self.cluster.check()
        for store in self.cluster.stores.values():
            regions = store.regions()
            for before, after in itertools.pairwise(regions):
                assert before.end_key, regions
                assert before.end_key <= after.start_key, regions
            for peer in store.peers.values():
                epoch = peer.region.region_epoch
                if peer.is_leader:
                    known = self.leaders.setdefault((peer.region_id, peer.raft.term), peer.peer.id)
                    assert known == peer.peer.id, f"two leaders of region {peer.region_id} in term {peer.raft.term}"
                if epoch.version:
                    now = (epoch.version, epoch.conf_ver)
                    # a crash may take back what was applied but not synced
                    self.epochs[store.store_id, peer.region_id] = now

    async def settle(self) -> None:
        """Everything comes back; then all must agree."""
        self.heal()
        for store_id in STORES:
            if store_id not in self.cluster.stores:
                self.cluster.start(store_id)
        self.over = True
        loop = asyncio.get_running_loop()
        end = loop.time() + 120
        while True:
            await asyncio.sleep(0.5)
            self.check()
            problem = self.disagreement()
            if not problem:
                break
            assert loop.time() < end, problem
        for key in KEYS:
            value = int(await self.cluster.get(key) or 0)
            assert self.acknowledged[key] <= value <= self.attempted[key], (key, self.acknowledged[key], value)

    def disagreement(self) -> str:
        """What keeps the cluster from being settled: no leader, gaps, peers behind."""
        stores = self.cluster.stores
        led = {}
        for store in stores.values():
            for peer in store.peers.values():
                if peer.is_leader:
                    led[peer.region_id] = peer
        regions = sorted((peer.region for peer in led.values()), key=lambda region: region.start_key)
        at = b""
        for region in regions:
            if region.start_key != at:
                return f"gap or overlap at {at!r}: {regions}"
            at = region.end_key
        if at or not regions:
            return f"no leader from {at!r} on"
        for region_id, peer in led.items():
            if peer.merge is not None:
                return f"region {region_id} still merges"
            want = None
            for member in peer.region.peers:
                other = stores[member.store_id].peers.get(region_id)
                if other is None or other.peer.id != member.id or other.storage.applied != peer.storage.applied:
                    return f"region {region_id}: peer {member.id} on store {member.store_id} is behind"
                data = self.cluster.data(member.store_id, peer.region.start_key, peer.region.end_key)
                want = data if want is None else want
                assert data == want, f"region {region_id} differs on store {member.store_id}"
        for store in stores.values():
            for peer in store.peers.values():
                leader = led.get(peer.region_id)
                if leader is None or all(p.id != peer.peer.id for p in leader.region.peers):
                    return f"store {store.store_id} has a stale peer {peer.peer.id} of region {peer.region_id}"
        return ""

    async def main(self, seconds: float) -> dict[str, int]:
        self.cluster.form(STORES[:3])
        for store_id in STORES[3:]:
            self.cluster.add_store(store_id)
        await self.cluster.leader()
        loop = asyncio.get_running_loop()
        clients = [loop.create_task(self.write_forever(KEYS[n::4])) for n in range(4)]
        clients += [loop.create_task(self.read_forever()) for _ in range(4)]
        await self.disturb(seconds)
        await self.settle()
        for client in clients:
            await client
        await self.cluster.stop()
        return self.done


SLEEPY = replace(
    TEST_CONFIG, hibernate_ticks=16, store_alive_s=0.5, store_silence_s=1.5, log_gc_s=0.3, log_gc_entries=3
)


def run_chaos(seed: int, seconds: float = 20.0) -> dict[str, int]:
    """One random run; raises what was wrong. Groups of even seeds may fall asleep."""
    config = TEST_CONFIG if seed % 2 else SLEEPY
    return run_virtual(Chaos(seed, config).main(seconds))


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    first, count = int(sys.argv[1]), int(sys.argv[2])
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 20.0
    for seed in range(first, first + count):
        print(seed, run_chaos(seed, seconds), flush=True)
