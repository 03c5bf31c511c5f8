"""A part of a read in an executor: the request sent to the stores, their answers as Spark's Arrow batches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from coprocessor.dag.answer import read_answer
from coprocessor.dag.codec import decode_dag
from kvstore.client.api import PushRequest
from sqlfront.spark.columns import to_spark
from sqlfront.spark.planning import Connect, Part, connected, translated

if TYPE_CHECKING:
    import pyarrow as pa

    from kvstore.client.cluster.storage import ClusterStorage

CONCURRENCY = 4
"""Regions that a part asks at a time: each may hold an answer of 16 MiB."""


def read_part(part: Part, connect: Connect = connected) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a part at its timestamp, columns called `part.names`. Closing it ends what is under way.

    Raises 9006 when the versions are gone, and what statements raise of the cluster.
    """
    dag = decode_dag(part.dag)
    types, tz = dag.output_types, dag.tz
    request = PushRequest(part.dag, part.ranges, part.ts, concurrency=CONCURRENCY)
    with translated(), connect(part.target) as storage:
        keep = _Keep(storage, part)
        keep.renew()
        push_down = storage.push_down
        assert push_down is not None
        with closing(push_down.run(request)) as answers:  # type: ignore[type-var]
            for answer in answers:
                keep.renew()
                for batch in read_answer(answer.data, types, tz).batches:
                    yield to_spark(batch, part.names, types)


class _Keep:
    """The service safe point of a read, renewed long before it ends."""

    def __init__(self, storage: ClusterStorage, part: Part) -> None:
        self._storage = storage
        self._part = part
        self._due = 0.0

    def renew(self) -> None:
        now = time.monotonic()
        if now >= self._due:
            part = self._part
            self._storage.keep_versions(part.service, part.ts, part.hold_s)
            self._due = now + part.hold_s / 3
