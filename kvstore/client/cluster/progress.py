"""How far a bulk load has come, in a file: what a later run of the same load need not do again.

The first line says which load it is, each further one is a range that was ingested; both are JSON and synced when they
are written. A line that a crash has cut short is passed over.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

from kvstore.errors import LoadDiffers

PROGRESS_FILE = "progress.jsonl"


@dataclass(frozen=True, slots=True)
class LoadIdentity:
    """What makes two runs of a load the same: the range, the timestamp and the rows."""

    start: str
    end: str
    """Both in hexadecimal."""
    commit_ts: int
    rows: int
    crc32: int
    """Of all rows in order, as `runs` writes them."""


class Progress:
    """The ranges of user keys that are ingested. `path` None: remembered in memory."""

    def __init__(self, path: str | None) -> None:
        """Reads what is there. Raises OSError."""
        self._path = path
        self.identity: LoadIdentity | None = None
        self._done: list[tuple[bytes, bytes]] = []
        if path is not None and os.path.exists(path):
            self._read(path)

    def _read(self, path: str) -> None:
        with open(path, encoding="utf-8") as file:
            for line in file:
                if not line.endswith("\n"):
                    break
                entry = json.loads(line)
                if "done" in entry:
                    low, high = (bytes.fromhex(bound) for bound in entry["done"])
                    self._note(low, high)
                else:
                    self.identity = LoadIdentity(**entry)

    def begin(self, identity: LoadIdentity) -> None:
        """Raises LoadDiffers when the file is another load's."""
        if self.identity is None:
            self.identity = identity
            if self._path is not None and os.path.exists(self._path):
                os.unlink(self._path)  # nothing but a line that was cut short
            self._write(asdict(identity))
            self._sync_name()
        elif self.identity != identity:
            raise LoadDiffers(f"{self._path} is of another load: {self.identity}, this one is {identity}")

    def _sync_name(self) -> None:
        """A load that began is never taken for one that did not: that would have another commit_ts."""
        if self._path is not None:
            descriptor = os.open(os.path.dirname(os.path.abspath(self._path)), os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def done(self, low: bytes, high: bytes) -> None:
        """[low, high) is ingested; an empty high is the end of all."""
        self._note(low, high)
        self._write({"done": [low.hex(), high.hex()]})

    def _note(self, low: bytes, high: bytes) -> None:
        merged: list[tuple[bytes, bytes]] = []
        for begin, end in sorted([*self._done, (low, high)]):
            if merged and (not merged[-1][1] or begin <= merged[-1][1]):
                before = merged[-1]
                merged[-1] = (before[0], b"" if not before[1] or not end else max(before[1], end))
            else:
                merged.append((begin, end))
        self._done = merged

    def past(self, key: bytes) -> bytes | None:
        """Where the ingested range that holds `key` ends (empty: nowhere); None when `key` is in none."""
        for low, high in self._done:
            if low <= key and (not high or key < high):
                return high
        return None

    def next_done(self, key: bytes, end: bytes) -> bytes:
        """Where the next ingested range above `key` begins, at most `end`."""
        for low, _ in self._done:
            if key < low and (not end or low < end):
                return low
        return end

    def _write(self, entry: object) -> None:
        if self._path is None:
            return
        with open(self._path, "a+b") as file:
            at = file.seek(0, os.SEEK_END)
            if at:
                file.seek(at - 1)
                if file.read(1) != b"\n":
                    # a crash has cut the last line short; it would join with the next
                    file.truncate(_whole_lines(file.name, at))
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _whole_lines(path: str, size: int) -> int:
    with open(path, "rb") as file:
        return file.read(size).rfind(b"\n") + 1
