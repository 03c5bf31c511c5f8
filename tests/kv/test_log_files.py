"""The files of the write-ahead log: whatever a crash leaves or damage does, every acknowledged batch is there, or the
log is refused. Judged by the list of batches that were appended."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.engine.log import Log, LogLimits
from kvstore.engine.log_files import LogFiles, log_name, log_numbers
from kvstore.engine.log_format import FILE_HEADER_BYTES, frame, read_block
from kvstore.errors import Corruption

TINY = LogLimits(file_bytes=600, first_step=256, step_max=512, step_min=64, pending_bytes=200)
BATCHES = st.lists(st.binary(max_size=80), min_size=1, max_size=4)


@dataclass
class Written:
    """A log, all that went into it, and what was promised of it."""

    path: Path
    log: Log
    batches: list[bytes] = field(default_factory=list)
    synced: int = 0
    """So many batches are durable."""
    synced_end: int = 0
    """Where the last file ended at its last sync."""

    def group(self, batches: list[bytes], end: str) -> None:
        """Appends batches, and then hands over, syncs, goes on in a new file, or does nothing."""
        log = self.log
        with log.mutex:
            for batch in batches:
                log.append(batch)
        self.batches += batches
        if end == "hand over":
            log.hand_over()
        elif end in ("sync", "rotate"):
            log.sync()
            if end == "rotate" or log.file_bytes >= TINY.file_bytes:
                with log.io, log.mutex:
                    log.begin(log.number + 1)
            self.synced, self.synced_end = len(self.batches), log.file_bytes

    @property
    def last(self) -> Path:
        return self.path / log_name(self.log.number)


def begun(path: Path) -> Written:
    log = Log(str(path), threading.Lock(), 0, TINY)
    with log.io, log.mutex:
        log.begin(1)
    return Written(path, log, synced_end=FILE_HEADER_BYTES)


def write(path: Path, groups: list[tuple[list[bytes], str]]) -> Written:
    """A log of these groups, left as by a process that ended without a word."""
    written = begun(path)
    for batches, end in groups:
        written.group(batches, end)
    written.log.close()
    return written


def found(path: Path) -> list[bytes]:
    """The batches that a database opened on these files would replay."""
    files = LogFiles(str(path), range(1, log_numbers(str(path))[-1] + 1))
    batches = [batch for number in files.numbers for some in files.batches(number) for batch in some]
    assert files.sequence == len(batches)
    return batches


GROUPS = st.lists(st.tuples(BATCHES, st.sampled_from(["nothing", "hand over", "sync", "rotate"])), max_size=12)


@given(GROUPS)
@settings(deadline=None)
def test_what_was_written_is_read(groups: list[tuple[list[bytes], str]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        written = write(Path(directory), groups)
        there = found(written.path)
        waiting = 0
        for batches, end in groups:
            waiting = waiting + len(batches) if end == "nothing" else 0
        assert there == written.batches[: len(written.batches) - waiting]


@given(GROUPS, st.data())
@settings(deadline=None)
def test_a_power_cut_loses_nothing_that_was_synced(groups: list[tuple[list[bytes], str]], data: st.DataObject) -> None:
    """Of what was written behind the last sync, any pieces may be on the disk."""
    with tempfile.TemporaryDirectory() as directory:
        written = write(Path(directory), groups)
        whole = written.last.read_bytes()
        loose = len(whole) - written.synced_end
        for start, length in data.draw(st.lists(st.tuples(st.integers(0, loose), st.integers(1, 120)), max_size=4)):
            at = written.synced_end + start
            whole = whole[:at] + bytes(len(whole[at : at + length])) + whole[at + length :]
        written.last.write_bytes(whole)
        there = found(written.path)
        assert there == written.batches[: len(there)]
        assert len(there) >= written.synced


def used(path: Path) -> list[tuple[int, int]]:
    """Where the blocks of a file begin and end, as their own lengths say."""
    data = path.read_bytes()
    salt = int.from_bytes(data[16:20], "little")
    places, at = [], FILE_HEADER_BYTES
    while (block := read_block(data, at, salt)) is not None:
        places.append((at, block.end))
        at = block.end
    return places


def test_a_flipped_byte_anywhere(tmp_path: Path) -> None:
    groups = [([b"%d" % n * (n % 5 + 1), b""], "rotate" if n == 4 else "sync") for n in range(9)]
    written = write(tmp_path, groups)
    for path in sorted(tmp_path.iterdir()):
        whole, last = path.read_bytes(), path == written.last
        blocks = used(path)
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
            try:
                there = found(tmp_path)
            except Corruption:
                continue
            # the last block of all may have been torn by a crash: nothing behind it says that it was durable
            lost = 2 if last and blocks[-1][0] <= at < blocks[-1][1] else 0
            assert there in (written.batches, written.batches[: len(written.batches) - lost]), (path.name, at)
            assert at >= FILE_HEADER_BYTES
        path.write_bytes(whole)
    assert found(tmp_path) == written.batches


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    """A crash shortens no file: it was allocated, durably, before it was written to."""
    written = write(tmp_path, [([b"x" * 60], "rotate" if n == 6 else "sync") for n in range(14)])
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        end = used(path)[-1][1]
        for size in range(len(whole)):
            path.write_bytes(whole[:size])
            try:
                assert found(tmp_path) == written.batches, (path.name, size)
                assert size >= end
            except Corruption:
                continue
        path.write_bytes(whole)


@pytest.mark.parametrize("damage", ["removed", "older copy", "other number", "emptied"])
def test_a_file_that_is_not_the_one_it_was(tmp_path: Path, damage: str) -> None:
    written = begun(tmp_path)
    written.group([b"a"], "sync")
    first = tmp_path / log_name(1)
    older = first.read_bytes()
    written.group([b"b"], "rotate")
    written.group([b"c"], "sync")
    written.log.close()
    match damage:
        case "removed":
            first.unlink()
        case "older copy":
            first.write_bytes(older)
        case "other number":
            first.write_bytes((tmp_path / log_name(2)).read_bytes())
        case "emptied":
            first.write_bytes(b"")
    with pytest.raises(Corruption, match="log 0000000"):
        found(tmp_path)


def test_a_value_that_looks_like_a_block_is_none(tmp_path: Path) -> None:
    """Bytes of another log inside a torn value say nothing about this one."""
    forged = frame([b"forged"], 2, 1_000_000, 256, salt=7)
    assert read_block(forged, 0, 7) is not None
    written = begun(tmp_path)
    written.group([b"a"], "sync")
    end = written.synced_end
    written.group([forged * 2], "hand over")
    written.log.close()
    whole = bytearray(written.last.read_bytes())
    whole[end : end + 8] = bytes(8)
    for shift in range(8):  # wherever it lies
        written.last.write_bytes(bytes(whole[:end]) + bytes(shift) + bytes(whole[end:]))
        assert found(tmp_path) == [b"a"]


def test_what_a_crash_left_unfinished_is_no_log(tmp_path: Path) -> None:
    written = write(tmp_path, [([b"a"], "sync")])
    (tmp_path / f"{log_name(2)}.tmp").write_bytes(b"half")
    assert found(tmp_path) == written.batches
