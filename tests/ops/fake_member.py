"""Stands for `sqlfront pd`, `kv` and `db` in tests of the playground: listens, is ready, and waits for its end.

The environment says what goes wrong, by name: FAKE_DIES (after it was ready), FAKE_BROKEN, FAKE_MUTE (never ready).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from kvstore.ops.process import PARENT_FD


def main(arguments: list[str]) -> int:
    kind = arguments[0]
    options = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    place = Path(options["--log-file"]).with_suffix("")
    name = place.name
    if os.environ.get("FAKE_BROKEN") == name:
        print("the disk is gone", file=sys.stderr)
        return 1

    def stop(*_: object) -> None:
        place.with_suffix(".stopped").touch()
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=lambda: (os.read(int(os.environ[PARENT_FD]), 1), stop()), daemon=True).start()
    started = place.with_suffix(".started")
    started.with_suffix(".new").write_text(str(os.getpid()))
    started.with_suffix(".new").rename(started)
    if os.environ.get("FAKE_MUTE") != name:
        print("ready", kind, f"status={options['--status-addr']}", flush=True)
    if os.environ.get("FAKE_DIES") == name:
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Event().wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
