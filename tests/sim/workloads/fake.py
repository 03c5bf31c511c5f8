"""A store of a few lines that keeps its promises, and breaks one of them when asked to: what checkers must catch."""

from __future__ import annotations

import asyncio
import enum
import random

from tests.sim.history import Aborted, Undetermined

LOCK_WAIT_S = 2.0


class Bug(enum.Enum):
    LOST_UPDATE = "no check for conflicts at commit"
    STALE_READ = "a snapshot or raw read may be older than what was acknowledged"
    TORN_COMMIT = "the keys of a commit become visible one after another"
    FAILED_WRITE = "a commit that is refused leaves its first key behind"
    LOST_WRITE = "a commit is acknowledged and forgotten"
    FORK = "each key of a snapshot is read at a time of its own"
    DOUBLE_WRITE = "a raw write is applied a second time later"
    CAS_RACE = "compare and swap are two steps"
    TIME_GOES_BACK = "the source of timestamps now and then begins a little earlier again"


class FakeStore:
    """Snapshot isolation by versions, pessimistic locks, raw keys. Every call takes a little time and may fail."""

    def __init__(self, rng: random.Random, bug: Bug | None = None, fail_chance: float = 0.05) -> None:
        self.rng = rng
        self.bug = bug
        self.fail_chance = fail_chance
        self.ts = 0
        self.versions: dict[bytes, list[tuple[int, bytes]]] = {}
        self.locks: dict[bytes, FakeTxn] = {}
        self.raw: dict[bytes, list[bytes | None]] = {}
        self.background: set[asyncio.Task[None]] = set()

    def buggy(self, bug: Bug, chance: float) -> bool:
        return self.bug is bug and self.rng.random() < chance

    async def pause(self) -> None:
        await asyncio.sleep(self.rng.expovariate(50))

    async def may_fail(self) -> None:
        await self.pause()
        if self.rng.random() < self.fail_chance:
            raise Aborted("refused")

    def read(self, key: bytes, ts: int) -> bytes | None:
        for version_ts, value in reversed(self.versions.get(key, [])):
            if version_ts <= ts:
                return value
        return None

    def newest(self, key: bytes) -> int:
        versions = self.versions.get(key)
        return versions[-1][0] if versions else 0

    def write(self, key: bytes, value: bytes) -> None:
        self.versions.setdefault(key, []).append((self.ts, value))

    def raw_newest(self, key: bytes) -> bytes | None:
        values = self.raw.get(key, [None])
        if len(values) > 2 and self.buggy(Bug.STALE_READ, 0.1):
            return values[-2]
        return values[-1]

    def raw_set(self, key: bytes, value: bytes | None) -> None:
        self.raw.setdefault(key, [None]).append(value)

    async def unknown_around(self) -> bool:
        """Whether the answer of the write that comes now is lost; and then perhaps the write, or it comes later."""
        if self.rng.random() >= self.fail_chance:
            return False
        if self.rng.random() < 0.5:
            raise Undetermined("the request was lost")
        await self.pause()
        return True


class FakeTxn:
    def __init__(self, store: FakeStore, pessimistic: bool) -> None:
        self._store = store
        self._pessimistic = pessimistic
        self._start = store.ts - (store.rng.randint(1, 3) if store.buggy(Bug.STALE_READ, 0.2) else 0)
        self._writes: dict[bytes, bytes] = {}

    async def get(self, key: bytes) -> bytes | None:
        store = self._store
        await store.may_fail()
        if key in self._writes:
            return self._writes[key]
        return store.read(key, self._start if store.bug is not Bug.FORK else store.ts - store.rng.randint(0, 2))

    async def scan(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes]]:
        await self._store.may_fail()
        keys = sorted(key for key in {*self._store.versions, *self._writes} if start <= key < end)
        pairs = [(key, self._writes.get(key) or self._store.read(key, self._start)) for key in keys]
        return [(key, value) for key, value in pairs if value is not None]

    async def get_for_update(self, key: bytes) -> bytes | None:
        store = self._store
        assert self._pessimistic
        await store.may_fail()
        async with asyncio.timeout(LOCK_WAIT_S) as limit:
            try:
                while store.locks.get(key, self) is not self:
                    await store.pause()
            except asyncio.CancelledError:
                if limit.expired():
                    raise Aborted("lock wait timeout") from None
                raise
        store.locks[key] = self
        return store.read(key, store.ts)

    def put(self, key: bytes, value: bytes) -> None:
        self._writes[key] = value

    def _conflict(self) -> bool:
        locks = self._store.locks
        return any(
            locks.get(key, self) is not self or (key not in locks and self._store.newest(key) > self._start)
            for key in self._writes
        )

    async def commit(self) -> None:
        store = self._store
        await store.may_fail()
        silent = await store.unknown_around()
        if self._conflict() and store.bug is not Bug.LOST_UPDATE:
            self._release()
            if store.bug is Bug.FAILED_WRITE:
                store.ts += 1
                store.write(*next(iter(self._writes.items())))
            raise Aborted("conflict")
        if not store.buggy(Bug.LOST_WRITE, 0.05):
            store.ts += 1
            for key, value in self._writes.items():
                store.write(key, value)
                if store.bug is Bug.TORN_COMMIT:
                    await store.pause()
                    store.ts += 1
        self._release()
        if silent:
            raise Undetermined("the answer was lost")

    def _release(self) -> None:
        for key in [key for key, owner in self._store.locks.items() if owner is self]:
            del self._store.locks[key]

    async def rollback(self) -> None:
        self._release()


class FakeClient:
    """See `api.Client`."""

    def __init__(self, name: str, store: FakeStore) -> None:
        self.name = name
        self._store = store

    async def begin(self, *, pessimistic: bool = False) -> FakeTxn:
        await self._store.may_fail()
        return FakeTxn(self._store, pessimistic)

    async def raw_get(self, key: bytes) -> bytes | None:
        await self._store.may_fail()
        value = self._store.raw_newest(key)
        await self._store.pause()
        return value

    async def raw_put(self, key: bytes, value: bytes) -> None:
        await self._raw_write(key, value)

    async def raw_delete(self, key: bytes) -> None:
        await self._raw_write(key, None)

    async def _raw_write(self, key: bytes, value: bytes | None) -> None:
        store = self._store
        await store.may_fail()
        silent = await store.unknown_around()
        store.raw_set(key, value)
        if store.buggy(Bug.DOUBLE_WRITE, 0.1):
            task = asyncio.ensure_future(self._again(key, value))
            store.background.add(task)
            task.add_done_callback(store.background.discard)
        await store.pause()
        if silent:
            raise Undetermined("the answer was lost")

    async def _again(self, key: bytes, value: bytes | None) -> None:
        await asyncio.sleep(0.5)
        self._store.raw_set(key, value)

    async def raw_cas(self, key: bytes, expected: bytes | None, value: bytes) -> bool:
        store = self._store
        await store.may_fail()
        silent = await store.unknown_around()
        swaps = store.raw_newest(key) == expected
        if store.bug is Bug.CAS_RACE:
            await store.pause()
        if swaps:
            store.raw_set(key, value)
        await store.pause()
        if silent:
            raise Undetermined("the answer was lost")
        return swaps

    async def timestamps(self, count: int) -> int:
        store = self._store
        await store.may_fail()
        if store.buggy(Bug.TIME_GOES_BACK, 0.02):
            store.ts -= 40
        store.ts += count
        last = store.ts
        await store.pause()
        return last

    async def alloc_id(self) -> int:
        return await self.timestamps(1)
