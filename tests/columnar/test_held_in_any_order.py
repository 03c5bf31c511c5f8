"""A columnar store's replica of one region, told of commits in any order: every read is what the rows say.

Commits to a key are applied in the order of their timestamps, those of different keys in any; what is applied may be
told late, and between the two the replica may build ranges, bring keys in, and lose ranges. A reader at T has waited
for all commits at or below T to be told, as ReadIndex and the check of locks make it wait.
"""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from coprocessor.arrow import batch_to_rows
from coprocessor.codec.keys import record_range
from coprocessor.columnar import held, of_store
from coprocessor.columnar.of_store import StoreReplica
from coprocessor.dag.answer import read_answer
from coprocessor.dag.build import scan_table
from coprocessor.dag.codec import encode_dag
from coprocessor.dag.plan import Dag
from coprocessor.duck import DuckEngine
from coprocessor.errors import CodecError
from coprocessor.schema import ColumnSchema, TableSchema
from coprocessor.table import TableCodec
from coprocessor.types import BIGINT
from kvstore.codec import encode_bytes
from kvstore.engine.api import CF_WRITE
from kvstore.engine.batch import encode_changes
from kvstore.engine.memory import MemoryEngine
from kvstore.mvcc.keys import data_key, versioned
from kvstore.mvcc.record import Write, WriteType
from kvstore.proto.coprocessor_pb2 import BatchRequest
from kvstore.raftstore.single import SingleRegionStore
from kvstore.raftstore.syncer import InlineSyncer
from kvstore.server.region_reader import RegionReader
from kvstore.server.snapshot import Isolation

KEYS = 12
COMMITS = 60
TABLE = TableSchema(9, "t", (ColumnSchema(1, "id", BIGINT, True), ColumnSchema(2, "n", BIGINT)), handle_offset=0)
CODEC = TableCodec(TABLE)
DAG = Dag(scan_table(TABLE, (0, 1)), (), (0, 1))


def nothing() -> None:
    """A reader that is always worth going on."""


class Store:
    """One region's engine, the commits that are to come, and those that were applied and not told."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.engine = MemoryEngine()
        self.region = SingleRegionStore(self.engine, InlineSyncer(self.engine))
        self.replica = StoreReplica(DuckEngine(None), None)
        self.replica.begin(self.region)
        self.waiting: dict[int, list[tuple[int, int | None]]] = {}
        for commit_ts in range(10, 10 + 10 * COMMITS, 10):
            value = None if rng.random() < 0.3 else rng.randrange(1000)
            self.waiting.setdefault(rng.randrange(KEYS), []).append((commit_ts, value))
        self.untold: list[tuple[int, bytes]] = []

    def apply(self) -> None:
        if not self.waiting:
            return
        handle = self.rng.choice(sorted(self.waiting))
        commit_ts, value = self.waiting[handle].pop(0)
        if not self.waiting[handle]:
            del self.waiting[handle]
        key, row = CODEC.encode_record((handle, value))
        write = Write(
            WriteType.DELETE if value is None else WriteType.PUT, commit_ts - 5, None if value is None else row
        )
        changes = [(CF_WRITE, versioned(data_key(key), commit_ts), write.encode())]
        record = b"".join(encode_changes(changes))
        batch = self.engine.batch()
        batch.add_record(record)
        self.engine.write(batch)
        self.untold.append((commit_ts, record))

    def tell(self) -> None:
        told, self.untold = self.untold, []
        self.replica.on_written([record for _, record in told])

    def lose(self) -> None:
        low, high = sorted(self.rng.sample(range(KEYS + 1), 2))
        self.replica.on_range_changed(*(encode_bytes(CODEC.record_key(one)) for one in (low, high)))

    def horizon(self) -> int:
        """Every commit at or below it was told."""
        missing = [commits[0][0] for commits in self.waiting.values()] + [commit_ts for commit_ts, _ in self.untold]
        return min(missing, default=10 * COMMITS + 100) - 1

    def reader_at(self, ts: int) -> RegionReader:
        return RegionReader(self.engine, ts, Isolation(), nothing)

    def read(self, ts: int, ranges: list[tuple[bytes, bytes]]) -> list[tuple[int, int | None]] | None:
        """The replica's rows, None where it leaves them to the rows."""
        request = BatchRequest(tp=103, data=encode_dag(DAG).SerializeToString(), start_ts=ts)
        answers = self.replica.answer(request, ranges, self.reader_at)
        if any(answer.other_error for answer in answers):
            return None
        batches = [b for answer in answers for b in read_answer(answer.data, DAG.output_types, DAG.tz).batches]
        return sorted(row for batch in batches for row in batch_to_rows(batch, DAG.output_types))

    def rows(self, ts: int, ranges: list[tuple[bytes, bytes]]) -> list[tuple[int, int | None]]:
        pairs = [pair for start, end in ranges for pair in self.reader_at(ts).scan(start, end)]
        decode = CODEC.key_decoder((0, 1), None)
        return sorted(decode(key, value) for key, value in pairs)

    def ranges(self) -> list[tuple[bytes, bytes]]:
        if self.rng.random() < 0.4:
            return [record_range(TABLE.table_id)]
        cuts = sorted(self.rng.sample(range(KEYS + 1), self.rng.choice([2, 4])))
        keys = [CODEC.record_key(cut) for cut in cuts]
        return list(pairwise(keys))[::2]


@pytest.mark.parametrize("seed", range(60))
def test_every_read_is_what_the_rows_say(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(of_store, "PENDING_LAID_MAX", rng.choice([0, 3, 1000]))
    monkeypatch.setattr(held, "CHANGED_MAX", rng.choice([5, 1_000_000]))
    monkeypatch.setattr(of_store, "PENDING_DUE", 1)
    store = Store(rng)
    answered = 0
    try:
        for _ in range(200):
            match rng.randrange(10):
                case 0 | 1 | 2 | 3:
                    store.apply()
                case 4 | 5:
                    store.tell()
                case 6:
                    store.replica.catch_up()
                case 7 if rng.random() < 0.3:
                    store.lose()
                case _:
                    ts = max(1, store.horizon() - rng.choice([0, 0, 0, 10, 40]))
                    ranges = store.ranges()
                    found = store.read(ts, ranges)
                    assert found in (None, store.rows(ts, ranges)), (seed, ts)
                    answered += found is not None
        assert answered
    finally:
        store.replica.close()


def test_a_key_that_was_pending_before_its_range_was_lost() -> None:
    """The range is covered again after a commit that nobody was told of: an old pending key must not bring it back."""
    store = Store(random.Random(0))
    store.waiting = {1: [(10, 100), (20, 200)], 2: []}
    whole = [record_range(TABLE.table_id)]
    try:
        assert store.read(5, whole) == []
        del store.waiting[2]
        store.apply()
        store.tell()
        store.replica.on_range_changed(*(encode_bytes(CODEC.record_key(one)) for one in (1, 2)))
        store.apply()
        store.tell()
        assert store.read(25, whole) == [(1, 200)]
        (table,) = store.replica.tables
        table.bring_in(store.reader_at)
        assert store.read(30, whole) == [(1, 200)]
    finally:
        store.replica.close()


def test_a_range_that_is_lost_while_it_is_built_is_not_covered() -> None:
    store = Store(random.Random(0))
    store.waiting = {1: [(10, 100)]}
    store.apply()
    store.tell()
    whole = [record_range(TABLE.table_id)]
    losing = True

    class Losing(RegionReader):
        """Loses the range when it has read it."""

        def newer(self, start: bytes, end: bytes) -> list[tuple[bytes, int]]:
            if losing:
                store.replica.on_range_changed(b"", b"")
            return super().newer(start, end)

    def reader_at(ts: int) -> RegionReader:
        reader = Losing(store.engine, ts, Isolation(), nothing)
        reader.is_stable = False
        return reader

    request = BatchRequest(tp=103, data=encode_dag(DAG).SerializeToString(), start_ts=20)
    try:
        (answer,) = store.replica.answer(request, whole, reader_at)
        assert "went away" in answer.other_error
        (table,) = store.replica.tables
        assert table.is_abandoned or not table.pending
        losing = False
        assert store.read(20, whole) == [(1, 100)]
    finally:
        store.replica.close()


def test_a_table_that_takes_no_rows_in_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_store, "PENDING_LAID_MAX", 0)
    store = Store(random.Random(0))
    store.waiting = {1: [(10, 100), (20, 200)]}
    whole = [record_range(TABLE.table_id)]
    try:
        assert store.read(5, whole) == []
        store.apply()
        store.tell()
        with monkeypatch.context() as failing:

            def damaged(self: held.HeldTable, rows_at: object) -> None:
                raise CodecError("a damaged record")

            failing.setattr(held.HeldTable, "bring_in", damaged)
            assert store.read(15, whole) is None
        assert not store.replica.tables
        assert store.read(15, whole) == [(1, 100)]
    finally:
        store.replica.close()
