"""What the placement driver's list of stores tells of them."""

from __future__ import annotations

from kvstore.proto.metapb_pb2 import Store


def is_replica_engine(store: Store) -> bool:
    """Whether a store only follows (TiFlash): it is told by the log."""
    return any(label.key == "engine" and label.value.startswith("tiflash") for label in store.labels)
