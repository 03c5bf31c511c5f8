"""Sorted files that wait under a name until they are taken over: in a directory, or in memory.

    writer ─► put_all … finish ─┐
    receive ─► write … finish  ─┴► keep (durable under its name) ─► take_over (a copy; the file stays) ─► remove

A file stays after it was taken over: whoever replays a log after a crash takes it over again, which ends in the same
state, and removes it when the log's position behind it is durable. What was not kept is gone after a restart.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence

from kvstore.engine.api import Engine, SortedFileWriter
from kvstore.engine.directory import sync_directory, translate_os_error
from kvstore.engine.memory import MemoryFileWriter
from kvstore.errors import Corruption, StoreError

SUFFIX = ".sst"
UNFINISHED = ".tmp"
COPY = ".copy"

Bounds = tuple[bytes, bytes]
"""The first and the last key of a file."""


class DirectoryFiles:
    """Files `<directory>/<name>.sst` over an engine on disk (see `api.StagedFiles`)."""

    def __init__(self, engine: Engine, directory: str, bounds: Callable[[str, str], Bounds]) -> None:
        """`bounds(cf, path)` reads a table file. Removes what an earlier process left unfinished. Raises StoreError."""
        self._engine = engine
        self._directory = directory
        self._bounds = bounds
        try:
            os.makedirs(directory, exist_ok=True)
            for name in os.listdir(directory):
                path = os.path.join(directory, name)
                if name.endswith((UNFINISHED, COPY)):
                    os.unlink(path)
                elif os.path.isdir(path):  # a look into a file was cut short
                    shutil.rmtree(path)
        except OSError as error:
            raise translate_os_error(error, f"open {directory}") from error

    def _path(self, name: str, suffix: str = SUFFIX) -> str:
        return os.path.join(self._directory, name + suffix)

    def writer(self, cf: str, name: str) -> SortedFileWriter:
        return self._engine.sorted_file(cf, self._path(name, UNFINISHED))

    def receive(self, name: str) -> _Receiver:
        return _Receiver(self._path(name, UNFINISHED))

    def bounds(self, cf: str, name: str) -> Bounds:
        return self._bounds(cf, self._path(name, UNFINISHED))

    def keep(self, names: Sequence[str]) -> None:
        try:
            for name in names:
                with open(self._path(name, UNFINISHED), "rb") as file:
                    os.fsync(file.fileno())
                os.replace(self._path(name, UNFINISHED), self._path(name))
            sync_directory(self._directory)
        except OSError as error:
            raise translate_os_error(error, "keep a sorted file") from error

    def sizes(self) -> dict[str, int]:
        found = {}
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX):
                    found[entry.name.removesuffix(SUFFIX)] = entry.stat().st_size
        return found

    def take_over(self, cf: str, names: Sequence[str]) -> None:
        copies: list[_Copy] = []
        try:
            for name in names:
                copy = self._path(name, COPY)
                if os.path.exists(copy):
                    os.unlink(copy)
                os.link(self._path(name), copy)
                copies.append(_Copy(copy))
        except FileNotFoundError as error:
            raise Corruption(f"the sorted file {error.filename} is missing") from error
        except OSError as error:
            raise translate_os_error(error, "take a sorted file over") from error
        self._engine.ingest(cf, copies)

    def remove(self, name: str) -> None:
        for suffix in (SUFFIX, UNFINISHED):
            if os.path.exists(self._path(name, suffix)):
                os.unlink(self._path(name, suffix))


class _Copy:
    """A second name of a file, which the engine may move away."""

    def __init__(self, path: str) -> None:
        self.path = path

    def put_all(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        raise StoreError(f"{self.path} is finished")

    def finish(self) -> None:
        """It was finished before it was kept."""


class _Receiver:
    """See `api.FileReceiver`."""

    def __init__(self, path: str) -> None:
        try:
            self._file = open(path, "wb")  # noqa: SIM115 - closed by `finish`
        except OSError as error:
            raise translate_os_error(error, "receive a sorted file") from error

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise translate_os_error(error, "receive a sorted file") from error

    def finish(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise translate_os_error(error, "receive a sorted file") from error


class MemoryFiles:
    """Files in memory (see `api.StagedFiles`); what was kept is in `kept`, for whoever simulates a disk."""

    def __init__(self, engine: Engine, kept: dict[str, MemoryFileWriter] | None = None) -> None:
        self._engine = engine
        self._open: dict[str, MemoryFileWriter] = {}
        self.kept: dict[str, MemoryFileWriter] = {} if kept is None else kept

    def writer(self, cf: str, name: str) -> SortedFileWriter:
        file = self._open[name] = MemoryFileWriter(name)
        return file

    def receive(self, name: str) -> _Receiver:
        raise StoreError("an engine in memory takes no table files")

    def bounds(self, cf: str, name: str) -> Bounds:
        keys = self._open[name].keys
        return keys[0], keys[-1]

    def keep(self, names: Sequence[str]) -> None:
        for name in names:
            self.kept[name] = self._open.pop(name)

    def sizes(self) -> dict[str, int]:
        return {name: sum(map(len, file.keys)) + sum(map(len, file.values)) for name, file in self.kept.items()}

    def take_over(self, cf: str, names: Sequence[str]) -> None:
        missing = [name for name in names if name not in self.kept]
        if missing:
            raise Corruption(f"the sorted file {missing[0]} is missing")
        self._engine.ingest(cf, [self.kept[name] for name in names])

    def remove(self, name: str) -> None:
        self._open.pop(name, None)
        self.kept.pop(name, None)
