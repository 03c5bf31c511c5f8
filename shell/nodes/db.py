"""`sqlfront db`: a SQL server of a cluster as a process.

It has no port for SQL yet. What it does for the cluster is what every SQL server does in the background: it holds a
schema lease, and goes on with the schema changes of servers that died.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from kvstore.client.api import LOGICAL_BITS
from kvstore.client.cluster.errors import PdUnavailable
from kvstore.errors import KvError
from kvstore.ops import process
from kvstore.ops.config import setting
from kvstore.ops.log import get_logger
from kvstore.ops.process import Usage
from kvstore.ops.status import RegionStatus, StatusServer
from shell.nodes import common
from shell.nodes.db_metrics import ServerMetrics
from sqlfront.catalog.lease import SchemaLease
from sqlfront.catalog.shared import SharedCatalog
from sqlfront.cluster import ClusterTarget
from sqlfront.database import Database
from sqlfront.errors import InterfaceError

KIND = "db"
T = TypeVar("T")


@dataclass(frozen=True)
class DbSettings:
    """The configuration of a SQL server's process."""

    pd_endpoints: tuple[str, ...] = setting((), "addresses of placement drivers; those of some are enough")
    status_addr: str = setting("127.0.0.1:10080", "the status port (HTTP); empty: none")
    stop_grace_ms: int = setting(1_000, "how long statements under way may take when it stops", 0, 600_000)
    log: common.LogSettings = field(default_factory=common.LogSettings)
    security: common.SecuritySettings = field(default_factory=common.SecuritySettings)


def run(file: Path | None, given: Mapping[str, object]) -> int:
    """Runs a SQL server until it is told to stop; returns the exit code."""
    try:
        settings = common.settings_of(DbSettings, file, given)
    except Usage as error:
        process.say_fatal(KIND, str(error))
        return process.EXIT_USAGE
    return process.run(KIND, lambda: RunningDb.start(settings), settings.stop_grace_ms / 1000)


def target_of(settings: DbSettings) -> ClusterTarget:
    """The cluster of the settings; raises Usage."""
    if not settings.pd_endpoints:
        raise Usage("where are the placement drivers? give --pd HOST:PORT")
    security = settings.security
    tls = {"ca": security.ca_path, "cert": security.cert_path, "key": security.key_path}
    try:
        return ClusterTarget.parse(",".join(settings.pd_endpoints), tls if security.ca_path else {})
    except InterfaceError as error:
        raise Usage(f"--pd: {error.message}") from error


@dataclass
class RunningDb:
    """A SQL server that has joined its cluster."""

    database: Database
    lease: SchemaLease
    process: common.Process
    status: StatusServer | None
    ready: Mapping[str, object]

    @classmethod
    async def start(cls, settings: DbSettings) -> RunningDb:
        """Raises Usage, OSError for the status port, KvError and RpcError of the cluster."""
        prepared = common.prepare("tidb", settings.log, settings.security)
        target = target_of(settings)
        address = None
        if settings.status_addr:
            address = common.address_of(settings.status_addr, "--status-addr", prepared.tls)
        database = await _join(target)
        catalog = database.catalog
        assert isinstance(catalog, SharedCatalog)
        running = cls(database, catalog.lease, prepared, None, {})
        try:
            ServerMetrics(prepared.registry, database, catalog.lease)
            running.status = await common.open_status(prepared, address, DbStatus(running), None, settings)
        except BaseException:
            await running.stop(0)
            raise
        running.ready = {
            "status": str(running.status.address) if running.status is not None else "none",
            "server_id": running.lease.server_id,
        }
        return running

    async def failed(self) -> BaseException:
        """Never: a server that has lost touch with the cluster refuses statements, and goes on when it has it again."""
        await asyncio.Event().wait()
        raise AssertionError("waits for ever")

    async def stop(self, grace_s: float) -> None:
        await common.close_status(self.process, self.status)
        await in_thread(self._close)

    def _close(self) -> None:
        try:
            self.database.close()
        except KvError as error:
            # its record is removed by the others, some time after the lease
            get_logger(__name__).warning("the server could not sign off", error=str(error))


async def _join(target: ClusterTarget) -> Database:
    """Waits until a placement driver answers, which may be started later, and becomes a SQL server of its cluster."""
    log = get_logger(__name__)
    while True:
        try:
            return await in_thread(lambda: Database.connect(target))
        except PdUnavailable as error:
            log.warning("no placement driver answers; trying again", endpoints=target.addresses, error=str(error))


async def in_thread(call: Callable[[], T]) -> T:
    """What a call returns or raises that must not hold the loop up.

    Its thread does not hold up the end of the process either, as those of `asyncio.to_thread` do.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if outcome.cancelled():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(value)  # type: ignore[arg-type]

    def work() -> None:
        value, failure = None, None
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            failure = error
        # when the loop is closed nobody waits
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=work, name="sqlfront-db", daemon=True).start()
    return await outcome


class DbStatus:
    """What the status port tells of a SQL server; it has no regions."""

    def __init__(self, running: RunningDb) -> None:
        self._running = running

    def identity(self) -> Mapping[str, object]:
        lease = self._running.lease
        owner = lease.last_owner
        return {
            "server_id": lease.server_id,
            "where": lease.where,
            "schema_version": lease.version,
            "lease_left_s": round(lease.left_s, 3),
            "schema_owner": None if owner is None else _owner(owner),
            "sessions": len(self._running.database.sessions),
        }

    def is_healthy(self) -> bool:
        return self._running.lease.left_s > 0

    def regions(self) -> Sequence[RegionStatus]:
        return []

    def region(self, region_id: int) -> RegionStatus | None:
        return None


def _owner(owner: Mapping[str, object]) -> Mapping[str, object]:
    """The server that changes the schema, and until when it may (milliseconds since the epoch)."""
    return {
        "server_id": owner["server"],
        "where": owner["where"],
        "until_ms": int(str(owner["until"])) >> LOGICAL_BITS,
    }
