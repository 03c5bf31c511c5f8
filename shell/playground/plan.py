"""Which processes a playground has, at which ports, with which command lines. Values only: nothing is started here."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
PD_PORT, PD_STATUS_PORT = 2379, 2479
KV_PORT, KV_STATUS_PORT = 20160, 20180
PROCESSES_MAX = 20
"""Of each kind: the default ports of stores and of their status must not meet."""


class PlanError(ValueError):
    """A playground that cannot be; the message says why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One process of the playground."""

    name: str
    kind: str
    """`pd` or `kv`: the subcommand."""
    port: int
    status_port: int
    directory: Path
    log: Path
    arguments: tuple[str, ...]

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def status_address(self) -> str:
        return f"{HOST}:{self.status_port}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The processes in the order in which they are started."""

    pds: tuple[Member, ...]
    stores: tuple[Member, ...]

    @property
    def members(self) -> tuple[Member, ...]:
        return (*self.pds, *self.stores)

    @property
    def pd_addresses(self) -> str:
        return ",".join(pd.address for pd in self.pds)


def make_plan(stores: int, pds: int, data: Path, base_port: int | None, ports: Sequence[int] = ()) -> Plan:
    """A plan on TiKV's and PD's ports, or on consecutive ones from `base_port`, or on given ones (two a process).

    Raises PlanError.
    """
    for what, count in (("stores (--kv)", stores), ("placement drivers (--pd)", pds)):
        if not 1 <= count <= PROCESSES_MAX:
            raise PlanError(f"{count} {what}: a playground has 1 to {PROCESSES_MAX}")
    count = 2 * (stores + pds)
    if base_port is not None:
        if not 1 <= base_port <= 65535 - count:
            raise PlanError(f"--base-port {base_port}: {count} ports from there on are needed, below 65536")
        ports = range(base_port, base_port + count)
    elif not ports:
        pd_ports = [port for n in range(pds) for port in (PD_PORT + n, PD_STATUS_PORT + n)]
        ports = pd_ports + [port for n in range(stores) for port in (KV_PORT + n, KV_STATUS_PORT + n)]
    cluster = ",".join(f"pd{n + 1}=http://{HOST}:{ports[2 * n]}" for n in range(pds))
    drivers = tuple(
        _member("pd", n, ports[2 * n], ports[2 * n + 1], data, _pd_arguments(n, ports, cluster)) for n in range(pds)
    )
    endpoints = ",".join(pd.address for pd in drivers)
    at = 2 * pds
    return Plan(
        drivers,
        tuple(
            _member(
                "kv", n, ports[at + 2 * n], ports[at + 2 * n + 1], data, _kv_arguments(ports[at + 2 * n], endpoints)
            )
            for n in range(stores)
        ),
    )


def _pd_arguments(n: int, ports: Sequence[int], cluster: str) -> tuple[str, ...]:
    name = f"pd{n + 1}"
    return ("--name", name, "--client-addr", f"{HOST}:{ports[2 * n]}", "--initial-cluster", cluster)


def _kv_arguments(port: int, endpoints: str) -> tuple[str, ...]:
    return ("--addr", f"{HOST}:{port}", "--pd", endpoints)


def _member(kind: str, n: int, port: int, status: int, data: Path, arguments: tuple[str, ...]) -> Member:
    name = f"{kind}{n + 1}"
    directory, log = data / name, data / f"{name}.log"
    common = ("--data", str(directory), "--status-addr", f"{HOST}:{status}", "--log-file", str(log))
    return Member(name, kind, port, status, directory, log, (kind, *common, *arguments))


def taken_ports(plan: Plan) -> list[int]:
    """The plan's ports that somebody listens at."""
    taken = []
    for member in plan.members:
        for port in (member.port, member.status_port):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError:
                    taken.append(port)
    return taken
