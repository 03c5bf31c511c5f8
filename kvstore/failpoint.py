"""Failpoints: named places in the code where a test or an operator can make something go wrong.

The syntax is that of the Rust crate fail (tikv/fail-rs): `name=[p%][count*]task[(argument)]`, tasks chained with `->`,
points separated by `;`: `FAILPOINTS="engine::before_sync=1%return->5*sleep(10)->off;raftstore::apply_write=panic"`. Of
a chain the first task acts whose count is not used up and whose chance comes up.

| task | `fail_point` | `fail_point_async` |
|---|---|---|
| `off` | nothing | nothing |
| `return`, `return(x)` | the result is `""`, `x`; what that means is the place's | the same |
| `sleep(ms)` | stops the whole process' loop for so long | this coroutine waits |
| `delay(ms)` | stops the whole process' loop for so long | the same |
| `pause` | raises FailpointError: nobody could resume it | waits until the point is configured anew or removed |
| `yield` | nothing | the loop runs others first |
| `panic`, `panic(x)` | raises FailpointPanic; a server's process ends at once | the same |
| `print`, `print(x)` | writes a line | the same |

A point that nobody configured costs one call and one look at an empty dictionary. All of it runs on one thread, but for
`engine::before_sync`, which is where the sync runs: there `sleep` and `delay` make a slow disk.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NoReturn, cast, get_args

if TYPE_CHECKING:
    import asyncio

ENVIRONMENT = "FAILPOINTS"
POINTS_MAX = 1024
ACTIONS_BYTES_MAX = 4096
WAIT_MS_MAX = 3_600_000
COUNT_MAX = 10**9

TaskName = Literal["off", "return", "sleep", "delay", "pause", "yield", "panic", "print"]

_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_PERCENT = re.compile(r"\d{1,9}(\.\d{0,9})?|\.\d{1,9}", re.ASCII)
_NUMBER = re.compile(r"\d{1,10}", re.ASCII)
_TAKES_MS = ("sleep", "delay")
_TAKES_TEXT = ("return", "panic", "print")


class FailpointError(ValueError):
    """A name or an action that cannot be read or cannot be done; the message quotes it. Nothing was changed."""


class FailpointPanic(BaseException):
    """The task `panic`. Not an `Exception`, so that nothing but the edge of the process catches it."""


@dataclass(frozen=True, slots=True)
class Action:
    """One link of a chain. `count` None is without end; `argument` is milliseconds of a wait, or a text."""

    task: TaskName
    argument: str | None = None
    percent: float = 100.0
    count: int | None = None

    def __str__(self) -> str:
        percent = "" if self.percent == 100 else f"{self.percent:.9f}".rstrip("0").rstrip(".") + "%"
        count = "" if self.count is None else f"{self.count}*"
        argument = "" if self.argument is None else f"({self.argument})"
        return f"{percent}{count}{self.task}{argument}"


def parse_actions(text: str) -> tuple[Action, ...]:
    """Reads a chain, as `50%return(x)->2*sleep(10)->off`. Raises FailpointError."""
    if len(text) > ACTIONS_BYTES_MAX:
        raise FailpointError(f"failpoint actions are {len(text)} characters long, at most {ACTIONS_BYTES_MAX} are read")
    return tuple(_parse_action(part.strip()) for part in text.split("->"))


def _parse_action(text: str) -> Action:
    head, opened, rest = text.partition("(")
    argument = None
    if opened:
        if not rest.endswith(")"):
            raise FailpointError(f"failpoint action {text!r}: the parenthesis is not closed")
        argument = rest[:-1]
    percent, count = 100.0, None
    before, found, after = head.partition("%")
    if found:
        head = after
        if not _PERCENT.fullmatch(before) or float(before) > 100:
            raise FailpointError(f"failpoint action {text!r}: {before!r} is no percentage between 0 and 100")
        percent = float(before)
    before, found, after = head.partition("*")
    if found:
        head = after
        count = _number(text, before, "count", COUNT_MAX)
    return Action(_task(text, head, argument), argument, percent, count)


def _task(text: str, name: str, argument: str | None) -> TaskName:
    for known in get_args(TaskName):
        if name == known:
            break
    else:
        raise FailpointError(f"failpoint action {text!r}: {name!r} is none of {', '.join(get_args(TaskName))}")
    if name in _TAKES_MS:
        if argument is None:
            raise FailpointError(f"failpoint action {text!r}: {name} needs milliseconds, as {name}(10)")
        _number(text, argument, "wait in milliseconds", WAIT_MS_MAX)
    elif argument is not None and name not in _TAKES_TEXT:
        raise FailpointError(f"failpoint action {text!r}: {name} takes no argument")
    task: TaskName = known
    return task


def _number(text: str, digits: str, what: str, most: int) -> int:
    if not _NUMBER.fullmatch(digits) or int(digits) > most:
        raise FailpointError(f"failpoint action {text!r}: {digits!r} is no {what} between 0 and {most}")
    return int(digits)


@dataclass(slots=True)
class _Point:
    """A configured point: its chain, what is left of the counts, and who is paused at it."""

    actions: tuple[Action, ...]
    left: list[int | None]
    paused: list[asyncio.Future[None]] = field(default_factory=list)

    def choose(self, rng: random.Random) -> Action | None:
        for at, action in enumerate(self.actions):
            left = self.left[at]
            if left == 0 or (action.percent < 100 and rng.random() * 100 >= action.percent):
                continue
            if left is not None:
                self.left[at] = left - 1
            return action
        return None

    def release(self) -> None:
        for waiter in self.paused:
            if not waiter.done():
                waiter.set_result(None)
        self.paused.clear()


def _write_line(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _raise_panic(message: str) -> NoReturn:
    raise FailpointPanic(message)


class Failpoints:
    """A set of configured points.

    `block` holds up the thread (seconds), `say` takes the lines of `print`, and `panic` does not return: it raises, and
    in a server's process it ends the process at once, as a crash would.
    """

    def __init__(
        self,
        rng: random.Random,
        block: Callable[[float], None] = time.sleep,
        say: Callable[[str], None] = _write_line,
        panic: Callable[[str], NoReturn] = _raise_panic,
    ) -> None:
        self.rng = rng
        self.block = block
        self.say = say
        self.panic = panic
        self.points: dict[str, _Point] = {}

    def configure(self, name: str, actions: str) -> None:
        """Sets the chain of a point and resumes who is paused at it. Raises FailpointError."""
        if not _NAME.fullmatch(name):
            raise FailpointError(f"{name[:140]!r} is no name of a failpoint")
        parsed = parse_actions(actions)
        if name not in self.points and len(self.points) >= POINTS_MAX:
            raise FailpointError(f"{POINTS_MAX} failpoints are configured; remove one first")
        before = self.points.get(name)
        self.points[name] = _Point(parsed, [action.count for action in parsed])
        if before is not None:
            before.release()

    def remove(self, name: str) -> bool:
        """Switches a point off and resumes who is paused at it; says whether it was on."""
        point = self.points.pop(name, None)
        if point is None:
            return False
        point.release()
        return True

    def clear(self) -> None:
        """Switches all points off."""
        for name in list(self.points):
            self.remove(name)

    def list_all(self) -> list[tuple[str, str]]:
        """Name and actions of the configured points, by name; counts as they were given."""
        return [(name, "->".join(map(str, point.actions))) for name, point in sorted(self.points.items())]

    def setup_from_env(self, environ: Mapping[str, str]) -> None:
        """Configures what the environment variable FAILPOINTS says, all of it or nothing. Raises FailpointError."""
        pairs = []
        for part in environ.get(ENVIRONMENT, "").split(";"):
            if not part.strip():
                continue
            name, found, actions = part.strip().partition("=")
            if not found:
                raise FailpointError(f"{ENVIRONMENT}: {part!r} is not name=actions")
            if not _NAME.fullmatch(name):
                raise FailpointError(f"{ENVIRONMENT}: {name[:140]!r} is no name of a failpoint")
            parse_actions(actions)
            pairs.append((name, actions))
        for name, actions in pairs:
            self.configure(name, actions)

    def evaluate(self, name: str) -> str | None:
        """Does what the point's chain says, in synchronous code. Raises FailpointPanic, FailpointError."""
        point = self.points.get(name)
        action = point and point.choose(self.rng)
        if not action:
            return None
        match action.task:
            case "sleep" | "delay":
                self.block(int(action.argument or 0) / 1000)
            case "pause":
                raise FailpointError(f"failpoint {name}: it is in synchronous code, which cannot pause")
            case "yield":
                pass
            case _:
                return self._at_once(name, action)
        return None

    async def evaluate_async(self, name: str) -> str | None:
        """Does what the point's chain says, in a coroutine. Raises FailpointPanic."""
        import asyncio  # the embedded engine, which has failpoints too, starts without it

        point = self.points.get(name)
        action = point and point.choose(self.rng)
        if not point or not action:
            return None
        match action.task:
            case "sleep":
                await asyncio.sleep(int(action.argument or 0) / 1000)
            case "delay":
                self.block(int(action.argument or 0) / 1000)
            case "pause":
                waiter = asyncio.get_running_loop().create_future()
                point.paused.append(waiter)
                await waiter
            case "yield":
                await asyncio.sleep(0)
            case _:
                return self._at_once(name, action)
        return None

    def _at_once(self, name: str, action: Action) -> str | None:
        match action.task:
            case "return":
                return action.argument or ""
            case "panic":
                self.panic(action.argument or f"failpoint {name} panic")
            case "print":
                self.say(action.argument or f"failpoint {name} executed.")
        return None


class _Nothing:
    """Awaits to None without a coroutine."""

    def __await__(self) -> Iterator[None]:
        return iter(())


REGISTRY = Failpoints(random.Random())
"""The process' failpoints."""

_POINTS = REGISTRY.points
_NOTHING = cast("Awaitable[None]", _Nothing())


def fail_point(name: str) -> str | None:
    """The failpoint `name`: None when nothing is to be done, else the argument of `return`."""
    if not _POINTS:
        return None
    return REGISTRY.evaluate(name)


def fail_point_async(name: str) -> Awaitable[str | None]:
    """The failpoint `name` in a coroutine, to be awaited: None, or the argument of `return`."""
    if not _POINTS:
        return _NOTHING
    return REGISTRY.evaluate_async(name)


configure = REGISTRY.configure
remove = REGISTRY.remove
clear = REGISTRY.clear
list_all = REGISTRY.list_all
setup_from_env = REGISTRY.setup_from_env
