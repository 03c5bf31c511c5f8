"""Columns that a store keeps decoded: every answer is that of the rows at its timestamp, whatever commits meanwhile."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections.abc import Iterator
from typing import Any

import pytest

from coprocessor import segments
from coprocessor import types as t
from coprocessor.dag.codec import encode_dag
from coprocessor.dag.plan import Aggregation, Dag, EncodeType, ScanColumn, Selection, Step, TableScan
from coprocessor.duck import DuckEngine
from coprocessor.expr import Column, Const
from coprocessor.functions import resolve, resolve_agg
from coprocessor.region_columns import RegionColumns
from coprocessor.schema import ColumnSchema, IndexColumn, TableSchema
from coprocessor.serving import InlineWorkers, Serving, ServingLimits, ThreadWorkers
from coprocessor.table import TableCodec
from kvstore.codec import encode_bytes
from kvstore.engine.api import CF_WRITE
from kvstore.mvcc.keys import data_range
from kvstore.proto import coprocessor_pb2 as cop
from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.server.region_reader import RegionReader
from kvstore.server.snapshot import Isolation
from tests.coprocessor import plans
from tests.coprocessor.store import CODEC, Row, records
from tests.coprocessor.test_endpoint import rows_of
from tests.server.ends import Node, make_node
from tests.sim.loop import run_simulated

START, END = CODEC.record_range
WIDTH = len(plans.COLUMNS)
IDS = range(60)
SPLIT = 25
"""The first id of the second region."""


@pytest.fixture(scope="module")
def duck() -> Iterator[DuckEngine]:
    engine = DuckEngine()
    yield engine
    engine.close()


def dag_over(offsets: tuple[int, ...], *steps: Step) -> Dag:
    dag = Dag(plans.table_scan(offsets), tuple(steps), (), EncodeType.ARROW)
    return Dag(dag.scan, dag.steps, tuple(range(len(dag.types))), EncodeType.ARROW)


def request_of(dag: Dag, ts: int, bounds: tuple[bytes, bytes] = (START, END)) -> cop.Request:
    data = encode_dag(dag).SerializeToString()
    return cop.Request(tp=103, data=data, start_ts=ts, ranges=[cop.KeyRange(start=bounds[0], end=bounds[1])])


def a_row(i: int, n: int, s: str | None) -> Row:
    return (i, n, None, None, None, None, s, *([None] * (WIDTH - 7)))


async def write(node: Node, start_ts: int, pairs: dict[bytes, bytes | None], region: int) -> None:
    """Prewrites puts and deletes (None)."""
    mutations = [
        pb.Mutation(op=pb.Op.Del if value is None else pb.Op.Put, key=key, value=value or b"")
        for key, value in pairs.items()
    ]
    message = pb.PrewriteRequest(
        mutations=mutations, start_version=start_ts, primary_lock=next(iter(pairs)), lock_ttl=3000
    )
    response = await node.call("KvPrewrite", message, region=region)
    assert not response.HasField("region_error")
    assert not response.errors


def region_of(i: int) -> int:
    return 1 if i < SPLIT else 2


class _World:
    """A store of two regions, with what was written to it, and the transactions that are open."""

    def __init__(self, node: Node, seed: int) -> None:
        self.node = node
        self.rng = random.Random(seed)
        self.clock = 10
        self.versions: dict[int, list[tuple[int, Row | None]]] = {}
        self.open: dict[int, dict[int, Row | None]] = {}
        cut = CODEC.record_key(SPLIT)
        node.store.add(1, b"", encode_bytes(cut))
        node.store.add(2, encode_bytes(cut), b"")
        self.bounds = {1: (START, cut), 2: (cut, END)}

    def tick(self) -> int:
        self.clock += self.rng.randrange(1, 4)
        return self.clock

    async def step(self) -> None:
        kind = self.rng.choice(("write", "write", "end", "end", "read", "read", "read", "read"))
        if kind == "write" and len(self.open) < 2:
            await self.begin()
        elif kind == "end" and self.open:
            await self.end()
        else:
            await self.read()

    async def begin(self) -> None:
        locked = {i for rows in self.open.values() for i in rows}
        free = [i for i in IDS if i not in locked]
        # all of a region's, so that one transaction has one region
        region = self.rng.choice((1, 2))
        mine = [i for i in free if region_of(i) == region]
        chosen = self.rng.sample(mine, min(len(mine), self.rng.choice((1, 1, 2, 9))))
        start_ts = self.tick()
        rows = {i: self.rng.choice((None, a_row(i, start_ts, f"{i} at {start_ts}"))) for i in chosen}
        if not rows:
            return
        self.open[start_ts] = rows
        pairs: dict[bytes, bytes | None] = {
            CODEC.record_key(i): None if one is None else records([one])[CODEC.record_key(i)] for i, one in rows.items()
        }
        await write(self.node, start_ts, pairs, region)

    async def end(self) -> None:
        start_ts = self.rng.choice(list(self.open))
        rows = self.open.pop(start_ts)
        keys = [CODEC.record_key(i) for i in rows]
        region = region_of(next(iter(rows)))
        if self.rng.random() < 0.2:
            message = pb.BatchRollbackRequest(start_version=start_ts, keys=keys)
            assert not (await self.node.call("KvBatchRollback", message, region=region)).HasField("error")
            return
        commit_ts = self.tick()
        committing = pb.CommitRequest(start_version=start_ts, commit_version=commit_ts, keys=keys)
        assert not (await self.node.call("KvCommit", committing, region=region)).HasField("error")
        for i, one in rows.items():
            self.versions.setdefault(i, []).append((commit_ts, one))

    async def read(self) -> None:
        region = self.rng.choice((1, 2))
        ts = self.tick() if self.rng.random() < 0.7 else self.rng.randrange(10, self.clock + 1)
        offsets = self.rng.choice(((0, 1), (1,), (6, 0), (1, 6), (), (0,)))
        message = request_of(dag_over(offsets), ts, self.bounds[region])
        response = await self.node.call("Coprocessor", message, region=region)
        assert not response.other_error
        assert not response.HasField("region_error")
        ids = [i for i in IDS if region_of(i) == region]
        locks = sorted(i for start, rows in self.open.items() if start <= ts for i in rows if i in ids)
        if locks:
            assert response.locked.key == CODEC.record_key(locks[0])
            return
        assert not response.HasField("locked")
        wanted = [one for i in ids if (one := self.row_at(i, ts)) is not None]
        assert rows_of(response, dag_over(offsets)) == [tuple(one[at] for at in offsets) for one in wanted]

    def row_at(self, i: int, ts: int) -> Row | None:
        return next((one for commit_ts, one in reversed(self.versions.get(i, [])) if commit_ts <= ts), None)


@pytest.mark.parametrize("seed", range(12))
def test_answers_are_those_of_the_rows(seed: int, duck: DuckEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_ROWS", 16)
    limits = ServingLimits(columns_mib=1)

    async def whole() -> None:
        serving = Serving(lambda: duck, InlineWorkers(), limits)
        world = _World(await make_node(coprocessor=serving), seed)
        for _ in range(250):
            await world.step()
        (columns,) = serving.columns
        stats = columns.stats()
        assert stats["builds"]
        assert stats["patches"]
        assert stats["bytes"]

    run_simulated(whole())


def test_nothing_is_kept_where_there_is_to_be_no_memory_for_it(duck: DuckEngine) -> None:
    async def whole() -> None:
        serving = Serving(lambda: duck, InlineWorkers(), ServingLimits(columns_mib=0))
        world = _World(await make_node(coprocessor=serving), 1)
        for _ in range(40):
            await world.step()
        assert not serving.columns

    run_simulated(whole())


async def filled(node: Node, count: int, commit_ts: int = 20) -> None:
    pairs = records([a_row(i, i, "x ") for i in range(count)])
    assert not (await node.prewrite(10, pairs)).errors
    assert not (await node.commit(10, commit_ts, *pairs)).HasField("error")


def test_parts_of_a_region_and_limits_read_the_rows(duck: DuckEngine) -> None:
    async def whole() -> None:
        serving = Serving(lambda: duck, InlineWorkers(), ServingLimits())
        node = await make_node(coprocessor=serving)
        await filled(node, 10)
        (columns,) = serving.columns
        part = (CODEC.record_key(3), CODEC.record_key(7))
        dag = dag_over((0,))
        assert rows_of(await node.call("Coprocessor", request_of(dag, 30, part)), dag) == [(i,) for i in range(3, 7)]
        paged = request_of(dag, 30)
        paged.paging_size = 4
        await node.call("Coprocessor", paged)
        assert columns.stats()["builds"] == 0
        await node.call("Coprocessor", request_of(dag, 30))
        assert columns.stats()["builds"] == 1

    run_simulated(whole())


def test_an_answer_can_be_kept_by_the_client_while_nothing_newer_is_there(duck: DuckEngine) -> None:
    async def whole() -> None:
        node = await make_node(coprocessor=Serving(lambda: duck, InlineWorkers(), ServingLimits()))
        await filled(node, 10)
        dag = dag_over((0, 1))
        for _ in range(2):
            assert (await node.call("Coprocessor", request_of(dag, 30))).can_be_cached
        changed = records([a_row(4, 44, None)])
        assert not (await node.prewrite(40, changed)).errors
        assert not (await node.call("Coprocessor", request_of(dag, 39))).can_be_cached
        assert not (await node.commit(40, 50, *changed)).HasField("error")
        assert not (await node.call("Coprocessor", request_of(dag, 45))).can_be_cached
        later = await node.call("Coprocessor", request_of(dag, 55))
        assert later.can_be_cached
        assert rows_of(later, dag)[4] == (4, 44)

    run_simulated(whole())


def test_more_rows_than_are_worked_on_one_by_one(duck: DuckEngine) -> None:
    """DuckDB reads them by the names that scans give them."""
    n = Column(1, plans.TYPES[1])
    count = resolve_agg("count", (n,))

    async def whole() -> None:
        node = await make_node(coprocessor=Serving(lambda: duck, InlineWorkers(), ServingLimits()))
        await filled(node, 1500)
        even = Selection((resolve("eq", (resolve("mod", (n, Const(2, plans.TYPES[1]))), Const(0, plans.TYPES[1]))),))
        for steps in ((even,), (even, Aggregation((), (count,))), (Aggregation((), (count,)),)):
            dag = dag_over((0, 1, 6), *steps)
            found = rows_of(await node.call("Coprocessor", request_of(dag, 30)), dag)
            wanted = [(i, i, "x ") for i in range(0, 1500, 2)]
            assert found == (wanted if steps == (even,) else [(750,)] if even in steps else [(1500,)])

    run_simulated(whole())


def test_what_was_built_of_rows_that_went_is_not_kept(duck: DuckEngine) -> None:
    """A read that had leave before a range changed may build of what was there; nobody else is to see that."""

    async def whole() -> None:
        node = await make_node()
        columns = RegionColumns(1 << 20)
        columns.begin(node.store)
        await filled(node, 10)
        scan = dag_over((0,)).scan
        assert isinstance(scan, TableScan)

        def reader() -> RegionReader:
            return RegionReader(node.store.engine, 30, Isolation(), lambda: None)

        def ids(of: RegionReader, since: int) -> list[Any]:
            found = columns.scan(scan, CODEC.record_range, of, dt.UTC, since)
            assert found is not None
            return [i for piece in found for i in piece.batch.column(0).to_pylist()]

        early, since = reader(), columns.losses
        columns.on_range_changed(b"", b"")
        assert ids(early, since) == list(range(10))
        assert columns.stats()["segments"] <= 1
        assert columns.stats()["bytes"] == 0
        await node.store.delete_range(node.store.context(), CF_WRITE, *data_range(*CODEC.record_range))
        assert ids(reader(), columns.losses) == []

    run_simulated(whole())


def test_columns_of_a_clustered_key_that_no_request_names(duck: DuckEngine) -> None:
    """The key's second column is decoded though only the kind of the first is known."""
    columns = (ColumnSchema(1, "a", t.varchar(9), True), ColumnSchema(2, "b", t.INT, True), ColumnSchema(3, "v", t.INT))
    codec = TableCodec(TableSchema(81, "c", columns, -1, (IndexColumn(0), IndexColumn(1))))
    rows = [(f"k{i // 3} ", i, i * 10) for i in range(9)]

    async def whole() -> None:
        serving = Serving(lambda: duck, InlineWorkers(), ServingLimits())
        node = await make_node(coprocessor=serving)
        pairs = dict(codec.encode_record(one) for one in rows)
        assert not (await node.prewrite(10, pairs)).errors
        assert not (await node.commit(10, 20, *pairs)).HasField("error")
        for chosen in ((2,), (3, 2), (1, 3), (2, 1)):
            named = tuple(ScanColumn(i, columns[i - 1].type, i < 3) for i in chosen)
            scan = TableScan(81, named, primary_columns=(1, 2))
            dag = Dag(scan, (), tuple(range(len(chosen))), EncodeType.ARROW)
            for _ in range(2):
                response = await node.call("Coprocessor", request_of(dag, 30, codec.record_range))
                assert rows_of(response, dag) == [tuple(one[i - 1] for i in chosen) for one in rows]
        assert serving.columns[0].stats()["builds"] == 1

    run_simulated(whole())


def test_sums_beside_transfers_on_threads(duck: DuckEngine) -> None:
    """Every sum is of one timestamp, while rows move and requests are evaluated on threads."""
    count, amount = 400, 100
    total = resolve_agg("sum", (Column(1, plans.TYPES[1]),))
    dag = dag_over((0, 1), Aggregation((), (total,)))

    async def whole() -> None:
        serving = Serving(lambda: duck, ThreadWorkers(2), ServingLimits())
        node = await make_node(coprocessor=serving)
        pairs = records([a_row(i, amount, None) for i in range(count)])
        assert not (await node.prewrite(10, pairs)).errors
        assert not (await node.commit(10, 20, *pairs)).HasField("error")
        clock, stop = [100], [False]
        balance = dict.fromkeys(range(count), amount)

        def tick() -> int:
            clock[0] += 1
            return clock[0]

        async def transfer() -> None:
            rng = random.Random(5)
            while not stop[0]:
                one, other = rng.sample(range(count), 2)
                start_ts = tick()
                moved = {one: balance[one] - 7, other: balance[other] + 7}
                changed = records([a_row(i, n, None) for i, n in moved.items()])
                assert not (await node.prewrite(start_ts, changed)).errors
                assert not (await node.commit(start_ts, tick(), *changed)).HasField("error")
                balance.update(moved)
                await asyncio.sleep(0.001)  # the threads have to come to something too

        async def ask() -> int:
            seen = 0
            for _ in range(80):
                response = await node.call("Coprocessor", request_of(dag, tick()))
                if response.HasField("locked"):
                    await asyncio.sleep(0.001)
                    continue
                assert not response.other_error, response
                assert not response.HasField("region_error"), response
                ((found,),) = rows_of(response, dag)
                assert found == count * amount
                seen += 1
            return seen

        writing = asyncio.ensure_future(transfer())
        try:
            seen = await asyncio.gather(ask(), ask(), ask())
        finally:
            stop[0] = True
            await writing
        assert sum(seen) > 20
        assert serving.columns[0].stats()["patches"]
        serving._workers.close()

    asyncio.run(whole())
