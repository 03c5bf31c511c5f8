"""A sampling profile of a running process, as folded stacks that flame-graph tools read.

A thread looks at all threads' stacks some hundred times a second, for as long as the profile is asked for; the process
is not slowed otherwise. A line is `outermost;...;innermost count`.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

SECONDS_MAX = 300
SAMPLES_PER_S = 200
FRAMES_MAX = 128


async def profile(seconds: float) -> str:
    """Samples for so long, leaving the loop to others."""
    samples: Counter[str] = Counter()
    stopped = threading.Event()
    sampler = threading.Thread(target=_sample, args=(samples, stopped), name="profile", daemon=True)
    sampler.start()
    try:
        await asyncio.sleep(seconds)
    finally:
        stopped.set()
        sampler.join()
    return "".join(f"{stack} {count}\n" for stack, count in sorted(samples.items()))


def _sample(samples: Counter[str], stopped: threading.Event) -> None:
    own = threading.get_ident()
    due = time.monotonic()
    while not stopped.is_set():
        for thread, frame in sys._current_frames().items():
            if thread != own:
                samples[folded(frame)] += 1
        due += 1 / SAMPLES_PER_S
        # a late sample is left out, not caught up with
        due = max(due, time.monotonic())
        stopped.wait(due - time.monotonic())


def folded(frame: FrameType | None) -> str:
    """One stack, outermost first."""
    names: list[str] = []
    while frame is not None and len(names) < FRAMES_MAX:
        code = frame.f_code
        path = Path(code.co_filename)
        names.append(f"{path.parent.name}/{path.name}:{code.co_name}")
        frame = frame.f_back
    return ";".join(reversed(names))
