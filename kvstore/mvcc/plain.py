"""Chunks of records that need no version logic, resolved without a Python step per row.

Nearly every chunk that a range read meets is *plain*: keys of one length, one version each, all visible, all short puts
by present-day timestamps (nine varint bytes). That is tested for the chunk as a whole, and keys and values are cut out,
by functions of the interpreter that run in C; so are several versions of a key, where there is nothing but short puts.
Whatever is neither is None here and goes the general way of `scan`.
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
"""User keys and their values, in the order of the records."""

_HEAD_BYTES = 12
"""P, nine varint bytes, v, size: what stands before the value."""
_head: Callable[[bytes], bytes] = itemgetter(slice(0, _HEAD_BYTES))
_value: Callable[[bytes], bytes] = itemgetter(slice(_HEAD_BYTES, None))
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


def _user_keys(keys: list[bytes]) -> list[bytes] | None:
    """The user keys if all have the same length; None otherwise."""
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


def _short_puts(records: list[bytes]) -> list[bytes] | None:
    """The values if all records are short puts by present-day timestamps; None otherwise."""
    count = len(records)
    heads = bytearray(b"".join(map(_head, records)))
    if len(heads) != _HEAD_BYTES * count:
        return None
    sizes = heads[_HEAD_BYTES - 1 :: _HEAD_BYTES]
    del heads[_HEAD_BYTES - 1 :: _HEAD_BYTES]
    if heads.translate(_CLASSES) != _PLAIN_HEAD * count:
        return None
    values = list(map(_value, records))
    return values if list(map(len, values)) == list(sizes) else None


def resolve_plain(keys: list[bytes], records: list[bytes], suffix: bytes) -> Plain | None:
    """The rows of the chunk if it is plain for a reader whose timestamp has this suffix."""
    values = _short_puts(records)
    if values is None or min(map(_version, keys)) < suffix:
        return None
    rows = _user_keys(keys)
    if rows is None or len(set(rows)) != len(rows):
        return None
    return rows, values


def resolve_puts(keys: list[bytes], records: list[bytes], suffix: bytes) -> Plain | None:
    """Like `resolve_plain` for an ascending chunk in which keys may have several versions, some of them too new."""
    values = _short_puts(records)
    if values is None:
        return None
    rows = _user_keys(keys)
    if rows is None:
        return None
    versions = list(map(_version, keys))
    if min(versions) < suffix:
        seen = [version >= suffix for version in versions]
        rows, values = list(compress(rows, seen)), list(compress(values, seen))
    # from the end: a key's newest version, which stands first, is the one that stays
    newest = dict(zip(reversed(rows), reversed(values), strict=True))
    if len(newest) == len(rows):
        return rows, values
    return list(reversed(newest)), list(reversed(newest.values()))
