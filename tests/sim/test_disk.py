"""Simulated disks and machines: what a crash keeps, and that a dead process does nothing any more."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import pytest

from kvstore.engine.api import CF_DEFAULT, CF_WRITE
from kvstore.errors import DiskFull, StoreClosed
from kvstore.rpc.api import Call, RpcError
from kvstore.rpc.memory import MemoryNetwork
from tests.rpc.ends import RAW_GET, echo, handlers_of
from tests.sim.disk import SimDisk, SimEngine, SimSyncer
from tests.sim.loop import SimLoop, run_simulated
from tests.sim.machine import EPOCH_MS, Life, Machine, is_dead


def put(engine: SimEngine, key: bytes, value: bytes = b"v") -> None:
    batch = engine.batch()
    batch.put(key, value, engine.handle(CF_DEFAULT))
    batch.put(key, value, engine.handle(CF_WRITE))
    engine.write(batch)


def keys(engine: SimEngine) -> list[bytes]:
    scanner = engine.scanner(CF_DEFAULT, b"", b"\xff")
    return scanner.take(10_000)[::2]


def test_crash_keeps_what_was_synced_and_a_prefix_of_the_rest() -> None:
    kept = set()
    for seed in range(50):
        disk = SimDisk(random.Random(seed))
        engine = disk.open()
        for number in range(10):
            put(engine, b"%d" % number)
            if number == 3:
                engine.sync()
        disk.crash()
        survivors = keys(disk.open())
        assert survivors == [b"%d" % number for number in range(len(survivors))]
        kept.add(len(survivors))
    assert kept == set(range(4, 11))


def test_batches_survive_whole_or_not_at_all() -> None:
    for seed in range(20):
        disk = SimDisk(random.Random(seed))
        engine = disk.open()
        for number in range(5):
            put(engine, b"%d" % number)
        batch = engine.batch()
        batch.delete_range(b"0", b"3", engine.handle(CF_DEFAULT))
        batch.delete(b"4", engine.handle(CF_DEFAULT))
        batch.put(b"9", b"new", engine.handle(CF_DEFAULT))
        engine.write(batch)
        disk.crash()
        survivors = keys(disk.open())
        assert survivors in [[b"%d" % number for number in range(count)] for count in range(6)] + [[b"3", b"9"]]


def test_killed_process_keeps_what_was_handed_over() -> None:
    for seed in range(20):
        disk = SimDisk(random.Random(seed))
        engine = disk.open()
        put(engine, b"1")
        put(engine, b"2")
        engine.hand_over()
        put(engine, b"3")
        disk.crash(power=False)
        assert keys(disk.open())[:2] == [b"1", b"2"]


def test_second_crash_keeps_what_survived_the_first() -> None:
    disk = SimDisk(random.Random(1))
    engine = disk.open()
    put(engine, b"1")
    engine.sync()
    disk.crash()
    engine = disk.open()
    put(engine, b"2")
    engine.close()
    put(disk.open(), b"3")
    disk.crash()
    assert keys(disk.open())[:2] == [b"1", b"2"]


def test_crashed_engine_refuses_everything() -> None:
    disk = SimDisk(random.Random(1))
    engine = disk.open()
    batch = engine.batch()
    batch.put(b"k", b"v", engine.handle(CF_DEFAULT))
    cursor = engine.cursor(CF_DEFAULT)
    disk.crash()
    for use in (lambda: engine.write(batch), engine.sync, engine.hand_over, cursor.refresh):
        with pytest.raises(StoreClosed):
            use()
    with pytest.raises(StoreClosed):
        engine.get(CF_DEFAULT, b"k")
    engine.close()
    assert keys(disk.open()) == []


def test_full_disk_applies_nothing() -> None:
    disk = SimDisk(random.Random(1))
    engine = disk.open()
    disk.full = True
    with pytest.raises(DiskFull):
        put(engine, b"1")
    disk.full = False
    put(engine, b"2")
    assert keys(engine) == [b"2"]


def test_ingested_file_is_durable() -> None:
    disk = SimDisk(random.Random(1))
    engine = disk.open()
    file = engine.sorted_file(CF_DEFAULT, "x")
    file.put_all([b"a", b"b"], [b"1", b"2"])
    file.finish()
    engine.ingest(CF_DEFAULT, [file])
    disk.crash()
    assert keys(disk.open()) == [b"a", b"b"]


def test_slow_sync_does_not_hold_what_is_written_during_it() -> None:
    async def main() -> set[int]:
        kept = set()
        for seed in range(30):
            disk = SimDisk(random.Random(seed), lambda: 0.5)
            engine = disk.open()
            put(engine, b"1")
            syncing = asyncio.ensure_future(SimSyncer(engine)())
            await asyncio.sleep(0.1)
            put(engine, b"2")
            await syncing
            disk.crash()
            kept.add(len(keys(disk.open())))
        return kept

    assert run_simulated(main()) == {1, 2}


def test_crash_during_a_sync_ends_it() -> None:
    async def main() -> None:
        disk = SimDisk(random.Random(3), lambda: 0.5)
        engine = disk.open()
        syncing = asyncio.ensure_future(SimSyncer(engine)())
        await asyncio.sleep(0.1)
        disk.crash()
        with pytest.raises(StoreClosed):
            await syncing

    run_simulated(main())


def test_dead_process_neither_writes_nor_sends_nor_wakes() -> None:
    loop = SimLoop(is_dead)
    network = MemoryNetwork()
    did: list[str] = []

    async def serve(life: Life) -> SimEngine:
        server = life.server("a:1", handlers_of({RAW_GET: echo}))
        await server.start()
        life.spawn(work(life))
        asyncio.get_running_loop().call_later(5, did.append, "timer")
        return life.engine

    async def work(life: Life) -> None:
        transport = life.transport()
        try:
            await asyncio.sleep(100)
        finally:
            did.append("cancelled")
            with contextlib.suppress(StoreClosed):
                put(life.engine, b"after death")
                did.append("wrote")
            with contextlib.suppress(RpcError):
                await transport.channel("a:1").unary(RAW_GET, RAW_GET.request(), 1)
                did.append("sent")

    async def main() -> None:
        machine = Machine("a", loop, network, random.Random(1), serve)
        engine = await machine.start()
        put(engine, b"1")
        engine.sync()
        channel = network.transport("c").channel("a:1")
        assert (await channel.unary(RAW_GET, RAW_GET.request(key=b"k"), 1)).value == b"k"
        machine.crash()
        with pytest.raises(RpcError, match="UNAVAILABLE"):
            await channel.unary(RAW_GET, RAW_GET.request(), 1)
        machine.clock.offset_ms = -5000
        await asyncio.sleep(10)
        assert did == ["cancelled"]
        assert machine.clock() == EPOCH_MS + 5000
        engine = await machine.start()
        assert keys(engine) == [b"1"]
        assert (await channel.unary(RAW_GET, RAW_GET.request(key=b"k"), 1)).value == b"k"
        machine.crash()

    run_simulated(main(), loop)


def test_handlers_die_with_their_machine_and_not_with_the_caller() -> None:
    loop = SimLoop(is_dead)
    network = MemoryNetwork()
    ended: list[str] = []

    async def slow(request: Any, call: Call) -> Any:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(call.peer)
        return RAW_GET.response()

    async def serve(life: Life) -> None:
        await life.server("a:1", handlers_of({RAW_GET: slow})).start()

    async def main() -> None:
        machine = Machine("a", loop, network, random.Random(1), serve)
        await machine.start()
        asking = asyncio.ensure_future(network.transport("c").channel("a:1").unary(RAW_GET, RAW_GET.request(), 60))
        await asyncio.sleep(1)
        machine.crash()
        with pytest.raises(RpcError, match="UNAVAILABLE"):
            await asking
        await asyncio.sleep(0)
        assert ended == ["c"]

    run_simulated(main(), loop)


def test_start_that_crashes_on_the_way_returns_nothing() -> None:
    loop = SimLoop(is_dead)

    async def hang(life: Life) -> str:
        await asyncio.sleep(10)
        return "up"

    async def main() -> None:
        machine = Machine("a", loop, MemoryNetwork(), random.Random(1), hang)
        loop.call_later(1, machine.crash)
        assert await machine.start() is None
        assert await machine.start() == "up"

    run_simulated(main(), loop)
