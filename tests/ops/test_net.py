"""Addresses that are read or refused, and ports that are not opened to others without TLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvstore.ops.net import Address, AddressError, TlsError, check_bind, load_tls, parse_address
from tests.ops.certificates import make_certificates


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:20160", Address("127.0.0.1", 20160)),
        ("http://pd-1:2379/", Address("pd-1", 2379)),
        ("[::1]:80", Address("::1", 80)),
        (" localhost:0 ", Address("localhost", 0)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "host", ":1", "host:", "host:x", "host:70000", "::1:80", "a/b:1", "u@h:1", "h:-1"]
)
def test_refused_addresses(text: str) -> None:
    with pytest.raises(AddressError, match="addr "):
        parse_address(text, "addr")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org", "192.168.1.1"])
def test_a_public_port_needs_tls(tmp_path: Path, host: str) -> None:
    with pytest.raises(AddressError, match="TLS is not configured"):
        check_bind(Address(host, 1), None, "--addr")
    made = make_certificates(tmp_path)
    check_bind(Address(host, 1), load_tls(made.ca, made.cert, made.key), "--addr")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_a_loopback_port_does_not(host: str) -> None:
    check_bind(Address(host, 1), None, "--addr")


def test_certificates_are_checked_at_the_start(tmp_path: Path) -> None:
    assert load_tls("", "", "") is None
    made = make_certificates(tmp_path)
    with pytest.raises(TlsError, match="cert and key missing"):
        load_tls(made.ca, "", "")
    with pytest.raises(TlsError, match="TLS key '/none' cannot be read: No such file"):
        load_tls(made.ca, made.cert, "/none")
    with pytest.raises(TlsError, match="do not fit"):
        load_tls(made.ca, made.cert, str(tmp_path / "ca.key"))
