"""The shell's memory of what was typed, in the XDG state directory, readable by its owner only.

Statements that carry a password are not written down. Where the file cannot be made, history lives in memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from prompt_toolkit.history import FileHistory, History, InMemoryHistory

HISTORY_BYTES_MAX = 4 * 1024 * 1024

_SECRET = re.compile(r"\b(identified\s+(by|with)|set\s+password|password\s*\()", re.IGNORECASE)
_ENTRY_START = b"\n# "


class StatementHistory(FileHistory):
    """A history file that leaves out passwords."""

    def store_string(self, string: str) -> None:
        if not _SECRET.search(string):
            super().store_string(string)


def history_path(environment: Mapping[str, str]) -> Path:
    """Returns where the history is kept: $XDG_STATE_HOME/sqlfront/history, below ~/.local/state by default."""
    state = environment.get("XDG_STATE_HOME", "")
    base = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return base / "sqlfront" / "history"


def open_history(path: Path) -> tuple[History, str]:
    """Returns the history and, when it cannot be kept in the file, why."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
        _shorten(path)
    except OSError as error:
        return InMemoryHistory(), f"history is not kept: {error}"
    return StatementHistory(str(path)), ""


def _shorten(path: Path) -> None:
    """Drops the older half of a file that grew over the limit."""
    if path.stat().st_size <= HISTORY_BYTES_MAX:
        return
    content = path.read_bytes()
    cut = content.find(_ENTRY_START, len(content) // 2)
    kept = content[cut:] if cut >= 0 else b""
    replacement = path.with_suffix(".new")
    descriptor = os.open(replacement, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(kept)
    os.replace(replacement, path)
