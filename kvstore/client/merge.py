"""Merging a transaction's own writes over what its snapshot reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kvstore.client.api import PackedBatch
from kvstore.client.write_buffer import Overlay, Own, laid_over
from kvstore.mvcc.chunks import Chunk

if TYPE_CHECKING:
    from kvstore.mvcc.packed import Pairs


def merge_chunks(chunks: Iterator[Chunk], own: Sequence[Own], *, reverse: bool = False) -> Iterator[Chunk]:
    """Lays `own` (ascending keys) over chunks of rows, in their order."""
    overlay = Overlay(own, reverse=reverse)
    for chunk in chunks:
        if not len(chunk):
            continue
        mine = overlay.upto(chunk.last_key())
        yield Chunk.of(laid_over(chunk.pairs(), mine, reverse=reverse)) if mine else chunk
    rest = overlay.rest()
    if rest:
        yield Chunk.of(rest)


def merge_packed(batches: Iterator[PackedBatch], own: Sequence[Own]) -> Iterator[PackedBatch]:
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
        pairs: Pairs = laid_over(unpack(batch), own[done:until])
        done = until
        yield pack_pairs(pairs, batch.newest_ts)
    if done < len(own):
        yield pack_pairs([(key, value) for key, value in own[done:] if value is not None], 0)
