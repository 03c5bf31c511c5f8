"""The table of calls: how each is answered at once or later, and how it says that it failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from kvstore.errors import KvError, StoreError
from kvstore.proto.errorpb_pb2 import Error
from kvstore.raftstore.api import RegionError
from kvstore.server.errors import Refused, key_error, key_errors, store_error

Failure = Callable[[Exception], Any]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One call. `now` answers at once, or returns None: then `later` has to be awaited."""

    name: str
    response: type[Any]
    later: Callable[[Any], Awaitable[Any]]
    now: Callable[[Any], Any | None] | None = None
    detached: bool = True
    """Whether it goes on when its caller goes away: it holds latches, or what it began has an outcome to look after."""
    is_txn: bool = False
    has_context: bool = True


class Failures:
    """Answers of each response type for what the table of errors does not let through to the caller as success."""

    def __init__(self, store_id: int) -> None:
        self._store_id = store_id
        self._builders: dict[type[Any], Callable[[Exception], Any]] = {}

    def response(self, kind: type[Any], error: Exception) -> Any:
        """The answer of type `kind` that tells of `error`: RegionError, KvError or Refused."""
        if isinstance(error, StoreError):
            error = store_error(error, self._store_id)
        if isinstance(error, RegionError) and "region_error" in kind.DESCRIPTOR.fields_by_name:
            return kind(region_error=error.error)
        builder = self._builders.get(kind)
        if builder is None:
            builder = self._builders[kind] = _builder(kind)
        return builder(error)


def _builder(kind: type[Any]) -> Callable[[Exception], Any]:
    """Where this type of answer has room for an error."""
    fields = kind.DESCRIPTOR.fields_by_name
    if "errors" in fields:
        return lambda error: kind(errors=key_errors(error))
    if "error" in fields:
        if fields["error"].message_type is None:
            return lambda error: kind(error=str(error) or type(error).__name__)
        if "pairs" in fields:
            # clients from before `error` look at the first pair
            return lambda error: kind(error=key_error(error), pairs=[{"error": key_error(error)}])
        return lambda error: kind(error=key_error(error))
    if "other_error" in fields:
        return lambda error: kind(other_error=str(error))
    if "region_error" in fields:
        return lambda error: kind(region_error=Error(message=str(error)))
    return lambda error: kind()


KNOWN_ERRORS = (RegionError, KvError, Refused)
"""What a handler may raise; anything else is a bug."""
