"""Golden scripts: a cluster in, operators out. SQLFRONT_REGENERATE=1 writes the expected output anew.

A file is a sequence of blocks: commands, `---`, output, an empty line; the cluster lasts over the blocks of a file.

    store ID [label=value …] [state=up|offline|tombstone|down|disconnected] [weight=W]
    region ID START..END STORE[*leader][l earner][+incoming][-demoting][!down][?pending] … [size=MIB] [write=B] [read=B]
    rule ID ROLE COUNT [label=value|label!=value …] [START..END] [by=LABEL,…]
    config NAME=VALUE …
    check ID · schedule KIND [STORE] · operators · heartbeat ID (as the region command) · split-age ID SECONDS
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from kvstore.proto.metapb_pb2 import Peer, PeerRole, Region, RegionEpoch, StoreState
from kvstore.proto.pdpb_pb2 import OperatorStatus, PeerStats
from pd.checkers import check
from pd.operators import Operator
from pd.regions import RegionInfo
from pd.rules import LabelConstraint, LabelOp, Rule, RuleRole
from pd.schedulers import KINDS, SchedulerSpec
from tests.pd.model import Model

SCRIPTS = Path(__file__).parent / "scripts"
ROLES = {"l": PeerRole.Learner, "+": PeerRole.IncomingVoter, "-": PeerRole.DemotingVoter}
SILENCE_S = {"down": 10_000, "disconnected": 60}


class Script:
    """One file's cluster."""

    def __init__(self) -> None:
        self.model = Model(schedulers=())
        self.versions: dict[int, RegionEpoch] = {}

    def run(self, line: str) -> list[str]:
        command, *words = line.split()
        options = dict(w.split("=", 1) for w in words if "=" in w and "!=" not in w)
        plain = [w for w in words if "=" not in w or "!=" in w]
        match command:
            case "store":
                self._store(int(plain[0]), options)
            case "region":
                self.model.cluster.put_region(self._region(plain, options))
            case "rule":
                self._rule(plain, options)
            case "config":
                for name, value in options.items():
                    self.model.config = self.model.config.with_item(name, value)
            case "check":
                region = self.model.cluster.regions.by_id(int(plain[0]))
                assert region is not None
                return self._start(list(check(self.model.view(), region)))
            case "schedule":
                spec = SchedulerSpec(plain[0], int(plain[1]) if len(plain) > 1 else 0)
                self.model.schedulers.add(spec)
                made = list(KINDS[plain[0]](self.model.view(), self.model.rng, spec, self.model.hot))
                return self._start(made)
            case "heartbeat":
                return self._heartbeat(self._region(plain, options))
            case "operators":
                running = self.model.controller.running.values()
                return [f"{op} at step {op.step}" for op in running] or ["none"]
            case "split-age":
                self.model.split_at_ms[int(plain[0])] = self.model.now_ms - int(plain[1]) * 1000
            case "tick":
                self.model.now_ms += int(plain[0]) * 1000
            case "history":
                ended = self.model.controller.history
                return [f"{op.description}: {OperatorStatus.Name(op.status)} {op.reason}".strip() for op in ended]
            case _:
                raise AssertionError(f"no command {command!r}")
        return []

    def _store(self, store_id: int, options: dict[str, str]) -> None:
        state, weight = options.pop("state", "up"), float(options.pop("weight", "1"))
        meta_state = {"offline": StoreState.Offline, "tombstone": StoreState.Tombstone}.get(state, StoreState.Up)
        self.model.add_store(store_id, meta_state, **options)
        store = self.model.cluster.stores[store_id]
        store.last_heartbeat_ms = self.model.now_ms - 1000 * SILENCE_S.get(state, 0)
        store.leader_weight = store.region_weight = weight

    def _region(self, plain: list[str], options: dict[str, str]) -> RegionInfo:
        region_id, (start, end) = int(plain[0]), plain[1].split("..")
        peers, leader, down, pending = [], None, [], []
        for word in plain[2:]:
            store_id = int("".join(c for c in word if c.isdigit()))
            role = next((ROLES[c] for c in word if c in ROLES), PeerRole.Voter)
            peer = Peer(id=region_id * 100 + store_id, store_id=store_id, role=role)
            running = self.model.controller.running.get(region_id)
            for step in running.steps if running is not None else ():
                if getattr(step, "store_id", 0) == store_id:
                    peer.id = getattr(step, "peer_id", peer.id)
            peers.append(peer)
            leader = peer if "*" in word else leader
            down += [PeerStats(peer=peer, down_seconds=10_000)] if "!" in word else []
            pending += [peer] if "?" in word else []
        known = self.model.cluster.regions.by_id(region_id)
        conf_ver, version = int(options.get("conf", 1)), int(options.get("version", 1))
        if known is not None:
            conf_ver, version = max(conf_ver, known.conf_ver), max(version, known.version)
        meta = Region(
            id=region_id,
            start_key=start.encode(),
            end_key=end.encode(),
            region_epoch=RegionEpoch(conf_ver=conf_ver, version=version),
            peers=peers,
        )
        size = int(options.get("size", 10))
        region = RegionInfo(meta, leader, 1, tuple(down), tuple(pending), size, size * 1000)
        region = replace(region, written_bytes=float(options.get("write", 0)), read_bytes=float(options.get("read", 0)))
        for _ in range(3):
            self.model.hot.on_heartbeat(region, self.model.config)
        return region

    def _rule(self, plain: list[str], options: dict[str, str]) -> None:
        constraints, bounds = [], ["", ""]
        for word in plain[3:]:
            if "!=" in word:
                label, value = word.split("!=")
                constraints.append(LabelConstraint(label, LabelOp.NOT_IN, (value,)))
            else:
                bounds = word.split("..")
        by = tuple(part for part in options.pop("by", "").split(",") if part)
        constraints += [LabelConstraint(label, LabelOp.IN, (value,)) for label, value in options.items()]
        self.model.rules.append(
            Rule(
                "test",
                plain[0],
                RuleRole(plain[1]),
                int(plain[2]),
                start_key=bounds[0].encode(),
                end_key=bounds[1].encode(),
                constraints=tuple(constraints),
                location_labels=by,
            )
        )

    def _start(self, operators: list[Operator]) -> list[str]:
        if not operators:
            return ["nothing"]
        problem = self.model.controller.add(operators, self.model.cluster, self.model.now_ms)
        return [str(operator) for operator in operators] + ([f"refused: {problem}"] if problem else [])

    def _heartbeat(self, region: RegionInfo) -> list[str]:
        self.model.cluster.put_region(region)
        order = self.model.controller.on_heartbeat(region, self.model.now_ms)
        if order is None:
            return ["no order"]
        order.ClearField("region_epoch")
        order.ClearField("target_peer")
        return [" ".join(str(order).split())]


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.txt")), ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    script, written = Script(), []
    for block in path.read_text().strip().split("\n\n"):
        commands = block.split("\n---")[0].splitlines()
        output = [line for command in commands for line in script.run(command)]
        written.append("\n".join([*commands, "---", *output]))
    text = "\n\n".join(written) + "\n"
    if os.environ.get("SQLFRONT_REGENERATE"):
        path.write_text(text)
    assert path.read_text() == text
