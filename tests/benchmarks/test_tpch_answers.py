"""All 22 TPC-H queries at scale factor 0.01: sqlfront's rows are DuckDB's rows on the same Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.engines import make_engine
from benchmarks.engines.api import Connection
from benchmarks.olap import load
from benchmarks.tpch.answers import check_answer, reference_answers
from benchmarks.tpch.data import QUERY_NUMBERS, query, tpch_files

SCALE = 0.01

pytestmark = pytest.mark.xdist_group("tpch")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return tpch_files(SCALE, cache=tmp_path_factory.mktemp("tpch"))


@pytest.fixture(scope="module")
def expected(files: dict[str, Path]) -> dict[int, list[Sequence[object]]]:
    return reference_answers(files)


@pytest.fixture(scope="module")
def loaded(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    engine = make_engine("sqlfront")
    engine.start(tmp_path_factory.mktemp("sqlfront"))
    con = engine.connect()
    load(engine, con, files)
    yield con
    con.close()
    engine.stop()


@pytest.mark.parametrize("number", QUERY_NUMBERS)
def test_answer_is_duckdbs(number: int, loaded: Connection, expected: dict[int, list[Sequence[object]]]) -> None:
    cursor = loaded.cursor()
    cursor.execute(query(number))
    check_answer(number, "sqlfront", cursor.fetchall(), expected[number])
