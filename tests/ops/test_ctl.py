"""`sqlfront ctl`: what each command asks for and how the answers are printed, against a placement driver in memory."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kvstore.client.cluster.pd_client import PdClient
from kvstore.codec import encode_bytes
from kvstore.engine.memory import MemoryEngine
from kvstore.proto import pdraft_pb2 as pb
from kvstore.proto.kvrpcpb_pb2 import MvccGetByKeyRequest, MvccGetByKeyResponse, MvccInfo, MvccLock, MvccWrite, Op
from kvstore.proto.metapb_pb2 import Peer, PeerRole, Region, RegionEpoch, Store, StoreLabel, StoreState
from kvstore.proto.pdpb_pb2 import OperatorStatus, RegionHeartbeatRequest, StoreStats
from kvstore.rpc.api import Call, Handlers
from kvstore.rpc.memory import MemoryNetwork
from pd.config import PdConfig
from pd.node import PdNode
from shell.ctl import ask, options, steer
from shell.ctl.keys import Key, shown
from shell.ctl.report import Report, one, render
from shell.ctl.session import Command, CtlError, Session, Target, run
from shell.options import invoke

PD = "127.0.0.1:2379"
STORE = "127.0.0.1:20160"
SPLIT = encode_bytes(b"m")
REGIONS = [
    Region(id=2, end_key=SPLIT, region_epoch=RegionEpoch(conf_ver=1, version=2), peers=[Peer(id=3, store_id=1)]),
    Region(
        id=4,
        start_key=SPLIT,
        region_epoch=RegionEpoch(conf_ver=3, version=2),
        peers=[Peer(id=5, store_id=1), Peer(id=6, store_id=9, role=PeerRole.Learner)],
    ),
]


async def sync() -> None:
    return


class Cluster:
    """A placement driver, a store that knows one key, and an administration that writes down what it is told."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.told: list[Any] = []
        self.answers: dict[str, Any] = {}
        self._node = PdNode(
            PdConfig(),
            MemoryEngine(),
            self.network.transport(PD),
            lambda address, handlers: self.network.server(address, self._with_admin(handlers)),
            wall_ms=lambda: 1_700_000_000_000,
            sync=sync,
            rng=random.Random(1),
        )
        method = ask.TIKV["MvccGetByKey"]
        self._store = self.network.server(STORE, Handlers({method.path: (method, self._mvcc)}, {}))

    def _with_admin(self, handlers: Handlers) -> Handlers:
        unary = dict(handlers.unary)
        for name, method in steer.ADMIN.items():

            async def answer(request: Any, call: Call, name: str = name, kind: Any = method.response) -> Any:
                self.told.append(request)
                return self.answers.get(name, kind())

            unary[method.path] = (method, answer)
        return Handlers(unary, handlers.streams)

    async def _mvcc(self, request: MvccGetByKeyRequest, call: Call) -> MvccGetByKeyResponse:
        self.told.append(request)
        if request.key != b"a":
            return MvccGetByKeyResponse(error="no such key")
        writes = [MvccWrite(type=Op.Put, start_ts=7, commit_ts=8, short_value=b"\x01")]
        return MvccGetByKeyResponse(
            info=MvccInfo(lock=MvccLock(type=Op.Del, start_ts=9, primary=b"a", ttl=3000), writes=writes)
        )

    async def start(self) -> Session:
        await self._node.start()
        await self._store.start()
        transport = self.network.transport("ctl")
        pd = await PdClient.connect(transport, [PD], rng=random.Random(1))
        first = Region(id=2, region_epoch=RegionEpoch(conf_ver=1, version=1), peers=[Peer(id=3, store_id=1)])
        store = Store(id=1, address=STORE, version="8.5.0", labels=[StoreLabel(key="zone", value="z1")])
        await pd.bootstrap(store, first)
        for region in REGIONS:
            pd.region_heartbeat(RegionHeartbeatRequest(region=region, leader=region.peers[0], term=5))
        while len(await pd.scan_regions(b"", b"")) < len(REGIONS):
            await asyncio.sleep(0.001)
        self.pd = pd
        return Session(pd, transport, None)

    async def stop(self) -> None:
        await self.pd.close()
        await self._store.stop(0)
        await self._node.stop()


def with_cluster(body: Callable[[Session, Cluster], Awaitable[None]]) -> None:
    async def main() -> None:
        cluster = Cluster()
        session = await cluster.start()
        try:
            await body(session, cluster)
        finally:
            await cluster.stop()

    asyncio.run(main())


def found(command: Command, change: Callable[[Cluster], None] = lambda cluster: None) -> tuple[str, Any, list[Any]]:
    """What a command prints as a table, what as JSON, and what was told to the servers."""
    seen: list[Any] = []

    async def body(session: Session, cluster: Cluster) -> None:
        change(cluster)
        report = await command(session)
        seen.extend([render(report, "table"), json.loads(render(report, "json")), cluster.told])

    with_cluster(body)
    return seen[0], seen[1], seen[2]


def test_regions() -> None:
    table, objects, _ = found(ask.regions(None, None, 100))
    bound = f"{SPLIT.hex().upper()} (m)"
    assert objects == [
        {"id": 2, "start_key": "", "end_key": bound, "conf_ver": 1, "version": 2, "leader_store": 1, "peers": ["3@1"]},
        {
            "id": 4, "start_key": bound, "end_key": "", "conf_ver": 3, "version": 2, "leader_store": 1,
            "peers": ["5@1", "6@9:Learner"],
        },
    ]  # fmt: skip
    assert table.splitlines()[0].split() == list(ask.REGION_COLUMNS)
    assert len(table.splitlines()) == 3


def test_regions_of_a_range() -> None:
    assert [one["id"] for one in found(ask.regions(Key("x"), None, 100))[1]] == [4]
    assert [one["id"] for one in found(ask.regions(None, Key("b"), 100))[1]] == [2]
    assert [one["id"] for one in found(ask.regions(None, None, 1))[1]] == [2]


def test_one_region_by_id_and_by_key() -> None:
    assert found(ask.region(4))[1]["id"] == 4
    assert found(ask.region_by_key(Key("a")))[1]["id"] == 2
    assert found(ask.region_by_key(Key("6E", hex=True)))[1]["id"] == 4
    assert found(ask.region_by_key(Key(SPLIT.hex(), hex=True, kind="encoded")))[1]["id"] == 4
    with pytest.raises(CtlError, match="region 77 is not known"):
        found(ask.region(77))
    with pytest.raises(CtlError, match="'xy' is not hexadecimal"):
        found(ask.region_by_key(Key("xy", hex=True)))


def test_timestamps() -> None:
    fresh = found(ask.tso(None))[1]
    assert fresh["time"].startswith("2023-11-14T22:13:20")
    assert fresh["ts"] == (fresh["physical_ms"] << 18) + fresh["logical"]
    assert found(ask.tso((1_700_000_000_000 << 18) + 5))[1] == {
        "ts": 445644800000000005, "time": "2023-11-14T22:13:20.000+00:00", "physical_ms": 1700000000000, "logical": 5,
    }  # fmt: skip
    assert found(ask.tso(2**64))[1]["time"].endswith("+00:00")


def test_the_safe_point_moves_up() -> None:
    assert found(ask.gc_safe_point(None))[1] == {"safe_point": 0, "time": None}
    assert found(ask.gc_safe_point(1 << 18))[1]["safe_point"] == 1 << 18


def test_versions_of_a_key_come_from_its_leader() -> None:
    _, objects, told = found(ask.mvcc(Key("a")))
    assert [(one["record"], one["type"], one["start_ts"], one["commit_ts"]) for one in objects] == [
        ("lock", "Del", 9, None),
        ("write", "Put", 7, 8),
    ]
    assert objects[0]["more"] == "primary=61 ttl=3000"
    (request,) = told
    assert (request.context.region_id, request.context.region_epoch.version, request.context.peer.id) == (2, 2, 3)
    with pytest.raises(CtlError, match="store 1: no such key"):
        found(ask.mvcc(Key("b")))


def test_stores_and_members() -> None:
    store = Store(id=1, address=STORE, state=StoreState.Offline, labels=[StoreLabel(key="zone", value="z1")])
    status = pb.PdStoreStatus(store=store, stats=StoreStats(capacity=100), leader_count=2, region_count=3)

    def change(cluster: Cluster) -> None:
        cluster.answers["ListStores"] = pb.PdStoresResponse(stores=[status])
        cluster.answers["ListMembers"] = pb.PdMembersResponse(
            members=[pb.PdMember(name="pd1", member_id=7, leader=True)]
        )

    table, objects, told = found(steer.stores, change)
    assert objects[0]["labels"] == {"zone": "z1"}
    assert (objects[0]["state"], objects[0]["leaders"], objects[0]["regions"]) == ("Offline", 2, 3)
    assert "zone=z1" in table
    assert told[0].header.cluster_id != 0
    assert found(steer.store(1), change)[1]["capacity"] == 100
    with pytest.raises(CtlError, match="store 2 is not known"):
        found(steer.store(2), change)
    assert found(steer.members, change)[1] == [{"name": "pd1", "id": 7, "client_url": "", "leads": True}]


def test_operators_schedulers_and_configuration() -> None:
    operator = pb.PdOperator(region_id=2, description="x", kind="y", status=OperatorStatus.RUNNING, steps=["s"])

    def change(cluster: Cluster) -> None:
        cluster.answers["ListOperators"] = pb.PdOperatorsResponse(operators=[operator])
        cluster.answers["ListSchedulers"] = pb.PdSchedulersResponse(schedulers=[pb.PdScheduler(name="b", kind="k")])
        cluster.answers["GetConfig"] = pb.PdConfigResponse(items=[pb.PdConfigItem(name="n", value="v")])

    assert found(steer.operators, change)[1][0]["status"] == "running"
    assert found(steer.schedulers, change)[1] == [{"name": "b", "kind": "k", "stores": [], "paused_until_ms": None}]
    assert found(steer.config, change)[1] == [{"name": "n", "value": "v"}]


@pytest.mark.parametrize(
    ("command", "request_told"),
    [
        (steer.remove_operator(2), pb.PdRegionRequest(region_id=2)),
        (steer.add_scheduler("evict-leader", 3), pb.PdSchedulerRequest(kind="evict-leader", store_id=3)),
        (steer.pause_scheduler("b", 60), pb.PdPauseSchedulerRequest(name="b", seconds=60)),
        (steer.set_config("a", "b"), pb.PdSetConfigRequest(items=[pb.PdConfigItem(name="a", value="b")])),
        (steer.transfer_member("pd2"), pb.PdTransferMemberRequest(name="pd2")),
        (
            steer.set_store_state(1, "offline", True),
            pb.PdSetStoreStateRequest(store_id=1, state=StoreState.Offline, physically_destroyed=True),
        ),
        (
            steer.set_store_labels(1, {"zone": "z"}),
            pb.PdStoreLabelsRequest(store_id=1, labels=[StoreLabel(key="zone", value="z")]),
        ),
        (
            steer.set_store_weight(1, 2.0, 0.5),
            pb.PdStoreWeightRequest(store_id=1, leader_weight=2.0, region_weight=0.5),
        ),
    ],
)
def test_orders_are_told_as_they_are_meant(command: Command, request_told: Any) -> None:
    _, said, (told,) = found(command)
    assert said["done"]
    told.ClearField("header")
    assert told == request_told


def test_a_scheduler_may_be_about_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[Command] = []

    def note(target: Target, command: Command) -> int:
        commands.append(command)
        return 0

    monkeypatch.setattr(options, "run", note)
    assert invoke(["ctl", "scheduler", "add", "balance-leader"]) == 0
    assert invoke(["ctl", "scheduler", "add", "evict-leader", "--store", "0"]) == 2
    (command,) = commands
    _, _, (told,) = found(command)
    assert (told.kind, told.store_id) == ("balance-leader", 0)


def test_a_split_goes_at_encoded_keys() -> None:
    _, _, (told,) = found(steer.split(2, [Key("g")]))
    assert list(told.split.keys) == [encode_bytes(b"g")]
    _, _, (told,) = found(steer.split(2, []))
    assert told.WhichOneof("operator") == "split"


def test_a_refusal_is_an_error() -> None:
    def change(cluster: Cluster) -> None:
        answer = pb.PdAdminResponse()
        answer.header.error.type = 1
        answer.header.error.message = "no such region"
        cluster.answers["RemoveOperator"] = answer

    with pytest.raises(CtlError, match="no such region"):
        found(steer.remove_operator(2), change)


def test_rules_of_a_file_are_those_that_are_listed(tmp_path: Path) -> None:
    constraint = pb.PdLabelConstraint(key="zone", op=pb.PdLabelOp.IN, values=["z1", "z2"])
    rule = pb.PdRule(group="pd", id="near", role=pb.PdRuleRole.LEADER, count=1, constraints=[constraint])

    def change(cluster: Cluster) -> None:
        cluster.answers["ListRules"] = pb.PdRulesResponse(rules=[rule])

    objects = found(steer.rules, change)[1]
    assert objects[0]["constraints"] == ["zone in z1/z2"]
    file = tmp_path / "rules.json"
    file.write_text(json.dumps([one["rule"] for one in objects]))
    _, _, (told,) = found(steer.set_rules(file))
    assert list(told.rules) == [rule]
    file.write_text("[{]")
    with pytest.raises(CtlError, match="is no list of rules"):
        steer.set_rules(file)
    with pytest.raises(CtlError, match="No such file"):
        steer.set_rules(tmp_path / "none")


def test_tables_are_aligned_and_harmless() -> None:
    report = Report(("id", "name"), [(1, "a\x1b[2J"), (20, None), (3, True)])
    assert render(report, "table").splitlines() == ["id  name", " 1  a\\x1b[2J", "20  -", " 3  yes"]
    assert render(one(a=1, long=["x", "y"]), "table") == "a     1\nlong  x,y"
    assert render(Report(("id",), []), "json") == "[]"


@pytest.mark.parametrize(
    ("bound", "text"), [(b"", ""), (b"\xff", "FF"), (encode_bytes(b"\x00"), encode_bytes(b"\x00").hex().upper())]
)
def test_bounds_that_are_not_text(bound: bytes, text: str) -> None:
    assert shown(bound) == text


def test_a_cluster_that_is_not_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(session: Session) -> Report:
        raise CtlError("never\ncalled")

    assert run(Target("no address"), nothing) == 2
    assert "--pd 'no address' is not host:port" in capsys.readouterr().err
    assert run(Target("127.0.0.1:1", ca="x"), nothing) == 2
    assert "cert and key missing" in capsys.readouterr().err
