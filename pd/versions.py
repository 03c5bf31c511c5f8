"""Versions of stores: `major.minor.patch`, with a `v` before and anything behind."""

from __future__ import annotations

import re
from collections.abc import Iterable

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


def parse_version(text: str) -> tuple[int, int, int] | None:
    """None for a text that is no version."""
    match = _VERSION.match(text)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def compatible(cluster: str, store: str) -> bool:
    """Whether a store may join: it is not older than the cluster's major and minor version (PD's IsCompatible).

    A store that names no version may join, as does any while the cluster has none.
    """
    ours, theirs = parse_version(cluster), parse_version(store)
    if not store or ours is None:
        return True
    return theirs is not None and (ours <= theirs or ours[:2] == theirs[:2])


def least_version(versions: Iterable[str]) -> str:
    """The least of those that are versions, empty for none."""
    parsed = [(found, text) for text in versions if (found := parse_version(text)) is not None]
    return min(parsed)[1].removeprefix("v") if parsed else ""
