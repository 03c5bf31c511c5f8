"""The virtual-time loop: order, time, determinism, deadlocks."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time

import pytest

from tests.sim.loop import SimLoop, Stuck, run_simulated


def test_a_day_takes_no_time() -> None:
    async def day() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    began = time.perf_counter()
    assert run_simulated(day()) == 86_400
    assert time.perf_counter() - began < 5


def test_timers_of_one_time_run_in_the_order_they_were_set() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        seen: list[int] = []
        for number in range(100):
            loop.call_later(1.0, seen.append, number)
        loop.call_later(0.5, seen.append, -1)
        await asyncio.sleep(2)
        return seen

    assert run_simulated(main()) == [-1, *range(100)]


def test_timeouts_and_cancellation_work() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run_simulated(main()) == 3


def test_deadlock_is_seen() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck, match="no timer is left"):
        run_simulated(main())


def test_loop_that_never_waits_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.sim.loop.STEPS_MAX_WITHOUT_TIME", 1000)

    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Stuck, match="never waits"):
        run_simulated(main())


def test_threads_are_refused() -> None:
    async def main() -> None:
        await asyncio.to_thread(time.time)

    with pytest.raises(AssertionError, match="threads"):
        run_simulated(main())


def test_what_is_left_is_cancelled() -> None:
    ended: list[int] = []

    async def background(number: int) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append(number)

    async def main() -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(background(number)) for number in range(20)]
        await asyncio.sleep(1)
        return tasks

    run_simulated(main())
    assert ended == list(range(20))


async def hive(rng: random.Random) -> str:
    """Tasks that wait, wake each other and race for a lock; returns a hash of all that happened."""
    trace = hashlib.sha256()
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=3)
    lock = asyncio.Lock()
    loop = asyncio.get_running_loop()

    async def producer(name: int) -> None:
        for _ in range(30):
            await asyncio.sleep(rng.choice([0, 0, 0.1, rng.random()]))
            await queue.put(name)

    async def consumer(name: int) -> None:
        while True:
            got = await queue.get()
            async with lock:
                await asyncio.sleep(rng.choice([0, 0.1]))
                trace.update(f"{name} {got} {loop.time():.9f}\n".encode())

    consumers = [asyncio.create_task(consumer(name)) for name in range(4)]
    await asyncio.gather(*(producer(name) for name in range(5)))
    for task in consumers:
        task.cancel()
    return trace.hexdigest()


def test_one_seed_is_one_run() -> None:
    first, again, other = (run_simulated(hive(random.Random(seed)), SimLoop()) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_exception_that_nobody_takes_is_noted() -> None:
    loop = SimLoop()

    async def fail() -> None:
        raise KeyError("nobody looks")

    async def main() -> None:
        asyncio.create_task(fail()).add_done_callback(lambda _: None)
        asyncio.get_running_loop().call_later(1, lambda: dict[str, int]()["absent"])
        await asyncio.sleep(2)

    run_simulated(main(), loop)
    assert len(loop.failures) == 2
    assert "nobody looks" in loop.failures[0]
    assert "absent" in loop.failures[1]
