"""Work on the text itself, before and beside its tokens: scripts, version comments, where an error is."""

from __future__ import annotations

import re

_VERSION_COMMENT = re.compile(r"/\*!(\d{5,6})?(.*?)\*/", re.DOTALL)
_BLANK = re.compile(r"/\*(?!!).*?\*/|--[ \t][^\n]*|#[^\n]*", re.DOTALL)
_QUOTED = re.compile(
    r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`[^`]*`|/\*(?!!).*?\*/|--[ \t][^\n]*|#[^\n]*", re.DOTALL
)


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
    """Turns `/*!40101 SET x */` into its content, at the same offsets."""

    def blank(match: re.Match[str]) -> str:
        version = match.group(1) or ""
        return " " * (3 + len(version)) + match.group(2) + "  "

    parts: list[str] = []
    at = 0
    for quoted in _QUOTED.finditer(text):
        parts.append(_VERSION_COMMENT.sub(blank, text[at : quoted.start()]))
        parts.append(quoted.group())
        at = quoted.end()
    parts.append(_VERSION_COMMENT.sub(blank, text[at:]))
    return "".join(parts)


def open_quote(text: str) -> int:
    """Where the unterminated quote or comment begins, as far as it can be told."""
    rest = _QUOTED.sub(lambda m: " " * len(m.group()), text)
    found = [i for i in (rest.find(q) for q in ("'", '"', "`", "/*")) if i >= 0]
    return min(found, default=len(text))


def near(text: str, position: int) -> str:
    snippet = text[position : position + 80].strip()
    line = text.count("\n", 0, position) + 1
    return f" near '{snippet}' at line {line}" if snippet else f" at the end of the statement, line {line}"
