"""The README's tour runs as it stands, twice on the same directory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_tour_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert [block.split()[1] for block in blocks] == ["sqlfront", "sqlfront", "asyncio"]
    assert len(blocks[0].strip().splitlines()) <= 12
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", blocks[0]], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [
            "('pen', Decimal('2.40'))",
            "{'name': ['pen', 'ink'], 'total': [Decimal('2.40'), Decimal('7.50')]}",
        ]
