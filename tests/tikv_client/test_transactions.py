"""The transactional interface over several regions on three stores, both kinds of transactions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from kvstore.codec import encode_bytes
from shell.ctl import ask
from shell.ctl.keys import Key
from tests.e2e.harness import until
from tests.tikv_client.failures import ClientFailed, told
from tests.tikv_client.suite import Suite, running

tikv = pytest.importorskip("tikv_client.asynchronous")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

KEYS = 40
both = pytest.mark.parametrize("pessimistic", [False, True], ids=["optimistic", "pessimistic"])


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with running(tmp_path_factory.mktemp("txn"), 3) as suite:
        yield suite


def key(test: str, number: int) -> bytes:
    return b"%s/%04d" % (test.encode(), number)


async def client_over_regions(suite: Suite, test: str) -> Any:
    """A client, and the keys of a test in four regions."""
    await suite.split([encode_bytes(key(test, number)) for number in (10, 20, 30)])
    return await tikv.TransactionClient.connect(suite.cluster.pd_addresses)


async def write(client: Any, pairs: dict[bytes, bytes | None], pessimistic: bool = False) -> None:
    """Commits these values; None deletes."""
    transaction = await client.begin(pessimistic=pessimistic)
    for name, value in pairs.items():
        if value is None:
            await transaction.delete(name)
        else:
            await transaction.put(name, value)
    await transaction.commit()


async def snapshot_of(client: Any) -> Any:
    return client.snapshot(await client.current_timestamp(), pessimistic=False)


@both
def test_what_is_committed_is_read(suite: Suite, pessimistic: bool) -> None:
    name = f"commit{pessimistic:d}"

    async def test() -> None:
        client = await client_over_regions(suite, name)
        pairs = {key(name, number): b"%d" % number for number in range(KEYS)}
        await write(client, dict(pairs), pessimistic)
        snapshot = await snapshot_of(client)
        assert dict(await snapshot.batch_get([*pairs, b"none"])) == pairs
        assert await snapshot.get(key(name, 7)) == b"7"
        assert await snapshot.get(b"none") is None
        assert await snapshot.key_exists(key(name, 39))
        assert not await snapshot.key_exists(key(name, KEYS))
        await write(client, {key(name, 7): None, key(name, 35): b"new"}, pessimistic)
        assert await snapshot.get(key(name, 35)) == b"35", "an older snapshot does not change"
        fresh = await snapshot_of(client)
        assert await fresh.get(key(name, 7)) is None
        assert await fresh.get(key(name, 35)) == b"new"

    suite.run(test)


def test_scans_over_regions(suite: Suite) -> None:
    async def test() -> None:
        client = await client_over_regions(suite, "scan")
        keys = [key("scan", number) for number in range(KEYS)]
        await write(client, dict.fromkeys(keys, b"v"))
        snapshot = await snapshot_of(client)
        assert [pair[0] for pair in await snapshot.scan(b"scan/", end=b"scan0", limit=100)] == keys
        assert list(await snapshot.scan_keys(b"scan/", end=b"scan0", limit=15)) == keys[:15]
        options = {"include_start": False, "include_end": True}
        assert list(await snapshot.scan_keys(keys[5], end=keys[25], limit=100, **options)) == keys[6:26]
        transaction = await client.begin(pessimistic=False)
        await transaction.put(b"scan/0005x", b"own")
        await transaction.delete(keys[6])
        assert list(await transaction.scan_keys(keys[5], end=keys[8], limit=100)) == [keys[5], b"scan/0005x", keys[7]]
        await transaction.rollback()

    suite.run(test)


@both
def test_what_is_rolled_back_is_gone(suite: Suite, pessimistic: bool) -> None:
    name = f"rollback{pessimistic:d}"

    async def test() -> None:
        client = await client_over_regions(suite, name)
        transaction = await client.begin(pessimistic=pessimistic)
        for number in range(KEYS):
            await transaction.put(key(name, number), b"v")
        await transaction.rollback()
        assert list(await (await snapshot_of(client)).scan_keys(key(name, 0), end=key(name, KEYS), limit=100)) == []
        await write(client, {key(name, number): b"after" for number in range(KEYS)}, not pessimistic)

    suite.run(test)


@both
def test_a_key_that_exists_is_not_inserted(suite: Suite, pessimistic: bool) -> None:
    name = f"insert{pessimistic:d}"

    async def insert(client: Any, number: int) -> None:
        transaction = await client.begin(pessimistic=pessimistic)
        try:
            await transaction.insert(key(name, number), b"inserted")
            await transaction.commit()
        except BaseException:
            await transaction.rollback()
            raise

    async def test() -> None:
        client = await client_over_regions(suite, name)
        await insert(client, 1)
        with pytest.raises(Exception, match=r"(?i)already_?\s?exist"):
            await insert(client, 1)
        await write(client, {key(name, 1): None})
        await insert(client, 1)
        assert await (await snapshot_of(client)).get(key(name, 1)) == b"inserted"

    suite.run(test)


def test_the_second_of_two_writers_loses(suite: Suite) -> None:
    async def test() -> None:
        client = await client_over_regions(suite, "conflict")
        first, second = await client.begin(pessimistic=False), await client.begin(pessimistic=False)
        for transaction, value in ((first, b"1"), (second, b"2")):
            for number in range(KEYS):
                await transaction.put(key("conflict", number), value)
        await first.commit()
        with pytest.raises(Exception, match=r"[Cc]onflict"):
            await second.commit()
        snapshot = await snapshot_of(client)
        found = dict(await snapshot.batch_get([key("conflict", number) for number in range(KEYS)]))
        assert set(found.values()) == {b"1"}
        assert len(found) == KEYS

    suite.run(test)


def test_a_locked_key_waits_for_its_holder(suite: Suite) -> None:
    async def test() -> None:
        client = await client_over_regions(suite, "held")
        await write(client, {key("held", number): b"old" for number in range(KEYS)})
        holder = await client.begin(pessimistic=True)
        assert await holder.get_for_update(key("held", 5)) == b"old"
        await holder.lock_keys([key("held", 15)])
        found = dict(await holder.batch_get_for_update([key("held", 25), key("held", 35)]))
        assert found == {key("held", 25): b"old", key("held", 35): b"old"}
        other = await client.begin(pessimistic=True)
        waiting = asyncio.ensure_future(other.get_for_update(key("held", 25)))
        assert await (await snapshot_of(client)).get(key("held", 25)) == b"old", "pessimistic locks stop no reader"
        await holder.put(key("held", 25), b"new")
        assert not waiting.done()
        await holder.commit()
        # it waited, but began before this was committed, and this client leaves it to its user to begin again
        with pytest.raises(Exception, match=r"[Cc]onflict"):
            await waiting
        await other.rollback()
        other = await client.begin(pessimistic=True)
        assert await other.get_for_update(key("held", 25)) == b"new"
        await other.rollback()

    suite.run(test)


def test_counts_add_up(suite: Suite) -> None:
    customers = 6

    async def add(client: Any, number: int) -> None:
        while True:
            transaction = await client.begin(pessimistic=True)
            try:
                count = int(await told(transaction.get_for_update(key("count", number))) or b"0")
            except ClientFailed as error:
                await transaction.rollback()
                # this client leaves it to its user to begin again
                if not error.says("conflict", "lock"):
                    raise
                continue
            await transaction.put(key("count", number), b"%d" % (count + 1))
            await transaction.commit()
            return

    async def test() -> None:
        client = await client_over_regions(suite, "count")

        async def customer() -> None:
            for number in range(0, KEYS, 4):
                await add(client, number)

        await asyncio.gather(*(customer() for _ in range(customers)))
        found = await (await snapshot_of(client)).batch_get([key("count", number) for number in range(0, KEYS, 4)])
        assert [pair[1] for pair in found] == [b"%d" % customers] * (KEYS // 4)

    suite.run(test)


def test_a_deadlock_over_two_regions_is_found(suite: Suite) -> None:
    async def test() -> None:
        client = await client_over_regions(suite, "deadlock")
        keys = [key("deadlock", 5), key("deadlock", 35)]
        transactions = [await client.begin(pessimistic=True) for _ in keys]
        for transaction, name in zip(transactions, keys, strict=True):
            await transaction.put(name, b"v")

        async def cross(transaction: Any, name: bytes) -> str:
            try:
                await told(transaction.put(name, b"v"))
            except ClientFailed as error:
                await transaction.rollback()
                return str(error)
            await transaction.commit()
            return ""

        said = await asyncio.gather(*map(cross, transactions, reversed(keys)))
        # whoever waits for the one that was rolled back may be told to begin again at a newer timestamp
        assert any("deadlock" in text.lower() for text in said), said

    suite.run(test)


def test_a_transaction_of_many_keys(suite: Suite) -> None:
    """Prewrites and commits are cut at 16 KiB: some dozen calls to each region."""

    async def test() -> None:
        client = await client_over_regions(suite, "many")
        pairs = {b"many/%04d/%06d" % (number % KEYS, number): b"x" * 400 for number in range(3000)}
        await write(client, dict(pairs))
        snapshot = await snapshot_of(client)
        assert dict(await snapshot.scan(b"many/", end=b"many0", limit=5000)) == pairs

    suite.run(test)


def test_old_versions_are_collected(suite: Suite) -> None:
    name = "gc/0001"

    async def versions(session: Any) -> int:
        report = await ask.mvcc(Key(name))(session)
        return len(report.rows)

    async def test() -> None:
        client = await client_over_regions(suite, "gc")
        for number in range(5):
            await write(client, {name.encode(): b"%d" % number})
        before = await versions(suite.cluster.session)
        assert before >= 5
        await client.inner.gc(await client.current_timestamp())

        async def collected() -> bool:
            return await versions(suite.cluster.session) <= before - 4

        await until(collected, 30, f"fewer versions than {before}")
        assert await (await snapshot_of(client)).get(name.encode()) == b"4"

    suite.run(test)
