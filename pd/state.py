"""The durable state of a placement driver: keys and values in the engine's family `meta`, and how they are laid out.

Every member holds the same pairs, changed only by log entries (`pd.replica`). Numbers are u64, big-endian. The leading
member reads them when it begins to lead, and then only writes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from kvstore.engine.api import CF_META, Batch, Engine

PREFIX = b"pd/"
"""In front of every key on disk; the log's own records are beside them."""
PREFIX_END = b"pd0"
SCAN_PAIRS = 1024

CLUSTER_ID = b"cluster_id"
CLUSTER = b"cluster"
"""metapb.Cluster; it is there when the cluster is bootstrapped."""
IDS_BOUND = b"ids"
TSO_BOUND = b"tso"
"""Milliseconds; see `pd.tso`."""
GC_SAFE_POINT = b"gc/safe_point"
TXN_SAFE_POINT = b"gc/txn_safe_point"
SERVICE_SAFE_POINTS = b"gc/service/"
STORES = b"store/"
STORE_WEIGHTS = b"weight/"
REGIONS = b"region/"
RULES = b"rule/"
SCHEDULERS = b"scheduler/"
CONFIG = b"config/"
GLOBAL_CONFIG = b"global/"

_U64 = struct.Struct(">Q")
_WEIGHTS = struct.Struct(">dd")


@dataclass(frozen=True, slots=True)
class Change:
    """A key with its new value; None removes it."""

    key: bytes
    value: bytes | None


def number(value: int) -> bytes:
    return _U64.pack(value)


def pack_weights(leader: float, region: float) -> bytes:
    return _WEIGHTS.pack(leader, region)


def unpack_weights(data: bytes) -> tuple[float, float]:
    leader, region = _WEIGHTS.unpack(data)
    return leader, region


def store_key(store_id: int) -> bytes:
    return STORES + _U64.pack(store_id)


def region_key(region_id: int) -> bytes:
    return REGIONS + _U64.pack(region_id)


class State:
    """The pairs as they are on this member's disk."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._family = engine.handle(CF_META)

    def get(self, key: bytes) -> bytes | None:
        return self._engine.get(CF_META, PREFIX + key)

    def get_number(self, key: bytes) -> int:
        """0 when it was never set."""
        value = self.get(key)
        return 0 if value is None else int(_U64.unpack(value)[0])

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """The pairs whose keys start with the prefix, in order, at the state of now."""
        start = PREFIX + prefix
        end = PREFIX_END if not prefix else start[:-1] + bytes((start[-1] + 1,))
        scanner = self._engine.scanner(CF_META, start, end)
        try:
            while flat := scanner.take(SCAN_PAIRS):
                for key, value in zip(flat[::2], flat[1::2], strict=True):
                    yield key[len(PREFIX) :], value
        finally:
            scanner.release()

    def put(self, batch: Batch, change: Change) -> None:
        """Adds one change to a batch."""
        if change.value is None:
            batch.delete(PREFIX + change.key, self._family)
        else:
            batch.put(PREFIX + change.key, change.value, self._family)

    def clear(self, batch: Batch) -> None:
        """Adds the removal of everything, for a snapshot that replaces it."""
        batch.delete_range(PREFIX, PREFIX_END, self._family)
