"""The in-memory network under faults: what a caller sees of loss, delay, doubling, reordering and dead machines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from kvstore.proto.kvrpcpb_pb2 import RawGetRequest, RawGetResponse
from kvstore.proto.raft_serverpb_pb2 import Done, RaftMessage
from kvstore.rpc.api import Call, Code, RpcError
from kvstore.rpc.memory import Kind, MemoryNetwork, MemoryServer, MemoryTransport
from tests.rpc.ends import BATCH, RAW_GET, TIKV, echo_batch, handlers_of, ids
from tests.sim.loop import run_simulated

RAFT = TIKV["Raft"]


class Script:
    """Delays by link, replaced by the tests as they go."""

    def __init__(self) -> None:
        self.links: dict[tuple[str, str], list[Sequence[float]]] = {}
        self.cut: set[tuple[str, str]] = set()

    def delays(self, source: str, target: str, kind: Kind) -> Sequence[float]:
        if (source, target) in self.cut:
            return ()
        planned = self.links.get((source, target))
        return planned.pop(0) if planned else (0.001,)

    def reachable(self, source: str, target: str) -> bool:
        return (source, target) not in self.cut


class Net:
    def __init__(self) -> None:
        self.faults = Script()
        self.network = MemoryNetwork(self.faults)
        self.client: MemoryTransport = self.network.transport("c")
        self.handled: list[bytes] = []
        self.raft: list[int] = []
        self.server: MemoryServer = self.make_server()

    def make_server(self) -> MemoryServer:
        return self.network.server("s:1", handlers_of({RAW_GET: self.get}, {BATCH: echo_batch, RAFT: self.take}), "s")

    async def get(self, request: RawGetRequest, call: Call) -> RawGetResponse:
        await asyncio.sleep(0.5)
        self.handled.append(request.key)
        return RawGetResponse(value=request.key)

    async def take(self, messages: AsyncIterator[RaftMessage], call: Call) -> AsyncIterator[Done]:
        async for message in messages:
            self.raft.append(message.region_id)
        yield Done()

    async def ask(self, key: bytes = b"k", timeout_s: float = 5.0) -> bytes:
        return bytes((await self.client.channel("s:1").unary(RAW_GET, RawGetRequest(key=key), timeout_s)).value)


def simulate(test: Callable[[Net], Awaitable[None]]) -> None:
    async def whole() -> None:
        net = Net()
        await net.server.start()
        await test(net)
        net.client.crash()
        net.server.crash()

    run_simulated(whole())


async def code_of(awaitable: Awaitable[Any]) -> Code:
    with pytest.raises(RpcError) as info:
        await awaitable
    return info.value.code


def now() -> float:
    return asyncio.get_running_loop().time()


def test_lost_request_is_not_executed() -> None:
    async def test(net: Net) -> None:
        net.faults.cut.add(("c", "s"))
        assert await code_of(net.ask()) is Code.DEADLINE_EXCEEDED
        assert now() == pytest.approx(5.0)
        assert net.handled == []

    simulate(test)


def test_lost_answer_is_executed() -> None:
    async def test(net: Net) -> None:
        net.faults.cut.add(("s", "c"))
        assert await code_of(net.ask()) is Code.DEADLINE_EXCEEDED
        assert net.handled == [b"k"]
        net.faults.cut.clear()
        assert await net.ask(b"x") == b"x"

    simulate(test)


def test_delays_add_up() -> None:
    async def test(net: Net) -> None:
        net.faults.links = {("c", "s"): [(1.0,)], ("s", "c"): [(0.25,)]}
        await net.ask()
        assert now() == pytest.approx(1.75)

    simulate(test)


def test_crashed_server_is_unavailable_and_comes_back() -> None:
    async def test(net: Net) -> None:
        asking = asyncio.ensure_future(net.ask())
        await asyncio.sleep(0.1)
        net.server.crash()
        assert await code_of(asking) is Code.UNAVAILABLE
        assert net.handled == []
        assert await code_of(net.ask()) is Code.UNAVAILABLE
        net.server = net.make_server()
        await net.server.start()
        assert await net.ask() == b"k"

    simulate(test)


def test_answer_sent_before_a_crash_arrives() -> None:
    async def test(net: Net) -> None:
        net.faults.links = {("s", "c"): [(1.0,)]}
        asking = asyncio.ensure_future(net.ask())
        await asyncio.sleep(0.6)
        net.server.crash()
        assert await asking == b"k"

    simulate(test)


def test_crashed_client_reaches_nobody() -> None:
    async def test(net: Net) -> None:
        stream = net.client.channel("s:1").stream(BATCH)
        net.client.crash()
        assert await code_of(net.ask()) is Code.UNAVAILABLE
        assert await code_of(stream.receive()) is Code.CANCELLED

    simulate(test)


def test_address_is_taken_once() -> None:
    async def test(net: Net) -> None:
        with pytest.raises(OSError, match="in use"):
            await net.make_server().start()

    simulate(test)


def test_ordered_stream_keeps_its_order_under_any_delay() -> None:
    async def test(net: Net) -> None:
        net.faults.links = {("c", "s"): [(0.1,), (0.9,), (0.1,), (0.5,), (0.2,)]}
        stream = net.client.channel("s:1").stream(BATCH)
        for number in range(4):
            await stream.send(ids(number))
        answers = [await stream.receive() for _ in range(4)]
        assert [answer.request_ids[0] for answer in answers if answer is not None] == [0, 1, 2, 3]
        stream.cancel()

    simulate(test)


@pytest.mark.parametrize("link", [("c", "s"), ("s", "c")])
def test_partition_breaks_a_waiting_stream_when_keepalive_notices(link: tuple[str, str]) -> None:
    async def test(net: Net) -> None:
        stream = net.client.channel("s:1").stream(BATCH)
        await stream.send(ids(1))
        assert await stream.receive() is not None
        net.faults.cut.add(link)
        assert await code_of(stream.receive()) is Code.UNAVAILABLE
        assert now() == pytest.approx(10.0)
        assert await code_of(stream.send(ids(2))) is Code.UNAVAILABLE

    simulate(test)


def test_nothing_behind_a_lost_message_of_an_ordered_stream_arrives() -> None:
    async def test(net: Net) -> None:
        net.faults.links = {("c", "s"): [(0.1,), (0.1,), (), (0.1,)]}
        stream = net.client.channel("s:1").stream(BATCH)
        for number in (1, 2, 3):
            await stream.send(ids(number))
        answer = await stream.receive()
        assert answer is not None
        assert answer.request_ids[0] == 1
        assert await code_of(stream.receive()) is Code.UNAVAILABLE

    simulate(test)


def test_datagrams_are_lost_doubled_and_reordered_one_by_one() -> None:
    async def test(net: Net) -> None:
        net.faults.links = {("c", "s"): [(0.0,), (0.5,), (0.1, 0.3), (), (0.2,)]}
        stream = net.client.channel("s:1").stream(RAFT)
        for number in (1, 2, 3, 4):
            await stream.send(RaftMessage(region_id=number))
        await asyncio.sleep(1)
        assert net.raft == [2, 4, 2, 1]
        await stream.done_sending()
        assert await stream.receive() == Done()

    simulate(test)


def test_stream_to_a_crashed_server_breaks() -> None:
    async def test(net: Net) -> None:
        stream = net.client.channel("s:1").stream(RAFT)
        await stream.send(RaftMessage(region_id=1))
        await asyncio.sleep(0.1)
        net.server.crash()
        assert await code_of(stream.receive()) is Code.UNAVAILABLE
        assert net.raft == [1]

    simulate(test)
