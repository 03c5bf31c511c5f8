"""The playground: its plan, and that no child survives Ctrl-C, the death of another child, or its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shell.playground import describe
from shell.playground.plan import HOST, PlanError, free_ports, make_plan, taken_ports

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60.0
RUN = """
import sys
from pathlib import Path
from shell.playground import run

async def at_once(plan):
    pass

program = (sys.executable, "-m", "tests.ops.fake_member")
raise SystemExit(run(2, 1, 1, 0, Path(sys.argv[1]), int(sys.argv[2]), program, at_once))
"""


def free_base(count: int) -> int:
    """A port that is free now and has free ones after it."""
    for base in range(21000 + os.getpid() % 1000 * 20, 60000, count):
        if not taken_ports(make_plan(count // 2 - 1, 1, Path("x"), base)):
            return base
    raise AssertionError("no free ports")


def test_free_ports_are_given_once_and_apart_from_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    given = free_ports(3) + free_ports(3)
    with socket.socket() as listening:
        listening.bind((HOST, free_ports(1)[0]))
        taken = listening.getsockname()[1]
        monkeypatch.setattr("shell.playground.plan._looked_until", {})
        monkeypatch.setattr("shell.playground.plan.PORTS_APART", 1)
        monkeypatch.setattr("os.getpid", lambda: taken - 21_000)
        assert taken not in free_ports(2)
    assert len({*given, taken}) == 7
    monkeypatch.undo()
    others = []
    for process in (1, 2):
        monkeypatch.setattr("os.getpid", lambda process=process: process)
        others += free_ports(20)
    assert len(set(others)) == 40


def start(data: Path, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(data), str(free_base(8))],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
        time.sleep(0.02)


def read_until(process: subprocess.Popen[str], last: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith(last):
            break
    return lines


def alive(data: Path) -> list[str]:
    """The members that run."""
    found = []
    for file in data.glob("*.started"):
        try:
            os.kill(int(file.read_text()), 0)
        except ProcessLookupError:
            continue
        found.append(file.stem)
    return sorted(found)


def test_ctrl_c_stops_all(tmp_path: Path) -> None:
    process = start(tmp_path)
    lines = read_until(process, "Ctrl-C")
    assert lines[0] == f"1 placement driver, 2 stores and 1 SQL server run; data and logs are in {tmp_path}"
    assert [line.split()[0] for line in lines[1:5]] == ["pd1", "kv1", "kv2", "db1"]
    assert alive(tmp_path) == ["db1", "kv1", "kv2", "pd1"]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out, err) == (0, "stopping\n", "")
    assert alive(tmp_path) == []
    assert len(list(tmp_path.glob("*.stopped"))) == 4


def test_a_child_that_dies_stops_the_others_and_is_named(tmp_path: Path) -> None:
    process = start(tmp_path, FAKE_DIES="kv2")
    _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert err.startswith("sqlfront playground: kv2 ended")
    assert "SIGKILL" in err
    assert alive(tmp_path) == []


def test_a_child_that_cannot_start_is_shown(tmp_path: Path) -> None:
    process = start(tmp_path, FAKE_BROKEN="pd1")
    _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert "pd1 ended before it was ready (exit code 1)" in err
    assert err.rstrip().endswith("the disk is gone")
    assert alive(tmp_path) == []


def test_ctrl_c_while_it_starts(tmp_path: Path) -> None:
    process = start(tmp_path, FAKE_MUTE="kv1")
    until(lambda: (tmp_path / "kv1.started").exists(), "kv1 runs")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, err) == (0, "")
    assert alive(tmp_path) == []


def test_children_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    process = start(tmp_path)
    read_until(process, "Ctrl-C")
    process.kill()
    process.communicate(timeout=WAIT_S)
    until(lambda: alive(tmp_path) == [], "the children are gone")


def test_a_plan_has_tikvs_ports_or_consecutive_ones() -> None:
    plan = make_plan(3, 2, Path("/d"), None)
    assert [member.address for member in plan.members] == [
        "127.0.0.1:2379", "127.0.0.1:2380", "127.0.0.1:20160", "127.0.0.1:20161", "127.0.0.1:20162",
    ]  # fmt: skip
    moved = make_plan(1, 1, Path("/d"), 5000)
    assert [(member.port, member.status_port) for member in moved.members] == [(5000, 5001), (5002, 5003)]
    assert moved.stores[0].arguments == (
        "kv", "--data", "/d/kv1", "--status-addr", "127.0.0.1:5003", "--log-file", "/d/kv1.log",
        "--addr", "127.0.0.1:5002", "--pd", "127.0.0.1:5000",
    )  # fmt: skip
    served = make_plan(1, 1, Path("/d"), 5000, servers=2)
    assert [member.ports for member in served.servers] == [(5004,), (5005,)]
    assert served.servers[0].arguments == (
        "db", "--status-addr", "127.0.0.1:5004", "--log-file", "/d/db1.log", "--pd", "127.0.0.1:5000",
    )  # fmt: skip
    analytic = make_plan(1, 1, Path("/d"), 5000, servers=1, columnar=1)
    assert [member.name for member in analytic.members] == ["pd1", "kv1", "columnar1", "db1"]
    assert [member.ports for member in (*analytic.columnar, *analytic.servers)] == [(5004, 5005), (5006,)]
    assert analytic.columnar[0].arguments == (
        "kv", "--data", "/d/columnar1", "--status-addr", "127.0.0.1:5005", "--log-file", "/d/columnar1.log",
        "--addr", "127.0.0.1:5004", "--pd", "127.0.0.1:5000", "--columnar",
    )  # fmt: skip
    assert "1 placement driver, 1 store, 1 columnar store and 1 SQL server run" in describe(analytic, keep=False)
    assert "sqlfront tikv://127.0.0.1:5000/test\n" in describe(served, keep=False)
    assert plan.pds[1].arguments[-1] == "pd1=http://127.0.0.1:2379,pd2=http://127.0.0.1:2380"
    assert "sqlfront ctl --pd 127.0.0.1:5000 stores" in describe(moved, keep=False)


@pytest.mark.parametrize(("stores", "pds", "base"), [(0, 1, None), (1, 21, None), (1, 1, 65533), (1, 1, 0)])
def test_plans_that_cannot_be(stores: int, pds: int, base: int | None) -> None:
    with pytest.raises(PlanError):
        make_plan(stores, pds, Path("/d"), base)


def test_no_two_members_share_a_port() -> None:
    plan = make_plan(20, 20, Path("/d"), None, servers=20, columnar=20)
    ports = [port for member in plan.members for port in member.ports]
    assert len(ports) == len(set(ports)) == 140


def test_ports_in_use_are_found() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port in taken_ports(make_plan(1, 1, Path("/d"), port - 1))
