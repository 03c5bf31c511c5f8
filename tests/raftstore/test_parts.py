"""The pure parts: changes of regions, the region tree, codecs; and that odd messages do no harm."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.codec import CodecError
from kvstore.engine.api import CF_DEFAULT, CF_WRITE
from kvstore.engine.batch import encode_changes, encode_delete_range, encode_pairs
from kvstore.engine.memory import MemoryEngine
from kvstore.errors import Corruption
from kvstore.proto import eraftpb_pb2 as eraftpb
from kvstore.proto.metapb_pb2 import Peer, PeerRole, Region, RegionEpoch
from kvstore.proto.raft_cmdpb_pb2 import ChangePeerRequest, RaftCmdRequest, SplitRequest
from kvstore.proto.raft_serverpb_pb2 import RaftMessage
from kvstore.raft.config import Config
from kvstore.raft.raw_node import RawNode
from kvstore.raft.storage import MemoryStorage
from kvstore.raft.types import ConfState, Entry, EntryType, Message, MessageType, Snapshot
from kvstore.raft_wire import message_from_pb, message_to_pb
from kvstore.raftstore.admin import change_peers, conf_change_of, is_joint, merge_regions, split_region
from kvstore.raftstore.api import RegionError
from kvstore.raftstore.checks import covers, overlaps
from kvstore.raftstore.codec import header_of, write_command, write_prefix
from kvstore.raftstore.peer_storage import conf_state_of
from kvstore.raftstore.region_tree import RegionTree
from tests.raftstore.cluster import ADD, LEARNER, REMOVE, Cluster
from tests.raftstore.loop import run_virtual


def region_of(*peers: tuple[int, int], start: bytes = b"", end: bytes = b"", version: int = 1) -> Region:
    return Region(
        id=2,
        start_key=start,
        end_key=end,
        region_epoch=RegionEpoch(version=version, conf_ver=1),
        peers=[Peer(id=peer_id, store_id=peer_id, role=role) for peer_id, role in peers],  # type: ignore[arg-type]
    )


@given(st.lists(st.binary(min_size=1, max_size=3), min_size=1, max_size=6, unique=True), st.booleans())
def test_a_split_tiles_the_region(keys: list[bytes], right_derive: bool) -> None:
    region = region_of((1, 0), (2, 0), start=b"", end=b"")
    requests = [
        SplitRequest(split_key=key, new_region_id=100 + n, new_peer_ids=[1000 + 2 * n, 1001 + 2 * n])
        for n, key in enumerate(sorted(keys))
    ]
    derived, regions = split_region(region, requests, right_derive=right_derive)
    assert derived is regions[-1 if right_derive else 0]
    assert derived.id == 2
    assert regions[0].start_key == regions[-1].end_key == b""
    assert all(a.end_key == b.start_key for a, b in pairwise(regions))
    assert {r.region_epoch.version for r in regions} == {1 + len(keys)}
    ids = [p.id for r in regions for p in r.peers]
    assert len(set(ids)) == len(ids)


def test_splits_that_do_not_fit() -> None:
    region = region_of((1, 0), start=b"d", end=b"p")
    for keys in ([b"a"], [b"d"], [b"p"], [b"z"], [b"f", b"e"], [b"f", b"f"], []):
        requests = [SplitRequest(split_key=k, new_region_id=9 + n, new_peer_ids=[n + 50]) for n, k in enumerate(keys)]
        with pytest.raises(RegionError):
            split_region(region, requests, right_derive=True)
    with pytest.raises(RegionError):
        split_region(region, [SplitRequest(split_key=b"f", new_region_id=9, new_peer_ids=[1, 2])], right_derive=True)


@settings(max_examples=200)
@given(st.integers(0, 1 << 32))
def test_roles_of_peers_and_rafts_membership_agree(seed: int) -> None:
    """Random changes, single, joint and back: Raft comes to the same membership as the region's roles say."""
    rng = random.Random(seed)
    region = region_of((1, 0), (2, 0), (3, 0))
    node = RawNode(Config(1), MemoryStorage(ConfState((1, 2, 3))), rng)
    for _ in range(8):
        changes = []
        if not is_joint(region) or rng.random() < 0.2:
            for peer_id in rng.sample(range(1, 7), rng.choice((1, 1, 2, 3))):
                kind = rng.choice((ADD, REMOVE, LEARNER))
                changes.append(ChangePeerRequest(change_type=kind, peer=Peer(id=peer_id, store_id=peer_id)))
        try:
            after = change_peers(region, changes)
        except RegionError:
            continue
        state = node.apply_conf_change(conf_change_of(changes, b""))
        region = after
        assert conf_state_of(region) == state


def test_the_epoch_moves_with_every_change_of_members() -> None:
    region = region_of((1, 0), (2, 0))
    joint = change_peers(
        region,
        [
            ChangePeerRequest(change_type=ADD, peer=Peer(id=3, store_id=3)),
            ChangePeerRequest(change_type=LEARNER, peer=Peer(id=2, store_id=2)),
        ],
    )
    assert joint.region_epoch.conf_ver == 3
    assert [p.role for p in joint.peers] == [PeerRole.Voter, PeerRole.DemotingVoter, PeerRole.IncomingVoter]
    left = change_peers(joint, [])
    assert left.region_epoch.conf_ver == 5
    assert [p.role for p in left.peers] == [PeerRole.Voter, PeerRole.Learner, PeerRole.Voter]
    assert region.region_epoch.conf_ver == 1, "regions are never changed where they are"


def test_merging_needs_neighbours() -> None:
    left, right = region_of((1, 0), end=b"m", version=4), region_of((1, 0), start=b"m", version=9)
    assert merge_regions(left, right).end_key == b""
    assert merge_regions(right, left).start_key == b""
    assert merge_regions(left, right).region_epoch.version == 10
    with pytest.raises(RegionError):
        merge_regions(left, region_of((1, 0), start=b"n"))


@given(st.lists(st.binary(max_size=2), min_size=2, max_size=8, unique=True), st.binary(max_size=2))
def test_the_tree_finds_what_overlaps(bounds: list[bytes], key: bytes) -> None:
    bounds.sort()
    regions = [Region(id=n + 1, start_key=a, end_key=b) for n, (a, b) in enumerate(pairwise(bounds))]
    tree = RegionTree()
    for region in random.Random(1).sample(regions, len(regions)):
        tree.put(region)
    assert tree.all() == regions
    for probe in (Region(id=99, start_key=key), Region(id=99, end_key=key or b"x"), Region(id=99, start_key=bounds[0])):
        assert tree.overlapping(probe) == [r for r in regions if overlaps(r, probe)]
    for before, after in pairwise(regions):
        assert before in tree.neighbours(after)
        assert after in tree.neighbours(before)
    tree.remove(1)
    assert len(tree) == len(regions) - 1


def test_ranges() -> None:
    whole, left = Region(), Region(end_key=b"m")
    right = Region(start_key=b"m")
    assert covers(whole, left)
    assert not covers(left, whole)
    assert not overlaps(left, right)
    assert overlaps(whole, right)


values = st.one_of(st.none(), st.binary(max_size=5))


@given(st.lists(st.tuples(st.sampled_from([CF_DEFAULT, CF_WRITE]), st.binary(min_size=1, max_size=4), values)))
def test_encoded_changes_do_what_they_say(changes: list[tuple[str, bytes, bytes | None]]) -> None:
    one, two = MemoryEngine(), MemoryEngine()
    batch = one.batch()
    assert batch.add_record(b"".join(encode_changes(changes))) == len(changes)
    one.write(batch)
    batch = two.batch()
    for cf, key, value in changes:
        if value is None:
            batch.delete(key, two.handle(cf))
        else:
            batch.put(key, value, two.handle(cf))
    two.write(batch)
    for cf, key, _ in changes:
        assert one.get(cf, key) == two.get(cf, key)


def test_damaged_records_are_found() -> None:
    record = encode_pairs(CF_DEFAULT, [b"a", b"1", b"b", b"2"]) + encode_delete_range(CF_WRITE, b"a", b"b")
    batch = MemoryEngine().batch()
    assert batch.add_record(record) == 3
    ends = {len(encode_pairs(CF_DEFAULT, [b"a", b"1"])), len(encode_pairs(CF_DEFAULT, [b"a", b"1", b"b", b"2"]))}
    for size in set(range(1, len(record))) - ends:
        with pytest.raises(Corruption):
            batch.add_record(record[:size])
    with pytest.raises(Corruption):
        batch.add_record(b"\xff" + record[1:])


def test_a_write_is_a_raft_command() -> None:
    region = region_of((1, 0))
    prefix = write_prefix(header_of(2, region.peers[0], region.region_epoch, 7))
    for size in (0, 1, 100, 127, 128, 300, 20000):
        command = RaftCmdRequest.FromString(write_command(prefix, [b"x" * size], size))
        assert command.header.term == 7
        assert command.header.region_epoch.version == 1
        assert command.custom_request.data == b"x" * size


def test_messages_go_over_the_wire() -> None:
    message = Message(
        MessageType.APPEND,
        1,
        2,
        3,
        4,
        5,
        [Entry(EntryType.CONF_CHANGE_V2, 6, 7, b"data", b"context")],
        8,
        0,
        Snapshot(9, 10, ConfState((1, 2), (3,), (4,), (5,), True), b"s"),
        True,
        11,
        12,
        b"c",
        -1,
    )
    again = message_from_pb(eraftpb.Message.FromString(message_to_pb(message).SerializeToString()))
    assert again == message
    strange = eraftpb.Message(msg_type=77)  # type: ignore[arg-type]
    with pytest.raises(CodecError):
        message_from_pb(strange)


def test_odd_messages_do_no_harm() -> None:
    """Any kind, any sender, any term and index; commit indexes beyond the log are a lost log, and stay out of it."""

    async def main() -> None:
        cluster = Cluster(seed=2)
        cluster.form([1, 2, 3])
        await cluster.put(b"a", b"1")
        rng = random.Random(6)
        for _ in range(1500):
            store = cluster.stores[rng.choice((1, 2, 3))]
            message = RaftMessage(region_id=rng.choice((0, 2, 2, 2, 9)))
            message.to_peer.CopyFrom(Peer(id=rng.choice((0, 11, 12, 13, 99)), store_id=rng.choice((1, 2, 3))))
            message.from_peer.CopyFrom(Peer(id=rng.choice((0, 11, 12, 13, 98)), store_id=rng.choice((0, 1, 2, 3))))
            message.region_epoch.version = message.region_epoch.conf_ver = rng.randrange(2)
            message.is_tombstone = rng.random() < 0.1
            inner = message.message
            inner.msg_type = rng.choice([k for k in range(25) if k not in (3, 7, 8)])  # type: ignore[assignment]
            inner.term, inner.index, inner.log_term = rng.randrange(4), rng.randrange(9), rng.randrange(4)
            inner.reject = rng.random() < 0.5
            if rng.random() < 0.1:
                message.extra_msg.type = rng.randrange(20)  # type: ignore[assignment]
            if rng.random() < 0.3:
                inner.entries.add(entry_type=rng.randrange(5), data=b"x")  # type: ignore[arg-type]
            store.on_raft_message(message)
            if rng.random() < 0.1:
                await asyncio.sleep(0.01)
                cluster.check()
        await asyncio.sleep(1)
        cluster.check()
        await cluster.put(b"b", b"2")
        assert await cluster.get(b"a") == b"1"
        await cluster.stop()

    run_virtual(main())
