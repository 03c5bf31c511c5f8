"""What clients of TiKV look up in a PD's etcd, and in its registry of services: read-only, and nothing else of etcd.

client-go reads the transaction safe point from a key of etcd when PD tells it in no other way, and refuses old
snapshots by it; without an answer it refuses all, 100 s after it began. Newer ones ask the registry where timestamps or
routes are served apart from PD: nowhere. (client-go `tikv/safepoint.go`, `pd/client/clients/metastorage`.)
"""

from __future__ import annotations

from kvstore.proto import etcdserverpb_pb2 as etcd
from kvstore.proto import meta_storagepb_pb2 as registry
from pd.leadership import Leadership
from pd.service.calls import Calls

SAVED_SAFE_POINT = b"/tidb/store/gcworker/saved_safe_point"
NO_BOUND = b"\0"
"""etcd's end of a range that has none."""


async def read_range(lead: Leadership, request: etcd.RangeRequest, reply: etcd.RangeResponse) -> None:
    """Finds the safe point, as a decimal number, if there is one yet and it is in the range."""
    revision = max(1, lead.replica.applied_index)
    reply.header.member_id = lead.replica.leader_id
    reply.header.revision = revision
    reply.header.raft_term = lead.term
    end = request.range_end
    inside = request.key <= SAVED_SAFE_POINT and (end == NO_BOUND or end > SAVED_SAFE_POINT)
    if not lead.safe_points.txn or not (inside if end else request.key == SAVED_SAFE_POINT):
        return
    reply.count = 1
    if not request.count_only:
        found = reply.kvs.add(key=SAVED_SAFE_POINT, create_revision=1, mod_revision=revision, version=1)
        if not request.keys_only:
            found.value = b"%d" % lead.safe_points.txn


async def read_registry(lead: Leadership, request: registry.GetRequest, reply: registry.GetResponse) -> None:
    """Finds nothing: all is served here."""
    reply.header.revision = max(1, lead.replica.applied_index)


ETCD_CALLS = Calls(headless={"Range": read_range})
REGISTRY_CALLS = Calls(headless={"Get": read_registry})
"""Its header is there, but clients leave the cluster id out."""
