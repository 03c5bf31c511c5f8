"""What the client costs: gets and timestamps a second of CPU time, both ends of a call in this process.

`python -m tests.cluster_client.measure` prints the table of docs/cluster-client.md. The store only answers (100 bytes),
so what is measured is the client, the transport and the least that a server does.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from kvstore.client.cluster.cluster import Cluster
from kvstore.proto.tikvpb_pb2 import BatchCommandsResponse
from kvstore.rpc.api import Call, Handlers, Transport
from kvstore.rpc.grpc import GrpcServer, GrpcTransport
from shell.playground.plan import HOST, free_ports
from tests.cluster_client.mock import METHODS, MockCluster

IN_FLIGHT = (1, 8, 64)
CALLS = 20_000
VALUE = b"v" * 100
BATCH = METHODS["BatchCommands"]


class Answering(MockCluster):
    """A cluster of one store that looks nothing up."""

    def __init__(self) -> None:
        super().__init__(stores=1)

    def _handlers(self, store_id: int) -> Handlers:
        async def answer(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
            async for message in requests:
                answers = BatchCommandsResponse(request_ids=message.request_ids)
                for _ in message.requests:
                    answers.responses.add().Get.value = VALUE
                yield answers

        return Handlers(super()._handlers(store_id).unary, {BATCH.path: (BATCH, answer)})


async def rate(one: Callable[[], Awaitable[object]], in_flight: int) -> int:
    """Calls a second of CPU time."""
    calls = CALLS // 8 if in_flight == 1 else CALLS

    async def worker() -> None:
        for _ in range(calls // in_flight):
            await one()

    await worker()
    began = time.process_time()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return round(calls / (time.process_time() - began))


async def measure(name: str, cluster: MockCluster, transport: Transport, *, batch_commands: bool = True) -> None:
    addresses = cluster.pd.addresses
    rng = random.Random(1)
    async with await Cluster.connect(addresses, transport=transport, rng=rng, batch_commands=batch_commands) as client:
        snapshot = client.snapshot(await client.now_ts())
        gets = [await rate(lambda: snapshot.get(b"k"), many) for many in IN_FLIGHT]
        print(f"gets/s, {name}:", *(f"{found:,}" for found in gets))
        if batch_commands:
            stamps = [await rate(client.now_ts, many) for many in IN_FLIGHT]
            print(f"timestamps/s, {name}:", *(f"{found:,}" for found in stamps))


async def main() -> None:
    memory = Answering()
    await memory.start()
    await measure("in-memory transport", memory, memory.network.transport("client"))

    wire = Answering()
    pd, wire.pd.stores[1].address = (f"{HOST}:{port}" for port in free_ports(2))
    wire.pd.addresses = [pd]
    servers = [
        GrpcServer(wire.pd.addresses[0], wire.pd._handlers(0)),
        GrpcServer(wire.pd.stores[1].address, wire._handlers(1)),
    ]
    for server in servers:
        await server.start()
    for batch_commands in (True, False):
        transport = GrpcTransport()
        name = "gRPC over loopback" + ("" if batch_commands else ", one by one")
        await measure(name, wire, transport, batch_commands=batch_commands)
        await transport.close()
    for server in servers:
        await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main())
