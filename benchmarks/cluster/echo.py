"""A plain grpc.aio server that answers with what it was sent: what Python's gRPC can do, whatever a store does.

`python -m benchmarks.cluster.echo` prints `ready addr=HOST:PORT` and serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

UNARY = "/benchmark.Echo/Unary"
STREAM = "/benchmark.Echo/Stream"


async def _unary(request: bytes, context: Any) -> bytes:
    return request


async def _stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def serve() -> None:
    server = grpc.aio.server()
    handlers = {
        UNARY.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(_unary),
        STREAM.rpartition("/")[2]: grpc.stream_stream_rpc_method_handler(_stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("benchmark.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    print(f"ready addr=127.0.0.1:{port}", flush=True)
    await told.wait()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(serve())
