"""The write-ahead log: batches go to the end of a file that was allocated beforehand, many of them in one sync.

RocksDB extends its log with each write, so each sync is a commit of the file system's journal besides; here the size
of the file is there already, and a sync is one write of data. The files are described in `log_format`, what is made
of them after a crash in `log_files`; this module writes them and knows nothing of what is in a batch.

    append      the batch joins those that wait in memory (under the mutex that orders writes)
    hand_over   what waits becomes one block, one pwrite: it survives the process
    sync        the same, written through (or fdatasync, if something was handed over before): it survives the machine

There is room in the file for whatever was appended, so a full disk shows before anything is applied. One block is
written at a time, and what waits stays until its block is written: a signal handler that raises in the middle leaves
the log as it was, and the next call writes the same place again.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from kvstore.engine.directory import sync_directory, translate_os_error
from kvstore.engine.log_files import log_name
from kvstore.engine.log_format import (
    BATCH_BYTES_MAX,
    BATCH_OVERHEAD_BYTES,
    BLOCK_OVERHEAD_BYTES,
    FILE_HEADER_BYTES,
    FileHeader,
    frame,
)
from kvstore.errors import StoreClosed, StoreError
from kvstore.failpoint import fail_point

MIB = 1 << 20
_NO_GUARD = nullcontext()


@dataclass(frozen=True, slots=True)
class LogLimits:
    """Sizes in bytes; tests make them small."""

    file_bytes: int = 64 * MIB
    """A file that has so much is full."""
    first_step: int = MIB
    step_max: int = 16 * MIB
    """A file is allocated in steps: the first, then as much as it has already, up to this."""
    step_min: int = 64 << 10
    """The step when there is no room for a larger one."""
    pending_bytes: int = MIB
    """When so much waits in memory, the next write hands it over."""


@dataclass(slots=True)  # not frozen: made with each block, at half the price
class _State:
    """Replaced as a whole and never changed but for `waiting`, so that an interrupted change is none."""

    fd: int
    salt: int
    first: int
    end: int
    """Where the next block begins."""
    handed: int
    """The sequence of the last batch in the file."""
    waiting: list[bytes]
    """The batches behind it."""


class Log:
    """The open end of the log. `mutex` orders writes and guards the state; `io` is held while a block is written.

    Who needs both takes `io` first.
    """

    def __init__(self, path: str, mutex: threading.Lock, sequence: int, limits: LogLimits) -> None:
        self._path = path
        self.mutex = mutex
        self.io = threading.Lock()
        self._limits = limits
        self._state = _State(-1, 0, sequence + 1, 0, sequence, [])
        self._allocated = 0
        self._durable_size = 0
        """So much of the allocation is on disk for certain."""
        self._room = 0
        """Allocated bytes that are not taken yet, neither in the file nor by what waits."""
        self.durable = sequence
        """The sequence of the last batch that is on disk for certain."""
        self.number = 0
        self.failure: StoreError | None = None

    @property
    def sequence(self) -> int:
        """The sequence of the last batch."""
        state = self._state
        return state.handed + len(state.waiting)

    @property
    def empty(self) -> bool:
        """Whether the present file has no batch yet."""
        return self._state.first > self.sequence

    @property
    def file_bytes(self) -> int:
        """What the present file has."""
        return self._state.end

    @property
    def waiting_bytes(self) -> int:
        """About as much as waits in memory."""
        return self._allocated - self._state.end - self._room

    def append(self, batch: bytes) -> None:
        """Takes the next batch; the caller holds the mutex. Raises DiskFull when the file has no room for it."""
        size = len(batch) + BATCH_OVERHEAD_BYTES
        if self._room < size:
            self._extend(size)
        self._room -= size  # before the batch is there: interrupted in between, too little is better than too much
        self._state.waiting.append(batch)

    def _extend(self, size: int) -> None:
        """Allocates more of the file, so that there are `size` bytes of room."""
        if size > BATCH_BYTES_MAX:
            raise StoreError(f"a batch of {size} bytes is too large for the log")
        limits = self._limits
        least = -(-(size - self._room) // limits.step_min) * limits.step_min
        step = min(max(self._allocated, limits.first_step), limits.step_max)
        try:
            self._allocate(max(step, least))
        except OSError:
            try:
                self._allocate(least)
            except OSError as error:
                raise translate_os_error(error, "write") from error

    def _allocate(self, size: int) -> None:
        os.posix_fallocate(self._open_fd(), self._allocated, size)
        self._allocated += size
        self._room += size

    def _open_fd(self) -> int:
        fd = self._state.fd
        if fd < 0:
            raise StoreClosed("the store is closed")
        return fd

    def hand_over(self) -> None:
        """Gives what waits to the operating system: a kill loses nothing of it."""
        if self._state.waiting:
            with self.io:
                self.write_waiting(sync=False)

    def sync(self) -> None:
        """Makes durable what was appended before the call."""
        target = self.sequence
        if self.durable < target:
            with self.io:
                if self.durable < target:
                    self.write_waiting(sync=True)

    def write_waiting(self, *, sync: bool, still: bool = False) -> None:
        """Writes what waits as one block; the caller holds `io`, and the mutex too when he keeps `still`."""
        if self.failure is not None:
            raise self.failure
        try:
            if sync and fail_point("engine::before_sync") is not None:
                raise OSError(errno.EIO, "failpoint engine::before_sync")
            size = self._allocated
            if self._state.waiting:
                # what was handed over before is not covered by a synced write of the block alone
                alone = sync and self._state.handed == self.durable
                self._write_block(_NO_GUARD if still else self.mutex, synced=alone)
                if alone:
                    self._durable_size = size
                    self.durable = self._state.handed
                    return
            handed = self._state.handed
            if sync and handed > self.durable:
                size = self._allocated
                os.fdatasync(self._open_fd())
                self._durable_size = size
                self.durable = handed
        except OSError as error:
            # what is in the file now is not known: nothing may come behind it
            self.failure = translate_os_error(error, "sync" if sync else "write")
            raise self.failure from error

    def _write_block(self, guard: AbstractContextManager[object], *, synced: bool) -> None:
        state = self._state
        batches = state.waiting[:]
        block = frame(batches, state.handed + 1, self.durable, self._durable_size, state.salt)
        _pwrite_all(self._open_fd(), block, state.end, os.RWF_DSYNC if synced else 0)
        end, count = state.end + len(block), len(batches)
        with guard:
            rest = state.waiting[count:]
            self._room = self._allocated - end - BLOCK_OVERHEAD_BYTES
            if rest:
                self._room -= sum(map(len, rest)) + len(rest) * BATCH_OVERHEAD_BYTES
            self._state = _State(state.fd, state.salt, state.first, end, state.handed + count, rest)

    def begin(self, number: int) -> None:
        """Goes on in a new file, which is whole on disk at return; everything before is durable, nothing waits.

        The caller holds `io` and the mutex. After a failure the log takes nothing more.
        """
        sequence = self.sequence
        assert self.durable == sequence, (self.durable, sequence)
        header = FileHeader(number, sequence + 1, int.from_bytes(os.urandom(4), "little"), self._limits.first_step)
        path = os.path.join(self._path, log_name(number))
        fd = -1
        try:
            fd = os.open(f"{path}.tmp", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            os.posix_fallocate(fd, 0, self._limits.first_step)
            _pwrite_all(fd, header.encode(), 0)
            os.fsync(fd)
            os.rename(f"{path}.tmp", path)
            sync_directory(self._path)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            # whether the new file is there is not known: nothing may come behind its first sequence in the old one
            self.failure = translate_os_error(error, "write")
            raise self.failure from error
        old = self._state.fd
        self._allocated = self._durable_size = self._limits.first_step
        self._room = self._allocated - FILE_HEADER_BYTES - BLOCK_OVERHEAD_BYTES
        self._state = _State(fd, header.salt, header.first, FILE_HEADER_BYTES, sequence, [])
        self.number = number
        if old >= 0:
            os.close(old)

    def close(self) -> None:
        """Lets go of the file as it is."""
        state = self._state
        if state.fd >= 0:
            self._state = _State(-1, 0, state.first, state.end, state.handed, state.waiting)
            os.close(state.fd)

    def disown(self, error: StoreError, mutex: threading.Lock) -> None:
        """In a forked child: refuses everything; the parent's locks may be held for ever here."""
        self.failure = error
        self.mutex = mutex
        self.io = threading.Lock()


def _pwrite_all(fd: int, data: bytes, offset: int, flags: int = 0) -> None:
    """Writes at an offset; RWF_DSYNC among the flags makes it durable in the same call, so that other threads have the
    interpreter for all of it."""
    written = os.pwritev(fd, (data,), offset, flags)
    while written < len(data):
        written += os.pwritev(fd, (memoryview(data)[written:],), offset + written, flags)
