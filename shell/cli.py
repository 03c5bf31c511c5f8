"""The `sqlfront` command: opens the shell, runs SQL and exits, or hands over to a subcommand.

The first argument decides: the name of a subcommand (`shell.subcommands`) goes there, everything else is options and
the path of a database. A database that is named like a subcommand is written `./demo`.

Exit codes: 0 when every statement succeeded, 1 after an error, 2 for wrong usage, 130 after Ctrl-C, 141 when the reader
of the output went away. Nothing heavy is imported here: what a run does not use, it does not load.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import typer

from shell.render import BINARY_FORMATS, FORMATS
from shell.subcommands import PLANNED, SUBCOMMANDS

EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPT, EXIT_PIPE = 0, 1, 2, 130, 141
READ_BYTES = 64 * 1024

_EPILOG = "Subcommands: " + "; ".join(f"{name} ({entry.help})" for name, entry in SUBCOMMANDS.items()) + "."


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    path: str
    statements: tuple[str, ...]
    format: str
    output: str | None
    header: bool
    timing: bool
    init: str | None
    echo: bool
    force: bool


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code: the console script `sqlfront`."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in SUBCOMMANDS:
        return _invoke(SUBCOMMANDS[given[0]].load(), given[1:], f"sqlfront {given[0]}")
    return _invoke(open_or_run, given, "sqlfront", epilog=_EPILOG)


def _invoke(function: Callable[..., None], arguments: list[str], name: str, *, epilog: str | None = None) -> int:
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(epilog=epilog, context_settings={"help_option_names": ["-h", "--help"]})(function)
    try:
        app(args=arguments, prog_name=name)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else EXIT_OK if leaving.code is None else EXIT_ERROR
    return EXIT_OK


def _show_version(wanted: bool) -> None:
    if wanted:
        import sqlfront

        print(f"sqlfront {sqlfront.__version__}")
        raise typer.Exit


def open_or_run(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="The database's directory (made if missing), or :memory:.")
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
    if format not in FORMATS:
        raise typer.BadParameter(f"{format!r} is none of {', '.join(FORMATS)}.", param_hint="--format")
    _check_path(path)
    statements = tuple(execute or ())
    for text in statements:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise typer.BadParameter("the SQL is not valid text.", param_hint="-e") from None
    request = Request(path, statements, format, output, not no_header, timing, init, echo, force)
    raise typer.Exit(_run(request))


def _check_path(path: str) -> None:
    if not path:
        raise typer.BadParameter("the path is empty.", param_hint="PATH")
    if path in SUBCOMMANDS:
        raise typer.BadParameter(
            f"{path!r} is a subcommand and comes first; for a database of that name write ./{path}", param_hint="PATH"
        )
    if path in PLANNED:
        raise typer.BadParameter(
            f"{path!r} is kept for a subcommand that this version does not have; "
            f"for a database of that name write ./{path}",
            param_hint="PATH",
        )


def _run(request: Request) -> int:
    from shell.diagnostics import error_text
    from shell.text import terminal_safe
    from sqlfront.errors import Error

    try:
        return _open_and_run(request)
    except Error as error:
        sys.stderr.write(terminal_safe(error_text(error)))
        return EXIT_ERROR
    except BrokenPipeError:
        # what is still buffered has no reader; without this the interpreter complains at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except KeyboardInterrupt:
        return EXIT_INTERRUPT


def _open_and_run(request: Request) -> int:
    from shell.output import FileOutput, StandardOutput
    from shell.runner import Runner, Settings
    from shell.session import Session

    interactive = not request.statements and sys.stdin.isatty() and sys.stdout.isatty()
    destination = FileOutput(request.output) if request.output else StandardOutput()
    if request.format in BINARY_FORMATS and destination.is_terminal and not interactive:
        raise typer.BadParameter("is binary: use -o FILE or a pipe.", param_hint=f"--format {request.format}")
    settings = Settings(
        request.format, request.header, request.timing or interactive, echo=request.echo, force=request.force
    )
    session = Session(request.path)
    runner = Runner(session, settings, destination, sys.stderr, interactive=interactive)
    try:
        code = _run_pieces(runner, request, interactive)
        runner.destination.close()
        return code
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        sys.stderr.write(f"ERROR: {error}\n")
        return EXIT_ERROR
    finally:
        runner.session.close()


def _run_pieces(runner: object, request: Request, interactive: bool) -> int:
    from shell.runner import Runner

    assert isinstance(runner, Runner)
    good = runner.run_init(request.init) if request.init else True
    if (good or request.force) and not runner.leaving and not runner.interrupted:
        if interactive:
            from shell.repl import Repl

            Repl(runner).run()
            return EXIT_OK
        for text in request.statements:
            good = runner.run_chunks([text]) and good
            if runner.leaving or runner.interrupted or not (good or request.force):
                break
        if not request.statements:
            good = runner.run_chunks(_standard_input()) and good
    if runner.interrupted:
        return EXIT_INTERRUPT
    return EXIT_OK if good else EXIT_ERROR


def _standard_input() -> Iterator[str]:
    """Yields standard input as it arrives, so that a statement typed into a pipe runs at once."""
    import codecs

    from shell.runner import ShellError

    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    descriptor = sys.stdin.fileno()
    try:
        while data := os.read(descriptor, READ_BYTES):
            yield decoder.decode(data)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise ShellError(f"standard input is not UTF-8 text: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
