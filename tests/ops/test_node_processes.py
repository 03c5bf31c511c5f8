"""`sqlfront pd` and `kv` as processes that cannot run as they were told: one line that says why, and the exit code."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from kvstore import failpoint
from kvstore.client.cluster.pd_client import METHODS
from kvstore.proto.pdpb_pb2 import GetMembersRequest
from kvstore.rpc.api import RpcError
from kvstore.rpc.grpc import GrpcTransport
from shell.options import invoke
from shell.playground.plan import free_ports
from tests.ops.certificates import make_certificates

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "shell", *arguments]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    """Runs a command line that is wrong usage in this process, which is quicker; gives back the last line it says."""
    handlers, level, interval = list(logging.getLogger().handlers), logging.getLogger().level, sys.getswitchinterval()
    monkeypatch.setattr(failpoint.REGISTRY, "panic", failpoint.REGISTRY.panic)

    def run(*arguments: str) -> str:
        assert invoke(list(arguments)) == 2
        out, err = capsys.readouterr()
        assert out == ""
        return err.splitlines()[-1]

    yield run
    sys.setswitchinterval(interval)
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()


def fails(*arguments: str) -> tuple[int, str]:
    """The exit code of a process that does not serve, and the last line of what it said."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command(*arguments), cwd=ROOT, env=environ, capture_output=True, text=True, timeout=WAIT_S)
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "where is its state? give --data DIR"),
        (["--data", "d", "--client-addr", "0.0.0.0:2379"], "others cannot reach 0.0.0.0:2379"),
        (["--data", "d", "--client-addr", "10.0.0.1:2379"], "TLS is not configured"),
        (["--data", "d", "--client-addr", "127.0.0.1"], "is not host:port"),
        (["--data", "d", "--status-addr", "0.0.0.0:1"], "--status-addr 0.0.0.0:1 can be reached by others"),
        (["--data", "d", "--name", "x", "--initial-cluster", "pd1=http://127.0.0.1:2379"], "does not name 'x'"),
        (["--data", "d", "--initial-cluster", "pd1=http://127.0.0.1:1"], "but it is told to be at 127.0.0.1:2379"),
        (["--data", "d", "--log-level", "loud"], "log.level = 'loud' is not one of debug, info"),
        (["--data", "d", "--ca", "x"], "cert and key missing"),
        (["--data", "d", "--config", "/none.toml"], "/none.toml: cannot be read: No such file"),
    ],
)
def test_wrong_usage(tmp_path: Path, refused: Callable[..., str], arguments: list[str], complaint: str) -> None:
    given = [str(tmp_path / "d") if argument == "d" else argument for argument in arguments]
    said = refused("pd", *given)
    assert said.startswith("sqlfront pd: ")
    assert complaint in said


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--pd", "127.0.0.1:1"], "where is its data? give --data DIR"),
        (["--data", "d"], "where are the placement drivers? give --pd HOST:PORT"),
        (["--data", "d", "--pd", "nowhere"], "--pd 'nowhere' is not host:port"),
        (["--data", "d", "--pd", "127.0.0.1:1", "--addr", "0.0.0.0:20160"], "TLS is not configured"),
        (["--data", "d", "--pd", "127.0.0.1:1", "--addr", "127.0.0.1:0"], "others cannot reach 127.0.0.1:0"),
        (["--data", "d", "--pd", "127.0.0.1:1", "--labels", "zone"], "'zone' is not name=value"),
        (["--data", "d", "--pd", "127.0.0.1:1", "--config", "c"], "raftstore.ticks is not known"),
    ],
)
def test_a_store_that_is_told_wrongly(
    tmp_path: Path, refused: Callable[..., str], arguments: list[str], complaint: str
) -> None:
    (tmp_path / "c").write_text("[raftstore]\nticks = 3\n")
    given = [str(tmp_path / argument) if argument in ("c", "d") else argument for argument in arguments]
    assert complaint in refused("kv", *given)
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "where are the placement drivers? give --pd HOST:PORT"),
        (["--pd", "nowhere"], "--pd: placement driver 'nowhere' is not host:port"),
        (["--pd", "127.0.0.1:1", "--status-addr", "0.0.0.0:1"], "--status-addr 0.0.0.0:1 can be reached by others"),
        (["--pd", "127.0.0.1:1", "--cert", "x"], "missing"),
    ],
)
def test_a_sql_server_that_is_told_wrongly(refused: Callable[..., str], arguments: list[str], complaint: str) -> None:
    said = refused("db", *arguments)
    assert said.startswith("sqlfront db: ")
    assert complaint in said


def test_a_sql_server_that_finds_no_cluster_waits_and_can_be_stopped() -> None:
    (pd, status) = free_ports(2)
    command_line = command("db", "--pd", f"127.0.0.1:{pd}", "--status-addr", f"127.0.0.1:{status}")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command_line, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "no placement driver answers; trying again" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 0


@pytest.mark.parametrize("kind", ["pd", "kv"])
def test_wrong_usage_is_a_process_exit_code(kind: str) -> None:
    code, said = fails(kind)
    assert code == 2
    assert said.endswith("give --data DIR")


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = fails("pd", "--data", str(tmp_path / "d"), "--client-addr", address)
        assert (code, address in said) == (1, True)
        (client,) = free_ports(1)
        code, said = fails(
            "pd", "--data", str(tmp_path / "d"), "--client-addr", f"127.0.0.1:{client}", "--status-addr", address
        )
        assert (code, "address already in use" in said.lower()) == (1, True)


def test_a_directory_that_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear reader")
    code, said = fails("pd", "--data", str(tmp_path))
    assert code == 1
    assert str(tmp_path) in said


async def ask_without_tls(address: str) -> None:
    transport = GrpcTransport()
    try:
        await transport.channel(address).unary(METHODS["GetMembers"], GetMembersRequest(), 2.0)
    finally:
        await transport.close()


def test_with_tls_all_ports_and_ctl_speak_it(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "certificates")
    tls = ["--ca", made.ca, "--cert", made.cert, "--key", made.key]
    client, status = (f"127.0.0.1:{port}" for port in free_ports(2))
    where = ["--data", str(tmp_path / "d"), "--client-addr", client, "--status-addr", status]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    serving = subprocess.Popen(command("pd", *where, *tls), cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True)
    try:
        assert serving.stdout is not None
        assert serving.stdout.readline().startswith("ready pd")
        asked = command("ctl", "--pd", client, "--format", "json", *tls, "tso")
        done = subprocess.run(asked, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=WAIT_S)
        assert json.loads(done.stdout)["ts"] > 0
        with pytest.raises(RpcError):
            asyncio.run(ask_without_tls(client))
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.communicate(timeout=WAIT_S)
    assert serving.returncode == 0
