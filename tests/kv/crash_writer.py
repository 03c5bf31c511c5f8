"""A process that commits from several threads and says so, until it is killed."""

from __future__ import annotations

import sys
import threading

from tests.kv.stores import open_test_store


def main(path: str, round_number: int) -> None:
    store = open_test_store(path)
    out = threading.Lock()

    def write(thread: int) -> None:
        for i in range(1_000_000):
            key = b"%d/%d/%d" % (round_number, thread, i)
            txn = store.begin()
            txn.insert(b"row/" + key, key * (1 if i % 3 else 60))
            txn.insert(b"index/" + key, b"")
            txn.put(b"counter/%d" % thread, b"%d" % i)
            txn.commit()
            with out:
                sys.stdout.buffer.write(key + b"\n")
                sys.stdout.buffer.flush()

    for thread in range(4):
        threading.Thread(target=write, args=(thread,)).start()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
