"""A server of ours as a child process: started, waited for until it is ready, watched, and stopped.

The child reads the end of a pipe that this process holds (`SQLFRONT_PARENT_FD`): when this process dies, however it
dies, the child stops as after SIGTERM. It is in a session of its own, so that Ctrl-C in the terminal reaches only us.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from kvstore.ops.process import PARENT_FD

READY_LINE_BYTES_MAX = 64 << 10
TAIL_LINES = 30


class ChildFailed(Exception):
    """A child ended, or was not ready in time; the message has the end of what it wrote."""


class Child:
    """One child process. What it writes goes to `output`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, output: Path, lifeline: int) -> None:
        self.name = name
        self.process = process
        self.output = output
        self.ready: Mapping[str, str] = {}
        self._lifeline = lifeline
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, name: str, command: Sequence[str], output: Path, environ: Mapping[str, str] | None = None
    ) -> Child:
        """Starts the command; raises OSError."""
        output.parent.mkdir(parents=True, exist_ok=True)
        reading, writing = os.pipe()
        try:
            with output.open("ab") as errors:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=errors,
                    env={**(os.environ if environ is None else environ), PARENT_FD: str(reading)},
                    pass_fds=(reading,),
                    start_new_session=True,
                    limit=READY_LINE_BYTES_MAX,
                )
        except OSError:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        return cls(name, process, output, writing)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.returncode is None

    async def wait_ready(self, timeout_s: float) -> None:
        """Waits for the ready line and keeps its fields. Raises ChildFailed."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    line = await self.process.stdout.readline()
                    if not line:
                        await self.process.wait()
                        raise self.failure("ended before it was ready")
                    words = line.decode(errors="replace").split()
                    if words[:1] == ["ready"]:
                        break
        except TimeoutError:
            raise self.failure(f"was not ready within {timeout_s:g} s") from None
        self.ready = dict(word.split("=", 1) for word in words if "=" in word)
        self._reading = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        """Keeps the pipe empty, or the child would stand still at its next line."""
        assert self.process.stdout is not None
        with self.output.open("ab") as file:
            while data := await self.process.stdout.read(READY_LINE_BYTES_MAX):
                file.write(data)

    def failure(self, what: str) -> ChildFailed:
        """The error that says what became of it, with the end of its output."""
        code = self.process.returncode
        how = "" if code is None else f" (exit code {code})" if code >= 0 else f" ({signal.Signals(-code).name})"
        tail = tail_of(self.output)
        return ChildFailed(f"{self.name} {what}{how}{tail and f'; the end of {self.output}:'}\n{tail}".rstrip())

    async def stop(self, grace_s: float) -> int:
        """SIGTERM, and SIGKILL when it takes longer; returns the exit code (negative: the signal)."""
        if self.is_running:
            self.send(signal.SIGTERM)
            # a stopped process does not see the signal before it goes on
            self.send(signal.SIGCONT)
            try:
                async with asyncio.timeout(grace_s):
                    await self.process.wait()
            except TimeoutError:
                self.send(signal.SIGKILL)
        return await self.gone()

    async def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self.send(signal.SIGKILL)
        await self.gone()

    async def gone(self) -> int:
        """Waits for its end and gives back what it held here."""
        code = await self.process.wait()
        if self._reading is not None:
            await self._reading
            self._reading = None
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        return code

    def send(self, number: signal.Signals) -> None:
        """Sends a signal; nothing happens when it is gone."""
        if self.is_running:
            # not Popen.send_signal, which takes the exit code that asyncio waits for
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def tail_of(path: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a file; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 200 * lines))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
