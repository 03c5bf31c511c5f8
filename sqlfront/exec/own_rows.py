"""Index entries of the rows that a pessimistic transaction has written, for reads at its snapshot.

A pessimistic transaction writes over the newest rows, and its snapshot is older. What it buffers of an index is the
difference to those newest rows, which is not the one to the snapshot's: the entry of a row that somebody else changed
in between is still there at the snapshot, and one that such a change has made is not. A scan of rows sees each row
once, as it was written here or as the snapshot has it; so must an index. Before one is read at the snapshot, the
entries of the written rows are put right by shades: what the snapshot has of them goes, what they have now comes.

A unique key can then have two rows: one that the snapshot has and somebody else has deleted since, and one written here
with the key that was free again. The entries of both then have the form with the handle in the key, in whose order they
are read.

Optimistic transactions need none of that: they write over their snapshot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from coprocessor.codec.keys import prefix_next

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coprocessor.schema import IndexSchema
    from coprocessor.table import TableCodec
    from kvstore.client.api import Reader, Transaction


def show_own_rows(reader: Reader, codec: TableCodec, index: IndexSchema) -> None:
    """Shades an index of what a transaction has written, if `reader` is one that needs it: called before it is read."""
    if not getattr(reader, "pessimistic", False):
        return
    txn = cast("Transaction", reader)
    start, _ = codec.index_range(index)
    if not txn.is_dirty or txn.is_shaded(start):
        return
    own = dict(txn.dirty(*codec.record_range))
    before = txn.before(own) if own else {}
    gone: list[bytes] = []
    come: dict[bytes, bytes | None] = {}
    decode = codec.key_decoder()
    for record, now in own.items():
        then = before.get(record)
        if then == now:
            continue
        handle = codec.handle_of_key(record)
        if then is not None:
            gone.append(codec.index_key_value(index, decode(record, then), handle)[0])
        if now is not None:
            key, value, _ = codec.index_key_value(index, decode(record, now), handle)
            come[key] = value
    shades = dict.fromkeys(gone) | come
    if own and index.unique:
        shades |= _shared_keys(txn, codec, index, own, shades)
    txn.shade(start, shades)


def _shared_keys(
    txn: Transaction,
    codec: TableCodec,
    index: IndexSchema,
    own: Mapping[bytes, bytes | None],
    shades: Mapping[bytes, bytes | None],
) -> dict[bytes, bytes | None]:
    """The shades of a unique index's keys that a written row had meanwhile, or has now, and at the snapshot another."""
    written = txn.dirty(*codec.index_range(index))
    hidden = {key for key, value in written if value is None and key not in shades}
    record_of, decode = codec.index_record_key(index), codec.key_decoder()
    there = txn.before([*hidden, *(key for key, value in shades.items() if value is not None)])
    out: dict[bytes, bytes | None] = {}
    shared: dict[bytes, bytes] = {}
    for key, value in there.items():
        record = record_of(key, value)
        if record in own:
            continue
        if key in hidden:
            out[key] = value
        else:
            shared[record] = key
    for record, value in txn.before(shared).items():
        key = shared[record]
        entry = shades[key]
        assert entry is not None, key
        mine = record_of(key, entry)
        now = own[mine]
        assert now is not None, mine
        out[key] = None
        for each, row in ((record, value), (mine, now)):
            handle = codec.handle_of_key(each)
            twin, entry, _ = codec.index_key_value(index, decode(each, row), handle, handle_in_key=True)
            out[twin] = entry
    return out


def with_twins(reader: Reader, points: list[bytes]) -> list[bytes]:
    """The keys that are looked up in a unique index, ascending, and behind each those of the rows that share it in what
    a transaction reads; the index is shaded."""
    if not getattr(reader, "pessimistic", False):
        return points
    txn = cast("Transaction", reader)
    if not txn.is_dirty:
        return points
    out: list[bytes] = []
    for key in points:
        out.append(key)
        out.extend(twin for twin, value in txn.dirty(key + b"\0", prefix_next(key)) if value is not None)
    return out
