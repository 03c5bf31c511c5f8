"""Finding a key that is there twice among the runs of a bulk load and the live keys of its range.

Runs keep their data keys (`z` EncodeBytes(key), no timestamp) as rows of one width, padded with zeros, which changes
neither order nor equality: no encoding is a prefix of another. On disk they are spooled and mapped, so memory stays
flat. Only runs whose spans overlap are compared, a slice of the key space at a time, by sorting.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

COMPARED_KEYS_MAX = 2_000_000
"""About how many keys are sorted at a time."""

Rows = npt.NDArray[np.bytes_]


@dataclass(frozen=True)
class KeyRun:
    """Ascending data keys of one run."""

    first: bytes
    last: bytes
    count: int
    width: int
    path: str | None
    table: npt.NDArray[np.uint8] | None

    @classmethod
    def of_table(cls, table: npt.NDArray[np.uint8]) -> KeyRun:
        """From contiguous rows of one width."""
        return cls(table[0].tobytes(), table[-1].tobytes(), len(table), table.shape[1], None, table)

    @classmethod
    def of_keys(cls, keys: Sequence[bytes] | npt.NDArray[np.uint8]) -> KeyRun:
        """From keys as `kvstore.mvcc.bulk` encodes them."""
        return cls.of_table(keys) if isinstance(keys, np.ndarray) else cls.of(keys)

    @classmethod
    def of(cls, keys: Sequence[bytes]) -> KeyRun:
        width = max(map(len, keys))
        flat = b"".join(key.ljust(width, b"\0") for key in keys)
        table = np.frombuffer(flat, dtype=np.uint8).reshape(len(keys), width)
        return cls(keys[0], keys[-1], len(keys), width, None, table)

    def spooled(self, path: str | None) -> KeyRun:
        """The run with its rows in the file at `path` (None keeps them in memory)."""
        if path is None or self.table is None:
            return self
        self.table.tofile(path)
        return replace(self, path=path, table=None)

    def rows(self) -> Rows:
        """The keys as an array of byte strings."""
        if self.table is not None:
            flat = self.table.reshape(-1)
        else:
            assert self.path is not None
            flat = np.memmap(self.path, dtype=np.uint8, mode="r")
        return flat.view(f"S{self.width}")

    def key(self, row: bytes) -> bytes:
        """The data key of a row, whose trailing zeros numpy has taken off."""
        groups = -(-(len(row) - 1) // 9)
        return row.ljust(1 + 9 * groups, b"\0")

    def remove(self) -> None:
        if self.path is not None and os.path.exists(self.path):
            os.unlink(self.path)


def overlapping(runs: Sequence[KeyRun]) -> Iterator[list[KeyRun]]:
    """Groups runs whose spans meet; the groups' spans are disjoint and ascend."""
    group: list[KeyRun] = []
    last = b""
    for run in sorted(runs, key=lambda run: run.first):
        if group and run.first > last:
            yield group
            group = []
        group.append(run)
        last = max(last, run.last) if len(group) > 1 else run.last
    if group:
        yield group


def find_duplicate(group: Sequence[KeyRun]) -> bytes | None:
    """The first data key that two of the runs hold; None when there is none."""
    if len(group) < 2:
        return None
    width = max(run.width for run in group)
    arrays = [run.rows() for run in group]
    for low, high in _slices(arrays, width):
        pieces = []
        for rows in arrays:
            begin = 0 if low is None else int(np.searchsorted(rows, low))
            end = len(rows) if high is None else int(np.searchsorted(rows, high))
            if begin < end:
                pieces.append(rows[begin:end].astype(f"S{width}"))
        merged = np.concatenate(pieces) if pieces else np.empty(0, dtype=f"S{width}")
        merged.sort(kind="stable")
        same = np.flatnonzero(merged[1:] == merged[:-1])
        if len(same):
            return group[0].key(bytes(merged[same[0]]))
    return None


def _slices(arrays: Sequence[Rows], width: int) -> Iterator[tuple[bytes | None, bytes | None]]:
    """Cuts the key space so that a slice holds about COMPARED_KEYS_MAX keys."""
    total = sum(map(len, arrays))
    count = -(-total // COMPARED_KEYS_MAX)
    if count <= 1:
        yield None, None
        return
    stride = max(1, total // (count * 256))
    sample = np.concatenate([rows[::stride].astype(f"S{width}") for rows in arrays])
    sample.sort()
    cuts = [bytes(sample[len(sample) * i // count]) for i in range(1, count)]
    bounds: list[bytes | None] = [None, *sorted(set(cuts)), None]
    yield from pairwise(bounds)


def find_live(group: Sequence[KeyRun], is_live: Callable[[bytes], bool]) -> bytes | None:
    """The first data key of the runs for which `is_live`, by asking for each."""
    for run in group:
        for row in run.rows():
            key = run.key(bytes(row))
            if is_live(key):
                return key
    return None
