"""A process that forks with its store open and reports what the child and then the parent can do."""

from __future__ import annotations

import os
import sys
import threading

from kvstore.errors import StoreError
from tests.kv.stores import open_test_store


def in_child(attempts: list[tuple[str, object]]) -> int:
    """0 when everything is refused, otherwise the number of the attempt that was not."""
    for number, (_, attempt) in enumerate(attempts, 1):
        try:
            attempt()  # type: ignore[operator]
        except StoreError as error:
            if "fork" not in str(error):
                return 100 + number
        else:
            return number
    return 0


def main(path: str) -> None:
    store = open_test_store(path)
    first = store.begin()
    first.put(b"k", b"v")
    first.commit()
    begun = store.begin()
    begun.put(b"k", b"child")
    rows = store.snapshot().scan(b"", b"")
    next(rows)
    attempts: list[tuple[str, object]] = [
        ("begin", store.begin),
        ("get_latest", lambda: store.get_latest(b"k")),
        ("snapshot", store.snapshot),
        ("commit", begun.commit),
        ("read", lambda: begun.at(begun.start_ts).get(b"other")),
        ("gc", store.gc),
        ("stats", store.stats),
    ]
    child = os.fork()
    if child == 0:
        os._exit(in_child(attempts))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    writers = [threading.Thread(target=write, args=(path, store, i)) for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    begun.rollback()
    sys.stdout.write(f"{code} {len(list(store.snapshot().scan(b'', b'')))} {store.get_latest(b'k')!r}")
    store.close()


def write(path: str, store: object, writer: int) -> None:
    for i in range(20):
        txn = store.begin()  # type: ignore[attr-defined]
        txn.put(b"parent/%d/%d" % (writer, i), b"v")
        txn.commit()


if __name__ == "__main__":
    main(sys.argv[1])
