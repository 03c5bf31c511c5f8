"""A SQL server of a cluster: `tikv://pd1:2379,pd2:2379/shop?ca=...&cert=...&key=...`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlfront.errors import InterfaceError
from sqlfront.threads import OS_THREADS, Threads

if TYPE_CHECKING:
    from kvstore.client.cluster.storage import ClusterStorage
    from kvstore.rpc.api import Transport
    from sqlfront.database import Database

SCHEME = "tikv"
TLS_OPTIONS = ("ca", "cert", "key")


@dataclass(frozen=True, slots=True)
class ClusterTarget:
    """Placement drivers, `host:port` each, and PEM files (empty: no TLS)."""

    addresses: tuple[str, ...]
    ca: str = ""
    cert: str = ""
    key_file: str = ""

    @property
    def key(self) -> str:
        """What connections that can share a server have in common."""
        return f"{SCHEME}://{','.join(sorted(self.addresses))}?{self.ca}&{self.cert}&{self.key_file}"

    @classmethod
    def parse(cls, hosts: str, tls: Mapping[str, str]) -> ClusterTarget:
        """`hosts` is `host:port,...`; `tls` has all of `TLS_OPTIONS` or none. Raises InterfaceError."""
        from kvstore.ops.net import AddressError, parse_address

        if not hosts:
            raise InterfaceError("where is the cluster? tikv://HOST:PORT of its placement drivers")
        try:
            addresses = tuple(str(parse_address(one, "placement driver")) for one in hosts.split(","))
        except AddressError as exc:
            raise InterfaceError(str(exc)) from exc
        missing = [name for name in TLS_OPTIONS if not tls.get(name)]
        if tls and missing:
            raise InterfaceError(f"TLS takes three PEM files: {', '.join(missing)} missing")
        return cls(addresses, tls.get("ca", ""), tls.get("cert", ""), tls.get("key", ""))

    def transport(self) -> Transport:
        """What connects to the cluster; to be called on the loop that uses it."""
        from kvstore.rpc.grpc import GrpcTransport, Tls

        tls = Tls(Path(self.ca), Path(self.cert), Path(self.key_file)) if self.ca else None
        return GrpcTransport(tls=tls)


def start_server(target: ClusterTarget) -> Database:
    """Connects and joins the other servers. Raises PdUnavailable, ClusterMismatch."""
    from kvstore.client.cluster.storage import ClusterStorage

    return serve(ClusterStorage.connect(target.addresses, target.transport))


def serve(storage: ClusterStorage, threads: Threads = OS_THREADS, server_id: int | None = None) -> Database:
    """A server over a connected storage, which it closes with itself, also when it cannot be started.

    Its id among the servers is drawn when it is None. Raises InterfaceError for stores that do not know what would be
    asked of them.
    """
    from sqlfront.catalog.shared import SharedCatalog
    from sqlfront.server import Server

    try:
        check_stores(storage)
        catalog = SharedCatalog(storage, threads, server_id)
        try:
            database = Server(storage, catalog, threads)
        except BaseException:
            catalog.close()
            raise
    except BaseException:
        storage.close()
        raise
    return database


def check_stores(storage: ClusterStorage) -> None:
    """Raises InterfaceError where a store is too old for this client."""
    from kvstore.client.cluster.stores import VERSION_MIN

    if too_old := storage.features().too_old:
        least = ".".join(map(str, VERSION_MIN))
        raise InterfaceError(f"stores before version {least} cannot be used: {', '.join(too_old)}")
