"""docs/operations.md tells of the settings, metrics, failpoints and commands that the code has."""

from __future__ import annotations

from tests.ops.documentation import PAGE, rewritten


def test_the_tables_are_those_of_the_code() -> None:
    page = PAGE.read_text("utf-8")
    assert rewritten(page) == page, "run python -m tests.ops.documentation"
