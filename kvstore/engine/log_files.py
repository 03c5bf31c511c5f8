"""The files of the write-ahead log as a process finds them: which must be there, and what is in them.

They are looked at before anything is changed. The blocks at the front of a file count up to the first that is not
whole. Such a block was torn by a crash and never acknowledged, and what lies behind it was not either, unless

- a later file begins with a later sequence than the one it had come to, or
- a whole block behind it in the same file knows that it was durable.

A file that is shorter than it was once for certain lost its end. In these cases something acknowledged is damaged, and
the database is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress

from kvstore.engine.log_format import batches_of, durable_behind, read_blocks, read_header
from kvstore.errors import Corruption

LOG_DIRECTORY = "log"
_NAME = re.compile(r"(\d{8,})\.log(\.tmp)?")


def log_name(number: int) -> str:
    """The name of a log file."""
    return f"{number:08}.log"


def log_numbers(path: str) -> list[int]:
    """The numbers of the log files in a directory, ascending."""
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)) and not match[2])


def remove_logs(path: str, before: int) -> None:
    """Removes the log files with smaller numbers, and those that were never finished."""
    for name in os.listdir(path):
        match = _NAME.fullmatch(name)
        if match and (match[2] or int(match[1]) < before):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(path, name))


class LogFiles:
    """The checked log files of a database that is not open."""

    def __init__(self, path: str, noted: range | None) -> None:
        """Checks the files; raises Corruption when something acknowledged is missing.

        `noted` has the numbers of the files that must be there; earlier ones are leftovers, later ones may be.
        Without it all that are there count.
        """
        self._path = path
        there = log_numbers(path)
        highest = there[-1] if there else 0
        if noted is None:
            noted = range(there[0] if there else 1, highest + 1)
        self.highest = max(highest, noted.stop - 1)
        """The highest number that was ever taken, as far as is known."""
        self.numbers = range(noted.start, self.highest + 1)
        self.sequence = 0
        """The sequence of the last batch."""
        self.bytes = 0
        for number in self.numbers:
            if number not in there:
                raise Corruption(f"the log {log_name(number)} is missing; nothing was changed")
        following: int | None = None
        for number in self.numbers:
            following = self._check(number, following, last=number == self.numbers[-1])
            self.sequence = following - 1

    def _read(self, number: int) -> bytes:
        with open(os.path.join(self._path, log_name(number)), "rb") as file:
            return file.read()

    def _check(self, number: int, expected: int | None, *, last: bool) -> int:
        """Checks one file that has to begin with the sequence `expected`; returns the one that follows it."""
        name = log_name(number)
        data = self._read(number)
        header = read_header(data, name)
        if header.number != number:
            raise Corruption(f"the log {name} is number {header.number}; nothing was changed")
        if expected is not None and header.first != expected:
            raise Corruption(
                f"the log {name} begins with write {header.first}, the one before ends with {expected - 1}: one of the "
                "two is damaged; nothing was changed"
            )
        following, end, size = header.first, 0, header.size
        for block in read_blocks(data, header, name):
            following, end, size = block.first + block.batches, block.end, max(size, block.size)
        if len(data) < size:
            raise Corruption(f"the log {name} is damaged: {len(data)} bytes, not {size}; nothing was changed")
        self.bytes += end
        if last and durable_behind(data, end, header.salt) >= following:
            raise Corruption(f"the log {name} is damaged at byte {end}, before its end; nothing was changed")
        return following

    def batches(self, number: int) -> Iterator[list[bytes]]:
        """The batches of one file, some at a time."""
        data = self._read(number)
        name = log_name(number)
        for block in read_blocks(data, read_header(data, name), name):
            yield batches_of(data, block)

    def sync(self) -> None:
        """Makes durable what was found: a killed process may have left it in the page cache only."""
        for number in self.numbers:
            fd = os.open(os.path.join(self._path, log_name(number)), os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
