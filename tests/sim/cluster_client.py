"""The cluster's own client as the workloads use it: one connection, outcomes told apart, raw writes sent once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn, TypeVar

from kvstore.client.cluster import commands
from kvstore.client.cluster.backoff import Backoff, Kind
from kvstore.client.cluster.cluster import Cluster, ClusterTransaction
from kvstore.client.cluster.errors import ClusterError, UndeterminedResult
from kvstore.client.cluster.parts import Options
from kvstore.codec import decode_bytes
from kvstore.errors import KvError
from kvstore.proto import kvrpcpb_pb2 as kvrpcpb
from kvstore.rpc.api import RpcError
from tests.sim.history import Aborted, Undetermined
from tests.sim.world import World

T = TypeVar("T")
BUDGET_MS = 8000
LOCK_WAIT_MS = 2000
ABANDONED = 0.02
"""The share of commits that a client gives up half way, leaving its locks to others."""


class Once(Backoff):
    """Ends the retries as soon as an attempt may have been executed."""

    async def wait(self, kind: Kind, cause: str, *, at_least_ms: float = 0, at_most_ms: float | None = None) -> None:
        if self.maybe_executed:
            error = ClusterError(f"{kind.name}: {cause}")
            error.maybe_executed = True
            raise error
        await super().wait(kind, cause, at_least_ms=at_least_ms, at_most_ms=at_most_ms)


def _outcome(error: KvError | RpcError) -> NoReturn:
    if isinstance(error, UndeterminedResult) or (isinstance(error, ClusterError) and error.maybe_executed):
        raise Undetermined(str(error)) from error
    raise Aborted(f"{type(error).__name__}: {error}") from error


class SimTxn:
    """See `workloads.api.Txn`."""

    def __init__(self, client: SimClient, transaction: ClusterTransaction) -> None:
        self._client = client
        self._transaction = transaction

    async def _read(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        except (KvError, RpcError) as error:
            raise Aborted(f"{type(error).__name__}: {error}") from error

    async def get(self, key: bytes) -> bytes | None:
        return await self._read(lambda: self._transaction.get(key))

    async def scan(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes]]:
        async def scan() -> list[tuple[bytes, bytes]]:
            return [pair async for pair in self._transaction.scan(start, end)]

        return await self._read(scan)

    async def get_for_update(self, key: bytes) -> bytes | None:
        async def lock() -> bytes | None:
            for_update_ts = await self._client.now_ts()
            await self._transaction.lock_keys([key], for_update_ts=for_update_ts, wait_ms=LOCK_WAIT_MS)
            return await self._transaction.at(for_update_ts).get(key)

        return await self._read(lock)

    def put(self, key: bytes, value: bytes) -> None:
        self._transaction.put(key, value)

    async def commit(self) -> None:
        rng = self._client.rng
        if rng.random() < ABANDONED:
            await self._abandon(rng.expovariate(50))
            return
        try:
            await self._transaction.commit()
        except (KvError, RpcError) as error:
            _outcome(error)

    async def _abandon(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._transaction.commit()
        except (KvError, RpcError) as error:
            _outcome(error)
        except TimeoutError:
            raise Undetermined("the client died") from None

    async def rollback(self) -> None:
        try:
            await self._transaction.rollback()
        except (KvError, RpcError):
            return  # the locks it may have left are found by others


class SimClient:
    """See `workloads.api.Client`; connects when it is first used."""

    def __init__(
        self, world: World, name: str, addresses: Sequence[str], *, raw: bool, options: Options | None = None
    ) -> None:
        self.name = name
        self.rng: random.Random = world.fork()
        self._world = world
        self._addresses = addresses
        self._raw = raw
        self._options = options
        self._transport = world.network.transport(name)
        self._cluster: Cluster | None = None

    async def _connected(self) -> Cluster:
        if self._cluster is None:
            try:
                self._cluster = await Cluster.connect(
                    self._addresses, transport=self._transport, rng=self.rng, options=self._options
                )
            except (KvError, RpcError) as error:
                raise Aborted(str(error)) from error
            self._watch_timestamps(self._cluster)
        return self._cluster

    def _watch_timestamps(self, cluster: Cluster) -> None:
        """Every timestamp that this client is given is told to the invariants."""
        invariants, get_ts = self._world.invariants, cluster.pd.get_ts

        async def watched() -> int:
            before = invariants.newest_timestamp
            ts = await get_ts()
            invariants.timestamp(before, ts)
            return ts

        cluster.pd.get_ts = watched  # type: ignore[method-assign]

    async def now_ts(self) -> int:
        return await (await self._connected()).now_ts()

    async def probe(self, region_start: bytes) -> None:
        """Reads the first key of a region. Raises KvError, RpcError."""
        try:
            cluster = await self._connected()
        except Aborted as error:
            raise ClusterError(str(error)) from error
        if self._raw:
            await cluster.raw.get(region_start or b"\0")
        else:
            key = decode_bytes(region_start, 0)[0] if region_start else b"\0"
            await cluster.snapshot(await cluster.now_ts()).get(key)

    async def begin(self, *, pessimistic: bool = False) -> SimTxn:
        cluster = await self._connected()
        try:
            return SimTxn(self, await cluster.begin(pessimistic=pessimistic))
        except (KvError, RpcError) as error:
            raise Aborted(str(error)) from error

    async def _once(self, command: commands.Command, request: Any, key: bytes) -> Any:
        cluster = await self._connected()
        try:
            answer = await cluster.raw.sender.send_to_key(Once(BUDGET_MS, self.rng), command, request, key)
        except (KvError, RpcError) as error:
            _outcome(error)
        if answer.error:
            raise Aborted(answer.error)
        return answer

    async def raw_get(self, key: bytes) -> bytes | None:
        cluster = await self._connected()
        try:
            return await cluster.raw.get(key)
        except (KvError, RpcError) as error:
            raise Aborted(str(error)) from error

    async def raw_put(self, key: bytes, value: bytes) -> None:
        await self._once(commands.RAW_PUT, kvrpcpb.RawPutRequest(key=key, value=value, for_cas=True), key)

    async def raw_delete(self, key: bytes) -> None:
        await self._once(commands.RAW_DELETE, kvrpcpb.RawDeleteRequest(key=key, for_cas=True), key)

    async def raw_cas(self, key: bytes, expected: bytes | None, value: bytes) -> bool:
        request = kvrpcpb.RawCASRequest(key=key, value=value)
        if expected is None:
            request.previous_not_exist = True
        else:
            request.previous_value = expected
        return bool((await self._once(commands.RAW_COMPARE_AND_SWAP, request, key)).succeed)
