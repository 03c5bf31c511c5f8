"""The core imports nothing of ours and nothing that has a clock, a socket, a thread, randomness or a log."""

from __future__ import annotations

import ast
from pathlib import Path

import kvstore.raft

ALLOWED = {"__future__", "collections", "dataclasses", "enum", "typing"}


def test_imports() -> None:
    files = sorted(Path(kvstore.raft.__file__).parent.glob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.startswith("kvstore.raft") or name.split(".")[0] in ALLOWED, f"{file.name} imports {name}"
