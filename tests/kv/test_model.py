"""Random transactions against a naive model, on both engines."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.client.embedded import EmbeddedStore
from kvstore.errors import KeyExists, WriteConflict
from kvstore.mvcc.packed import unpack
from tests.kv.stores import open_test_store

KEYS = [b"a", b"b", b"bb", b"record-key-19-bytes", b"record-key-19-bytez", b"sixteen-byte-key", b"x" * 24, b"\xff\x00"]
VALUES = [b"", b"v", b"w" * 255, b"l" * 256, b"L" * 5000]

operation = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(KEYS), st.sampled_from(VALUES)),
    st.tuples(st.just("delete"), st.sampled_from(KEYS), st.just(b"")),
    st.tuples(st.just("insert"), st.sampled_from(KEYS), st.sampled_from(VALUES)),
    st.tuples(st.sampled_from(["mark", "undo"]), st.just(b""), st.just(b"")),
)
transaction = st.tuples(st.booleans(), st.booleans(), st.lists(operation, max_size=8))


@contextmanager
def store_of(kind: str) -> Iterator[EmbeddedStore]:
    if kind == "memory":
        store = open_test_store(None)
        yield store
        store.close()
    else:
        with tempfile.TemporaryDirectory() as directory:
            store = open_test_store(directory + "/db")
            store.synchronous = False
            yield store
            store.close()


def check_reader(reader: object, model: dict[bytes, bytes]) -> None:
    want = sorted(model.items())
    assert list(reader.scan(b"", b"")) == want  # type: ignore[attr-defined]
    assert list(reader.scan(b"", b"", reverse=True)) == want[::-1]  # type: ignore[attr-defined]
    for rows in (1, 3, 65536):
        packed = reader.scan_packed(b"", b"", batch_rows=rows)  # type: ignore[attr-defined]
        assert [pair for batch in packed for pair in unpack(batch)] == want
    for key in KEYS:
        assert reader.get(key) == model.get(key)  # type: ignore[attr-defined]
    middle = [(key, value) for key, value in want if b"b" <= key < b"s"]
    assert list(reader.scan(b"b", b"s")) == middle  # type: ignore[attr-defined]


def run_transaction(
    store: EmbeddedStore, committed: dict[bytes, bytes], pessimistic: bool, ops: list[tuple[str, bytes, bytes]]
) -> tuple[object, dict[bytes, bytes], bool]:
    """Applies the operations to a transaction and to a copy of the model; says whether its commit must fail."""
    txn = store.begin(pessimistic=pessimistic)
    view = dict(committed)
    touched: set[bytes] = set()
    asserted: set[bytes] = set()
    mark, saved = 0, (dict(view), set(touched), set(asserted))
    for op, key, value in ops:
        if op == "put":
            txn.put(key, value)
            view[key] = value
        elif op == "delete":
            txn.delete(key)
            view.pop(key, None)
        elif op == "mark":
            mark, saved = txn.mark(), (dict(view), set(touched), set(asserted))
            continue
        elif op == "undo":
            if mark or saved[1] or not touched:
                txn.undo_to(mark) if mark else None
                if mark:
                    view, touched, asserted = dict(saved[0]), set(saved[1]), set(saved[2])
            continue
        elif key in touched and key in view:
            with pytest.raises(KeyExists):
                txn.insert(key, value)
            continue
        else:
            txn.insert(key, value)
            if key not in touched:
                asserted.add(key)
            view[key] = value
        touched.add(key)
    fails = any(key in committed for key in asserted)
    return txn, view, fails


@pytest.mark.parametrize("kind", ["memory", "rocksdb"])
def test_serial_transactions_match_the_model(kind: str) -> None:
    with store_of(kind) as store:

        @settings(max_examples=60 if kind == "memory" else 25, deadline=None)
        @given(st.lists(transaction, max_size=6))
        def check(transactions: list[tuple[bool, bool, list[tuple[str, bytes, bytes]]]]) -> None:
            store.destroy_range(b"", b"")
            committed: dict[bytes, bytes] = {}
            history = [(store.snapshot(), dict(committed))]
            for pessimistic, commits, ops in transactions:
                txn, view, fails = run_transaction(store, committed, pessimistic, ops)
                if not fails:
                    check_reader(txn, view)
                if not commits:
                    txn.rollback()  # type: ignore[attr-defined]
                elif fails:
                    with pytest.raises(KeyExists):
                        txn.commit()  # type: ignore[attr-defined]
                else:
                    txn.commit()  # type: ignore[attr-defined]
                    committed = view
                for key in KEYS:
                    assert store.get_latest(key) == committed.get(key)
                history.append((store.snapshot(), dict(committed)))
            for snapshot, then in history:
                check_reader(snapshot, then)
            store.gc(history[-1][0].ts)
            check_reader(history[-1][0], committed)

        check()


@pytest.mark.parametrize("kind", ["memory", "rocksdb"])
def test_first_committer_wins(kind: str) -> None:
    with store_of(kind) as store:
        first, second = store.begin(pessimistic=False), store.begin(pessimistic=False)
        first.put(b"k", b"1")
        second.put(b"k", b"2")
        first.commit()
        with pytest.raises(WriteConflict) as conflict:
            second.commit()
        assert conflict.value.key == b"k"
        assert store.get_latest(b"k") == b"1"
