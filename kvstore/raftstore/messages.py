"""What other stores' messages do here: step a peer, make one, bury one.

A message may be of any age. Peer ids of a region only grow on a store, so a message for a smaller id is for a peer that
is gone, and one for a larger id says that ours is. Who was removed learns it by a grave message from a peer whose
membership no longer has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvstore.codec import CodecError
from kvstore.failpoint import fail_point
from kvstore.proto.metapb_pb2 import Region
from kvstore.proto.raft_serverpb_pb2 import ExtraMessageType, RaftMessage, RaftSnapshotData
from kvstore.raft.election import FORCED
from kvstore.raft.errors import StepLocalMessage
from kvstore.raft.types import MessageType
from kvstore.raft_wire import message_from_pb
from kvstore.raftstore import checks, merge, sleep
from kvstore.raftstore.peer import Peer

if TYPE_CHECKING:
    from kvstore.raftstore.store import RaftStore

_VOTES = (MessageType.REQUEST_VOTE, MessageType.REQUEST_PRE_VOTE)
_ANSWERS = (MessageType.HEARTBEAT_RESPONSE, MessageType.APPEND_RESPONSE)
_IDLE = (MessageType.HEARTBEAT, MessageType.HEARTBEAT_RESPONSE)


GONE_FOR_SNAPSHOT = 2
"""So often in a row a region has to be unknown before a snapshot may take its range."""
_KINDS = {int(kind): kind for kind in MessageType}


def kind_of(message: RaftMessage) -> MessageType | None:
    """None for a kind that nobody here knows."""
    return _KINDS.get(message.message.msg_type)


def on_message(store: RaftStore, message: RaftMessage) -> None:
    """Handles one message from another store; what does not fit is dropped, as the network may have done."""
    to, region_id = message.to_peer, message.region_id
    snapshot = kind_of(message) is MessageType.SNAPSHOT
    if to.store_id == store.store_id:
        store.heard_at[message.from_peer.store_id] = store.clock()
        peer = _addressee(store, message) if region_id else None
        if peer is not None and _step(store, peer, message):
            snapshot = False
    if snapshot:
        store.snapshots.discard(region_id)


def _addressee(store: RaftStore, message: RaftMessage) -> Peer | None:
    """The peer a message is for; made if it is the first that this store hears of it."""
    peer = store.peers.get(message.region_id)
    to = message.to_peer
    if peer is None:
        return _create(store, message)
    if to.id == peer.peer.id:
        return peer
    newer = not peer.storage.initialized or message.region_epoch.conf_ver > peer.region.region_epoch.conf_ver
    if to.id > peer.peer.id and newer and peer.merge is None and not message.is_tombstone:
        store.destroy_now(peer)
        return _create(store, message)
    return None


def _create(store: RaftStore, message: RaftMessage) -> Peer | None:
    """Makes an empty peer that will get a snapshot, for a vote request or a leader's first heartbeat."""
    kind = kind_of(message)
    first = kind in _VOTES or (kind == MessageType.HEARTBEAT and not message.message.commit)
    if message.is_tombstone or message.HasField("extra_msg") or not first:
        return None
    grave = store.grave_of(message.region_id)
    if grave is not None:
        buried = checks.find_peer(grave, store.store_id)
        if buried is not None and buried.id >= message.to_peer.id:
            return None
    wanted = Region(
        id=message.region_id,
        start_key=message.start_key,
        end_key=message.end_key,
        region_epoch=message.region_epoch,
    )
    if not _room_for(store, wanted):
        return None  # a split or merge that is still to be applied here makes room
    fail_point("raftstore::create_peer")
    return store.create_empty(message.region_id, message.to_peer)


def _may_swallow(region: Region, other: Region) -> bool:
    """Whether `region` has taken over the range of `other`, a region here.

    The versions of the regions that hold a key only grow. One that covers a whole region of ours at a higher version
    has its range now; one that covers a part only may have been split off, which our log will tell.
    """
    return checks.covers(region, other) and region.region_epoch.version > other.region_epoch.version


def _room_for(store: RaftStore, region: Region) -> bool:
    """Whether an empty peer of `region` may be made beside what is here."""
    return all(_may_swallow(region, other) for other in store.tree.overlapping(region))


def _takes_range(store: RaftStore, region: Region) -> bool:
    """Whether a snapshot's range is free, or held by peers that are known to be gone: they will be buried.

    That their range was taken over is not enough: a region that split and merged may live on somewhere else.
    """
    version, own = region.region_epoch.version, store.peers[region.id]
    for held in store.tree.overlapping(region):
        other = store.peers[held.id]
        # What merged may have split again: part of the range is enough if it is known when ours took the other over.
        if not (_may_swallow(region, held) or (own.storage.initialized and version > held.region_epoch.version)):
            return False
        needed = any(r != region.id or version < past for r, past in other.laggards.items())
        if other.found_gone < GONE_FOR_SNAPSHOT or needed or store.upkeep.is_led(other):
            store.upkeep.ask_if_gone(other)
            return False
    return all(
        region.id == other.id or not checks.overlaps(region, other) for other in store.stepped_snapshots.values()
    )


def _step(store: RaftStore, peer: Peer, message: RaftMessage) -> bool:
    """True if the message was handed to the peer's Raft node."""
    if message.is_tombstone:
        _on_grave(store, peer, message)
        return False
    if message.HasField("extra_msg"):
        _on_extra(store, peer, message)
        return False
    kind = kind_of(message)
    if kind is None or _from_outside(store, peer, message, kind):
        return False
    if kind in _VOTES and store.clock() < store.votes_from and peer.loaded and message.message.context != FORCED:
        return False  # before this process started it may have granted a leader its lease
    if peer.asleep and kind not in _ANSWERS:
        sleep.rouse(store, peer)
    if kind not in _IDLE:
        peer.idle_ticks = 0
    peer.members.setdefault(message.from_peer.id, message.from_peer)
    peer.heard_at[message.from_peer.id] = store.clock()
    if kind == MessageType.SNAPSHOT and not _takes_snapshot(store, peer, message):
        return False
    try:
        peer.raft.step(message_from_pb(message.message))
    except (CodecError, StepLocalMessage) as error:
        store.log.warning("message_dropped", region=peer.region_id, sender=message.from_peer.id, error=str(error))
        return False
    store.mark(peer)
    return True


def _from_outside(store: RaftStore, peer: Peer, message: RaftMessage, kind: MessageType) -> bool:
    """Whether the sender was removed from the region; a candidate among those is told."""
    region, sender = peer.region, message.from_peer
    if message.region_epoch.conf_ver >= region.region_epoch.conf_ver:
        return False
    if any(member.id == sender.id for member in region.peers):
        return False
    if kind in _VOTES and peer.storage.initialized:
        answer = store.message_to(peer, sender)
        answer.is_tombstone = True
        store.transport.send(answer)
    return True


def _on_grave(store: RaftStore, peer: Peer, message: RaftMessage) -> None:
    """A member of the region says that this peer is none any more."""
    if message.region_epoch.conf_ver > peer.region.region_epoch.conf_ver:
        store.destroy_now(peer)


def _on_extra(store: RaftStore, peer: Peer, message: RaftMessage) -> None:
    extra = message.extra_msg
    if extra.type == ExtraMessageType.MsgHibernateRequest:
        sleep.on_request(store, peer, message)
    elif extra.type == ExtraMessageType.MsgHibernateResponse:
        sleep.on_response(store, peer, message)
    elif extra.type == ExtraMessageType.MsgRegionWakeUp:
        sleep.rouse(store, peer)
    elif extra.type == ExtraMessageType.MsgWantRollbackMerge:
        merge.propose_rollback(store, peer, extra.index)


def _takes_snapshot(store: RaftStore, peer: Peer, message: RaftMessage) -> bool:
    """Whether a snapshot that has arrived fits this store; its range must be free, or be freed by it."""
    staged = store.snapshots.staged.get(message.region_id)
    if staged is None or not staged.complete or staged.index != message.message.snapshot.metadata.index:
        return False
    region = RaftSnapshotData.FromString(message.message.snapshot.data).region
    own = checks.find_peer(region, store.store_id)
    if own is None or own.id != peer.peer.id or peer.applying is not None:
        return False
    if checks.epoch_is_stale(region.region_epoch, peer.region.region_epoch) or not _takes_range(store, region):
        return False
    store.stepped_snapshots[region.id] = region
    return True


def is_first_message(kind: MessageType, commit: int) -> bool:
    """Whether a message may have to make its receiver: then it says the region's range."""
    return kind in _VOTES or (kind is MessageType.HEARTBEAT and commit == 0)
