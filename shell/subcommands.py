"""The subcommands of `sqlfront`: name, one line of help, and the function to load when it is called.

Each function takes typer's parameters and ends with `typer.Exit`. To add one, write the function here, thin, importing
its module inside, and name it in `SUBCOMMANDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(frozen=True, slots=True)
class Subcommand:
    """One subcommand; `load` returns its function."""

    help: str
    load: Callable[[], Callable[..., None]]


def demo(
    path: Annotated[str, typer.Argument(help="Where the demo's database is made.")] = "demo.db",
    keep: Annotated[bool, typer.Option("--keep/--no-keep", help="Keep the database afterwards.")] = True,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Load only so many flights.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace a demo database that is there already.")] = False,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0, help="How long to run the workload.")] = None,
) -> None:
    """Load the New York flights of 2013 and run transactions and analytics on them."""
    from shell.demo import run

    raise typer.Exit(run(path, keep=keep, rows=rows, fresh=fresh, seconds=seconds))


SUBCOMMANDS: dict[str, Subcommand] = {
    "demo": Subcommand("load real data and show what the database does", lambda: demo),
}

# Names that later subcommands will take, refused as bare paths so that no database is in their way then.
PLANNED = frozenset({"kv", "pd", "ctl", "playground", "serve"})
