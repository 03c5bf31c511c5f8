"""The DuckDB file of the replica: opened, checked, set aside when it is damaged.

    <database>/columnar/replica.duckdb     tables t{table id}_{copy}, and `tables`: one row for each that was built
    <database>/columnar/damaged-<n>        a file that could not be opened or read, kept for whoever wants to look
    <database>/columnar/unsynced           there while the file is open: which start of the machine it is written in

The file is a copy: whatever is wrong with it, it is put aside and built anew from the row store. So DuckDB does not
sync it before it is closed. What a process has written outlives it, but not the machine: a file that was open when the
machine stopped is not believed.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coprocessor.columnar.key_index import SETTINGS, Choice
from kvstore.engine.directory import replace_file, sync_directory

if TYPE_CHECKING:
    import duckdb

FORMAT = 2
DIRECTORY = "columnar"
FILE = "replica.duckdb"
WAL_FILE = f"{FILE}.wal"
_NOT_DAMAGE = ("No space left", "Unique file handle conflict", "already exists")
"""The disk is full; a view is still open on the file that was attached before."""
SET_ASIDE_MAX = 2
"""So many damaged files are kept."""
UNSYNCED_FILE = "unsynced"
UNSYNCED = "SET GLOBAL fsync_mode = 'NONE'"
SYNCED = "SET GLOBAL fsync_mode = 'STANDARD'"

logger = logging.getLogger("sqlfront.columnar")


@dataclass(frozen=True, slots=True)
class Built:
    """A table as the file has it: rows as of `applied_ts`, the last entry of the change log that is in them."""

    table_id: int
    applied_ts: int
    change_ts: int
    signature: str
    max_key: bytes
    padded: frozenset[int]
    copy: int
    key_index: Choice


def attach(connection: duckdb.DuckDBPyConnection, path: str | None) -> list[Built]:
    """Attaches the replica of the database at `path` (None: in memory) as `replica`; returns the tables it has.

    A file that cannot be opened, or is of another format, is set aside, one that the machine has lost a part of is
    removed. Raises OSError and DuckDB's errors when that does not help.
    """
    import duckdb

    connection.execute("SET checkpoint_threshold = '1TB'")  # the worker does it, where no query waits for it
    connection.execute(SETTINGS)
    if path is None:
        connection.execute("ATTACH ':memory:' AS replica")
        _initialise(connection)
        return []
    file = os.path.join(path, DIRECTORY, FILE)
    os.makedirs(os.path.dirname(file), exist_ok=True)
    _begin_unsynced(connection, path)
    try:
        return _attach(connection, file)
    except (duckdb.Error, ValueError) as error:
        with suppress(duckdb.Error):
            connection.execute("DETACH replica")
        if any(sign in str(error) for sign in _NOT_DAMAGE):
            raise
        set_aside(path, str(error))
    return _attach(connection, file)


def detach(connection: duckdb.DuckDBPyConnection, path: str | None) -> None:
    """Closes the file for good, and makes it durable. Raises OSError and DuckDB's errors."""
    connection.execute(SYNCED)  # also for a query that is still open, and ends later
    connection.execute("DETACH replica")
    if path is None:
        return
    directory = os.path.join(path, DIRECTORY)
    for name in (FILE, WAL_FILE):
        with suppress(FileNotFoundError), open(os.path.join(directory, name), "rb+") as file:
            os.fsync(file.fileno())
    sync_directory(directory)
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(directory, UNSYNCED_FILE))


def _begin_unsynced(connection: duckdb.DuckDBPyConnection, path: str) -> None:
    """Removes a file that another start of the machine was writing, and notes that this one does."""
    directory = os.path.join(path, DIRECTORY)
    note = os.path.join(directory, UNSYNCED_FILE)
    boot = _boot_id()
    try:
        with open(note, encoding="utf-8") as file:
            is_whole = file.read() == boot
    except FileNotFoundError:
        is_whole = True
    if not is_whole:
        logger.warning("the columnar replica in %s was open when the machine stopped and is built anew", directory)
        _remove(os.path.join(directory, FILE))
        _remove(os.path.join(directory, WAL_FILE))
    if boot is None:
        connection.execute(SYNCED)
        _remove(note)
    else:
        replace_file(note, boot)
        sync_directory(directory)
        connection.execute(UNSYNCED)


def _boot_id() -> str | None:
    """What tells this start of the machine from every other; None where there is no such thing."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip() or None
    except OSError:
        return None


def _attach(connection: duckdb.DuckDBPyConnection, file: str) -> list[Built]:
    quoted = file.replace("'", "''")
    connection.execute(f"ATTACH '{quoted}' AS replica")
    there = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = 'replica' AND table_name = 'format'"
    ).fetchall()
    if there == [(0,)]:
        _initialise(connection)
    found = connection.execute("SELECT version FROM replica.main.format").fetchall()
    if found != [(FORMAT,)]:
        raise ValueError(f"the replica has format {found}, not {FORMAT}")
    rows = connection.execute(
        "SELECT table_id, applied_ts, change_ts, signature, max_key, padded, copy, key_index FROM replica.main.tables"
    ).fetchall()
    return [
        Built(
            table_id, applied, change, signature, max_key, frozenset(json.loads(padded)), copy, Choice.from_json(text)
        )
        for table_id, applied, change, signature, max_key, padded, copy, text in rows
    ]


def _initialise(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("CREATE TABLE replica.main.format (version INTEGER)")
    connection.execute("INSERT INTO replica.main.format VALUES ($1)", [FORMAT])
    connection.execute(
        "CREATE TABLE replica.main.tables (table_id BIGINT, applied_ts UBIGINT, change_ts UBIGINT, signature VARCHAR, "
        "max_key BLOB, padded VARCHAR, copy INTEGER, key_index VARCHAR)"
    )


def set_aside(path: str, why: str) -> None:
    """Renames a damaged file (and its log), and removes all but the newest of those set aside before."""
    directory = os.path.join(path, DIRECTORY)
    logger.warning("the columnar replica in %s is set aside and built anew: %s", directory, why)
    numbers = sorted(int(n[8:]) for n in os.listdir(directory) if n.startswith("damaged-") and n[8:].isdigit())
    for number in numbers[: max(0, len(numbers) - SET_ASIDE_MAX + 1)]:
        _remove(os.path.join(directory, f"damaged-{number}"))
        _remove(os.path.join(directory, f"damaged-{number}.wal"))
    following = numbers[-1] + 1 if numbers else 1
    for suffix in ("", ".wal"):
        with suppress(FileNotFoundError):
            os.rename(os.path.join(directory, FILE + suffix), os.path.join(directory, f"damaged-{following}{suffix}"))


def _remove(file: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(file)


def log_bytes(path: str | None) -> int:
    """The size of DuckDB's own write-ahead log."""
    if path is None:
        return 0
    try:
        return os.path.getsize(os.path.join(path, DIRECTORY, WAL_FILE))
    except OSError:
        return 0
