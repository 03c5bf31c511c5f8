"""Service grpc.health.v1.Health, which TiKV's Go client asks before it trusts a server again that was slow.

A server that answers at all serves everything it has. (github.com/grpc/grpc `doc/health-checking.md`.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from grpc_health.v1 import health_pb2 as pb

from kvstore.rpc.api import Call, Code, Handlers, RpcError, methods_of

METHODS = methods_of(pb.DESCRIPTOR, "Health")


def health_handlers(paths: Iterable[str]) -> Handlers:
    """Answers for the whole server ("") and for the services that `paths`, as /package.Service/Method, are of."""
    services = frozenset({"", *(path.split("/")[1] for path in paths)})

    async def check(request: pb.HealthCheckRequest, _: Call) -> pb.HealthCheckResponse:
        if request.service not in services:
            raise RpcError(Code.NOT_FOUND, f"no service {request.service!r}")
        return pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVING)

    async def watch(requests: AsyncIterator[pb.HealthCheckRequest], _: Call) -> AsyncIterator[pb.HealthCheckResponse]:
        async for request in requests:
            known = request.service in services
            status = pb.HealthCheckResponse.SERVING if known else pb.HealthCheckResponse.SERVICE_UNKNOWN
            yield pb.HealthCheckResponse(status=status)
        await asyncio.Event().wait()  # what is served does not change while the server runs

    check_method, watch_method = METHODS["Check"], METHODS["Watch"]
    return Handlers({check_method.path: (check_method, check)}, {watch_method.path: (watch_method, watch)})
