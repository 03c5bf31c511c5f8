"""How the write-ahead log lies in its files: the header of a file, and blocks of batches. Pure functions over bytes.

    file    header (48 bytes), blocks, zeros up to the size that was allocated
    header  magic 8s, version u32, crc u32, salt u32, 4 zero bytes, file number u64, sequence of its first batch u64,
            size u64
    block   magic 4s, crc u32, payload bytes u32, batches u32, sequence of the first batch u64, durable u64, size u64,
            then each batch behind its own length (u32), then zeros up to the next 8-byte boundary

Batches are numbered without gaps, over all files. `durable` is the sequence up to which everything was known to be on
disk when the block was written, `size` how long the file was for certain: a shorter one was cut. A block's crc goes
over what follows it, beginning with the salt of its file: bytes of another log inside a value are never taken for a
block of this one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kvstore.errors import Corruption

VERSION = 1
ALIGNMENT = 8

_FILE_MAGIC = b"sqlf-log"
_FILE = struct.Struct("<8sIII4xQQQ")
_FILE_CHECKED = struct.Struct("<I4xQQQ")
_BLOCK_MAGIC = b"\xb1ock"
_BLOCK = struct.Struct("<4sIIIQQQ")
_BLOCK_CHECKED = struct.Struct("<IIQQQ")
_CHECKED_AT = _BLOCK.size - _BLOCK_CHECKED.size
_BLOCK_FRONT = struct.Struct("<4sI")
_LENGTH = struct.Struct("<I")
_PADDING = tuple(bytes(-(_BLOCK.size + length) % ALIGNMENT) for length in range(ALIGNMENT))
"""What follows a payload, by its length modulo the alignment."""

FILE_HEADER_BYTES = _FILE.size
BLOCK_OVERHEAD_BYTES = _BLOCK.size + ALIGNMENT - 1
"""What a block takes at most beside its batches and their lengths."""
BATCH_OVERHEAD_BYTES = _LENGTH.size
BATCH_BYTES_MAX = 3 << 30


@dataclass(frozen=True, slots=True)
class FileHeader:
    """The front of a log file."""

    number: int
    first: int
    """The sequence of the first batch in it."""
    salt: int
    size: int
    """Bytes allocated when it was begun."""

    def encode(self) -> bytes:
        checked = _FILE_CHECKED.pack(self.salt, self.number, self.first, self.size)
        return _FILE.pack(_FILE_MAGIC, VERSION, zlib.crc32(checked), self.salt, self.number, self.first, self.size)


@dataclass(frozen=True, slots=True)
class Block:
    """Where a whole block lies in the bytes of a file, and what its header tells."""

    payload: int
    end: int
    first: int
    batches: int
    durable: int
    size: int


def read_header(data: bytes, name: str) -> FileHeader:
    """The header at the front of a log file's bytes; raises Corruption when it is none."""
    if len(data) < FILE_HEADER_BYTES:
        raise Corruption(f"the log {name} is damaged: it has no header")
    magic, version, _, salt, number, first, size = _FILE.unpack_from(data)
    header = FileHeader(number, first, salt, size)
    if magic != _FILE_MAGIC or version != VERSION or header.encode() != data[:FILE_HEADER_BYTES]:
        raise Corruption(f"the log {name} is damaged: its header is wrong")
    return header


def frame(batches: Sequence[bytes], first: int, durable: int, size: int, salt: int) -> bytes:
    """One block of these batches, padded to the boundary where the next may begin."""
    parts: list[bytes] = []
    for batch in batches:
        parts += (_LENGTH.pack(len(batch)), batch)
    length = sum(map(len, parts))
    checked = b"".join((_BLOCK_CHECKED.pack(length, len(batches), first, durable, size), *parts))
    return b"".join((_BLOCK_FRONT.pack(_BLOCK_MAGIC, zlib.crc32(checked, salt)), checked, _PADDING[length % ALIGNMENT]))


def read_block(data: bytes, at: int, salt: int) -> Block | None:
    """The block that begins at `at`; None when no whole one does."""
    if at + _BLOCK.size > len(data):
        return None
    magic, crc, length, batches, first, durable, size = _BLOCK.unpack_from(data, at)
    payload = at + _BLOCK.size
    if magic != _BLOCK_MAGIC or payload + length > len(data):
        return None
    with memoryview(data)[at + _CHECKED_AT : payload + length] as checked:
        if zlib.crc32(checked, salt) != crc:
            return None
    end = payload + length
    return Block(payload, end + -end % ALIGNMENT, first, batches, durable, size)


def read_blocks(data: bytes, header: FileHeader, name: str) -> Iterator[Block]:
    """The whole blocks at the front of a file, in order; raises Corruption when one is out of sequence."""
    at, following = FILE_HEADER_BYTES, header.first
    while (block := read_block(data, at, header.salt)) is not None:
        if block.first != following:
            raise Corruption(f"the log {name} is damaged: write {block.first} follows {following - 1}")
        yield block
        at, following = block.end, following + block.batches


def durable_behind(data: bytes, at: int, salt: int) -> int:
    """The highest sequence that a whole block at or behind `at` knows to be durable; 0 when there is none.

    The lengths in between cannot be trusted, so every place where a block may begin is looked at.
    """
    known = 0
    at = data.find(_BLOCK_MAGIC, at)
    while at >= 0:
        if at % ALIGNMENT == 0 and (block := read_block(data, at, salt)) is not None:
            known = max(known, block.durable)
            at = block.end - 1
        at = data.find(_BLOCK_MAGIC, at + 1)
    return known


def batches_of(data: bytes, block: Block) -> list[bytes]:
    """The batches of a whole block."""
    found = []
    at = block.payload
    for _ in range(block.batches):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size + length
        found.append(data[at - length : at])
    return found
