"""The raw interface over several regions on three stores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.harness import until
from tests.tikv_client.suite import Suite, running

tikv = pytest.importorskip("tikv_client.asynchronous")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

KEYS = 60


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with running(tmp_path_factory.mktemp("raw"), 3) as suite:
        yield suite


def key(test: str, number: int) -> bytes:
    return b"%s/%03d" % (test.encode(), number)


async def client_over_regions(suite: Suite, test: str) -> Any:
    """A client, and the keys of a test in four regions."""
    await suite.split([key(test, number) for number in (15, 30, 45)])
    return await tikv.RawClient.connect(suite.cluster.pd_addresses)


async def scanned(client: Any, expected: list[bytes], start: bytes, end: bytes, limit: int, **options: bool) -> None:
    """A scan finds exactly these keys.

    This client takes any region error for an empty scan, and does not look the region up again (later ones do): points
    that it reads before let it know who leads now.
    """

    async def found() -> bool:
        await client.batch_get([start, *expected, end])
        keys = [pair[0] for pair in await client.scan(start, end=end, limit=limit, **options)]
        assert set(keys) <= set(expected), keys
        return keys == expected

    await until(found, 10, f"a scan of {start!r} to {end!r} that finds {len(expected)} keys")


def test_single_keys(suite: Suite) -> None:
    async def test() -> None:
        client = await client_over_regions(suite, "single")
        for number in range(KEYS):
            await client.put(key("single", number), b"%d" % number)
        for number in range(KEYS):
            assert await client.get(key("single", number)) == b"%d" % number
        await client.put(key("single", 7), b"\x00\xff" * 500)
        assert await client.get(key("single", 7)) == b"\x00\xff" * 500
        await client.delete(key("single", 7))
        assert await client.get(key("single", 7)) is None
        assert await client.get(b"single/none") is None

    suite.run(test)


def test_batches_over_regions(suite: Suite) -> None:
    async def test() -> None:
        client = await client_over_regions(suite, "batch")
        pairs = {key("batch", number): b"v%d" % number for number in range(KEYS)}
        await client.batch_put(pairs)
        assert dict(await client.batch_get([*pairs, b"batch/none"])) == pairs
        gone = [key("batch", number) for number in range(0, KEYS, 2)]
        await client.batch_delete(gone)
        left = {name: value for name, value in pairs.items() if name not in gone}
        assert dict(await client.batch_get(list(pairs))) == left

    suite.run(test)


def test_scans_over_regions(suite: Suite) -> None:
    async def test() -> None:
        client = await client_over_regions(suite, "scan")
        keys = [key("scan", number) for number in range(KEYS)]
        await client.batch_put(dict.fromkeys(keys, b"v"))
        await scanned(client, keys, b"scan/", b"scan0", 1000)
        await scanned(client, keys[:20], b"scan/", b"scan0", 20)
        for number in range(3):
            await suite.lead(keys[30], number)
            await scanned(client, keys[10:50], keys[10], keys[50], 1000)
        await scanned(client, keys[11:51], keys[10], keys[50], 1000, include_start=False, include_end=True)
        await scanned(client, [], b"scan0", b"scan1", 1000)

        async def only_keys() -> bool:
            await client.batch_get(keys)
            return bool(await client.scan_keys(keys[16], end=keys[20], limit=10) == keys[16:20])

        await until(only_keys, 10, "a scan of keys without values")

    suite.run(test)


def test_ranges_are_deleted_over_regions(suite: Suite) -> None:
    async def test() -> None:
        client = await client_over_regions(suite, "range")
        keys = [key("range", number) for number in range(KEYS)]
        await client.batch_put(dict.fromkeys(keys, b"v"))
        await client.delete_range(keys[5], end=keys[55])
        assert {pair[0] for pair in await client.batch_get(keys)} == {*keys[:5], *keys[55:]}
        await scanned(client, [*keys[:5], *keys[55:]], b"range/", b"range0", 1000)

    suite.run(test)


def test_large_values(suite: Suite) -> None:
    """What is too large for a log entry is refused and harms nobody."""

    async def test() -> None:
        client = await client_over_regions(suite, "large")
        await client.put(key("large", 1), b"x" * (3 << 20))
        assert await client.get(key("large", 1)) == b"x" * (3 << 20)
        with pytest.raises(Exception, match=r"raft_entry_too_large: Some"):
            await client.put(key("large", 2), b"x" * (9 << 20))
        assert await client.get(key("large", 2)) is None

    suite.run(test)
