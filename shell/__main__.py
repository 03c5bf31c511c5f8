"""`python -m shell`: the same as the `sqlfront` command."""

from __future__ import annotations

from shell.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
