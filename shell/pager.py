"""Shows a long result in a pager, and a short one as it is.

Text is held back until it no longer fits on the screen; then the pager starts and everything after streams into it.
`less` gets -S (lines are not wrapped, the arrow keys move sideways) unless LESS says what the user wants.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from typing import TextIO

from shell.text import terminal_safe, width

PAGER_OFF = "off"
_LESS_OPTIONS = "-SRFX"


class PagerClosed(Exception):
    """The user left the pager: the rest of the result is not wanted."""


def default_pager(environment: Mapping[str, str]) -> str:
    """Returns the pager's command line: SQLFRONT_PAGER, PAGER, or `less` where it is installed; `off` for none."""
    chosen = environment.get("SQLFRONT_PAGER") or environment.get("PAGER")
    if chosen is not None:
        return chosen or PAGER_OFF
    return "less" if shutil.which("less") else PAGER_OFF


class PagedText:
    """A sink for one result on a terminal of `columns` by `lines`; `wide` pages what is too wide, not only too long."""

    def __init__(self, stream: TextIO, command: str, columns: int, lines: int, *, wide: bool) -> None:
        self._stream = stream
        self._command = command
        self._columns = columns if wide else 0
        self._lines_left = lines - 3  # the status line, the empty line and the next prompt
        self._held: list[str] = []
        self._pager: subprocess.Popen[str] | None = None

    def write(self, text: str, /) -> object:
        safe = terminal_safe(text)
        if self._pager is None:
            self._held.append(safe)
            self._lines_left -= safe.count("\n")
            if self._lines_left < 0 or self._too_wide(safe):
                self._start()
        else:
            self._send(safe)
        return len(text)

    def close(self) -> None:
        """Prints what was held back, or waits until the user leaves the pager."""
        if self._pager is None:
            self._stream.write("".join(self._held))
            self._stream.flush()
            self._held = []
            return
        assert self._pager.stdin is not None
        try:
            self._pager.stdin.close()
        except BrokenPipeError:
            self._held = []
        self._pager.wait()

    def _too_wide(self, text: str) -> bool:
        limit = self._columns
        if not limit or len(text) * 2 <= limit:
            return False
        return any(width(line) > limit for line in text.split("\n"))

    def _start(self) -> None:
        environment = dict(os.environ)
        environment.setdefault("LESS", _LESS_OPTIONS)
        environment.setdefault("LESSCHARSET", "utf-8")
        self._stream.flush()
        try:
            self._pager = subprocess.Popen(
                shlex.split(self._command), stdin=subprocess.PIPE, text=True, encoding="utf-8", env=environment
            )
        except (OSError, ValueError) as error:
            self._stream.write(f"(the pager {self._command!r} does not start: {error})\n")
            self._columns, self._lines_left = 0, 1 << 62
            return
        held, self._held = "".join(self._held), []
        self._send(held)

    def _send(self, text: str) -> None:
        assert self._pager is not None
        assert self._pager.stdin is not None
        try:
            self._pager.stdin.write(text)
        except BrokenPipeError:
            raise PagerClosed from None
