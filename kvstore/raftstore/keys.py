"""Where things lie on disk: TiKV's keys (`components/keys/src/lib.rs`).

family raft     01 01                         StoreIdent
                01 02                         the first region while it is prepared
                01 02 region_id 01 index      eraftpb.Entry
                01 02 region_id 02            RaftLocalState
                01 02 region_id 03            RaftApplyState
                01 03 region_id 01            RegionLocalState
                01 04 region_id piece         a received snapshot until it is applied (ours)
data families   z key
"""

from __future__ import annotations

import struct

from kvstore.engine.api import CF_DEFAULT, CF_LOCK, CF_WRITE

DATA_FAMILIES = (CF_DEFAULT, CF_LOCK, CF_WRITE)
DATA_PREFIX = b"z"
DATA_END = b"{"
STORE_IDENT_KEY = b"\x01\x01"
PREPARED_REGION_KEY = b"\x01\x02"
REGION_STATES = (b"\x01\x03", b"\x01\x04")
STAGING = (b"\x01\x04", b"\x01\x05")
RAFT_KEYS_END = b"\x01\x03"

_LOG = struct.Struct(">BBQBQ")
_STATE = struct.Struct(">BBQB")
_REGION = struct.Struct(">BBQ")
_PIECE = struct.Struct(">BBQQ")
_LOG_SUFFIX, _RAFT_STATE_SUFFIX, _APPLY_STATE_SUFFIX = 1, 2, 3


def log_key(region_id: int, index: int) -> bytes:
    return _LOG.pack(1, 2, region_id, _LOG_SUFFIX, index)


def raft_state_key(region_id: int) -> bytes:
    return _STATE.pack(1, 2, region_id, _RAFT_STATE_SUFFIX)


def apply_state_key(region_id: int) -> bytes:
    return _STATE.pack(1, 2, region_id, _APPLY_STATE_SUFFIX)


def raft_range(region_id: int) -> tuple[bytes, bytes]:
    """Everything of a region but its RegionLocalState."""
    return _REGION.pack(1, 2, region_id), _REGION.pack(1, 2, region_id + 1)


def region_state_key(region_id: int) -> bytes:
    return _STATE.pack(1, 3, region_id, 1)


def staging_key(region_id: int, piece: int) -> bytes:
    return _PIECE.pack(1, 4, region_id, piece)


def staging_range(region_id: int) -> tuple[bytes, bytes]:
    return _REGION.pack(1, 4, region_id), _REGION.pack(1, 4, region_id + 1)


def region_of(key: bytes) -> int:
    """The region id in a local key."""
    region_id: int = _REGION.unpack_from(key)[2]
    return region_id


def data_start(key: bytes) -> bytes:
    """A region's start key as it lies on disk."""
    return DATA_PREFIX + key


def data_end(key: bytes) -> bytes:
    """A region's end key as it lies on disk; empty means no bound."""
    return DATA_PREFIX + key if key else DATA_END
