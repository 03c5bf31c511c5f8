"""`python -m benchmarks.cluster_sql.foreground URL ROWS CLIENTS`: sysbench's updates of an indexed column, as a load.

Ten times a second a line with the time (seconds since the epoch) and how many are committed, until standard input ends.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
import time

from benchmarks import oltp
from benchmarks.cluster_sql.engine import SqlfrontCluster
from benchmarks.measure import Operation

SLOT_S = 0.1


def main(url: str, rows: int, clients: int) -> None:
    engine = SqlfrontCluster(url)
    counts = [0] * clients
    failures: list[BaseException] = []
    stop = threading.Event()

    def repeat(index: int, operation: Operation) -> None:
        try:
            while not stop.is_set():
                operation()
                counts[index] += 1
        except BaseException as failure:  # noqa: BLE001 - raised by the main thread
            failures.append(failure)
            stop.set()

    with contextlib.ExitStack() as stack:
        works = [
            oltp.update_key(oltp.client(engine, stack, index, rows, itertools.count(oltp.FIRST_NEW_ID)))
            for index in range(clients)
        ]
        threads = [threading.Thread(target=repeat, args=(index, work)) for index, work in enumerate(works)]
        for thread in threads:
            thread.start()
        threading.Thread(target=_stop_at_end, args=(stop,), daemon=True).start()
        while not stop.wait(SLOT_S):
            print(f"{time.time():.3f} {sum(counts)}", flush=True)
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def _stop_at_end(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
