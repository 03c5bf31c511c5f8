"""Raw keys and a bank while regions split, merge, change their leaders and move between four stores."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kvstore.codec import encode_bytes
from tests.e2e.bank import ACCOUNTS, Bank, account
from tests.tikv_client.bank_client import BankClient
from tests.tikv_client.failures import ClientFailed, told
from tests.tikv_client.suite import Mover, running, while_moving

tikv = pytest.importorskip("tikv_client.asynchronous")

pytestmark = pytest.mark.slow

WRITERS = 6
KEYS = 50
"""Of one writer."""
MOVES_S = 20.0
MOVES_S_MAX = 90.0
BACK_S = 30.0
"""This client leaves the locks of a commit that failed, for 20 s if it was pessimistic."""


def raw_key(writer: int, number: int) -> bytes:
    return b"raw/%02d/%03d" % (writer, number)


class RawWriter:
    """Writes its own keys again and again, each time a greater number, and knows which of them may be there."""

    def __init__(self, client: Any, writer: int) -> None:
        self._client = client
        self._writer = writer
        self._rng = random.Random(writer)
        self._round = 0
        self._may_be: dict[int, list[int]] = {number: [0] for number in range(KEYS)}
        """By key: the last value that was acknowledged (0: none), and those after it of which nobody knows."""
        self.acknowledged = 0
        self.failed: list[str] = []

    async def write(self) -> None:
        """One batch or one key, then a look at some."""
        self._round += 1
        some = self._rng.sample(range(KEYS), self._rng.choice((1, 1, 1, 8)))
        value = b"%d" % self._round
        try:
            if len(some) == 1:
                await told(self._client.put(raw_key(self._writer, some[0]), value))
            else:
                await told(self._client.batch_put({raw_key(self._writer, number): value for number in some}))
        except ClientFailed as error:
            self.failed.append(str(error))
            for number in some:
                self._may_be[number].append(self._round)
        else:
            self.acknowledged += len(some)
            for number in some:
                self._may_be[number] = [self._round]
        try:
            await self.check(self._rng.sample(range(KEYS), 5))
        except ClientFailed as error:
            self.failed.append(str(error))

    async def check(self, numbers: Sequence[int]) -> None:
        """Reads keys back. Raises AssertionError for a value that was lost or never written."""
        found = dict(await told(self._client.batch_get([raw_key(self._writer, number) for number in numbers])))
        for number in numbers:
            value = int(found.get(raw_key(self._writer, number), b"0"))
            assert value in self._may_be[number], f"{self._writer}/{number} is {value}, not {self._may_be[number]}"


def test_every_acknowledged_raw_put_is_read_back(tmp_path: Path) -> None:
    with running(tmp_path, 4, balanced=True) as suite:

        async def test() -> None:
            await suite.split([raw_key(writer, 0) for writer in range(1, WRITERS)])
            client = await tikv.RawClient.connect(suite.cluster.pd_addresses)
            writers = [RawWriter(client, writer) for writer in range(WRITERS)]
            mover = Mover(
                suite.cluster, 1, "raw", lambda rng: raw_key(rng.randrange(WRITERS), rng.randrange(KEYS)) + b"\x00"
            )

            async def work() -> None:
                await asyncio.gather(*(writer.write() for writer in writers))

            await while_moving(mover, work, MOVES_S, MOVES_S_MAX)
            for writer in writers:
                await writer.check(range(KEYS))
                assert writer.acknowledged > len(writer.failed)
            print(dict(mover.seen), dict(mover.refused))
            print(sum(writer.acknowledged for writer in writers), [error for one in writers for error in one.failed])

        suite.run(test)


def test_the_total_of_a_bank_is_constant(tmp_path: Path) -> None:
    with running(tmp_path, 4, balanced=True) as suite:

        async def split(keys: Sequence[bytes]) -> None:
            await suite.split([encode_bytes(key) for key in keys])

        async def test() -> None:
            client = await tikv.TransactionClient.connect(suite.cluster.pd_addresses)
            bank = Bank(BankClient(client, split), seed=2)
            await bank.open()
            await bank.serves_again(BACK_S)
            mover = Mover(
                suite.cluster, 2, "txn", lambda rng: account(rng.randrange(ACCOUNTS)) + b"/%d" % rng.randrange(9)
            )

            async def work() -> None:
                await bank.serves_again(BACK_S)

            await while_moving(mover, work, MOVES_S, MOVES_S_MAX)
            await bank.serves_again(BACK_S)
            await bank.close()
            print(dict(mover.seen), dict(mover.refused))
            print(f"{len(bank.acknowledged)} transfers, {bank.audits} audits, {dict(bank.errors)}")

        suite.run(test)
