"""The benchmark harness at tiny sizes: every suite runs, checks what it loads and answers, and reports in full."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from benchmarks import paths
from benchmarks.__main__ import main
from benchmarks.engines import make_engine
from benchmarks.engines.api import in_paramstyle
from benchmarks.machine import machine_shape
from benchmarks.measure import Measurement, rate, times_as_fast
from benchmarks.olap import LimitReached, OlapResults, note_ratios, ratio_table, timed
from benchmarks.tpch.answers import WrongAnswer, check_answer
from benchmarks.tpch.data import QUERY_NUMBERS, query

ROOT = Path(__file__).resolve().parents[2]
IN_PROCESS = "sqlfront,sqlite3-full,sqlite3-normal,duckdb"
KEYS = {"work", "engine", "threads", "scale", "value", "unit", "runs"}


def _run(tmp_path: Path, *arguments: str) -> list[dict[str, object]]:
    target = tmp_path / "out.json"
    assert main([*arguments, "--quick", "--json", str(target), "--data", str(tmp_path / "data")]) == 0
    measurements: list[dict[str, object]] = json.loads(target.read_text())
    assert all(set(m) >= KEYS for m in measurements)
    assert all(float(str(m["value"])) > 0 for m in measurements)
    return measurements


def test_oltp_measures_every_work_on_every_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measurements = _run(tmp_path, "oltp", "--engines", IN_PROCESS)
    works = ("point_select", "oltp_read_write", "update_key", "insert_durable")
    expected = {(work, engine, threads) for work in works for engine in IN_PROCESS.split(",") for threads in (1, 2)}
    assert {(m["work"], m["engine"], m["threads"]) for m in measurements} == expected
    assert {m["unit"] for m in measurements} == {"per_s"}
    output = capsys.readouterr().out
    assert "many times as fast" in output
    assert "cores" in output


def test_paths_compares_answers_and_measures_every_work(tmp_path: Path) -> None:
    measurements = _run(tmp_path, "paths", "--engines", IN_PROCESS)
    expected = {(work, engine) for work in paths.WORKS for engine in IN_PROCESS.split(",")}
    assert {(m["work"], m["engine"]) for m in measurements} == expected


def test_olap_checks_answers_and_gives_a_geometric_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measurements = _run(tmp_path, "olap", "--engines", "sqlite3-full,duckdb,duckdb-arrow")
    works = {f"tpch_q{number:02d}" for number in QUERY_NUMBERS} | {"tpch_geomean"}
    assert {m["work"] for m in measurements if m["engine"] == "sqlite3-full"} == works
    assert {m["work"] for m in measurements if m["engine"] == "duckdb-arrow"} == works
    assert {m["unit"] for m in measurements} == {"ms"}
    output = capsys.readouterr().out
    assert "SF 0.01" in output
    assert "worst query" in output


def test_the_worst_query_beside_duckdb_is_named() -> None:
    values = {"duckdb": [2.0, 8.0, 4.0], "sqlfront": [4.0, 4.0, 4.0]}
    measured = [
        Measurement(work, engine, 1, 1.0, "ms", [value])
        for engine in values
        for work, value in zip(("tpch_q01", "tpch_q02", "tpch_geomean"), values[engine], strict=True)
    ]
    results = OlapResults(measured)
    note_ratios(results)
    assert ratio_table(results)[1:] == [
        ["duckdb", "4.0", "1.00", "1.00", "tpch_q01"],
        ["sqlfront", "4.0", "1.00", "2.00", "tpch_q01"],
    ]


def test_engines_are_left_out_where_they_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["olap", "--scale", "0.2", "--engines", "sqlite3-full", "--queries", "6"]) == 2
    assert main(["oltp", "--engines", "duckdb-arrow"]) == 2
    output = capsys.readouterr().err
    assert "sqlite3-full, it is measured up to scale 0.1 only" in output
    assert "duckdb-arrow, its tables are for reading only" in output


def test_load_counts_rows_and_memory(tmp_path: Path) -> None:
    measurements = _run(tmp_path, "load", "--engines", "sqlfront,sqlite3-full,duckdb", "--scale", "0.002")
    assert [m["work"] for m in measurements] == ["load_lineitem"] * 3
    assert all(float(str(m["peak_rss_mb"])) >= float(str(m["rss_before_mb"])) > 0 for m in measurements)


def test_a_wrong_answer_is_a_loud_failure() -> None:
    check_answer(6, "x", [(1.00000000001,)], [(1.0,)])
    check_answer(3, "x", [(2,), (1,)], [(1,), (2,)])
    with pytest.raises(WrongAnswer, match="Q6 row 0"):
        check_answer(6, "x", [(1.01,)], [(1.0,)])
    with pytest.raises(WrongAnswer, match="gave 0 rows"):
        check_answer(6, "x", [], [(1.0,)])
    with pytest.raises(WrongAnswer):
        check_answer(1, "x", [("R",), ("N",)], [("N",), ("R",)])
    with pytest.raises(WrongAnswer):
        check_answer(6, "x", [(None,)], [(0.0,)])


def test_sqlite_gets_its_own_dates() -> None:
    adapt = make_engine("sqlite3-full").adapt
    assert adapt("date '1998-12-01' - interval '90' day") == "date('1998-12-01', '-90 day')"
    assert adapt("d < date '1995-03-15'") == "d < '1995-03-15'"
    assert adapt("extract(year from l_shipdate)") == "cast(strftime('%Y', l_shipdate) as integer)"
    assert not any("interval" in adapt(query(number)) for number in QUERY_NUMBERS)


def test_a_query_over_the_limit_is_stopped(tmp_path: Path) -> None:
    engine = make_engine("sqlite3-full")
    engine.start(tmp_path)
    con = engine.connect()
    endless = "with recursive t(n) as (select 1 union all select n + 1 from t) select max(n) from t"
    with pytest.raises(LimitReached):
        timed(engine, con, endless, 0.05)
    con.close()


def test_rate_counts_the_operations_of_all_threads() -> None:
    counts = [0, 0, 0]

    def operation(index: int) -> None:
        counts[index] += 1
        threading.Event().wait(0.001)

    per_second = rate([lambda i=i: operation(i) for i in range(3)], 0.05)
    assert min(counts) > 0
    assert per_second == pytest.approx(sum(counts) / 0.05, rel=0.5)


def test_rate_raises_what_a_thread_raised() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        rate([fail, fail], 0.05)


def test_ratios_say_how_many_times_as_fast() -> None:
    assert times_as_fast(_measured("per_s", 10), _measured("per_s", 5)) == 2
    assert times_as_fast(_measured("ms", 10), _measured("ms", 5)) == 0.5


def _measured(unit: str, value: float) -> Measurement:
    return Measurement("w", "e", 1, 1.0, unit, [value])


def test_statements_take_each_drivers_parameter_style() -> None:
    assert in_paramstyle("a = ? and b = ?", "qmark") == "a = ? and b = ?"
    assert in_paramstyle("a = ? and b = ?", "format") == "a = %s and b = %s"


def test_machine_shape_names_cores_memory_and_date(tmp_path: Path) -> None:
    shape = machine_shape(tmp_path)
    assert int(shape["cores"]) >= 1
    assert shape["date"].endswith("UTC")
    assert shape["memory"].endswith("GiB")


def test_an_unknown_engine_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["oltp", "--engines", "oracle"])
    assert leaving.value.code == 2
    assert "unknown engine 'oracle'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.xdist_group("servers")  # each looks at what runs on the machine
@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_servers_run_and_are_stopped(name: str, tmp_path: Path) -> None:
    reason = make_engine(name).missing()
    if reason is not None:
        pytest.skip(reason)
    command = [sys.executable, "-m", "benchmarks", "oltp", "--quick", "--engines", name, "--data", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert name in done.stdout
    running = [_command_line(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert not [line for line in running if "sqlfront-bench-" in line and ("postgres" in line or "mariadbd" in line)]


def _command_line(path: Path) -> str:
    try:
        return path.read_text().replace("\0", " ")
    except OSError:
        return ""
