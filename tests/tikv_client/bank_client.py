"""The PyPI client as the bank of tests/e2e wants it: both kinds of transactions in turn, and our errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from kvstore.client.cluster.errors import UndeterminedResult
from tests.tikv_client.failures import ClientFailed, told

_NOT_COMMITTED = ("conflict", "deadlock")
"""What a commit says when a prewrite was refused. Anything else may come from a commit that was done."""


class BankTransaction:
    """Values are put when all is known, so that a pessimistic one locks in one place."""

    def __init__(self, inner: Any, pessimistic: bool) -> None:
        self._inner = inner
        self._pessimistic = pessimistic
        self._puts: dict[bytes, bytes] = {}

    async def batch_get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        get = self._inner.batch_get_for_update if self._pessimistic else self._inner.batch_get
        return dict(await told(get(list(keys))))

    def put(self, key: bytes, value: bytes) -> None:
        self._puts[key] = value

    async def commit(self) -> None:
        """Raises ClientFailed where it certainly was not committed, else UndeterminedResult."""
        try:
            for key, value in self._puts.items():
                await told(self._inner.put(key, value))
        except BaseException:
            await self.rollback()
            raise
        try:
            await told(self._inner.commit())
        except ClientFailed as error:
            if not error.says(*_NOT_COMMITTED):
                # to roll back now could take the secondaries of a committed primary away
                raise UndeterminedResult(str(error)) from error
            await self.rollback()
            raise

    async def rollback(self) -> None:
        await told(self._inner.rollback())


class BankSnapshot:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def batch_get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        return dict(await told(self._inner.batch_get(list(keys))))


class BankClient:
    """See `tests.e2e.bank.Client`."""

    def __init__(self, inner: Any, split: Callable[[Sequence[bytes]], Awaitable[None]]) -> None:
        self._inner = inner
        self._split = split
        self._begun = 0

    async def begin(self, *, pessimistic: bool = False) -> BankTransaction:
        """Every other one is pessimistic."""
        self._begun += 1
        kind = pessimistic or self._begun % 2 == 0
        return BankTransaction(await told(self._inner.begin(pessimistic=kind)), kind)

    def snapshot(self, ts: Any) -> BankSnapshot:
        return BankSnapshot(self._inner.snapshot(ts, pessimistic=False))

    async def now_ts(self) -> Any:
        return await told(self._inner.current_timestamp())

    async def split(self, keys: Sequence[bytes]) -> None:
        await self._split(keys)
