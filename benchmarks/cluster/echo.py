"""A plain grpc.aio server that answers with what it was sent: what Python's gRPC can do, whatever a store does.

`python -m benchmarks.cluster.echo` prints `ready addr=HOST:PORT` and serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import grpc
import grpc.aio

SERVICE, METHOD = "benchmark.Echo", "Unary"


async def _unary(request: bytes, context: Any) -> bytes:
    return request


async def serve() -> None:
    server = grpc.aio.server()
    handlers = {METHOD: grpc.unary_unary_rpc_method_handler(_unary)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    print(f"ready addr=127.0.0.1:{port}", flush=True)
    await told.wait()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(serve())
