"""A cluster of processes that the tests of one file share, and its regions being moved while they run."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from kvstore.errors import KvError
from kvstore.proto import pdraft_pb2 as pb
from kvstore.proto.metapb_pb2 import Peer, Region
from kvstore.rpc.api import RpcError
from shell.ctl import steer
from shell.ctl.keys import Key, KeyKind
from shell.ctl.session import CtlError
from shell.playground.children import tail_of
from tests.e2e.harness import Cluster, finished, until

TEST_S = 120.0
"""A test that takes longer hangs."""
SPLIT_S = 30.0
REGIONS_MAX = 24
"""The mover merges once there are so many."""
PAUSE_S = (0.05, 0.3)
STORES = """
gc-poll-ms = 200

[raftstore]
region-heartbeat-s = 0.5
store-heartbeat-s = 1
"""
DRIVERS = """
[schedule]
patrol-interval-ms = 20
schedule-interval-ms = 200
"""
STILL = """
leader-schedule-limit = 0
region-schedule-limit = 0
hot-region-schedule-limit = 0
"""
"""Nobody but the test moves anything: this client, told that a region has no leader just now, does not ask again."""

T = TypeVar("T")


class Suite:
    """The cluster and the loop that it lives in."""

    def __init__(self, cluster: Cluster, runner: asyncio.Runner) -> None:
        self.cluster = cluster
        self._runner = runner

    def run(self, test: Callable[[], Coroutine[Any, Any, T]], within_s: float = TEST_S) -> T:
        """Runs one test in the cluster's loop; shows the ends of the logs when it fails."""
        try:
            return self._runner.run(finished(test, within_s))
        except BaseException:
            for one in self.cluster.members.values():
                print(f"----- {one.log}\n{tail_of(one.log)}")
            raise

    async def split(self, bounds: Sequence[bytes]) -> None:
        """Makes regions that start at these encoded keys, each with its replicas and a leader."""
        await self.cluster.pd.split_regions(bounds)

        async def there() -> bool:
            found = await self.cluster.pd.scan_regions(b"", b"")
            starts = {region.start_key for region, leader in found if leader is not None}
            return starts.issuperset(bounds)

        await until(there, SPLIT_S, f"regions that start at {bounds}")

    async def lead(self, bound: bytes, number: int) -> str:
        """Lets the store of this number lead the region of an encoded key; returns the store's name."""
        names = sorted((await self.cluster.store_ids()).items())
        name, store_id = names[number]

        async def leads() -> bool:
            located = await self.cluster.pd.get_region(bound)
            assert located is not None
            region, leader = located
            if leader is not None and leader.store_id == store_id:
                return True
            request = pb.PdAddOperatorRequest(region_id=region.id)
            request.transfer_leader.store_id = store_id
            await steer.add_operator(request)(self.cluster.session)
            return False

        await until(leads, SPLIT_S, f"{name} leads the region of {bound!r}")
        return name


@contextmanager
def running(directory: Path, stores: int, *, balanced: bool = False) -> Iterator[Suite]:
    """One placement driver and some stores with three replicas of everything, until the block ends.

    With `balanced` the placement driver moves leaders and peers as it sees fit.
    """
    with asyncio.Runner() as runner:
        cluster = Cluster(directory, 1, stores, STORES, DRIVERS if balanced else DRIVERS + STILL)
        runner.run(cluster.__aenter__())
        try:
            runner.run(cluster.replicated(3, 60))
            yield Suite(cluster, runner)
        finally:
            runner.run(cluster.__aexit__(None, None, None))


class Mover:
    """Splits, merges, leaders and peers on the move, by orders as `sqlfront ctl` gives them."""

    def __init__(self, cluster: Cluster, seed: int, kind: KeyKind, key: Callable[[random.Random], bytes]) -> None:
        """`key` draws where to split next."""
        self._cluster = cluster
        self._rng = random.Random(seed)
        self._kind: KeyKind = kind
        self._key = key
        self._known: dict[int, tuple[int, int, int]] = {}
        self.seen: Counter[str] = Counter()
        """What was seen to have changed, as the placement driver knows it."""
        self.refused: Counter[str] = Counter()

    @property
    def moved(self) -> bool:
        """Whether all kinds of change were seen."""
        return all(self.seen[what] for what in ("split", "leader", "peers", "merge"))

    async def work(self) -> None:
        """Goes on until it is cancelled. Raises nothing that a cluster on the move answers."""
        while True:
            try:
                regions = await self._cluster.pd.scan_regions(b"", b"")
                self._look(regions)
                await self._order(regions)
            except (CtlError, RpcError, KvError) as error:
                self.refused[str(error).partition(":")[0][:60]] += 1
            await asyncio.sleep(self._rng.uniform(*PAUSE_S))

    def _look(self, regions: Sequence[tuple[Region, Peer | None]]) -> None:
        now = {
            region.id: (leader.store_id if leader else 0, region.region_epoch.conf_ver, region.region_epoch.version)
            for region, leader in regions
        }
        if self._known:
            self.seen["split"] += len(now.keys() - self._known.keys())
            self.seen["merge"] += len(self._known.keys() - now.keys())
        for number in now.keys() & self._known.keys():
            self.seen["leader"] += now[number][0] != self._known[number][0]
            self.seen["peers"] += now[number][1] != self._known[number][1]
        self._known = now

    async def _order(self, regions: Sequence[tuple[Region, Peer | None]]) -> None:
        at = self._rng.randrange(len(regions))
        region, leader = regions[at]
        stores = [store.id for store in await self._cluster.pd.get_all_stores()]
        having = [peer.store_id for peer in region.peers]
        free = [store for store in stores if store not in having]
        what = self._rng.choice(("split", "leader", "leader", "peer", "merge"))
        request = pb.PdAddOperatorRequest(region_id=region.id)
        if what == "split" or (what == "merge" and len(regions) < 3):
            if len(regions) < REGIONS_MAX:
                await self._split()
            return
        if what == "merge":
            request.merge.target_region_id = regions[at - 1 if at else 1][0].id
        elif what == "peer" and free:
            request.transfer_peer.from_store_id = self._rng.choice(having)
            request.transfer_peer.to_store_id = self._rng.choice(free)
        else:
            request.transfer_leader.store_id = self._rng.choice(
                [store for store in having if leader is None or store != leader.store_id]
            )
        await steer.add_operator(request)(self._cluster.session)

    async def _split(self) -> None:
        key = Key(self._key(self._rng).hex(), hex=True, kind=self._kind)
        located = await self._cluster.pd.get_region(key.encoded)
        if located is not None and located[0].start_key != key.encoded:
            await steer.split(located[0].id, [key])(self._cluster.session)


async def while_moving(mover: Mover, work: Callable[[], Awaitable[None]], at_least_s: float, at_most_s: float) -> None:
    """Runs `work` again and again while regions move, until enough of that was seen."""
    moving = asyncio.create_task(mover.work())
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        while (passed := loop.time() - began) < at_least_s or not mover.moved:
            assert passed < at_most_s, f"too little moved: {dict(mover.seen)}, refused {dict(mover.refused)}"
            assert not moving.done() or moving.result() is None
            await work()
    finally:
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)
