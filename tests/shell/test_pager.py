"""Short results are printed, long and wide ones are paged."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from shell.pager import PAGER_OFF, PagedText, PagerClosed, default_pager
from shell.worker import StatementThread, ThreadClosed


def paged(command: str, *, wide: bool = True) -> tuple[PagedText, io.StringIO]:
    screen = io.StringIO()
    return PagedText(screen, command, 20, 10, wide=wide), screen


def test_a_short_result_is_printed() -> None:
    sink, screen = paged("false")
    sink.write("a\n" * 7)
    assert screen.getvalue() == ""
    sink.close()
    assert screen.getvalue() == "a\n" * 7


@pytest.mark.parametrize("text", ["a\n" * 8, "x" * 21 + "\n", "東" * 11 + "\n"])
def test_a_long_or_wide_result_is_paged(tmp_path: Path, text: str) -> None:
    sink, screen = paged(f"sh -c 'cat > {tmp_path}/seen'")
    sink.write(text)
    sink.write("last \x1b[2J\n")
    sink.close()
    assert screen.getvalue() == ""
    assert (tmp_path / "seen").read_text() == text + "last \\x1b[2J\n"


def test_width_counts_only_where_lines_do_not_wrap() -> None:
    sink, screen = paged("false", wide=False)
    sink.write("x" * 100 + "\n")
    sink.close()
    assert screen.getvalue() == "x" * 100 + "\n"


def test_leaving_the_pager_ends_the_result() -> None:
    sink, _ = paged("true")
    with pytest.raises(PagerClosed):
        sink.write("a\n" * 10_000_000)
    sink.close()


@pytest.mark.parametrize("command", ["/nonexistent/pager", "unclosed 'quote"])
def test_a_pager_that_does_not_start(command: str) -> None:
    sink, screen = paged(command)
    sink.write("a\n" * 100)
    sink.write("last\n")
    sink.close()
    assert "does not start" in screen.getvalue()
    assert screen.getvalue().endswith("a\nlast\n")


def test_default_pager() -> None:
    assert default_pager({"PAGER": "more", "SQLFRONT_PAGER": "most"}) == "most"
    assert default_pager({"PAGER": "more"}) == "more"
    assert default_pager({"PAGER": ""}) == PAGER_OFF
    assert default_pager({}) in ("less", PAGER_OFF)


def test_a_closed_thread_refuses_calls() -> None:
    thread = StatementThread()
    assert thread.call(lambda: 1) == 1
    thread.close()
    with pytest.raises(ThreadClosed):
        thread.call(lambda: 1)
