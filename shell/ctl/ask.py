"""The commands that look, through what TiKV's protocol has: regions, timestamps, safe point, versions of a key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from kvstore.client.cluster.pd_client import Located, address_of
from kvstore.proto import tikvpb_pb2
from kvstore.proto.kvrpcpb_pb2 import Context, MvccGetByKeyRequest, MvccInfo, Op
from kvstore.proto.metapb_pb2 import PeerRole
from kvstore.rpc.api import methods_of
from shell.ctl.keys import Key, shown
from shell.ctl.report import Report, Value, one
from shell.ctl.session import Command, CtlError, Session

TIKV = methods_of(tikvpb_pb2.DESCRIPTOR, "Tikv")
LOGICAL_BITS = 18
REGIONS_PAGE = 1024


def store_state(store_id: int) -> Command:
    """What a store says of itself at its status port."""

    async def command(session: Session) -> Report:
        found = await session.pd.get_store(store_id)
        if not found.status_address:
            raise CtlError(f"store {store_id} has no status port")
        status = await session.status(found.status_address, "/status")
        regions = await session.status(found.status_address, "/regions?limit=100000")
        listed = regions["regions"]
        led = sum(
            1
            for region in listed
            if region["leader_id"] in {p["id"] for p in region["peers"] if p["store_id"] == store_id}
        )
        return one(**status, regions=regions["count"], leaders=led)

    return command


REGION_COLUMNS = ("id", "start_key", "end_key", "conf_ver", "version", "leader_store", "peers")


def regions(start: Key | None, end: Key | None, limit: int) -> Command:
    """Regions in the order of their keys."""

    async def command(session: Session) -> Report:
        at, until, rows = start.encoded if start else b"", end.encoded if end else b"", list[Sequence[Value]]()
        while len(rows) < limit:
            page = await session.pd.scan_regions(at, until, min(REGIONS_PAGE, limit - len(rows)))
            rows += [tuple(_region(item)[name] for name in REGION_COLUMNS) for item in page]
            if not page or not page[-1][0].end_key:
                break
            at = page[-1][0].end_key
            if until and at >= until:
                break
        return Report(REGION_COLUMNS, rows)

    return command


def region(region_id: int) -> Command:
    """One region."""

    async def command(session: Session) -> Report:
        found = await session.pd.get_region_by_id(region_id)
        if found is None:
            raise CtlError(f"region {region_id} is not known")
        return one(**_region(found))

    return command


def region_by_key(key: Key) -> Command:
    """The region that holds a key."""

    async def command(session: Session) -> Report:
        return one(**_region(await _locate(session, key)))

    return command


async def _locate(session: Session, key: Key) -> Located:
    found = await session.pd.get_region(key.encoded)
    if found is None:
        raise CtlError(f"no region is known for key {key.encoded.hex().upper()}")
    return found


def _region(found: Located) -> dict[str, Value]:
    meta, leader = found
    return {
        "id": meta.id,
        "start_key": shown(meta.start_key),
        "end_key": shown(meta.end_key),
        "conf_ver": meta.region_epoch.conf_ver,
        "version": meta.region_epoch.version,
        "leader_store": None if leader is None else leader.store_id,
        "peers": [
            f"{peer.id}@{peer.store_id}" + ("" if peer.role == PeerRole.Voter else f":{PeerRole.Name(peer.role)}")
            for peer in meta.peers
        ],
    }


def tso(ts: int | None) -> Command:
    """A fresh timestamp, or what a given one means."""

    async def command(session: Session) -> Report:
        return _timestamp(await session.pd.get_ts() if ts is None else ts)

    return command


def _timestamp(ts: int) -> Report:
    physical = ts >> LOGICAL_BITS
    return one(ts=ts, time=_moment(physical / 1000), physical_ms=physical, logical=ts & (1 << LOGICAL_BITS) - 1)


def gc_safe_point(new: int | None) -> Command:
    """The timestamp below which old versions may be gone; moved up when `new` is given."""

    async def command(session: Session) -> Report:
        found = await session.pd.gc_safe_point() if new is None else await session.pd.update_gc_safe_point(new)
        return one(safe_point=found, time=_moment((found >> LOGICAL_BITS) / 1000) if found else None)

    return command


def mvcc(key: Key) -> Command:
    """The lock, the commits and the values of a key, from the leader of its region."""

    async def command(session: Session) -> Report:
        meta, leader = await _locate(session, key)
        if leader is None:
            raise CtlError(f"region {meta.id} has no leader")
        address = address_of((await session.pd.get_store(leader.store_id)).address)
        context = Context(region_id=meta.id, region_epoch=meta.region_epoch, peer=leader)
        answer = await session.call(address, TIKV["MvccGetByKey"], MvccGetByKeyRequest(context=context, key=key.plain))
        problem = answer.region_error.message if answer.HasField("region_error") else answer.error
        if problem:
            raise CtlError(f"store {leader.store_id}: {problem}")
        return mvcc_report(answer.info)

    return command


def mvcc_report(info: MvccInfo) -> Report:
    """The records of a key, newest first as the store gives them."""
    rows: list[Sequence[Value]] = []
    if info.HasField("lock"):
        lock = info.lock
        rows.append(
            (
                "lock",
                Op.Name(lock.type),
                lock.start_ts,
                None,
                lock.short_value.hex(),
                f"primary={lock.primary.hex()} ttl={lock.ttl}",
            )
        )
    rows += [
        ("write", Op.Name(write.type), write.start_ts, write.commit_ts, write.short_value.hex(), "")
        for write in info.writes
    ]
    rows += [("default", None, value.start_ts, None, value.value.hex(), "") for value in info.values]
    return Report(("record", "type", "start_ts", "commit_ts", "value", "more"), rows)


def _moment(epoch_s: float) -> str:
    """A time in UTC; far times that no calendar has are left as numbers."""
    try:
        return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{epoch_s} s"
