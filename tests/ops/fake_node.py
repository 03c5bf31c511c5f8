"""A process with a node that does nothing, for tests of the life of processes.

`python -m tests.ops.fake_node MODE`: serve, fail (after it was ready), usage, broken, stuck (never starts), slow
(never stops).
"""

from __future__ import annotations

import asyncio
import sys

from kvstore.failpoint import fail_point
from kvstore.ops import log, process


class FakeNode:
    """Serves until it is stopped, or fails."""

    def __init__(self, mode: str) -> None:
        self.ready = {"addr": "127.0.0.1:1", "mode": mode}
        self._mode = mode

    async def failed(self) -> BaseException:
        if self._mode != "fail":
            await asyncio.Event().wait()
        return OSError("the disk\nis gone")

    async def stop(self, grace_s: float) -> None:
        if self._mode == "slow":
            await asyncio.Event().wait()
        print("closed", flush=True)


async def start(mode: str) -> FakeNode:
    fail_point("fake_start")
    if mode == "usage":
        raise process.Usage("--addr is wrong")
    if mode == "broken":
        raise RuntimeError("cannot start")
    if mode == "stuck":
        print("starting", flush=True)
        await asyncio.Event().wait()
    return FakeNode(mode)


if __name__ == "__main__":
    log.set_up(level="info" if sys.argv[1] == "fail" else "warn")
    raise SystemExit(process.run("fake", lambda: start(sys.argv[1]), grace_s=60 if sys.argv[1] == "slow" else 1))
