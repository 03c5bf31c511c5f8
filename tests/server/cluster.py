"""One placement driver and one store in this process, over gRPC on loopback, for clients that know nothing of us."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from coprocessor.serving import LABELS
from kvstore.client.cluster.pd_client import PdClient
from kvstore.engine.api import Engine
from kvstore.engine.memory import MemoryEngine
from kvstore.raftstore.syncer import InlineSyncer
from kvstore.rpc.api import Handlers
from kvstore.rpc.grpc import GrpcServer, GrpcTransport
from kvstore.server.api import CoprocessorHandler
from kvstore.server.node import NodeConfig, StoreNode
from pd.config import PdConfig
from pd.node import PdNode


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class OneStore:
    pd_address: str
    node: StoreNode
    pd: PdNode


class _Sync:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self) -> None:
        self._engine.sync()


@asynccontextmanager
async def one_store(
    engine: Engine | None = None, coprocessor: CoprocessorHandler | None = None
) -> AsyncIterator[OneStore]:
    """Serves until the block ends."""
    engine, pd_engine = engine or MemoryEngine(), MemoryEngine()
    pd_address, address = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    pd_transport, transport = GrpcTransport(), GrpcTransport()
    config = PdConfig("pd1", f"http://{pd_address}")

    def pd_server(at: str, handlers: Handlers) -> GrpcServer:
        return GrpcServer(at, handlers)

    pd = PdNode(
        config, pd_engine, pd_transport, pd_server, wall_ms=wall_ms, sync=_Sync(pd_engine), rng=random.Random(1)
    )
    await pd.start()
    placement = await PdClient.connect(transport, [pd_address], rng=random.Random(2))
    node = StoreNode(
        NodeConfig(address, labels={} if coprocessor is None else LABELS),
        engine,
        transport,
        placement,
        lambda handlers: GrpcServer(address, handlers),
        cluster_id=placement.cluster_id,
        syncer=InlineSyncer(engine),
        rng=random.Random(3),
        clock=time.monotonic,
        wall_ms=wall_ms,
        coprocessor=coprocessor,
    )
    try:
        await node.start()
        yield OneStore(pd_address, node, pd)
    finally:
        await node.stop(0)
        await placement.close()
        await pd.stop()
        await transport.close()
        await pd_transport.close()
