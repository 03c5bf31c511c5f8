"""A `PushDown` over an embedded store that is cut into regions: the answers of a cluster without one.

Every request meets other boundaries, drawn from the seed; regions answer in any order unless it is to be kept, in pages
if they are asked to, each in the encoding that the test names.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Any

from coprocessor.dag.plan import EncodeType
from coprocessor.duck import DuckEngine
from coprocessor.endpoint import Endpoint
from coprocessor.table import KeyRange
from kvstore.client.api import CancelToken, PushAnswer, PushRequest
from kvstore.client.embedded import EmbeddedStore
from kvstore.errors import Cancelled, PushFailed
from kvstore.proto import coprocessor_pb2, tipb_pb2
from pd.oracle import LocalOracle
from sqlfront.catalog.catalog import LocalCatalog
from sqlfront.database import Database
from sqlfront.dbapi import DEFAULT_DATABASE, Connection

KEYS_SEEN_MAX = 300
"""Keys of a request's ranges that boundaries are drawn from."""
CUTS_MAX = 5


class Regions:
    """Answers requests from `store`. `requests` keeps what was asked, `open_requests` how many are not at their end."""

    def __init__(self, store: EmbeddedStore, seed: int, encode: EncodeType) -> None:
        self._store = store
        self._random = random.Random(seed)
        self._encode = encode
        self._engine = DuckEngine()
        self._endpoint = Endpoint(self._engine)
        self.arrow = encode == EncodeType.ARROW
        self.few_rows = -1
        self.requests: list[PushRequest] = []
        self.open_requests = 0

    def run(self, request: PushRequest, cancel: CancelToken | None = None) -> Iterator[PushAnswer]:
        _check_ranges(request.ranges)
        self.requests.append(request)
        tasks = self._tasks(request)
        if request.desc:
            tasks.reverse()
        if not request.keep_order:
            self._random.shuffle(tasks)
        self.open_requests += 1
        try:
            for region_id, ranges in tasks:
                yield from self._region(request, region_id, ranges, cancel)
        finally:
            self.open_requests -= 1

    def close(self) -> None:
        self._engine.close()

    def _tasks(self, request: PushRequest) -> list[tuple[int, list[KeyRange]]]:
        """The regions with their parts of the ranges, in the order of the keys."""
        snapshot = self._store.snapshot(request.ts)
        keys: list[bytes] = []
        for start, end in request.ranges:
            keys += [key for key, _ in islice(snapshot.scan(start, end), KEYS_SEEN_MAX - len(keys))]
        cuts = sorted(self._random.sample(keys, min(len(keys), self._random.randint(0, CUTS_MAX))))
        bounds = [b"", *cuts, b"\xff" * 32]
        tasks = []
        for i, (low, high) in enumerate(pairwise(bounds)):
            parts = [(max(start, low), min(end, high)) for start, end in request.ranges]
            ranges = [(start, end) for start, end in parts if start < end]
            if ranges:
                tasks.append((i, ranges))
        return tasks

    def _region(
        self, request: PushRequest, region_id: int, ranges: Sequence[KeyRange], cancel: CancelToken | None
    ) -> Iterator[PushAnswer]:
        while ranges:
            if cancel is not None and cancel.is_set():
                raise Cancelled
            wire = coprocessor_pb2.Request(
                tp=103, data=self._encoded(request.data), start_ts=request.ts, paging_size=request.page_rows
            )
            for start, end in ranges:
                wire.ranges.add(start=start, end=end)
            response = self._endpoint.handle(wire, self._store.snapshot)
            if response.other_error:
                raise PushFailed(0, response.other_error)
            select = tipb_pb2.SelectResponse.FromString(response.data)
            if select.HasField("error"):
                raise PushFailed(select.error.code, select.error.msg)
            yield PushAnswer(response.data, region_id, "store", len(response.data), 0.001)
            ranges = _left(ranges, response, request.desc) if response.HasField("range") else ()

    def _encoded(self, data: bytes) -> bytes:
        dag = tipb_pb2.DAGRequest.FromString(data)
        dag.MergeFrom(tipb_pb2.DAGRequest(encode_type=tipb_pb2.EncodeType.Name(self._encode)))
        return dag.SerializeToString()


def _check_ranges(ranges: Sequence[KeyRange]) -> None:
    assert ranges
    before = b""
    for start, end in ranges:
        assert before <= start < end, ranges
        before = end


def _left(ranges: Sequence[KeyRange], response: Any, desc: bool) -> list[KeyRange]:
    """What a page has not read yet."""
    if desc:
        parts = [(start, min(end, response.range.start)) for start, end in ranges]
    else:
        parts = [(max(start, response.range.end), end) for start, end in ranges]
    return [(start, end) for start, end in parts if start < end]


class PushedDatabase(Database):
    """A database in memory whose storage takes requests."""

    def __init__(self, seed: int, encode: EncodeType) -> None:
        store = EmbeddedStore.open(None, LocalOracle)
        self.regions = Regions(store, seed, encode)
        store.push_down = self.regions
        super().__init__(None, store, LocalCatalog(store), store)

    def _shut(self) -> None:
        super()._shut()
        self.regions.close()


def connect(seed: int = 0, encode: EncodeType = EncodeType.ARROW) -> Connection:
    """Opens a database that pushes down, with autocommit."""
    database = PushedDatabase(seed, encode)
    session = database.session()
    session.use(DEFAULT_DATABASE)
    connection = Connection(database, session)
    connection.autocommit = True
    return connection
