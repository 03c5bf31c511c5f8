"""Timestamps in batches: all callers that wait while one request is under way share the next one (as client-go does).

A timestamp is drawn after it was asked for: a caller joins only requests sent after its call. What a broken stream may
have answered is never handed out; its callers go into the next request.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable

from kvstore.client.api import LOGICAL_BITS as LOGICAL_BITS
from kvstore.client.cluster.backoff import PD, PD_BUDGET_MS, Backoff
from kvstore.client.cluster.errors import ClusterMismatch, PdUnavailable
from kvstore.errors import PdError
from kvstore.failpoint import fail_point_async
from kvstore.proto.pdpb_pb2 import RequestHeader, TsoRequest, TsoResponse
from kvstore.rpc.api import Code, RpcError, Stream

BATCH_MAX = 10_000
"""Timestamps in one request."""
TSO_TIMEOUT_S = 3.0
"""How long the answer to one request may take before the stream is given up."""

OpenStream = Callable[[], Awaitable[tuple[Stream, RequestHeader]]]
LeaderLost = Callable[[], Awaitable[None]]


class Timestamps:
    """Hands out timestamps, each greater than every one before it, from one stream at a time."""

    def __init__(self, open_stream: OpenStream, leader_lost: LeaderLost, rng: random.Random) -> None:
        self._open_stream = open_stream
        self._leader_lost = leader_lost
        self._rng = rng
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._idle: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._stream: Stream | None = None
        self._header = RequestHeader()
        self._last = 0
        self._last_at = 0.0
        self._closed = False
        self.requests = 0
        """How many requests were sent."""

    def about_now_ms(self) -> float:
        """About the physical part of a timestamp drawn now: the last one's and what has passed since; 0 if none was."""
        if not self._last:
            return 0
        return (self._last >> LOGICAL_BITS) + (asyncio.get_running_loop().time() - self._last_at) * 1000

    async def get(self) -> int:
        """The next timestamp. Raises PdUnavailable, PdError, ClusterMismatch."""
        if self._closed:
            raise PdUnavailable("the client is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        self._waiting.append(future)
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())
        elif self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        return await future

    async def close(self) -> None:
        """Fails who still waits."""
        self._closed = True
        self._drop_stream()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._fail(PdUnavailable("the client is closed"))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                while not self._waiting:
                    self._idle = loop.create_future()
                    await self._idle
                self._idle = None
                try:
                    await self._serve(Backoff(PD_BUDGET_MS, self._rng))
                except (PdUnavailable, PdError, ClusterMismatch) as error:
                    self._fail(error)
        finally:
            # nobody may wait for an answer that will not come
            self._fail(PdUnavailable("timestamps are over"))

    async def _serve(self, backoff: Backoff) -> None:
        """One answered request; tries over new streams until it is or the budget is spent."""
        while True:
            batch: list[asyncio.Future[int]] = []
            try:
                stream = await self._connected()
                # taken only now, so that who came while the stream was opened is served too
                while self._waiting and len(batch) < BATCH_MAX:
                    batch.append(self._waiting.popleft())
                answer = await self._ask(stream, len(batch))
                self._hand_out(batch, answer)
                return
            except RpcError as error:
                self._waiting.extendleft(reversed(batch))
                self._drop_stream()
                if error.code is Code.FAILED_PRECONDITION:
                    raise ClusterMismatch(error.message) from error
                cause = str(error)
            except BaseException:
                # closed in the middle: these, too, must hear that there will be no answer
                self._waiting.extendleft(reversed(batch))
                raise
            await backoff.wait(PD, cause)
            await self._leader_lost()

    async def _connected(self) -> Stream:
        if self._stream is None:
            self._stream, self._header = await self._open_stream()
        return self._stream

    async def _ask(self, stream: Stream, count: int) -> TsoResponse:
        self.requests += 1
        if await fail_point_async("client::before_tso") is not None:
            raise RpcError(Code.UNAVAILABLE, "failpoint client::before_tso")
        try:
            async with asyncio.timeout(TSO_TIMEOUT_S):
                await stream.send(TsoRequest(header=self._header, count=count))
                answer = await stream.receive()
        except TimeoutError:
            raise RpcError(Code.DEADLINE_EXCEEDED, f"no timestamp within {TSO_TIMEOUT_S} s") from None
        if answer is None:
            raise RpcError(Code.UNAVAILABLE, "the timestamp stream ended")
        if not isinstance(answer, TsoResponse) or answer.count != count:
            raise RpcError(Code.INTERNAL, f"asked for {count} timestamps, got another answer")
        if answer.header.error.type:
            raise RpcError(Code.UNAVAILABLE, answer.header.error.message)
        return answer

    def _hand_out(self, batch: list[asyncio.Future[int]], answer: TsoResponse) -> None:
        """Gives the batch its timestamps in the order of the calls; the answer names the greatest."""
        stamp = answer.timestamp
        step = 1 << stamp.suffix_bits
        greatest = (stamp.physical << LOGICAL_BITS) + stamp.logical
        ts = greatest - (len(batch) - 1) * step
        if ts <= self._last:
            # the one fault that must not be papered over by asking again
            error = PdError(0, f"timestamp {ts} is not after {self._last}, which was given out before")
            self._drop_stream()
            for future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        self._last = greatest
        self._last_at = asyncio.get_running_loop().time()
        for future in batch:
            if not future.done():
                future.set_result(ts)
            ts += step

    def _drop_stream(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None

    def _fail(self, error: Exception) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)
