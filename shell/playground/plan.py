"""Which processes a playground has, at which ports, with which command lines. Values only: nothing is started here."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
PD_PORT, PD_STATUS_PORT = 2379, 2479
KV_PORT, KV_STATUS_PORT = 20160, 20180
COLUMNAR_PORT, COLUMNAR_STATUS_PORT = 3930, 20292
DB_STATUS_PORT = 10080
PROCESSES_MAX = 20
"""Of each kind: the default ports of stores and of their status must not meet."""
LISTENED = range(21_000, 32_000)
"""Where `free_ports` looks: above the defaults, below what systems give to the near end of a connection."""
PORTS_APART = 500
"""Between the places where two processes with neighbouring numbers begin."""
_looked_until: dict[int, int] = {}
"""How far `free_ports` came, by process: a fork has its own."""


class PlanError(ValueError):
    """A playground that cannot be; the message says why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One process of the playground."""

    name: str
    kind: str
    """`pd`, `kv` or `db`: the subcommand."""
    port: int
    """Where it serves; 0 for a SQL server, which has its status port only."""
    status_port: int
    directory: Path
    """Its data, if it has any."""
    log: Path
    arguments: tuple[str, ...]

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def ports(self) -> tuple[int, ...]:
        return tuple(port for port in (self.port, self.status_port) if port)

    @property
    def status_address(self) -> str:
        return f"{HOST}:{self.status_port}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The processes in the order in which they are started."""

    pds: tuple[Member, ...]
    stores: tuple[Member, ...]
    columnar: tuple[Member, ...] = ()
    """Stores of columnar replicas."""
    servers: tuple[Member, ...] = ()
    """SQL servers."""

    @property
    def members(self) -> tuple[Member, ...]:
        return (*self.pds, *self.stores, *self.columnar, *self.servers)

    @property
    def pd_addresses(self) -> str:
        return ",".join(pd.address for pd in self.pds)


def ports_of(stores: int, pds: int, servers: int, columnar: int = 0) -> int:
    """How many ports a plan has."""
    return 2 * (stores + pds + columnar) + servers


def make_plan(
    stores: int,
    pds: int,
    data: Path,
    base_port: int | None,
    ports: Sequence[int] = (),
    *,
    servers: int = 0,
    columnar: int = 0,
) -> Plan:
    """A plan on TiKV's, PD's, TiFlash's and TiDB's ports, or on consecutive ones from `base_port`, or on `ports_of`
    given ones.

    Raises PlanError.
    """
    for what, number, least in (
        ("stores (--kv)", stores, 1),
        ("placement drivers (--pd)", pds, 1),
        ("columnar stores (--columnar)", columnar, 0),
        ("SQL servers (--db)", servers, 0),
    ):
        if not least <= number <= PROCESSES_MAX:
            raise PlanError(f"{number} {what}: a playground has {least} to {PROCESSES_MAX}")
    count = ports_of(stores, pds, servers, columnar)
    if base_port is not None:
        if not 1 <= base_port <= 65535 - count:
            raise PlanError(f"--base-port {base_port}: {count} ports from there on are needed, below 65536")
        ports = range(base_port, base_port + count)
    elif not ports:
        usual = [port for n in range(pds) for port in (PD_PORT + n, PD_STATUS_PORT + n)]
        usual += [port for n in range(stores) for port in (KV_PORT + n, KV_STATUS_PORT + n)]
        usual += [port for n in range(columnar) for port in (COLUMNAR_PORT + n, COLUMNAR_STATUS_PORT + n)]
        ports = usual + [DB_STATUS_PORT + n for n in range(servers)]
    left = iter(ports)
    pairs = [(next(left), next(left)) for _ in range(pds)]
    cluster = ",".join(f"pd{n + 1}=http://{HOST}:{port}" for n, (port, _) in enumerate(pairs))
    drivers = tuple(
        _member("pd", n, port, status, data, _pd_arguments(n, port, cluster)) for n, (port, status) in enumerate(pairs)
    )
    endpoints = ",".join(pd.address for pd in drivers)

    def store(n: int, *options: str, name: str = "") -> Member:
        port, status = next(left), next(left)
        arguments = ("--addr", f"{HOST}:{port}", "--pd", endpoints, *options)
        return _member("kv", n, port, status, data, arguments, name)

    return Plan(
        drivers,
        tuple(store(n) for n in range(stores)),
        tuple(store(n, "--columnar", name="columnar") for n in range(columnar)),
        tuple(_member("db", n, 0, next(left), data, ("--pd", endpoints)) for n in range(servers)),
    )


def _pd_arguments(n: int, port: int, cluster: str) -> tuple[str, ...]:
    return ("--name", f"pd{n + 1}", "--client-addr", f"{HOST}:{port}", "--initial-cluster", cluster)


def _member(
    kind: str, n: int, port: int, status: int, data: Path, arguments: tuple[str, ...], name: str = ""
) -> Member:
    name = f"{name or kind}{n + 1}"
    directory, log = data / name, data / f"{name}.log"
    keeps = () if kind == "db" else ("--data", str(directory))
    common = (*keeps, "--status-addr", f"{HOST}:{status}", "--log-file", str(log))
    return Member(name, kind, port, status, directory, log, (kind, *common, *arguments))


def taken_ports(plan: Plan) -> list[int]:
    """The plan's ports that somebody listens at."""
    taken = []
    for port in (port for member in plan.members for port in member.ports):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                taken.append(port)
    return taken


def free_ports(count: int) -> list[int]:
    """So many different ports that nobody listens at now, and that no connection gets for its own end meanwhile.

    What is free now is bound only when a program has started. So processes that ask at once begin at different places,
    and one that asks again goes on behind what it got.
    """
    pid = os.getpid()
    free: list[int] = []
    with contextlib.ExitStack() as stack:
        for _ in LISTENED:
            at = _looked_until.get(pid, pid * PORTS_APART)
            _looked_until[pid] = at + 1
            port = LISTENED[at % len(LISTENED)]
            probe = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                free.append(port)
            if len(free) == count:
                return free
    raise OSError(errno.EADDRINUSE, f"no {count} free ports from {LISTENED.start} to {LISTENED.stop - 1}")
