"""Threads and the loop that works for them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator

import pytest

from kvstore.client.api import CancelToken
from kvstore.client.cluster.loop_thread import LoopThread
from kvstore.errors import Cancelled, StoreClosed


async def nothing() -> None:
    pass


@pytest.fixture
def loop() -> LoopThread:
    return LoopThread("test")


def waiting(loop: LoopThread, cancel: CancelToken | None = None) -> tuple[threading.Thread, list[BaseException]]:
    """A thread that waits for what does not end by itself, and what was raised in it."""
    began = threading.Event()
    raised: list[BaseException] = []

    async def for_ever() -> None:
        began.set()
        await asyncio.sleep(3600)

    def run() -> None:
        try:
            loop.run(for_ever(), cancel)
        except (StoreClosed, Cancelled) as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert began.wait(10)
    return thread, raised


def test_who_waits_is_told_when_the_loop_ends(loop: LoopThread) -> None:
    thread, raised = waiting(loop)
    loop.close(nothing())
    thread.join(10)
    assert [type(error) for error in raised] == [StoreClosed]
    with pytest.raises(StoreClosed):
        loop.run(nothing())


def test_a_token_ends_the_wait(loop: LoopThread) -> None:
    cancel = CancelToken()
    thread, raised = waiting(loop, cancel)
    cancel.set()
    thread.join(10)
    assert [type(error) for error in raised] == [Cancelled]
    loop.close(nothing())


def test_a_token_that_is_set_already_ends_it(loop: LoopThread) -> None:
    cancel = CancelToken()
    cancel.set()
    raised: list[BaseException] = []

    async def for_ever() -> None:
        await asyncio.sleep(3600)

    async def answers() -> AsyncGenerator[int, None]:
        await asyncio.sleep(3600)
        yield 1

    def run() -> None:
        for work in (for_ever(), anext(answers(), None)):
            loop._loop.call_soon_threadsafe(time.sleep, 0.2)  # the call is made and cancelled before its first step
            try:
                loop.run(work, cancel)
            except Cancelled as error:
                raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert [type(error) for error in raised] == [Cancelled, Cancelled]
    loop.close(nothing())


def test_what_is_raised_comes_out(loop: LoopThread) -> None:
    async def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        loop.run(fails())
    loop.spawn(fails())
    loop.close(nothing())
