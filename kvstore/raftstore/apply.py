"""Applying committed entries: one engine batch for all peers of a round, with their apply states in it.

So what was applied and how far it was applied are on disk together or not at all; the log is replayed from there. A
change of regions (split, merge, membership) ends the batch, so that what comes after it finds it done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kvstore.engine.batch import encode_delete_range
from kvstore.failpoint import fail_point
from kvstore.proto.raft_cmdpb_pb2 import CmdType, RaftCmdRequest
from kvstore.raft.conf_codec import decode_conf_change
from kvstore.raft.types import Entry, EntryType
from kvstore.raftstore import checks
from kvstore.raftstore.api import RegionError
from kvstore.raftstore.peer import Outcome, Peer, fail

if TYPE_CHECKING:
    from kvstore.raftstore.store import RaftStore


class Applying:
    """The open apply batch of a round, whose changes it saves, and who is to be answered when it is written."""

    def __init__(self, store: RaftStore) -> None:
        self.store = store
        self.batch = store.engine.batch()
        self._peers: dict[int, Peer] = {}
        self._answers: list[tuple[list[asyncio.Future[Outcome]], Outcome]] = []
        self._after: list[Callable[[], None]] = []
        self._bytes: dict[int, int] = {}
        self._records: list[bytes] = []
        """What was taken in since the last write, where somebody wants to be told."""
        self.begun = 0.0
        """When the first entry of the open batch was taken up; 0 when none was."""

    def touch(self, peer: Peer) -> None:
        """The peer's apply state has to be saved with what is in the batch."""
        self._peers[peer.region_id] = peer

    def answer(self, futures: list[asyncio.Future[Outcome]], outcome: Outcome) -> None:
        self._answers.append((futures, outcome))

    def after(self, action: Callable[[], None]) -> None:
        """To be done when the batch is written, before anybody is answered."""
        self._after.append(action)

    def count(self, peer: Peer, size: int) -> None:
        self._bytes[peer.region_id] = self._bytes.get(peer.region_id, 0) + size

    def add(self, record: bytes) -> int:
        """Takes the changes of a record in; returns their number."""
        if self.store.write_observers:
            self._records.append(record)
        return self.batch.add_record(record)

    def flush(self) -> None:
        """Writes the batch, then acts and answers. What the engine raises stops the store."""
        if not self._peers and not self._after:
            return
        peers, self._peers = self._peers, {}
        for peer in peers.values():
            if not peer.destroyed:
                peer.storage.save_apply_state(self.batch)
        fail_point("raftstore::before_apply_write")
        with self.store.telling:
            self.store.engine.write(self.batch)
            records, self._records = self._records, []
            if records:
                for observer in self.store.write_observers:
                    observer.on_written(records)
        self.store.counters.apply_batches += 1
        self.batch = self.store.engine.batch()
        after, self._after = self._after, []
        for action in after:
            action()
        self._tell(peers)
        fail_point("raftstore::before_reply")
        if self.begun:
            self.store.counters.apply_log.add(self.store.clock() - self.begun)
            self.begun = 0.0
        answers, self._answers = self._answers, []
        for futures, outcome in answers:
            if isinstance(outcome, RegionError):
                for future in futures:
                    fail(future, outcome)
            else:
                for future in futures:
                    if not future.done():
                        future.set_result(outcome)

    def _tell(self, peers: dict[int, Peer]) -> None:
        for region_id, size in self._bytes.items():
            peer = peers.get(region_id)
            if peer is not None:
                for observer in self.store.observers:
                    observer.on_applied(peer.region, size)
        self._bytes.clear()
        for peer in peers.values():
            if peer.apply_waiters:
                serve_apply_waiters(peer)


def serve_apply_waiters(peer: Peer) -> None:
    """Lets those read who waited for an index that is applied by now."""
    applied = peer.storage.applied
    waiting: list[tuple[int, asyncio.Future[int]]] = []
    for index, future in peer.apply_waiters:
        if index > applied:
            waiting.append((index, future))
        elif not future.done():
            future.set_result(index)
    peer.apply_waiters = waiting


def apply_entries(applying: Applying, peer: Peer, entries: Sequence[Entry]) -> None:
    """Applies committed entries in order; those that a merge has applied already are passed over."""
    storage = peer.storage
    for entry in entries:
        if peer.destroyed:
            return
        if entry.index <= storage.applied:
            continue
        if not applying.begun:
            applying.begun = applying.store.clock()
        assert entry.index == storage.applied + 1, (peer.region_id, entry.index, storage.applied)
        outcome: Outcome
        try:
            outcome = _apply(applying, peer, entry)
        except RegionError as error:
            outcome = error
        storage.applied, storage.applied_term = entry.index, entry.term
        applying.store.counters.entries_applied += 1
        applying.touch(peer)
        if peer.proposals:
            _settle(applying, peer, entry, outcome)
        if outcome is not None and not isinstance(outcome, RegionError):
            applying.flush()  # regions changed


def _settle(applying: Applying, peer: Peer, entry: Entry, outcome: Outcome) -> None:
    """Answers what was proposed at this index: with its outcome if it is that entry, else it was never applied."""
    proposals = peer.proposals
    while proposals and proposals[0].index <= entry.index:
        proposal = proposals.popleft()
        if proposal.index < entry.index:
            peer.settle_one(proposal, checks.undetermined("the entry was applied by a snapshot"))
        elif proposal.term != entry.term:
            peer.settle_one(proposal, checks.stale_command())
        elif proposal.conf_change and entry.type is EntryType.NORMAL:
            peer.settle_one(proposal, checks.refused("another membership change is under way"))
        else:
            peer.renew_lease(proposal.sent_at, proposal.term)
            applying.store.counters.commit_log.add(applying.begun - proposal.sent_at)
            applying.answer(proposal.futures, entry.index if outcome is None else outcome)


def _apply(applying: Applying, peer: Peer, entry: Entry) -> Outcome:
    """Applies one entry; returns what a change of regions left, None for writes. RegionError: it changes nothing."""
    if entry.type is not EntryType.NORMAL:
        change = decode_conf_change(entry)
        return applying.store.admin_executor.change_peers(
            applying, peer, RaftCmdRequest.FromString(change.context), change
        )
    if not entry.data:
        return None
    command = RaftCmdRequest.FromString(entry.data)
    if command.HasField("admin_request"):
        return applying.store.admin_executor.execute(applying, peer, command, entry)
    check_version(peer, command)
    fail_point("raftstore::apply_write")
    record = command.custom_request.data
    if record:
        _count(applying, peer, applying.add(record), len(record))
    metas = [request.ingest_sst.sst for request in command.requests if request.cmd_type == CmdType.IngestSST]
    if metas:
        _count(applying, peer, *applying.store.imports.apply(applying, peer, metas))
        applying.begun = applying.store.clock()  # what came before was written by itself
        return None
    for request in command.requests:
        delete = request.delete_range
        applying.batch.add_record(encode_delete_range(delete.cf, delete.start_key, delete.end_key))
        applying.store.tell_range(peer.region.start_key, peer.region.end_key)
        peer.flow.since_check += applying.store.config.split_check_bytes
    return None


def check_version(peer: Peer, command: RaftCmdRequest) -> None:
    """Refuses a write that was proposed before the region's range changed."""
    region = peer.storage.region
    if command.header.region_epoch.version != region.region_epoch.version:
        raise checks.epoch_not_match("at apply", [region])


def _count(applying: Applying, peer: Peer, changes: int, size: int) -> None:
    flow = peer.flow
    flow.keys_written += changes
    flow.bytes_written += size
    flow.size += size
    flow.keys += changes
    flow.since_check += size
    applying.count(peer, size)
