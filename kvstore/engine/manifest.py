"""RocksDB's files as they lie on disk, looked at before RocksDB opens them.

RocksDB takes a MANIFEST that was cut short for one whose last write a crash tore: it opens the older version that the
rest describes and deletes the table files that this version does not know. So the files are checked first, and a
directory that lost something is refused while everything is still as it was:

- CURRENT names a MANIFEST that is there, and none older than the one noted last;
- the MANIFEST's records have their lengths and checksums; only its end may be torn, and only behind what was noted
  as durable;
- every table file of the version that it describes is there with its size, and so is the oldest blob file that each
  refers to; no blob file is shorter than it was;
- the version reaches the sequence number that was noted.

What was durable is noted in `<dir>/sqlfront.state.json`: at open, when a log file begins, after a flush or an ingest,
and when the store is closed. A lower bound is enough: what RocksDB adds behind it without us (flushes, compactions)
is in the logs from the noted ones on, too (see `journal`; RocksDB's own logs are always empty).

Formats: RocksDB's db/log_format.h, db/version_edit.h. An edit that cannot be read here is left to
RocksDB, which refuses what it does not know.
"""

from __future__ import annotations

import json
import os
import re
import struct
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache

from kvstore.engine.api import COLUMN_FAMILIES
from kvstore.engine.directory import KV_DIRECTORY, replace_file, sync_directory
from kvstore.engine.log_files import LOG_DIRECTORY, log_numbers
from kvstore.errors import Corruption

STATE_FILE = "sqlfront.state.json"
CHECKED_BYTES_MAX = 64 << 10
"""So much of a MANIFEST's end has its checksums checked here (a few milliseconds); RocksDB checks all of them."""
BLOB_ENDS_BYTES = 62
"""Header and footer of a blob file."""

_BLOCK = 32 << 10
_HEADER = struct.Struct("<IHB")
_LEGACY_HEADER_BYTES = 7
_RECYCLABLE_HEADER_BYTES = 11
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_RECYCLABLE = 4
"""Record types 5 to 8 are 1 to 4 with a log number in the header."""
_CRC_MASK_DELTA = 0xA282EAD8
_SAFE_TO_IGNORE = 1 << 13

_NUMBERED = re.compile(r"(\d+)\.(sst|blob)")


class _Unreadable(Exception):
    """An edit of a kind that this module does not know."""


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


def masked_crc32c(data: bytes) -> int:
    """The checksum that RocksDB's logs keep of a record's type and payload."""
    table = _crc_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + _CRC_MASK_DELTA) & 0xFFFFFFFF


@dataclass(slots=True)
class LogRecords:
    """The whole records at the front of a log file, and where the last of them ends."""

    records: list[bytes] = field(default_factory=list)
    end: int = 0


def read_log(data: bytes, name: str, *, check_from: int = 0) -> LogRecords:
    """Cuts a log file into its records, up to a torn end; raises Corruption for a record with a wrong checksum."""
    found = LogRecords()
    parts: list[bytes] = []
    at = 0
    while True:
        left = _BLOCK - at % _BLOCK
        if left < _LEGACY_HEADER_BYTES:
            at += left
            continue
        if at + _LEGACY_HEADER_BYTES > len(data):
            return found
        crc, length, kind = _HEADER.unpack_from(data, at)
        recyclable = kind > _LAST
        header = _RECYCLABLE_HEADER_BYTES if recyclable else _LEGACY_HEADER_BYTES
        end = at + header + length
        if end > len(data) or (kind == 0 and not any(data[at:])):
            return found
        if kind == 0 or kind > _LAST + _RECYCLABLE or header + length > left:
            raise Corruption(f"{name} is damaged: no record begins at byte {at}")
        if at >= check_from and masked_crc32c(data[at + 6 : end]) != crc:
            raise Corruption(f"{name} is damaged: wrong checksum of the record at byte {at}")
        piece = kind - _RECYCLABLE if recyclable else kind
        if (piece in (_FULL, _FIRST)) == bool(parts):
            raise Corruption(f"{name} is damaged: the record at byte {at} is out of place")
        parts.append(data[at + header : end])
        at = end
        if piece in (_FULL, _LAST):
            found.records.append(parts[0] if len(parts) == 1 else b"".join(parts))
            found.end = at
            parts = []


class _Fields:
    """Reads the fields of one version edit in turn."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self) -> int:
        data, at, shift, value = self.data, self.at, 0, 0
        while at < len(data):
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                self.at = at
                return value
            shift += 7
        raise _Unreadable

    def text(self) -> bytes:
        length = self.number()
        self.at += length
        if self.at > len(self.data):
            raise _Unreadable
        return self.data[self.at - length : self.at]

    def numbers(self, count: int) -> list[int]:
        return [self.number() for _ in range(count)]

    def tagged(self, end_tag: int) -> dict[int, bytes]:
        """Tagged fields up to the one that ends them."""
        fields = {}
        while (tag := self.number()) != end_tag:
            fields[tag] = self.text()
        return fields


@dataclass(slots=True)
class TableFile:
    """A table file of a version."""

    size: int
    oldest_blob: int = 0


@dataclass(slots=True)
class Edit:
    """One record of a MANIFEST: how a version differs from the one before."""

    family: int = 0
    last_sequence: int = 0
    deleted: list[int] = field(default_factory=list)
    added: list[tuple[int, TableFile]] = field(default_factory=list)
    blobs: dict[int, int] = field(default_factory=dict)
    """Blob files added: their bytes without header and footer."""
    dropped: bool = False
    group_left: int = 0
    """How many more edits belong to its atomic group."""


def read_edit(record: bytes) -> Edit:
    """Reads one record of a MANIFEST."""
    edit = Edit()
    fields = _Fields(record)
    while fields.at < len(record):
        match fields.number():
            case 1 | 201:  # comparator, name of a new column family
                fields.text()
            case 2 | 3 | 9 | 10 | 203:  # numbers: log, next file, previous log, oldest log; largest column family
                fields.number()
            case 4:
                edit.last_sequence = fields.number()
            case 5:  # compact cursor: level, key
                fields.number()
                fields.text()
            case 6:  # level, number
                edit.deleted.append(fields.numbers(2)[1])
            case 103:
                edit.added.append(_new_file(fields))
            case 200:
                edit.family = fields.number()
            case 202:
                edit.dropped = True
            case 300:
                edit.group_left = fields.number()
            case 400:  # blob file: number, count, bytes; checksum method and value
                number, _, size = fields.numbers(3)
                edit.blobs[number] = size
                fields.text()
                fields.text()
                fields.tagged(0)
            case 401:  # garbage in a blob file: number, count, bytes
                fields.numbers(3)
                fields.tagged(0)
            case tag if tag & _SAFE_TO_IGNORE:
                fields.text()
            case _:
                raise _Unreadable
    return edit


def _new_file(fields: _Fields) -> tuple[int, TableFile]:
    _, number, size = fields.numbers(3)
    fields.text()  # smallest and largest key
    fields.text()
    fields.numbers(2)  # smallest and largest sequence number
    custom = fields.tagged(1)
    return number, TableFile(size, _Fields(custom[4]).number() if 4 in custom else 0)


@dataclass(slots=True)
class Version:
    """What the edits of a MANIFEST add up to."""

    families: set[int] = field(default_factory=set)
    files: dict[tuple[int, int], TableFile] = field(default_factory=dict)
    """The table files, by column family and number."""
    blobs: dict[int, int] = field(default_factory=dict)
    """Bytes in blob files, also in those that have become garbage and need not be there any more."""
    last_sequence: int = 0

    def apply(self, edit: Edit) -> None:
        family = edit.family
        self.last_sequence = max(self.last_sequence, edit.last_sequence)
        if edit.dropped:
            self.families.discard(family)
            self.files = {key: file for key, file in self.files.items() if key[0] != family}
            return
        self.blobs.update(edit.blobs)
        self.families.add(family)
        for number in edit.deleted:
            self.files.pop((family, number), None)
        for number, file in edit.added:  # behind the deletions: a file moved to another level is in both
            self.files[family, number] = file


def read_version(records: list[bytes]) -> Version | None:
    """The version that a MANIFEST's records describe; None when one of them cannot be read here.

    The edits of an atomic group that has no end do not count.
    """
    version = Version()
    group: list[Edit] = []
    try:
        for record in records:
            group.append(read_edit(record))
            if group[-1].group_left == 0:
                for edit in group:
                    version.apply(edit)
                group = []
    except _Unreadable:
        return None
    return version


@dataclass(frozen=True, slots=True)
class Durable:
    """What was on disk for certain at some moment: later states have at least as much."""

    manifest: int
    """The number in the name of the MANIFEST."""
    manifest_bytes: int
    sequence: int
    """RocksDB's number of the last change as the MANIFEST had it."""
    first_log: int
    """The first file of the write-ahead log that was needed."""
    last_log: int
    """The last one that was begun; before the first when none was needed."""

    @property
    def logs(self) -> range:
        """The numbers of the log files that must be there."""
        return range(self.first_log, self.last_log + 1)


def read_state(path: str) -> Durable | None:
    """What the database directory notes as durable; None when it has no note."""
    target = os.path.join(path, STATE_FILE)
    try:
        with open(target, encoding="utf-8") as file:
            state = json.load(file)
        # a note of format 1 knows of RocksDB's logs instead, which RocksDB replays
        logs = (1, 0) if "logs" in state else (int(state["first_log"]), int(state["last_log"]))
        return Durable(int(state["manifest"]), int(state["manifest_bytes"]), int(state["sequence"]), *logs)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corruption(
            f"{target} is damaged ({error}); without this file the database opens, less carefully checked"
        ) from error


def write_state(path: str, state: Durable) -> None:
    """Notes in a database directory what is durable; durably, so that what is not needed can go."""
    replace_file(os.path.join(path, STATE_FILE), json.dumps(asdict(state)))
    sync_directory(path)


def sync_manifest(path: str) -> tuple[int, int, int]:
    """Of a database's current MANIFEST: its number, up to where it is whole and durable, and its last sequence there.

    RocksDB's own number of the last write may be ahead also after a flush, when that had nothing to put in a file.
    """
    kv_path = os.path.join(path, KV_DIRECTORY)
    name = _current(kv_path)
    with open(os.path.join(kv_path, name), "rb") as file:
        found = read_log(data := file.read(), name, check_from=len(data))
        os.fsync(file.fileno())
    version = read_version(found.records)
    return _manifest_number(name), found.end, 0 if version is None else version.last_sequence


def check_files(path: str, *, rocksdb_logs: bool) -> Durable | None:
    """Raises Corruption when the files of a database lost something; returns what is noted as durable.

    None, and nothing checked, when there is no database yet. Changes nothing. With `rocksdb_logs` the directory is of
    format 1: part of what was durable is in logs that RocksDB has to replay first.
    """
    state = read_state(path)
    kv_path = os.path.join(path, KV_DIRECTORY)
    try:
        names = set(os.listdir(kv_path))
    except FileNotFoundError:
        names = set()
    files = _numbered_files(kv_path) if names else {}
    if "CURRENT" not in names:
        if state is None and not any(files.values()) and not log_numbers(os.path.join(path, LOG_DIRECTORY)):
            return None
        raise Corruption(f"{os.path.join(kv_path, 'CURRENT')} is missing; nothing was changed")
    try:
        version = _check(kv_path, names, files, state)
        if version is not None and state is not None and not rocksdb_logs:
            _check_sequence(version.last_sequence, state)
    except Corruption as error:
        raise Corruption(f"{kv_path}: {error}; nothing was changed") from error
    return state


def _check_sequence(there: int, state: Durable) -> None:
    if there < state.sequence:
        raise Corruption(f"{state.sequence} changes were in table files, {there} are there")


def _check(kv_path: str, names: set[str], files: dict[tuple[int, str], int], state: Durable | None) -> Version | None:
    """Checks the MANIFEST and what it names; returns the version, if it can be read."""
    name = _current(kv_path)
    if name not in names:
        raise Corruption(f"{name} is missing")
    number = _manifest_number(name)
    if state is not None and number < state.manifest:
        raise Corruption(f"CURRENT names {name}, which is older than MANIFEST-{state.manifest:06}")
    with open(os.path.join(kv_path, name), "rb") as file:
        data = file.read()
    found = read_log(data, name, check_from=max(0, len(data) - CHECKED_BYTES_MAX))
    least = state.manifest_bytes if state is not None and number == state.manifest else 1
    if found.end < least:
        raise Corruption(f"{name} is damaged: whole up to byte {found.end}, {least} bytes were written")
    version = read_version(found.records)
    if version is None:
        return None
    if state is not None and len(version.families) < len(COLUMN_FAMILIES):
        raise Corruption(f"{name} is damaged: it ends before the last column family")
    _check_tables(version, files)
    return version


def _check_tables(version: Version, files: dict[tuple[int, str], int]) -> None:
    for (_, number), table in version.files.items():
        size = files.get((number, "sst"))
        if size is None:
            raise Corruption(f"the table file {number:06}.sst is missing")
        if size != table.size:
            raise Corruption(f"the table file {number:06}.sst is damaged: {size} bytes, not {table.size}")
        if table.oldest_blob and (table.oldest_blob, "blob") not in files:
            raise Corruption(f"the blob file {table.oldest_blob:06}.blob is missing")
    for number, payload in version.blobs.items():
        size = files.get((number, "blob"))
        if size is not None and size < payload + BLOB_ENDS_BYTES:
            raise Corruption(f"the blob file {number:06}.blob is damaged: {size} of {payload + BLOB_ENDS_BYTES} bytes")


def _current(kv_path: str) -> str:
    with open(os.path.join(kv_path, "CURRENT"), "rb") as file:
        text = file.read(100)
    match = re.fullmatch(rb"(MANIFEST-\d+)\n", text)
    if match is None:
        raise Corruption("CURRENT is damaged: it names no MANIFEST")
    return match[1].decode()


def _manifest_number(name: str) -> int:
    return int(name.partition("-")[2])


def _numbered_files(kv_path: str) -> dict[tuple[int, str], int]:
    """The sizes of table and blob files by number and kind."""
    sizes = {}
    with os.scandir(kv_path) as entries:
        for entry in entries:
            if match := _NUMBERED.fullmatch(entry.name):
                with suppress(FileNotFoundError):  # RocksDB removes files while the store is open
                    sizes[int(match[1]), match[2]] = entry.stat().st_size
    return sizes
