"""Service import_sstpb.ImportSST: rows and table files that become sorted files of a region, and taking those over.

    Write    meta ► batches of rows at one commit_ts ► records of committed transactions ─┐
    Upload   meta ► the bytes of a table file ► crc32, bounds ───────────────────────────┴► kept (durable) ► answer
    Ingest, MultiIngest   the region's leader ► RaftStore.ingest

What `raftstore.imports` promises is all there is: no lock, latch or conflict is looked at, and no reader is waited for.
Who ingests has to know that nobody writes in the range, and that nobody reads there at or above commit_ts before all of
it is in.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

from kvstore.engine.api import CF_DEFAULT, CF_WRITE, FileReceiver, SortedFileWriter
from kvstore.errors import Corruption, DiskFull, StoreError
from kvstore.failpoint import fail_point_async
from kvstore.mvcc.bulk import BulkEncoder
from kvstore.mvcc.keys import DATA_PREFIX
from kvstore.proto import import_sstpb_pb2 as pb
from kvstore.proto.metapb_pb2 import Region
from kvstore.raftstore import checks
from kvstore.raftstore.api import RegionError
from kvstore.raftstore.imports import file_name
from kvstore.raftstore.store import RaftStore
from kvstore.rpc.api import Call, Code, Handlers, RpcError, StreamHandler, UnaryHandler, methods_of
from kvstore.server.limits import KEY_BYTES_MAX

METHODS = methods_of(pb.DESCRIPTOR, "ImportSST")
IDLE_S = 60.0
"""A stream on which nothing comes for so long is given up, with its files."""
STREAMS_MAX = 64
"""Files that are being written at the same time; more streams are refused: ServerIsBusy."""


class ImportService:
    """See the module. `raw_ttl`: the store holds expiring raw values, and takes no rows of transactions."""

    def __init__(self, store: RaftStore, *, raw_ttl: bool = False) -> None:
        self._store = store
        self._raw_ttl = raw_ttl
        self._mode = pb.SwitchMode.Normal
        self.streams = 0

    def handlers(self) -> Handlers:
        unary: dict[str, UnaryHandler] = {
            "SwitchMode": self.switch_mode,
            "GetMode": self.get_mode,
            "Ingest": self.ingest,
            "MultiIngest": self.multi_ingest,
        }
        streams: dict[str, StreamHandler] = {"Write": self.write, "Upload": self.upload}
        return Handlers(
            {METHODS[name].path: (METHODS[name], handler) for name, handler in unary.items()},
            {METHODS[name].path: (METHODS[name], handler) for name, handler in streams.items()},
        )

    async def switch_mode(self, request: pb.SwitchModeRequest, call: Call) -> pb.SwitchModeResponse:
        """Remembered for GetMode: this engine has nothing to tune for a load."""
        self._mode = request.mode
        return pb.SwitchModeResponse()

    async def get_mode(self, request: pb.GetModeRequest, call: Call) -> pb.GetModeResponse:
        return pb.GetModeResponse(mode=self._mode)

    async def ingest(self, request: pb.IngestRequest, call: Call) -> pb.IngestResponse:
        """One file; see `multi_ingest`."""
        return await self.multi_ingest(pb.MultiIngestRequest(context=request.context, ssts=[request.sst]), call)

    async def multi_ingest(self, request: pb.MultiIngestRequest, call: Call) -> pb.IngestResponse:
        """Files of one region, all or none; answered when this store, which leads it, has taken them over."""
        try:
            await fail_point_async("import::before_ingest")
            await self._store.ingest(request.context, request.ssts)
        except RegionError as error:
            return pb.IngestResponse(error=error.error)
        return pb.IngestResponse()

    async def write(self, requests: AsyncIterator[Any], call: Call) -> AsyncIterator[pb.WriteResponse]:
        """Rows of one region, ascending, into a file a family; the answer has their metas. RpcError when malformed."""
        try:
            yield pb.WriteResponse(metas=await self._write(_patient(requests)))
        except RegionError as error:
            yield pb.WriteResponse(error=pb.Error(message=str(error), store_error=error.error))

    async def _write(self, requests: AsyncIterator[Any]) -> list[pb.SSTMeta]:
        meta = await _first_meta(requests)
        if self._raw_ttl:
            raise RpcError(Code.FAILED_PRECONDITION, "this store holds expiring raw values; it takes no transactions")
        if meta.cf_name:
            raise RpcError(Code.INVALID_ARGUMENT, "rows of transactions are not of one family")
        rows = _Rows(self._store, meta, self._begin(meta))
        try:
            async for request in requests:
                if request.WhichOneof("chunk") != "batch":
                    raise RpcError(Code.INVALID_ARGUMENT, "a meta stands only at the beginning")
                rows.add(request.batch)
            metas = rows.finish()
            await self._keep(metas)
            return metas
        except DiskFull as error:
            raise checks.disk_full(self._store.store_id, str(error)) from error
        finally:
            rows.leave()
            self._end(meta, rows.reserved)

    async def upload(self, requests: AsyncIterator[Any], call: Call) -> AsyncIterator[pb.UploadResponse]:
        """A table file of one family whose keys are data keys (with `z`). RpcError when it is refused."""
        try:
            await self._upload(_patient(requests))
        except RegionError as error:
            busy = error.error.HasField("server_is_busy") or error.error.HasField("disk_full")
            raise RpcError(Code.RESOURCE_EXHAUSTED if busy else Code.FAILED_PRECONDITION, str(error)) from error
        yield pb.UploadResponse()

    async def _upload(self, requests: AsyncIterator[Any]) -> None:
        meta, staged = await _first_meta(requests), self._store.engine.staged
        if meta.cf_name not in (CF_DEFAULT, CF_WRITE):
            raise RpcError(Code.INVALID_ARGUMENT, f"files of family {meta.cf_name!r} are not ingested")
        region, name, reserved = self._begin(meta), file_name(meta), 0
        receiver: FileReceiver | None = None
        kept = False
        try:
            crc = 0
            try:
                receiver = staged.receive(name)
            except StoreError as error:
                raise RpcError(Code.UNIMPLEMENTED, str(error)) from error
            async for request in requests:
                if request.WhichOneof("chunk") != "data":
                    raise RpcError(Code.INVALID_ARGUMENT, "a meta stands only at the beginning")
                self._store.imports.reserve(len(request.data))
                reserved += len(request.data)
                crc = zlib.crc32(request.data, crc)
                receiver.write(request.data)
            receiver.finish()
            if reserved != meta.length or crc != meta.crc32:
                raise RpcError(
                    Code.INVALID_ARGUMENT,
                    f"got {reserved} bytes with crc32 {crc}, the meta says {meta.length} and {meta.crc32}",
                )
            first, last = await self._in_thread(lambda: staged.bounds(meta.cf_name, name))
            for key in (first, last):
                if not key.startswith(DATA_PREFIX) or not checks.in_region(region, key[len(DATA_PREFIX) :]):
                    raise RpcError(Code.INVALID_ARGUMENT, f"key {key.hex()} is outside of region {region.id}")
            await self._keep([meta])
            kept = True
        except DiskFull as error:
            raise checks.disk_full(self._store.store_id, str(error)) from error
        except Corruption as error:
            raise RpcError(Code.INVALID_ARGUMENT, str(error)) from error
        finally:
            if receiver is not None and not kept:
                receiver.finish()
                staged.remove(name)
            self._end(meta, reserved)

    def _begin(self, meta: pb.SSTMeta) -> Region:
        if self.streams >= STREAMS_MAX:
            raise checks.server_is_busy("too many files are being written", self._store.config.busy_backoff_ms)
        region = self._store.imports.begin(meta)
        self.streams += 1
        return region

    def _end(self, meta: pb.SSTMeta, reserved: int) -> None:
        self.streams -= 1
        self._store.imports.end(meta, reserved)

    async def _keep(self, metas: list[pb.SSTMeta]) -> None:
        await fail_point_async("import::before_keep")
        staged = self._store.engine.staged
        names = [file_name(meta) for meta in metas]
        await self._in_thread(lambda: staged.keep(names))
        self._store.imports.keep(metas)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        """Runs what waits for a disk beside the loop; an engine in memory has none."""
        if self._store.engine.path is None:
            return work()
        working = asyncio.get_running_loop().run_in_executor(None, work)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.wait([working])  # files are removed behind it, not under it
            raise


_DELETE = int(pb.Pair.OP.Delete)  # looked up once: to ask protobuf for each row takes longer than the row


class _Rows:
    """The files of one Write."""

    def __init__(self, store: RaftStore, meta: pb.SSTMeta, region: Region) -> None:
        self._store = store
        self._region = region
        self._metas: dict[str, pb.SSTMeta] = {}
        for cf in (CF_DEFAULT, CF_WRITE):
            own = self._metas[cf] = pb.SSTMeta()
            own.CopyFrom(meta)
            own.cf_name, own.end_key_exclusive, own.total_kvs, own.total_bytes = cf, False, 0, 0
        self._writers: dict[str, SortedFileWriter] = {}
        self._encoder: BulkEncoder | None = None
        self._commit_ts = 0
        self._last = b""
        self.reserved = 0

    def add(self, batch: pb.WriteBatch) -> None:
        """Raises RegionError over a limit, RpcError for rows that are not in order or not of the region."""
        if not batch.pairs:
            return
        if self._encoder is None:
            self._encoder, self._commit_ts = BulkEncoder(batch.commit_ts, batch.commit_ts), batch.commit_ts
        if not batch.commit_ts or batch.commit_ts != self._commit_ts:
            raise RpcError(Code.INVALID_ARGUMENT, f"commit_ts {batch.commit_ts} after {self._commit_ts}")
        self._store.imports.reserve(size := batch.ByteSize())
        self.reserved += size
        keys = [pair.key for pair in batch.pairs]
        if max(map(len, keys)) > KEY_BYTES_MAX:
            raise RpcError(Code.INVALID_ARGUMENT, f"a key is longer than {KEY_BYTES_MAX} bytes")
        if (self._last and keys[0] <= self._last) or any(a >= b for a, b in pairwise(keys)):
            raise RpcError(Code.INVALID_ARGUMENT, "keys do not ascend")
        self._last = keys[-1]
        encoded = self._encoder.encode(keys, [pair.value for pair in batch.pairs])
        records = encoded.records
        for at in [at for at, pair in enumerate(batch.pairs) if pair.op == _DELETE]:
            if batch.pairs[at].value:
                raise RpcError(Code.INVALID_ARGUMENT, "a deleted key has a value")
            records[at] = self._encoder.delete_record
        self._put(CF_DEFAULT, encoded.long_keys, encoded.long_values)
        self._put(CF_WRITE, encoded.keys, records)

    def _put(self, cf: str, keys: list[bytes], values: list[bytes]) -> None:
        if not keys:
            return
        meta = self._metas[cf]
        first, last = keys[0][len(DATA_PREFIX) :], keys[-1][len(DATA_PREFIX) :]
        for key in (first, last):
            if not checks.in_region(self._region, key):
                raise RpcError(Code.INVALID_ARGUMENT, f"key {key.hex()} is outside of region {self._region.id}")
        writer = self._writers.get(cf)
        if writer is None:
            writer = self._writers[cf] = self._store.engine.staged.writer(cf, file_name(meta))
            meta.range.start = first
        writer.put_all(keys, values)
        meta.range.end = last
        meta.total_kvs += len(keys)
        meta.total_bytes += sum(map(len, keys)) + sum(map(len, values))

    def finish(self) -> list[pb.SSTMeta]:
        for writer in self._writers.values():
            writer.finish()
        return [self._metas[cf] for cf in self._writers]

    def leave(self) -> None:
        """Drops the files, unless they are kept."""
        for cf in self._writers:
            name = file_name(self._metas[cf])
            if not self._store.imports.has(name):
                self._store.engine.staged.remove(name)


async def _first_meta(requests: AsyncIterator[Any]) -> pb.SSTMeta:
    async for request in requests:
        if request.WhichOneof("chunk") == "meta":
            meta: pb.SSTMeta = request.meta
            return meta
        break
    raise RpcError(Code.INVALID_ARGUMENT, "a stream begins with a meta")


async def _patient(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The requests of a stream whose client does not fall silent."""
    source = aiter(requests)
    while True:
        try:
            async with asyncio.timeout(IDLE_S):
                request = await anext(source)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise RpcError(Code.DEADLINE_EXCEEDED, f"nothing came for {IDLE_S:.0f} s") from None
        yield request
