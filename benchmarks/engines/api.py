"""What a benchmark asks of an engine: start and stop, a connection per thread, tables, bulk load, its dialect.

The statements themselves go through each engine's own DB-API cursor with nothing of ours in between, so what is
measured is what a Python program gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from benchmarks.schema import Table

Paramstyle = Literal["qmark", "format"]


class Cursor(Protocol):
    """The part of PEP 249's cursor that the benchmarks use."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Connection(Protocol):
    """The part of PEP 249's connection that the benchmarks use."""

    def cursor(self) -> Any: ...
    def close(self) -> None: ...


class Engine(Protocol):
    """One database system under test. Its connections are in autocommit mode."""

    name: str
    paramstyle: Paramstyle
    begin: str
    """The statement that opens a transaction which is going to write."""
    in_process: bool
    row_store: bool
    """An index on a foreign key may help a join here (DuckDB's hash joins never use one)."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """The driver's base error: what `conflict` and `interrupted` know how to judge."""

    def missing(self) -> str | None:
        """Returns why this engine can't run here, or None when it can."""

    def version(self) -> str: ...

    def start(self, directory: Path) -> None:
        """Makes an empty database in `directory` (which exists and is empty) and starts its server if it has one."""

    def connect(self) -> Connection:
        """Opens a connection for one thread, in autocommit mode, at the engine's durable setting."""

    def create_table(self, con: Connection, table: Table) -> None:
        """Makes the table with its primary key, without its secondary indexes."""

    def create_indexes(self, con: Connection, table: Table) -> None: ...

    def prepare(self, path: Path) -> None:
        """Turns a Parquet file into what this engine's bulk load reads, before the clock starts."""

    def append(self, con: Connection, table: Table, path: Path) -> None:
        """Loads a Parquet file into the table by the engine's bulk path; durable on return."""

    def analyze(self, con: Connection) -> None:
        """Collects the optimizer's statistics."""

    def settle(self, con: Connection) -> str | None:
        """Waits until what follows the loaded rows in the background is there; returns a word about what isn't."""

    def adapt(self, sql: str) -> str:
        """Returns the engine's form of a query in MySQL's dialect."""

    def interrupt(self, con: Connection) -> None:
        """Stops the statement that runs on `con`; called from another thread."""

    def conflict(self, error: Exception) -> bool:
        """Tells whether the error asks to run the whole transaction again."""

    def interrupted(self, error: Exception) -> bool:
        """Tells whether the error is `interrupt`'s."""

    def stop(self) -> None:
        """Stops the server and lets go of the files. May be called at any time, more than once."""


def in_paramstyle(sql: str, style: Paramstyle) -> str:
    """Returns a statement written with `?` in the engine's parameter style."""
    return sql if style == "qmark" else sql.replace("?", "%s")
