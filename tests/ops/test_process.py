"""The life of a process: ready lines, signals, failures and their exit codes, seen from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kvstore.ops.process import git_hash

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60


def spawn(mode: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.ops.fake_node", mode],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_and_leaves(number: signal.Signals) -> None:
    process = spawn("serve")
    assert first_line(process) == f"ready fake addr=127.0.0.1:1 mode=serve pid={process.pid}"
    process.send_signal(number)
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out, err) == (0, "closed\n", "")


def test_a_second_signal_leaves_at_once() -> None:
    process = spawn("slow")
    assert first_line(process).startswith("ready")
    process.send_signal(signal.SIGTERM)
    # the second one must come after the first was taken; signals of one number may be merged
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out) == (130, "")
    assert "leaving at once" in err


def test_a_signal_while_it_starts() -> None:
    process = spawn("stuck")
    assert first_line(process) == "starting"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=WAIT_S) == ("", "")
    assert process.returncode == 0


def test_a_failure_is_one_line_and_a_code() -> None:
    process = spawn("fail")
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert out.splitlines()[-1] == "closed"
    assert "fake has stopped" in err
    assert err.splitlines()[-1] == "sqlfront fake: the disk is gone"
    assert "[FATAL]" in err


@pytest.mark.parametrize(
    ("mode", "code", "message"),
    [("usage", 2, "--addr is wrong"), ("broken", 1, "RuntimeError: cannot start")],
)
def test_what_cannot_start_says_so(mode: str, code: int, message: str) -> None:
    process = spawn(mode)
    assert process.communicate(timeout=WAIT_S) == ("", f"sqlfront fake: {message}\n")
    assert process.returncode == code


def test_a_failpoint_of_the_environment_ends_the_process() -> None:
    process = spawn("serve", FAILPOINTS="fake_start=panic(boom)")
    assert process.communicate(timeout=WAIT_S) == ("", "sqlfront failpoint: boom\n")
    assert process.returncode == 101


def test_a_wrong_failpoint_is_wrong_usage() -> None:
    process = spawn("serve", FAILPOINTS="fake_start=explode")
    _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 2
    assert "'explode' is none of" in err


def test_the_commit_that_runs(tmp_path: Path) -> None:
    assert git_hash(tmp_path) == "unknown"
    git = tmp_path / ".git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text("# pack\nabc123 refs/heads/main\n")
    assert git_hash(tmp_path) == "abc123"
    (git / "refs/heads/main").write_text("def456\n")
    assert git_hash(tmp_path) == "def456"
    (git / "HEAD").write_text("0123\n")
    assert git_hash(tmp_path) == "0123"
