"""Makes `weights.npz`, the tables behind `weights.py`: `python -m coprocessor.weight_tables ALLKEYS BMP`.

ALLKEYS is Unicode's allkeys.txt of version 9.0.0 (the PyPI package pyuca has it), for utf8mb4_0900_ai_ci. BMP has what
a server of MySQL or MariaDB answers to

    SELECT seq, HEX(WEIGHT_STRING(c COLLATE utf8mb4_general_ci)), HEX(WEIGHT_STRING(c COLLATE utf8mb4_unicode_ci))

for each character `c` from 1 to 65535 but the surrogates, as text with tabs: unicode_ci has the weights of version
4.0.0, which is hard to come by. Only what no rule gives is kept.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from coprocessor.weights import WEIGHTS_MAX, implicit_0400, tables_path

Entries = dict[int, Sequence[int]]

_ENTRY = re.compile(r"([0-9A-F]+)\s*;\s*((?:\[[^\]]+\])+)")
_PRIMARY = re.compile(r"\[[.*]([0-9A-F]+)\.")


def read_allkeys(text: str) -> Entries:
    """The primary weights of single characters; contractions are left out, as MySQL does for this collation."""
    out: Entries = {}
    for found in map(_ENTRY.match, text.splitlines()):
        if found is not None:
            weights = [int(w, 16) for w in _PRIMARY.findall(found[2])][:WEIGHTS_MAX]
            out[int(found[1], 16)] = [w for w in weights if w]
    return out


def read_answers(text: str) -> tuple[Entries, Entries]:
    """What differs from the character itself under general_ci, and from the rule for all others under unicode_ci."""
    general: Entries = {}
    unicode: Entries = {}
    for line in text.splitlines():
        code, first, second = line.split("\t")
        if _units(first) != [int(code)]:
            general[int(code)] = _units(first)
        if _units(second) != list(implicit_0400(int(code))):
            unicode[int(code)] = _units(second)
    return general, unicode


def _units(digits: str) -> list[int]:
    return [int(digits[i : i + 4], 16) for i in range(0, len(digits), 4)]


def _arrays(name: str, entries: Mapping[int, Sequence[int]]) -> Iterator[tuple[str, np.ndarray]]:
    codes = sorted(entries)
    yield f"{name}_codes", np.array(codes, np.uint32)
    yield f"{name}_counts", np.array([len(entries[c]) for c in codes], np.uint8)
    yield f"{name}_weights", np.array([w for c in codes for w in entries[c]], np.uint16)


def main(allkeys: str, answers: str) -> None:
    general, unicode = read_answers(Path(answers).read_text(encoding="utf-8"))
    tables = {"general": general, "u0400": unicode, "u0900": read_allkeys(Path(allkeys).read_text(encoding="utf-8"))}
    arrays = dict(pair for name, entries in tables.items() for pair in _arrays(name, entries))
    with tables_path().open("wb") as out:
        np.savez_compressed(out, allow_pickle=False, **arrays)
    print({name: len(entries) for name, entries in tables.items()}, tables_path().stat().st_size, "bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
