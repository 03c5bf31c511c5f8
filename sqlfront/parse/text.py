"""Work on the text itself, before and beside its tokens: scripts, version comments, where an error is."""

from __future__ import annotations

import re

VERSION_MAX = 80499
"""Version comments up to MySQL 8.4's are read; those of later versions, and of MariaDB's own, are comments."""

_SINCE_INVISIBLE = 80023  # INVISIBLE columns: what older servers, and this one, leave out
_BLANK = re.compile(r"/\*(?!!).*?\*/|--(?=\s|\Z)[^\n]*|#[^\n]*", re.DOTALL)
_PIECES = r"'(?:[^'\\]++|\\.|'')*'|\"(?:[^\"\\]++|\\.|\"\")*\"|`[^`]*`|/\*(?!!).*?\*/|--(?=\s|\Z)[^\n]*|#[^\n]*"
_QUOTED = re.compile(_PIECES, re.DOTALL)
_ANSI_QUOTED = re.compile(rf'"(?P<name>(?:[^"]|"")*)"|{_PIECES}', re.DOTALL)
_VERSIONED = re.compile(rf"{_PIECES}|/\*!(?P<version>\d{{5,6}})?|(?P<close>\*/)", re.DOTALL)


def split_statements(text: str) -> list[str]:
    """Cuts a script at its semicolons, outside of quotes and comments; empty statements are left out."""
    out: list[str] = []
    start = at = 0
    while True:
        semicolon = text.find(";", at)
        quoted = _QUOTED.search(text, at)
        if semicolon < 0:
            break
        if quoted is not None and quoted.start() < semicolon:
            at = quoted.end()
            continue
        out.append(text[start:semicolon])
        start = at = semicolon + 1
    out.append(text[start:])
    return [s.strip() for s in out if _BLANK.sub("", s).strip()]


def open_version_comments(text: str) -> str:
    """Turns `/*!40101 SET x */` into its content, at the same offsets; what is for later versions goes altogether."""
    parts: list[str] = []
    at = 0  # up to where `parts` says what the text is
    opened = -1  # where the content of the comment that is open begins
    version = 0
    found = _VERSIONED.search(text)
    while found is not None:
        after = found.end()
        if text.startswith("/*!", found.start()):
            version = int(found["version"] or 0)
            if version > VERSION_MAX:
                after = text.find("*/", after) + 2
                after = len(text) if after == 1 else after
            else:
                opened = after
            parts += (text[at : found.start()], " " * (after - found.start()))
            at = after
        elif found["close"] is not None and opened >= 0:
            content = text[at : found.start()]
            if version >= _SINCE_INVISIBLE and text[opened : found.start()].strip().upper() == "INVISIBLE":
                content = " " * len(content)
            parts += (content, "  ")
            at, opened = after, -1
        found = _VERSIONED.search(text, after)
    parts.append(text[at:])
    return "".join(parts)


def with_names_in_backticks(text: str) -> str:
    """The text of a statement under ANSI_QUOTES, where "a" is a name, as it is without: `a`."""
    return _ANSI_QUOTED.sub(_in_backticks, text)


def _in_backticks(found: re.Match[str]) -> str:
    name = found["name"]
    return found.group() if name is None else "`" + name.replace('""', '"').replace("`", "``") + "`"


def open_quote(text: str) -> int:
    """Where the unterminated quote or comment begins, as far as it can be told."""
    rest = _QUOTED.sub(lambda m: " " * len(m.group()), text)
    found = [i for i in (rest.find(q) for q in ("'", '"', "`", "/*")) if i >= 0]
    return min(found, default=len(text))


def near(text: str, position: int) -> str:
    snippet = text[position : position + 80].strip()
    line = text.count("\n", 0, position) + 1
    return f" near '{snippet}' at line {line}" if snippet else f" at the end of the statement, line {line}"
