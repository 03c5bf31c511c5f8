"""What a placement driver counts of timestamps, heartbeats and operators, under PD's names."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from kvstore.proto.metapb_pb2 import PeerRole
from shell.nodes.pd_metrics import ClusterMetrics
from tests.pd.cluster_of_pds import heartbeat, region
from tests.pd.test_failover import Group, simulate


def test_timestamps_heartbeats_and_operators_are_counted() -> None:
    async def test(group: Group) -> None:
        client = group.client
        await client.bootstrap(stores=2)
        registry = CollectorRegistry()
        node = group.leader().node
        assert node is not None
        ClusterMetrics(registry, node)
        value = registry.get_sample_value
        for _ in range(3):
            await client.timestamp()
        assert value("pd_server_handle_tso_duration_seconds_count") == 3
        stream = client.stream("RegionHeartbeat")
        told = heartbeat(region(2, peers=[(3, 1)], version=5), cluster_id=client.cluster_id)
        await stream.send(told)
        order = await stream.receive()
        stale = heartbeat(region(2, peers=[(3, 1)]), cluster_id=client.cluster_id)
        unknown = heartbeat(region(2, peers=[(3, 77)], version=5), cluster_id=client.cluster_id)
        for one in (stale, unknown):
            await stream.send(one)
        await asyncio.sleep(0.5)
        of = {"address": "store1:20160", "store": "1", "type": "report"}
        assert value("pd_scheduler_region_heartbeat", {**of, "status": "ok"}) == 1
        assert value("pd_scheduler_region_heartbeat", {**of, "status": "stale"}) == 1
        gone = {"address": "", "store": "77", "type": "report", "status": "err"}
        assert value("pd_scheduler_region_heartbeat", gone) == 1
        pushed = value("pd_scheduler_region_heartbeat", {**of, "type": "push", "status": "ok"})
        assert pushed is not None
        assert pushed >= 1
        assert value("pd_scheduler_handle_region_heartbeat_duration_seconds_count") == 3
        assert node.leadership is not None
        (operator,) = node.leadership.controller.running.values()
        kinds = {"type": operator.description}
        assert value("pd_schedule_operators_count", {**kinds, "event": "create"}) == 1
        added = order.change_peer.peer
        for conf_ver, role in ((2, PeerRole.Learner), (3, PeerRole.Voter)):
            grown = region(2, peers=[(3, 1), (added.id, added.store_id)], version=5, conf_ver=conf_ver)
            grown.peers[1].role = role
            await stream.send(heartbeat(grown, cluster_id=client.cluster_id))
            await asyncio.sleep(0.5)
        assert value("pd_schedule_operators_count", {**kinds, "event": "finish"}) == 1
        assert value("pd_schedule_finish_operators_duration_seconds_count", kinds) == 1
        stream.cancel()

    simulate(test)
