"""Hibernation: a group in which nothing happens stops ticking, so that idle regions cost nothing.

The leader asks its followers; one whose log ends and is applied where the leader's is goes to sleep and answers; when
all have, the leader sleeps, too. Any message or request wakes a peer. Who sleeps does not notice that its leader died:
stores with sleeping groups in common tell each other that they live, and a store that falls silent wakes what it led.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvstore.proto.raft_serverpb_pb2 import ExtraMessageType, RaftMessage
from kvstore.raft.progress import ProgressState
from kvstore.raft.types import NO_ID, Role
from kvstore.raftstore.peer import Peer

if TYPE_CHECKING:
    from kvstore.raftstore.store import RaftStore

ASK_EVERY_TICKS = 8


def _quiet(peer: Peer) -> bool:
    raft = peer.raft
    return (
        raft.last_index == raft.commit == peer.storage.applied == raft.persisted
        and raft.lead_transferee == NO_ID
        and not peer.busy()
    )


def try_sleep(store: RaftStore, peer: Peer) -> None:
    """A leader that has been idle: asks its followers to sleep, or sleeps if it has none."""
    raft = peer.raft
    if raft.role is not Role.LEADER or peer.idle_ticks % ASK_EVERY_TICKS or not _quiet(peer):
        return
    if peer.storage.applied_term != raft.term:
        return
    others = [peer_id for peer_id in raft.members() if peer_id != peer.peer.id]
    for peer_id in others:
        progress = raft.progress(peer_id)
        if progress is None or progress.state is not ProgressState.REPLICATE or progress.matched != raft.last_index:
            return
    peer.sleepers = set()
    if not others:
        sleep(store, peer)
    for peer_id in others:
        message = store.message_to(peer, peer.members[peer_id])
        message.extra_msg.type = ExtraMessageType.MsgHibernateRequest
        message.extra_msg.index = raft.last_index
        message.message.term = raft.term
        store.transport.send(message)


def on_request(store: RaftStore, peer: Peer, message: RaftMessage) -> None:
    """A follower is asked to sleep by its leader."""
    raft = peer.raft
    if (
        raft.role is Role.FOLLOWER
        and raft.leader_id == message.from_peer.id
        and raft.term == message.message.term
        and raft.last_index == message.extra_msg.index
        and _quiet(peer)
    ):
        sleep(store, peer)
        answer = store.message_to(peer, message.from_peer)
        answer.extra_msg.type = ExtraMessageType.MsgHibernateResponse
        answer.extra_msg.index = raft.last_index
        answer.message.term = raft.term
        store.transport.send(answer)


def on_response(store: RaftStore, peer: Peer, message: RaftMessage) -> None:
    """A follower sleeps: the leader does, too, when all do and nothing has happened since it asked."""
    raft = peer.raft
    if raft.role is not Role.LEADER or raft.term != message.message.term:
        return
    if raft.last_index != message.extra_msg.index or peer.idle_ticks < store.config.hibernate_ticks or not _quiet(peer):
        return
    peer.sleepers.add(message.from_peer.id)
    if len(peer.sleepers) == len(raft.members()) - 1:
        sleep(store, peer)


def sleep(store: RaftStore, peer: Peer) -> None:
    peer.asleep = True
    peer.sleepers = set()
    peer.storage.trim_cache(peer.storage.applied)
    store.awake.pop(peer.region_id, None)


def rouse(store: RaftStore, peer: Peer, *, tell_leader: bool = False) -> None:
    """Wakes a peer; a leader wakes its followers by a heartbeat."""
    peer.idle_ticks = 0
    if not peer.asleep:
        return
    peer.asleep = False
    store.awake[peer.region_id] = peer
    now = store.clock()
    peer.heard_at = {member.id: now for member in peer.region.peers}  # nobody spoke while all slept
    raft = peer.raft
    if raft.role is Role.LEADER:
        raft.ping()
        store.mark(peer)
    elif tell_leader:
        leader = peer.leader()
        if leader is not None:
            message = store.message_to(peer, leader)
            message.extra_msg.type = ExtraMessageType.MsgRegionWakeUp
            store.transport.send(message)


def keep_alive(store: RaftStore, now: float) -> None:
    """Tells the stores of sleeping followers that this one lives, and wakes what silent stores lead."""
    stores: dict[int, RaftMessage] = {}
    silence = store.config.store_silence_s
    for peer in list(store.peers.values()):
        if not peer.asleep:
            continue
        if peer.raft.role is Role.LEADER:
            for other in peer.region.peers:
                if other.store_id != store.store_id and other.store_id not in stores:
                    message = store.message_to(peer, other)
                    message.region_id = 0
                    message.extra_msg.type = ExtraMessageType.MsgAvailabilityRequest
                    stores[other.store_id] = message
            continue
        leader = peer.leader()
        if leader is None or now - store.heard_at.get(leader.store_id, 0.0) > silence:
            rouse(store, peer)
    for message in stores.values():
        store.transport.send(message)
