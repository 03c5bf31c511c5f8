"""The status port: each path over real HTTP, what it refuses, and that others cannot reach it without TLS."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from kvstore import failpoint
from kvstore.ops import log
from kvstore.ops.net import Address, AddressError, Tls, load_tls
from kvstore.ops.status import Build, PeerStatus, RegionStatus, StatusServer
from tests.ops.certificates import make_certificates

LOOPBACK = Address("127.0.0.1", 0)
REGIONS = [
    RegionStatus(1, "", "6B", 2, 1, [PeerStatus(11, 1, "voter")], leader_id=11),
    RegionStatus(2, "6B", "", 2, 1, [PeerStatus(12, 1, "voter")]),
]


class Source:
    """A node that stands still."""

    healthy = True

    def identity(self) -> Mapping[str, object]:
        return {"store_id": 1, "cluster_id": 7}

    def is_healthy(self) -> bool:
        return self.healthy

    def regions(self) -> Sequence[RegionStatus]:
        return REGIONS

    def region(self, region_id: int) -> RegionStatus | None:
        return next((one for one in REGIONS if one.id == region_id), None)


Get = Callable[..., Awaitable[tuple[int, str]]]


def with_server(
    body: Callable[[Get, Source], Awaitable[None]], tls: Tls | None = None, present_certificate: bool = True
) -> None:
    """Runs `body` with a function that sends a request to a server of its own."""

    async def main() -> None:
        registry = CollectorRegistry()
        Counter("things", "Things.", registry=registry).inc(3)
        source, control = Source(), log.set_up(stream=io.StringIO())
        build = Build("0.1.0", "abc", 1.5)
        server = StatusServer(LOOPBACK, source, registry, build, {"log": {"level": "info"}}, control, tls)
        await server.start()
        scheme = "https" if tls else "http"
        context: Any = tls.client_context() if tls and present_certificate else True
        try:
            async with aiohttp.ClientSession(f"{scheme}://{server.address}") as session:

                async def get(path: str, method: str = "GET", data: str = "", **headers: str) -> tuple[int, str]:
                    async with session.request(method, path, data=data, headers=headers, ssl=context) as answer:
                        return answer.status, await answer.text()

                await body(get, source)
        finally:
            await server.stop()
            control.close()
            failpoint.clear()

    level = logging.getLogger().level
    try:
        asyncio.run(main())
    finally:
        logging.getLogger().setLevel(level)


def test_what_a_process_tells() -> None:
    async def body(get: Get, source: Source) -> None:
        assert (await get("/metrics"))[1].splitlines()[2] == "things_total 3.0"
        assert json.loads((await get("/status"))[1]) == {
            "version": "0.1.0", "git_hash": "abc", "start_timestamp": 1.5, "store_id": 1, "cluster_id": 7,
        }  # fmt: skip
        assert json.loads((await get("/config"))[1]) == {"log": {"level": "info"}}
        assert await get("/health") == (200, '{"healthy": true}\n')
        source.healthy = False
        assert await get("/health") == (503, '{"healthy": false}\n')
        assert (await get("/nothing"))[0] == 404
        assert (await get("/status", "POST"))[0] == 405

    with_server(body)


def test_regions() -> None:
    async def body(get: Get, source: Source) -> None:
        found = json.loads((await get("/regions"))[1])
        assert found["count"] == 2
        assert [one["id"] for one in found["regions"]] == [1, 2]
        assert len(json.loads((await get("/regions?limit=1"))[1])["regions"]) == 1
        assert (await get("/regions?limit=-1"))[0] == 400
        one = json.loads((await get("/region/1"))[1])
        assert one["peers"] == [{"id": 11, "store_id": 1, "role": "voter"}]
        assert (one["start_key"], one["end_key"], one["leader_id"]) == ("", "6B", 11)
        for missing in ("3", "x", "-1", "9" * 50):
            assert (await get(f"/region/{missing}"))[0] == 404

    with_server(body)


def test_the_log_level_is_changed() -> None:
    async def body(get: Get, source: Source) -> None:
        assert json.loads((await get("/log-level"))[1]) == {"log_level": "info"}
        for text in ('{"log_level": "debug"}', '"debug"', "debug"):
            assert await get("/log-level", "POST", "info") == (200, '{"log_level": "info"}\n')
            assert await get("/log-level", "POST", text) == (200, '{"log_level": "debug"}\n')
        for text in ("", "loud", '{"level": "info"}', "[1]", "{"):
            assert (await get("/log-level", "POST", text))[0] == 400
        assert json.loads((await get("/log-level"))[1]) == {"log_level": "debug"}

    with_server(body)


def test_failpoints_are_switched() -> None:
    async def body(get: Get, source: Source) -> None:
        assert await get("/fail") == (200, "")
        assert (await get("/fail/raft::before_save", "PUT", "2*return(x)->off"))[0] == 200
        assert await get("/fail/raft::before_save") == (200, "2*return(x)->off")
        assert await get("/fail") == (200, "raft::before_save=2*return(x)->off\n")
        assert failpoint.fail_point("raft::before_save") == "x"
        status, text = await get("/fail/raft::before_save", "PUT", "explode")
        assert (status, "'explode' is none of" in text) == (400, True)
        assert (await get("/fail/raft::before_save", "DELETE"))[0] == 200
        assert (await get("/fail/raft::before_save", "DELETE"))[0] == 404
        assert (await get("/fail/raft::before_save"))[0] == 404
        assert failpoint.fail_point("raft::before_save") is None

    with_server(body)


def test_web_pages_cannot_change_anything() -> None:
    async def body(get: Get, source: Source) -> None:
        assert (await get("/fail/a", "PUT", "panic", Origin="http://example.org"))[0] == 403
        assert (await get("/log-level", "POST", "debug", Origin="http://example.org"))[0] == 403
        assert await get("/fail") == (200, "")

    with_server(body)


def test_a_profile_names_what_ran() -> None:
    async def body(get: Get, source: Source) -> None:
        def spin_for_the_profile() -> None:
            until = time.monotonic() + 0.005
            while time.monotonic() < until:
                pass

        async def spin() -> None:
            while True:
                spin_for_the_profile()
                await asyncio.sleep(0)

        spinning = asyncio.create_task(spin())
        first = asyncio.create_task(get("/debug/pprof/profile?seconds=0.3"))
        await asyncio.sleep(0.1)
        assert (await get("/debug/pprof/profile?seconds=0.1"))[0] == 409
        status, text = await first
        spinning.cancel()
        assert status == 200
        assert "test_status.py:spin_for_the_profile" in text
        assert all(line.rpartition(" ")[2].isdigit() for line in text.splitlines())
        for wrong in ("x", "-1", "301", "nan"):
            assert (await get(f"/debug/pprof/profile?seconds={wrong}"))[0] == 400

    with_server(body)


def test_with_tls_only_certificates_of_the_authority_get_in(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    tls = load_tls(made.ca, made.cert, made.key)

    async def served(get: Get, source: Source) -> None:
        assert (await get("/health"))[0] == 200

    async def refused(get: Get, source: Source) -> None:
        with pytest.raises(aiohttp.ClientError):
            await get("/health")

    with_server(served, tls)
    with_server(refused, tls, present_certificate=False)


def test_a_public_address_is_refused_without_tls() -> None:
    control = log.set_up(stream=io.StringIO())
    try:
        with pytest.raises(AddressError, match=r"the status address 0.0.0.0:0 can be reached by others"):
            StatusServer(Address("0.0.0.0", 0), Source(), CollectorRegistry(), Build("0", "", 0), {}, control)
    finally:
        control.close()
