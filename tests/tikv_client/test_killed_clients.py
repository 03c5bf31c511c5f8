"""What a client leaves behind that is killed in the middle of a transaction, and who comes after it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kvstore.codec import encode_bytes
from shell.ctl import ask
from shell.ctl.keys import Key
from tests.e2e.harness import ROOT, until
from tests.e2e.proxy import OUTSIDE
from tests.tikv_client.failures import ClientFailed, told
from tests.tikv_client.suite import Suite, running

tikv = pytest.importorskip("tikv_client.asynchronous")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

LEFT = b"left behind"
GONE_S = 40.0
"""The locks of who no longer says that it lives stay for 20 s at most."""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with running(tmp_path_factory.mktemp("killed"), 3) as suite:
        yield suite


@asynccontextmanager
async def another_client(suite: Suite, how: str, keys: list[bytes]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A client process (see killed.py) that is where it should be; killed at the end of the block."""
    words = ["-m", "tests.tikv_client.killed", suite.cluster.pd_addresses[0], how, *(key.decode() for key in keys)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *words,
        cwd=ROOT,
        env=environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def keys_in_regions(suite: Suite, test: str) -> tuple[Any, list[bytes]]:
    """A client, and three keys in three regions, which have values."""
    keys = [b"%s/%d" % (test.encode(), number) for number in range(3)]
    await suite.split([encode_bytes(key) for key in keys])
    client = await tikv.TransactionClient.connect(suite.cluster.pd_addresses)
    transaction = await client.begin(pessimistic=False)
    for key in keys:
        await transaction.put(key, b"old")
    await transaction.commit()
    return client, keys


async def locked(suite: Suite, key: bytes) -> bool:
    """Whether the store that leads the key's region says that it is locked."""
    report = await ask.mvcc(Key(key.decode()))(suite.cluster.session)
    return any(row[0] == "lock" for row in report.rows)


async def read(client: Any, keys: list[bytes]) -> list[bytes | None]:
    """What a snapshot finds, once no lock is in the way. This client gives up after 1.5 s."""

    async def found() -> list[bytes | None]:
        snapshot = client.snapshot(await client.current_timestamp(), pessimistic=False)
        try:
            return [await told(snapshot.get(key)) for key in keys]
        except ClientFailed as error:
            if not error.says("lock"):
                raise
            return []

    return await until(found, GONE_S, f"a snapshot of {keys}")


async def overwrite(client: Any, keys: list[bytes]) -> None:
    """Writes all keys as soon as no lock is in the way."""

    async def written() -> bool:
        transaction = await client.begin(pessimistic=True)
        try:
            for key in keys:
                await told(transaction.put(key, b"new"))
        except ClientFailed as error:
            await transaction.rollback()
            if not error.says("lock", "conflict"):
                raise
            return False
        await transaction.commit()
        return True

    await until(written, GONE_S, f"{keys} can be written")
    assert await read(client, keys) == [b"new"] * len(keys)


def test_who_is_killed_holding_locks_is_rolled_back(suite: Suite) -> None:
    async def test() -> None:
        client, keys = await keys_in_regions(suite, "holding")
        async with another_client(suite, "holding", keys):
            assert await read(client, keys) == [b"old"] * 3
        await overwrite(client, keys)

    suite.run(test)


@pytest.mark.parametrize("which", [0, 2], ids=["primary", "secondary"])
def test_who_is_killed_between_two_prewrites_is_rolled_back(suite: Suite, which: int) -> None:
    """The prewrite of one region does not get through before the client dies."""

    async def test() -> None:
        client, keys = await keys_in_regions(suite, f"prewriting{which}")
        leads = [await suite.lead(encode_bytes(key), number) for number, key in enumerate(keys)]
        away = leads[which]
        try:
            async with another_client(suite, "prewriting", keys) as process:
                suite.cluster.network.cut(OUTSIDE, away)
                assert process.stdin is not None
                process.stdin.write(b"go\n")
                await until(lambda: locked(suite, keys[1]), 10, "a lock that was left")
        finally:
            suite.cluster.network.heal()
        assert await read(client, keys) == [b"old"] * 3
        await overwrite(client, keys)

    suite.run(test)


def test_what_was_committed_by_its_primary_stays(suite: Suite) -> None:
    async def test() -> None:
        client, keys = await keys_in_regions(suite, "committed")
        async with another_client(suite, "committed", keys) as process:
            assert await asyncio.wait_for(process.wait(), 10) == 9
        assert await read(client, keys) == [LEFT] * 3
        await overwrite(client, keys)

    suite.run(test)
