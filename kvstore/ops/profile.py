"""A sampling profile of a running process' CPU time, as folded stacks that flame-graph tools read.

The kernel's profiling timer interrupts the process some two hundred times per second of CPU; the handler notes where
the main thread is. Time of native threads (RocksDB's, gRPC's) is counted where the main thread happened to be. A line
is `outermost;...;innermost count`.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path
from types import FrameType

SECONDS_MAX = 300
SAMPLE_INTERVAL_S = 0.005
FRAMES_MAX = 128


async def profile(seconds: float) -> str:
    """Samples for so long, leaving the loop to others. Only in the main thread, one at a time."""
    samples: Counter[str] = Counter()

    def sample(number: int, frame: FrameType | None) -> None:
        samples[folded(frame)] += 1

    before = signal.signal(signal.SIGPROF, sample)
    # native code's system calls go on by themselves
    signal.siginterrupt(signal.SIGPROF, False)
    signal.setitimer(signal.ITIMER_PROF, SAMPLE_INTERVAL_S, SAMPLE_INTERVAL_S)
    try:
        await asyncio.sleep(seconds)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        # a tick may still be on its way, and the default of SIGPROF ends the process
        signal.signal(signal.SIGPROF, signal.SIG_IGN if before in (signal.SIG_DFL, None) else before)
    return "".join(f"{stack} {count}\n" for stack, count in sorted(samples.items()))


def folded(frame: FrameType | None) -> str:
    """One stack, outermost first."""
    names: list[str] = []
    while frame is not None and len(names) < FRAMES_MAX:
        code = frame.f_code
        path = Path(code.co_filename)
        names.append(f"{path.parent.name}/{path.name}:{code.co_name}")
        frame = frame.f_back
    return ";".join(reversed(names))
