"""The cluster's own client as the workloads use it: one connection, outcomes told apart, raw writes sent once."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from kvstore.client.api import ReadFrom
from kvstore.client.cluster import commands
from kvstore.client.cluster.backoff import Backoff, Kind
from kvstore.client.cluster.bulk import LoadOptions
from kvstore.client.cluster.cluster import Cluster, ClusterTransaction
from kvstore.client.cluster.errors import ClusterError, UndeterminedResult
from kvstore.client.cluster.parts import Options
from kvstore.client.cluster.pd_client import PdClient
from kvstore.client.cluster.tso import LOGICAL_BITS
from kvstore.codec import decode_bytes
from kvstore.errors import KvError, PdError
from kvstore.proto import kvrpcpb_pb2 as kvrpcpb
from kvstore.rpc.api import Method, RpcError
from tests.sim.history import Aborted, Undetermined
from tests.sim.invariants import Invariants
from tests.sim.world import World

T = TypeVar("T")
BUDGET_MS = 8000
LOCK_WAIT_MS = 2000
PD_TIMEOUT_S = 2.0
READS = (ReadFrom.LEADER, ReadFrom.FOLLOWER, ReadFrom.MIXED)
ABANDONED = 0.02
"""The share of commits that a client gives up half way, leaving its locks to others."""
DAWDLE_S = 0.7
"""The mean pause of a careless transaction before each of its reads."""
SAFE_POINT_LAG_MS = 2000
"""How far behind the present garbage is collected at most."""


LOAD = LoadOptions(memory_bytes=4000, region_bytes=12_000, parallel=2, scatter=False)
LOAD_S = 10.0
"""The mean time after which a client loses patience with a load."""
LOAD_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Habits:
    """How a client behaves."""

    dies: float = 0.0
    """The chance, at each call of a transaction, that the client's process ends in the middle of it."""
    follower_reads: bool = False
    """Whether transactions read from followers, too."""
    careless: float = 0.0
    """The share of transactions that garbage collection does not wait for. They are slow, and can only read."""


class RunningTransactions:
    """What garbage collection must leave alone: a lower bound of the start timestamps of all transactions that run."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._begun: dict[int, int] = {}
        self._next = 0

    def begin(self) -> int:
        """To be called before the timestamp is drawn, which is greater than the newest one now."""
        self._next += 1
        self._begun[self._next] = self._invariants.newest_timestamp
        return self._next

    def over(self, ticket: int) -> None:
        self._begun.pop(ticket, None)

    def oldest(self) -> int | None:
        return min(self._begun.values(), default=None)


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

    def __init__(self, client: SimClient, transaction: ClusterTransaction, ticket: int | None) -> None:
        self._client = client
        self._transaction = transaction
        self._ticket = ticket
        self._dead = False

    async def _read(self, work: Callable[[], Awaitable[T]]) -> T:
        client = self._client
        if self._ticket is None:
            await asyncio.sleep(client.rng.expovariate(1 / DAWDLE_S))
        try:
            if client.rng.random() >= client.habits.dies:
                return await work()
            async with asyncio.timeout(client.rng.expovariate(50)):
                return await work()
        except (KvError, RpcError) as error:
            raise Aborted(f"{type(error).__name__}: {error}") from error
        except TimeoutError:
            self._die()
            raise Aborted("the client died") from None

    def _die(self) -> None:
        self._dead = True
        self._client.die()
        self._end()

    def _end(self) -> None:
        if self._ticket is not None:
            self._client.running.over(self._ticket)

    async def get(self, key: bytes) -> bytes | None:
        return await self._read(lambda: self._transaction.get(key))

    async def scan(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes]]:
        async def scan() -> list[tuple[bytes, bytes]]:
            return [pair async for pair in self._transaction.scan(start, end)]

        return await self._read(scan)

    async def get_for_update(self, key: bytes) -> bytes | None:
        async def lock() -> bytes | None:
            if self._client.rng.random() < 0.5:
                return (await self._transaction.lock_and_get([key], wait_ms=LOCK_WAIT_MS)).get(key)
            for_update_ts = await self._client.now_ts()
            await self._transaction.lock_keys([key], for_update_ts=for_update_ts, wait_ms=LOCK_WAIT_MS)
            return await self._transaction.at(for_update_ts).get(key)

        return await self._read(lock)

    def put(self, key: bytes, value: bytes) -> None:
        self._transaction.put(key, value)

    async def commit(self) -> None:
        if self._ticket is None:
            raise Aborted("it was only to read")
        try:
            await self._commit()
        finally:
            self._end()

    async def _commit(self) -> None:
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
            if self._client.rng.random() < 0.5:
                self._die()
            raise Undetermined("the client died") from None

    async def rollback(self) -> None:
        if self._dead:
            return
        try:
            await self._transaction.rollback()
        except (KvError, RpcError):
            return  # the locks it may have left are found by others
        finally:
            self._end()


class SimClient:
    """See `workloads.api.Client`; connects when it is first used."""

    def __init__(
        self,
        world: World,
        name: str,
        addresses: Sequence[str],
        running: RunningTransactions,
        *,
        raw: bool,
        options: Options | None = None,
        habits: Habits,
    ) -> None:
        self.name = name
        self.running = running
        self.habits = habits
        self.rng: random.Random = world.fork()
        self._world = world
        self._addresses = addresses
        self._raw = raw
        self._options = options
        self._transport = world.network.transport(name)
        self._cluster: Cluster | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def die(self) -> None:
        """Its process ends and another one takes its place: nothing is settled, no lock is kept alive any more."""
        cluster, self._cluster = self._cluster, None
        self._transport.crash()
        self._transport = self._world.network.transport(self.name)
        if cluster is not None:
            task = self._world.loop.create_task(cluster.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

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
        ticket = None if self.rng.random() < self.habits.careless else self.running.begin()
        try:
            ts = await cluster.now_ts()
        except (KvError, RpcError) as error:
            if ticket is not None:
                self.running.over(ticket)
            raise Aborted(str(error)) from error
        read = self.rng.choice(list(READS)) if self.habits.follower_reads else ReadFrom.LEADER
        snapshot = cluster.snapshot(ts, read=read)
        return SimTxn(self, ClusterTransaction(cluster.parts, snapshot, pessimistic=pessimistic), ticket)

    async def load(self, start: bytes, end: bytes, rows: dict[bytes, bytes]) -> int:
        """See `workloads.loads.LoadingClient`; what is given up half way is resumed a few times."""
        ordered = sorted(rows.items())
        begun = False
        with tempfile.TemporaryDirectory() as directory:
            for _ in range(LOAD_ATTEMPTS):
                cluster = await self._connected()
                try:
                    async with asyncio.timeout(self.rng.expovariate(1 / LOAD_S)):
                        load = await cluster.bulk_load(start, end, directory=directory, options=LOAD)
                        begun = True
                        for run in (ordered[::2], ordered[1::2]):
                            load.add_run([key for key, _ in run], [value for _, value in run])
                        return (await load.finish()).rows
                except (KvError, RpcError, TimeoutError) as error:
                    last = error
        if not begun:
            raise Aborted(str(last)) from last
        raise Undetermined(str(last)) from last

    async def ask_pd(self, method: Method, request: Any) -> None:
        """One question to the leader of the placement drivers, asked once. Raises KvError, RpcError."""
        pd = await self._reach_pd()
        request.header.cluster_id = pd.cluster_id
        answer = await self._transport.channel(pd.leader).unary(method, request, PD_TIMEOUT_S)
        if answer.header.error.type:
            raise PdError(answer.header.error.type, answer.header.error.message)

    async def _reach_pd(self) -> PdClient:
        try:
            return (await self._connected()).pd
        except Aborted as error:
            raise ClusterError(str(error)) from error

    async def collect_garbage(self) -> None:
        """Moves the safe point as near to the present as running transactions allow. Raises KvError, RpcError."""
        await self._reach_pd()
        cluster = await self._connected()
        safe_point = await cluster.now_ts() - (SAFE_POINT_LAG_MS << LOGICAL_BITS)
        oldest = self.running.oldest()
        await cluster.gc(safe_point if oldest is None else min(safe_point, oldest))

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
