"""Golden scripts: readable commands and what they print. SQLFRONT_REGENERATE=1 writes the expected output anew.

A file is a sequence of blocks: comments (`#`) and commands, `---`, output, an empty line. `scripts/<kind>/` says what
runs them: `node` a group of raw nodes (tests/raft/interaction.py), `quorum` and `confchange` the pure functions.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.raft.interaction import Script
from tests.raft.pure_scripts import ConfChangeScript, QuorumScript

SCRIPTS = Path(__file__).parent / "scripts"
RUNNERS: dict[str, Callable[[], Script | ConfChangeScript | QuorumScript]] = {
    "node": Script,
    "confchange": ConfChangeScript,
    "quorum": QuorumScript,
}


def run_script(runner: Script | ConfChangeScript | QuorumScript, script: str) -> str:
    blocks: list[str] = []
    for block in script.strip().split("\n\n"):
        commands = block.split("\n---\n")[0].removesuffix("\n---").split("\n")
        out: list[str] = []
        for line in commands:
            if not line.startswith("#"):
                words = [word for word in line.split() if not word.startswith("/")]
                options = dict(word[1:].partition("=")[::2] for word in line.split() if word.startswith("/"))
                out += runner.run_command(words, options)
        blocks.append("\n".join([*commands, "---", *out]))
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("name", sorted(str(path.relative_to(SCRIPTS)) for path in SCRIPTS.glob("*/*.txt")))
def test_script(name: str) -> None:
    path = SCRIPTS / name
    got = run_script(RUNNERS[path.parent.name](), path.read_text())
    if os.environ.get("SQLFRONT_REGENERATE") == "1":
        path.write_text(got)
    assert got == path.read_text()
