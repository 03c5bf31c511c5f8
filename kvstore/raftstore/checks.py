"""The errors of a region, and the checks every request passes, in TiKV's order (`raftstore/src/store/util.rs`).

Store id, region, leader, peer id, term, epoch; the key range is checked by the service, key by key.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvstore.proto import errorpb_pb2 as errorpb
from kvstore.proto.metapb_pb2 import Peer, Region, RegionEpoch
from kvstore.raftstore.api import RegionError


def not_leader(region_id: int, leader: Peer | None) -> RegionError:
    error = errorpb.Error(message=f"peer is not leader for region {region_id}")
    error.not_leader.region_id = region_id
    if leader is not None:
        error.not_leader.leader.CopyFrom(leader)
    return RegionError(error)


def region_not_found(region_id: int) -> RegionError:
    return RegionError(
        errorpb.Error(
            message=f"region {region_id} is missing", region_not_found=errorpb.RegionNotFound(region_id=region_id)
        )
    )


def region_not_initialized(region_id: int) -> RegionError:
    return RegionError(
        errorpb.Error(
            message=f"region {region_id} is not initialized yet",
            region_not_initialized=errorpb.RegionNotInitialized(region_id=region_id),
        )
    )


def store_not_match(asked: int, actual: int) -> RegionError:
    return RegionError(
        errorpb.Error(
            message=f"store is not match, request {asked}, actual {actual}",
            store_not_match=errorpb.StoreNotMatch(request_store_id=asked, actual_store_id=actual),
        )
    )


def mismatch_peer_id(asked: int, actual: int) -> RegionError:
    return RegionError(
        errorpb.Error(
            message=f"mismatch peer id {asked} != {actual}",
            mismatch_peer_id=errorpb.MismatchPeerId(request_peer_id=asked, store_peer_id=actual),
        )
    )


def stale_command(why: str = "stale command") -> RegionError:
    return RegionError(errorpb.Error(message=why, stale_command=errorpb.StaleCommand()))


def epoch_not_match(what: str, regions: Iterable[Region]) -> RegionError:
    return RegionError(
        errorpb.Error(
            message=f"epoch not match: {what}", epoch_not_match=errorpb.EpochNotMatch(current_regions=list(regions))
        )
    )


def key_not_in_region(key: bytes, region: Region) -> RegionError:
    return RegionError(
        errorpb.Error(
            message=f"key {key.hex()} is not in region {region.id}",
            key_not_in_region=errorpb.KeyNotInRegion(
                key=key, region_id=region.id, start_key=region.start_key, end_key=region.end_key
            ),
        )
    )


def server_is_busy(reason: str, backoff_ms: int = 0) -> RegionError:
    return RegionError(
        errorpb.Error(
            message=f"server is busy: {reason}",
            server_is_busy=errorpb.ServerIsBusy(reason=reason, backoff_ms=backoff_ms),
        )
    )


def raft_entry_too_large(region_id: int, size: int) -> RegionError:
    return RegionError(
        errorpb.Error(
            message=f"raft entry is too large, region {region_id}, entry size {size}",
            raft_entry_too_large=errorpb.RaftEntryTooLarge(region_id=region_id, entry_size=size),
        )
    )


def proposal_in_merging_mode(region_id: int) -> RegionError:
    return RegionError(
        errorpb.Error(
            message=f"region {region_id} is in merging mode",
            proposal_in_merging_mode=errorpb.ProposalInMergingMode(region_id=region_id),
        )
    )


def read_index_not_ready(region_id: int, reason: str) -> RegionError:
    return RegionError(
        errorpb.Error(
            message=f"read index not ready, region {region_id}: {reason}",
            read_index_not_ready=errorpb.ReadIndexNotReady(reason=reason, region_id=region_id),
        )
    )


def disk_full(store_id: int, reason: str) -> RegionError:
    return RegionError(
        errorpb.Error(message=f"disk full: {reason}", disk_full=errorpb.DiskFull(store_id=[store_id], reason=reason))
    )


def undetermined(why: str) -> RegionError:
    return RegionError(
        errorpb.Error(message=f"undetermined: {why}", undetermined_result=errorpb.UndeterminedResult(message=why))
    )


def refused(why: str) -> RegionError:
    """A request that makes no sense in the region's state; asking again does not help."""
    return RegionError(errorpb.Error(message=why))


def in_region(region: Region, key: bytes) -> bool:
    return region.start_key <= key and (not region.end_key or key < region.end_key)


def check_key(region: Region, key: bytes) -> None:
    """Raises key_not_in_region for an encoded key outside of [start, end)."""
    if not in_region(region, key):
        raise key_not_in_region(key, region)


def epoch_text(epoch: RegionEpoch) -> str:
    return f"conf_ver {epoch.conf_ver} version {epoch.version}"


def epoch_is_stale(epoch: RegionEpoch, than: RegionEpoch) -> bool:
    """Whether `epoch` is behind in either part."""
    return epoch.version < than.version or epoch.conf_ver < than.conf_ver


def find_peer(region: Region, store_id: int) -> Peer | None:
    for peer in region.peers:
        if peer.store_id == store_id:
            return peer
    return None


def overlaps(a: Region, b: Region) -> bool:
    return (not b.end_key or a.start_key < b.end_key) and (not a.end_key or b.start_key < a.end_key)


def covers(a: Region, b: Region) -> bool:
    """Whether `a` holds all of `b`'s range."""
    return a.start_key <= b.start_key and (not a.end_key or (bool(b.end_key) and b.end_key <= a.end_key))
