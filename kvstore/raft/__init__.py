"""Raft as a pure state machine: messages, ticks and proposals in, `Ready` out; no clock, socket, disk or randomness.

Start at `raw_node` for the contract, at `state` for the node, and at docs/raft.md for the whole.
"""

from kvstore.raft.conf_codec import decode_conf_change, encode_conf_change
from kvstore.raft.config import Config, Rng
from kvstore.raft.raw_node import LightReady, RawNode, Ready
from kvstore.raft.storage import MemoryStorage, Storage

__all__ = [
    "Config",
    "LightReady",
    "MemoryStorage",
    "RawNode",
    "Ready",
    "Rng",
    "Storage",
    "decode_conf_change",
    "encode_conf_change",
]
