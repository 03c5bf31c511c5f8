"""The environment that compiled expressions run in: parameters, session values, SQL mode and the warning sink."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import TypeAlias

from coprocessor.quota import UNLIMITED, Quota

Warn: TypeAlias = Callable[[int, str], None]


def _ignore(code: int, message: str) -> None:
    """Drops a warning: the default where no session listens."""


def _forget(value: int) -> None:
    """Drops what LAST_INSERT_ID(value) is to remember: the default where there is no session."""


def _pause(seconds: float) -> bool:
    """Sleeps: the default where nobody interrupts."""
    time.sleep(seconds)
    return False


def _never() -> bool:
    """Whether the statement was interrupted: the default where nobody does that."""
    return False


@dataclass(slots=True)
class Env:
    """What an execution gives its closures.

    `params` is the parameter row, `context` the session's values by `Context.key`. `writing` is True while an INSERT,
    UPDATE or DELETE computes values to store: in strict mode, bad conversions and divisions by zero are then errors,
    else they are warnings. `warn(code, message)` collects warnings, `remember_id(value)` sets what LAST_INSERT_ID()
    gives from now on. `pause(seconds)` sleeps and returns whether the statement was interrupted meanwhile, and
    `is_interrupted()` whether it was at all.
    `recursions` holds, by id, the iterations and rows so far of each recursive common table expression, of which
    `recursion_depth_max` iterations are allowed. `quota` counts what the execution keeps in memory.
    """

    params: Sequence[object] = ()
    context: Mapping[tuple[object, ...], object] = field(default_factory=dict)
    tz: tzinfo = UTC
    strict: bool = True
    error_for_division_by_zero: bool = True
    writing: bool = False
    warn: Warn = _ignore
    remember_id: Callable[[int], None] = _forget
    pause: Callable[[float], bool] = _pause
    is_interrupted: Callable[[], bool] = _never
    div_precision_increment: int = 4
    recursion_depth_max: int = 1000
    recursions: dict[int, tuple[int, int]] = field(default_factory=dict)
    quota: Quota = UNLIMITED

    def value(self, key: tuple[object, ...]) -> object:
        """A value of the session; of settings MySQL's default where there is no session."""
        try:
            return self.context[key]
        except KeyError:
            return _DEFAULTS[key]


_DEFAULTS: Mapping[tuple[object, ...], object] = {
    ("group_concat_max_len",): 1024,
    ("block_encryption_mode",): "aes-128-ecb",
}
