"""The quick reading of a command line and typer's are the same."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shell.options import invoke
from shell.request import Request, UsageError, read_plain


def read_with_typer(arguments: list[str]) -> Request | int:
    """Returns the request that typer makes of a command line, or its exit code when it makes none."""
    with patch("shell.cli.run", return_value=0) as run:
        code = invoke(arguments)
    if not run.called:
        return code
    request = run.call_args.args[0]
    assert isinstance(request, Request)
    return request


WORDS = [
    "-e",
    "--execute",
    "-f",
    "--format",
    "-o",
    "--output",
    "--init",
    "--no-header",
    "--timing",
    "--echo",
    "--force",
]
words = st.sampled_from(
    [*WORDS, "csv", "json", "select 1", "shop.db", ":memory:", "-", "--", "", "--nope", "-fcsv", "serve"]
)


@given(st.lists(words, max_size=6))
def test_both_readings_agree(arguments: list[str]) -> None:
    plain = read_plain(arguments)
    if plain is not None:
        assert read_with_typer(arguments) == plain


@pytest.mark.parametrize(
    "arguments",
    [
        ["shop.db"],
        ["-e", "select 1", "shop.db"],
        ["shop.db", "--execute", "a", "-e", "b", "-f", "csv", "-o", "out", "--no-header", "--timing"],
        ["--init", "i.sql", "--echo", "--force", "--format", "json", "--output", "x", ":memory:"],
    ],
)
def test_the_common_command_lines_are_plain(arguments: list[str]) -> None:
    plain = read_plain(arguments)
    assert plain is not None
    assert plain == read_with_typer(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--format=csv", "shop.db"],
        ["-fcsv", "shop.db"],
        ["-e", "-- comment", "shop.db"],
        ["--", "-odd-path"],
    ],
)
def test_the_others_are_left_to_typer(arguments: list[str]) -> None:
    assert read_plain(arguments) is None
    assert isinstance(read_with_typer(arguments), Request)


@pytest.mark.parametrize("path", ["", "demo", "serve"])
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(UsageError):
        Request(path)
    assert read_plain([path]) is None
