"""The write-ahead log together with the tables behind it: when a log file begins, and when it may go.

    open     files checked ── tables opened ── logs replayed ── tables flushed ── new file ── noted ── old files go
    write    append to the log, apply to the tables
    full     sync ── new file, tables switch their memory (at one point, no write between) ── noted
                       └─ in the background: memory flushed ── noted ── old files go
    close    sync ── tables flushed ── noted ── files go

Two rules keep what is on disk whole whatever happens:

- Tables are flushed only after the log has everything in them durably, so that no part of a batch can be in a table
  file when the log has lost the rest of it.
- A log file goes only after everything in it is in table files, and the note says that it is needed no more. The note
  says that a file is needed before the first sync of it returns, so that one which vanishes is missed.

Replaying is idempotent: from a point that the tables have passed already, it ends in the same state.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from kvstore.engine.directory import translate_os_error
from kvstore.engine.log import Log, LogLimits
from kvstore.engine.log_files import LOG_DIRECTORY, LogFiles, remove_logs
from kvstore.engine.manifest import Durable, sync_manifest, write_state
from kvstore.errors import StoreError

REPLAY_BYTES_MAX = 1 << 20
"""So many bytes of the log are replayed in one write to the tables."""
POLL_S = 0.005
FULL_FILES_MAX = 2
"""A file grows to so many times its size while the tables flush those before; then writers wait."""


class Tables(Protocol):
    """What the log stands before."""

    def apply(self, batches: list[bytes]) -> None:
        """Applies batches from the log."""

    def flush(self) -> None:
        """Writes everything in memory to table files."""

    def begin_flush(self) -> None:
        """Begins to write what is in memory now to table files; what is written later is not part of it."""

    def flushing(self) -> bool:
        """Whether a flush that was begun is not on disk yet; raises when it failed."""


class Journal:
    """The log of one open database. Who needs several of its locks takes `_rotation`, `log.io`, `mutex` in this order.

    What must not stop half-way runs in a thread of its own, where no signal handler raises.
    """

    def __init__(self, path: str, tables: Tables, files: LogFiles, limits: LogLimits) -> None:
        self._path = path
        self._log_path = os.path.join(path, LOG_DIRECTORY)
        self._tables = tables
        self._file_bytes = limits.file_bytes
        self._pending_bytes = limits.pending_bytes
        self._rotation = threading.Lock()
        """Held while one file takes over from another, until the old one is gone."""
        self._refused: StoreError | None = None
        self._first = files.numbers.start
        """The first file that is needed."""
        self.mutex = threading.Lock()
        """Orders the writes."""
        self.log = Log(self._log_path, self.mutex, files.sequence, limits)
        try:
            self._start(files)
        except BaseException:
            self.log.close()
            raise

    def _start(self, files: LogFiles) -> None:
        """Replays what was found and begins a file."""
        try:
            os.makedirs(self._log_path, exist_ok=True)
            files.sync()
            for number in files.numbers:
                if self._replay(files, number):
                    self._tables.flush()
            self.log.begin(files.highest + 1)
            self._forget(self.log.number)
        except OSError as error:
            raise translate_os_error(error, "replay") from error

    def _replay(self, files: LogFiles, number: int) -> bool:
        """Applies what is in one file; returns whether there was anything."""
        gathered: list[bytes] = []
        size, found = 0, False
        for batches in files.batches(number):
            found = True
            gathered += batches
            size += sum(map(len, batches))
            if size > REPLAY_BYTES_MAX:
                self._tables.apply(gathered)
                gathered, size = [], 0
        if gathered:
            self._tables.apply(gathered)
        return found

    def _note(self) -> None:
        write_state(self._path, Durable(*sync_manifest(self._path), self._first, self.log.number))

    def _forget(self, first: int) -> None:
        """Lets the files before `first` go: the tables have what was in them."""
        self._first = first
        self._note()
        remove_logs(self._log_path, first)

    def note_flushed(self) -> None:
        """Notes that what the tables have is in table files; for a task of `while_empty`."""
        with suppress(OSError):  # what was noted before stays true
            self._note()

    def refuse(self, error: StoreError) -> StoreError:
        """Takes no more writes, after one that failed before it was in the log. Returns the error."""
        self._refused = self._refused or error
        return error

    def fail(self, error: StoreError) -> StoreError:
        """Lets nothing more into the file, either: the tables lack what the log has. Returns the error."""
        self.log.failure = self.log.failure or error
        return error

    @property
    def failed(self) -> bool:
        """Whether whoever writes was told that it failed."""
        return self.log.failure is not None or self._refused is not None

    def _check(self) -> None:
        """Raises what has stopped the log."""
        failure = self.log.failure or self._refused
        if failure is not None:
            raise failure

    def prepare(self) -> None:
        """To be called before a write and without the mutex: sees to a log that is full, or waits in memory."""
        log = self.log
        if self.failed:
            self._check()
        if log.file_bytes >= self._file_bytes:
            self._make_way()
        if log.waiting_bytes > self._pending_bytes:
            log.hand_over()

    def _make_way(self) -> None:
        """Begins to leave a full file, or waits when that is under way and the file has become far too large."""
        if not self._rotation.locked():
            self._begin(lambda: self._rotate(unless=lambda: self.log.file_bytes < self._file_bytes))
        elif self.log.file_bytes >= FULL_FILES_MAX * self._file_bytes:
            with self._rotation:
                pass

    def flush(self) -> None:
        """Brings what was written before the call into table files; writers go on meanwhile."""
        log = self.log
        self._finish(lambda: self._rotate(unless=lambda: log.empty))

    def while_empty(self, task: Callable[[], None]) -> None:
        """Runs `task` while nobody writes and everything is in table files, nothing in the log; raises what it
        raises."""
        self.flush()
        failed: list[StoreError] = []
        self._finish(lambda: self._run_empty(task, failed))
        if failed:
            raise failed[0]

    def _run_empty(self, task: Callable[[], None], failed: list[StoreError]) -> None:
        with self._rotation, self.log.io, self.mutex:
            if not self.log.empty:
                self._switch()
                self._retire()
            try:
                task()
            except StoreError as error:
                failed.append(error)

    def _rotate(self, unless: Callable[[], bool]) -> None:
        """Goes on in a new file and lets the old ones go, when the tables have them."""
        with self._rotation:
            with self.log.io, self.mutex:
                if unless():
                    return
                self._switch()
            self._retire()

    def _switch(self) -> None:
        """Goes on in a new file and begins to flush the tables; nobody writes meanwhile."""
        self.log.write_waiting(sync=True, still=True)
        self.log.begin(self.log.number + 1)
        self._note()
        self._tables.begin_flush()

    def _retire(self) -> None:
        while self._tables.flushing():
            time.sleep(POLL_S)
        self._forget(self.log.number)

    def _begin(self, step: Callable[[], None]) -> _Step:
        running = _Step(step, self.log)
        running.start()
        return running

    def _finish(self, step: Callable[[], None]) -> None:
        running = self._begin(step)
        running.join()
        if running.error is not None:
            raise running.error

    def disown(self, error: StoreError) -> None:
        """In a forked child: refuses everything."""
        self.mutex = threading.Lock()
        self._rotation = threading.Lock()
        self.log.disown(error, self.mutex)

    def close(self) -> None:
        """Brings everything into table files and ends the log; the caller sees to it that nobody writes any more.

        After a failure the files stay as they are, for the next open.
        """
        with self._rotation, self.log.io:
            try:
                self.log.write_waiting(sync=True)
                self._check()
                self._tables.flush()
                # what was noted before stays true: no room for the note only leaves the files to the next open
                with suppress(OSError):
                    self._forget(self.log.number + 1)
            finally:
                self.log.close()


class _Step(threading.Thread):
    """A step that runs to its end. A failure stops the log and is kept for whoever waits."""

    def __init__(self, step: Callable[[], None], log: Log) -> None:
        super().__init__(name="sqlfront-log", daemon=True)
        self._step = step
        self._log = log
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._step()
        except BaseException as error:  # noqa: BLE001 - the edge of the thread; shown to everybody who writes
            self.error = error
            self._log.failure = self._log.failure or _stopped_by(error)


def _stopped_by(error: BaseException) -> StoreError:
    if isinstance(error, StoreError):
        return error
    if isinstance(error, OSError):
        return translate_os_error(error, "flush")
    return StoreError(f"flush: {error}")
