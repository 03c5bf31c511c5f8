"""Real clusters for tests: placement drivers and stores as processes on loopback, with a network that can be broken.

Data and logs are in a temporary directory; when a test fails, the ends of all logs are printed. Nothing sleeps for a
fixed time: `until` asks again until a deadline.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import aiohttp

from kvstore.client.cluster.pd_client import PdClient
from kvstore.errors import KvError
from kvstore.proto.metapb_pb2 import PeerRole
from kvstore.rpc.api import RpcError
from kvstore.rpc.grpc import GrpcTransport
from shell.ctl.session import CtlError, Session
from shell.playground.children import Child, tail_of
from shell.playground.local import PROGRAM, READY_S, leaders
from shell.playground.local import STOP_GRACE_S as STOP_S
from shell.playground.plan import HOST, free_ports
from tests.e2e.proxy import OUTSIDE, Network

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.05
TEST_S = 240.0
"""A test that takes longer hangs."""
CLEANUP_S = 60.0
STATUS_TIMEOUT = aiohttp.ClientTimeout(total=10)

T = TypeVar("T")


def run(main: Callable[[], Coroutine[Any, Any, T]], within_s: float = TEST_S) -> T:
    """Runs a test in a loop of its own; see `finished`."""
    return asyncio.run(finished(main, within_s))


async def finished(main: Callable[[], Coroutine[Any, Any, T]], within_s: float = TEST_S) -> T:
    """What a test returns. One that hangs fails, after it was shown what everybody in the loop waits for."""
    test = asyncio.create_task(main())
    try:
        await asyncio.wait([test], timeout=within_s)
        if test.done():
            return test.result()
        for task in asyncio.all_tasks():
            task.print_stack(file=sys.stdout)
        raise AssertionError(f"the test was not over within {within_s:g} s")
    finally:
        test.cancel()
        await asyncio.wait([test], timeout=CLEANUP_S)


async def until(ask: Callable[[], Awaitable[T | None]], timeout_s: float, what: str) -> T:
    """Asks until the answer is there and true; what cannot be asked yet counts as no answer."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            answer = await asyncio.wait_for(ask(), max(0.1, deadline - time.monotonic()))
        except (RpcError, KvError, CtlError, OSError, TimeoutError) as error:
            last = error
        else:
            if answer:
                return answer
            last = answer
        await asyncio.sleep(POLL_S)
    raise AssertionError(f"not within {timeout_s:g} s: {what} (last: {last!r})")


@dataclass
class Member:
    """One process of the cluster: how it is started, and the child while it runs."""

    name: str
    port: int
    """The proxy's, which everybody is told."""
    arguments: Sequence[str]
    log: Path
    status_port: int
    child: Child | None = None
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def status(self) -> str:
        return f"{HOST}:{self.status_port}"

    @property
    def running(self) -> Child:
        assert self.child is not None, f"{self.name} does not run"
        return self.child


class Cluster:
    """A cluster that lives as long as the `async with` block."""

    def __init__(self, directory: Path, pds: int = 1, stores: int = 0, config: str = "", pd_config: str = "") -> None:
        """`config` and `pd_config` are the TOML files of the stores and of the placement drivers."""
        self.directory = directory
        self.members: dict[str, Member] = {}
        self._pds, self._stores = pds, stores
        self._config, self._pd_config = config, pd_config
        self.network = Network(self._pids)
        self.transport = GrpcTransport()
        self._pd: PdClient | None = None

    def _pids(self) -> Mapping[str, int]:
        return {name: one.child.pid for name, one in self.members.items() if one.child and one.child.is_running}

    @property
    def pd_addresses(self) -> list[str]:
        return [one.address for name, one in self.members.items() if name.startswith("pd")]

    @property
    def pd(self) -> PdClient:
        """A client of the placement drivers, through the proxies."""
        assert self._pd is not None
        return self._pd

    @property
    def session(self) -> Session:
        """What `sqlfront ctl` commands run in."""
        return Session(self.pd, self.transport, None)

    @property
    def stores(self) -> list[str]:
        return [name for name in self.members if name.startswith("kv")]

    async def __aenter__(self) -> Cluster:
        try:
            await self._add_drivers()
            await asyncio.gather(*(self.start(name) for name in list(self.members)))
            self._pd = await PdClient.connect(self.transport, self.pd_addresses, rng=random.Random(0))
            for _ in range(self._stores):
                await self.add_store()
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.network.heal()
        if self._pd is not None:
            await self._pd.close()
        await self.transport.close()
        for group in ("kv", "pd"):
            members = [one for name, one in self.members.items() if name.startswith(group) and one.child is not None]
            await asyncio.gather(*(one.running.stop(STOP_S) for one in members))
        await self.network.close()
        if error is not None:
            for one in self.members.values():
                print(f"----- {one.log}\n{tail_of(one.log)}\n{tail_of(one.log.with_suffix('.out'))}")

    async def _add_drivers(self) -> None:
        ports = free_ports(2 * self._pds)
        names = [f"pd{n + 1}" for n in range(self._pds)]
        proxies = [await self.network.proxy(name, ports[2 * n]) for n, name in enumerate(names)]
        cluster = ",".join(f"{name}=http://{HOST}:{port}" for name, port in zip(names, proxies, strict=True))
        for n, name in enumerate(names):
            options = ["--name", name, "--client-addr", f"{HOST}:{ports[2 * n]}", "--initial-cluster", cluster]
            options += ["--advertise-client-addr", f"{HOST}:{proxies[n]}"]
            self._add(name, "pd", proxies[n], ports[2 * n + 1], options, self._pd_config)

    async def add_store(self) -> str:
        """Starts one more store; returns its name."""
        name = f"kv{len(self.stores) + 1}"
        port, status = free_ports(2)
        proxy = await self.network.proxy(name, port)
        options = [
            "--addr",
            f"{HOST}:{port}",
            "--advertise-addr",
            f"{HOST}:{proxy}",
            "--pd",
            ",".join(self.pd_addresses),
        ]
        self._add(name, "kv", proxy, status, options, self._config)
        await self.start(name)
        return name

    def _add(self, name: str, kind: str, port: int, status: int, options: Sequence[str], config: str) -> None:
        log = self.directory / f"{name}.log"
        common = [
            kind,
            "--data",
            str(self.directory / name),
            "--status-addr",
            f"{HOST}:{status}",
            "--log-file",
            str(log),
        ]
        if config:
            file = self.directory / f"{name}.toml"
            file.write_text(config)
            common += ["--config", str(file)]
        self.members[name] = Member(name, port, [*common, *options], log, status)

    async def start(self, name: str) -> None:
        """Starts a member, for the first time or again, and waits until it is ready."""
        one = self.members[name]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), **one.environ}
        one.child = await Child.start(name, (*PROGRAM, *one.arguments), one.log.with_suffix(".out"), environ)
        await one.child.wait_ready(READY_S)

    async def kill(self, name: str) -> None:
        """kill -9."""
        await self.members[name].running.kill()

    async def stop(self, name: str) -> int:
        """SIGTERM; returns the exit code."""
        return await self.members[name].running.stop(STOP_S)

    def pause(self, name: str) -> None:
        """SIGSTOP: the process stands still, its connections stay open."""
        self.members[name].running.send(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self.members[name].running.send(signal.SIGCONT)

    def isolate(self, name: str) -> None:
        """Cuts a member off from all others, and from the test."""
        self.network.partition([name], [OUTSIDE, *(other for other in self.members if other != name)])

    async def metrics(self, name: str) -> list[str]:
        """The lines of a member's `/metrics`."""
        async with (
            aiohttp.ClientSession(timeout=STATUS_TIMEOUT) as client,
            client.get(f"http://{self.members[name].status}/metrics") as answer,
        ):
            return (await answer.text()).splitlines()

    async def set_failpoint(self, name: str, failpoint: str, actions: str) -> None:
        """Switches a failpoint of a member on."""
        url = f"http://{self.members[name].status}/fail/{failpoint}"
        async with aiohttp.ClientSession(timeout=STATUS_TIMEOUT) as client, client.put(url, data=actions) as answer:
            assert answer.status == 200, await answer.text()

    async def ended(self, name: str, within_s: float) -> int:
        """Waits until a member has ended by itself; returns its exit code."""
        return await asyncio.wait_for(self.members[name].running.gone(), within_s)

    async def store_ids(self) -> dict[str, int]:
        """The stores' ids by their names here."""
        found = {store.address: store.id for store in await self.pd.get_all_stores()}
        return {name: found[self.members[name].address] for name in self.stores if self.members[name].address in found}

    async def leaders(self) -> dict[str, int]:
        """How many regions each store leads, as the placement driver knows it."""
        return await leaders(self.pd, {self.members[name].address: name for name in self.stores})

    async def replicated(self, replicas: int, within_s: float) -> None:
        """Waits until every region has so many voters and a leader, and no other peers."""

        async def enough() -> bool:
            regions = await self.pd.scan_regions(b"", b"")
            return bool(regions) and all(
                leader is not None and [peer.role for peer in region.peers] == [PeerRole.Voter] * replicas
                for region, leader in regions
            )

        await until(enough, within_s, f"{replicas} voters of every region")

    async def pd_leader(self) -> str:
        """The name of the leading placement driver."""
        await self.pd.find_leader()
        return next(name for name, one in self.members.items() if one.address == self.pd.leader)
