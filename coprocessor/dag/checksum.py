"""The checksum of a range, as TiKV's: the exclusive or of the CRC-64 of every pair's key and value, one after another.

CRC-64 is that of XZ (ECMA-182, reflected). All rows of a batch are stepped through together, byte by byte.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from kvstore.client.api import PackedBatch

_POLYNOMIAL = 0xC96C5795D7870F42
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_BYTE = np.uint64(0xFF)
_EIGHT = np.uint64(8)

Sums = npt.NDArray[np.uint64]


@lru_cache(maxsize=1)
def _table() -> Sums:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ _POLYNOMIAL if value & 1 else value >> 1
        table.append(value)
    return np.array(table, np.uint64)


def checksum_of(batch: PackedBatch) -> int:
    """Returns the exclusive or of the checksums of a batch's pairs."""
    if not batch.count:
        return 0
    crc = np.full(batch.count, _ONES, np.uint64)
    _feed(crc, batch.keys, batch.key_starts, batch.key_ends)
    _feed(crc, batch.values, batch.value_starts, batch.value_ends)
    return int(np.bitwise_xor.reduce(crc ^ _ONES))


def _feed(crc: Sums, data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> None:
    """Feeds a span of bytes a row; rows are taken longest first, so that those that go on are always the first ones."""
    table = _table()
    lengths = ends - starts
    order = np.argsort(-lengths, kind="stable")
    sums, at, left = crc[order], starts[order], lengths[order]
    alive = len(sums)
    for step in range(int(left[0])):
        alive = int(np.searchsorted(-left[:alive], -step, side="left"))
        part = sums[:alive]
        byte = data[at[:alive] + step].astype(np.uint64)
        sums[:alive] = table[((part ^ byte) & _BYTE).astype(np.int64)] ^ part >> _EIGHT
    crc[order] = sums
