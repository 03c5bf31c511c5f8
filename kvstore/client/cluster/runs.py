"""Sorted runs of rows, gathered within a memory budget and merged into one file that can be read from any key.

A file is rows one after the other: the lengths of key and value (4 bytes each, little-endian), the key, the value. The
index (the first key of about every INDEX_BYTES, and where it stands) is in memory only. Files hold what a caller can
give again: they are not synced.
"""

from __future__ import annotations

import asyncio
import heapq
import operator
import os
import struct
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, pairwise

from kvstore.errors import KeyExists

INDEX_BYTES = 64 << 10
READ_BYTES = 256 << 10
FILES_MAX = 64
"""Files that are merged at the same time."""
ROW_OVERHEAD_BYTES = 120
"""About what a row takes in memory beside its bytes."""
TURN_ROWS = 4096
"""After so many merged rows others get their turn."""

Row = tuple[bytes, bytes]
_LENGTHS = struct.Struct("<II")


class RowFile:
    """One file of ascending rows: written to its end first, then read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = open(path, "w+b")  # noqa: SIM115 - closed by `remove`
        self._keys: list[bytes] = []
        self._offsets: list[int] = []
        self.rows = 0
        self.bytes = 0
        self.crc32 = 0
        self.last = b""

    def append(self, rows: Iterable[Row]) -> None:
        """Ascending rows, above those that are there."""
        buffer = bytearray()
        for key, value in rows:
            at = self.bytes + len(buffer)
            if not self._offsets or at - self._offsets[-1] >= INDEX_BYTES:
                self._keys.append(key)
                self._offsets.append(at)
            buffer += _LENGTHS.pack(len(key), len(value))
            buffer += key
            buffer += value
            self.rows += 1
            self.last = key
            if len(buffer) >= READ_BYTES:
                self._write(buffer)
                buffer = bytearray()
        self._write(buffer)

    def _write(self, buffer: bytearray) -> None:
        self._file.write(buffer)
        self.crc32 = zlib.crc32(buffer, self.crc32)
        self.bytes += len(buffer)

    def read(self, start: bytes = b"", end: bytes = b"") -> Iterator[Row]:
        """The rows in [start, end), an empty end being none. Several may read at the same time."""
        self._file.flush()
        at = self._offsets[max(0, bisect_right(self._keys, start) - 1)] if self._keys else 0
        stop = self.bytes
        if end:
            behind = bisect_left(self._keys, end)
            stop = self._offsets[behind] if behind < len(self._offsets) else self.bytes
        descriptor, data, offset = self._file.fileno(), b"", 0
        while True:
            if offset + _LENGTHS.size <= len(data):
                key_bytes, value_bytes = _LENGTHS.unpack_from(data, offset)
                value_at = offset + _LENGTHS.size + key_bytes
                if value_at + value_bytes <= len(data):
                    key = data[offset + _LENGTHS.size : value_at]
                    offset = value_at + value_bytes
                    if end and key >= end:
                        return
                    if key >= start:
                        yield key, data[value_at:offset]
                    continue
            if at >= stop:
                return
            piece = os.pread(descriptor, min(READ_BYTES, stop - at), at)
            data, offset, at = data[offset:] + piece, 0, at + len(piece)

    def first(self, start: bytes, end: bytes) -> bytes | None:
        """The first key in [start, end)."""
        return next((key for key, _ in self.read(start, end)), None)

    def cut_keys(self, part_bytes: int) -> list[bytes]:
        """Keys that part the file into pieces of about `part_bytes`; the last piece may be half as large again."""
        found: list[bytes] = []
        size = 0
        for (_, before), (key, at) in pairwise(zip(self._keys, self._offsets, strict=True)):
            size += at - before
            if size >= part_bytes and self.bytes - at > part_bytes // 2:
                found.append(key)
                size = 0
        return found

    def remove(self) -> None:
        self._file.close()
        if os.path.exists(self.path):
            os.unlink(self.path)


class Runs:
    """Gathers runs under a directory; at most `memory_bytes` of them are in memory."""

    def __init__(self, directory: str, memory_bytes: int) -> None:
        self._directory = directory
        self._memory_bytes = memory_bytes
        self._waiting: list[list[Row]] = []
        self._waiting_bytes = 0
        self._files: list[RowFile] = []
        self._made = 0

    def add(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """One run, its keys ascending. Raises KeyExists for a key that is there twice, ValueError for disorder."""
        if not all(map(operator.lt, keys, islice(keys, 1, None))):
            for at, (before, after) in enumerate(pairwise(keys), 1):
                if before == after:
                    raise KeyExists(after, values[at])
                if before > after:
                    raise ValueError(f"keys of a run must ascend: {after.hex()} after {before.hex()}")
        rows = list(zip(keys, values, strict=True))
        if self._waiting and self._waiting[-1][-1][0] < keys[0]:
            self._waiting[-1] += rows
        else:
            self._waiting.append(rows)
        self._waiting_bytes += sum(map(len, keys)) + sum(map(len, values)) + len(keys) * ROW_OVERHEAD_BYTES
        if self._waiting_bytes > self._memory_bytes:
            self._spill()

    def _spill(self) -> None:
        """Writes what is in memory out, behind the last file if it follows that."""
        if not self._waiting:
            return
        first = min(run[0][0] for run in self._waiting)
        if not self._files or self._files[-1].last >= first:
            self._files.append(self._new_file())
        self._files[-1].append(_sorted(self._waiting))
        self._waiting, self._waiting_bytes = [], 0

    def _new_file(self) -> RowFile:
        self._made += 1
        return RowFile(os.path.join(self._directory, f"rows-{self._made}"))

    async def merge(self) -> RowFile:
        """Everything as one file. Raises KeyExists for a key that is there twice."""
        self._spill()
        if not self._files:
            self._files.append(self._new_file())
        while len(self._files) > 1:
            sources = self._files[:FILES_MAX]
            target = self._new_file()
            self._files.append(target)
            rows = _merged([source.read() for source in sources])
            while some := list(islice(rows, TURN_ROWS)):
                target.append(some)
                await asyncio.sleep(0)
            for source in sources:
                source.remove()
            del self._files[: len(sources)]
        return self._files[0]

    def remove(self) -> None:
        """Deletes the files."""
        for file in self._files:
            file.remove()
        self._files.clear()
        self._waiting.clear()


def _sorted(runs: Sequence[list[Row]]) -> list[Row]:
    """Rows of ascending runs that are in memory, in order. Raises KeyExists for a key that two of them have."""
    if len(runs) == 1:
        return runs[0]
    rows = sorted(chain.from_iterable(runs), key=operator.itemgetter(0))  # which finds the runs, and merges them
    keys = [key for key, _ in rows]
    if any(map(operator.eq, keys, islice(keys, 1, None))):
        raise KeyExists(*next(after for before, after in pairwise(rows) if before[0] == after[0]))
    return rows


def _merged(runs: Sequence[Iterable[Row]]) -> Iterator[Row]:
    """Rows of ascending runs in order. Raises KeyExists for a key that two of them have."""
    if len(runs) == 1:
        yield from runs[0]
        return
    last: bytes | None = None
    for row in heapq.merge(*runs, key=operator.itemgetter(0)):
        if row[0] == last:
            raise KeyExists(*row)
        last = row[0]
        yield row
