"""Statements and what they parse to, one line each: `golden/*.txt`, written anew with SQLFRONT_GOLDEN=write.

A file holds paragraphs: a statement after `> ` (further lines after `. `), then what came of it. Trees are shown as
sqlglot prints them in MySQL's dialect, everything else by field, defaults left out.
"""

from __future__ import annotations

import os
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

import pytest
from sqlglot import exp

from sqlfront import parse
from sqlfront.errors import Error

FILES = sorted((Path(__file__).parent / "golden").glob("*.txt"))


def shown(value: object) -> str:
    if isinstance(value, exp.Expression):
        return f"«{value.sql(dialect='mysql')}»"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(shown(v) for v in value)}]"
    if is_dataclass(value):
        parts = [type(value).__name__]
        for f in fields(value):
            given = getattr(value, f.name)
            default = f.default_factory() if f.default_factory is not MISSING else f.default
            if given != default:
                parts.append(shown(given) if f.name in ("ast", "statement") else f"{f.name}={shown(given)}")
        return " ".join(parts)
    return repr(value)


def outcome(text: str) -> str:
    try:
        parsed = parse.parse(text)
    except Error as exc:
        where = f" at {exc.position}" if exc.position >= 0 else ""
        return f"{type(exc).__name__} {exc.code}{where}: {exc.message}"
    out = shown(parsed.statement)
    if parsed.positional:
        out += f" | {parsed.positional} of ?"
    if parsed.names:
        out += f" | names {', '.join(parsed.names)}"
    return out


def _statement(paragraph: str) -> str:
    lines = [line for line in paragraph.split("\n") if line.startswith(("> ", ". "))]
    return "\n".join(line[2:] for line in lines)


def _again(paragraph: str) -> str:
    """The paragraph with what its statement gives now."""
    kept = [line for line in paragraph.split("\n") if line.startswith(("> ", ". ", "#"))]
    statement = _statement(paragraph)
    return "\n".join([*kept, outcome(statement)] if statement else kept)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_golden(path: Path) -> None:
    before = path.read_text(encoding="utf-8")
    after = "\n\n".join(_again(p) for p in before.strip().split("\n\n")) + "\n"
    if os.environ.get("SQLFRONT_GOLDEN") == "write":
        path.write_text(after, encoding="utf-8")
    else:
        assert after == before


def test_there_are_golden_files() -> None:
    assert len(FILES) >= 5
