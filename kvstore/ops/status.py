"""The status port of a process: metrics, health, configuration, regions, log level, failpoints and profiles over HTTP.

Paths are TiKV's where it has them (tikv/src/server/status_server): `/metrics`, `/status`, `/config`, `/log-level`,
`/region/{id}`, `/fail`, `/fail/{name}`, `/debug/pprof/profile`. It runs in the process' own loop and only answers what
a `StatusSource` tells it. What it can change (log level, failpoints) is why it listens on loopback, or with the
cluster's certificates.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol, TypeVar

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from kvstore import failpoint
from kvstore.failpoint import FailpointError
from kvstore.ops.log import LevelError, LogControl
from kvstore.ops.net import Address, Tls, check_bind
from kvstore.ops.profile import SECONDS_MAX, profile

BODY_BYTES_MAX = 64 << 10
REGIONS_LIMIT = 1000
REGIONS_MAX = 100_000
PROFILE_SECONDS = 10.0

JsonObject = Mapping[str, object]
N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A peer of a region."""

    id: int
    store_id: int
    role: str


@dataclass(frozen=True, slots=True)
class RegionStatus:
    """A region as this process knows it; keys are encoded keys in upper-case hexadecimal. 0: not known here."""

    id: int
    start_key: str
    end_key: str
    version: int
    conf_ver: int
    peers: Sequence[PeerStatus]
    leader_id: int = 0
    term: int = 0
    applied_index: int = 0
    committed_index: int = 0
    approximate_bytes: int = 0
    approximate_keys: int = 0
    state: str = "normal"


class StatusSource(Protocol):
    """What a node tells of itself. Called in the loop; quick, and does not raise."""

    def identity(self) -> JsonObject:
        """Ids and addresses, for `/status`."""

    def is_healthy(self) -> bool:
        """Whether it serves now."""

    def regions(self) -> Sequence[RegionStatus]:
        """All regions known here, in key order."""

    def region(self, region_id: int) -> RegionStatus | None: ...


@dataclass(frozen=True, slots=True)
class Build:
    """What runs: version, commit, and since when (seconds since the epoch)."""

    version: str
    git_hash: str
    start_timestamp: float


class StatusServer:
    """Listens from `start` to `stop`; `address` then has the real port."""

    def __init__(
        self,
        address: Address,
        source: StatusSource,
        registry: CollectorRegistry,
        build: Build,
        config: JsonObject,
        log: LogControl,
        tls: Tls | None = None,
    ) -> None:
        """Raises AddressError for an address that others can reach, without TLS."""
        check_bind(address, tls, "the status address")
        self.address = address
        self._source = source
        self._registry = registry
        self._build = build
        self._config = config
        self._log = log
        self._tls = tls
        self._profiling = False
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Raises OSError when the port is taken."""
        app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[_refuse_browsers])
        app.add_routes(
            [
                web.get("/metrics", self._metrics),
                web.get("/status", self._status),
                web.get("/health", self._health),
                web.get("/config", self._get_config),
                web.get("/log-level", self._get_level),
                web.post("/log-level", self._set_level),
                web.put("/log-level", self._set_level),
                web.get("/regions", self._regions),
                web.get("/region/{id}", self._region),
                web.get("/fail", self._list_failpoints),
                web.get("/fail/{name:.+}", self._get_failpoint),
                web.put("/fail/{name:.+}", self._set_failpoint),
                web.delete("/fail/{name:.+}", self._remove_failpoint),
                web.get("/debug/pprof/profile", self._profile),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        context = None if self._tls is None else self._tls.server_context()
        site = web.TCPSite(self._runner, self.address.host, self.address.port, ssl_context=context)
        await site.start()
        self.address = Address(self.address.host, self._runner.addresses[0][1])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def _status(self, request: web.Request) -> web.Response:
        return _json({**asdict(self._build), **self._source.identity()})

    async def _health(self, request: web.Request) -> web.Response:
        healthy = self._source.is_healthy()
        return _json({"healthy": healthy}, 200 if healthy else 503)

    async def _get_config(self, request: web.Request) -> web.Response:
        return _json(self._config)

    async def _get_level(self, request: web.Request) -> web.Response:
        return _json({"log_level": self._log.level})

    async def _set_level(self, request: web.Request) -> web.Response:
        text = (await request.text()).strip()
        try:
            body = json.loads(text)
        except ValueError:
            body = text
        level = body.get("log_level", body.get("log-level", "")) if isinstance(body, dict) else body
        try:
            self._log.set_level(str(level))
        except LevelError as error:
            return _json({"error": str(error)}, 400)
        return _json({"log_level": self._log.level})

    async def _regions(self, request: web.Request) -> web.Response:
        limit = _number(request, "limit", REGIONS_LIMIT, REGIONS_MAX)
        found = self._source.regions()
        return _json({"count": len(found), "regions": [asdict(one) for one in found[:limit]]})

    async def _region(self, request: web.Request) -> web.Response:
        text = request.match_info["id"]
        found = self._source.region(int(text)) if text.isascii() and text.isdigit() and len(text) <= 20 else None
        if found is None:
            return _json({"error": f"region {text[:40]} is not here"}, 404)
        return _json(asdict(found))

    async def _list_failpoints(self, request: web.Request) -> web.Response:
        return web.Response(text="".join(f"{name}={actions}\n" for name, actions in failpoint.list_all()))

    async def _get_failpoint(self, request: web.Request) -> web.Response:
        actions = dict(failpoint.list_all()).get(request.match_info["name"])
        return web.Response(text="", status=404) if actions is None else web.Response(text=actions)

    async def _set_failpoint(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        try:
            failpoint.configure(name, await request.text())
        except FailpointError as error:
            return web.Response(text=f"{error}\n", status=400)
        return web.Response(text=f"Added fail point with name: {name}\n")

    async def _remove_failpoint(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if not failpoint.remove(name):
            return web.Response(text=f"failpoint {name} is off\n", status=404)
        return web.Response(text=f"Deleted fail point with name: {name}\n")

    async def _profile(self, request: web.Request) -> web.Response:
        seconds = _number(request, "seconds", PROFILE_SECONDS, SECONDS_MAX)
        if self._profiling:
            return _json({"error": "a profile is being taken; one at a time"}, 409)
        self._profiling = True
        try:
            return web.Response(text=await profile(seconds))
        finally:
            self._profiling = False


@web.middleware
async def _refuse_browsers(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuses what a web page made the reader's browser send: such a request names its origin."""
    if request.method not in ("GET", "HEAD") and "Origin" in request.headers:
        return _json({"error": "requests of web pages are refused"}, 403)
    return await handler(request)


def _number(request: web.Request, name: str, default: N, most: N) -> N:
    """A number of the query string; raises the answer 400 when it isn't one or is out of bounds."""
    text = request.query.get(name)
    if text is None:
        return default
    try:
        value = type(default)(text)
    except ValueError:
        value = -1
    if not 0 <= value <= most:
        raise web.HTTPBadRequest(text=json.dumps({"error": f"{name} is a number from 0 to {most}"}))
    return value


def _json(body: JsonObject, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(body) + "\n", status=status, content_type="application/json")
