"""Finding circles of lock waits across stores (TiKV's `lock_manager/deadlock.rs`).

One store detects for all: the leader of the region that holds the empty key. The others send their waits to it on a
stream and are told of circles. Waits are sent again every REFRESH_S and forgotten after EXPIRY_S, and when the detector
moves all send theirs to the new one: a lost message delays the finding of a circle, and no more. The transaction whose
wait closes the circle is the victim.

    store A            detector (store B)                 store C
      Detect 1 -> 2  ──►  1 -> 2
                          1 -> 2 -> 1 ?  ◄──  Detect 2 -> 1
                          circle          ──►  answer: wait chain; the lock request of 2 fails

*Caveat:* a wait whose end is not told (its store died) can make a circle that is none, for EXPIRY_S at most; the
victim tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from kvstore.errors import Deadlock, PdError
from kvstore.failpoint import fail_point_async
from kvstore.proto import deadlock_pb2 as pb
from kvstore.proto.metapb_pb2 import Peer, Region
from kvstore.raftstore.api import RegionStore
from kvstore.rpc.api import Call, Code, Handlers, RpcError, Stream, Transport, methods_of
from kvstore.server.api import Directory
from kvstore.server.errors import wait_chain, wait_entry
from kvstore.server.hashing import key_hash
from kvstore.server.lock_wait import Wait
from kvstore.txn.deadlock import WaitForGraph

EXPIRY_S = 30.0
REFRESH_S = 10.0
RECONNECT_S = 0.5
"""Between attempts to reach the detector."""
OUTBOX_MAX = 65536
"""Messages to the detector that wait to be sent; over it they are dropped until the next refresh."""

_METHODS = methods_of(pb.DESCRIPTOR, "Deadlock")
_log = logging.getLogger(__name__)
Spawn = Callable[[Coroutine[Any, Any, Any]], "asyncio.Task[Any]"]


class DeadlockDetector:
    """Detects on this store when it leads the first region, and asks the store that does otherwise."""

    def __init__(self, store: RegionStore, transport: Transport | None, directory: Directory | None) -> None:
        self._store = store
        self._transport = transport
        self._directory = directory
        self._graph = WaitForGraph()
        self._waits: dict[Wait, None] = {}
        self._outbox: list[pb.DeadlockRequest] = []
        self._wake = asyncio.Event()
        self._leads: int | None = None
        self._swept = 0.0
        self.on_circle: Callable[[Wait, Deadlock], None] = lambda wait, circle: None
        """Told of a wait that closes a circle, when that was not known as it began."""
        store.observe(self)
        for region in store.regions():
            leader = store.leader_of(region.id)
            if leader is not None:
                self.on_role(region, leader, is_leader=leader.store_id == store.store_id, term=0)

    @property
    def is_leader(self) -> bool:
        return self._leads is not None or self._transport is None or self._directory is None

    # -- waits of this store

    def add(self, wait: Wait) -> None:
        """Raises Deadlock when this store detects, and the wait closes a circle; `on_circle` may be told later."""
        self._waits[wait] = None
        if self.is_leader:
            try:
                self._detect(wait)
            except Deadlock:
                self._waits.pop(wait, None)
                raise
        else:
            self._send(pb.DeadlockRequestType.Detect, wait)

    def remove(self, wait: Wait) -> None:
        if wait not in self._waits:
            return
        del self._waits[wait]
        if self.is_leader:
            self._graph.stop_waiting(wait.waiter, wait.holder, wait.key)
        else:
            self._send(pb.DeadlockRequestType.CleanUpWaitFor, wait)

    def _detect(self, wait: Wait) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._swept > REFRESH_S:
            self._swept = now
            self._graph.expire(now - EXPIRY_S)
        self._graph.wait(wait.waiter, wait.holder, wait.key, now, wait.tag)

    def _send(self, kind: pb.DeadlockRequestType, wait: Wait) -> None:
        if len(self._outbox) < OUTBOX_MAX:
            self._outbox.append(pb.DeadlockRequest(tp=kind, entry=_entry(wait)))
        self._wake.set()

    # -- who detects

    def on_role(self, region: Region, peer: Peer, *, is_leader: bool, term: int) -> None:
        if region.start_key:
            return
        if is_leader:
            if self._leads is None:
                self._become_leader()
            self._leads = region.id
        elif self._leads == region.id:
            self._resign()

    def on_region(self, region: Region) -> None:
        if self._leads == region.id and region.start_key:
            # a split gave the first keys to another region
            self._resign()

    def on_destroyed(self, region: Region) -> None:
        if self._leads == region.id:
            self._resign()

    def on_replaced(self, region: Region) -> None:
        """Only a follower takes a snapshot."""

    def on_applied(self, region: Region, entries_bytes: int) -> None:
        """Writes change no waits."""

    def _become_leader(self) -> None:
        self._graph.clear()
        self._outbox.clear()
        for wait in self._waits:
            try:
                self._graph.wait(wait.waiter, wait.holder, wait.key, asyncio.get_running_loop().time(), wait.tag)
            except Deadlock as circle:
                asyncio.get_running_loop().call_soon(self.on_circle, wait, circle)

    def _resign(self) -> None:
        self._leads = None
        self._graph.clear()
        self._wake.set()

    # -- asking another store

    async def run(self) -> None:
        """Keeps the detector informed for as long as it is another store; runs until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            if self.is_leader:
                await self._refresh_own(loop)
                continue
            if not self._waits:
                self._outbox.clear()
                self._wake.clear()
                await self._wake.wait()
                continue
            try:
                await self._follow(await self._detector_address())
            except (RpcError, PdError) as error:
                _log.debug("deadlock detector: %s", error)
            await asyncio.sleep(RECONNECT_S)

    async def _refresh_own(self, loop: asyncio.AbstractEventLoop) -> None:
        for wait in list(self._waits):
            try:
                self._graph.wait(wait.waiter, wait.holder, wait.key, loop.time(), wait.tag)
            except Deadlock as circle:
                self.on_circle(wait, circle)
        self._wake.clear()
        await _until(self._wake, REFRESH_S)

    async def _detector_address(self) -> str:
        assert self._directory is not None
        found = await self._directory.get_region(b"")
        if found is None or found[1] is None:
            raise RpcError(Code.UNAVAILABLE, "the first region has no leader")
        return (await self._directory.get_store(found[1].store_id)).address

    async def _follow(self, address: str) -> None:
        """Sends waits to the detector at `address` until the stream breaks, this store leads, or nobody waits."""
        assert self._transport is not None
        await fail_point_async("deadlock::before_follow")
        stream = self._transport.channel(address).stream(_METHODS["Detect"])
        hears = asyncio.ensure_future(self._hear(stream))
        try:
            while not self.is_leader and self._waits and not hears.done():
                # all of them, also those that were sent: this may be another detector, or it forgot
                self._outbox = [
                    pb.DeadlockRequest(tp=pb.DeadlockRequestType.Detect, entry=_entry(wait)) for wait in self._waits
                ]
                await self._send_until(stream, hears, asyncio.get_running_loop().time() + REFRESH_S)
        finally:
            hears.cancel()
            stream.cancel()

    async def _send_until(self, stream: Stream, hears: asyncio.Future[None], until: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < until and not self.is_leader and not hears.done():
            sending, self._outbox = self._outbox, []
            for request in sending:
                await stream.send(request)
            self._wake.clear()
            if not self._outbox:
                await _until(self._wake, until - loop.time(), hears)

    async def _hear(self, stream: Stream) -> None:
        """Passes circles on to the waits that close them."""
        try:
            while (answer := await stream.receive()) is not None:
                entry = answer.entry
                # on the wire the requester's own wait comes last
                edges = (answer.wait_chain[-1], *answer.wait_chain[:-1])
                chain = tuple((edge.txn, edge.wait_for_txn, edge.key) for edge in edges)
                circle = Deadlock(entry.key, entry.txn, chain, tuple(edge.resource_group_tag for edge in edges))
                for wait in list(self._waits):
                    if (wait.waiter, wait.holder, wait.key) == (entry.txn, entry.wait_for_txn, entry.key):
                        self.on_circle(wait, circle)
        except RpcError as error:
            _log.debug("deadlock detector: %s", error)

    # -- detecting for others

    def handlers(self) -> Handlers:
        detect, entries = _METHODS["Detect"], _METHODS["GetWaitForEntries"]
        return Handlers(
            unary={entries.path: (entries, self._wait_for_entries)}, streams={detect.path: (detect, self._answer)}
        )

    async def _wait_for_entries(self, request: pb.WaitForEntriesRequest, call: Call) -> pb.WaitForEntriesResponse:
        return pb.WaitForEntriesResponse(entries=[wait_entry(*edge) for edge in self._graph.edges()])

    async def _answer(self, requests: AsyncIterator[Any], call: Call) -> AsyncIterator[pb.DeadlockResponse]:
        async for request in requests:
            if not self.is_leader:
                raise RpcError(Code.FAILED_PRECONDITION, "this store does not detect deadlocks now")
            entry = request.entry
            wait = Wait(entry.txn, entry.wait_for_txn, entry.key, entry.resource_group_tag)
            if request.tp == pb.DeadlockRequestType.CleanUpWaitFor:
                self._graph.stop_waiting(wait.waiter, wait.holder, wait.key)
            elif request.tp == pb.DeadlockRequestType.CleanUp:
                self._graph.finish(wait.waiter)
            else:
                try:
                    self._detect(wait)
                except Deadlock as circle:
                    yield _response(entry, circle)


async def _until(event: asyncio.Event, seconds: float, other: asyncio.Future[None] | None = None) -> None:
    """Waits for the event, for the other's end, or for so long."""
    waits = asyncio.ensure_future(event.wait())
    either: list[asyncio.Future[Any]] = [waits] if other is None else [waits, other]
    try:
        await asyncio.wait(
            either,
            timeout=max(seconds, 0.0),
            return_when=asyncio.FIRST_COMPLETED,
        )
    finally:
        waits.cancel()


def _entry(wait: Wait) -> pb.WaitForEntry:
    return wait_entry(wait.waiter, wait.holder, wait.key, wait.tag)


def _response(entry: pb.WaitForEntry, circle: Deadlock) -> pb.DeadlockResponse:
    chain, key = wait_chain(circle)
    return pb.DeadlockResponse(entry=entry, deadlock_key_hash=key_hash(key), deadlock_key=key, wait_chain=chain)
