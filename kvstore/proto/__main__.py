"""Generates the modules of this package: `python -m kvstore.proto`, or `--check` to see that they are current."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RESERVED = re.compile(r"^ *(None|True|False): .*\n", re.MULTILINE)
"""Enum values that are Python's words: a stub file cannot name them, `Enum.Value(name)` reaches them."""


def generate(target: Path) -> dict[str, str]:
    """Runs protoc into `target`; returns the generated files' texts by name."""
    from grpc_tools import protoc

    names = sorted(str(path.relative_to(ROOT)) for path in HERE.glob("*.proto"))
    status = protoc.main(["protoc", f"-I{ROOT}", f"--python_out={target}", f"--pyi_out={target}", *names])
    if status:
        raise SystemExit(f"protoc failed with status {status}")
    made = sorted((target / HERE.relative_to(ROOT)).glob("*_pb2.py*"))
    return {path.name: RESERVED.sub("", path.read_text()) for path in made}


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        made = generate(Path(directory))
    if "--check" in arguments:
        there = {path.name: path.read_text() for path in HERE.glob("*_pb2.py*")}
        stale = sorted(name for name in made.keys() | there.keys() if made.get(name) != there.get(name))
        if stale:
            raise SystemExit(f"not current, run `make proto`: {', '.join(stale)}")
        return
    for path in HERE.glob("*_pb2.py*"):
        path.unlink()
    for name, text in made.items():
        (HERE / name).write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
