"""What can be set on a placement driver: where it listens and who its peers are, and how it schedules.

Scheduling values are replicated and changed at run time (`sqlfront ctl config set`); names and defaults are PD's where
it has them, with `-` as `_`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """How placement is done. Times are in the unit that the name says, sizes in MiB, rates per minute."""

    max_replicas: int = 3
    location_labels: str = ""
    """Comma-separated, from the widest place to the narrowest: `zone,rack,host`."""
    isolation_level: str = ""
    """A location label; peers of one region never share a value of it, even when that leaves a replica missing."""
    max_store_disconnected_s: int = 20
    """Silence after which a store gets no new peers and no leaders."""
    max_store_down_time_s: int = 1800
    """Silence after which a store's peers are replaced."""
    leader_schedule_limit: int = 4
    region_schedule_limit: int = 2048
    replica_schedule_limit: int = 64
    merge_schedule_limit: int = 8
    hot_region_schedule_limit: int = 4
    store_add_peer_rate: float = 60.0
    """Peers of ordinary size that may be added to a store; small ones count a fifth."""
    store_remove_peer_rate: float = 60.0
    max_snapshot_count: int = 64
    """Snapshots a store may be sending or taking at once."""
    max_pending_peer_count: int = 64
    low_space_ratio: float = 0.8
    """A store that is fuller gets no new peers."""
    high_space_ratio: float = 0.7
    max_merge_region_size: int = 20
    """Only regions that are smaller are merged; 0 switches merging off."""
    max_merge_region_keys: int = 200_000
    region_max_size: int = 144
    """A merge never makes a region larger."""
    split_merge_interval_s: int = 3600
    """A region that was split is left alone that long."""
    enable_one_way_merge: bool = False
    tolerant_size_ratio: float = 5.0
    """How many average regions the scores of two stores may differ."""
    leader_tolerance: float = 1.0
    hot_region_bytes_min: int = 100 << 10
    """Flow in bytes a second below which no region is hot."""
    hot_region_cache_hits: int = 3
    """Heartbeats in a row in which a region must have been hot."""
    schedule_interval_ms: int = 1000
    patrol_interval_ms: int = 100
    patrol_batch: int = 64
    """Regions that the checkers look at in one patrol interval."""

    def labels(self) -> tuple[str, ...]:
        return tuple(part for part in (label.strip() for label in self.location_labels.split(",")) if part)

    def items(self) -> list[tuple[str, str]]:
        return [(item.name, str(getattr(self, item.name))) for item in dataclasses.fields(self)]

    def with_item(self, name: str, text: str) -> ScheduleConfig:
        """A copy with one value set from text; raises ValueError for an unknown name or a value that is no such."""
        name = name.replace("-", "_")
        if name not in {item.name for item in dataclasses.fields(self)}:
            raise ValueError(f"no config item {name!r}")
        value = _parse(name, text, getattr(self, name))
        changed: dict[str, Any] = {name: value}
        return dataclasses.replace(self, **changed)


def _parse(name: str, text: str, old: bool | str | float) -> bool | str | float:
    """The text as a value of the old one's type; raises ValueError."""
    if isinstance(old, str):
        return text
    if isinstance(old, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(f"config item {name!r}: {text!r} is neither true nor false")
        return text.lower() == "true"
    try:
        value = type(old)(text)
    except ValueError:
        raise ValueError(f"config item {name!r}: {text!r} is not a number") from None
    if not 0 <= value < float("inf"):
        raise ValueError(f"config item {name!r}: {text!r} is out of range")
    return value


def address_of(url: str) -> str:
    """host:port of a URL, which may be host:port already."""
    return url.partition("://")[2].rstrip("/") or url


@dataclass(frozen=True, slots=True)
class Member:
    """A placement driver of the cluster."""

    name: str
    client_url: str

    @property
    def address(self) -> str:
        """host:port of its one gRPC port."""
        return address_of(self.client_url)


@dataclass(frozen=True, slots=True)
class PdConfig:
    """One placement driver. `members` are all of them, this one among them; none means it is alone."""

    name: str = "pd1"
    client_url: str = "http://127.0.0.1:2379"
    advertise_url: str = ""
    """What the others and the clients are told; as `client_url` when empty."""
    members: tuple[Member, ...] = ()
    tick_ms: int = 100
    election_ticks: int = 10
    heartbeat_ticks: int = 2
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """The values in force until others are set."""

    def listen_address(self) -> str:
        return address_of(self.client_url)

    def all_members(self) -> tuple[Member, ...]:
        if self.members:
            return self.members
        return (Member(self.name, self.advertise_url or self.client_url),)

    def me(self) -> Member:
        """This one's entry; raises ValueError when the initial cluster does not name it."""
        for member in self.all_members():
            if member.name == self.name:
                return member
        raise ValueError(f"the initial cluster does not name {self.name!r}: {[m.name for m in self.all_members()]}")


def parse_members(text: str) -> tuple[Member, ...]:
    """`pd1=http://127.0.0.1:2379,pd2=http://…` as members; raises ValueError."""
    members: list[Member] = []
    for part in text.split(","):
        name, equals, url = part.strip().partition("=")
        if not name or not equals or not url:
            raise ValueError(f"{part!r} is not name=url")
        if name in {member.name for member in members}:
            raise ValueError(f"the initial cluster names {name!r} twice")
        members.append(Member(name, url))
    return tuple(members)
