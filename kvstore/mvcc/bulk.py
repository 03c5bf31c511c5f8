"""Records of committed rows in bulk: what a bulk load writes in place of transactions, laid out as theirs are.

A row becomes a put record at commit_ts with its value inside, or, where that is long, with the value in the default
family at start_ts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvstore.codec import encode_uvarint
from kvstore.mvcc.keys import TS_BYTES, data_key, ts_suffix
from kvstore.mvcc.record import SHORT_VALUE_MAX

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class BulkRecords:
    """Pairs for the families write (`keys`, `records`) and default (`long_keys`, `long_values`), each ascending."""

    keys: list[bytes]
    records: list[bytes]
    long_keys: list[bytes]
    long_values: list[bytes]
    data_keys: list[bytes] | npt.NDArray[np.uint8]
    """The keys without the timestamp: a list, or rows of one length."""


class BulkEncoder:
    """Encodes rows of one transaction."""

    def __init__(self, start_ts: int, commit_ts: int) -> None:
        self._suffix = ts_suffix(commit_ts)
        self._start_suffix = ts_suffix(start_ts)
        start = encode_uvarint(start_ts)
        self._long_record = b"P" + start
        self._heads = [b"P" + start + b"v" + bytes((size,)) for size in range(SHORT_VALUE_MAX + 1)]
        self.delete_record = b"D" + start
        """What a deleted key has."""

    def encode(self, keys: Sequence[bytes], values: Sequence[bytes]) -> BulkRecords:
        """Ascending user keys, at least one, with their values."""
        encoded, data_keys = encode_keys(keys, self._suffix)
        heads = self._heads
        if max(map(len, values)) <= SHORT_VALUE_MAX:
            return BulkRecords(encoded, [heads[len(v)] + v for v in values], [], [], data_keys)
        records = [heads[len(v)] + v if len(v) <= SHORT_VALUE_MAX else self._long_record for v in values]
        long_rows = [i for i, value in enumerate(values) if len(value) > SHORT_VALUE_MAX]
        long_keys = [encoded[i][:-TS_BYTES] + self._start_suffix for i in long_rows]
        return BulkRecords(encoded, records, long_keys, [values[i] for i in long_rows], data_keys)


def encode_keys(keys: Sequence[bytes], suffix: bytes) -> tuple[list[bytes], list[bytes] | npt.NDArray[np.uint8]]:
    """Record keys with `suffix`, and the data keys; keys of one length are encoded as an array, and are its rows."""
    import numpy as np

    count, size = len(keys), len(keys[0])
    joined = b"".join(keys)
    if len(joined) != size * count or any(len(key) != size for key in keys):
        data = [data_key(key) for key in keys]
        return [key + suffix for key in data], data
    groups = size // 8 + 1
    width = 1 + groups * 9 + TS_BYTES
    source = np.frombuffer(joined, dtype=np.uint8).reshape(count, size)
    table = np.zeros((count, width), dtype=np.uint8)
    table[:, 0] = 0x7A
    for group in range(groups):
        piece = source[:, group * 8 : group * 8 + 8]
        at = 1 + group * 9
        table[:, at : at + piece.shape[1]] = piece
        table[:, at + 8] = 0xFF - (8 - piece.shape[1])
    table[:, width - TS_BYTES :] = np.frombuffer(suffix, dtype=np.uint8)
    flat = table.tobytes()
    record_keys = [flat[at : at + width] for at in range(0, count * width, width)]
    return record_keys, np.ascontiguousarray(table[:, : width - TS_BYTES])
