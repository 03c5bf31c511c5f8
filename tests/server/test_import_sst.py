"""Service ImportSST: what it makes of rows and table files, what it refuses, and which files go by themselves."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import uuid
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kvstore.client.cluster.cluster import Cluster
from kvstore.codec import encode_bytes
from kvstore.engine.api import CF_DEFAULT, CF_WRITE
from kvstore.engine.rocks import RocksEngine
from kvstore.mvcc.keys import data_key, versioned
from kvstore.mvcc.point import decode_write
from kvstore.mvcc.record import WriteType
from kvstore.proto import import_sstpb_pb2 as pb
from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.proto.metapb_pb2 import RegionEpoch
from kvstore.proto.raft_cmdpb_pb2 import CmdType, IngestSSTRequest, Request
from kvstore.raftstore.imports import file_name
from kvstore.raftstore.store import RaftStore
from kvstore.rpc.api import Code, Method, RpcError, methods_of
from kvstore.rpc.grpc import GrpcTransport
from tests.server.cluster import one_store
from tests.server.simulated import Simulated, simulated

METHODS = methods_of(pb.DESCRIPTOR, "ImportSST")
LONG = b"x" * 300


def test_fields_have_kvprotos_numbers() -> None:
    meta = pb.SSTMeta(
        uuid=b"u",
        range=pb.Range(start=b"a", end=b"b"),
        crc32=3,
        length=4,
        cf_name="write",
        region_id=6,
        region_epoch=RegionEpoch(conf_ver=1, version=2),
        end_key_exclusive=True,
        total_kvs=9,
        total_bytes=10,
    )
    text = "0a017512060a01611201621803200 42a057772697465 3006 3a0408011002 4001 4809 500a".replace(" ", "")
    assert meta.SerializeToString().hex() == text
    pair = pb.Pair(key=b"k", value=b"v", op=pb.Pair.OP.Delete)
    batch = pb.WriteRequest(batch=pb.WriteBatch(commit_ts=7, pairs=[pair]))
    assert batch.SerializeToString().hex() == "120c080712080a016b1201761801"
    ingest = Request(cmd_type=CmdType.IngestSST, ingest_sst=IngestSSTRequest(sst=pb.SSTMeta(uuid=b"u")))
    assert ingest.SerializeToString().hex() == "08084a050a030a0175"
    multi = pb.MultiIngestRequest(context=Context(region_id=2), ssts=[pb.SSTMeta(uuid=b"u")])
    assert multi.SerializeToString().hex() == "0a02080212030a0175"
    assert METHODS["MultiIngest"].path == "/import_sstpb.ImportSST/MultiIngest"


Pairs = Sequence[tuple[bytes, bytes]]


class Peers:
    """The stores of a simulated cluster and its only region."""

    def __init__(self, cluster: Simulated) -> None:
        self.cluster = cluster
        self.transport = cluster.network.transport("loader")

    def stores(self) -> list[RaftStore]:
        return [store.node.store for store in self.cluster.stores if store.node.store is not None]

    def leader(self) -> RaftStore:
        return next(store for store in self.stores() for peer in store.peers.values() if peer.is_leader)

    def meta(self) -> pb.SSTMeta:
        region = self.leader().regions()[0]
        return pb.SSTMeta(uuid=uuid.uuid4().bytes, region_id=region.id, region_epoch=region.region_epoch)

    def context(self) -> Context:
        store = self.leader()
        peer = next(peer for peer in store.peers.values() if peer.is_leader)
        return Context(region_id=peer.region_id, region_epoch=peer.region.region_epoch, peer=peer.peer)

    def address(self, store: RaftStore) -> str:
        at = [other.store_id for other in self.stores()].index(store.store_id)
        return self.cluster.stores[at].node.config.address

    async def write(self, store: RaftStore, meta: pb.SSTMeta, *batches: pb.WriteBatch) -> pb.WriteResponse:
        messages = [pb.WriteRequest(meta=meta), *(pb.WriteRequest(batch=batch) for batch in batches)]
        answer = await call_stream(self.transport.channel(self.address(store)).stream, METHODS["Write"], messages)
        assert isinstance(answer, pb.WriteResponse)
        return answer

    async def write_all(self, meta: pb.SSTMeta, pairs: Pairs, commit_ts: int = 7) -> list[pb.SSTMeta]:
        answers = [await self.write(store, meta, batch_of(pairs, commit_ts)) for store in self.stores()]
        assert not any(answer.HasField("error") for answer in answers)
        assert all(answer.metas == answers[0].metas for answer in answers)
        return list(answers[0].metas)

    async def ingest(self, metas: Sequence[pb.SSTMeta], context: Context | None = None) -> pb.IngestResponse:
        request = pb.MultiIngestRequest(context=context or self.context(), ssts=metas)
        channel = self.transport.channel(self.address(self.leader()))
        answer = await channel.unary(METHODS["MultiIngest"], request, 30)
        assert isinstance(answer, pb.IngestResponse)
        return answer

    def files(self) -> list[int]:
        return [store.imports.count for store in self.stores()]


async def call_stream(stream_of: Callable[[Method], object], method: Method, messages: Sequence[object]) -> object:
    stream = stream_of(method)
    try:
        for message in messages:
            await stream.send(message)  # type: ignore[attr-defined]
        await stream.done_sending()  # type: ignore[attr-defined]
        return await stream.receive()  # type: ignore[attr-defined]
    finally:
        stream.cancel()  # type: ignore[attr-defined]


def batch_of(pairs: Pairs, commit_ts: int = 7) -> pb.WriteBatch:
    return pb.WriteBatch(commit_ts=commit_ts, pairs=[pb.Pair(key=key, value=value) for key, value in pairs])


def test_rows_become_records_of_committed_transactions() -> None:
    async def test(cluster: Simulated) -> None:
        peers = Peers(cluster)
        metas = await peers.write_all(peers.meta(), [(b"a", b"short"), (b"b", LONG)])
        assert [meta.cf_name for meta in metas] == [CF_DEFAULT, CF_WRITE]
        assert [meta.total_kvs for meta in metas] == [1, 2]
        assert metas[1].range.start.startswith(encode_bytes(b"a"))
        assert peers.files() == [2, 2, 2]
        assert peers.leader().imports.bytes > 300
        assert peers.leader().engine.is_empty(CF_WRITE)
        assert not (await peers.ingest(metas)).HasField("error")
        await asyncio.sleep(1)
        for store in peers.stores():
            record = store.engine.get(CF_WRITE, versioned(data_key(b"a"), 7))
            assert record is not None
            write = decode_write(record, b"")
            assert (write.type, write.start_ts, write.short_value) == (WriteType.PUT, 7, b"short")
            assert store.engine.get(CF_DEFAULT, versioned(data_key(b"b"), 7)) == LONG
            assert (store.imports.count, store.imports.bytes, store.counters.ingests) == (0, 0, 1)
            peer = store.peers[metas[0].region_id]
            assert peer.flow.since_check >= sum(meta.total_bytes for meta in metas)
        again = await peers.ingest(metas)
        assert "does not exist" in again.error.message

    simulated(test)


def test_a_deleted_row() -> None:
    async def test(cluster: Simulated) -> None:
        peers = Peers(cluster)
        pair = pb.Pair(key=b"a", op=pb.Pair.OP.Delete)
        answer = await peers.write(peers.leader(), peers.meta(), pb.WriteBatch(commit_ts=7, pairs=[pair]))
        assert not (await peers.ingest(answer.metas)).HasField("error")
        record = peers.leader().engine.get(CF_WRITE, versioned(data_key(b"a"), 7))
        assert record is not None
        assert decode_write(record, b"").type is WriteType.DELETE

    simulated(test, stores=1)


def test_what_is_no_stream_of_rows() -> None:
    async def test(cluster: Simulated) -> None:
        peers = Peers(cluster)
        store = peers.leader()
        malformed = [
            [batch_of([(b"b", b""), (b"a", b"")])],
            [batch_of([(b"b", b"")]), batch_of([(b"b", b"")])],
            [batch_of([(b"a", b"")], 0)],
            [batch_of([(b"a", b"")], 7), batch_of([(b"b", b"")], 8)],
            [batch_of([(b"k" * 9000, b"")])],
            [pb.WriteBatch(commit_ts=1, pairs=[pb.Pair(key=b"a", value=b"1", op=pb.Pair.OP.Delete)])],
        ]
        for batches in malformed:
            with pytest.raises(RpcError) as raised:
                await peers.write(store, peers.meta(), *batches)
            assert raised.value.code is Code.INVALID_ARGUMENT
        assert store.imports.bytes == store.imports.count == 0
        stale = peers.meta()
        stale.region_epoch.version += 1
        assert (await peers.write(store, stale)).error.store_error.HasField("epoch_not_match")
        stale.region_id += 1000
        assert (await peers.write(store, stale)).error.store_error.HasField("region_not_found")
        meta = peers.meta()
        await peers.write(store, meta, batch_of([(b"a", b"")]))
        assert "exists already" in (await peers.write(store, meta)).error.message

    simulated(test, stores=1)


def test_over_its_limits_a_store_takes_no_files() -> None:
    async def test(cluster: Simulated) -> None:
        peers = Peers(cluster)
        store = peers.leader()
        store.config = dataclasses.replace(store.config, import_bytes_max=1000)
        assert (await peers.write(store, peers.meta(), batch_of([(b"a", LONG)]))).metas
        answer = await peers.write(store, peers.meta(), batch_of([(b"a", LONG * 4)]))
        assert answer.error.store_error.HasField("server_is_busy")
        held = store.imports.bytes
        store.disk_full = True
        answer = await peers.write(store, peers.meta(), batch_of([(b"a", b"")]))
        assert answer.error.store_error.HasField("disk_full")
        assert store.imports.bytes == held

    simulated(test, stores=1)


def test_files_go_when_the_regions_epoch_moves_on() -> None:
    async def test(cluster: Simulated) -> None:
        peers = Peers(cluster)
        metas = await peers.write_all(peers.meta(), [(b"a", b"1"), (b"z", b"2")])
        await cluster.client.split([b"m"])
        refused = await peers.ingest(metas, peers.context())
        assert refused.error.HasField("epoch_not_match")
        assert peers.files() == [1, 1, 1]
        await asyncio.sleep(25)
        assert peers.files() == [0, 0, 0]

    simulated(test)


def test_old_files_are_not_ingested_and_go() -> None:
    async def test(cluster: Simulated) -> None:
        peers = Peers(cluster)
        for store in peers.stores():
            store.config = dataclasses.replace(store.config, import_keep_s=100.0)
        metas = await peers.write_all(peers.meta(), [(b"a", b"1")])
        await asyncio.sleep(60)
        assert peers.files() == [1, 1, 1]
        assert "too old" in (await peers.ingest(metas)).error.message
        await asyncio.sleep(100)
        assert peers.files() == [0, 0, 0]

    simulated(test)


def test_a_client_that_falls_silent_leaves_nothing() -> None:
    async def test(cluster: Simulated) -> None:
        peers = Peers(cluster)
        store = peers.leader()
        stream = peers.transport.channel(peers.address(store)).stream(METHODS["Write"])
        await stream.send(pb.WriteRequest(meta=peers.meta()))
        await stream.send(pb.WriteRequest(batch=batch_of([(b"a", LONG)])))
        await asyncio.sleep(1)
        assert store.imports.bytes > 300
        await asyncio.sleep(100)
        assert store.imports.bytes == store.imports.count == 0

    simulated(test, stores=1)


def test_the_mode_is_remembered() -> None:
    async def test(cluster: Simulated) -> None:
        peers = Peers(cluster)
        channel = peers.transport.channel(peers.address(peers.leader()))
        request = pb.SwitchModeRequest(mode=pb.SwitchMode.Import)
        assert await channel.unary(METHODS["SwitchMode"], request, 5) == pb.SwitchModeResponse()
        answer = await channel.unary(METHODS["GetMode"], pb.GetModeRequest(), 5)
        assert answer.mode == pb.SwitchMode.Import

    simulated(test, stores=1)


def test_an_uploaded_table_file_is_checked_and_ingested(tmp_path: Path) -> None:
    async def main() -> None:
        engine, other = RocksEngine(str(tmp_path / "db")), RocksEngine(str(tmp_path / "other"))
        keys = [versioned(data_key(b"k%03d" % n), 9) for n in range(50)]
        writer = other.sorted_file(CF_WRITE, str(tmp_path / "one.sst"))
        writer.put_all(keys, [b"P\x08v\x01%d" % (n % 10) for n in range(50)])
        writer.finish()
        data = (tmp_path / "one.sst").read_bytes()
        transport = GrpcTransport()
        try:
            async with one_store(engine) as served:
                store = served.node.store
                assert store is not None
                channel = transport.channel(served.node.config.address)
                while not any(peer.is_leader for peer in store.peers.values()):
                    await asyncio.sleep(0.02)
                (peer,) = store.peers.values()
                meta = pb.SSTMeta(
                    uuid=random.Random(1).randbytes(16),
                    range=pb.Range(start=keys[0][1:], end=keys[-1][1:]),
                    crc32=zlib.crc32(data),
                    length=len(data),
                    cf_name=CF_WRITE,
                    region_id=peer.region_id,
                    region_epoch=peer.region.region_epoch,
                )

                async def upload(meta: pb.SSTMeta, data: bytes) -> object:
                    pieces = [pb.UploadRequest(data=data[at : at + 500]) for at in range(0, len(data), 500)]
                    messages = [pb.UploadRequest(meta=meta), *pieces]
                    return await call_stream(channel.stream, METHODS["Upload"], messages)

                for spoiled in (data[:-1], data[:-1] + b"\0", b"not a table file"):
                    wrong = pb.SSTMeta.FromString(meta.SerializeToString())
                    if spoiled.startswith(b"not"):
                        wrong.length, wrong.crc32 = len(spoiled), zlib.crc32(spoiled)
                    with pytest.raises(RpcError) as raised:
                        await upload(wrong, spoiled)
                    assert raised.value.code is Code.INVALID_ARGUMENT
                assert await upload(meta, data) == pb.UploadResponse()
                assert list(engine.staged.sizes()) == [file_name(meta)]
                context = Context(region_id=peer.region_id, region_epoch=peer.region.region_epoch, peer=peer.peer)
                request = pb.IngestRequest(context=context, sst=meta)
                answer = await channel.unary(METHODS["Ingest"], request, 10)
                assert not answer.HasField("error"), answer
                async with await Cluster.connect(
                    [served.pd_address], transport=transport, rng=random.Random(0)
                ) as client:
                    found = [pair async for pair in client.snapshot(await client.now_ts()).scan(b"k", b"l")]
                assert found == [(b"k%03d" % n, b"%d" % (n % 10)) for n in range(50)]
                for _ in range(100):
                    if not store.imports.count:
                        break
                    await asyncio.sleep(0.05)
                assert engine.staged.sizes() == {}
        finally:
            await transport.close()
            engine.close()
            other.close()

    asyncio.run(main())
