"""Columnar replicas as the placement driver knows them: the stores for them, the rules that put them there, how far
they are.

A table's replicas are learners on stores labelled `engine=tiflash`, by a placement rule of the group `tiflash` over the
table's records, called `table-<id>-r` as TiDB calls it. Rules go by the administration of our own placement drivers.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterable, Mapping

from kvstore.client.cluster.errors import PdRefused
from kvstore.client.cluster.pd_client import PdClient
from kvstore.client.cluster.stores import ENGINE_LABEL, ENGINES, answers_arrow, is_replica_engine
from kvstore.codec import encode_bytes
from kvstore.errors import NoColumnarRules
from kvstore.proto import pdraft_pb2 as pdraft
from kvstore.proto.metapb_pb2 import Tombstone, Up

GROUP = "tiflash"
RULE_INDEX = 40
_RULE_ID = re.compile(r"table-(\d+)-r")
STORES_TTL_S = 5.0
"""For so long the list of columnar stores is taken for true."""


class ColumnarStores:
    """The addresses of the cluster's columnar stores, as far as they are known."""

    def __init__(self, pd: PdClient, rng: random.Random) -> None:
        self._pd = pd
        self._rng = rng
        self._ranks: dict[int, float] = {}
        self._known: dict[int, str] = {}
        self._ours: set[int] = set()
        self._asked_at: float | None = None

    async def addresses(self) -> dict[int, str]:
        """By store id, without those that are gone. Raises PdUnavailable, PdError."""
        now = asyncio.get_running_loop().time()
        if self._asked_at is None or now - self._asked_at >= STORES_TTL_S:
            stores = await self._pd.get_all_stores()
            engines = [store for store in stores if is_replica_engine(store) and store.state != Tombstone]
            self._known = {store.id: store.address for store in engines}
            self._ours = {store.id for store in engines if answers_arrow(store)}
            self._asked_at = now
        return self._known

    async def ours(self) -> set[int]:
        """The ids of those that are stores of ours, which answer more than TiFlash does. Raises as `addresses`."""
        await self.addresses()
        return set(self._ours)

    def favourite(self, stores: Iterable[int]) -> int:
        """One of the stores: always the same here, whose caches then know the queries, and another elsewhere."""
        for store in sorted(stores):
            if store not in self._ranks:
                self._ranks[store] = self._rng.random()
        return min(stores, key=lambda store: self._ranks[store])


class ColumnarPlacement:
    """What SQL servers say of replicas to the placement driver. Raises PdUnavailable, PdError."""

    def __init__(self, pd: PdClient) -> None:
        self._pd = pd

    async def server_count(self) -> int:
        """How many columnar stores take replicas. NoColumnarRules where the placement driver takes no rules by RPC."""
        await self.placed()
        return sum(is_replica_engine(store) and store.state == Up for store in await self._pd.get_all_stores())

    async def placed(self) -> dict[int, int]:
        """How many replicas the rules ask for, by table id. Raises NoColumnarRules."""
        try:
            rules = await self._pd.rules()
        except PdRefused as error:
            raise NoColumnarRules(
                f"the placement driver takes no rules for columnar replicas: {error.message}"
            ) from error
        matches = ((_RULE_ID.fullmatch(rule.id), rule) for rule in rules if rule.group == GROUP)
        return {int(match[1]): rule.count for match, rule in matches if match is not None}

    async def place(self, wanted: Mapping[int, tuple[bytes, bytes, int]]) -> None:
        """Sets the rules of tables, by id: the range of the records, and how many replicas (0: no rule)."""
        await self._pd.set_rules([_rule(table_id, *of) for table_id, of in wanted.items()])

    async def progress(self, start: bytes, end: bytes, count: int) -> float:
        """The share of the regions of a range of keys that have all their replicas, none of which lags behind."""
        stores = {store.id for store in await self._pd.get_all_stores() if is_replica_engine(store)}
        regions = await self._pd.scan_peers(encode_bytes(start), encode_bytes(end))
        ready = 0
        for found in regions:
            behind = {peer.id for peer in found.pending_peers} | {stats.peer.id for stats in found.down_peers}
            ready += sum(peer.store_id in stores and peer.id not in behind for peer in found.region.peers) >= count
        return ready / len(regions) if regions else 0.0


def _rule(table_id: int, start: bytes, end: bytes, count: int) -> pdraft.PdRule:
    return pdraft.PdRule(
        group=GROUP,
        id=f"table-{table_id}-r",
        index=RULE_INDEX,
        start_key=encode_bytes(start),
        end_key=encode_bytes(end),
        role=pdraft.LEARNER,
        count=count,
        constraints=[pdraft.PdLabelConstraint(key=ENGINE_LABEL, op="IN", values=ENGINES)],
    )
