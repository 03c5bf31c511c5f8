"""The life of a server's process: failpoints and signals set up, a node run until it is told to stop or fails.

A supervisor reads one line on standard output when the node serves (`ready kv addr=... pid=...`), and the exit code:

| code | after |
|---|---|
| 0 | SIGTERM or SIGINT, everything closed |
| 1 | a failure; the last line on standard error says which |
| 2 | wrong usage or configuration |
| 101 | a failpoint's `panic`, as a Rust process' |
| 130 | a second signal while it was closing, or it was not closed some seconds after the grace period |
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NoReturn, Protocol

from kvstore import failpoint
from kvstore.ops.log import get_logger

PARENT_FD = "SQLFRONT_PARENT_FD"
"""Names the reading end of a pipe; its end, when the parent is gone, is taken as SIGTERM."""

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_PANIC, EXIT_FORCED = 0, 1, 2, 101, 130
SWITCH_INTERVAL_S = 0.0005
"""How long the loop's thread keeps the interpreter while another (a sync that has ended) waits for it."""
CLOSE_S = 5.0
"""What a node may take for closing beyond its grace, before it is left as it is: the store survives that."""


class Usage(Exception):
    """The process cannot run as it was asked to; the message says why. Exit code 2."""


class Running(Protocol):
    """A node that serves."""

    ready: Mapping[str, object]
    """What the ready line says of it: addresses and ids."""

    async def failed(self) -> BaseException:
        """Returns when the node cannot go on, and why; waits for ever while it can."""

    async def stop(self, grace_s: float) -> None:
        """Ends what is under way within so many seconds, and closes everything."""


def run(kind: str, start: Callable[[], Awaitable[Running]], grace_s: float) -> int:
    """Runs a node until a signal or a failure; returns the exit code. To be called once, in the main thread.

    `start` raises Usage for what the user can mend, OSError for a port or file that is not to be had.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    failpoint.REGISTRY.panic = _panic
    try:
        failpoint.setup_from_env(os.environ)
        return asyncio.run(_run(kind, start, grace_s))
    except (Usage, failpoint.FailpointError) as error:
        say_fatal(kind, str(error))
        return EXIT_USAGE
    except Exception as error:  # noqa: BLE001 the edge of the process: nothing above it could tell the user
        say_fatal(kind, _in_one_line(error))
        return EXIT_FAILED


async def _run(kind: str, start: Callable[[], Awaitable[Running]], grace_s: float) -> int:
    log = get_logger(__name__)
    signals = _Signals(asyncio.get_running_loop(), kind)
    starting = asyncio.ensure_future(start())
    stopping = asyncio.ensure_future(signals.first.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait((starting,), timeout=grace_s)
        return EXIT_OK
    node = await starting
    print("ready", kind, *(f"{name}={value}" for name, value in node.ready.items()), f"pid={os.getpid()}", flush=True)
    log.info(f"{kind} is ready", **node.ready)
    failing = asyncio.ensure_future(node.failed())
    await asyncio.wait((failing, stopping), return_when=asyncio.FIRST_COMPLETED)
    if failing.done():
        reason = await failing
        log.critical(f"{kind} cannot go on", exc_info=reason)
        code = EXIT_FAILED
    else:
        failing.cancel()
        reason = None
        log.info(f"{kind} stops", grace_s=grace_s)
        code = EXIT_OK
    closing = asyncio.ensure_future(node.stop(grace_s))
    await asyncio.wait((closing,), timeout=grace_s + CLOSE_S)
    if closing.done() and closing.exception() is None:
        log.info(f"{kind} has stopped", exit_code=code)
    if reason is not None:
        # the log may go to standard error too, and the last line there is to say why
        say_fatal(kind, _in_one_line(reason))
    if not closing.done():
        say_fatal(kind, f"not closed {grace_s + CLOSE_S:g} s after it was told to stop; leaving it as it is")
        leave_at_once(EXIT_FORCED)
    await closing
    return code


class _Signals:
    """SIGTERM and SIGINT: the first sets `first`, the second ends the process on the spot."""

    def __init__(self, loop: asyncio.AbstractEventLoop, kind: str) -> None:
        self.first = asyncio.Event()
        self._kind = kind
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._take, number)
        lifeline = os.environ.get(PARENT_FD, "")
        if lifeline.isdigit():
            loop.add_reader(int(lifeline), self._parent_gone, loop, int(lifeline))

    def _parent_gone(self, loop: asyncio.AbstractEventLoop, lifeline: int) -> None:
        loop.remove_reader(lifeline)
        self.first.set()

    def _take(self, number: signal.Signals) -> None:
        if self.first.is_set():
            say_fatal(self._kind, f"a second {number.name}; leaving at once")
            leave_at_once(EXIT_FORCED)
        self.first.set()


def say_fatal(kind: str, message: str) -> None:
    """The one line by which a process says why it ends."""
    sys.stderr.write(f"sqlfront {kind}: {message}\n")
    sys.stderr.flush()


def leave_at_once(code: int) -> NoReturn:
    """Ends the process without closing anything: what kill -9 does, with an exit code."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _panic(message: str) -> NoReturn:
    say_fatal("failpoint", message)
    leave_at_once(EXIT_PANIC)


def _in_one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, OSError) and text else f"{type(error).__name__}: {text}" if text else repr(error)


def git_hash(source: Path | None = None) -> str:
    """The commit that runs, when it runs from a checkout; else "unknown"."""
    try:
        root = source or Path(__file__).resolve().parents[2]
        git = root / ".git"
        if git.is_file():
            git = root / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        name = head.removeprefix("ref:").strip()
        common = git / "commondir"
        base = git / common.read_text().strip() if common.exists() else git
        if (base / name).exists():
            return (base / name).read_text().strip()
        packed = (base / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {name}")), "unknown")
    except OSError:
        return "unknown"
