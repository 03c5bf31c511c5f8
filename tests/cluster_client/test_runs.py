"""Sorted runs: spilled, merged, read from anywhere; and what is noted of a load that is under way."""

from __future__ import annotations

import asyncio
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.client.cluster.progress import LoadIdentity, Progress
from kvstore.client.cluster.runs import FILES_MAX, RowFile, Runs
from kvstore.errors import KeyExists

KEYS = st.binary(min_size=1, max_size=6)
ROWS = st.dictionaries(KEYS, st.binary(max_size=300), max_size=60)


def merged(runs: Runs) -> RowFile:
    return asyncio.run(runs.merge())


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, parts=st.integers(1, 8), memory=st.sampled_from([0, 500, 1 << 20]), start=KEYS, end=KEYS)
def test_merged_runs_are_all_rows_in_order(
    rows: dict[bytes, bytes], parts: int, memory: int, start: bytes, end: bytes
) -> None:
    ordered = sorted(rows.items())
    with tempfile.TemporaryDirectory() as directory:
        runs = Runs(directory, memory)
        for part in range(parts):
            if mine := ordered[part::parts]:
                runs.add([key for key, _ in mine], [value for _, value in mine])
        file = merged(runs)
        assert list(file.read()) == ordered
        assert file.rows == len(rows)
        assert list(file.read(start, end)) == [row for row in ordered if start <= row[0] < end]
        assert list(file.read(start)) == [row for row in ordered if start <= row[0]]
        assert file.first(start, b"") == next((key for key, _ in ordered if key >= start), None)
        alone = Runs(directory, memory)
        if ordered:
            alone.add([key for key, _ in ordered], [value for _, value in ordered])
        runs.remove()
        assert merged(alone).crc32 == file.crc32  # whatever the runs were
        alone.remove()
        assert not list(Path(directory).iterdir())


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_a_key_of_two_runs_is_found(tmp_path: Path, memory: int) -> None:
    runs = Runs(str(tmp_path), memory)
    runs.add([b"a", b"c", b"e"], [b""] * 3)
    runs.add([b"b", b"e"], [b""] * 2)
    with pytest.raises(KeyExists) as raised:
        merged(runs)
    assert raised.value.key == b"e"
    runs.remove()


def test_more_files_than_are_merged_at_once(tmp_path: Path) -> None:
    runs = Runs(str(tmp_path), 0)
    count = 2 * FILES_MAX + 3
    for number in reversed(range(count)):  # none follows the one before
        runs.add([b"%05d" % number], [b"%d" % number])
    assert [int(key) for key, _ in merged(runs).read()] == list(range(count))
    runs.remove()


def test_a_file_is_cut_into_pieces_of_about_one_size(tmp_path: Path) -> None:
    runs = Runs(str(tmp_path), 1 << 20)
    keys = [b"%06d" % n for n in range(20_000)]
    runs.add(keys, [b"x" * 86] * len(keys))  # 100 bytes a row
    file = merged(runs)
    cuts = file.cut_keys(500_000)
    assert 3 <= len(cuts) <= 4
    bounds = [b"", *cuts, b""]
    sizes = [sum(1 for _ in file.read(a, b)) for a, b in pairwise(bounds)]
    assert sum(sizes) == len(keys)
    assert all(4_000 < size < 8_500 for size in sizes)
    assert file.cut_keys(10_000_000) == []
    runs.remove()


IDENTITY = LoadIdentity("aa", "ff", 7, 3, 9)


def test_noted_ranges_join_and_are_read_again(tmp_path: Path) -> None:
    path = str(tmp_path / "progress")
    progress = Progress(path)
    progress.begin(IDENTITY)
    progress.done(b"c", b"f")
    progress.done(b"k", b"m")
    progress.done(b"f", b"h")
    again = Progress(path)
    assert again.identity == IDENTITY
    for known in (progress, again):
        assert known.past(b"c") == known.past(b"g") == b"h"
        assert known.past(b"b") is known.past(b"h") is None
        assert known.next_done(b"h", b"z") == b"k"
        assert known.next_done(b"m", b"z") == b"z"
    again.begin(IDENTITY)
    with pytest.raises(ValueError, match="another load"):
        again.begin(LoadIdentity("aa", "ff", 7, 3, 10))


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_line_that_is_cut_short_is_passed_over(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "progress"
    progress = Progress(str(path))
    progress.begin(IDENTITY)
    progress.done(b"a", b"b")
    progress.done(b"b", b"")
    path.write_bytes(path.read_bytes()[:-cut])
    again = Progress(str(path))
    assert again.past(b"x") is None
    if again.identity is None:
        again.begin(IDENTITY)
    again.done(b"s", b"t")
    third = Progress(str(path))
    assert third.identity == IDENTITY
    assert third.past(b"s") == b"t"
    assert third.past(b"a") == again.past(b"a")
