"""The `sqlfront` command: opens the shell, runs SQL and exits, or hands over to a subcommand.

The first argument decides: the name of a subcommand (`shell.subcommands`) goes there, everything else is options and
the path of a database. A database that is named like a subcommand is written `./demo`.

Exit codes: 0 when every statement succeeded, 1 after an error, 2 for wrong usage, 130 after Ctrl-C, 141 when the reader
of the output went away. Nothing heavy is imported here: what a run does not use, it does not load.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from shell.render import BINARY_FORMATS
from shell.request import Request, UsageError, read_plain
from shell.subcommands import SUBCOMMANDS

if TYPE_CHECKING:
    from shell.runner import Runner

EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPT, EXIT_PIPE = 0, 1, 2, 130, 141
READ_BYTES = 64 * 1024


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code: the console script `sqlfront`."""
    given = sys.argv[1:] if arguments is None else arguments
    request = None if given and given[0] in SUBCOMMANDS else read_plain(given)
    if request is not None:
        return run(request)
    from shell.options import invoke

    return invoke(given)


def run(request: Request) -> int:
    """Opens the database, does what is asked and returns the exit code."""
    from shell.diagnostics import error_text
    from shell.text import terminal_safe
    from sqlfront.errors import Error

    try:
        return _open_and_run(request)
    except UsageError as error:
        sys.stderr.write(f"Error: {error.message}\n")
        return EXIT_USAGE
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
        raise UsageError(f"{request.format} is binary and not for a terminal: use -o FILE or a pipe.", "--format")
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


def _run_pieces(runner: Runner, request: Request, interactive: bool) -> int:
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
    """Yields standard input as it arrives, so that a statement typed into a pipe runs at once.

    Bytes that are no UTF-8 are escaped: in strings of a dump they are binary values, elsewhere the parser refuses them.
    """
    import codecs

    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    descriptor = sys.stdin.fileno()
    while data := os.read(descriptor, READ_BYTES):
        yield decoder.decode(data)
    yield decoder.decode(b"", final=True)


if __name__ == "__main__":
    sys.exit(main())
