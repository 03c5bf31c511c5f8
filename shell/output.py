"""Where results go: the terminal, a pipe, or a file that is opened when the first result comes.

Text is UTF-8 without newline translation. What goes to a terminal passes through `TerminalText`, so that no
format can let a value speak to the terminal.
"""

from __future__ import annotations

import io
import os
import sys
from typing import IO, Protocol, TextIO

from shell.render.base import TextSink
from shell.text import terminal_safe


class TerminalText:
    """Text for a terminal, with control characters made visible."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str, /) -> object:
        return self._stream.write(terminal_safe(text))


class Destination(Protocol):
    """A place for results."""

    is_terminal: bool

    def text(self) -> TextSink: ...

    def binary(self) -> IO[bytes]: ...

    def flush(self) -> None: ...

    def discard(self) -> None:
        """Forgets what a failed binary result has left."""

    def close(self) -> None: ...


class StandardOutput:
    """The process's own output."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty()
        if isinstance(sys.stdout, io.TextIOWrapper):
            if self.is_terminal:
                sys.stdout.reconfigure(errors="backslashreplace", newline="")
            else:
                sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")

    def text(self) -> TextSink:
        return TerminalText(sys.stdout) if self.is_terminal else sys.stdout

    def binary(self) -> IO[bytes]:
        sys.stdout.flush()
        return sys.stdout.buffer

    def flush(self) -> None:
        sys.stdout.flush()

    def discard(self) -> None:
        return

    def close(self) -> None:
        self.flush()


class FileOutput:
    """A file, created or emptied when the first result is written to it: a statement that fails leaves it as it was."""

    is_terminal = False

    def __init__(self, path: str) -> None:
        self.path = path
        self._binary: IO[bytes] | None = None
        self._text: io.TextIOWrapper | None = None

    def text(self) -> TextSink:
        if self._text is None:
            self._text = io.TextIOWrapper(self.binary(), encoding="utf-8", errors="backslashreplace", newline="")
        return self._text

    def binary(self) -> IO[bytes]:
        if self._text is not None:
            self._text.flush()
        if self._binary is None:
            self._binary = open(self.path, "wb")  # noqa: SIM115 - closed by close()
        return self._binary

    def flush(self) -> None:
        if self._text is not None:
            self._text.flush()
        elif self._binary is not None:
            self._binary.flush()

    def discard(self) -> None:
        if self._binary is not None:
            self.close()
            if os.path.isfile(self.path):
                os.unlink(self.path)

    def close(self) -> None:
        stream, self._text, binary, self._binary = self._text, None, self._binary, None
        if stream is not None:
            stream.close()
        elif binary is not None:
            binary.close()
