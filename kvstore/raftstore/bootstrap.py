"""Which store a directory is, and how the first store of a cluster makes the first region.

The region is written before the placement driver is told, and taken back if another store was first; a crash in
between is seen by the prepared-region key.
"""

from __future__ import annotations

from kvstore.engine.api import CF_RAFT, Engine
from kvstore.errors import NotOurDirectory
from kvstore.proto.metapb_pb2 import Peer, Region, RegionEpoch, Store
from kvstore.proto.raft_serverpb_pb2 import StoreIdent
from kvstore.raftstore import keys
from kvstore.raftstore.api import PLACEMENT_ERRORS, Placement
from kvstore.raftstore.peer_storage import write_first_states

FIRST_EPOCH = 1


def read_ident(engine: Engine) -> StoreIdent | None:
    """Which store of which cluster the engine is of; None for a new one."""
    raw = engine.get(CF_RAFT, keys.STORE_IDENT_KEY)
    return None if raw is None else StoreIdent.FromString(raw)


def write_ident(engine: Engine, cluster_id: int, store_id: int) -> None:
    batch = engine.batch()
    ident = StoreIdent(cluster_id=cluster_id, store_id=store_id)
    batch.put(keys.STORE_IDENT_KEY, ident.SerializeToString(), engine.handle(CF_RAFT))
    engine.write(batch)
    engine.sync()


async def identify(engine: Engine, placement: Placement, cluster_id: int, *, wanted: int = 0) -> int:
    """The store id of the directory; a new one gets its own from the placement driver.

    NotOurDirectory if it belongs to another cluster, or is not the store that was `wanted`.
    """
    ident = read_ident(engine)
    if ident is None:
        if not all(engine.is_empty(cf) for cf in keys.DATA_FAMILIES):
            raise NotOurDirectory(f"{engine.path!r} holds data, but is no store of a cluster")
        store_id = wanted or await placement.alloc_id()
        write_ident(engine, cluster_id, store_id)
        return store_id
    if ident.cluster_id != cluster_id:
        raise NotOurDirectory(
            f"{engine.path!r} is store {ident.store_id} of cluster {ident.cluster_id}, but this is cluster {cluster_id}"
        )
    if wanted and ident.store_id != wanted:
        raise NotOurDirectory(f"{engine.path!r} is store {ident.store_id}, not {wanted}")
    found: int = ident.store_id
    return found


def prepare_region(engine: Engine, region: Region) -> None:
    """Writes the states of a region that begins here, durably."""
    batch = engine.batch()
    write_first_states(engine, batch, region)
    batch.put(keys.PREPARED_REGION_KEY, region.SerializeToString(), engine.handle(CF_RAFT))
    engine.write(batch)
    engine.sync()


def first_region(region_id: int, peer_id: int, store_id: int) -> Region:
    """The whole key space, with one peer."""
    return Region(
        id=region_id,
        region_epoch=RegionEpoch(conf_ver=FIRST_EPOCH, version=FIRST_EPOCH),
        peers=[Peer(id=peer_id, store_id=store_id)],
    )


async def bootstrap(engine: Engine, placement: Placement, store: Store) -> bool:
    """Makes the cluster's first region here, unless the cluster has one; True if it is ours. PLACEMENT_ERRORS."""
    raw = engine.get(CF_RAFT, keys.PREPARED_REGION_KEY)
    if raw is not None:
        region = Region.FromString(raw)
    elif await placement.is_bootstrapped():
        return False
    else:
        region = first_region(await placement.alloc_id(), await placement.alloc_id(), store.id)
        prepare_region(engine, region)
    try:
        await placement.bootstrap(store, region)
        ours = True
    except PLACEMENT_ERRORS:
        if not await placement.is_bootstrapped():
            raise
        found = await placement.get_region_by_id(region.id)
        ours = found is not None
    _forget_prepared(engine, None if ours else region)
    return ours


def _forget_prepared(engine: Engine, lost: Region | None) -> None:
    batch = engine.batch()
    handle = engine.handle(CF_RAFT)
    batch.delete(keys.PREPARED_REGION_KEY, handle)
    if lost is not None:
        batch.delete_range(*keys.raft_range(lost.id), handle)
        batch.delete(keys.region_state_key(lost.id), handle)
    engine.write(batch)
    engine.sync()
