"""Every command of `sqlfront ctl`, as a person types it, against a placement driver and two stores."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from coprocessor.serving import LABELS
from kvstore.client.cluster.cluster import Cluster as Client
from shell.ctl.options import make_app
from shell.options import invoke
from tests.e2e.harness import Cluster, run, until

DONE_S = 30.0
STORES = """
[raftstore]
region-heartbeat-s = 0.2
store-heartbeat-s = 0.2
"""
DRIVERS = """
[schedule]
max-replicas = 1
patrol-interval-ms = 3600000
schedule-interval-ms = 3600000
"""
"""Nothing is done to a region unless it is ordered."""


class Person:
    """Types commands, and notes which."""

    def __init__(self, cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
        self._pd = ",".join(cluster.pd_addresses)
        self._capsys = capsys
        self.typed: set[str] = set()

    async def types(self, line: str, code: int = 0) -> str:
        """What a command prints, which must end with this exit code; a refusal is one line."""
        words = line.split()
        self.typed.update((words[0], " ".join(words[:2])))
        self._capsys.readouterr()
        found = await asyncio.to_thread(invoke, ["ctl", "--pd", self._pd, "--format", "json", *words])
        out, err = self._capsys.readouterr()
        assert (found, bool(out), len(err.splitlines())) == ((0, True, 0) if code == 0 else (code, False, 1)), err
        return out or err

    async def asks(self, line: str) -> Any:
        return json.loads(await self.types(line))

    async def sees(self, line: str, **fields: object) -> None:
        """Waits until a report of one thing has these fields."""

        async def there() -> bool:
            found = await self.asks(line)
            return all(found[name] == value for name, value in fields.items())

        await until(there, DONE_S, f"{line}: {fields}")


def all_commands() -> set[str]:
    found = set()
    for name, command in getattr(get_command(make_app({})), "commands", {}).items():
        found.add(name)
        found.update(f"{name} {part}" for part in getattr(command, "commands", {}))
    return found


@pytest.mark.slow
def test_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with Cluster(tmp_path, 1, 2, STORES, DRIVERS) as cluster:
            person = Person(cluster, capsys)
            async with await Client.connect(
                cluster.pd_addresses, transport=cluster.transport, rng=random.Random(0)
            ) as client:
                transaction = await client.begin()
                transaction.put(b"key", b"value")
                await transaction.commit()
            ids = await cluster.store_ids()
            await looks(person, ids["kv1"])
            await moves_regions(person, ids["kv1"], ids["kv2"])
            await steers(person, tmp_path)
            await keeps_stores(person, ids["kv2"])
            assert all_commands() <= person.typed

    run(main)


async def looks(person: Person, store: int) -> None:
    assert [one["leads"] for one in await person.asks("members")] == [True]
    assert "no other member" in await person.types("member-transfer", 1)
    assert [one["state"] for one in await person.asks("stores")] == ["Up", "Up"]
    assert (await person.asks(f"store {store}"))["id"] == store
    assert "is not known" in await person.types("store 99", 1)
    assert (await person.asks(f"store-state {store}"))["leaders"] == 1
    assert [one["leader_store"] for one in await person.asks("regions")] == [store]
    number = (await person.asks("region-by-key key"))["id"]
    assert (await person.asks(f"region {number}"))["leader_store"] == store
    fresh = (await person.asks("tso"))["ts"]
    assert (await person.asks(f"tso {fresh}"))["ts"] == fresh
    assert (await person.asks("gc-safe-point"))["safe_point"] == 0
    assert (await person.asks("gc-safe-point --update 7"))["safe_point"] == 7
    (written,) = await person.asks("mvcc key")
    assert bytes.fromhex(written["value"]) == b"value"


async def moves_regions(person: Person, one: int, other: int) -> None:
    number = (await person.asks("region-by-key key"))["id"]

    async def stores() -> list[int]:
        region = await person.asks(f"region {number}")
        return sorted(int(peer.partition("@")[2]) for peer in region["peers"] if peer.count(":") == 0)

    async def on(*wanted: int) -> None:
        async def there() -> bool:
            return await stores() == sorted(wanted)

        await until(there, DONE_S, f"region {number} is on {wanted}")

    await person.asks(f"operators add-peer {number} {other}")
    await on(one, other)
    await person.asks(f"operators add-transfer-leader {number} {other}")
    await person.sees(f"region {number}", leader_store=other)
    await person.asks(f"operators add-remove-peer {number} {one}")
    await on(other)
    await person.asks(f"operators add-transfer-peer {number} {other} {one}")
    await on(one)
    assert {operator["status"] for operator in await person.asks("operators")} == {"success"}
    await person.asks(f"operators add-split {number} m")
    await person.sees("region-by-key m", start_key="6D00000000000000F8 (m)")
    left, right = [region["id"] for region in await person.asks("regions")]
    await person.asks(f"operators add-merge {left} {right}")
    await person.sees("region-by-key m", id=right, start_key="")
    await person.asks(f"operators add-scatter {right}")
    assert "no operator works" in await person.types("operators remove 99", 1)


async def steers(person: Person, directory: Path) -> None:
    await person.asks("scheduler remove balance-leader")
    assert "balance-leader" not in [one["name"] for one in await person.asks("scheduler")]
    await person.asks("scheduler add balance-leader")
    await person.asks("scheduler pause balance-leader 60")
    assert [one["name"] for one in await person.asks("scheduler") if one["paused_until_ms"]] == ["balance-leader"]
    await person.asks("scheduler resume balance-leader")
    assert not any(one["paused_until_ms"] for one in await person.asks("scheduler"))
    await person.asks("config set leader-schedule-limit 9")
    assert {"name": "leader_schedule_limit", "value": "9"} in await person.asks("config")
    rules = directory / "rules.json"
    listed = [one["rule"] for one in await person.asks("rules")]
    rules.write_text(json.dumps([*listed, {"group": "g", "id": "near", "role": "LEARNER", "count": 1}]))
    await person.asks(f"rules set {rules}")
    assert [one["id"] for one in await person.asks("rules")] == ["near", "default"]


async def keeps_stores(person: Person, store: int) -> None:
    await person.asks(f"store-labels {store} zone=z1 host=h1")
    await person.asks(f"store-weight {store} 2 0.5")
    found = await person.asks(f"store {store}")
    assert found["labels"] == {"zone": "z1", "host": "h1", **LABELS}
    assert (found["leader_weight"], found["region_weight"]) == (2, 0.5)
    await person.asks(f"scheduler add evict-leader --store {store}")
    await person.asks(f"store-set {store} offline")
    await person.sees(f"store {store}", state="Offline")
    await person.asks(f"store-set {store} up")
    await person.sees(f"store {store}", state="Up")
