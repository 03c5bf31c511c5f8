"""Chunks of records that need no version logic, resolved without a Python step per row.

Nearly every chunk that a range read meets is *plain*: keys of one length, one version each, all visible, all short puts
by present-day timestamps (nine varint bytes). That is tested for the chunk as a whole by functions of the interpreter
that run in C, and so are the newest versions found where there is nothing but short puts. Whatever is neither goes the
general way of `scan`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import compress, repeat
from operator import add, itemgetter
from struct import Struct
from typing import Any

from kvstore.codec import GROUP, MARKER
from kvstore.mvcc.keys import TS_BYTES

PLAIN_PAIRS_MIN = 24
"""Below this many pairs the tests cost more than the rows."""

Plain = tuple[list[bytes], list[bytes]]
"""Record keys and the records, whose values begin behind HEAD_BYTES."""

HEAD_BYTES = 12
"""P, nine varint bytes, v, size: what stands before the value."""
_head: Callable[[bytes], bytes] = itemgetter(slice(0, HEAD_BYTES))
_data_key: Callable[[bytes], bytes] = itemgetter(slice(None, -TS_BYTES))
_version: Callable[[bytes], bytes] = itemgetter(slice(-TS_BYTES, None))
_PUT, _SHORT, _LOW, _HIGH = ord("P"), ord("v"), 0, 0x80
_CLASSES = bytes(byte if byte in (_PUT, _SHORT) else byte & _HIGH for byte in range(256))
"""Varint bytes to what matters of them; the ninth holds the years and is small, so it is none of the two letters."""
_PLAIN_HEAD = bytes((_PUT, *[_HIGH] * 8, _LOW, _SHORT))


@lru_cache(maxsize=64)
def _layout(groups: int, size: int) -> Callable[[bytes], Any]:
    """Cuts rows of `z` EncodeBytes(key) ts, the key `size` bytes in `groups` groups, into the pieces of the key."""
    rest = size - GROUP * (groups - 1)
    return Struct(f"x{'8sx' * (groups - 1)}{rest}s{GROUP - rest + 1 + TS_BYTES}x").iter_unpack


def user_keys(keys: list[bytes]) -> list[bytes] | None:
    """The user keys of record keys (data keys with timestamps) if all have the same length; None otherwise."""
    if not keys:
        return []
    count, first = len(keys), keys[0]
    width = len(first)
    if list(map(len, keys)).count(width) != count:
        return None
    groups, odd = divmod(width - 1 - TS_BYTES, GROUP + 1)
    last_group = width - TS_BYTES - GROUP - 1
    marker = first[last_group + GROUP]
    if odd or not MARKER - GROUP <= marker < MARKER:
        return None
    joined = b"".join(keys)
    if joined[last_group + GROUP :: width].count(marker) != count:
        return None
    size = groups * GROUP - (MARKER - marker)
    shared = first[:last_group]
    if keys[-1][:last_group] == shared:
        # neighbours that differ in the last group only, as the rows of a table do
        known = b"".join([shared[at : at + GROUP] for at in range(1, last_group, GROUP + 1)])
        rest = itemgetter(slice(last_group, last_group + size - len(known)))
        return list(map(add, repeat(known), map(rest, keys)))
    for at in range(GROUP + 1, last_group, GROUP + 1):
        if joined[at::width].count(MARKER) != count:
            return None
    return list(map(b"".join, _layout(groups, size)(joined)))


def _short_puts(records: list[bytes]) -> bool:
    """Whether all records are short puts by present-day timestamps."""
    count = len(records)
    heads = bytearray(b"".join(map(_head, records)))
    if len(heads) != HEAD_BYTES * count:
        return False
    sizes = heads[HEAD_BYTES - 1 :: HEAD_BYTES]
    del heads[HEAD_BYTES - 1 :: HEAD_BYTES]
    if heads.translate(_CLASSES) != _PLAIN_HEAD * count:
        return False
    return list(map(len, records)) == list(map(HEAD_BYTES.__add__, sizes))


def is_plain(keys: list[bytes], records: list[bytes], suffix: bytes) -> bool:
    """Whether the chunk is plain for a reader whose timestamp has this suffix."""
    if not _short_puts(records) or min(map(_version, keys)) < suffix:
        return False
    return len(set(map(_data_key, keys))) == len(keys)


def newest_puts(keys: list[bytes], records: list[bytes], suffix: bytes) -> Plain | None:
    """The rows of an ascending chunk of nothing but short puts, in which keys may have several versions, some of them
    too new; None for any other."""
    if not _short_puts(records):
        return None
    versions = list(map(_version, keys))
    if min(versions) < suffix:
        seen = list(map(suffix.__le__, versions))
        keys, records = list(compress(keys, seen)), list(compress(records, seen))
    data_keys = list(map(_data_key, keys))
    if len(set(data_keys)) == len(keys):
        return keys, records
    # from the end: a key's newest version, which stands first, is the one that stays
    newest = dict(zip(reversed(data_keys), zip(reversed(keys), reversed(records), strict=True), strict=True))
    found_keys, found_records = zip(*reversed(newest.values()), strict=True)
    return list(found_keys), list(found_records)
