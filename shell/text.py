"""Text on a terminal: display width, cutting and padding by it, and taking the teeth out of control characters.

What a database holds was written by anyone. Printed raw, an escape sequence in a value could retitle the window, move
the cursor over other rows or make some terminals answer with keystrokes; so display formats show such characters as
escapes.
"""

from __future__ import annotations

import re

ELLIPSIS = "…"

# C0, DEL, C1, lone surrogates, and the bidirectional overrides that make text read as what it is not.
_CONTROL_CLASS = "\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069"
_OUTPUT_CONTROL = re.compile(f"(?!\r\n)[{_CONTROL_CLASS}]")
_CONTROL_TAB_NEWLINE = re.compile(f"[\t\n{_CONTROL_CLASS}]")
_CONTROL_TAB = re.compile(f"[\t{_CONTROL_CLASS}]")
_NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"}


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def one_line(text: str) -> str:
    """Returns the text with every control character, newline and tab too, as a visible escape."""
    return text if text.isprintable() else _CONTROL_TAB_NEWLINE.sub(_escape, text)


def many_lines(text: str) -> str:
    """Returns the text with control characters as visible escapes, newlines kept."""
    return text if text.isprintable() else _CONTROL_TAB.sub(_escape, text)


def terminal_safe(text: str) -> str:
    """Returns finished output for a terminal: line ends and tabs stay, other control characters become visible."""
    return _OUTPUT_CONTROL.sub(_escape, text)


def width(text: str) -> int:
    """Returns how many terminal cells a text without control characters takes."""
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth

    cells: int = wcswidth(text)
    return cells if cells >= 0 else len(text)


def cut(text: str, cells: int) -> str:
    """Returns the text in at most `cells` terminal cells, ending in … when something was left out."""
    if text.isascii():
        return text if len(text) <= cells else text[: max(cells - 1, 0)] + ELLIPSIS
    if width(text) <= cells:
        return text
    from wcwidth import wcwidth

    used = 0
    for i, character in enumerate(text):
        used += max(wcwidth(character), 0)
        if used > cells - 1:
            return text[:i] + ELLIPSIS
    return text


def pad(text: str, cells: int, *, right: bool = False) -> str:
    """Returns the text filled with spaces to `cells` terminal cells, aligned right when asked."""
    if text.isascii():
        return text.rjust(cells) if right else text.ljust(cells)
    fill = " " * (cells - width(text))
    return fill + text if right else text + fill
