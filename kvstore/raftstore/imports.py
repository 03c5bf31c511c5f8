"""Sorted files that the log takes over: Raft command IngestSST, and what becomes of the files.

    every peer   a client has the same rows written to a file on each store of the region, at one epoch of it
    leader       checks that its file is there and proposes IngestSST with the files' metas
    every peer   applies it: flushes what it applied before, takes its own files over, saves its apply state
    next sync    makes the apply state durable; then the files go

That every peer has its files rests on the epoch: the client wrote to all peers of it, and the command changes nothing
where the region's epoch is another when it is **applied**. A peer that came later came with another conf_ver and a
snapshot of what was applied before. A file that is missing nonetheless stops the store: to go on would leave replicas
that differ.

A file stays until the apply state behind it is durable, so a crash at any step ends in taking it over again, which
leaves the same pairs: what was written after them is not in the engine yet when the entry comes again.

Files that are never taken over go when no entry can name them any more: the region's epoch has moved on here, or its
peer is gone. Where neither happens they go after `import_keep_s`, and a leader proposes no files older than half of
that; before a peer drops one it has applied all that its leader knew to be committed when the file was too old already.
The ages count from when this process first saw a file, and one of an earlier process is not proposed at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvstore.engine.api import CF_DEFAULT, CF_WRITE
from kvstore.errors import Corruption
from kvstore.failpoint import fail_point
from kvstore.proto.import_sstpb_pb2 import SSTMeta
from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.proto.metapb_pb2 import Region, RegionEpoch
from kvstore.proto.raft_cmdpb_pb2 import CmdType, RaftCmdRequest
from kvstore.raftstore import checks
from kvstore.raftstore.api import RegionError

if TYPE_CHECKING:
    from kvstore.raftstore.apply import Applying
    from kvstore.raftstore.peer import Peer
    from kvstore.raftstore.store import RaftStore

FAMILIES = (CF_DEFAULT, CF_WRITE)
"""In the order in which they are taken over: no record is there before the value that it points to."""
UUID_BYTES = 16
INGEST_FILES_MAX = 64
"""Files of one command."""


def file_name(meta: SSTMeta) -> str:
    epoch = meta.region_epoch
    return f"{meta.uuid.hex()}_{meta.region_id}_{epoch.conf_ver}_{epoch.version}_{meta.cf_name}"


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """A file that is kept; `since` is when this process first saw it, in seconds of the store's clock."""

    region_id: int
    epoch: RegionEpoch
    size: int
    since: float
    fresh: bool
    """Whether this process wrote it."""


def _parsed(name: str, size: int, now: float) -> ImportedFile | None:
    """None for a file that was named by nobody here."""
    parts = name.split("_")
    if len(parts) != 5 or not all(part.isdecimal() for part in parts[1:4]):
        return None
    region_id, conf_ver, version = map(int, parts[1:4])
    return ImportedFile(region_id, RegionEpoch(conf_ver=conf_ver, version=version), size, now, fresh=False)


class Imports:
    """The files of one store that wait for IngestSST."""

    def __init__(self, store: RaftStore) -> None:
        self._store = store
        self._files: dict[str, ImportedFile] = {}
        self._proposed: dict[str, asyncio.Future[Any]] = {}
        """Files that an entry proposed here names, until it is known what became of it."""
        self._done: list[str] = []
        """Files that nobody needs any more once what the engine holds now is durable: they go with the next sync."""
        self._writing: set[bytes] = set()
        """The uuids of files that are being written."""
        self._checking: set[str] = set()
        self.bytes = 0
        """Of the files that are kept, and of those that are being written."""

    @property
    def count(self) -> int:
        return len(self._files)

    def load(self) -> None:
        """Finds the files that an earlier process left."""
        now, staged = self._store.clock(), self._store.engine.staged
        for name, size in staged.sizes().items():
            found = _parsed(name, size, now)
            if found is None:
                staged.remove(name)
            else:
                self._files[name] = found
                self.bytes += size

    # files come

    def begin(self, meta: SSTMeta) -> Region:
        """The region that files are to be written for, which has to be here at their very epoch. RegionError.

        `end` has to follow, whatever becomes of them.
        """
        store = self._store
        if len(meta.uuid) != UUID_BYTES:
            raise checks.refused(f"a file's uuid has {len(meta.uuid)} bytes, not {UUID_BYTES}")
        peer = store.peers.get(meta.region_id)
        if peer is None or not peer.storage.initialized or peer.applying is not None:
            raise checks.region_not_found(meta.region_id)
        self._check_epoch(peer.region, meta)
        if store.disk_full:
            raise checks.disk_full(store.store_id, "less is free than is reserved")
        names = {f"{file_name(meta)}{cf}" for cf in FAMILIES} if not meta.cf_name else {file_name(meta)}
        if meta.uuid in self._writing or names & self._files.keys():
            raise checks.refused(f"the file {meta.uuid.hex()} exists already")
        self._writing.add(meta.uuid)
        return peer.region

    def end(self, meta: SSTMeta, reserved: int) -> None:
        """The files are kept, or given up; `reserved` bytes are given back."""
        self._writing.discard(meta.uuid)
        self.bytes -= reserved

    def reserve(self, size: int) -> None:
        """Counts bytes of a file that is being written. RegionError (server_is_busy, disk_full) over the limits."""
        store = self._store
        if store.disk_full:
            raise checks.disk_full(store.store_id, "less is free than is reserved")
        if self.bytes + size > store.config.import_bytes_max:
            raise checks.server_is_busy("too many files wait to be ingested", store.config.busy_backoff_ms)
        self.bytes += size

    def keep(self, metas: Iterable[SSTMeta]) -> None:
        """Takes note of files that were made durable just now."""
        now, sizes = self._store.clock(), self._store.engine.staged.sizes()
        for meta in metas:
            name = file_name(meta)
            epoch = RegionEpoch()
            epoch.CopyFrom(meta.region_epoch)
            self._forget(name)
            self._files[name] = ImportedFile(meta.region_id, epoch, sizes[name], now, fresh=True)
            self.bytes += sizes[name]

    def has(self, name: str) -> bool:
        """Whether a file is kept under this name."""
        return name in self._files

    # the command

    def command(self, region: Region, metas: Sequence[SSTMeta]) -> RaftCmdRequest:
        """IngestSST of files that are here and that no other entry names. RegionError."""
        if not 0 < len(metas) <= INGEST_FILES_MAX:
            raise checks.refused(f"{len(metas)} files in one command, at most {INGEST_FILES_MAX} are taken")
        self._check(region, metas)
        oldest = self._store.clock() - self._store.config.import_keep_s / 2
        command = RaftCmdRequest()
        for meta in metas:
            name = file_name(meta)
            if name in self._proposed:
                raise checks.server_is_busy(f"file {name} is being ingested", self._store.config.busy_backoff_ms)
            found = self._files.get(name)
            if found is None or name in self._done:
                raise checks.refused(f"the file {name} to be ingested does not exist")
            if not found.fresh or found.since < oldest:
                raise checks.refused(f"the file {name} to be ingested is too old")
            command.requests.add(cmd_type=CmdType.IngestSST).ingest_sst.sst.CopyFrom(meta)
        return command

    def proposed(self, metas: Sequence[SSTMeta], future: asyncio.Future[Any]) -> None:
        """An entry names the files; nobody proposes them again before its outcome is known."""
        names = [file_name(meta) for meta in metas]
        self._proposed.update(dict.fromkeys(names, future))

        def settled(_: object) -> None:
            for name in names:
                self._proposed.pop(name, None)

        future.add_done_callback(settled)

    def apply(self, applying: Applying, peer: Peer, metas: Sequence[SSTMeta]) -> tuple[int, int]:
        """Takes the files of an entry over; returns the pairs and bytes in them. RegionError: it changes nothing.

        Corruption, which stops the store, where a file is missing.
        """
        self._check(peer.region, metas)
        names = {cf: [file_name(meta) for meta in metas if meta.cf_name == cf] for cf in FAMILIES}
        missing = [name for cf in FAMILIES for name in names[cf] if name not in self._files]
        if missing:
            raise Corruption(f"region {peer.region_id}: the file {missing[0]} to be ingested is missing")
        applying.flush()  # what was applied before lies below
        store = self._store
        fail_point("raftstore::before_ingest")
        for cf in FAMILIES:
            if names[cf]:
                store.engine.staged.take_over(cf, names[cf])
                fail_point("raftstore::after_ingest")
        store.tell_range(peer.region.start_key, peer.region.end_key)
        applying.after(lambda: self._done.extend(name for cf in FAMILIES for name in names[cf]))
        store.counters.ingests += 1
        size = sum(meta.total_bytes or meta.length for meta in metas)
        store.counters.ingested_bytes += size
        return sum(meta.total_kvs for meta in metas), size

    def _check(self, region: Region, metas: Sequence[SSTMeta]) -> None:
        """The same on every peer: it looks at nothing but the command and the region."""
        for meta in metas:
            if meta.cf_name not in FAMILIES:
                raise checks.refused(f"files of family {meta.cf_name!r} are not ingested")
            if len(meta.uuid) != UUID_BYTES or meta.region_id != region.id:
                raise checks.refused(f"a file of region {meta.region_id} is not ingested into region {region.id}")
            self._check_epoch(region, meta)
            checks.check_key(region, meta.range.start)
            if not meta.end_key_exclusive or not (region.end_key and meta.range.end == region.end_key):
                checks.check_key(region, meta.range.end)
        if len({file_name(meta) for meta in metas}) != len(metas):
            raise checks.refused("a file is named twice")

    @staticmethod
    def _check_epoch(region: Region, meta: SSTMeta) -> None:
        now, written = region.region_epoch, meta.region_epoch
        if now.version != written.version or now.conf_ver != written.conf_ver:
            raise checks.epoch_not_match(f"file {checks.epoch_text(written)}, now {checks.epoch_text(now)}", [region])

    # files go

    def take_done(self) -> list[str]:
        """The files that need not outlive the next sync."""
        return list(self._done)

    def synced(self, names: Sequence[str]) -> None:
        """Drops files that no replay of the log needs any more."""
        if not names:
            return
        fail_point("raftstore::before_remove_ingested")
        del self._done[: len(names)]
        for name in names:
            self._forget(name)
            self._store.engine.staged.remove(name)

    def collect(self) -> None:
        """Gives up files that no entry can name any more, and finds out about those that are too old."""
        now, busy = self._store.clock(), {*self._done, *self._proposed, *self._checking}
        for name, file in list(self._files.items()):
            if name in busy:
                continue
            peer = self._store.peers.get(file.region_id)
            if peer is None or not peer.storage.initialized or peer.region.region_epoch != file.epoch:
                self._done.append(name)
            elif now - file.since > self._store.config.import_keep_s:
                self._checking.add(name)
                self._store.spawn(self._expire(name, peer))

    async def _expire(self, name: str, peer: Peer) -> None:
        """Gives an old file up when everything that may name it is applied."""
        context = Context(
            region_id=peer.region_id, region_epoch=peer.region.region_epoch, peer=peer.peer, replica_read=True
        )
        try:
            await self._store.read_index(context)
        except RegionError:
            return  # the region has no leader, or has changed
        finally:
            self._checking.discard(name)
        if name in self._files and name not in self._done and name not in self._proposed:
            self._done.append(name)

    def _forget(self, name: str) -> None:
        file = self._files.pop(name, None)
        if file is not None:
            self.bytes -= file.size
