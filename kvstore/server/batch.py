"""BatchCommands: many requests on one stream, answered in any order, in as few messages as they allow.

What can be answered at once is; plain raw puts and deletes of one message for the same region travel as one write;
everything else is a task of its own. Answers that come in the same turn of the loop go out in one message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.proto.tikvpb_pb2 import BatchCommandsEmptyResponse, BatchCommandsRequest, BatchCommandsResponse
from kvstore.raftstore.api import Entry, RegionStore
from kvstore.rpc.api import Call, RpcError
from kvstore.server.endpoints import KNOWN_ERRORS, Endpoint
from kvstore.server.errors import Refused
from kvstore.server.limits import BATCH_RESPONSES_MAX, JOINED_WRITE_BYTES_MAX
from kvstore.server.raw import Raw

if TYPE_CHECKING:
    from kvstore.server.service import Service

MESSAGE_BYTES_SOFT_MAX = 16 << 20
"""A message of answers is sent when it has so many bytes."""

_log = logging.getLogger(__name__)
_ENDPOINTS = {
    "Get": "KvGet",
    "Scan": "KvScan",
    "Prewrite": "KvPrewrite",
    "Commit": "KvCommit",
    "Cleanup": "KvCleanup",
    "BatchGet": "KvBatchGet",
    "BatchRollback": "KvBatchRollback",
    "ScanLock": "KvScanLock",
    "ResolveLock": "KvResolveLock",
    "GC": "KvGC",
    "DeleteRange": "KvDeleteRange",
    "PessimisticLock": "KvPessimisticLock",
    "PessimisticRollback": "KVPessimisticRollback",
    "CheckTxnStatus": "KvCheckTxnStatus",
    "TxnHeartBeat": "KvTxnHeartBeat",
    "CheckSecondaryLocks": "KvCheckSecondaryLocks",
}
"""Members of a batched request whose call has another name."""
_PUT_DONE = BatchCommandsResponse.Response(RawPut=pb.RawPutResponse())
_DELETE_DONE = BatchCommandsResponse.Response(RawDelete=pb.RawDeleteResponse())


class Outbox:
    """Answers of one stream that wait to be sent."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._responses: list[BatchCommandsResponse.Response] = []
        self._arrived = asyncio.Event()
        self.expected = 0
        """Requests that have no answer here yet."""
        self.ended = False
        self._feedback: pb.HealthFeedback | None = None

    def answer(self, request_id: int, name: str, response: Any) -> None:
        if name == "GetHealthFeedback" and response.HasField("health_feedback"):
            # clients look for it beside the answers (TiKV's `HealthFeedbackAttacher`)
            self._feedback = response.health_feedback
        self.put(request_id, BatchCommandsResponse.Response(**{name: response}))

    def put(self, request_id: int, response: BatchCommandsResponse.Response) -> None:
        self._ids.append(request_id)
        self._responses.append(response)
        self.expected -= 1
        self._arrived.set()

    def end(self) -> None:
        """No more requests will come."""
        self.ended = True
        self._arrived.set()

    async def take(self) -> BatchCommandsResponse | None:
        """The next message; None when the stream is over."""
        while not self._ids:
            if self.ended and not self.expected:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        count = self._count()
        message = BatchCommandsResponse(
            request_ids=self._ids[:count], responses=self._responses[:count], health_feedback=self._feedback
        )
        self._feedback = None
        del self._ids[:count], self._responses[:count]
        return message

    def _count(self) -> int:
        """How many answers fit in one message."""
        size = 0
        for count, response in enumerate(self._responses[:BATCH_RESPONSES_MAX]):
            size += response.ByteSize()
            if size > MESSAGE_BYTES_SOFT_MAX and count:
                return count
        return min(len(self._responses), BATCH_RESPONSES_MAX)


class _Joined:
    """Plain writes to one region that travel together."""

    def __init__(self, context: pb.Context) -> None:
        self.context = context
        self.entries: list[Entry] = []
        self.done: list[tuple[int, str, BatchCommandsResponse.Response]] = []
        self.bytes = 0


class BatchCommands:
    """The handler of the stream."""

    def __init__(self, store: RegionStore, raw: Raw, endpoints: Mapping[str, Endpoint], service: Service) -> None:
        self._store = store
        self._service = service
        self._table: dict[str, Endpoint] = {}
        for field in BatchCommandsRequest.Request.DESCRIPTOR.oneofs_by_name["cmd"].fields:
            endpoint = endpoints.get(_ENDPOINTS.get(field.name, field.name))
            if endpoint is not None:
                self._table[field.name] = endpoint
        self._entry_of: dict[str, Callable[[Any], Entry]] = {"RawPut": raw.put_entry, "RawDelete": raw.delete_entry}

    async def handle(self, requests: AsyncIterator[Any], call: Call) -> AsyncIterator[BatchCommandsResponse]:
        outbox = Outbox()
        reader = asyncio.ensure_future(self._read(requests, outbox))
        try:
            while (message := await outbox.take()) is not None:
                yield message
            await reader
        finally:
            reader.cancel()

    async def _read(self, requests: AsyncIterator[BatchCommandsRequest], outbox: Outbox) -> None:
        try:
            async for message in requests:
                self._accept(message, outbox)
        finally:
            outbox.end()

    def _accept(self, message: BatchCommandsRequest, outbox: Outbox) -> None:
        joined: dict[bytes, _Joined] = {}
        outbox.expected += min(len(message.requests), len(message.request_ids))
        for request_id, request in zip(message.request_ids, message.requests, strict=False):
            name = request.WhichOneof("cmd")
            if name is not None and name in self._entry_of:
                body = getattr(request, name)
                if not body.for_cas:
                    self._join(joined, outbox, request_id, name, body)
                    continue
            endpoint = self._table.get(name) if name is not None else None
            if name is None or endpoint is None:
                empty = BatchCommandsEmptyResponse(test_id=request.Empty.test_id)
                outbox.put(request_id, BatchCommandsResponse.Response(Empty=empty))
                continue
            body = getattr(request, name)
            try:
                response = self._service.answer_now(endpoint, body)
            except RpcError as error:
                response = self._service.failure(endpoint.response, Refused(error.message))
            except Exception as error:  # noqa: BLE001 one request's bug is not the stream's end
                response = self._bug(endpoint, error)
            if response is not None:
                outbox.answer(request_id, name, response)
            else:
                self._service.spawn(self._later(outbox, request_id, name, endpoint, body))
        for writes in joined.values():
            self._service.spawn(self._write(writes, outbox))

    async def _later(self, outbox: Outbox, request_id: int, name: str, endpoint: Endpoint, body: Any) -> None:
        try:
            response = await self._service.answer_later(endpoint, body)
        except Exception as error:  # noqa: BLE001 one request's bug is not the stream's end
            response = self._bug(endpoint, error)
        outbox.answer(request_id, name, response)

    def _bug(self, endpoint: Endpoint, error: Exception) -> Any:
        """The answer to a request that met a bug."""
        _log.error("%s failed", endpoint.name, exc_info=error)
        return self._service.failure(endpoint.response, Refused(f"internal error: {type(error).__name__}: {error}"))

    # -- plain raw writes

    def _join(self, joined: dict[bytes, _Joined], outbox: Outbox, request_id: int, name: str, body: Any) -> None:
        self._service.counts[name] += 1
        try:
            entry = self._entry_of[name](body)
        except KNOWN_ERRORS as error:
            outbox.put(request_id, self._refusal(name, error))
            return
        context = body.context
        to = context.SerializeToString()
        writes = joined.get(to)
        if writes is None:
            writes = joined[to] = _Joined(context)
        writes.entries.append(entry)
        writes.done.append((request_id, name, _PUT_DONE if name == "RawPut" else _DELETE_DONE))
        writes.bytes += len(entry[1]) + len(entry[2] or b"")
        if writes.bytes > JOINED_WRITE_BYTES_MAX:
            self._service.spawn(self._write(joined.pop(to), outbox))

    async def _write(self, writes: _Joined, outbox: Outbox) -> None:
        try:
            await self._store.write(writes.context, writes.entries)
        except KNOWN_ERRORS as error:
            for request_id, name, _ in writes.done:
                outbox.put(request_id, self._refusal(name, error))
            return
        for request_id, _, response in writes.done:
            outbox.put(request_id, response)

    def _refusal(self, name: str, error: Exception) -> BatchCommandsResponse.Response:
        kind = pb.RawPutResponse if name == "RawPut" else pb.RawDeleteResponse
        response = self._service.failure(kind, error)
        return BatchCommandsResponse.Response(**{name: response})
