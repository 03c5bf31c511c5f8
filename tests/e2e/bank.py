"""A bank over a cluster: transfers and audits that go on while things break, and what has to hold of them.

Every transfer writes a receipt in its own transaction. An acknowledged transfer has its receipt at the end, a
refused one has none; one whose outcome nobody knows may have. The total never changes, in any snapshot.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from kvstore.client.cluster.errors import UndeterminedResult
from kvstore.errors import KvError
from kvstore.rpc.api import RpcError
from tests.e2e.harness import until

ACCOUNTS = 16
REGIONS = 4
START = 100
CALL_S = 15.0
"""A transfer that takes longer is given up; its outcome is unknown then."""


class Reads(Protocol):
    """What the bank asks of a snapshot."""

    def batch_get(self, keys: Iterable[bytes]) -> Awaitable[Mapping[bytes, bytes]]: ...


class Writes(Reads, Protocol):
    """What it asks of a transaction."""

    def put(self, key: bytes, value: bytes) -> None: ...
    async def commit(self) -> Any: ...
    async def rollback(self) -> None: ...


class Client(Protocol):
    """What it asks of a client: ours, or another's that fails with our errors."""

    def begin(self, *, pessimistic: bool = False) -> Awaitable[Writes]: ...
    def snapshot(self, ts: int) -> Reads: ...
    async def now_ts(self) -> int: ...
    async def split(self, keys: Sequence[bytes]) -> Any: ...


def account(number: int) -> bytes:
    return b"account/%02d" % number


def receipt(transfer: int) -> bytes:
    """Receipts lie beside the accounts, spread over all regions."""
    return b"account/%02d/receipt/%08d" % (transfer % ACCOUNTS, transfer)


class Bank:
    """Customers and an auditor, at work between `open` and `close`."""

    def __init__(self, client: Client, seed: int, customers: int = 4) -> None:
        self._client = client
        self._rng = random.Random(seed)
        self._customers = customers
        self._tasks: list[asyncio.Task[None]] = []
        self._next = 0
        self._closed = False
        self.acknowledged: set[int] = set()
        self.refused: set[int] = set()
        self.unknown: set[int] = set()
        self.errors: Counter[str] = Counter()
        self.audits = 0
        self._served: dict[int, float] = {}
        """When the last acknowledged transfer began, by region (in the order of their keys)."""

    async def open(self) -> None:
        """Makes the accounts in regions of their own, and lets the customers in."""
        step = ACCOUNTS // REGIONS

        async def fill() -> bool:
            transaction = await self._client.begin(pessimistic=False)
            for number in range(ACCOUNTS):
                transaction.put(account(number), b"%d" % START)
            await transaction.commit()
            return True

        await until(fill, 30, "the first transaction")
        await self._client.split([account(number) for number in range(step, ACCOUNTS, step)])
        self._tasks = [asyncio.create_task(self._customer()) for _ in range(self._customers)]
        self._tasks.append(asyncio.create_task(self._auditor()))

    async def close(self) -> None:
        """Sends all home and looks at the books. Raises AssertionError, and what made a customer stop."""
        self._closed = True  # a transfer that ends just then may not notice that its customer is sent home
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if outcome is not None and not isinstance(outcome, asyncio.CancelledError):
                raise outcome
        await until(self._balanced, 30, "the last audit")
        await self._check_receipts()
        assert self.acknowledged, dict(self.errors)
        assert self.audits > 0

    async def serves_again(self, within_s: float) -> None:
        """Waits until transfers that began after now were acknowledged in every region."""
        since = time.monotonic()

        async def served() -> bool:
            return all(self._served.get(region, 0.0) > since for region in range(REGIONS))

        await until(served, within_s, f"transfers in all regions (errors: {dict(self.errors)}, served {self._served})")

    async def _customer(self) -> None:
        while not self._closed:
            self._next += 1
            transfer, began = self._next, time.monotonic()
            a, b = self._rng.sample(range(ACCOUNTS), 2)
            try:
                async with asyncio.timeout(CALL_S):
                    await self._transfer(transfer, a, b, self._rng.randrange(1, 10))
            except (UndeterminedResult, TimeoutError) as error:
                self.unknown.add(transfer)
                self.errors[type(error).__name__] += 1
            except asyncio.CancelledError:
                self.unknown.add(transfer)
                raise
            except (KvError, RpcError) as error:
                self.refused.add(transfer)
                self.errors[type(error).__name__] += 1
            else:
                self.acknowledged.add(transfer)
                for number in (a, b):
                    self._served[number * REGIONS // ACCOUNTS] = began

    async def _transfer(self, transfer: int, a: int, b: int, amount: int) -> None:
        transaction = await self._client.begin(pessimistic=False)
        try:
            before = await transaction.batch_get([account(a), account(b)])
            transaction.put(account(a), b"%d" % (int(before[account(a)]) - amount))
            transaction.put(account(b), b"%d" % (int(before[account(b)]) + amount))
            transaction.put(receipt(transfer), b"%d" % amount)
        except BaseException:
            await transaction.rollback()
            raise
        await transaction.commit()

    async def _auditor(self) -> None:
        while not self._closed:
            try:
                await self._balanced()
                self.audits += 1
            except (KvError, RpcError) as error:
                self.errors[f"audit {type(error).__name__}"] += 1
            await asyncio.sleep(0.05)

    async def _balanced(self) -> bool:
        snapshot = self._client.snapshot(await self._client.now_ts())
        accounts = [account(number) for number in range(ACCOUNTS)]
        found = await snapshot.batch_get(accounts)
        total = sum(int(value) for value in found.values())
        assert len(found) == ACCOUNTS, f"accounts are missing: {sorted(set(accounts) - set(found))}"
        assert total == ACCOUNTS * START, f"the total is {total}, not {ACCOUNTS * START}: {found}"
        return True

    async def _check_receipts(self) -> None:
        snapshot = self._client.snapshot(await self._client.now_ts())
        lost = await self._missing(snapshot, sorted(self.acknowledged))
        assert not lost, f"acknowledged transfers are lost: {lost}"
        refused = sorted(self.refused)
        missing = await self._missing(snapshot, refused)
        assert missing == refused, f"refused transfers were done: {sorted(set(refused) - set(missing))}"

    async def _missing(self, snapshot: Reads, transfers: Sequence[int]) -> list[int]:
        missing = []
        for at in range(0, len(transfers), 256):
            some = transfers[at : at + 256]
            found = await snapshot.batch_get([receipt(number) for number in some])
            missing += [number for number in some if receipt(number) not in found]
        return missing
