"""Bank: transfers between accounts, optimistic and pessimistic, while others read all accounts at one snapshot."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from tests.sim.checkers import Anomaly
from tests.sim.checkers.bank import ReadAll, Transfer, check_bank
from tests.sim.history import Aborted, History
from tests.sim.workloads.api import Client, Txn, insist, transact

START = b"acc"
END = b"acd"


class Bank:
    def __init__(self, accounts: int = 8, balance: int = 100) -> None:
        self.name = "bank"
        self._accounts = [b"acc%03d" % number for number in range(accounts)]
        self._balance = balance
        self.history: History[ReadAll | Transfer, Mapping[bytes, int]] = History()

    @property
    def splits(self) -> Sequence[bytes]:
        return self._accounts[2::3]

    async def setup(self, client: Client) -> None:
        async def fill(txn: Txn) -> None:
            for account in self._accounts:
                txn.put(account, b"%d" % self._balance)

        await insist(lambda: transact(client, fill))

    async def step(self, client: Client, rng: random.Random) -> None:
        if rng.random() < 0.4:
            await self._read(client, by_scan=rng.random() < 0.5)
            return
        source, target = rng.sample(self._accounts, 2)
        transfer = Transfer(source, target, rng.randint(1, 20))
        pessimistic = rng.random() < 0.5
        # mostly in one order, or two pessimistic transfers wait for each other: a deadlock, which is to be found
        keys = sorted((source, target)) if rng.random() < 0.8 else [source, target]
        await self.history.record(client.name, transfer, lambda: self._transfer(client, transfer, keys, pessimistic))

    async def _transfer(
        self, client: Client, transfer: Transfer, keys: Sequence[bytes], pessimistic: bool
    ) -> Mapping[bytes, int]:
        async def body(txn: Txn) -> Mapping[bytes, int]:
            read = txn.get_for_update if pessimistic else txn.get
            balances = {key: int(await read(key) or b"0") for key in keys}
            if balances[transfer.source] < transfer.amount:
                raise Aborted("not enough")
            txn.put(transfer.source, b"%d" % (balances[transfer.source] - transfer.amount))
            txn.put(transfer.target, b"%d" % (balances[transfer.target] + transfer.amount))
            return {}

        return await transact(client, body, pessimistic=pessimistic)

    async def _read(self, client: Client, *, by_scan: bool) -> Mapping[bytes, int] | None:
        async def body(txn: Txn) -> Mapping[bytes, int]:
            if by_scan:
                return {key: int(value) for key, value in await txn.scan(START, END)}
            values = [(account, await txn.get(account)) for account in self._accounts]
            return {account: int(value) for account, value in values if value is not None}

        return await self.history.record(client.name, ReadAll(by_scan), lambda: transact(client, body, read_only=True))

    async def finish(self, client: Client) -> None:
        for by_scan in (False, True):

            async def read(by_scan: bool = by_scan) -> None:
                if await self._read(client, by_scan=by_scan) is None:
                    raise Aborted("not read")

            await insist(read)

    def check(self) -> list[Anomaly]:
        return check_bank(self.history.events, self._accounts, self._balance * len(self._accounts))
