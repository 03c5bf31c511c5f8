"""Addresses and TLS of the ports: what may be bound, and the certificates."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path


class AddressError(ValueError):
    """An address that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port; IPv6 hosts are in brackets when written."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_unspecified(self) -> bool:
        """Whether it means every interface, and so is no address that others can reach."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False


def parse_address(text: str, what: str = "address") -> Address:
    """Reads `host:port`, also of a URL as `http://host:port`. Raises AddressError."""
    plain = text.strip()
    for scheme in ("http://", "https://"):
        plain = plain.removeprefix(scheme)
    host, found, port = plain.rstrip("/").rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise AddressError(f"{what} {text!r}: write an IPv6 address in brackets, as [::1]:20160")
    if not found or not host or any(c in host for c in "/@ \t\n"):
        raise AddressError(f"{what} {text!r} is not host:port")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise AddressError(f"{what} {text!r}: {port!r} is no port")
    return Address(host, int(port))


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files: the authority's certificate, that peers are checked against, and the process' own with its key."""

    ca_path: str
    cert_path: str
    key_path: str

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        """Authority, certificate, key: for libraries that read them themselves."""
        return Path(self.ca_path), Path(self.cert_path), Path(self.key_path)

    def server_context(self) -> ssl.SSLContext:
        """For a port that takes only clients with a certificate of the authority."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca_path)
        context.load_cert_chain(self.cert_path, self.key_path)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client_context(self) -> ssl.SSLContext:
        """For calls to the processes of the cluster."""
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self.ca_path)
        context.load_cert_chain(self.cert_path, self.key_path)
        return context


class TlsError(ValueError):
    """Certificates that are missing or cannot be read."""


def load_tls(ca_path: str, cert_path: str, key_path: str) -> Tls | None:
    """Reads the three files; None when none is named. Raises TlsError."""
    paths = {"ca": ca_path, "cert": cert_path, "key": key_path}
    missing = [name for name, path in paths.items() if not path]
    if len(missing) == 3:
        return None
    if missing:
        raise TlsError(f"TLS needs ca, cert and key together; {' and '.join(missing)} missing")
    for name, path in paths.items():
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise TlsError(f"TLS {name} {path!r} cannot be read: {error.strerror}") from error
    tls = Tls(ca_path, cert_path, key_path)
    try:
        tls.server_context()
    except (ssl.SSLError, OSError) as error:
        raise TlsError(f"TLS certificates {ca_path!r}, {cert_path!r}, {key_path!r} do not fit: {error}") from error
    return tls


def check_bind(address: Address, tls: Tls | None, what: str) -> None:
    """Refuses to listen where others can connect without certificates. Raises AddressError."""
    if tls is None and not address.is_loopback:
        raise AddressError(
            f"{what} {address} can be reached by others and TLS is not configured; "
            "bind to 127.0.0.1, or give --ca, --cert and --key"
        )
