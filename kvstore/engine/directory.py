"""Ownership of a database directory: who holds it, whether it is ours, and which format it has.

    <dir>/sqlfront.json        identity and format version, written once and atomically
    <dir>/sqlfront.state.json  what is durable for certain (see `manifest`), replaced atomically
    <dir>/sqlfront.lock        held with flock by the owning process, contains its pid (a stale pid is harmless)
    <dir>/kv/                  RocksDB's files
    <dir>/log/                 the write-ahead log
    <dir>/ingest/              files of bulk loads in progress; leftovers of a crash are removed at open
    <dir>/import/              a store's files that wait for the log to take them over (see `staged`)

Nothing is written to a directory that is not empty and has no identity of ours.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import uuid

from kvstore.errors import Corruption, DirectoryInUse, DiskFull, FormatTooNew, NotOurDirectory, StoreError

FORMAT_VERSION = 4
"""1: writes are in RocksDB's own logs. 2: they are in ours (see `log`). 3: with family `changes`. 4: with `raft`."""
PRODUCT = "sqlfront"
IDENTITY_FILE = "sqlfront.json"
LOCK_FILE = "sqlfront.lock"
KV_DIRECTORY = "kv"
INGEST_DIRECTORY = "ingest"
IMPORT_DIRECTORY = "import"


def translate_os_error(error: OSError, what: str) -> StoreError:
    """Turns an operating system error into the store's error for it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"{what}: no space left on device")
    return StoreError(f"{what}: {error}")


def write_identity(path: str, identity: dict[str, object]) -> None:
    """Writes the identity file so that a crash leaves either none or a whole one."""
    replace_file(os.path.join(path, IDENTITY_FILE), json.dumps(identity))
    sync_directory(path)


def replace_file(target: str, text: str) -> None:
    """Writes a file so that a crash leaves the old one or the new one, whole."""
    temporary = f"{target}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, target)


def sync_directory(path: str) -> None:
    """Makes the directory's entries durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Directory:
    """An opened and locked database directory; `release` gives it up."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._lock_fd = -1
        try:
            fresh = self._inspect()
            os.makedirs(self.path, exist_ok=True)
            self._lock()
            try:
                if fresh and self._inspect():
                    self.identity: dict[str, object] = {
                        "product": PRODUCT,
                        "format": FORMAT_VERSION,
                        "id": uuid.uuid4().hex,
                    }
                    write_identity(self.path, self.identity)
                else:
                    self.identity = self._read_identity()
                self._clear_ingest()
            except BaseException:
                self.release()
                raise
        except OSError as error:
            raise translate_os_error(error, f"cannot open database {path!r}") from error

    @property
    def kv_path(self) -> str:
        return os.path.join(self.path, KV_DIRECTORY)

    @property
    def ingest_path(self) -> str:
        return os.path.join(self.path, INGEST_DIRECTORY)

    @property
    def import_path(self) -> str:
        return os.path.join(self.path, IMPORT_DIRECTORY)

    @property
    def format(self) -> int:
        return int(str(self.identity["format"]))

    def upgrade(self) -> None:
        """Marks the directory as of this format, durably: older versions refuse it from now on."""
        if self.format < FORMAT_VERSION:
            self.identity = self.identity | {"format": FORMAT_VERSION}
            write_identity(self.path, self.identity)

    def _inspect(self) -> bool:
        """Returns whether the directory is new or empty; raises when it holds something that is not ours."""
        try:
            names = set(os.listdir(self.path))
        except FileNotFoundError:
            return True
        except NotADirectoryError:
            raise NotOurDirectory(f"{self.path!r} is a file, not a sqlfront database directory") from None
        if IDENTITY_FILE in names:
            self._read_identity()
            return False
        if names - {LOCK_FILE, f"{IDENTITY_FILE}.tmp"}:
            raise NotOurDirectory(f"{self.path!r} is not empty and not a sqlfront database; nothing was changed")
        return True

    def _read_identity(self) -> dict[str, object]:
        try:
            with open(os.path.join(self.path, IDENTITY_FILE), encoding="utf-8") as file:
                identity = json.load(file)
        except ValueError as error:
            raise Corruption(f"the identity file of {self.path!r} is damaged: {error}") from error
        if not isinstance(identity, dict) or not isinstance(identity.get("format"), int):
            raise Corruption(f"the identity file of {self.path!r} is damaged")
        if identity.get("product") != PRODUCT:
            raise NotOurDirectory(f"{self.path!r} belongs to {identity.get('product')!r}; nothing was changed")
        if identity["format"] > FORMAT_VERSION:
            raise FormatTooNew(
                f"{self.path!r} has format {identity['format']}, this version reads up to {FORMAT_VERSION}; "
                "open it with a newer sqlfront"
            )
        return identity

    def _lock(self) -> None:
        fd = os.open(os.path.join(self.path, LOCK_FILE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(fd, 32, 0).strip()
            os.close(fd)
            raise DirectoryInUse(self.path, int(owner) if owner.isdigit() else None) from None
        except BaseException:
            os.close(fd)
            raise
        self._lock_fd = fd
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)

    def _clear_ingest(self) -> None:
        os.makedirs(self.ingest_path, exist_ok=True)
        for name in os.listdir(self.ingest_path):
            os.unlink(os.path.join(self.ingest_path, name))

    def release(self) -> None:
        """Gives the directory up; harmless when it already was."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
