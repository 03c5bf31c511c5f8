"""Bootstrap, ids, stores and the cluster's meta data."""

from __future__ import annotations

from kvstore.proto import pdpb_pb2 as pb
from kvstore.proto.metapb_pb2 import Cluster, StoreState
from pd import state as keys
from pd.errors import Refused
from pd.ids import COUNT_MAX
from pd.leadership import Leadership
from pd.service.calls import Calls, alone
from pd.state import Change
from pd.stores import cluster_version
from pd.tso import LOGICAL_BITS, LOGICAL_MAX


@alone
async def bootstrap(lead: Leadership, request: pb.BootstrapRequest, reply: pb.BootstrapResponse) -> None:
    await lead.bootstrap(request.header.cluster_id, request.store, request.region)


async def is_bootstrapped(
    lead: Leadership, request: pb.IsBootstrappedRequest, reply: pb.IsBootstrappedResponse
) -> None:
    reply.bootstrapped = lead.bootstrapped


async def alloc_id(lead: Leadership, request: pb.AllocIDRequest, reply: pb.AllocIDResponse) -> None:
    """The last of `count` ids in a row (as PD answers a batch)."""
    count = max(1, request.count)
    if count > COUNT_MAX:
        raise Refused(f"{count} ids at once; at most {COUNT_MAX}", pb.ErrorType.INVALID_VALUE)
    reply.id = (await lead.ids.allocate(count))[-1]
    reply.count = count


async def get_store(lead: Leadership, request: pb.GetStoreRequest, reply: pb.GetStoreResponse) -> None:
    store = lead.cluster.store(request.store_id)
    if store is None:
        raise Refused(f"invalid store ID {request.store_id}, not found")
    reply.store.CopyFrom(store.meta)
    if store.stats is not None:
        reply.stats.CopyFrom(store.stats)


@alone
async def put_store(lead: Leadership, request: pb.PutStoreRequest, reply: pb.PutStoreResponse) -> None:
    await lead.put_store(request.store)


async def get_all_stores(lead: Leadership, request: pb.GetAllStoresRequest, reply: pb.GetAllStoresResponse) -> None:
    for store in lead.cluster.stores.values():
        if not (request.exclude_tombstone_stores and store.meta.state == StoreState.Tombstone):
            reply.stores.append(store.meta)


async def store_heartbeat(
    lead: Leadership, request: pb.StoreHeartbeatRequest, reply: pb.StoreHeartbeatResponse
) -> None:
    store = lead.store_heartbeat(request.stats)
    reply.cluster_version = cluster_version(lead.cluster)
    reply.state = store.meta.node_state


async def get_cluster_config(
    lead: Leadership, request: pb.GetClusterConfigRequest, reply: pb.GetClusterConfigResponse
) -> None:
    assert lead.meta is not None
    reply.cluster.CopyFrom(lead.meta)
    reply.cluster.max_peer_count = lead.config.max_replicas


@alone
async def put_cluster_config(
    lead: Leadership, request: pb.PutClusterConfigRequest, reply: pb.PutClusterConfigResponse
) -> None:
    assert lead.meta is not None
    if request.cluster.id != lead.meta.id:
        raise Refused(f"invalid cluster {request.cluster.id}, mismatch cluster id {lead.meta.id}")
    meta = Cluster()
    meta.CopyFrom(request.cluster)
    await lead.save([Change(keys.CLUSTER, meta.SerializeToString())])
    lead.meta = meta
    if meta.max_peer_count:
        await lead.set_config([("max_replicas", str(meta.max_peer_count))])


async def get_min_ts(lead: Leadership, request: pb.GetMinTSRequest, reply: pb.GetMinTSResponse) -> None:
    ts = await lead.timestamps.get(1)
    reply.timestamp.physical = ts >> LOGICAL_BITS
    reply.timestamp.logical = ts & LOGICAL_MAX


async def report_min_resolved_ts(
    lead: Leadership, request: pb.ReportMinResolvedTsRequest, reply: pb.ReportMinResolvedTsResponse
) -> None:
    """Taken from stores that there are; nothing here needs it."""
    lead.known_store(request.store_id)


def _item_key(path: str, name: str) -> bytes:
    return keys.GLOBAL_CONFIG + path.encode() + b"/" + name.encode()


async def store_global_config(
    lead: Leadership, request: pb.StoreGlobalConfigRequest, reply: pb.StoreGlobalConfigResponse
) -> None:
    changes: list[Change] = []
    for item in request.changes:
        value = None if item.kind == pb.EventType.DELETE else item.payload or item.value.encode()
        changes.append(Change(_item_key(request.config_path, item.name), value))
    await lead.save(changes)


async def load_global_config(
    lead: Leadership, request: pb.LoadGlobalConfigRequest, reply: pb.LoadGlobalConfigResponse
) -> None:
    state = lead.replica.state
    reply.revision = lead.replica.applied_index
    for name in request.names:
        value = state.get(_item_key(request.config_path, name))
        item = reply.items.add(name=name)
        if value is None:
            item.error.type = pb.ErrorType.GLOBAL_CONFIG_NOT_FOUND
            item.error.message = f"[PD:etcd:ErrEtcdKVGetResponse] {name} not found"
        else:
            item.payload = value
    if not request.names:
        prefix = _item_key(request.config_path, "")
        for key, value in state.scan(prefix):
            reply.items.add(name=key.removeprefix(prefix).decode(), payload=value, kind=pb.EventType.PUT)


CALLS = Calls(
    always={
        "Bootstrap": bootstrap,
        "IsBootstrapped": is_bootstrapped,
        "AllocID": alloc_id,
        "GetMinTS": get_min_ts,
    },
    headless={"StoreGlobalConfig": store_global_config, "LoadGlobalConfig": load_global_config},
    bootstrapped={
        "GetStore": get_store,
        "PutStore": put_store,
        "GetAllStores": get_all_stores,
        "StoreHeartbeat": store_heartbeat,
        "GetClusterConfig": get_cluster_config,
        "PutClusterConfig": put_cluster_config,
        "ReportMinResolvedTS": report_min_resolved_ts,
    },
)
