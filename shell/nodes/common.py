"""What the processes of all kinds are made of: settings they share, the log, TLS, metrics and the status port."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from prometheus_client import CollectorRegistry

import sqlfront
from kvstore.engine.api import Engine
from kvstore.ops import log as logs
from kvstore.ops.config import ConfigError, Section, load, setting, to_dict
from kvstore.ops.metrics import EngineMetrics, LoopLag, ProcessMetrics
from kvstore.ops.net import Address, AddressError, Tls, TlsError, check_bind, load_tls, parse_address
from kvstore.ops.process import Usage, git_hash
from kvstore.ops.status import Build, StatusServer, StatusSource
from kvstore.rpc import grpc as transport

S = TypeVar("S", bound=Section)


@dataclass(frozen=True)
class LogSettings:
    """Section `log`."""

    level: Literal["debug", "info", "warn", "error", "fatal"] = setting("info", "what is logged; also at run time")
    format: Literal["text", "json"] = setting("text", "TiDB's unified log format, or JSON")
    redact: Literal["on", "off", "marker"] = setting("on", "user data as `?`, as it is, or between ‹ and ›")
    file: str = setting("", "the log's file; empty: standard error")
    file_mib_max: int = setting(300, "a larger file is rotated", 1, 4096)
    files_max: int = setting(10, "files that are kept, the current one among them", 1, 1000)


@dataclass(frozen=True)
class SecuritySettings:
    """Section `security`: PEM files, all three or none."""

    ca_path: str = setting("", "the authority that peers' certificates must be of")
    cert_path: str = setting("", "this process' certificate, as server and as client")
    key_path: str = setting("", "its private key")


@dataclass(frozen=True, slots=True)
class Process:
    """What a process has before its node is made."""

    log: logs.LogControl
    tls: Tls | None
    registry: CollectorRegistry
    build: Build
    lag: LoopLag
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def grpc_tls(self) -> transport.Tls | None:
        """The certificates as the transport takes them."""
        return None if self.tls is None else transport.Tls(*self.tls.paths)


def settings_of(shape: type[S], file: Path | None, given: Mapping[str, object]) -> S:
    """The settings from a file and the command line; raises Usage."""
    try:
        return load(shape, file, {name: value for name, value in given.items() if value is not None})
    except ConfigError as error:
        raise Usage(str(error)) from error


def address_of(text: str, what: str, tls: Tls | None) -> Address:
    """An address to listen at; raises Usage when it can't be, or is public without TLS."""
    try:
        address = parse_address(text, what)
        check_bind(address, tls, what)
    except AddressError as error:
        raise Usage(str(error)) from error
    return address


def prepare(kind: Literal["tikv", "pd", "tidb"], log: LogSettings, security: SecuritySettings) -> Process:
    """Sets up log, TLS and metrics of a process; raises Usage."""
    try:
        tls = load_tls(security.ca_path, security.cert_path, security.key_path)
        if log.file:
            Path(log.file).parent.mkdir(parents=True, exist_ok=True)
        control = logs.set_up(log.level, log.format, log.redact, log.file, log.file_mib_max, log.files_max)
    except TlsError as error:
        raise Usage(str(error)) from error
    except OSError as error:
        raise Usage(f"the log {log.file!r} cannot be written: {error.strerror}") from error
    registry = CollectorRegistry()
    build = Build(sqlfront.__version__, git_hash(), time.time())
    ProcessMetrics(registry, kind, build.version, build.git_hash, build.start_timestamp)
    return Process(control, tls, registry, build, LoopLag(registry))


async def open_status(
    process: Process, address: Address | None, source: StatusSource, engine: Engine | None, settings: Section
) -> StatusServer | None:
    """Starts what watches a process: the loop's lag, its engine's numbers, and the status port unless it is off.

    Raises OSError.
    """
    if engine is not None:
        EngineMetrics(process.registry, engine)
    process.tasks.append(asyncio.create_task(process.lag.run()))
    if address is None:
        return None
    config = to_dict(settings)
    server = StatusServer(address, source, process.registry, process.build, config, process.log, process.tls)
    await server.start()
    return server


async def close_status(process: Process, server: StatusServer | None) -> None:
    """Ends what `open_status` started."""
    for task in process.tasks:
        task.cancel()
    if server is not None:
        await server.stop()


def wall_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
