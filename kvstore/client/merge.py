"""Merging a transaction's own writes over what its snapshot reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from kvstore.client.api import PackedBatch
from kvstore.mvcc.chunks import Chunk

if TYPE_CHECKING:
    from kvstore.mvcc.packed import Pairs


Pair = tuple[bytes, bytes]


def _laid_over(
    pairs: Iterable[Pair], own: Sequence[tuple[bytes, bytes | None]], *, reverse: bool = False
) -> list[Pair]:
    """`own` (None deletes) over `pairs`, in key order."""
    merged: dict[bytes, bytes | None] = dict(pairs)
    merged.update(own)
    return [(key, value) for key, value in sorted(merged.items(), reverse=reverse) if value is not None]


def merge_chunks(
    chunks: Iterator[Chunk], own: Sequence[tuple[bytes, bytes | None]], *, reverse: bool = False
) -> Iterator[Chunk]:
    """Lays `own` (ascending keys, None deletes) over chunks of rows, in their order."""
    mine = list(reversed(own)) if reverse else list(own)
    done = 0
    for chunk in chunks:
        if not len(chunk):
            continue
        last = chunk.last_key()
        until = done
        while until < len(mine) and (mine[until][0] >= last if reverse else mine[until][0] <= last):
            until += 1
        if until > done:
            chunk = Chunk.of(_laid_over(chunk.pairs(), mine[done:until], reverse=reverse))
            done = until
        yield chunk
    rest = [(key, value) for key, value in mine[done:] if value is not None]
    if rest:
        yield Chunk.of(rest)


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
        pairs: Pairs = _laid_over(unpack(batch), own[done:until])
        done = until
        yield pack_pairs(pairs, batch.newest_ts)
    if done < len(own):
        yield pack_pairs([(key, value) for key, value in own[done:] if value is not None], 0)
