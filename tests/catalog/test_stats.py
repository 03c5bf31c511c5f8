"""ANALYZE and the estimates made of it, beside the true counts."""

from __future__ import annotations

import datetime as dt
import random
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlfront.catalog import analyze as analyze_module
from sqlfront.catalog import stats as stats_module
from sqlfront.catalog.histogram import ColumnStats, count_keys, estimate_distinct, fill_buckets, key_of
from sqlfront.catalog.stats import Statistics, TableStats
from tests.catalog.harness import FakeSession

ROWS = 3000


@pytest.fixture
def filled(session: FakeSession) -> FakeSession:
    rng = random.Random(7)
    session.ddl(
        "CREATE TABLE t (id INT PRIMARY KEY, skew INT, txt VARCHAR(20), d DATE, amount DECIMAL(8,2), ts DATETIME(6), "
        "kind ENUM('a','b'), j JSON, b VARBINARY(9), KEY (skew, kind), UNIQUE (id, skew))"
    )
    rows: list[tuple[Any, ...]] = []
    for i in range(ROWS):
        skew = None if i % 10 == 0 else (7 if i % 3 == 0 else rng.randrange(1000))
        day = dt.date(2020, 1, 1) + dt.timedelta(days=i % 365)
        when = dt.datetime(2020, 1, 1) + dt.timedelta(minutes=i)
        rows.append((i, skew, f"name{i:05}", day, Decimal(i) / 4, when, "ab"[i % 2], '{"a": 1}', bytes([i % 256, 255])))
    session.insert("t", *rows)
    session.query("ANALYZE TABLE t")
    return session


def _share(session: FakeSession, offset: int, test: Any) -> float:
    rows = session.rows("t")
    return sum(1 for r in rows if r[offset] is not None and test(r[offset])) / len(rows)


def test_counts(filled: FakeSession) -> None:
    stats = filled.database.statistics.table(filled.table("t").id)
    assert stats is not None
    rows = filled.rows("t")
    for column in filled.table("t").columns:
        values = [r[column.offset] for r in rows]
        found = stats.column(column.id)
        assert found is not None
        assert found.null_count == values.count(None)
        assert found.distinct == len({v for v in values if v is not None}), column.name
    assert stats.column(3).average_width == 9.0
    pairs = {(r[1], r[6]) for r in rows}
    assert stats.index_distinct(1, 2) == len(pairs)
    assert stats.index_distinct(0, 1) == ROWS


@pytest.mark.parametrize(
    ("offset", "value"),
    [(1, 7), (2, "name00017"), (3, dt.date(2020, 3, 1)), (4, Decimal("10.25")), (6, "a"), (8, b"\x05\xff")],
)
def test_equal(filled: FakeSession, offset: int, value: object) -> None:
    estimate = filled.database.statistics.equal(filled.table("t"), offset, value, True)
    true = _share(filled, offset, lambda v: v == value)
    assert estimate == pytest.approx(true, rel=0.5, abs=0.001)


RANGES: list[tuple[int, Any, Any]] = [
    (0, 100, 400),
    (0, None, 1500),
    (1, 5, 500),
    (2, "name00100", "name00400"),
    (3, dt.date(2020, 2, 1), dt.date(2020, 6, 30)),
    (4, Decimal(100), None),
    (5, dt.datetime(2020, 1, 1, 12), dt.datetime(2020, 1, 2)),
    (8, b"\x10", b"\x50"),
]


@pytest.mark.parametrize(("offset", "low", "high"), RANGES)
def test_between(filled: FakeSession, offset: int, low: Any, high: Any) -> None:
    estimate = filled.database.statistics.between(filled.table("t"), offset, low, high)
    true = _share(filled, offset, lambda v: (low is None or low <= v) and (high is None or v <= high))
    assert estimate == pytest.approx(true, abs=0.03)


def test_outside_is_nearly_nothing(filled: FakeSession) -> None:
    statistics, table = filled.database.statistics, filled.table("t")
    assert statistics.equal(table, 0, 10_000_000, True) < 1 / ROWS
    assert statistics.between(table, 0, 10_000_000, None) == 0
    assert statistics.null(table, 1) == pytest.approx(0.1)
    assert statistics.null(table, 0) == 0
    assert statistics.in_list(table, 6, ["a", "b"]) == pytest.approx(1.0)


def test_counting_follows_changes_and_survives(filled: FakeSession) -> None:
    statistics, table = filled.database.statistics, filled.table("t")
    statistics.note_changes(table.id, 50)
    statistics.note_changes(table.id, -20)
    assert statistics.rows(table) == ROWS + 30
    statistics.flush()
    again = filled.database.reopen().statistics
    assert again.rows(table) == ROWS + 30
    assert again.equal(table, 1, 7, True) == statistics.equal(table, 1, 7, True)
    assert again.between(table, 2, "name00100", "name00400") == statistics.between(table, 2, "name00100", "name00400")
    stats = again.table(table.id)
    assert stats is not None
    assert TableStats.from_json(table.id, stats.to_json()) == stats


def test_dropped_table_is_forgotten(filled: FakeSession) -> None:
    table = filled.table("t")
    filled.ddl("DROP TABLE t")
    assert filled.database.statistics.table(table.id) is None
    assert filled.database.reopen().statistics.table(table.id) is None


def test_never_analysed(session: FakeSession) -> None:
    session.ddl("CREATE TABLE t (id INT PRIMARY KEY, v INT)")
    statistics, table = session.database.statistics, session.table("t")
    assert statistics.table(table.id) is None
    assert statistics.rows(table) == 10_000
    assert statistics.equal(table, 0, 1, True) == 1 / 10_000
    assert statistics.equal(table, 1, 1, True) == 1 / 1000
    assert statistics.between(table, 1, 5, None) == pytest.approx(1 / 3)


def test_empty_table(session: FakeSession) -> None:
    session.ddl("CREATE TABLE t (id INT, v VARCHAR(3))")
    assert session.query("ANALYZE TABLE t") == [("test.t", "analyze", "status", "OK")]
    assert session.database.statistics.rows(session.table("t")) == 0


def test_sample_keeps_estimates(filled: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analyze_module, "SAMPLE_ROWS", 500)
    filled.query("ANALYZE TABLE t")
    statistics, table = filled.database.statistics, filled.table("t")
    assert statistics.rows(table) == ROWS
    assert statistics.distinct(table, 0) == pytest.approx(ROWS, rel=0.1)
    assert statistics.equal(table, 1, 7, True) == pytest.approx(_share(filled, 1, lambda v: v == 7), rel=0.3)
    assert statistics.between(table, 0, 100, 400) == pytest.approx(0.1, abs=0.03)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=600), st.integers(-5, 305), st.integers(-5, 305))
def test_histogram_against_a_count(values: list[int], a: int, b: int) -> None:
    low, high = min(a, b), max(a, b)
    ordered = sorted(set(values))
    counts = [values.count(v) for v in ordered]
    scale = 1 / len(values)
    stats = ColumnStats(1, len(values), len(ordered), 0, float(ordered[0]), float(ordered[-1]))
    stats.top, rest = count_keys([float(v) for v in ordered], counts, scale)
    fill_buckets(stats, rest, scale)
    true = sum(low <= v <= high for v in values) / len(values)
    widest = max((stats.depths[i] - (stats.depths[i - 1] if i else 0) for i in range(len(stats.depths))), default=0)
    assert abs(stats.between(float(low), float(high)) - true) <= 2 * widest + 1e-9
    assert stats.between(None, None) == pytest.approx(1.0)
    assert sum(stats.top.values()) + (stats.depths[-1] if stats.depths else 0) == pytest.approx(1.0)


def test_distinct_of_a_sample() -> None:
    assert estimate_distinct(100, 0, 1000, 100_000) == 100
    assert estimate_distinct(1000, 1000, 1000, 100_000) == 100_000
    assert estimate_distinct(5, 2, 10, 10) == 5


def test_keys_of_foreign_values(session: FakeSession) -> None:
    session.ddl("CREATE TABLE t (i INT, d DATE, s VARCHAR(9))")
    i, d, s = (c.type for c in session.table("t").columns)
    assert key_of("12", i) == 12.0
    assert key_of("x", i) is None
    assert key_of(dt.datetime(1970, 1, 2, 12), d) == 1.5
    assert key_of(5, s) == "5"
    assert key_of(b"ab", s) == "ab"


def test_counts_are_written_in_the_background(session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats_module, "FLUSH_INTERVAL_S", 0.01)
    session.ddl("CREATE TABLE t (a INT)")
    session.insert("t", (1,), (2,))
    table = session.table("t")
    deadline = time.monotonic() + 10
    while session.database.reopen().statistics.rows(table) != 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert session.database.reopen().statistics.rows(table) == 2
    session.ddl("DROP TABLE t")
    session.database.statistics.close()
    assert session.database.reopen().statistics.table(table.id) is None
    flusher = session.database.statistics._flusher
    assert flusher is not None
    assert not flusher.is_alive()


def test_statistics_of_a_dropped_table_go_at_open(session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Statistics, "_flush_later", lambda self: None)
    session.ddl("CREATE TABLE t (a INT)")
    session.insert("t", (1,))
    session.query("ANALYZE TABLE t")
    table = session.table("t")
    session.ddl("DROP TABLE t")
    assert Statistics(session.database.storage).table(table.id) is not None
    assert session.database.reopen().statistics.table(table.id) is None


def test_building_an_index_counts_the_rows(session: FakeSession) -> None:
    session.ddl("CREATE TABLE t (a INT)")
    session.insert("t", *[(i,) for i in range(50)])
    table = session.table("t")
    session.database.statistics.set_rows(table.id, 7)
    session.ddl("CREATE INDEX a ON t (a)")
    assert session.database.statistics.rows(table) == 50
