"""Merging a transaction's own writes over what its snapshot reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kvstore.client.api import PackedBatch

if TYPE_CHECKING:
    from kvstore.mvcc.packed import Pairs


def merge_rows(
    rows: Iterator[tuple[bytes, bytes]], own: Sequence[tuple[bytes, bytes | None]], *, reverse: bool = False
) -> Iterator[tuple[bytes, bytes]]:
    """Lays `own` (ascending keys, None deletes) over `rows`, in the order of `rows`."""
    mine = iter(reversed(own)) if reverse else iter(own)
    pending = next(mine, None)
    for row in rows:
        key = row[0]
        while pending is not None and (pending[0] > key if reverse else pending[0] < key):
            if pending[1] is not None:
                yield pending[0], pending[1]
            pending = next(mine, None)
        if pending is not None and pending[0] == key:
            if pending[1] is not None:
                yield key, pending[1]
            pending = next(mine, None)
        else:
            yield row
    while pending is not None:
        if pending[1] is not None:
            yield pending[0], pending[1]
        pending = next(mine, None)


def merge_packed(batches: Iterator[PackedBatch], own: Sequence[tuple[bytes, bytes | None]]) -> Iterator[PackedBatch]:
    """Lays `own` over packed batches: a batch that no own write falls into passes as it is."""
    from bisect import bisect_right

    from kvstore.mvcc.packed import pack_pairs, unpack

    keys = [key for key, _ in own]
    done = 0
    for batch in batches:
        if not batch.count:
            yield batch
            continue
        last = batch.keys[batch.key_starts[-1] : batch.key_ends[-1]].tobytes()
        until = bisect_right(keys, last, done)
        if until == done:
            yield batch
            continue
        pairs: Pairs = list(merge_rows(unpack(batch), own[done:until]))
        done = until
        yield pack_pairs(pairs, batch.newest_ts)
    if done < len(own):
        yield pack_pairs([(key, value) for key, value in own[done:] if value is not None], 0)
