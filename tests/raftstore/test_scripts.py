"""Golden scripts of a whole cluster: commands, and what they print. SQLFRONT_REGENERATE=1 writes the output anew.

A file is a sequence of blocks: commands, `---`, output, an empty line. Stores are numbered; the first region is 2.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kvstore.engine.api import CF_DEFAULT, CF_RAFT
from kvstore.proto import raft_serverpb_pb2 as serverpb
from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.proto.metapb_pb2 import Peer, PeerRole, Region
from kvstore.proto.pdpb_pb2 import ChangePeer, RegionHeartbeatResponse
from kvstore.proto.raft_cmdpb_pb2 import ChangePeerRequest
from kvstore.raftstore import keys
from kvstore.raftstore.api import RegionError
from kvstore.raftstore.placement_worker import begin_merge, change_peers
from tests.raftstore.cluster import ADD, LEARNER, REMOVE, Cluster
from tests.raftstore.loop import run_virtual

SCRIPTS = Path(__file__).parent / "scripts"
ROLES = {PeerRole.Voter: "", PeerRole.Learner: "/learner", PeerRole.IncomingVoter: "/incoming", 3: "/demoting"}


def show_region(region: Region) -> str:
    peers = " ".join(f"{p.id}@{p.store_id}{ROLES[p.role]}" for p in region.peers)
    epoch = region.region_epoch
    start, end = region.start_key.decode() or "-∞", region.end_key.decode() or "+∞"
    return f"region {region.id} [{start}, {end}) version {epoch.version} conf_ver {epoch.conf_ver}: {peers}"


def show_error(error: RegionError) -> str:
    kinds = [field.name for field, _ in error.error.ListFields() if field.name != "message"]
    return f"error: {kinds[0] if kinds else error.error.message}"


class Script:
    """Runs one command after the other on one cluster."""

    def __init__(self) -> None:
        self.cluster = Cluster(seed=1)
        self.kept: dict[str, tuple[int, Context]] = {}
        self.commands: dict[str, Callable[..., Awaitable[list[str]]]] = {
            name: getattr(self, name) for name in dir(self) if name.endswith("_")
        }

    async def run(self, line: str) -> list[str]:
        name, *words = line.split()
        try:
            return await self.commands[name + "_"](*words)
        except RegionError as error:
            return [show_error(error)]

    async def form_(self, *stores: str) -> list[str]:
        self.cluster.form([int(store) for store in stores])
        await self.cluster.leader()
        return []

    async def store_(self, store: str) -> list[str]:
        self.cluster.add_store(int(store))
        return []

    async def put_(self, *pairs: str) -> list[str]:
        for pair in pairs:
            key, _, value = pair.partition("=")
            await self.cluster.put(key.encode(), value.encode())
        return []

    async def fill_(self, prefix: str, count: str) -> list[str]:
        for number in range(int(count)):
            await self.cluster.put(f"{prefix}{number:03}".encode(), b"v" * 20)
        return []

    async def get_(self, key: str) -> list[str]:
        value = await self.cluster.get(key.encode())
        return [f"{key}={value.decode() if value is not None else '(none)'}"]

    async def split_(self, region: str, *at: str) -> list[str]:
        store = await self.cluster.leader(int(region))
        context = self.cluster.context(store, int(region))
        regions = await store.split(context, [key.encode() for key in at])
        for made in regions:
            await self.cluster.leader(made.id)
        return [show_region(made) for made in regions]

    async def regions_(self, store: str) -> list[str]:
        return [show_region(region) for region in self.cluster.stores[int(store)].regions()]

    async def wait_(self, seconds: str) -> list[str]:
        await asyncio.sleep(float(seconds))
        self.cluster.check()
        return []

    async def data_(self, *stores: str) -> list[str]:
        """The number of keys of each store, and whether they are the same."""
        all_data = [self.cluster.data(int(store)) for store in stores]
        same = all(data == all_data[0] for data in all_data)
        return [f"{' '.join(str(len(data)) for data in all_data)} keys, {'equal' if same else 'different'}"]

    async def change_(self, region: str, *changes: str) -> list[str]:
        """change 2 add=40@4 learner=50@5 remove=12@2; without changes a joint configuration is left."""
        kinds = {"add": ADD, "learner": LEARNER, "remove": REMOVE}
        requests: list[ChangePeerRequest] = []
        for change in changes:
            kind, _, peer = change.partition("=")
            peer_id, _, store_id = peer.partition("@")
            requests.append(
                ChangePeerRequest(change_type=kinds[kind], peer=Peer(id=int(peer_id), store_id=int(store_id)))
            )
        store = await self.cluster.leader(int(region))
        return [show_region(await change_peers(store, store.peers[int(region)], requests))]

    async def order_change_(self, region: str, peer_id: str, store_id: str) -> list[str]:
        """The same by the placement driver's order."""
        order = RegionHeartbeatResponse()
        order.change_peer.CopyFrom(ChangePeer(peer=Peer(id=int(peer_id), store_id=int(store_id)), change_type=LEARNER))
        self.cluster.order(int(region), order)
        return []

    async def transfer_(self, region: str, store_id: str) -> list[str]:
        leader = await self.cluster.leader(int(region))
        wanted = next(p for p in leader.peers[int(region)].region.peers if p.store_id == int(store_id))
        self.cluster.transfer(int(region), wanted)
        await self.cluster.until(lambda: self.cluster.leader_store(int(region)).store_id == int(store_id))  # type: ignore[union-attr]
        await self.cluster.leader(int(region))
        return []

    async def merge_(self, source: str, target: str) -> list[str]:
        store = await self.cluster.leader(int(source))
        return [show_region(await begin_merge(store, store.peers[int(source)], store.peers[int(target)].region))]

    async def crash_(self, *stores: str) -> list[str]:
        for store in stores:
            self.cluster.crash(int(store))
        return []

    async def start_(self, *stores: str) -> list[str]:
        for store in stores:
            self.cluster.start(int(store))
        return []

    async def isolate_(self, store: str) -> list[str]:
        self.cluster.network.isolate(int(store), [s for s in self.cluster.disks if s != int(store)])
        return []

    async def heal_(self) -> list[str]:
        self.cluster.network.heal()
        return []

    async def log_(self, region: str, store: str) -> list[str]:
        """Whether the log was cut."""
        storage = self.cluster.stores[int(store)].peers[int(region)].storage
        return [f"cut: {storage.truncated_index > 5}, entries left: {storage.last - storage.truncated_index < 64}"]

    async def state_(self, region: str, store: str) -> list[str]:
        raw = self.cluster.stores[int(store)].engine.get(CF_RAFT, keys.region_state_key(int(region)))
        if raw is None:
            return ["nothing"]
        return [serverpb.PeerState.Name(serverpb.RegionLocalState.FromString(raw).state)]

    async def keep_(self, name: str, region: str) -> list[str]:
        """Keeps a context as a client's cache does."""
        store = await self.cluster.leader(int(region))
        self.kept[name] = (store.store_id, self.cluster.context(store, int(region)))
        return []

    async def write_with_(self, name: str, key: str) -> list[str]:
        store_id, context = self.kept[name]
        store = self.cluster.stores[store_id]
        grant = await store.read(context)
        store.check_key(grant.region, key.encode())
        await store.write(context, [(CF_DEFAULT, b"z" + key.encode(), b"kept")])
        return ["written"]


def blocks_of(text: str) -> list[tuple[list[str], list[str]]]:
    found = []
    for block in text.strip().split("\n\n"):
        commands, _, output = block.partition("---")
        found.append((commands.strip().splitlines(), output.strip().splitlines()))
    return found


async def run_script(text: str) -> str:
    script = Script()
    out: list[str] = []
    for commands, _ in blocks_of(text):
        printed: list[str] = []
        for command in commands:
            if not command.startswith("#"):
                printed += await script.run(command)
        out.append("\n".join([*commands, "---", *printed]) + "\n")
    script.cluster.check()
    await script.cluster.stop()
    return "\n".join(out)


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.txt")), ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    text = path.read_text()
    got = run_virtual(run_script(text))
    if os.environ.get("SQLFRONT_REGENERATE"):
        path.write_text(got)
    assert got == text or os.environ.get("SQLFRONT_REGENERATE")
