"""What a store's loop tells of changes (`kvstore.raftstore.api.WriteObserver`): the keys, and when they committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kvstore.engine.api import CF_WRITE
from kvstore.engine.batch import puts_of
from kvstore.mvcc.keys import TS_BYTES, TS_MAX, user_key
from kvstore.server.region_reader import CHANGES


def written_keys(records: Sequence[bytes], is_wanted: Callable[[bytes], bool]) -> Iterator[tuple[int, bytes]]:
    """Yields (commit_ts, key) of the changes to keys that are wanted, in their order."""
    for record in records:
        for encoded, value in puts_of(record, CF_WRITE):
            if value[:1] in CHANGES:
                key = user_key(encoded)
                if is_wanted(key):
                    yield int.from_bytes(encoded[-TS_BYTES:], "big") ^ TS_MAX, key
