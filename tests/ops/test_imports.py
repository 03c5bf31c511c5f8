"""The embedded database and its shell load nothing of the cluster."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("grpc", "aiohttp", "structlog", "prometheus_client", "google.protobuf", "typer", "kvstore.ops", "kvstore.rpc")
EMBEDDED = [
    "import sqlfront; sqlfront.connect(':memory:').close()",
    "from shell.cli import main; assert main([':memory:', '-e', 'SELECT 1']) == 0",
]


@pytest.mark.parametrize("code", EMBEDDED)
def test_nothing_of_the_cluster_is_imported(code: str) -> None:
    listing = "import sys; print(*sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", f"{code}; {listing}"], capture_output=True, text=True, check=True)
    loaded = done.stderr.split()
    assert "kvstore" in loaded
    assert [name for name in loaded if name.startswith(HEAVY)] == []
