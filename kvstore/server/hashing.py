"""The hash of a key in lock waits: 64 bits that mean nothing but equality."""

from __future__ import annotations

from hashlib import blake2b


def key_hash(key: bytes) -> int:
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big")
