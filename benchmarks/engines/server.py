"""Server processes that the harness owns: started for one run on a unix socket, stopped at its end, also on Ctrl-C.

Servers refuse to run as root, so as root they are started as the system's user for them; their files then belong to it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

START_LIMIT_S = 60.0
STOP_LIMIT_S = 30.0
POLL_S = 0.05


def run_as(user: str) -> dict[str, Any]:
    """Returns the arguments of subprocess that drop root to `user`; none when we aren't root."""
    return {"user": user, "group": user, "extra_groups": []} if os.geteuid() == 0 else {}


def give_to(user: str, directory: Path) -> None:
    """Makes a directory that the server's user owns."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(directory, user, user)


def find_binary(name: str, *directories: Path) -> Path | None:
    """Returns a program from the given directories, the newest version last, or from PATH."""
    for directory in directories:
        if (directory / name).exists():
            return directory / name
    found = shutil.which(name)
    return Path(found) if found else None


def run_once(command: Sequence[str | Path], user: str, directory: Path) -> None:
    """Runs a set-up program to its end; raises with its output when it fails."""
    done = subprocess.run(
        [str(part) for part in command], cwd=directory, capture_output=True, text=True, check=False, **run_as(user)
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed with {done.returncode}:\n{done.stdout}\n{done.stderr}")


class Server:
    """A running server process in a session of its own, so that Ctrl-C reaches the harness first."""

    def __init__(self, command: Sequence[str | Path], user: str, directory: Path, stop_signal: signal.Signals) -> None:
        self._stop_signal = stop_signal
        self._log = directory / "server.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **run_as(user),
            )

    def wait_until(self, answers: Callable[[], bool]) -> None:
        """Waits until the server answers; raises with its log when it ends or takes too long."""
        deadline = time.monotonic() + START_LIMIT_S
        while not answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the server didn't start:\n{self._log.read_text(errors='replace')[-4000:]}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Asks the server to end, and kills it when it doesn't within the limit."""
        if self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def csv_beside(path: Path) -> Path:
    """Returns the CSV form of a Parquet file, writing it beside the file when it isn't there yet."""
    import pyarrow as pa
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    target = path.with_suffix(".csv")
    if target.exists() and target.stat().st_mtime >= path.stat().st_mtime:
        return target
    partial = target.with_suffix(".csv.partial")
    with pq.ParquetFile(path) as file:
        fields = [
            pa.field(field.name, pa.string()) if pa.types.is_string_view(field.type) else field
            for field in file.schema_arrow
        ]
        schema = pa.schema(fields)
        with pc.CSVWriter(partial, schema, write_options=pc.WriteOptions(include_header=False)) as writer:
            for batch in file.iter_batches():
                writer.write_table(pa.Table.from_batches([batch]).cast(schema))
    partial.chmod(0o644)
    partial.rename(target)
    return target
