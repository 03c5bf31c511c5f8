"""docs/operations.md tells of the settings, metrics, failpoints and commands that the code has."""

from __future__ import annotations

import re

from kvstore import failpoint
from tests.ops.documentation import PAGE, failpoints, rewritten


def test_the_tables_are_those_of_the_code() -> None:
    page = PAGE.read_text("utf-8")
    assert rewritten(page) == page, "run python -m tests.ops.documentation"


def test_the_failpoints_of_the_examples_are_some_of_the_code() -> None:
    examples = PAGE.read_text("utf-8") + (failpoint.__doc__ or "")
    named = re.findall(r'FAILPOINTS="([^"]*)"', examples)
    names = [point.partition("=")[0] for points in named for point in points.split(";")]
    names += re.findall(r"http://\S*/fail/(\S+)", examples)
    known = failpoints()
    assert len(names) == 5
    assert [name for name in names if f"`{name}`" not in known] == []
