"""GET_LOCK and its relatives. The locks themselves are the session's business."""

from __future__ import annotations

from typing import Protocol, cast

from coprocessor.env import Env
from coprocessor.errors import InvalidArgument
from coprocessor.functions.registry import Function, add, fixed
from coprocessor.types import BIGINT, DOUBLE, TEXT, UBIGINT

SUBJECT = "session"
NAME_CHARS_MAX = 64


class Locks(Protocol):
    """The named locks, as one session sees them."""

    def get(self, name: str, seconds: float) -> bool: ...
    def release(self, name: str) -> int | None: ...
    def release_all(self) -> int: ...
    def is_free(self, name: str) -> bool: ...
    def owner(self, name: str) -> int | None: ...


def _locks(env: Env) -> Locks:
    return cast(Locks, env.value(("user_locks",)))


def _name(name: str | None) -> str:
    """Names are the same in any case."""
    if not name or len(name) > NAME_CHARS_MAX:
        shown = "NULL" if name is None else name
        raise InvalidArgument(f"Incorrect user-level lock name '{shown}'.", code=3057, sqlstate="42000")
    return name.lower()


def _get_lock(env: Env, name: str | None, seconds: float | None) -> int:
    return int(_locks(env).get(_name(name), seconds or 0.0))


def _release_lock(env: Env, name: str | None) -> int | None:
    return _locks(env).release(_name(name))


def _release_all_locks(env: Env) -> int:
    return _locks(env).release_all()


def _is_free_lock(env: Env, name: str | None) -> int:
    return int(_locks(env).is_free(_name(name)))


def _is_used_lock(env: Env, name: str | None) -> int | None:
    return _locks(env).owner(_name(name))


add(Function("get_lock", 2, 2, fixed([TEXT, DOUBLE], BIGINT), SUBJECT, py=_get_lock, nulls=True, env=True,
             deterministic=False))  # fmt: skip
add(Function("release_lock", 1, 1, fixed([TEXT], BIGINT), SUBJECT, py=_release_lock, nulls=True, env=True,
             deterministic=False))  # fmt: skip
add(Function("release_all_locks", 0, 0, fixed([], UBIGINT), SUBJECT, py=_release_all_locks, nulls=True, env=True,
             deterministic=False))  # fmt: skip
add(Function("is_free_lock", 1, 1, fixed([TEXT], BIGINT), SUBJECT, py=_is_free_lock, nulls=True, env=True,
             deterministic=False))  # fmt: skip
add(Function("is_used_lock", 1, 1, fixed([TEXT], UBIGINT), SUBJECT, py=_is_used_lock, nulls=True, env=True,
             deterministic=False))  # fmt: skip
