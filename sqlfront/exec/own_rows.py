"""Index entries of the rows that a pessimistic transaction has written, for reads at its snapshot.

A pessimistic transaction writes over the newest rows, and its snapshot is older. What it buffers of an index is the
difference to those newest rows, which is not the one to the snapshot's: the entry of a row that somebody else changed
in between is still there at the snapshot, and one that such a change has made is not. A scan of rows sees each row
once, as it was written here or as the snapshot has it; so must an index. Before one is read at the snapshot, the
entries of the written rows are put right by shades: what the snapshot has of them goes, what they have now comes.

Optimistic transactions need none of that: they write over their snapshot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from coprocessor.schema import IndexSchema
    from coprocessor.table import TableCodec
    from kvstore.client.api import Reader, Transaction


def show_own_rows(reader: Reader, codec: TableCodec, index: IndexSchema) -> None:
    """Shades an index of what a transaction has written, if `reader` is one that needs it: called before it is read."""
    if not getattr(reader, "pessimistic", False):
        return
    txn = cast("Transaction", reader)
    start, end = codec.index_range(index)
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
        # a key that a written row had meanwhile may be another row's at the snapshot
        hidden = [key for key, value in txn.dirty(start, end) if value is None and key not in shades]
        record_of = codec.index_record_key(index)
        shades |= {key: value for key, value in txn.before(hidden).items() if record_of(key, value) not in own}
    txn.shade(start, shades)
