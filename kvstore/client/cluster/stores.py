"""What the placement driver's list of stores tells of them."""

from __future__ import annotations

from kvstore.proto.metapb_pb2 import Store

ENGINE_LABEL = "engine"
"""The label of stores that only follow, which the placement driver puts nothing on but what names it."""
ENGINES = ("tiflash",)


def is_replica_engine(store: Store) -> bool:
    """Whether a store only follows (TiFlash): it is told by the log."""
    return any(label.key == ENGINE_LABEL and label.value.startswith(ENGINES) for label in store.labels)
