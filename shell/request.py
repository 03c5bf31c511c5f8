"""What a command line asks for, and the quick way to read a plain one.

`shell.options` defines the command line for typer, which takes about 0.1 s to load. A command line without surprises
is read here in microseconds instead; whatever is not plain (help, version, a mistake) is left to typer. A test holds
the two readings together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shell.render import FORMATS
from shell.subcommands import PLANNED, SUBCOMMANDS


@dataclass(frozen=True, slots=True)
class Request:
    """One run of `sqlfront` on a database."""

    path: str
    statements: tuple[str, ...] = ()
    format: str = "table"
    output: str | None = None
    header: bool = True
    timing: bool = False
    init: str | None = None
    echo: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError for what cannot be meant."""
        if self.format not in FORMATS:
            raise UsageError(f"{self.format!r} is none of {', '.join(FORMATS)}.", "--format")
        if not self.path:
            raise UsageError("the path is empty.", "PATH")
        if self.path in SUBCOMMANDS:
            raise UsageError(
                f"{self.path!r} is a subcommand and comes first; for a database of that name write ./{self.path}",
                "PATH",
            )
        if self.path in PLANNED:
            raise UsageError(
                f"{self.path!r} is kept for a subcommand that this version does not have; "
                f"for a database of that name write ./{self.path}",
                "PATH",
            )
        for text in self.statements:
            try:
                text.encode()
            except UnicodeEncodeError:
                raise UsageError("the SQL is not valid text.", "--execute") from None


class UsageError(Exception):
    """The command line is wrong. `parameter` is the option or argument that it is about."""

    def __init__(self, message: str, parameter: str) -> None:
        super().__init__(message)
        self.message = message
        self.parameter = parameter


_SWITCHES = {"--no-header", "--timing", "--echo", "--force"}
_VALUES = {
    "-e": "--execute",
    "--execute": "--execute",
    "-f": "--format",
    "--format": "--format",
    "-o": "--output",
    "--output": "--output",
    "--init": "--init",
}


def read_plain(arguments: Sequence[str]) -> Request | None:
    """Returns the request of a plain command line, None when it takes typer to read it."""
    switches: set[str] = set()
    values: dict[str, str] = {}
    statements: list[str] = []
    paths: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument in _SWITCHES:
            switches.add(argument)
        elif argument in _VALUES:
            option, value = _VALUES[argument], next(rest, None)
            if value is None or (value.startswith("-") and len(value) > 1):
                return None
            if option == "--execute":
                statements.append(value)
            else:
                values[option] = value
        elif argument.startswith("-"):
            return None
        else:
            paths.append(argument)
    if len(paths) != 1:
        return None
    try:
        return Request(
            paths[0],
            tuple(statements),
            values.get("--format", "table"),
            values.get("--output"),
            "--no-header" not in switches,
            "--timing" in switches,
            values.get("--init"),
            "--echo" in switches,
            "--force" in switches,
        )
    except UsageError:
        return None
