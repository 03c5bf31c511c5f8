"""Scatters regions of one group over the stores: each goes where the group has the fewest so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from pd.builder import Builder, CannotBuild, roles_of
from pd.cluster import StoreInfo
from pd.operators import Kind, Operator
from pd.regions import RegionInfo
from pd.schedulers.balance_region import targets_beside
from pd.view import View

GROUPS_MAX = 1000
"""Groups whose counts are remembered; the oldest go."""


@dataclass(slots=True)
class _Counts:
    peers: dict[int, int] = field(default_factory=dict)
    leaders: dict[int, int] = field(default_factory=dict)


class Scatterer:
    """Counts, by group, of the peers and leaders that scattering has placed on each store."""

    def __init__(self) -> None:
        self._groups: dict[str, _Counts] = {}

    def scatter(self, view: View, region: RegionInfo, group: str) -> Operator | None:
        """The operator that takes the region to its places, None when it is there. Raises CannotBuild."""
        if region.leader is None or region.in_joint() or not view.fit(region).is_satisfied():
            raise CannotBuild(f"region {region.id} is not fully replicated")
        counts = self._groups.setdefault(group, _Counts())
        while len(self._groups) > GROUPS_MAX:
            del self._groups[next(iter(self._groups))]
        wanted = self._places(view, region, counts)
        leaders = [store_id for store_id, votes in wanted.items() if votes and view.may_lead(store_id, region)]
        leader = min(leaders, key=lambda i: (counts.leaders.get(i, 0), i), default=0)
        for store_id in wanted:
            counts.peers[store_id] = counts.peers.get(store_id, 0) + 1
        counts.leaders[leader] = counts.leaders.get(leader, 0) + 1
        if wanted == roles_of(region) and leader in (0, region.leader_store):
            return None
        return Builder("scatter-region", region, Kind.ADMIN, next_id=view.next_id).to(wanted, leader)

    def _places(self, view: View, region: RegionInfo, counts: _Counts) -> dict[int, bool]:
        """For each peer its own store or one that may take its place, whichever the group has used least."""
        wanted: dict[int, bool] = {}
        roles, taken = roles_of(region), set(region.store_ids())
        stores = view.cluster.stores
        for fit in view.fit(region).fits:
            standing = {peer.id: stores[peer.store_id] for peer in fit.peers}
            for peer in fit.peers:
                here = standing.pop(peer.id)
                targets = targets_beside(view, region, fit, here, list(standing.values()))
                free = [store for store in targets if store.id not in taken]
                place = min([here, *free], key=lambda store: _rank(store, here, counts))
                standing[peer.id] = place
                taken.add(place.id)
                wanted[place.id] = roles[peer.store_id]
        return wanted


def _rank(store: StoreInfo, here: StoreInfo, counts: _Counts) -> tuple[int, int, int]:
    return counts.peers.get(store.id, 0), store.id != here.id, store.id
