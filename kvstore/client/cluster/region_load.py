"""One part of a bulk load: rows of one region, written to files on every store of it and ingested by its leader.

Every peer needs the files, learners too: the command that takes them over is applied by all. So a store that is away
holds its regions up until it is back or its peers are elsewhere. Whatever goes wrong, the part is begun anew with new
files; what an attempt left behind is the stores' to remove. The rows and their timestamp are the same each time, so an
attempt whose answer was lost does no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from kvstore.client.cluster import commands
from kvstore.client.cluster.backoff import REGION_MISS, RPC, Backoff
from kvstore.client.cluster.errors import RefusedRequest
from kvstore.client.cluster.fan_out import gather_all
from kvstore.client.cluster.parts import Parts
from kvstore.client.cluster.regions import CachedRegion
from kvstore.client.cluster.runs import Row, RowFile
from kvstore.client.cluster.sender import FINAL_CODES, RegionChanged
from kvstore.codec import encode_bytes
from kvstore.proto import import_sstpb_pb2 as pb
from kvstore.proto.metapb_pb2 import Peer
from kvstore.rpc.api import Code, RpcError, Stream

BATCH_BYTES = 256 << 10
BATCH_ROWS = 2048
WRITE_TIMEOUT_S = 120.0
"""How long writing a part may take, up to the stores' answers; what is older is not ingested by any store."""
INGEST_TIMEOUT_S = 60.0


class RegionLoad:
    """Loads parts of a file at one commit_ts."""

    def __init__(self, parts: Parts, rows: RowFile, commit_ts: int, part_bytes: int) -> None:
        self._parts = parts
        self._rows = rows
        self._commit_ts = commit_ts
        self._part_bytes = part_bytes

    async def load(self, backoff: Backoff, low: bytes, high: bytes) -> tuple[bytes, int]:
        """Loads rows from `low` on, at most to `high` and to the end of the region.

        Returns where to go on (`high` when nothing is left) and how many rows went. Raises RegionChanged when it is to
        be tried again (all waiting is done), ClusterError, PdError.
        """
        region = await self._parts.regions.locate(backoff, low)
        end = region.end if region.end and (not high or region.end < high) else high
        part = _Part(self._rows.read(low, end), self._part_bytes)
        metas = await self._write(backoff, region, low, part)
        if metas:
            request = pb.MultiIngestRequest(ssts=metas)
            await self._parts.sender.send(backoff, commands.MULTI_INGEST, request, region, timeout_s=INGEST_TIMEOUT_S)
        return (end if part.next_key is None else part.next_key), part.rows

    async def _write(self, backoff: Backoff, region: CachedRegion, low: bytes, part: _Part) -> list[pb.SSTMeta]:
        """Writes a part to every peer; returns the metas of the files, the same for all."""
        meta = pb.SSTMeta(
            uuid=self._parts.rng.randbytes(16),
            region_id=region.id,
            region_epoch=region.epoch,
            range=pb.Range(start=encode_bytes(low), end=encode_bytes(low)),
        )
        streams: list[tuple[Peer, Stream]] = []
        failed: Peer | None = None
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                for peer in region.meta.peers:
                    failed = peer
                    streams.append((peer, await self._open(backoff, region, peer)))
                failed = None
                await self._send(streams, pb.WriteRequest(meta=meta))
                for batch in part:
                    pairs = [pb.Pair(key=key, value=value) for key, value in batch]
                    message = pb.WriteRequest(batch=pb.WriteBatch(commit_ts=self._commit_ts, pairs=pairs))
                    await self._send(streams, message)
                answers = await gather_all([_answer(stream) for _, stream in streams])
        except TimeoutError:
            self._parts.regions.drop(region)
            await backoff.wait(RPC, f"region {region.id}: its stores did not take the rows in {WRITE_TIMEOUT_S:.0f} s")
            raise RegionChanged from None
        except RpcError as error:
            await self._on_rpc_error(backoff, region, failed, error)
            raise RegionChanged from None
        finally:
            for _, stream in streams:
                stream.cancel()
        for (peer, _), answer in zip(streams, answers, strict=True):
            if answer.HasField("error"):
                await self._on_error(backoff, region, peer, answer.error)
        return list(answers[0].metas)

    async def _open(self, backoff: Backoff, region: CachedRegion, peer: Peer) -> Stream:
        address = await self._parts.regions.store_address(peer.store_id)
        if address is None:
            self._parts.regions.drop(region)
            await backoff.wait(REGION_MISS, f"store {peer.store_id} is gone")
            raise RegionChanged
        return self._parts.sender.stream_to_store(commands.IMPORT_WRITE, address)

    async def _send(self, streams: list[tuple[Peer, Stream]], message: pb.WriteRequest) -> None:
        await gather_all([stream.send(message) for _, stream in streams])

    async def _on_rpc_error(self, backoff: Backoff, region: CachedRegion, peer: Peer | None, error: RpcError) -> None:
        if error.code in FINAL_CODES and error.code is not Code.RESOURCE_EXHAUSTED:
            raise RefusedRequest(f"rows for region {region.id}: {error}") from error
        for member in [peer] if peer is not None else region.meta.peers:
            self._parts.regions.forget_store(member.store_id)  # it may have moved
        self._parts.regions.drop(region)
        await backoff.wait(RPC, f"region {region.id}: {error}")

    async def _on_error(self, backoff: Backoff, region: CachedRegion, peer: Peer, error: pb.Error) -> None:
        """Waits as the store's error asks; raises RegionChanged, as the part has to be written anew."""
        if not error.HasField("store_error"):
            raise RefusedRequest(f"rows for region {region.id} at store {peer.store_id}: {error.message}")
        await self._parts.sender.on_region_error(backoff, region, peer, error.store_error)
        raise RegionChanged


class _Part:
    """Batches of rows up to a size; what was not taken begins at `next_key`."""

    def __init__(self, rows: Iterator[Row], bytes_max: int) -> None:
        self._source = rows
        self._bytes_max = bytes_max
        self.rows = 0
        self.next_key: bytes | None = None

    def __iter__(self) -> Iterator[list[Row]]:
        batch: list[Row] = []
        batch_bytes = total = 0
        for key, value in self._source:
            if total >= self._bytes_max:
                self.next_key = key
                break
            batch.append((key, value))
            batch_bytes += len(key) + len(value)
            total += len(key) + len(value)
            if batch_bytes >= BATCH_BYTES or len(batch) >= BATCH_ROWS:
                self.rows += len(batch)
                yield batch
                batch, batch_bytes = [], 0
        if batch:
            self.rows += len(batch)
            yield batch


async def _answer(stream: Stream) -> pb.WriteResponse:
    await stream.done_sending()
    answer = await stream.receive()
    if answer is None:
        raise RpcError(Code.UNAVAILABLE, "the store ended the stream without an answer")
    assert isinstance(answer, pb.WriteResponse), answer
    return answer
