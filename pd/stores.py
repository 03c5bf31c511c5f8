"""What a store may be: the first one of a cluster, one that starts, one whose state is changed.

Pure: the cluster in, the store's new form out, or Refused. Saving it and taking it in is the leadership's.
"""

from __future__ import annotations

from kvstore.proto.metapb_pb2 import NodeState, Region, Store, StoreState
from kvstore.proto.pdpb_pb2 import ErrorType
from pd.cluster import Cluster, StoreInfo
from pd.errors import Refused
from pd.versions import compatible, least_version

NODE_STATES = {
    StoreState.Up: NodeState.Serving,
    StoreState.Offline: NodeState.Removing,
    StoreState.Tombstone: NodeState.Removed,
}


def check_bootstrap(store: Store, region: Region) -> None:
    """Raises Refused unless this is a store with the region that holds all keys."""
    problem = ""
    if not store.id:
        problem = "store id is 0"
    elif not region.id or region.start_key or region.end_key:
        problem = f"region {region.id} must have an id and hold all keys"
    elif len(region.peers) != 1 or region.peers[0].store_id != store.id or not region.peers[0].id:
        problem = f"region {region.id} must have one peer, on store {store.id}"
    if problem:
        raise Refused(f"invalid bootstrap request: {problem}", ErrorType.INVALID_VALUE)


def cluster_version(cluster: Cluster) -> str:
    """The least version of the living stores, empty while there are none."""
    return least_version(store.meta.version for store in cluster.living_stores())


def known_store(cluster: Cluster, store_id: int) -> StoreInfo:
    """A store that is no tombstone; raises Refused."""
    store = cluster.store(store_id)
    if store is None:
        raise Refused(f"invalid store ID {store_id}, not found")
    if store.meta.state == StoreState.Tombstone:
        raise Refused(f"store {store_id} is tombstone", ErrorType.STORE_TOMBSTONE)
    return store


def started(cluster: Cluster, told: Store) -> Store:
    """A store that makes itself known: as it tells, with the state and the other labels that are known of it.

    Raises Refused for a version, address or label that can't be.
    """
    known = known_store(cluster, told.id) if cluster.store(told.id) is not None else None
    _check(cluster, told)
    store = Store()
    store.CopyFrom(told)
    if known is not None:
        store.state, store.node_state = known.meta.state, known.meta.node_state
        store.physically_destroyed = known.meta.physically_destroyed
        told_keys = {label.key for label in told.labels}
        store.labels.extend(label for label in known.meta.labels if label.key not in told_keys)
    return store


def _check(cluster: Cluster, told: Store) -> None:
    if not told.id:
        raise Refused(f"invalid put store {told.address!r}: id is 0")
    if not told.address:
        raise Refused(f"invalid put store {told.id}: no address")
    version = cluster_version(cluster)
    if not compatible(version, told.version):
        raise Refused(
            f"version should compatible with version {version}, got {told.version}", ErrorType.INCOMPATIBLE_VERSION
        )
    for label in told.labels:
        if not label.key or not label.value:
            raise Refused(f"store {told.id}: label {label.key!r} = {label.value!r} is empty", ErrorType.INVALID_VALUE)
    for other in cluster.living_stores():
        if other.id != told.id and other.meta.address == told.address and not other.meta.physically_destroyed:
            raise Refused(
                f"duplicated store address: store {told.id} at {told.address}, already registered by store {other.id}",
                ErrorType.DUPLICATED_ENTRY,
            )


def in_state(cluster: Cluster, known: StoreInfo, state: StoreState, *, destroyed: bool) -> Store:
    """The store made up, offline or a tombstone. Raises Refused when it can't be that now."""
    if state == StoreState.Tombstone and known.load.regions and not destroyed:
        raise Refused(f"store {known.id} still has {len(known.load.regions)} regions", ErrorType.INVALID_VALUE)
    if state == StoreState.Offline:
        living = cluster.living_stores()
        if not any(one.id != known.id and one.meta.state == StoreState.Up for one in living):
            raise Refused(f"store {known.id} is the last one that is up", ErrorType.INVALID_VALUE)
    changed = Store()
    changed.CopyFrom(known.meta)
    changed.state, changed.node_state = state, NODE_STATES[state]
    changed.physically_destroyed = destroyed
    return changed
