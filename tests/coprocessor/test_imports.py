"""The embedded database has no requests: it loads neither protobuf nor what speaks it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import coprocessor

WIRE = (
    "google.protobuf",
    "grpc",
    "kvstore.proto",
    "coprocessor.dag",
    "coprocessor.endpoint",
    "coprocessor.serving",
    "coprocessor.columnar.of_store",
    "coprocessor.columnar.stored",
    "coprocessor.columnar.held",
    "coprocessor.columnar.whole",
    "coprocessor.region_columns",
    "coprocessor.written",
)
ROOT = Path(coprocessor.__path__[0]).parent
NAMES = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOT.glob("coprocessor/**/*.py")]
OTHERS = [name for name in NAMES if not name.startswith(WIRE) and not name.endswith(("__init__", "__main__"))]
EVERYTHING_ELSE = f"import importlib\nfor name in {OTHERS}: importlib.import_module(name)"
STATEMENTS = """
import sqlfront
cursor = sqlfront.connect(":memory:", autocommit=True).cursor()
for statement in ("CREATE DATABASE x", "USE x", "CREATE TABLE t (a INT PRIMARY KEY, b INT)",
                  "INSERT INTO t VALUES (1, 2), (3, 4)", "SELECT SUM(t.b) FROM t JOIN t u ON t.a < u.b GROUP BY u.a"):
    cursor.execute(statement)
assert cursor.fetchall()
import coprocessor.duck
"""


@pytest.mark.parametrize("code", [EVERYTHING_ELSE, STATEMENTS], ids=["modules", "statements"])
def test_nothing_of_the_wire_is_imported(code: str) -> None:
    listing = "\nimport sys\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code + listing], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "coprocessor.duck" in loaded
    assert [name for name in loaded if name.startswith(WIRE)] == []
