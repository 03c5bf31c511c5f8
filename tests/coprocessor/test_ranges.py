"""Requests of many ranges: single keys, short ranges and long ones among each other, decoded together."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coprocessor import types as t
from coprocessor.arrow import batch_to_rows
from coprocessor.codec.keys import prefix_next
from coprocessor.dag.build import scan_table
from coprocessor.dag.scan import SHORT_RANGE_ROWS, Source
from coprocessor.schema import ColumnSchema, IndexColumn, TableSchema
from coprocessor.table import KeyRange, TableCodec
from tests.coprocessor.store import MemoryReader, Row

GROUPS, EACH = 30, 100
UTC = ZoneInfo("UTC")


@lru_cache
def table(handle: str) -> tuple[TableCodec, dict[bytes, bytes], list[bytes]]:
    """A table of GROUPS * EACH rows (group, number, text), its records, and their keys in order."""
    columns = tuple(
        ColumnSchema(i + 1, name, ft, True) for i, (name, ft) in enumerate([("g", t.INT), ("n", t.INT), ("s", t.TEXT)])
    )
    common = (IndexColumn(0), IndexColumn(1)) if handle == "common" else ()
    codec = TableCodec(TableSchema(9, "t", columns, 1 if handle == "integer" else -1, common, ()))
    rows = [(at // EACH, at, f"row {at}") for at in range(GROUPS * EACH)]
    pairs = dict(codec.encode_record(row, row[1] if handle == "hidden" else None) for row in rows)
    return codec, pairs, sorted(pairs)


@st.composite
def ranges(draw: st.DrawFn) -> list[tuple[int, int, bool]]:
    """Ascending, disjoint positions [first, last) of keys, and whether a single one is bounded by the next prefix."""
    cuts = sorted(draw(st.lists(st.integers(0, GROUPS * EACH), min_size=2, max_size=60, unique=True)))
    lengths = st.sampled_from([1, 1, 1, 2, 5, SHORT_RANGE_ROWS, 100, 10_000])
    found = []
    for first, limit in pairwise(cuts):
        found.append((first, min(first + draw(lengths), limit), draw(st.booleans())))
    return found


def keys_of(keys: Sequence[bytes], first: int, last: int, by_prefix: bool) -> KeyRange:
    if last == first + 1:
        return keys[first], prefix_next(keys[first]) if by_prefix else keys[first] + b"\0"
    return keys[first], keys[last] if last < len(keys) else prefix_next(keys[-1])


@pytest.mark.parametrize("handle", ["common", "integer", "hidden"])
@settings(max_examples=60)
@given(wanted=ranges(), desc=st.booleans(), missing=st.sets(st.integers(0, GROUPS * EACH - 1), max_size=20))
def test_every_range_gives_its_rows(
    handle: str, wanted: list[tuple[int, int, bool]], desc: bool, missing: set[int]
) -> None:
    codec, pairs, keys = table(handle)
    there = {key: pairs[key] for at, key in enumerate(keys) if at not in missing}
    scan = scan_table(codec.schema, (1, 2), desc=desc)
    source = Source(scan, [keys_of(keys, *one) for one in wanted], MemoryReader(there), UTC, lambda: None)
    positions = [at for first, last, _ in wanted for at in range(first, last) if at not in missing]
    inside = [keys[at] for at in positions]
    found: list[Row] = []
    for batch in source.batches():
        assert batch.num_rows
        found += batch_to_rows(batch, [t.INT, t.TEXT])
        if (scanned := source.scanned()) is not None:
            # what is said to be scanned is neither less nor more than what was given out
            assert bisect_left(inside, scanned[1]) - bisect_left(inside, scanned[0]) == len(found)
    rows = [(at, f"row {at}") for at in positions]
    assert found == rows[:: -1 if desc else 1]


@pytest.mark.parametrize("handle", ["common", "integer"])
@pytest.mark.parametrize("rows_each", [1, 3])
def test_short_ranges_are_decoded_together(handle: str, rows_each: int) -> None:
    codec, pairs, keys = table(handle)
    wanted = [keys_of(keys, at, at + rows_each, False) for at in range(0, 2000, 10)]
    reader = MemoryReader(pairs)
    source = Source(scan_table(codec.schema, (1,)), wanted, reader, UTC, lambda: None)
    (batch,) = source.batches()
    assert batch.num_rows == 200 * rows_each
    # who wants few rows does not read them all first
    source = Source(scan_table(codec.schema, (1,)), wanted, reader, UTC, lambda: None, rows_max=10)
    assert sum(batch.num_rows for batch in source.batches()) <= (200 if rows_each == 1 else 20)
