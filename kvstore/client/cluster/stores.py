"""What the placement driver's list of stores tells of them: what they are, and what they can be asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kvstore.proto.metapb_pb2 import Store, Tombstone

ENCODINGS_LABEL = "engine_encodings"
"""A store's label that names the encodings it answers in beside TiKV's."""
ARROW = "arrow"
VERSION_MIN = (5, 0, 0)
"""The first TiKV with async commit, one-phase commit, and bounds in ScanLock, all of which are asked of every store."""
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class StoreFeatures:
    """What all stores of rows have in common."""

    answers_arrow: bool
    """They say that they answer push-down requests in Arrow: only stores of ours do."""
    too_old: tuple[str, ...]
    """Addresses with versions of those before `VERSION_MIN`; a version that cannot be read counts as new."""


def features_of(stores: Iterable[Store]) -> StoreFeatures:
    """Judges a cluster by its stores; those that are gone, and replica engines, do not count."""
    alive = [store for store in stores if store.state != Tombstone and not is_replica_engine(store)]
    old = (f"{store.address} ({store.version})" for store in alive if (version_of(store) or VERSION_MIN) < VERSION_MIN)
    return StoreFeatures(bool(alive) and all(map(answers_arrow, alive)), tuple(old))


def version_of(store: Store) -> tuple[int, int, int] | None:
    """The release that a store says it is of, without what may follow; None where it says nothing readable."""
    found = _VERSION.match(store.version)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


ENGINE_LABEL = "engine"
"""The label of stores that only follow, which the placement driver puts nothing on but what names it."""
ENGINES = ("tiflash",)


def is_replica_engine(store: Store) -> bool:
    """Whether a store only follows (TiFlash): it is told by the log."""
    return any(label.key == ENGINE_LABEL and label.value.startswith(ENGINES) for label in store.labels)


def answers_arrow(store: Store) -> bool:
    """Whether a store says that it answers in Arrow: only stores of ours do."""
    return any(label.key == ENCODINGS_LABEL and ARROW in label.value.split(",") for label in store.labels)
