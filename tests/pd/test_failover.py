"""Three placement drivers in one process: their leader goes, and what they gave out stays true."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import pytest

from kvstore.proto import pdpb_pb2 as pb
from kvstore.rpc.api import Code, RpcError
from kvstore.rpc.memory import DATAGRAM_STREAMS, Kind, MemoryNetwork
from pd.node import member_id
from pd.raft_peers import MESSAGES
from pd.replica import OtherGroup
from tests.pd.cluster_of_pds import Client, Machine, machines, store
from tests.sim.loop import run_simulated


class Partitions:
    """Messages take a millisecond or two; machines that are cut off send and hear nothing."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.cut_off: set[str] = set()

    def delays(self, source: str, target: str, kind: Kind) -> Sequence[float]:
        return [self._rng.uniform(0.001, 0.003)] if self.reachable(source, target) else []

    def reachable(self, source: str, target: str) -> bool:
        return source == target or not {source, target} & self.cut_off


class Group:
    """Three machines, their network and a client."""

    def __init__(self, seed: int) -> None:
        self.faults = Partitions(seed)
        self.network = MemoryNetwork(self.faults, datagrams=DATAGRAM_STREAMS | {MESSAGES.path})
        self.machines = machines(self.network, 3, seed=seed)
        self.client = Client(self.network, [machine.config.me().address for machine in self.machines])

    def leader(self) -> Machine:
        """The one that leads the highest term."""
        leading = [m for m in self.machines if m.node is not None and m.node.replica.term]
        return max(leading, key=lambda m: m.node.replica.term if m.node is not None else 0)

    async def start(self) -> None:
        for machine in self.machines:
            await machine.start()
        await self.client.find_leader()


def simulate(test: Callable[[Group], Awaitable[None]], seed: int = 1) -> None:
    async def run() -> None:
        group = Group(seed)
        await group.start()
        await test(group)
        for machine in group.machines:
            if machine.node is not None:
                await machine.stop()

    run_simulated(run())


def test_followers_name_the_leader() -> None:
    async def test(group: Group) -> None:
        leader = group.leader()
        for machine in group.machines:
            if machine is leader:
                continue
            group.client.address = machine.config.me().address
            with pytest.raises(RpcError, match="not leader") as caught:
                await group.client.call("AllocID", pb.AllocIDRequest())
            assert caught.value.code == Code.UNAVAILABLE
            members = await group.client.call_raw("GetMembers", pb.GetMembersRequest())
            assert members.leader.name == leader.config.name
            assert members.header.cluster_id == group.client.cluster_id
            assert len(members.members) == 3

    simulate(test)


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_when_the_leader_stops(seed: int) -> None:
    async def test(group: Group) -> None:
        client = group.client
        await client.bootstrap(stores=3)
        cluster_id = client.cluster_id
        last_ts = last_id = 0
        for round_number in range(4):
            ts = await client.timestamp(count=100)
            allocated = (await client.call("AllocID", pb.AllocIDRequest())).id
            assert ts - 99 > last_ts
            assert allocated > last_id
            last_ts, last_id = ts, allocated
            await client.call("PutStore", pb.PutStoreRequest(store=store(10 + round_number)))
            leader = group.leader()
            await leader.stop()
            await client.find_leader()
            leader.clock_skew_ms = random.Random(seed).randrange(-60_000, 10_000)
            await leader.start()
        assert client.cluster_id == cluster_id
        stores = (await client.call("GetAllStores", pb.GetAllStoresRequest())).stores
        assert [s.id for s in stores] == [1, 2, 3, 10, 11, 12, 13]

    simulate(test, seed)


@pytest.mark.parametrize("seed", range(10))
def test_a_leader_that_is_cut_off_gives_no_timestamps_when_another_may(seed: int) -> None:
    """The old leader stops before the new one begins, so no caller ever sees time go back."""

    async def test(group: Group) -> None:
        loop = asyncio.get_running_loop()
        old = group.leader()
        assert old.node is not None
        group.faults.cut_off.add(old.config.me().address)
        given: list[tuple[float, int, str]] = []
        end = loop.time() + 6
        while loop.time() < end:
            for machine in group.machines:
                lead = machine.node.leadership if machine.node is not None else None
                if lead is not None and lead.replica.holds_lease():
                    given.append((loop.time(), await lead.timestamps.get(1), machine.config.name))
            await asyncio.sleep(0.01)
        assert len({name for _, _, name in given}) == 2
        stamps = [ts for _, ts, _ in given]
        assert stamps == sorted(set(stamps))

    simulate(test, seed)


def test_leadership_is_handed_on() -> None:
    async def test(group: Group) -> None:
        old = group.leader()
        assert old.node is not None
        before = await group.client.timestamp()
        target = next(m for m in group.machines if m is not old)
        old.node.replica.transfer_leader(member_id(target.config.name))
        await asyncio.sleep(1)
        await group.client.find_leader()
        assert group.leader() is target
        assert await group.client.timestamp() > before

    simulate(test)


def test_a_transfer_that_fails_does_not_end_the_service() -> None:
    async def test(group: Group) -> None:
        old = group.leader()
        assert old.node is not None
        before = await group.client.timestamp()
        target = next(m for m in group.machines if m is not old)
        await target.stop()
        old.node.replica.transfer_leader(member_id(target.config.name))
        await asyncio.sleep(10)
        await group.client.find_leader()
        assert await group.client.timestamp() > before

    simulate(test)


def test_a_lead_that_was_handed_on_has_no_lease_any_more() -> None:
    """Though nobody took it: the other one may campaign as late as the message reaches it."""

    async def test(group: Group) -> None:
        old, loop = group.leader(), asyncio.get_running_loop()
        assert old.node is not None
        replica = old.node.replica
        term = replica.term
        assert replica.holds_lease()
        target = next(m for m in group.machines if m is not old)
        group.faults.cut_off.add(target.config.me().address)
        replica.transfer_leader(member_id(target.config.name))
        begun = loop.time()
        while replica.term == term:
            assert not replica.holds_lease()
            await asyncio.sleep(0.01)
        assert loop.time() - begun < 3

    simulate(test)


def test_a_voter_that_was_just_started_keeps_the_promise_it_forgot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third member wants to lead; the second one has promised the leader not to let it, and starts anew."""
    monkeypatch.setattr("pd.timestamps.WINDOW_MS", 3_600_000)  # nothing is written that the third would lack
    monkeypatch.setattr("pd.node.STOP_GRACE_S", 0.0)  # the second is back before the leader's lease is over

    async def test(group: Group) -> None:
        leader = group.leader()
        second, third = (machine for machine in group.machines if machine is not leader)
        await asyncio.sleep(1)
        group.faults.cut_off.add(leader.config.me().address)
        await second.stop()
        await second.start()
        assert leader.node is not None
        assert third.node is not None
        leased = 0
        while not third.node.replica.term:
            assert asyncio.get_running_loop().time() < 10
            third.node.replica._node.campaign()
            third.node.replica._work.set()
            await asyncio.sleep(0.05)
            leased += leader.node.replica.holds_lease()
        assert leased >= 10
        assert not leader.node.replica.holds_lease()

    simulate(test)


def test_a_member_that_was_away_for_long_gets_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pd.raft_disk.LOG_ENTRIES_MAX", 50)
    monkeypatch.setattr("pd.raft_disk.LOG_ENTRIES_KEPT", 10)

    async def test(group: Group) -> None:
        away = next(m for m in group.machines if m is not group.leader())
        await away.stop()
        await group.client.bootstrap()
        for number in range(200):
            await group.client.call("PutStore", pb.PutStoreRequest(store=store(10 + number)))
        await away.start()
        await asyncio.sleep(5)
        assert away.node is not None
        mine, theirs = (dict(m.node.replica.state.scan()) for m in (away, group.leader()) if m.node is not None)
        assert mine == theirs
        assert len(mine) > 200

    simulate(test)


def test_a_disk_that_fails_ends_the_member() -> None:
    async def test(group: Group) -> None:
        leader = group.leader()
        assert leader.node is not None

        def broken(batch: object) -> None:
            raise OSError("no space left on device")

        leader.engine.write = broken  # type: ignore[method-assign]
        with pytest.raises(OSError, match="no space left"):
            await asyncio.wait_for(leader.node.failure(), 30)
        await leader.stop()
        await group.client.find_leader()
        assert await group.client.timestamp() > 0

    simulate(test)


def test_a_directory_of_another_group_is_refused() -> None:
    async def test(group: Group) -> None:
        alone = machines(MemoryNetwork(), 1)[0]
        alone.engine = group.machines[0].engine
        with pytest.raises(OtherGroup, match="belongs to a group of members"):
            await alone.start()

    simulate(test)


def test_a_change_whose_caller_has_gone_and_that_fails_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    async def test(group: Group) -> None:
        node = group.leader().node
        assert node is not None
        leadership = node.leadership
        assert leadership is not None
        failing = asyncio.Event()

        async def change() -> None:
            await failing.wait()
            raise OSError("the outcome is unknown")

        caller = asyncio.ensure_future(leadership.alone(change))
        await asyncio.sleep(0.1)
        caller.cancel()
        failing.set()
        await asyncio.wait([caller])
        await asyncio.sleep(0.1)
        assert caller.cancelled()

    simulate(test)
    assert "the outcome is unknown" in caplog.text
