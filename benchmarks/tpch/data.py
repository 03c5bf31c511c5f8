"""TPC-H's data: generated once a scale factor as Parquet by tpchgen-cli, kept in a cache directory git ignores."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.schema import Table
from benchmarks.tpch.schema import TABLES

CACHE = Path(__file__).resolve().parents[2] / "bench-data"
QUERIES = Path(__file__).parent / "queries"
QUERY_NUMBERS = tuple(range(1, 23))


def query(number: int) -> str:
    """Returns the text of query 1 to 22, in MySQL's dialect with the specification's validation parameters."""
    return (QUERIES / f"q{number:02d}.sql").read_text(encoding="utf-8")


def tpch_files(scale: float, tables: Sequence[Table] = TABLES, cache: Path = CACHE) -> dict[str, Path]:
    """Returns the Parquet file of each table at a scale factor, generating what isn't there."""
    directory = cache / f"tpch-sf{scale:g}"
    files = {table.name: directory / f"{table.name}.parquet" for table in tables}
    absent = [name for name, path in files.items() if not path.exists()]
    if absent:
        _generate(scale, absent, directory)
    return files


def _generate(scale: float, names: Sequence[str], directory: Path) -> None:
    """Generates into a directory beside the target and moves finished files over, so that a broken run leaves none."""
    program = Path(sys.executable).parent / "tpchgen-cli"
    command = str(program) if program.exists() else shutil.which("tpchgen-cli")
    if command is None:
        raise RuntimeError("tpchgen-cli isn't installed: pip install 'sqlfront[dev]'")
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=directory) as partial:
        arguments = ["parquet", "-s", f"{scale:g}", "--output-dir", partial, "--tables", ",".join(names), "--quiet"]
        done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"tpchgen-cli failed with {done.returncode}: {done.stdout}{done.stderr}")
        for name in names:
            (Path(partial) / f"{name}.parquet").rename(directory / f"{name}.parquet")
