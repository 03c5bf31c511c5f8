"""Some columns of a table's rows in the order of their keys, read by requests to the stores.

What is built from a few columns of a large table is asked of the stores' coprocessor: plain scans would bring whole
rows, and hold up the loops of the stores, where requests have threads.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

from coprocessor.errors import Unsupported
from kvstore.client.api import PushRequest

if TYPE_CHECKING:
    from coprocessor.dag.plan import Dag
    from coprocessor.table import KeyRange, TableCodec
    from kvstore.client.api import CancelToken, PushAnswer, PushDown, Reader, Storage

CONCURRENCY = 2
"""Regions asked at a time, one of them ahead."""

Columns = tuple[Mapping[int, Any], Any, int]
"""Arrow arrays by their offsets, those of the key among them; hidden row ids or None; how many rows."""


def pushed_columns(
    storage: Storage,
    codec: TableCodec,
    offsets: Sequence[int],
    key_range: KeyRange,
    snapshot: Reader,
    rows: int,
    cancel: CancelToken | None,
) -> Generator[Columns, None, None] | None:
    """Yields the columns of the range's rows as of `snapshot`, TIMESTAMPs in UTC, about `rows` rows at most in a batch.

    None where the storage takes no requests, or not for these types. Close it to stop what is under way. Raises what
    `PushDown.run` does.
    """
    from coprocessor.dag.build import scan_table
    from coprocessor.dag.codec import encode_dag
    from coprocessor.dag.plan import Dag, EncodeType
    from coprocessor.schema import HANDLE_OFFSET

    push_down = storage.push_down
    if push_down is None:
        return None
    schema = codec.schema
    key = [part.offset for part in schema.common_handle] or [schema.handle_offset]
    wanted = list(dict.fromkeys([*offsets, *(offset if offset >= 0 else HANDLE_OFFSET for offset in key)]))
    encode = EncodeType.ARROW if push_down.arrow else EncodeType.CHUNK
    dag = Dag(scan_table(schema, wanted), (), tuple(range(len(wanted))), encode, time_zone="UTC")
    try:
        data = encode_dag(dag).SerializeToString()
    except Unsupported:
        return None
    request = PushRequest(data, [key_range], snapshot.ts, keep_order=True, page_rows=rows, concurrency=CONCURRENCY)
    return _columns(push_down, request, dag, wanted, cancel)


def _columns(
    push_down: PushDown, request: PushRequest, dag: Dag, offsets: Sequence[int], cancel: CancelToken | None
) -> Generator[Columns, None, None]:
    from coprocessor.dag.answer import read_answer
    from coprocessor.schema import HANDLE_OFFSET

    # closing them stops the requests
    with closing(cast("Generator[PushAnswer, None, None]", push_down.run(request, cancel))) as answers:
        for answer in answers:
            for batch in read_answer(answer.data, dag.output_types, dag.tz).batches:
                if batch.num_rows:
                    columns = dict(zip(offsets, batch.columns, strict=True))
                    handles = columns.pop(HANDLE_OFFSET, None)
                    ids = None if handles is None else handles.to_numpy(zero_copy_only=False)
                    yield columns, ids, batch.num_rows
