"""The command line as typer reads it: help, mistakes, and the subcommands.

To add a subcommand, write its function here, thin, importing its module inside; put it into `_function` and its name
into `shell.subcommands`. Those of a cluster are in `shell.cluster`; `ctl` has subcommands of its own, in
`shell.ctl.options`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from shell.render import FORMATS
from shell.request import Request, UsageError
from shell.subcommands import SUBCOMMANDS

_EPILOG = "Subcommands: " + "; ".join(f"{name} ({text})" for name, text in SUBCOMMANDS.items()) + "."


def _show_version(wanted: bool) -> None:
    if wanted:
        import sqlfront

        print(f"sqlfront {sqlfront.__version__}")
        raise typer.Exit


def open_or_run(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="The database's directory (made if missing), :memory:, or tikv://HOST:PORT/NAME of a cluster.",
        ),
    ],
    execute: Annotated[
        list[str] | None, typer.Option("-e", "--execute", metavar="SQL", help="Run SQL and exit; may be repeated.")
    ] = None,
    format: Annotated[
        str, typer.Option("-f", "--format", metavar="|".join(FORMATS), help="The format of results.")
    ] = "table",
    output: Annotated[str | None, typer.Option("-o", "--output", metavar="FILE", help="Write results to FILE.")] = None,
    no_header: Annotated[bool, typer.Option("--no-header", help="Leave out the column names.")] = False,
    timing: Annotated[bool, typer.Option("--timing", help="Show row counts and times (on standard error).")] = False,
    init: Annotated[str | None, typer.Option("--init", metavar="FILE", help="Run FILE first.")] = None,
    echo: Annotated[bool, typer.Option("--echo", help="Print each statement before its result.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Go on after errors; the exit code still tells.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Open the interactive shell on a database, or run SQL from -e or from standard input."""
    from shell.cli import run

    try:
        request = Request(path, tuple(execute or ()), format, output, not no_header, timing, init, echo, force)
    except UsageError as error:
        raise typer.BadParameter(error.message, param_hint=error.parameter) from error
    raise typer.Exit(run(request))


def demo(
    path: Annotated[str | None, typer.Argument(help="Where the demo's database is made; demo.db.")] = None,
    keep: Annotated[bool, typer.Option("--keep/--no-keep", help="Keep the database afterwards.")] = True,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Load only so many flights.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace a demo database that is there already.")] = False,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0, help="How long to run the workload.")] = None,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="On three stores, of which one is killed; nothing is kept.")
    ] = False,
) -> None:
    """Load the New York flights of 2013 and run transactions and analytics on them."""
    from shell.demo import run, run_cluster

    if cluster:
        if path is not None or fresh:
            raise typer.BadParameter("the cluster's data is removed at the end: no PATH and no --fresh")
        raise typer.Exit(run_cluster(rows=rows, seconds=seconds))
    raise typer.Exit(run(path or "demo.db", keep=keep, rows=rows, fresh=fresh, seconds=seconds))


def _function(name: str) -> Callable[..., None]:
    """What a command line starts with, without `ctl`."""
    from shell import cluster

    functions: dict[str, Callable[..., None]] = {
        "": open_or_run,
        "demo": demo,
        "kv": cluster.kv,
        "pd": cluster.pd,
        "db": cluster.db,
        "playground": cluster.playground,
    }
    return functions[name]


def invoke(arguments: list[str]) -> int:
    """Reads a command line with typer, does what it says and returns the exit code."""
    name = arguments[0] if arguments and arguments[0] in SUBCOMMANDS else ""
    settings = {"help_option_names": ["-h", "--help"]}
    if name == "ctl":
        from shell.ctl.options import make_app

        app = make_app(settings)
    else:
        app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        app.command(epilog=None if name else _EPILOG, context_settings=settings)(_function(name))
    try:
        app(args=arguments[1:] if name else arguments, prog_name=f"sqlfront {name}".strip())
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    return 0
